"""What must come before what. Pure, apart from the counters of `Schedule`.

Hard edges block: a definition before its custom resources, a namespace before its members, `depends-on`, and one wave
before the next. If what an edge starts from fails, what it leads to is not tried; an object that cannot even be
prepared counts as failed. Kind order is soft: configuration and RBAC go before workloads, webhooks go late, but only
until the earlier ones were *tried*. Deletion goes the other way, and there, too, what an edge starts from waits until
what it leads to has gone.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ocisync.cluster.normalise import Desired, ObjectOptions, Rejected
from ocisync.cluster.outcome import ApiFailure, ErrorClass, failed, with_advice
from ocisync.model.resource import ObjectId

_RANKS: Mapping[str, int] = {
    "Namespace": 0, "CustomResourceDefinition.apiextensions.k8s.io": 0,
    "PriorityClass.scheduling.k8s.io": 1, "StorageClass.storage.k8s.io": 1, "CSIDriver.storage.k8s.io": 1,
    "IngressClass.networking.k8s.io": 1, "RuntimeClass.node.k8s.io": 1, "PersistentVolume": 1,
    "ResourceQuota": 1, "LimitRange": 1, "NetworkPolicy.networking.k8s.io": 1, "ServiceAccount": 1,
    "ClusterRole.rbac.authorization.k8s.io": 1, "Role.rbac.authorization.k8s.io": 1,
    "ClusterRoleBinding.rbac.authorization.k8s.io": 2, "RoleBinding.rbac.authorization.k8s.io": 2,
    "ConfigMap": 2, "Secret": 2, "PersistentVolumeClaim": 2,
    "Service": 3, "Endpoints": 3, "EndpointSlice.discovery.k8s.io": 3, "PodDisruptionBudget.policy": 3,
    "Pod": 4, "ReplicationController": 4, "ReplicaSet.apps": 4, "Deployment.apps": 4, "StatefulSet.apps": 4,
    "DaemonSet.apps": 4, "Job.batch": 4, "CronJob.batch": 4, "Ingress.networking.k8s.io": 4,
    "HorizontalPodAutoscaler.autoscaling": 4,
    "APIService.apiregistration.k8s.io": 6,
    "ValidatingAdmissionPolicy.admissionregistration.k8s.io": 6,
    "MutatingAdmissionPolicy.admissionregistration.k8s.io": 6,
    "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io": 7,
    "MutatingAdmissionPolicyBinding.admissionregistration.k8s.io": 7,
    "ValidatingWebhookConfiguration.admissionregistration.k8s.io": 7,
    "MutatingWebhookConfiguration.admissionregistration.k8s.io": 7,
}  # fmt: skip
_OTHER_RANK = 5  # custom resources and whatever else


def rank(id_: ObjectId) -> int:
    """The soft place of a kind: lower ranks are tried first and deleted last."""
    return _RANKS.get(id_.group_kind, _OTHER_RANK)


class Ordered(Protocol):
    """What order is made of: an object by name, what its annotations ask for, and the kind that it defines."""

    @property
    def id(self) -> ObjectId:
        """The object."""
        ...

    @property
    def options(self) -> ObjectOptions:
        """Its annotations."""
        ...

    @property
    def defines(self) -> tuple[str, str] | None:
        """Group and kind that a definition brings."""
        ...


def deletion_batches(
    ids: Iterable[ObjectId], options: Mapping[ObjectId, ObjectOptions] | None = None
) -> tuple[tuple[ObjectId, ...], ...]:
    """Groups to delete one after the other, the reverse of how they were applied; sorted inside.

    `options`: what the live objects' annotations say of wave and dependencies, where they say anything.
    """
    going = set(ids)
    asked = options or {}
    waves = {id_: asked[id_].wave if id_ in asked else 0 for id_ in going}
    needs = {
        id_: frozenset(other for other in asked[id_].depends_on if other in going and other != id_)
        if id_ in asked
        else frozenset()
        for id_ in going
    }
    stage = _stages(needs, waves, {})
    batches: dict[tuple[int, int, int], list[ObjectId]] = defaultdict(list)
    depth = _depths(needs)
    for id_ in going:
        batches[(*stage[id_], depth[id_])].append(id_)
    return tuple(tuple(sorted(batches[key])) for key in sorted(batches, reverse=True))


class Staying:
    """What is to be deleted and has not gone: what it needs, by `depends-on` or as one of a later wave, has to wait.

    Not thread-safe for `add`; `needing` may be asked by any number of threads in between.
    """

    def __init__(self, options: Mapping[ObjectId, ObjectOptions], ids: Iterable[ObjectId] = ()) -> None:
        self._options = options
        self._needed: dict[ObjectId, ObjectId] = {}
        self._last: tuple[int, ObjectId] | None = None
        self.add(ids)

    def add(self, ids: Iterable[ObjectId]) -> None:
        """These have not gone."""
        for id_ in sorted(ids):
            options = self._options.get(id_)
            for other in options.depends_on if options is not None else ():
                self._needed.setdefault(other, id_)
            wave = options.wave if options is not None else 0
            if self._last is None or wave > self._last[0]:
                self._last = (wave, id_)

    def needing(self, id_: ObjectId) -> ObjectId | None:
        """The object that has to go before this one; None if nothing is in its way."""
        if self._needed.get(id_, id_) != id_:
            return self._needed[id_]
        wave = self._options[id_].wave if id_ in self._options else 0
        return self._last[1] if self._last is not None and self._last[0] > wave else None


def _depths(needs: Mapping[ObjectId, frozenset[ObjectId]]) -> dict[ObjectId, int]:
    """How many steps of `depends-on` lie below each object; in a circle, whatever ends first."""
    depth = dict.fromkeys(needs, 0)
    for _ in range(len(needs)):
        deeper = {id_: 1 + max(depth[other] for other in wanted) for id_, wanted in needs.items() if wanted}
        if all(depth[id_] == value for id_, value in deeper.items()) or max(deeper.values()) > len(needs):
            break
        depth.update(deeper)
    return depth


@dataclass(frozen=True, slots=True)
class Graph:
    """Hard edges and soft stages of one artifact.

    Attributes:
        needs: for each object what must have succeeded before.
        stage: (wave, rank) with ranks raised where a hard edge comes from a later one, so that both agree.
        failures: objects that can never start: a dependency that is not there, or a circle.
    """

    needs: Mapping[ObjectId, frozenset[ObjectId]]
    stage: Mapping[ObjectId, tuple[int, int]]
    failures: Mapping[ObjectId, ApiFailure]


def graph_of(desired: Sequence[Desired], rejected: Sequence[Rejected] = ()) -> Graph:
    """Order an artifact's objects. Those that were rejected never start, and block what needs them."""
    nodes: dict[ObjectId, Ordered] = {one.id: one for one in rejected}
    nodes |= {one.id: one for one in desired}
    namespaces = {id_.name: id_ for id_ in nodes if id_.kind == "Namespace" and not id_.group}
    definitions = {one.defines: one.id for one in nodes.values() if one.defines is not None}
    waves = {id_: one.options.wave for id_, one in nodes.items()}
    wanted = {one.id for one in desired}
    needs: dict[ObjectId, frozenset[ObjectId]] = {one.id: frozenset() for one in rejected}
    failures = {one.id: one.failure for one in rejected if one.id not in wanted}
    for one in desired:
        found = set()
        if one.id.namespace in namespaces:
            found.add(namespaces[one.id.namespace])
        definition = definitions.get((one.id.group, one.id.kind))
        if definition is not None:
            found.add(definition)
        for dependency in one.options.depends_on:
            known = _known(dependency, one.id, nodes)
            if known is None:
                failures[one.id] = _missing(dependency, nodes)
            else:
                found.add(known)
        needs[one.id] = frozenset(found)
    _refuse_earlier_waves(needs, waves, failures)
    stage = _stages(needs, waves, failures)
    return Graph(needs, stage, failures)


def _known(wanted: ObjectId, asking: ObjectId, nodes: Mapping[ObjectId, Ordered]) -> ObjectId | None:
    """The object that a dependency names: as written, in the asking object's namespace, or of a scope not known yet."""
    candidates = [wanted, replace(wanted, namespace="")]
    if not wanted.namespace:
        candidates.append(replace(wanted, namespace=asking.namespace))
    return next((id_ for id_ in candidates if id_ in nodes), None)


def _missing(wanted: ObjectId, nodes: Mapping[ObjectId, Ordered]) -> ApiFailure:
    message = f"depends on {wanted}, which is not in this artifact"
    alike = sorted(id_ for id_ in nodes if (id_.kind, id_.name) == (wanted.kind, wanted.name))
    if alike:
        meant = alike[0]
        message += f"; meant is {meant.group}/{meant.kind}/{meant.namespace}/{meant.name}?"
    return failed(ErrorClass.PERMANENT, "MissingDependency", message)


def _refuse_earlier_waves(
    needs: Mapping[ObjectId, frozenset[ObjectId]], waves: Mapping[ObjectId, int], failures: dict[ObjectId, ApiFailure]
) -> None:
    for id_, wanted in needs.items():
        for other in sorted(wanted):
            if waves[other] > waves[id_]:
                message = f"is in wave {waves[id_]} but needs {other} of the later wave {waves[other]}"
                failures.setdefault(id_, failed(ErrorClass.PERMANENT, "DependencyCycle", message))


def _stages(
    needs: Mapping[ObjectId, frozenset[ObjectId]], waves: Mapping[ObjectId, int], failures: dict[ObjectId, ApiFailure]
) -> dict[ObjectId, tuple[int, int]]:
    """Topological order (Kahn); what is left over stands in a circle or behind one."""
    open_needs = {id_: len(wanted) for id_, wanted in needs.items()}
    dependents: dict[ObjectId, list[ObjectId]] = defaultdict(list)
    for id_, wanted in needs.items():
        for other in wanted:
            dependents[other].append(id_)
    stage: dict[ObjectId, tuple[int, int]] = {}
    ready = [id_ for id_, count in open_needs.items() if count == 0]
    while ready:
        id_ = ready.pop()
        raised = max((stage[other][1] for other in needs[id_] if stage[other][0] == waves[id_]), default=0)
        stage[id_] = (waves[id_], max(rank(id_), raised))
        for dependent in dependents[id_]:
            open_needs[dependent] -= 1
            if open_needs[dependent] == 0:
                ready.append(dependent)
    stuck = {id_ for id_ in needs if id_ not in stage}
    for id_ in stuck:
        stage[id_] = (waves[id_], rank(id_))
        circle = _circle_through(id_, needs, stuck)
        if circle:
            message = with_advice(f"dependency circle: {_shown(circle)}", "take one ocisync.dev/depends-on out")
            failures.setdefault(id_, failed(ErrorClass.PERMANENT, "DependencyCycle", message))
    return stage


def _circle_through(
    start: ObjectId, needs: Mapping[ObjectId, frozenset[ObjectId]], stuck: set[ObjectId]
) -> tuple[ObjectId, ...]:
    """The circle that holds `start`; empty if it only stands behind one."""
    came_from: dict[ObjectId, ObjectId] = {}
    queue = [start]
    while queue:
        id_ = queue.pop()
        for other in sorted(needs[id_] & stuck):
            if other == start:
                path = [start, id_]
                while id_ != start:
                    id_ = came_from[id_]
                    path.append(id_)
                return tuple(reversed(path))
            if other not in came_from:
                came_from[other] = id_
                queue.append(other)
    return ()


def _shown(circle: tuple[ObjectId, ...]) -> str:
    """The steps of a circle, from its first object on; what a step shares with the one before is left out."""
    start = circle.index(min(circle))
    steps = (*circle[start:-1], *circle[: start + 1])
    texts = [str(steps[0])]
    for before, step in itertools.pairwise(steps):
        alike = (before.group_kind, before.namespace) == (step.group_kind, step.namespace)
        texts.append(step.name if alike else str(step))
    return " → ".join(texts)


class Schedule:
    """Hands out objects as they become ready. Not thread-safe: the executor holds its lock around every call.

    `take` gives the next object; `done` and `later` give it back. `blocked` lists what was never tried, each with the
    object that it waited for. What is `held_back` counts as failed from the start.
    """

    def __init__(self, graph: Graph, held_back: Collection[ObjectId] = ()) -> None:
        self._graph = graph
        self._dependents: dict[ObjectId, list[ObjectId]] = defaultdict(list)
        self._open = {id_: len(wanted) for id_, wanted in graph.needs.items()}
        for id_, wanted in graph.needs.items():
            for other in wanted:
                self._dependents[other].append(id_)
        self._untried: dict[tuple[int, int], int] = defaultdict(int)
        for stage in graph.stage.values():
            self._untried[stage] += 1
        self._stages = sorted(self._untried, reverse=True)  # the current stage is the last
        self._ready: dict[tuple[int, int], list[ObjectId]] = defaultdict(list)
        self._delayed: list[tuple[float, ObjectId]] = []
        self._left = set(graph.needs)
        self._limit = max((stage[0] for stage in graph.stage.values()), default=0)
        self._left_in: dict[int, int] = defaultdict(int)
        for stage in graph.stage.values():
            self._left_in[stage[0]] += 1
        self._failed_waves: dict[int, ObjectId] = {}
        self.blocked: dict[ObjectId, ObjectId] = {}
        for id_ in sorted(graph.needs, reverse=True):
            if self._open[id_] == 0:
                self._ready[graph.stage[id_]].append(id_)
        for id_ in sorted({*graph.failures, *held_back}):
            if id_ in self._left:
                self.done(id_, succeeded=False)

    @property
    def finished(self) -> bool:
        """Whether every object was done or blocked."""
        return not self._left

    @property
    def idle(self) -> bool:
        """Whether nothing is left of the waves that are allowed."""
        return not any(count and wave <= self._limit for wave, count in self._left_in.items())

    def allow(self, wave: int) -> None:
        """Hand out nothing of later waves for now. Without this call every wave is allowed."""
        self._limit = wave

    def take(self, now: float) -> ObjectId | None:
        """The next object that may start; None if there is none at this moment."""
        while self._delayed and self._delayed[0][0] <= now:
            id_ = heapq.heappop(self._delayed)[1]
            if id_ in self._left:
                return id_
        while self._stages and self._stages[-1][0] <= self._limit:
            stage = self._stages[-1]
            ready = self._ready[stage]
            while ready:
                id_ = ready.pop()
                if id_ in self._left:
                    return id_
            if self._untried[stage] > 0:
                return None
            self._stages.pop()
        return None

    def next_delayed(self) -> float | None:
        """When the earliest object given back by `later` is due; None if there is none."""
        return self._delayed[0][0] if self._delayed else None

    def later(self, id_: ObjectId, at: float) -> None:
        """Try this object again at `at`; until then it counts as not tried."""
        heapq.heappush(self._delayed, (at, id_))

    def done(self, id_: ObjectId, *, succeeded: bool) -> None:
        """Note the end of one object; failures block what needs them."""
        self._leave(id_)
        if not succeeded:
            self._block_after(id_)
            return
        for dependent in self._dependents[id_]:
            self._open[dependent] -= 1
            if self._open[dependent] == 0 and dependent in self._left:
                self._ready[self._graph.stage[dependent]].append(dependent)

    def _leave(self, id_: ObjectId) -> None:
        self._left.discard(id_)
        self._left_in[self._graph.stage[id_][0]] -= 1
        self._untried[self._graph.stage[id_]] -= 1

    def _block_after(self, failed_id: ObjectId) -> None:
        wave = self._graph.stage[failed_id][0]
        queue = list(self._dependents[failed_id])
        if self._failed_waves.setdefault(wave, failed_id) == failed_id:
            queue += [id_ for id_ in self._left if self._graph.stage[id_][0] > wave]
        while queue:
            id_ = queue.pop()
            if id_ in self._left:
                self._leave(id_)
                self.blocked[id_] = failed_id
                queue += self._dependents[id_]
