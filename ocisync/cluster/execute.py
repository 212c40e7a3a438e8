"""Applies a whole artifact: sixteen workers, ordered by hard edges, each object's failure its own.

A kind or namespace that this run has just written may take a moment to be served everywhere: what needs it is tried
again for up to 30 seconds without holding a worker. If the server itself is gone, the run ends early and what is left
is skipped, not failed one time-out after the other. A run that only waits ends early, too, when something newer is
there to be applied.

What a run knows from before (`Conduct`): objects that are not to be tried yet, objects that nobody has touched since
this very content was applied, and whether a wave is healthy enough for the next one to begin.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ocisync.cluster.apply import Action, Applier, ObjectResult
from ocisync.cluster.client import Cluster, segment
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Desired, Rejected
from ocisync.cluster.order import Graph, Schedule, graph_of
from ocisync.cluster.outcome import ApiFailure, ErrorClass, failed
from ocisync.kit.stop import StopToken
from ocisync.model.errors import OcisyncError
from ocisync.model.resource import ObjectId

WORKERS = 16
_WAIT_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
_IDLE_S = 0.5  # how long a worker without work sleeps before it looks for a stop
_LOOK_S = 0.5  # how often a run that only waits asks whether it is still wanted


@dataclass(frozen=True, slots=True)
class Known:
    """What the inventory knows of an object, and what was remembered of its last apply."""

    uid: str = ""
    recreate: bool = False


def _unknown(_: ObjectId) -> Applied | None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Conduct:
    """What decides, besides the artifact, which of its objects a run tries.

    Attributes:
        postponed: failed before, and it is too early to try again; what needs them waits.
        settled: what an apply of the same content left of an object that was watched ever since and did not change;
            None if it has to be applied.
        gate: asked between two waves with the objects of all waves so far: why the next one must wait; empty if not.
        superseded: asked while a run only waits: whether it is no longer wanted.
    """

    postponed: Mapping[ObjectId, ApiFailure] = field(default_factory=dict)
    settled: Callable[[ObjectId], Applied | None] = _unknown
    gate: Callable[[frozenset[ObjectId]], str] | None = None
    superseded: Callable[[], bool] = _never


class Executor:
    """One run over one artifact. Use once.

    Args:
        applier: applies single objects.
        cluster: to look whether definitions are established.
        discovery: refreshed when a definition was.
        known: objects of the inventory; others are met for the first time.
        on_result: called for each tried object from worker threads, outside of any lock.
        previous: what an earlier apply left of an object.
        conduct: what is not to be tried, and when to end early.
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
        conduct: Conduct | None = None,
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
        self._conduct = conduct or Conduct()
        self._stop = stop
        self._workers = workers
        self.gated = ""
        self.superseded = False
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._desired: dict[ObjectId, Desired] = {}
        self._results: dict[ObjectId, ObjectResult] = {}
        self._establishing: dict[ObjectId, ObjectResult] = {}
        self._waiting_since: dict[ObjectId, float] = {}
        self._waiting: dict[ObjectId, ObjectResult] = {}
        self._busy = 0
        self._written_kinds: set[tuple[str, str]] = set()
        self._written_namespaces: set[str] = set()
        self._unreachable = 0
        self._abandoned = ""
        self._crash: BaseException | None = None

    def run(self, desired: Sequence[Desired], rejected: Sequence[Rejected] = ()) -> tuple[ObjectResult, ...]:
        """Apply everything; one result for each desired object, in the order given.

        What was rejected is not tried, and what needs it neither.
        """
        self._desired = {one.id: one for one in desired}
        self._written_namespaces = {one.id.name for one in desired if one.id.kind == "Namespace" and not one.id.group}
        graph = graph_of(desired, rejected)
        self._schedule = Schedule(graph, self._conduct.postponed)
        self._waves(graph)
        if self._crash is not None:
            raise self._crash
        return tuple(self._result(one, graph) for one in desired)

    def _waves(self, graph: Graph) -> None:
        """Run the waves; with a gate between each two, else all in one go."""
        waves = sorted({stage[0] for stage in graph.stage.values()})
        gate = self._conduct.gate
        for wave in waves if gate is not None else waves[-1:]:
            self._schedule.allow(wave)
            self._workers_through()
            if self._crash or self._stop.stopped or self._abandoned or wave == waves[-1]:
                return
            done = frozenset(id_ for id_, stage in graph.stage.items() if stage[0] <= wave)
            if gate is not None and not self._schedule.finished and (why := gate(done)):
                self.gated = f"wave {wave} is applied and not healthy yet: {why}"
                return

    def _workers_through(self) -> None:
        count = min(self._workers, len(self._desired))
        threads = [threading.Thread(target=self._work, name=f"apply-{n}", daemon=True) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK_S)
                self._end_if_superseded()

    def _end_if_superseded(self) -> None:
        with self._changed:
            only_waits = not self._busy and self._schedule.next_delayed() is not None
        if only_waits and self._conduct.superseded():
            with self._changed:
                self.superseded = True
                self._abandoned = self._abandoned or "not tried: something newer is to be applied"
                self._changed.notify_all()

    def _result(self, one: Desired, graph: Graph) -> ObjectResult:
        failure = graph.failures.get(one.id) or self._conduct.postponed.get(one.id)
        if failure is not None:
            return ObjectResult(one.id, Action.FAILED, one.place, failure)
        return self._results.get(one.id) or self._waiting.get(one.id) or self._never_tried(one)

    def _never_tried(self, one: Desired) -> ObjectResult:
        cause = self._schedule.blocked.get(one.id)
        if cause is not None:
            failure = failed(ErrorClass.WAITING, "DependencyFailed", f"not tried: it needs {cause}, which failed")
        elif self.gated:
            failure = failed(ErrorClass.WAITING, "WaveNotHealthy", f"not tried: {self.gated}")
        else:
            failure = failed(ErrorClass.TRANSIENT, "Stopped", self._abandoned or "not tried: the run was stopped")
        return ObjectResult(one.id, Action.SKIPPED, one.place, failure)

    def _work(self) -> None:
        try:
            while (id_ := self._next()) is not None:
                try:
                    self._try(self._desired[id_])
                finally:
                    with self._changed:
                        self._busy -= 1
        except BaseException as crash:  # noqa: BLE001 - raised again by `run`, in the caller's thread
            with self._changed:
                self._crash = self._crash or crash
                self._changed.notify_all()

    def _next(self) -> ObjectId | None:
        with self._changed:
            while not (self._schedule.idle or self._stop.stopped or self._abandoned or self._crash):
                id_ = self._schedule.take(self._monotonic())
                if id_ is not None:
                    self._busy += 1
                    return id_
                due = self._schedule.next_delayed()
                self._changed.wait(_IDLE_S if due is None else min(_IDLE_S, max(0.01, due - self._monotonic())))
            return None

    def _try(self, one: Desired) -> None:
        untouched = self._conduct.settled(one.id)
        if untouched is not None:
            self._done(ObjectResult(one.id, Action.UNCHANGED, one.place, applied=untouched))
            return
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
            if result.action is not Action.UNCHANGED:
                self._written_kinds.add(one.defines)
            result = self._established(one, result)
        if self._wait_more(one, result):
            return
        self._on_result(result)
        self._done(result)

    def _done(self, result: ObjectResult) -> None:
        with self._changed:
            self._count_unreachable(result)
            self._waiting.pop(result.id, None)
            self._results[result.id] = result
            self._schedule.done(result.id, succeeded=result.succeeded)
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
            unserved = failure.status == 404 and not failure.message.startswith("namespaces ")
            waits = waits or failure.reason == "NoKind" or failure.undeclared or unserved
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
            self._waiting[one.id] = result
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
