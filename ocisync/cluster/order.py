"""What must come before what. Pure, apart from the counters of `Schedule`.

Hard edges block: a definition before its custom resources, a namespace before its members, `depends-on`, and one wave
before the next. If what an edge starts from fails, what it leads to is not tried. Kind order is soft: configuration and
RBAC go before workloads, webhooks go late, but only until the earlier ones were *tried*. Deletion goes the other way.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ocisync.cluster.normalise import Desired
from ocisync.cluster.outcome import ApiFailure, ErrorClass, failed
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


def deletion_batches(ids: Iterable[ObjectId]) -> tuple[tuple[ObjectId, ...], ...]:
    """Groups to delete one after the other, the reverse of how they were applied; sorted inside."""
    batches: dict[int, list[ObjectId]] = defaultdict(list)
    for id_ in ids:
        batches[rank(id_)].append(id_)
    return tuple(tuple(sorted(batches[key])) for key in sorted(batches, reverse=True))


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


def graph_of(desired: Sequence[Desired]) -> Graph:
    """Order an artifact's objects."""
    ids = {one.id for one in desired}
    namespaces = {id_.name: id_ for id_ in ids if id_.kind == "Namespace" and not id_.group}
    definitions = {one.defines: one.id for one in desired if one.defines is not None}
    waves = {one.id: one.options.wave for one in desired}
    needs: dict[ObjectId, frozenset[ObjectId]] = {}
    failures: dict[ObjectId, ApiFailure] = {}
    for one in desired:
        wanted = set()
        if one.id.namespace in namespaces:
            wanted.add(namespaces[one.id.namespace])
        definition = definitions.get((one.id.group, one.id.kind))
        if definition is not None:
            wanted.add(definition)
        for dependency in one.options.depends_on:
            if dependency not in ids:
                failures[one.id] = failed(
                    ErrorClass.PERMANENT, "MissingDependency", f"depends on {dependency}, which is not in this artifact"
                )
            else:
                wanted.add(dependency)
        needs[one.id] = frozenset(wanted)
    _refuse_earlier_waves(needs, waves, failures)
    stage = _stages(needs, waves, failures)
    return Graph(needs, stage, failures)


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
            text = " → ".join(str(step) for step in circle)
            failures.setdefault(id_, failed(ErrorClass.PERMANENT, "DependencyCycle", f"dependency circle: {text}"))
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


class Schedule:
    """Hands out objects as they become ready. Not thread-safe: the executor holds its lock around every call.

    `take` gives the next object; `done` and `later` give it back. `blocked` lists what was never tried, each with the
    object that it waited for.
    """

    def __init__(self, graph: Graph) -> None:
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
        self._failed_waves: dict[int, ObjectId] = {}
        self.blocked: dict[ObjectId, ObjectId] = {}
        for id_ in sorted(graph.needs, reverse=True):
            if self._open[id_] == 0:
                self._ready[graph.stage[id_]].append(id_)
        for id_ in sorted(graph.failures):
            if id_ in self._left:
                self.done(id_, succeeded=False)

    @property
    def finished(self) -> bool:
        """Whether every object was done or blocked."""
        return not self._left

    def take(self, now: float) -> ObjectId | None:
        """The next object that may start; None if there is none at this moment."""
        while self._delayed and self._delayed[0][0] <= now:
            id_ = heapq.heappop(self._delayed)[1]
            if id_ in self._left:
                return id_
        while self._stages:
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
