"""Wait until what was applied is healthy, by watches: nothing is polled.

One watch for each kind and namespace that has a health of its own; all other objects are healthy as soon as they exist.
The wait ends when every object is Current, at once when one has failed for good, and when its time is over.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable

from ocisync.cluster.client import Cluster
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.health import NOT_FOUND, Health, HealthStatus, Rollup, health, needs_object, progressing, rollup
from ocisync.cluster.watch import GroupKind, KindWatch
from ocisync.kit.stop import StopToken
from ocisync.model.errors import ClusterRefused
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL

_UNSEEN = progressing("waiting for its first status")


class Settling:
    """The handler of the watches. Use once.

    Args:
        wanted: the objects that have to become healthy.
        told: called with the state of things whenever it moves, from any thread.
    """

    def __init__(self, wanted: Iterable[ObjectId], told: Callable[[Rollup], None]) -> None:
        everything = list(wanted)
        self._states: dict[ObjectId, Health] = {id_: _UNSEEN for id_ in everything if needs_object(id_.group, id_.kind)}
        self._plain = len(everything) - len(self._states)
        self._told = told
        self._changed = threading.Condition()
        self._problem = ""

    def wait(self, cluster: Cluster, discovery: Discovery, sync_id: str, timeout_s: float) -> Rollup:
        """Wait; the state of things at the end, healthy or not.

        Raises:
            ClusterRefused: objects may not be watched.
        """
        stop = StopToken()
        groups = {(GroupKind(id_.group, id_.kind), id_.namespace) for id_ in self._states}
        threads = [self._watch(cluster, discovery, sync_id, stop, *group) for group in sorted(groups)]
        try:
            return self._wait(time.monotonic() + timeout_s)
        finally:
            stop.stop()
            cluster.close_streams()
            for thread in threads:
                thread.join(5.0)

    def _wait(self, deadline: float) -> Rollup:
        with self._changed:
            while True:
                now = self._rollup()
                left = deadline - time.monotonic()
                if self._problem:
                    raise ClusterRefused(self._problem, hint="without --wait, nothing is watched")
                if now.status in (HealthStatus.CURRENT, HealthStatus.FAILED) or left <= 0:
                    return now
                self._changed.wait(min(left, 1.0))

    def _watch(
        self,
        cluster: Cluster,
        discovery: Discovery,
        sync_id: str,
        stop: StopToken,
        kind: GroupKind,
        namespace: str,
    ) -> threading.Thread:
        watch = KindWatch(
            cluster,
            kind,
            lambda: discovery.resource(kind.group, kind.kind).path(namespace),
            self,
            stop,
            full=True,
            rng=random.Random(),  # noqa: S311 - jitter
            selector=f"{PART_OF_LABEL}={sync_id}",
        )
        thread = threading.Thread(target=watch.run, name=f"settle-{kind}", daemon=True)
        thread.start()
        return thread

    def _rollup(self) -> Rollup:
        return rollup(self._states.items(), plain=self._plain)

    # --- The watches' handler ---------------------------------------------------------------------------------------

    def started(self, kind: GroupKind) -> None:
        """A list begins."""

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One object as it is now."""
        metadata = obj.get("metadata") or {}
        id_ = ObjectId(kind.group, kind.kind, str(metadata.get("namespace") or ""), str(metadata.get("name")))
        with self._changed:
            if id_ not in self._states:
                return
            before, self._states[id_] = self._states[id_], NOT_FOUND if event_type == "DELETED" else health(obj)
            moved = before != self._states[id_]
            now = self._rollup()
            self._changed.notify_all()
        if moved:
            self._told(now)

    def synced(self, kind: GroupKind) -> None:
        """A list is complete."""

    def problem(self, kind: GroupKind, message: str) -> None:
        """A watch does not run: what is forbidden stays forbidden, the rest is tried again by the watch itself."""
        if "forbidden" in message.lower():
            with self._changed:
                self._problem = f"cannot watch {kind}: {message}"
                self._changed.notify_all()
