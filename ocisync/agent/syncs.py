"""The syncs of the cluster as a watch shows them, and which of their changes ask for a pass.

A change asks for a pass if it moves the spec (its generation), one of our two annotations, or the deletion mark; our
own status writes do not. A sync that became ready, or stopped being so, wakes those that depend on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ocisync.agent.conditions import read_conditions
from ocisync.cluster.memory import version_of
from ocisync.cluster.watch import GroupKind
from ocisync.kit.log import logger
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, APPROVED, REQUESTED_AT, RETRY, ROLLBACK, SYNC_KIND, SyncSpec
from ocisync.model.status import ConditionType

_LOG = logger("syncs")

SYNCS = GroupKind(API_GROUP, SYNC_KIND)
SYNCS_PATH = f"/apis/{API_GROUP}/v1alpha1/artifactsyncs"


@dataclass(frozen=True, slots=True)
class Seen:
    """One sync as last seen, its managed fields left out."""

    obj: JsonObject
    version: int
    asks: tuple[object, ...]
    ready: bool


class SyncTable:
    """The handler of the watch. `wake` is called with `namespace/name`, outside of the lock."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._table: dict[str, Seen] = {}
        self._round: set[str] = set()
        self._problem = ""
        self.listed = threading.Event()

    def get(self, key: str) -> Seen | None:
        """A sync; None if there is none."""
        with self._lock:
            return self._table.get(key)

    def keys(self) -> tuple[str, ...]:
        """All syncs."""
        with self._lock:
            return tuple(self._table)

    @property
    def trouble(self) -> str:
        """Why the watch does not run; empty if it does."""
        return self._problem or ("" if self.listed.is_set() else "not listed yet")

    def dependency(self, namespace: str, name: str) -> str:
        """Why a sync is not ready; empty if it is."""
        seen = self.get(f"{namespace}/{name}")
        if seen is None:
            return "it does not exist"
        return "" if seen.ready else "it is not ready"

    def superseded(self, spec: SyncSpec) -> bool:
        """Whether a sync was changed, deleted or asked for since its spec was read."""
        seen = self.get(spec.key)
        if seen is None:
            return True
        metadata = seen.obj.get("metadata") or {}
        read = (spec.generation, spec.requested_at, spec.approved, spec.deleting, spec.rollback, spec.retry)
        annotations = metadata.get("annotations") or {}
        return read != (
            int(metadata.get("generation") or 0),
            str(annotations.get(REQUESTED_AT) or ""),
            str(annotations.get(APPROVED) or ""),
            bool(metadata.get("deletionTimestamp")),
            str(annotations.get(ROLLBACK) or ""),
            str(annotations.get(RETRY) or ""),
        )

    def circle(self, key: str) -> tuple[str, ...]:
        """The way from a sync through what it depends on back to itself; empty if there is none."""
        with self._lock:
            edges = {name: sorted(_dependencies(seen.obj)) for name, seen in self._table.items()}
        came_from: dict[str, str] = {}
        waiting = [key]
        while waiting:
            here = waiting.pop(0)
            for other in edges.get(here, ()):
                if other == key:
                    way = [here]
                    while way[-1] != key:
                        way.append(came_from[way[-1]])
                    return (*reversed(way), key)
                if other not in came_from:
                    came_from[other] = here
                    waiting.append(other)
        return ()

    # --- The watch's handler ----------------------------------------------------------------------------------------

    def started(self, kind: GroupKind) -> None:
        """A list begins."""
        with self._lock:
            self._round = set()

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One sync as it is now."""
        metadata: Mapping[str, Any] = obj.get("metadata") or {}
        key = f"{metadata.get('namespace')}/{metadata.get('name')}"
        if event_type == "DELETED":
            with self._lock:
                self._table.pop(key, None)
            self._wake(key)
            self._wake_dependents(key)  # also the end of a circle
            return
        slim = {**obj, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
        seen = Seen(slim, version_of(obj), _asks(metadata), _ready(obj))
        with self._lock:
            before = self._table.get(key)
            self._table[key] = seen
            self._round.add(key)
        if before is None or before.asks != seen.asks:
            self._wake(key)
        if before is None or before.ready != seen.ready or before.asks != seen.asks:
            self._wake_dependents(key)

    def synced(self, kind: GroupKind) -> None:
        """A list is complete: what it did not show is gone."""
        with self._lock:
            gone = [key for key in self._table if key not in self._round]
            for key in gone:
                del self._table[key]
            self._problem = ""
        self.listed.set()
        for key in gone:
            self._wake(key)

    def problem(self, kind: GroupKind, message: str) -> None:
        """The watch does not run, or runs again; told once for each change."""
        known, self._problem = self._problem, message
        if message and not known:
            _LOG.warning("watch does not run", kind=str(kind), problem=message)
        elif not message:
            _LOG.info("watch runs again", kind=str(kind))

    def _wake_dependents(self, key: str) -> None:
        with self._lock:
            waiting = [other for other, seen in self._table.items() if key in _dependencies(seen.obj)]
        for other in waiting:
            self._wake(other)


def _asks(metadata: Mapping[str, Any]) -> tuple[object, ...]:
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        bool(metadata.get("deletionTimestamp")),
        annotations.get(REQUESTED_AT),
        annotations.get(APPROVED),
        annotations.get(ROLLBACK),
        annotations.get(RETRY),
    )


def _ready(obj: JsonObject) -> bool:
    status = obj.get("status") or {}
    generation = (obj.get("metadata") or {}).get("generation")
    return any(
        item.type == ConditionType.READY and item.status == "True" and item.observed_generation == generation
        for item in read_conditions(status)
    )


def _dependencies(obj: JsonObject) -> set[str]:
    namespace = (obj.get("metadata") or {}).get("namespace")
    items = (obj.get("spec") or {}).get("dependsOn") or ()
    return {f"{item.get('namespace') or namespace}/{item.get('name')}" for item in items if isinstance(item, dict)}
