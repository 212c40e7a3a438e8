"""What a status remembers of revisions that failed, read back as it was written; requests of people."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ocisync.agent.status import next_status, recorded
from ocisync.cluster.correction import Effects
from ocisync.cluster.engine import Engine
from ocisync.cluster.tracker import Tracker
from ocisync.flows.localcopy import LocalCopies
from ocisync.flows.memory import Enforced, Mark, Memory, Ports, Trust
from ocisync.flows.outcome import (
    ArtifactFacts,
    Done,
    Facts,
    Failed,
    HealthFacts,
    Outcome,
    Past,
    Quarantine,
    Reason,
    Recorded,
    Stalled,
    Waiting,
)
from ocisync.flows.rollback import Rollback
from ocisync.flows.situation import Situation
from ocisync.flows.trust import TrustSet
from ocisync.kit.stop import StopToken
from ocisync.model.spec import SyncSpec, parse_sync
from tests.unit.agent.fakes import FakeClock

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def artifact(letter: str) -> ArtifactFacts:
    return ArtifactFacts("production", f"sha256:{letter * 64}", f"main@sha1:{letter * 40}", ("ci",))


GOOD, BAD, OLD = artifact("a"), artifact("b"), artifact("c")
LEFT = Quarantine(BAD.digest, BAD.revision, GOOD, "HealthCheckFailed", "crash loop", "2026-11-23T12:00:00Z")
HEALTHY = HealthFacts(healthy=True, message="ok", ready=1, total=1)


def spec(**annotations: str) -> SyncSpec:
    body = {
        "source": {"repository": "registry.example/shop", "tag": "production"},
        "onFailure": {"rollback": True},
    }
    marks = {f"ocisync.dev/{key}": value for key, value in annotations.items()}
    metadata = {"name": "shop", "namespace": "apps", "uid": "u", "generation": 1, "annotations": marks}
    return parse_sync({"metadata": metadata, "spec": body})


# --- Status -----------------------------------------------------------------------------------------------------------


def test_a_quarantine_is_read_back_as_it_was_written() -> None:
    facts = Facts(source=BAD, applied=BAD, attempted=BAD, quarantine=LEFT, rollback="x@y")
    status = next_status({}, Waiting("Progressing", "going back", 0, facts), spec(), NOW)
    found = recorded(status)
    assert (found.quarantine, found.rollback, found.applied) == (LEFT, "x@y", BAD.digest)
    assert found.history == (Past(BAD, "Failed"),)


def test_history_tells_the_failed_one_and_the_one_that_runs_again() -> None:
    first = next_status({}, Done("ok", Facts(source=GOOD, applied=GOOD, health=HEALTHY)), spec(), NOW)
    applied = next_status(first, Waiting("Progressing", "0 of 1", 5, Facts(source=BAD, applied=BAD)), spec(), NOW)
    begun = next_status(applied, Waiting("P", "back", 0, Facts(source=BAD, applied=BAD, quarantine=LEFT)), spec(), NOW)
    facts = Facts(source=BAD, applied=GOOD, quarantine=LEFT, health=HEALTHY)
    ended = next_status(begun, Stalled(Reason.ROLLED_BACK, "went back", facts), spec(), NOW)
    outcomes = [(item["digest"][7:8], item["outcome"]) for item in ended["history"]]
    assert outcomes == [("a", "Succeeded"), ("b", "Failed"), ("a", "Succeeded")]
    assert next_status(ended, Stalled(Reason.ROLLED_BACK, "went back", facts), spec(), NOW) == ended


def test_a_revision_that_never_was_applied_whole_stands_in_the_history_once() -> None:
    first = next_status({}, Done("ok", Facts(source=GOOD, applied=GOOD, health=HEALTHY)), spec(), NOW)
    facts = Facts(source=BAD, applied=GOOD, quarantine=LEFT)
    begun = next_status(first, Waiting("P", "back", 0, facts), spec(), NOW)
    assert [item["outcome"] for item in begun["history"]] == ["Failed", "Succeeded"]
    later = next_status(begun, Waiting("P", "back", 0, facts), spec(), NOW)
    assert [item["outcome"] for item in later["history"]] == ["Applied", "Failed", "Succeeded"]


def test_what_a_person_left_was_good_all_the_same() -> None:
    asked = replace(LEFT, reason="Requested")
    good = next_status({}, Done("ok", Facts(source=BAD, applied=BAD, health=HEALTHY)), spec(), NOW)
    left = next_status(good, Waiting("P", "back", 0, Facts(source=BAD, applied=BAD, quarantine=asked)), spec(), NOW)
    assert [item["outcome"] for item in left["history"]] == ["Succeeded"]


def test_a_quarantine_that_is_over_leaves_the_status() -> None:
    before = next_status({}, Waiting("P", "x", 0, Facts(source=BAD, applied=BAD, quarantine=LEFT)), spec(), NOW)
    after = next_status(before, Done("ok", Facts(source=OLD, applied=OLD, health=HEALTHY)), spec(), NOW)
    assert "quarantine" not in after


@pytest.mark.parametrize(
    "status",
    [
        {"quarantine": "x", "history": "y", "applied": [], "lastHandledRollback": None},
        {"quarantine": {"digest": "sha256:short", "to": {"digest": GOOD.digest}}},
        {"quarantine": {"digest": BAD.digest, "to": "x"}, "history": [1, None, {"digest": 3, "signers": "x"}]},
        {},
    ],
)
def test_a_status_of_nonsense_remembers_nothing(status: dict[str, Any]) -> None:
    found = recorded(status)
    assert found.quarantine is None and found.rollback == ""


# --- Decisions --------------------------------------------------------------------------------------------------------


class Marks:
    """Watermarks that accepted some digests."""

    def __init__(self, *accepted: str) -> None:
        self.mark = Mark(7, accepted[0] if accepted else "", accepted)

    def read(self, spec: SyncSpec) -> Mark:
        return self.mark

    def accept(self, spec: SyncSpec, mark: Mark) -> None:
        raise AssertionError("nothing is accepted here")


class World:
    """A sync whose tag leads to BAD, which is enforced; GOOD ran before."""

    def __init__(self, *, accepted: tuple[str, ...] = (BAD.digest, GOOD.digest), **annotations: str) -> None:
        clock = FakeClock()
        self.spec = spec(**annotations)
        self.memory = Memory(selector=self.spec.source.watermark_key, restored=True, offered=BAD)
        self.recorded = Recorded(
            BAD.digest, history=(Past(BAD, "Applied"), Past(GOOD, "Succeeded"), Past(OLD, "Succeeded"))
        )
        self.ports = Ports(
            open_store=cast(Any, None),
            trust=lambda: Trust(TrustSet((), ()), 1),
            dependency=lambda _namespace, _name: "",
            engine=cast(Engine, None),
            tracker=Tracker(clock, Effects(lambda _: None, cast(Any, None), lambda _: None, lambda _: None)),
            watch=lambda: None,
            progress=lambda _spec, _outcome: None,
            copies=LocalCopies(None),
            watermarks=Marks(*accepted),
            clock=clock,
            rng=random.Random(1),
            stop=StopToken(),
        )
        self.enforce(BAD)

    def enforce(self, facts: ArtifactFacts) -> None:
        allowed = cast(Any, type("V", (), {"allowed": True, "distrusted": False}))
        self.memory.enforced = Enforced(
            facts=facts, manifest=cast(Any, None), evidence=cast(Any, None), verdict=allowed, request=cast(Any, None),
            selector=self.memory.selector, generation=1, trust_version=1, judge_at=1e9, complete=True,
        )  # fmt: skip

    def situation(self) -> Situation:
        return Situation(self.spec, self.memory, self.ports, self.recorded)

    def due(self, outcome: Outcome) -> Quarantine | None:
        return Rollback(self.situation()).due(outcome)


TIMED_OUT = Failed(Reason.HEALTH_TIMEOUT, "not healthy after 300 s: crash loop", Facts())


def test_a_revision_that_fails_goes_back_to_the_newest_that_succeeded() -> None:
    found = World().due(TIMED_OUT)
    assert found is not None
    assert (found.digest, found.to, found.reason) == (BAD.digest, GOOD, "HealthCheckTimedOut")


@pytest.mark.parametrize(
    ("outcome", "goes_back"),
    [
        (Failed(Reason.HEALTH_FAILED, "x", Facts()), True),
        (Stalled(Reason.APPLY_FAILED, "x", Facts()), True),
        (Stalled(Reason.PRUNE_DEFERRED, "x", Facts()), True),
        (Failed(Reason.APPLY_FAILED, "tried again", Facts()), False),
        (Failed(Reason.CLUSTER_FAILED, "x", Facts()), False),
        (Stalled(Reason.PRUNE_HELD, "x", Facts()), False),
        (Stalled(Reason.APPROVAL_REQUIRED, "x", Facts()), False),
        (Stalled(Reason.SUSPENDED, "x", Facts()), False),
        (Stalled("Denied", "x", Facts()), False),
        (Waiting(Reason.PROGRESSING, "x", 1, Facts()), False),
        (Done("x", Facts()), False),
    ],
    ids=lambda value: value.reason if hasattr(value, "reason") else "",
)
def test_only_what_fails_for_good_goes_back(outcome: Outcome, goes_back: bool) -> None:
    assert (World().due(outcome) is not None) is goes_back


def test_a_revision_that_was_healthy_once_is_never_gone_back_from() -> None:
    world = World()
    world.recorded = replace(world.recorded, history=(Past(BAD, "Succeeded"), Past(GOOD, "Succeeded")))
    assert world.due(TIMED_OUT) is None


def test_without_a_good_one_of_the_same_tag_there_is_nothing_to_go_back_to() -> None:
    world = World()
    world.recorded = replace(world.recorded, history=(Past(BAD, "Applied"), Past(OLD, "Failed")))
    assert world.due(TIMED_OUT) is None
    world.recorded = replace(world.recorded, history=(Past(replace(GOOD, tag="staging"), "Succeeded"),))
    assert world.due(TIMED_OUT) is None


def test_what_runs_instead_is_not_gone_back_from_either() -> None:
    world = World()
    world.memory.quarantine = LEFT
    world.enforce(GOOD)
    assert world.due(TIMED_OUT) is None


def test_a_quarantine_ends_when_the_tag_moves_and_when_exactly_it_is_lifted() -> None:
    moved = World()
    moved.memory.quarantine, moved.memory.offered = LEFT, OLD
    Rollback(moved.situation()).review()
    left: Quarantine | None = moved.memory.quarantine
    assert left is None
    for retry, over in ((LEFT.id, True), (f"{BAD.digest}@2026-11-23T11:00:00Z", False), ("nonsense", False)):
        world = World(retry=retry)
        world.memory.quarantine = LEFT
        Rollback(world.situation()).review()
        assert (world.memory.quarantine is None) is over, retry


def test_while_the_registry_is_silent_what_ran_instead_is_wanted() -> None:
    world = World()
    world.memory.quarantine, world.memory.offered = LEFT, None
    assert world.situation().wanted == GOOD
    world.memory.offered = OLD
    assert world.situation().wanted == OLD


def test_a_request_is_acted_on_once() -> None:
    world = World(rollback=f"{OLD.digest}@2026-11-23T12:00:00Z")
    found = Rollback(world.situation()).review()
    assert found is not None and found.to == OLD and found.reason == "Requested"
    world.memory.quarantine = None
    assert Rollback(world.situation()).review() is None


@pytest.mark.parametrize("asked", ["sha256:" + "d" * 64 + "@now", "nonsense", OLD.digest, OLD.digest + "@"])
def test_a_request_for_what_never_ran_here_is_not_obeyed(asked: str) -> None:
    world = World(rollback=asked)
    assert Rollback(world.situation()).review() is None
    assert world.memory.quarantine is None


def test_only_what_the_agents_own_record_accepted_may_be_older_than_the_watermark() -> None:
    world = World()
    world.memory.quarantine = LEFT
    assert world.situation().request(digest=GOOD.digest).watermark == 0
    assert world.situation().request(digest=BAD.digest).watermark == 7
    forged = World(accepted=(BAD.digest,))
    forged.memory.quarantine = LEFT
    assert forged.situation().request(digest=GOOD.digest).watermark == 7


def test_after_a_start_an_older_artifact_that_the_tag_offers_is_held_to_the_watermark() -> None:
    world = World()
    world.memory.enforced, world.recorded = None, replace(world.recorded, applied=GOOD.digest)
    world.memory.offered = GOOD
    assert world.situation().request(digest=GOOD.digest).watermark == 7
    world.memory.offered = None
    assert world.situation().request(digest=GOOD.digest).watermark == 0


def test_a_tag_that_is_moved_to_what_runs_again_needs_a_signature_of_its_own() -> None:
    world = World()
    world.enforce(GOOD)
    assert world.memory.enforced is not None
    world.memory.enforced.own = True
    assert world.situation().own(GOOD.digest)
    world.memory.offered = GOOD
    assert not world.situation().own(GOOD.digest)


def test_while_something_is_in_quarantine_the_sync_is_never_ready() -> None:
    world = World()
    world.memory.quarantine = LEFT
    world.enforce(GOOD)
    told = Rollback(world.situation()).told(Done("applied", Facts(health=HEALTHY)))
    assert isinstance(told, Stalled) and told.reason == Reason.ROLLED_BACK
    assert BAD.digest in told.message and GOOD.digest in told.message and "--retry" in told.message


def test_another_source_forgets_the_quarantine() -> None:
    world = World()
    world.memory.quarantine = LEFT
    world.memory.selector = "registry.example/other|tag=x"
    assert world.situation().memory.quarantine is None
