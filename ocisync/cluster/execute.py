"""Applies a whole artifact: sixteen workers, ordered by hard edges, each object's failure its own.

A kind or namespace that this run has just written may take a moment to be served everywhere: what needs it is tried
again for up to 30 seconds without holding a worker. If the server itself is gone, the run ends early and what is left
is skipped, not failed one time-out after the other.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ocisync.cluster.apply import Action, Applier, ObjectResult
from ocisync.cluster.client import Cluster, segment
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Desired
from ocisync.cluster.order import Schedule, graph_of
from ocisync.cluster.outcome import ErrorClass, failed
from ocisync.kit.stop import StopToken
from ocisync.model.errors import OcisyncError
from ocisync.model.resource import ObjectId

WORKERS = 16
_WAIT_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
_IDLE_S = 0.5  # how long a worker without work sleeps before it looks for a stop


@dataclass(frozen=True, slots=True)
class Known:
    """What the inventory knows of an object, and what was remembered of its last apply."""

    uid: str = ""
    recreate: bool = False


class Executor:
    """One run over one artifact. Use once.

    Args:
        applier: applies single objects.
        cluster: to look whether definitions are established.
        discovery: refreshed when a definition was.
        known: objects of the inventory; others are met for the first time.
        on_result: called for each tried object from worker threads, outside of any lock.
        previous: what an earlier apply left of an object.
        stop: ends the run early.
        monotonic: seconds that never go backwards.
    """

    def __init__(
        self,
        applier: Applier,
        cluster: Cluster,
        discovery: Discovery,
        *,
        known: Mapping[ObjectId, Known],
        on_result: Callable[[ObjectResult], None],
        previous: Callable[[ObjectId], Applied | None],
        stop: StopToken,
        workers: int = WORKERS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._applier = applier
        self._cluster = cluster
        self._discovery = discovery
        self._known = known
        self._on_result = on_result
        self._previous = previous
        self._stop = stop
        self._workers = workers
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._desired: dict[ObjectId, Desired] = {}
        self._results: dict[ObjectId, ObjectResult] = {}
        self._establishing: dict[ObjectId, ObjectResult] = {}
        self._waiting_since: dict[ObjectId, float] = {}
        self._written_kinds: set[tuple[str, str]] = set()
        self._written_namespaces: set[str] = set()
        self._unreachable = 0
        self._abandoned = ""
        self._crash: BaseException | None = None

    def run(self, desired: Sequence[Desired]) -> tuple[ObjectResult, ...]:
        """Apply everything; one result for each object, in the order given."""
        self._desired = {one.id: one for one in desired}
        self._written_kinds = {one.defines for one in desired if one.defines is not None}
        self._written_namespaces = {one.id.name for one in desired if one.id.kind == "Namespace" and not one.id.group}
        graph = graph_of(desired)
        self._schedule = Schedule(graph)
        count = min(self._workers, len(desired))
        threads = [threading.Thread(target=self._work, name=f"apply-{n}", daemon=True) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._crash is not None:
            raise self._crash
        results = []
        for one in desired:
            result = self._results.get(one.id)
            if one.id in graph.failures:
                result = ObjectResult(one.id, Action.FAILED, one.place, graph.failures[one.id])
            results.append(result or self._never_tried(one))
        return tuple(results)

    def _never_tried(self, one: Desired) -> ObjectResult:
        cause = self._schedule.blocked.get(one.id)
        if cause is not None:
            failure = failed(ErrorClass.WAITING, "DependencyFailed", f"not tried: it needs {cause}, which failed")
        else:
            failure = failed(ErrorClass.TRANSIENT, "Stopped", self._abandoned or "not tried: the run was stopped")
        return ObjectResult(one.id, Action.SKIPPED, one.place, failure)

    def _work(self) -> None:
        try:
            while (id_ := self._next()) is not None:
                self._try(self._desired[id_])
        except BaseException as crash:  # noqa: BLE001 - raised again by `run`, in the caller's thread
            with self._changed:
                self._crash = self._crash or crash
                self._changed.notify_all()

    def _next(self) -> ObjectId | None:
        with self._changed:
            while not (self._schedule.finished or self._stop.stopped or self._abandoned or self._crash):
                id_ = self._schedule.take(self._monotonic())
                if id_ is not None:
                    return id_
                due = self._schedule.next_delayed()
                self._changed.wait(_IDLE_S if due is None else min(_IDLE_S, max(0.01, due - self._monotonic())))
            return None

    def _try(self, one: Desired) -> None:
        result = self._establishing.get(one.id)
        if result is None:
            known = self._known.get(one.id)
            result = self._applier.apply_one(
                one,
                known=known is not None,
                uid=known.uid if known else "",
                recreate=known.recreate if known else False,
                previous=self._previous(one.id),
            )
        if result.succeeded and one.defines is not None and result.action is not Action.SKIPPED:
            result = self._established(one, result)
        if self._wait_more(one, result):
            return
        self._on_result(result)
        with self._changed:
            self._count_unreachable(result)
            self._results[one.id] = result
            self._schedule.done(one.id, succeeded=result.succeeded)
            self._changed.notify_all()

    def _established(self, one: Desired, result: ObjectResult) -> ObjectResult:
        """Look once whether a definition is served; if not, keep its result and report it as waiting."""
        path = f"/apis/{one.gvk.group}/{one.gvk.version}/customresourcedefinitions/{segment(one.id.name)}"
        waiting = failed(ErrorClass.WAITING, "NotEstablished", "the definition is written but not served yet")
        try:
            response = self._cluster.request("GET", path)
            conditions = (json.loads(response.body).get("status") or {}).get("conditions") or ()
            served = any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions)
            if served and one.defines is not None and self._discovery.find(*one.defines) is None:
                served = False
            refused = [item for item in conditions if item.get("type") == "NamesAccepted" and item["status"] == "False"]
        except (OcisyncError, ValueError, AttributeError):
            served, refused = False, []
        if refused:
            why = str(refused[0].get("message") or "its names are taken")
            failure = failed(ErrorClass.PERMANENT, "NamesNotAccepted", why)
            return replace(result, action=Action.FAILED, failure=failure)
        if served:
            self._establishing.pop(one.id, None)
            return result
        self._establishing[one.id] = result
        return replace(result, action=Action.FAILED, failure=waiting)

    def _wait_more(self, one: Desired, result: ObjectResult) -> bool:
        """Give an object back to the schedule if what it waits for was written by this very run."""
        failure = result.failure
        if failure is None:
            return False
        waits = failure.reason == "NotEstablished"
        if (one.id.group, one.id.kind) in self._written_kinds:
            waits = waits or failure.reason == "NoKind" or failure.undeclared or failure.status == 404
        if one.id.namespace in self._written_namespaces and failure.status == 404:
            waits = True
        if not waits:
            return False
        now = self._monotonic()
        since = self._waiting_since.setdefault(one.id, now)
        if now - since >= _WAIT_S:
            return False
        pause = min(max(_FIRST_PAUSE_S, (now - since) / 2), _LONGEST_PAUSE_S)
        with self._changed:
            self._schedule.later(one.id, now + pause)
            self._changed.notify()
        return True

    def _count_unreachable(self, result: ObjectResult) -> None:
        if result.failure is not None and result.failure.reason == "Unreachable":
            self._unreachable += 1
            if self._unreachable >= min(self._workers, len(self._desired)):
                self._abandoned = "not tried: the API server could not be reached"
        else:
            self._unreachable = 0
