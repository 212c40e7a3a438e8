"""Health of live objects: kstatus' rules, and for workloads what `kubectl rollout status` waits for. Pure.

`health(obj)` looks at one object; `rollup` sums up a sync. A kind without a rule of its own follows the generic one:
`observedGeneration`, then the conditions `Stalled`, `Reconciling` and `Ready`; an object without any of them is Current
as soon as it exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ocisync.model.resource import ObjectId, gvk_of


class HealthStatus(StrEnum):
    """kstatus' words."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class PodQuery:
    """Which pods tell why a workload does not progress: those of its newest revision.

    Attributes:
        selector: of labels.
        owner: uid of a Deployment whose ReplicaSet of `revision` names one more label, the hash of its template.
    """

    selector: str
    owner: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A status and a sentence for people. `pods` where pods can say more.

    The sentence is empty when Current, but for what runs towards an end, as jobs do.
    """

    status: HealthStatus
    message: str = ""
    pods: PodQuery | None = None


@dataclass(frozen=True, slots=True)
class Rollup:
    """The health of a sync: the worst of its objects, and which objects hold it back."""

    status: HealthStatus
    current: int
    total: int
    waiting: tuple[tuple[ObjectId, Health], ...]

    @property
    def healthy(self) -> bool:
        """Whether every object is Current."""
        return self.status is HealthStatus.CURRENT

    def explained(self, reasons: Mapping[ObjectId, Health]) -> Rollup:
        """The same with more known about some of the objects that are not healthy."""
        if not reasons:
            return self
        known = [(object_id, reasons.get(object_id, state)) for object_id, state in self.waiting]
        waiting = tuple(sorted(known, key=_severest_first))
        return Rollup(waiting[0][1].status, self.current, self.total, waiting)

    def message(self) -> str:
        """One line: how many are healthy, and the first that is not."""
        text = f"{self.current} of {self.total} objects healthy"
        if self.waiting:
            object_id, state = self.waiting[0]
            text += f"; {object_id}: {state.message or state.status}"
            if self.total - self.current > 1:
                text += f" (and {self.total - self.current - 1} more)"
        return text


CURRENT: Final = Health(HealthStatus.CURRENT)
NOT_FOUND: Final = Health(HealthStatus.NOT_FOUND, "does not exist")

_SEVERITY: Final = {
    HealthStatus.FAILED: 5,
    HealthStatus.NOT_FOUND: 4,
    HealthStatus.UNKNOWN: 3,
    HealthStatus.TERMINATING: 2,
    HealthStatus.IN_PROGRESS: 1,
    HealthStatus.CURRENT: 0,
}
_WAITING_SHOWN: Final = 20


def _severest_first(item: tuple[ObjectId, Health]) -> tuple[int, ObjectId]:
    return -_SEVERITY[item[1].status], item[0]


def progressing(message: str, pods: PodQuery | None = None) -> Health:
    """Not there yet."""
    return Health(HealthStatus.IN_PROGRESS, message, pods)


def failed(message: str) -> Health:
    """Will not get there without a change."""
    return Health(HealthStatus.FAILED, message)


def is_running(state: Health) -> bool:
    """Whether it is as it should be for now, and still has an end to come to."""
    return state.status is HealthStatus.CURRENT and bool(state.message)


def section(obj: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """`spec` or `status` as a mapping; empty if it is absent or something else."""
    value = obj.get(name)
    return value if isinstance(value, dict) else {}


def number(values: Mapping[str, Any], name: str, default: int = 0) -> int:
    """An integer field; `default` if absent."""
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def conditions(obj: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Conditions by type."""
    raw = section(obj, "status").get("conditions")
    items = raw if isinstance(raw, list) else []
    return {str(item["type"]): item for item in items if isinstance(item, dict) and "type" in item}


def is_true(found: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether a condition exists and is True."""
    return found.get(name, {}).get("status") == "True"


def is_false(found: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether a condition exists and is False."""
    return found.get(name, {}).get("status") == "False"


def said(condition: Mapping[str, Any], fallback: str) -> str:
    """A condition's message, else its reason, else `fallback`."""
    return str(condition.get("message") or condition.get("reason") or fallback)


def behind(obj: Mapping[str, Any]) -> str:
    """Why the status is not about this generation yet; empty if it is (or the kind does not say)."""
    generation = section(obj, "metadata").get("generation")
    observed = section(obj, "status").get("observedGeneration")
    if isinstance(generation, int) and isinstance(observed, int) and observed < generation:
        return f"generation {generation} is not observed yet (at {observed})"
    return ""


def generic(obj: Mapping[str, Any]) -> Health:
    """The rule of kstatus for kinds that it does not know."""
    late = behind(obj)
    if late:
        return progressing(late)
    found = conditions(obj)
    if is_true(found, "Stalled"):
        return failed(said(found["Stalled"], "stalled"))
    if is_true(found, "Reconciling"):
        return progressing(said(found["Reconciling"], "reconciling"))
    ready = found.get("Ready")
    if ready is None or ready.get("status") == "True":
        return CURRENT
    return progressing(said(ready, f"Ready is {ready.get('status')}"))


def health(obj: Mapping[str, Any]) -> Health:
    """The health of one live object."""
    if section(obj, "metadata").get("deletionTimestamp"):
        return Health(HealthStatus.TERMINATING, "is being deleted")
    gvk = gvk_of(obj)
    return _rules().get((gvk.group, gvk.kind), generic)(obj)


def needs_object(group: str, kind: str) -> bool:
    """Whether health needs whole objects: kinds with a rule, and all custom kinds (by their conditions).

    Of the API groups that Kubernetes itself serves, kinds without a rule have no health, and some hold secrets.
    """
    return (group, kind) in _rules() or not _builtin(group)


def _builtin(group: str) -> bool:
    return "." not in group or (group.endswith(".k8s.io") and group.count(".") == 2) or group in _BUILTIN_GROUPS


_BUILTIN_GROUPS: Final = frozenset({"rbac.authorization.k8s.io", "flowcontrol.apiserver.k8s.io"})

Rule = Callable[[Mapping[str, Any]], Health]
_RULES: dict[tuple[str, str], Rule] = {}


def _rules() -> Mapping[tuple[str, str], Rule]:
    if not _RULES:
        from ocisync.cluster import health_cluster, health_workloads

        _RULES.update(health_workloads.RULES)
        _RULES.update(health_cluster.RULES)
    return _RULES


def rollup(states: Iterable[tuple[ObjectId, Health]], *, plain: int = 0) -> Rollup:
    """Sum up a sync: the worst status wins; the worst objects are named first.

    `plain` is how many more objects there are, all of them current.
    """
    everything = list(states)
    waiting = sorted(
        ((object_id, state) for object_id, state in everything if state.status is not HealthStatus.CURRENT),
        key=_severest_first,
    )
    return Rollup(
        status=waiting[0][1].status if waiting else HealthStatus.CURRENT,
        current=len(everything) - len(waiting) + plain,
        total=len(everything) + plain,
        waiting=tuple(waiting[:_WAITING_SHOWN]),
    )
