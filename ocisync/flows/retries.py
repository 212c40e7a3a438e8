"""When an object that could not be applied is tried again, by the class of its failure. Pure: time comes in.

    Permanent, Immutable   not before a new revision, a new spec, or a new schema of its kind; a person may ask
    Forbidden, Conflict    slowly: the retry interval, doubled each time up to ten minutes; also what admission denies,
                           whatever its status code, since a rule may change without the object
    Waiting                soon: 2, 4, 8 … seconds, up to the retry interval
    Transient              likewise, and never before the moment that the server named (Retry-After)

What only waits for such an object has no time of its own: it is tried as soon as that object was applied. One object's
failure never makes another's come sooner or later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from ocisync.cluster.apply import Action, ObjectResult
from ocisync.cluster.outcome import ApiFailure, ErrorClass, denied_by_admission
from ocisync.model.resource import ObjectId
from ocisync.model.values import dataclass

SLOWEST_S: Final = 600.0
_SOON_S: Final = 2.0
_DOUBLINGS: Final = 10
# The text is the server's word on a schema that it may have learnt a moment ago: one more look before it is final.
_UNDECLARED_LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class Retry:
    """One object's last failure. `due`: monotonic seconds; infinite if time alone does not help."""

    failure: ApiFailure
    attempts: int
    due: float


NOTHING: Final[Mapping[ObjectId, Retry]] = {}


def postponed(retries: Mapping[ObjectId, Retry], now: float) -> dict[ObjectId, ApiFailure]:
    """What is not to be tried yet, each with the failure it had."""
    return {id_: retry.failure for id_, retry in retries.items() if retry.due > now}


def next_due(retries: Mapping[ObjectId, Retry]) -> float:
    """When the first of them is tried again; infinite if none is."""
    return min((retry.due for retry in retries.values()), default=math.inf)


def noted(
    before: Mapping[ObjectId, Retry], results: Iterable[ObjectResult], *, now: float, interval_s: float
) -> dict[ObjectId, Retry]:
    """The retries after a pass. What was postponed in it keeps its moment; what was only blocked has none."""
    found = {}
    for result in results:
        failure = result.failure
        if failure is None or result.action in (Action.SKIPPED, Action.DELETED):
            continue
        known = before.get(result.id)
        if known is not None and known.due > now and known.failure == failure:
            found[result.id] = known
            continue
        attempts = known.attempts + 1 if known is not None and _alike(known.failure, failure) else 1
        moving = _may_be_learnt(result.id) and failure.undeclared
        found[result.id] = Retry(failure, attempts, now + pause_s(failure, attempts, interval_s, moving=moving))
    return found


def pause_s(failure: ApiFailure, attempts: int, interval_s: float, *, moving: bool = False) -> float:
    """How long after its n-th failure in a row an object is left alone. `moving`: the schema may be on its way."""
    steps = min(attempts - 1, _DOUBLINGS)
    slow = min(max(interval_s, _SOON_S) * 2.0**steps, SLOWEST_S)
    match failure.error_class:
        case ErrorClass.PERMANENT | ErrorClass.IMMUTABLE:
            if moving and attempts < _UNDECLARED_LOOKS:
                return slow
            return slow if denied_by_admission(failure) else math.inf
        case ErrorClass.FORBIDDEN | ErrorClass.CONFLICT:
            return slow
        case _:
            soon = min(_SOON_S * 2.0**steps, max(interval_s, _SOON_S))
            return max(soon, failure.retry_after_s or 0.0)


def _may_be_learnt(id_: ObjectId) -> bool:
    """Whether the kind is one that a definition brings, and not the server's own."""
    return "." in id_.group and not id_.group.endswith(".k8s.io")


def _alike(first: ApiFailure, second: ApiFailure) -> bool:
    return (first.error_class, first.reason) == (second.error_class, second.reason)
