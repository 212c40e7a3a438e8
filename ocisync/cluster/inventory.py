"""Which objects a sync owns, written down *before* they are applied.

Kept as ConfigMaps of at most 100 KiB in the agent's own namespace, where tenants cannot edit them: one header, which
every pass claims by compare-and-swap, and shards by hash of the object's key. Every write carries the resourceVersion
it is based on; when another agent wrote meanwhile, the write fails and the pass ends.

The order of a pass makes a kill at any instant safe: ① additions without uid → ② apply → ③ uids → ④ delete →
⑤ removals. A kill after ① leaves entries of objects that may not exist; without proof of membership they are dropped,
never deleted. While the number of shards changes, entries may stand in two shards; loading merges them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ocisync.cluster.client import JSON, PARTIAL_METADATA_LIST, Cluster, Response, segment
from ocisync.cluster.normalise import applyset_id
from ocisync.cluster.outcome import classify
from ocisync.model.errors import ClusterRefused, LeaseLost, Unavailable
from ocisync.model.limits import INVENTORY_SHARD_BYTES
from ocisync.model.resource import JsonObject, ObjectId

INVENTORY_LABEL = "ocisync.dev/inventory"
_SYNC_ANNOTATION = "ocisync.dev/sync"
_FORMAT = "1"
_MAX_SHARDS = 256
_FILL = 0.6  # of a shard's limit on average: hashing spreads unevenly, and entries grow when their uid is known


class EntryState(StrEnum):
    """What is known of an entry. Only `APPLIED` ones, once a pass has proven them, may be pruned."""

    ADDED = "added"  # written ahead: it may not exist
    APPLIED = "applied"
    DELETING = "deleting"  # deleted by us, a finalizer still holds it
    UNPROVEN = "unproven"  # found by its label after the inventory was lost: no artifact has named it yet


_STATES = {state.value: state for state in EntryState}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the inventory; `uid` is empty until an apply was answered."""

    id: ObjectId
    uid: str = ""
    state: EntryState = EntryState.ADDED


@dataclass(frozen=True, slots=True)
class Header:
    """Who holds the inventory, and since how many changes of holder."""

    holder: str = ""
    transitions: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """One uninterrupted time in which one process holds the lease.

    Attributes:
        transitions: the lease's count of changes of holder when this term began.
        lasts: asks the API server whether the lease still says so; an Unavailable passes through.
    """

    holder: str
    transitions: int
    lasts: Callable[[], bool]


@dataclass
class _Shard:
    resource_version: str = ""  # empty: does not exist yet
    entries: dict[str, Entry] = field(default_factory=dict)


class InventoryStore:
    """The inventory of one sync. One pass uses it at a time; `load` begins a pass.

    Args:
        cluster: where it is kept; written as the agent itself, never impersonated.
        namespace: the agent's.
        sync_namespace: of the sync.
        sync_name: of the sync.
        shard_bytes: the most that one shard may hold.
        hook: called with the name of each step before it is sent; tests kill the pass there.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *,
        sync_namespace: str,
        sync_name: str,
        shard_bytes: int = INVENTORY_SHARD_BYTES,
        hook: Callable[[str], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._sync = f"{sync_namespace}/{sync_name}"
        self._key = hashlib.sha256(self._sync.encode()).hexdigest()[:20]
        self._shard_bytes = shard_bytes
        self._hook = hook or _nothing
        self._header = Header()
        self._header_version = ""
        self._shards: dict[int, _Shard] = {}
        self._count = 1

    @property
    def entries(self) -> Mapping[ObjectId, Entry]:
        """All entries as last loaded or written."""
        merged: dict[ObjectId, Entry] = {}
        for index, shard in self._shards.items():
            for key, entry in shard.entries.items():
                # A copy that a broken-off resharding left behind must not hide the entry in its right place.
                if entry.id not in merged or self._shard_of(key) == index:
                    merged[entry.id] = entry
        return merged

    @property
    def exists(self) -> bool:
        """Whether the cluster has an inventory of this sync: False for a new sync, and for a lost inventory."""
        return bool(self._header_version)

    @property
    def header(self) -> Header:
        """The header as last loaded or written."""
        return self._header

    def load(self) -> Mapping[ObjectId, Entry]:
        """Read everything, in one request.

        Raises:
            Unavailable, ClusterRefused: the API server did not give it.
        """
        response = self._cluster.request(
            "GET", self._path(), query=(("labelSelector", f"{INVENTORY_LABEL}={self._key}"),)
        )
        self._check(response, "read the inventory")
        self._header, self._header_version, self._shards, self._count = Header(), "", {}, 1
        for item in json.loads(response.body).get("items") or ():
            self._read(item)
        return self.entries

    def claim(self, holder: str, digest: str, term: Term | None = None) -> None:
        """Begin a pass: write our name into the header, based on the version we read.

        With a `term` the header carries that term's number, and is swapped even when it says already what it should:
        that is what tells a holder who slept that another one has been here.

        Raises:
            ClusterRefused: reason `InventoryConflict`: another agent wrote since we read.
            LeaseLost: and the term is over.
        """
        if term is not None:
            self._claim_for(term, digest)
            return
        changed = holder != self._header.holder
        header = Header(holder, self._header.transitions + changed, digest)
        if header == self._header and self._header_version:
            return
        self._hook("claim")
        self._write_header(header)

    def _claim_for(self, term: Term, digest: str) -> None:
        found = self._header
        newer = found.transitions >= term.transitions and found.holder != term.holder
        if self._header_version and (newer or found.transitions > term.transitions) and not term.lasts():
            raise _over(self._sync, found.holder)
        self._hook("claim")
        try:
            self._write_header(Header(term.holder, term.transitions, digest))
        except ClusterRefused as error:
            if error.reason == "InventoryConflict" and not term.lasts():
                raise _over(self._sync, "") from error
            raise

    def add(self, ids: Iterable[ObjectId]) -> None:
        """① Write down objects before they are applied. Known ones keep what is known of them.

        Raises:
            Unavailable, ClusterRefused: it was not written: nothing may be applied.
        """
        known = self.entries
        wanted = {id_: Entry(id_) for id_ in ids if id_ not in known}
        for id_ in ids:
            entry = known.get(id_)
            if entry is not None and entry.state is EntryState.UNPROVEN:
                wanted[id_] = replace(entry, state=EntryState.APPLIED if entry.uid else EntryState.ADDED)
        self._grow(len(wanted), wanted)
        self._update(wanted.values(), "add")

    def record(self, applied: Mapping[ObjectId, str]) -> None:
        """③ Note the uids of objects that were applied; one write for each touched shard."""
        known = self.entries
        fresh = [Entry(id_, uid, EntryState.APPLIED) for id_, uid in applied.items()]
        self._update([entry for entry in fresh if not _says_so(known.get(entry.id), entry)], "record")

    def renounce(self, ids: Iterable[ObjectId]) -> None:
        """Forget the uids of known objects that are about to be made anew: written ahead, as in ①."""
        known = self.entries
        self._update([Entry(id_) for id_ in ids if id_ in known and known[id_].uid], "renounce")

    def mark(self, ids: Iterable[ObjectId], state: EntryState) -> None:
        """Set the state of known entries."""
        known = self.entries
        self._update([replace(known[id_], state=state) for id_ in ids if id_ in known], "mark")

    def adopt_found(self, found: Mapping[ObjectId, str]) -> None:
        """Enter objects that were found by their label after the inventory was lost."""
        entries = {id_: Entry(id_, uid, EntryState.UNPROVEN) for id_, uid in found.items() if id_ not in self.entries}
        self._grow(len(entries), entries)
        self._update(entries.values(), "adopt")

    def remove(self, ids: Iterable[ObjectId]) -> None:
        """⑤ Drop entries, from every shard that has them."""
        keys = {id_.key() for id_ in ids}
        for index in sorted(self._shards):
            shard = self._shards[index]
            left = {key: entry for key, entry in shard.entries.items() if key not in keys}
            if len(left) != len(shard.entries):
                self._hook("remove")
                self._write_shard(index, left)

    def destroy(self) -> None:
        """Delete the inventory of a sync that is gone."""
        self._hook("destroy")
        for index in sorted(self._shards):
            if self._shards[index].resource_version:
                self._delete(self._shard_name(index))
        self._delete(self._header_name)
        self._shards, self._header_version, self._header = {}, "", Header()

    def _update(self, entries: Iterable[Entry], step: str) -> None:
        by_shard: dict[int, dict[str, Entry]] = {}
        for entry in entries:
            key = entry.id.key()
            by_shard.setdefault(self._shard_of(key), {})[key] = entry
        for index in sorted(by_shard):
            self._hook(step)
            current = self._shards.get(index, _Shard()).entries
            self._write_shard(index, {**current, **by_shard[index]})

    def _grow(self, more: int, entries: Mapping[ObjectId, Entry]) -> None:
        """Double the shards until everything fits. New shards are written before the header says how many there are."""
        if not more:
            return
        everything = {**self.entries, **entries}
        size = sum(_entry_bytes(id_) for id_ in everything)
        needed = 2 ** math.ceil(math.log2(max(1.0, size / (self._shard_bytes * _FILL))))
        if needed > _MAX_SHARDS:
            raise ClusterRefused(f"{self._sync}: {len(everything)} objects are too many for one sync")
        if needed <= self._count:
            return
        old_count, self._count = self._count, needed
        if old_count == 1 and not self._shards:
            return
        self._hook("reshard")
        spread: dict[int, dict[str, Entry]] = {index: {} for index in range(needed)}
        for id_, entry in self.entries.items():
            spread[self._shard_of(id_.key())][id_.key()] = entry
        # The new shards first: until the old ones are cut down, entries stand twice, and none is missing.
        for index in sorted(spread, reverse=True):
            self._write_shard(index, spread[index])
            self._hook("reshard")

    def _shard_of(self, key: str) -> int:
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % self._count

    def _read(self, item: JsonObject) -> None:
        metadata, data = item.get("metadata") or {}, item.get("data") or {}
        name, version = str(metadata.get("name")), str(metadata.get("resourceVersion"))
        index = name.removeprefix(f"{self._header_name}-")
        if name != self._header_name and not (index.isascii() and index.isdigit() and int(index) < _MAX_SHARDS):
            raise _edited(self._namespace, name, "its name is none of ours")
        if str(data.get("format")) != _FORMAT:
            raise ClusterRefused(
                f"ConfigMap {self._namespace}/{name}: unknown inventory format {data.get('format')!r}",
                hint="was it written by a newer ocisync? run the newer version",
            )
        if name == self._header_name:
            transitions = str(data.get("transitions") or "0")
            if not (transitions.isascii() and transitions.isdigit()):
                raise _edited(self._namespace, name, f"unreadable transitions {transitions[:40]!r}")
            self._header = Header(str(data.get("holder") or ""), int(transitions), str(data.get("digest") or ""))
            self._header_version = version
            return
        number = int(index)
        self._shards[number] = _Shard(version, _parse_entries(str(data.get("entries") or ""), name))
        self._count = max(self._count, 2 ** math.ceil(math.log2(number + 1)))

    def _write_header(self, header: Header) -> None:
        data = {
            "format": _FORMAT,
            "sync": self._sync,
            "holder": header.holder,
            "transitions": str(header.transitions),
            "digest": header.digest,
        }
        self._header_version = self._write(self._header_name, data, self._header_version)
        self._header = header

    def _write_shard(self, index: int, entries: dict[str, Entry]) -> None:
        text = "".join(f"{key} {entry.uid or '-'} {entry.state}\n" for key, entry in sorted(entries.items()))
        data = {"format": _FORMAT, "sync": self._sync, "entries": text}
        version = self._shards[index].resource_version if index in self._shards else ""
        self._shards[index] = _Shard(self._write(self._shard_name(index), data, version), entries)

    def _write(self, name: str, data: Mapping[str, str], version: str) -> str:
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self._namespace,
            "labels": {INVENTORY_LABEL: self._key, "app.kubernetes.io/managed-by": "ocisync"},
            "annotations": {_SYNC_ANNOTATION: self._sync},
        }
        if version:
            metadata["resourceVersion"] = version
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).encode()
        response = self._cluster.request(
            "PUT" if version else "POST", self._path(name if version else ""), body=body, content_type=JSON
        )
        if response.status in (404, 409):
            raise ClusterRefused(
                f"the inventory of {self._sync} was changed by someone else (ConfigMap {self._namespace}/{name})",
                hint="is a second agent running? the next pass reads it again",
                reason="InventoryConflict",
            )
        self._check(response, "write the inventory")
        return str(json.loads(response.body)["metadata"]["resourceVersion"])

    def _delete(self, name: str) -> None:
        response = self._cluster.request("DELETE", self._path(name))
        if response.status != 404:
            self._check(response, "delete the inventory")

    def _check(self, response: Response, doing: str) -> None:
        if response.status < 400:
            return
        failure = classify(response)
        message = f"cannot {doing} of {self._sync} in namespace {self._namespace}: {failure.message}"
        if response.status == 429 or response.status >= 500:
            raise Unavailable(message, retry_after_s=failure.retry_after_s)
        raise ClusterRefused(message, hint="the agent's role must allow ConfigMaps in its own namespace")

    @property
    def _header_name(self) -> str:
        return f"ocisync-inventory-{self._key}"

    def _shard_name(self, index: int) -> str:
        return f"ocisync-inventory-{self._key}-{index:03d}"

    def _path(self, name: str = "") -> str:
        path = f"/api/v1/namespaces/{segment(self._namespace)}/configmaps"
        return f"{path}/{segment(name)}" if name else path


def find_inventory(cluster: Cluster, namespace: str, sync_id: str) -> InventoryStore | None:
    """The loaded inventory of the sync with this ApplySet id; None if this agent keeps none.

    Raises:
        Unavailable, ClusterRefused: the API server did not say.
    """
    response = cluster.request(
        "GET",
        f"/api/v1/namespaces/{segment(namespace)}/configmaps",
        query=(("labelSelector", INVENTORY_LABEL),),
        accept=PARTIAL_METADATA_LIST,
    )
    if response.status >= 400:
        message = f"cannot list the inventories in namespace {namespace}: {classify(response).message}"
        raise Unavailable(message) if response.status >= 500 else ClusterRefused(message)
    for item in json.loads(response.body).get("items") or ():
        sync = str((item["metadata"].get("annotations") or {}).get(_SYNC_ANNOTATION) or "")
        sync_namespace, _, sync_name = sync.partition("/")
        if sync and applyset_id(sync_name, sync_namespace) == sync_id:
            store = InventoryStore(cluster, namespace, sync_namespace=sync_namespace, sync_name=sync_name)
            store.load()
            return store
    return None


def _parse_entries(text: str, name: str) -> dict[str, Entry]:
    entries = {}
    for line in text.splitlines():
        try:
            key, uid, state = line.rsplit(" ", 2)
            entries[key] = Entry(ObjectId.from_key(key), "" if uid == "-" else uid, _STATES[state])
        except (ValueError, KeyError) as error:
            # Never guess: an entry that is lost here would orphan its object.
            raise ClusterRefused(
                f"ConfigMap {name}: unreadable inventory entry {line[:100]!r}",
                hint="restore it from a backup, or delete it: the inventory is then rebuilt from the objects' labels",
            ) from error
    return entries


def _edited(namespace: str, name: str, why: str) -> ClusterRefused:
    return ClusterRefused(
        f"ConfigMap {namespace}/{name} is labelled as an inventory but was changed by someone else: {why}",
        hint="restore it from a backup, or delete it: the inventory is then rebuilt from the objects' labels",
    )


def _over(sync: str, holder: str) -> LeaseLost:
    who = f"{holder} holds" if holder else "somebody else holds"
    return LeaseLost(f"{who} the inventory of {sync} by now: this agent's lease has ended")


def _says_so(known: Entry | None, entry: Entry) -> bool:
    """Whether an object's entry is this one already."""
    return known is not None and known.uid == entry.uid and known.state is entry.state


def _entry_bytes(id_: ObjectId) -> int:
    return len(id_.key()) + 48  # uid, state, separators


def _nothing(_: str) -> None:
    """No hook."""
