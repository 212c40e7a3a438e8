from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ocisync.agent.conditions import conditions_of, read_conditions
from ocisync.flows.outcome import ArtifactFacts, Done, Facts, Failed, HealthFacts, Outcome, Stalled, Waiting
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.status import Condition

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GOOD = Verdict(True, VerdictReason.VERIFIED, "signed by ci")
HEALTHY = HealthFacts(healthy=True, message="3 of 3 objects healthy", ready=3, total=3)
FACTS = Facts(source=ArtifactFacts(digest="sha256:a"), verdict=GOOD, health=HEALTHY)


def by_type(outcome: Outcome, previous: tuple[Condition, ...] = (), now: datetime = NOW) -> dict[str, Condition]:
    return {item.type: item for item in conditions_of(outcome, previous, generation=4, now=now)}


def test_done_is_ready_and_neither_reconciling_nor_stalled() -> None:
    found = by_type(Done("applied", FACTS))
    assert found["Ready"].status == "True"
    assert {"Reconciling", "Stalled"} & set(found) == set()
    assert found["Healthy"].status == found["Verified"].status == found["Fresh"].status == "True"
    assert found["SourceStale"].status == "False"


@pytest.mark.parametrize(
    ("outcome", "ready", "extra"),
    [
        (Waiting("Progressing", "2 of 3", 5, FACTS), "Unknown", "Reconciling"),
        (Failed("ApplyFailed", "no", FACTS), "False", "Reconciling"),
        (Stalled("Unsigned", "no signature", FACTS), "False", "Stalled"),
    ],
    ids=["waiting", "failed", "stalled"],
)
def test_other_outcomes_are_not_ready_and_say_how(outcome: Outcome, ready: str, extra: str) -> None:
    found = by_type(outcome)
    assert found["Ready"].status == ready
    assert found[extra].status == "True"
    assert not {"Reconciling", "Stalled"} - {extra} & set(found)


def test_every_condition_names_the_generation_acted_on() -> None:
    assert {item.observed_generation for item in by_type(Done("applied", FACTS)).values()} == {4}


def test_an_idle_poll_moves_nothing() -> None:
    first = conditions_of(Done("applied", FACTS), (), generation=4, now=NOW)
    later = conditions_of(Done("applied", FACTS), first, generation=4, now=NOW + timedelta(hours=1))
    assert later == first


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = conditions_of(Waiting("Progressing", "1 of 3", 5, FACTS), (), generation=4, now=NOW)
    second = by_type(Waiting("Progressing", "2 of 3", 5, FACTS), first, NOW + timedelta(minutes=1))
    assert second["Ready"].message == "2 of 3"
    assert second["Ready"].last_transition_time == "2026-11-23T12:00:00Z"
    third = by_type(Done("applied", FACTS), tuple(second.values()), NOW + timedelta(minutes=2))
    assert third["Ready"].last_transition_time == "2026-11-23T12:02:00Z"
    assert third["Verified"].last_transition_time == "2026-11-23T12:00:00Z"


def test_a_pass_that_says_nothing_of_a_condition_keeps_it() -> None:
    first = conditions_of(Done("applied", FACTS), (), generation=4, now=NOW)
    found = by_type(Stalled("Suspended", "suspended", Facts()), first)
    assert found["Verified"].status == "True" and found["Healthy"].status == "True"


def test_a_refusal_is_verified_false_with_its_reason() -> None:
    verdict = Verdict(False, VerdictReason.WRONG_TAG, "signed for staging")
    found = by_type(Stalled("WrongTag", "signed for staging", Facts(verdict=verdict, health=HEALTHY)))
    assert (found["Verified"].status, found["Verified"].reason) == ("False", "WrongTag")
    assert found["Healthy"].status == "True"


def test_signatures_that_became_too_old_are_not_fresh() -> None:
    verdict = Verdict(False, VerdictReason.TOO_OLD, "signed 40 days ago")
    assert by_type(Stalled("TooOld", "old", Facts(verdict=verdict)))["Fresh"].status == "False"


def test_a_silent_registry_is_stale_only_after_its_limit() -> None:
    silent = Facts(source=ArtifactFacts(digest="sha256:a"), source_problem="refused", source_reason="Unavailable")
    assert "SourceStale" not in by_type(Done("applied", silent))
    stale = Facts(source_problem="refused", source_reason="Unavailable", source_stale=True)
    assert by_type(Done("applied", stale))["SourceStale"].status == "True"


def test_failed_health_is_false_and_progress_is_unknown() -> None:
    failed = HealthFacts(healthy=False, failed=True, message="crash loop")
    progress = HealthFacts(healthy=False, message="1 of 3")
    assert by_type(Failed("Unhealthy", "x", Facts(health=failed)))["Healthy"].status == "False"
    assert by_type(Waiting("Progressing", "x", 1, Facts(health=progress)))["Healthy"].status == "Unknown"


def test_conditions_survive_a_round_trip_through_a_status() -> None:
    made = conditions_of(Done("applied", FACTS), (), generation=4, now=NOW)
    assert read_conditions({"conditions": [item.as_dict() for item in made]}) == made


def test_a_status_of_nonsense_has_no_conditions() -> None:
    assert read_conditions({"conditions": ["x", {}, {"status": "True"}]}) == ()
