"""Why a workload does not progress, read from its pods: only then, by watch, and of few workloads at once.

A workload's own status says how many replicas are missing, never why: `CrashLoopBackOff` and `ImagePullBackOff` stand
in pods alone. So when a workload has made no progress for `QUIET_S`, the pods of its newest revision are watched
until it is healthy again. Pods of older revisions are never looked at: their trouble is what a new revision may be
there to end. The hash of a Deployment's newest template is taken from its ReplicaSets, once.

At most `_MOST_OF_ONE` workloads of a sync and `_MOST` in all are watched; of each one `_PODS` pods are remembered, by
what is wrong with them. An account that may not read pods costs the reasons, nothing else.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from ocisync.cluster.client import PARTIAL_METADATA_LIST, segment
from ocisync.cluster.health import Health, HealthStatus, PodQuery
from ocisync.cluster.health_pods import Trouble, trouble
from ocisync.cluster.watch import GroupKind, KindWatch, WatchSource
from ocisync.kit.stop import StopToken
from ocisync.model.clock import Clock
from ocisync.model.errors import OcisyncError
from ocisync.model.resource import JsonObject, ObjectId

QUIET_S: Final = 3.0
_MOST_OF_ONE: Final = 3
_MOST: Final = 8  # connections
_PODS: Final = 100
_LOOKS: Final = 5  # for the newest ReplicaSet, whose number the Deployment says already
_LOOK_PAUSE_S: Final = 1.0
_PODS_KIND: Final = GroupKind("", "Pod")


class _Scout:
    """The watch of one workload's pods; its handler, too."""

    def __init__(self, query: PodQuery, token: StopToken, changed: Callable[[], None]) -> None:
        self.query = query
        self.token = token
        self._changed = changed
        self._lock = threading.Lock()
        self._found: dict[str, Trouble] = {}
        self._told: tuple[str, Trouble] | None = None
        self._denied = ""

    def worst(self) -> tuple[str, Trouble] | None:
        """The pod that tells most, and its trouble. What was told stays as long as it is true."""
        with self._lock:
            told = self._told
            if told is None or self._found.get(told[0]) != told[1]:
                ranked = sorted(self._found.items(), key=lambda item: (not item[1].fails, item[0]))
                told = ranked[0] if ranked else None
            elif not told[1].fails:
                told = next((item for item in sorted(self._found.items()) if item[1].fails), told)
            self._told = told
            return told

    @property
    def denied(self) -> str:
        """Why pods cannot be read; empty if they can."""
        return self._denied

    def started(self, kind: GroupKind) -> None:
        """A new list: pods that it does not show are gone."""
        with self._lock:
            self._found.clear()

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One pod as it is now."""
        name = str((obj.get("metadata") or {}).get("name") or "")
        wrong = trouble(obj) if event_type != "DELETED" else None
        with self._lock:
            before = self._found.get(name)
            if wrong is None:
                self._found.pop(name, None)
            elif before is not None and before.fails and (not wrong.fails or _head(before) == _head(wrong)):
                return  # between two crashes, or the same one again, whatever it said this time
            elif before is not None or len(self._found) < _PODS:
                self._found[name] = wrong
            moved = before != wrong
        if moved and not self.token.stopped:
            self._changed()

    def synced(self, kind: GroupKind) -> None:
        """All pods were shown."""
        self._changed()

    def problem(self, kind: GroupKind, message: str) -> None:
        """Without the right to read pods nothing more is asked."""
        if "answered 403" in message:
            self._denied = "its pods cannot be read"
            self.token.stop()
            self._changed()


class PodScouts:
    """All such watches of one process. Thread-safe.

    Args:
        changed: called with the sync's id when more is known.
        on_crash: told when a thread dies of a defect.
    """

    def __init__(
        self,
        source: WatchSource,
        clock: Clock,
        rng: random.Random,
        changed: Callable[[str], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._source = source
        self._clock = clock
        self._rng = rng
        self._changed = changed
        self._on_crash = on_crash
        self._lock = threading.Lock()
        self._quiet: dict[str, dict[ObjectId, tuple[str, float]]] = {}
        self._scouts: dict[tuple[str, ObjectId], _Scout] = {}
        self._stopped = False

    def attend(self, sync_id: str, waiting: Iterable[tuple[ObjectId, Health]]) -> Mapping[ObjectId, Health]:
        """Look after exactly these workloads of a sync; what their pods say, as far as it is known."""
        now = self._clock.monotonic()
        wanted = {id_: state for id_, state in waiting if state.pods is not None}
        with self._lock:
            quiet = self._quiet.get(sync_id, {})
            self._quiet[sync_id] = {
                id_: known if (known := quiet.get(id_)) is not None and known[0] == state.message
                else (state.message, now)
                for id_, state in wanted.items()
            }  # fmt: skip
            if not self._quiet[sync_id]:
                del self._quiet[sync_id]
            for key in [key for key in self._scouts if key[0] == sync_id]:
                state = wanted.get(key[1])
                if state is None or state.pods != self._scouts[key].query:
                    self._scouts.pop(key).token.stop()
            for id_, state in wanted.items():
                if now - self._quiet[sync_id][id_][1] >= QUIET_S:
                    self._send(sync_id, id_, state)
            mine = {key[1]: scout for key, scout in self._scouts.items() if key[0] == sync_id}
        return {id_: said for id_, scout in mine.items() if (said := _told(wanted[id_], scout)) is not None}

    def due_s(self, sync_id: str) -> float | None:
        """Seconds until a workload of this sync will have been quiet for long enough; None if none will."""
        now = self._clock.monotonic()
        with self._lock:
            waits = [
                QUIET_S - (now - since)
                for id_, (_, since) in self._quiet.get(sync_id, {}).items()
                if (sync_id, id_) not in self._scouts
            ]
        return min((wait for wait in waits if wait > 0), default=None)

    def forget(self, sync_id: str) -> None:
        """End what is watched for a sync."""
        self.attend(sync_id, ())

    def stop(self) -> None:
        """End everything; the caller closes the streams."""
        with self._lock:
            self._stopped = True
            for scout in self._scouts.values():
                scout.token.stop()
            self._scouts.clear()

    @property
    def count(self) -> int:
        """How many workloads' pods are watched now."""
        with self._lock:
            return len(self._scouts)

    def _send(self, sync_id: str, object_id: ObjectId, state: Health) -> None:
        of_sync = sum(key[0] == sync_id for key in self._scouts)
        known = (sync_id, object_id) in self._scouts
        if known or self._stopped or state.pods is None or of_sync >= _MOST_OF_ONE or len(self._scouts) >= _MOST:
            return
        scout = _Scout(state.pods, StopToken(), lambda: self._changed(sync_id))
        self._scouts[sync_id, object_id] = scout
        seed = self._rng.random()
        thread = threading.Thread(
            target=self._run, args=(scout, object_id, seed), name=f"pods-{object_id.name}", daemon=True
        )
        thread.start()

    def _run(self, scout: _Scout, object_id: ObjectId, seed: float) -> None:
        try:
            selector = self._selector(scout, object_id)
            if not selector:
                return
            path = f"/api/v1/namespaces/{segment(object_id.namespace)}/pods"
            rng = random.Random(seed)  # noqa: S311 - jitter
            watch = KindWatch(
                self._source, _PODS_KIND, lambda: path, scout, scout.token, full=True, rng=rng, selector=selector
            )
            watch.run()
        except BaseException as error:  # noqa: BLE001 - as with every thread: a silent end would hide a defect
            self._on_crash(error)

    def _selector(self, scout: _Scout, object_id: ObjectId) -> str:
        query = scout.query
        if not query.owner:
            return query.selector
        for _ in range(_LOOKS):
            try:
                label = self._newest_template(query, object_id)
            except OcisyncError:
                label = ""
            if label:
                return f"{query.selector},pod-template-hash={label}"
            if scout.token.wait(_LOOK_PAUSE_S):
                break
        return ""

    def _newest_template(self, query: PodQuery, object_id: ObjectId) -> str:
        path = f"/apis/apps/v1/namespaces/{segment(object_id.namespace)}/replicasets"
        selector = [("labelSelector", query.selector), ("limit", "500")]
        answer = self._source.request("GET", path, query=selector, accept=PARTIAL_METADATA_LIST)
        if answer.status != 200:
            return ""
        try:
            items = json.loads(answer.body).get("items") or ()
            for item in items:
                metadata = item["metadata"]
                owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or ()}
                revision = (metadata.get("annotations") or {}).get("deployment.kubernetes.io/revision")
                if query.owner in owners and revision == query.revision:
                    return str((metadata.get("labels") or {}).get("pod-template-hash") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""
        return ""


def _head(wrong: Trouble) -> list[str]:
    """The container and what is wrong with it, without what it said."""
    return wrong.text.split(":")[:2]


def _told(state: Health, scout: _Scout) -> Health | None:
    worst = scout.worst()
    if worst is None:
        return replace(state, message=f"{state.message}; {scout.denied}") if scout.denied else None
    name, wrong = worst
    text = f"{state.message}; pod {name}, {wrong.text}"
    return Health(HealthStatus.FAILED if wrong.fails else state.status, text, state.pods)
