"""The audit trail of trust: one line for each policy, key or trusted root that appeared, changed or went.

    {"component":"audit","message":"trust changed","what":"policy","name":"shop","action":"changed","old":"sha256:…",
     "new":"sha256:…","fields":["threshold"],"by":"kubectl-edit","at":"2026-11-23T12:00:00Z"}

`old` and `new` are SHA-256 of the canonical content: of a policy, its spec as JSON with sorted keys; of a key, its DER
SubjectPublicKeyInfo (the fingerprint that deny lists take); of a root, its bytes. Nothing of a Secret but such a hash
is ever written. A key or root that no readable policy names any more counts as removed. What was in force last is kept
in a ConfigMap, so what changed while no agent ran is told at the next start. A record that can't be read or written
costs the comparison, never a judgement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ocisync.cluster.client import JSON, Cluster, segment
from ocisync.kit.log import logger
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput, OcisyncError
from ocisync.model.resource import JsonObject
from ocisync.signing.keys import load_public

_AUDIT = logger("audit")
_LOG = logger("trust")
RECORD = "ocisync-trust-record"
_ENTRY = "trust.json"
_LABELS = {"app.kubernetes.io/name": "ocisync", "app.kubernetes.io/component": "trust-record"}
_FIELDS = 50  # of one policy that are told apart; further ones are taken together


@dataclass(frozen=True, slots=True)
class Item:
    """One policy, key or root. `parts` are hashes by field; `by` and `at` say who wrote it last, if that is known."""

    hash: str
    parts: Mapping[str, str]
    by: str = ""
    at: str = ""


State = dict[str, Item]
"""Items by `policy/NAME`, `key/SECRET`, `root/NAME`."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two states."""

    what: str
    name: str
    action: str
    old: str
    new: str
    fields: tuple[str, ...]
    by: str
    at: str


def policy_item(document: JsonObject) -> Item:
    """A policy as it stands."""
    spec = document.get("spec")
    parts = dict(_parts(spec, ""))
    if len(parts) > _FIELDS:
        rest = sorted(parts)[_FIELDS:]
        parts = {name: parts[name] for name in sorted(parts)[:_FIELDS]} | {"…": _hash([parts[name] for name in rest])}
    by, at = _writer(document)
    return Item(_hash(spec), parts, by, at)


def key_item(data: Mapping[str, bytes] | None) -> Item | None:
    """The public keys of a Secret; whatever else it holds is not looked at."""
    return _content(data, ".pub")


def root_item(data: Mapping[str, bytes] | None) -> Item | None:
    """The trusted root of a Secret or ConfigMap."""
    return _content(data, ".json")


def changes(before: State, after: State) -> tuple[Change, ...]:
    """What differs, sorted."""
    return tuple(
        _change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if _hash_of(before.get(key)) != _hash_of(after.get(key))
    )


class TrustRecord:
    """Compares with what was in force before, tells, remembers. Used by one thread at a time."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._collection = f"/api/v1/namespaces/{segment(namespace)}/configmaps"
        self._before: State | None = None

    def update(self, after: State) -> int:
        """Write a line for each change; how many there were."""
        before = self._before if self._before is not None else self._read()
        found = changes(before, after)
        for change in found:
            _AUDIT.warning(
                "trust changed",
                what=change.what,
                name=change.name,
                action=change.action,
                old=change.old or "none",
                new=change.new or "none",
                fields=change.fields,
                by=change.by or "unknown",
                at=change.at or "unknown",
            )
        self._before = after
        if found:
            self._write(after)
        return len(found)

    def _read(self) -> State:
        try:
            answer = self._cluster.request("GET", f"{self._collection}/{RECORD}")
            if answer.status == 404:
                return {}
            document: Any = json.loads(answer.body)
            kept: Any = json.loads((document.get("data") or {})[_ENTRY])
            return {str(key): Item(str(item["hash"]), dict(item["parts"])) for key, item in kept.items()}
        except (OcisyncError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _LOG.warning("the record of trust cannot be read: everything is told as new", error=error)
            return {}

    def _write(self, state: State) -> None:
        kept = {key: {"hash": item.hash, "parts": dict(item.parts)} for key, item in state.items()}
        metadata = {"name": RECORD, "namespace": self._namespace, "labels": _LABELS}
        data = {_ENTRY: json.dumps(kept, sort_keys=True)}
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).encode()
        try:
            answer = self._cluster.request("PUT", f"{self._collection}/{RECORD}", body=body, content_type=JSON)
            if answer.status == 404:
                answer = self._cluster.request("POST", self._collection, body=body, content_type=JSON)
            if answer.status >= 300:
                _LOG.warning("the record of trust was not written", status=answer.status)
        except OcisyncError as error:
            _LOG.warning("the record of trust was not written", error=error)


def _change(key: str, before: Item | None, after: Item | None) -> Change:
    what, _, name = key.partition("/")
    old, new = before.parts if before else {}, after.parts if after else {}
    action = "added" if before is None else "removed" if after is None else "changed"
    fields = tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))
    return Change(
        what=what,
        name=name,
        action=action,
        old=_hash_of(before),
        new=_hash_of(after),
        fields=fields if action == "changed" else (),
        by=after.by if after else "",
        at=after.at if after else "",
    )


def _hash_of(item: Item | None) -> str:
    return item.hash if item is not None else ""


def _content(data: Mapping[str, bytes] | None, ending: str) -> Item | None:
    if data is None:
        return None
    parts = {name: _bytes_hash(value, ending) for name, value in sorted(data.items()) if name.endswith(ending)}
    return Item(next(iter(parts.values())) if len(parts) == 1 else _hash(parts), parts)


def _bytes_hash(value: bytes, ending: str) -> str:
    if ending == ".pub":
        try:
            return load_public(value).fingerprint
        except InvalidInput:
            pass
    return sha256_digest(value)


def _parts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Hashes by field: `rollback.maxAge`, `authorities[ci].key.pem`, `deny.digests`."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _parts(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value and all(_named(item) for item in value):
        for item in value:
            yield from _parts(item, f"{path}[{item['name']}]")
    else:
        yield path, _hash(value)[7:23]  # only compared: the record must stay small


def _named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256_digest(text.encode("utf-8", "surrogatepass"))


def _writer(document: JsonObject) -> tuple[str, str]:
    """Who wrote the spec last, as the API server recorded it."""
    entries: Iterable[Any] = (document.get("metadata") or {}).get("managedFields") or ()
    known = [
        (str(entry.get("time") or ""), str(entry.get("manager") or ""))
        for entry in entries
        if isinstance(entry, dict) and not entry.get("subresource")
    ]
    at, by = max(known, default=("", ""))
    return by, at
