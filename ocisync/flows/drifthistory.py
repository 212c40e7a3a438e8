"""What others did to the objects of syncs, as the agent's record has it; failing that, as Events tell it.

The record is in the agent's namespace, which tenants usually may not read. Events on the sync are theirs: they say the
same in words, but Kubernetes forgets them, after an hour by default, and the agent sends few.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ocisync.cluster.client import Cluster, segment
from ocisync.cluster.driftrecord import DriftRecords, Entry, fold, is_open, object_of
from ocisync.cluster.kindnames import full_kind
from ocisync.model.clock import parse_rfc3339
from ocisync.model.errors import AccessDenied, ClusterRefused
from ocisync.model.resource import ObjectId
from ocisync.model.spec import SYNC_KIND

_ACTIONS: Final = {
    "DriftCorrected": "Corrected",
    "DriftDetected": "Reported",
    "DriftNotCorrected": "Failed",
    "DriftFight": "Delayed",
    "DriftEnded": "Ended",
    "UnmanagedChange": "Reported",
    "OwnershipClaimed": "Reported",
}
_KINDS: Final = {"DriftFight": "DriftFight", "UnmanagedChange": "UnmanagedChange", "OwnershipClaimed": "Claimed"}


@dataclass(frozen=True, slots=True)
class Drifted:
    """One entry and the sync whose object it is about."""

    sync: str
    entry: Entry

    @property
    def object(self) -> ObjectId:
        """Which object."""
        return object_of(self.entry)

    @property
    def open(self) -> bool:
        """Whether it is so now."""
        return is_open(self.entry)

    @property
    def seen_at(self) -> datetime | None:
        """When it was seen last."""
        return parse_rfc3339(str(self.entry.get("seenAt") or ""))

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        return {"sync": self.sync, **self.entry, "open": self.open}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for.

    Attributes:
        kind, name: of the object; either may be empty. `kind` as people type it: `deployment`, `Deployment.apps`.
        since: nothing seen before that, unless it is still so.
        only_open: only what is so now.
    """

    kind: str = ""
    name: str = ""
    since: datetime | None = None
    only_open: bool = False

    def fits(self, one: Drifted) -> bool:
        """Whether this entry is asked for."""
        if self.only_open and not one.open:
            return False
        found = one.object
        if (self.kind and not names_kind(self.kind, found)) or (self.name and self.name != found.name):
            return False
        if self.since is None or one.open:
            return True
        return one.seen_at is not None and one.seen_at >= self.since


def names_kind(text: str, object_id: ObjectId) -> bool:
    """Whether people mean this kind by `text`: the kind or its plural, in any case, with or without its group."""
    kind, _, group = full_kind(text).lower().partition(".")
    own = object_id.kind.lower()
    plurals = {own, f"{own}s", f"{own}es", f"{own[:-1]}ies"}
    return kind in plurals and (not group or group == object_id.group)


def recorded(records: DriftRecords, sync: str, namespace: str) -> list[Drifted]:
    """What the record has: of one sync, of all syncs in a namespace, or of all.

    Raises:
        AccessDenied, Unavailable, ClusterRefused: the record can't be read.
        NotFound: there is no such namespace of an agent.
    """
    found = {sync: records.read(sync).entries} if sync else records.all()
    if not any(found.values()):
        records.require_namespace()  # silence must not be taken for peace
    return ordered(
        Drifted(key, entry)
        for key, entries in found.items()
        if not namespace or key.partition("/")[0] == namespace
        for entry in entries
    )


def told(cluster: Cluster, sync: str, namespace: str) -> list[Drifted]:
    """What Events on syncs say.

    Raises:
        AccessDenied: Events may not be read either.
        ClusterRefused: they can't be read.
    """
    wanted_namespace, _, name = sync.partition("/")
    wanted_namespace = wanted_namespace or namespace
    part = f"/namespaces/{segment(wanted_namespace)}" if wanted_namespace else ""
    selector = f"involvedObject.kind={SYNC_KIND}" + (f",involvedObject.name={name}" if name else "")
    answer = cluster.request("GET", f"/api/v1{part}/events", query=(("fieldSelector", selector),))
    if answer.status in {401, 403}:
        raise AccessDenied(
            "neither the record of drift nor Events may be read", hint="ask for the right to read Events"
        )
    if answer.status >= 300:
        raise ClusterRefused(f"Events: HTTP {answer.status}")
    items = json.loads(answer.body).get("items") or ()
    by_sync: dict[str, list[Entry]] = {}
    for one in ordered(found for item in items if (found := _of_event(item)) is not None):
        # An Event is never taken back: later ones say what became of it.
        by_sync[one.sync] = fold(by_sync.get(one.sync, []), one.entry)
    return ordered(Drifted(key, entry) for key, entries in by_sync.items() for entry in entries)


def ordered(found: Iterable[Drifted]) -> list[Drifted]:
    """Oldest first."""
    return sorted(found, key=lambda one: (str(one.entry.get("seenAt") or ""), one.sync, one.object))


def _of_event(event: Mapping[str, Any]) -> Drifted | None:
    """An entry of what an Event says; its object is named at the beginning of its message."""
    action = _ACTIONS.get(str(event.get("reason") or ""))
    involved = event.get("involvedObject") or {}
    words = str(event.get("message") or "").split(" ", 2)
    if action is None or event.get("reportingComponent") != "ocisync" or len(words) < 3:
        return None
    kind, _, group = words[0].partition(".")
    place = words[1].removesuffix(":")
    namespace, _, name = place.rpartition("/")
    entry: Entry = {
        "object": ObjectId(group, kind, namespace, name).as_json(),
        "kind": _KINDS.get(str(event.get("reason")), "Modified"),
        "action": action,
        "fields": [],
        "seenAt": str(event.get("lastTimestamp") or ""),
        "count": event.get("count") or 1,
        "message": str(event.get("message") or ""),
        "source": "Event",
    }
    return Drifted(f"{involved.get('namespace')}/{involved.get('name')}", entry)
