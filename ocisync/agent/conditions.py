"""From an outcome to conditions. Pure, and the only place that knows their rules.

    Ready        True exactly for `Done`: the artifact offered is applied, pruned and healthy. Unknown for `Waiting`.
    Reconciling  exists only when True: `Waiting` and `Failed` (kstatus)
    Stalled      exists only when True: `Stalled`
    Verified     the latest verdict; its reason is the verdict's
    Healthy      health of what is applied
    Fresh        False when the signatures of what runs have become too old
    SourceStale  True when the registry has not answered for long

A condition's time moves only with its status; an idle poll moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from ocisync.flows.outcome import Done, Failed, Outcome, Stalled, Waiting
from ocisync.model.artifact import VerdictReason
from ocisync.model.clock import format_rfc3339
from ocisync.model.resource import JsonObject
from ocisync.model.status import Condition, ConditionType

_MESSAGE_CHARS = 1024


def conditions_of(
    outcome: Outcome, previous: Sequence[Condition], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions after a pass.

    Args:
        outcome: how the pass ended.
        previous: conditions before it; those that the pass says nothing of are kept.
        generation: of the spec that was acted on.
        now: becomes the transition time of whatever changed.
    """
    fresh = {item.type: item for item in _judged(outcome, generation)}
    exclusive = {ConditionType.RECONCILING, ConditionType.STALLED}
    kept = [item for item in previous if item.type not in fresh and item.type not in exclusive]
    known = {item.type: item for item in previous}
    stamped = [_stamp(item, known.get(item.type), now) for item in (*fresh.values(), *kept)]
    order = {kind.value: place for place, kind in enumerate(ConditionType)}
    return tuple(sorted(stamped, key=lambda item: (order.get(item.type, len(order)), item.type)))


def read_conditions(status: JsonObject) -> tuple[Condition, ...]:
    """Conditions as a status holds them; what is no condition is left out."""
    found = []
    for item in status.get("conditions") or ():
        if isinstance(item, dict) and item.get("type"):
            found.append(
                Condition(
                    type=str(item["type"]),
                    status=str(item.get("status") or "Unknown"),
                    reason=str(item.get("reason") or ""),
                    message=str(item.get("message") or ""),
                    observed_generation=int(item.get("observedGeneration") or 0),
                    last_transition_time=str(item.get("lastTransitionTime") or ""),
                )
            )
    return tuple(found)


def _judged(outcome: Outcome, generation: int) -> Iterable[Condition]:
    def say(kind: ConditionType, status: str, reason: str, message: str) -> Condition:
        return Condition(kind.value, status, reason or "Unknown", message[:_MESSAGE_CHARS], generation)

    match outcome:
        case Done():
            yield say(ConditionType.READY, "True", outcome.reason, outcome.message)
        case Waiting():
            yield say(ConditionType.READY, "Unknown", outcome.reason, outcome.message)
            yield say(ConditionType.RECONCILING, "True", outcome.reason, outcome.message)
        case Failed():
            yield say(ConditionType.READY, "False", outcome.reason, outcome.message)
            yield say(ConditionType.RECONCILING, "True", "Retrying", outcome.message)
        case Stalled():
            yield say(ConditionType.READY, "False", outcome.reason, outcome.message)
            yield say(ConditionType.STALLED, "True", outcome.reason, outcome.message)
    facts = outcome.facts
    if facts.verdict is not None:
        verdict = facts.verdict
        yield say(ConditionType.VERIFIED, "True" if verdict.allowed else "False", verdict.reason.value, verdict.message)
        if verdict.reason is VerdictReason.TOO_OLD:
            yield say(ConditionType.FRESH, "False", verdict.reason.value, verdict.message)
        else:
            yield say(ConditionType.FRESH, "True", "RecentEnough", "no signature has become too old")
    if facts.health.healthy is not None:
        if facts.health.healthy:
            status, reason = "True", "Healthy"
        elif facts.health.failed:
            status, reason = "False", "Unhealthy"
        else:
            status, reason = "Unknown", "Progressing"
        yield say(ConditionType.HEALTHY, status, reason, facts.health.message)
    if facts.source_stale:
        yield say(ConditionType.SOURCE_STALE, "True", facts.source_reason, facts.source_problem)
    elif not facts.source_problem and facts.source is not None:
        yield say(ConditionType.SOURCE_STALE, "False", "Reachable", "the registry answers")


def _stamp(item: Condition, before: Condition | None, now: datetime) -> Condition:
    if before is not None and before.status == item.status and before.last_transition_time:
        return replace(item, last_transition_time=before.last_transition_time)
    return replace(item, last_transition_time=format_rfc3339(now))
