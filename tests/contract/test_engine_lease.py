"""Passes of agents that hold, or held, a lease: the inventory's header tells them apart, and writes are fenced."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ocisync.cluster.apply import Action
from ocisync.cluster.client import connect
from ocisync.cluster.fence import RENEW_DEADLINE_S, WRITE_START_S, Fence
from ocisync.cluster.inventory import Header, InventoryStore, Term
from ocisync.model.errors import LeaseLost
from tests.support.engine import EngineDriver, actions


@dataclass
class LeaseHolder:
    """What an engine knows of its lease."""

    name: str
    transitions: int
    lasts: bool = True
    asked: int = 0
    steps: list[str] = field(default_factory=list)

    def term(self) -> Term:
        return Term(self.name, self.transitions, self._lasts)

    def _lasts(self) -> bool:
        self.asked += 1
        return self.lasts


def header(engine: EngineDriver) -> Header:
    store = InventoryStore(
        engine.own, engine.agent_namespace,
        sync_namespace=engine.target.sync_namespace, sync_name=engine.target.sync_name,
    )  # fmt: skip
    store.load()
    return store.header


def test_a_pass_writes_the_holder_and_the_term_into_the_inventory(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("a", 3).term
    engine.sync(engine.config_map("one"))
    assert header(engine) == Header("a", 3, "sha256:one")


def test_each_pass_swaps_the_header_even_when_it_says_the_same(engine: EngineDriver) -> None:
    holder = LeaseHolder("a", 3)
    engine.term = holder.term
    engine.sync(engine.config_map("one"))
    engine.sync(engine.config_map("one"), hook=holder.steps.append)
    assert holder.steps == ["claim"]


def test_a_pass_of_a_holder_whose_term_is_over_changes_nothing(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("old", 3).term
    engine.sync(engine.config_map("one"))
    engine.term = LeaseHolder("new", 4).term
    engine.sync(engine.config_map("one"))
    late = LeaseHolder("old", 3, lasts=False)
    engine.term = late.term
    with pytest.raises(LeaseLost, match="new holds the inventory"):
        engine.sync(engine.config_map("one", key="late"), engine.config_map("two"))
    assert engine.must("ConfigMap", "one")["data"] == {"key": "value"}
    assert engine.live("ConfigMap", "two") is None
    assert header(engine).holder == "new"


def test_a_holder_who_slept_between_reading_and_swapping_the_header_changes_nothing(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("old", 3).term
    engine.sync(engine.config_map("one"))
    slept = LeaseHolder("old", 3)

    def meanwhile(step: str) -> None:
        if step == "claim" and slept.lasts:
            slept.lasts = False
            other = engine.other()
            other.target, other.term = engine.target, LeaseHolder("new", 4).term
            other.sync(other.config_map("one"))

    engine.term = slept.term
    with pytest.raises(LeaseLost):
        engine.sync(engine.config_map("one", key="late"), hook=meanwhile)
    assert engine.must("ConfigMap", "one")["data"] == {"key": "value"}


def test_deleting_a_sync_begins_with_the_header_too(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("new", 4).term
    engine.sync(engine.config_map("one"))
    engine.term = LeaseHolder("old", 3, lasts=False).term
    late = engine.engine()
    with pytest.raises(LeaseLost):
        late.delete_all(engine.target, late.inventory(engine.target))
    assert engine.live("ConfigMap", "one") is not None


def test_a_successor_takes_the_header_without_asking_anyone(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("old", 3).term
    engine.sync(engine.config_map("one"))
    successor = LeaseHolder("new", 4)
    engine.term = successor.term
    assert actions(engine.sync(engine.config_map("one")))["one"] is not Action.FAILED
    assert successor.asked == 0


def test_a_lease_that_was_made_anew_asks_once_and_takes_the_header(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("old", 9).term
    engine.sync(engine.config_map("one"))
    anew = LeaseHolder("new", 0)
    engine.term = anew.term
    engine.sync(engine.config_map("one"))
    assert anew.asked == 1
    assert header(engine) == Header("new", 0, "sha256:one")


def test_without_a_lease_a_header_is_taken_over_as_ever(engine: EngineDriver) -> None:
    engine.term = LeaseHolder("old", 9).term
    engine.sync(engine.config_map("one"))
    engine.term = None
    engine.sync(engine.config_map("one"))
    assert header(engine) == Header("test", 10, "sha256:one")


# --- The fence ----------------------------------------------------------------------------------------------------


class Timer:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def fenced(engine: EngineDriver, timer: Timer) -> Iterator[EngineDriver]:
    """An engine whose writes ask a fence that was renewed just now."""
    fence = Fence(clock=timer, write_timeout_s=30.0)  # this clock stands still: only the machine may be slow
    fence.renewed(timer.now)
    engine.agent = connect(str(engine.kubeconfig), user_agent="ocisync/fenced", fence=fence)
    yield engine
    engine.agent.close()


def test_while_the_fence_is_open_writes_go_through_with_a_deadline_at_the_server(fenced: EngineDriver) -> None:
    report = fenced.sync(fenced.config_map("one"), fenced.config_map("two"))
    assert report.all_applied
    report = fenced.sync(fenced.config_map("one"))
    assert actions(report)["two"] is Action.DELETED


def test_a_write_refused_by_the_fence_is_the_lost_lease_and_not_an_error_of_the_object(
    fenced: EngineDriver, timer: Timer
) -> None:
    fenced.sync(fenced.config_map("one"))

    def late(step: str) -> None:
        if step == "claim":
            timer.now += RENEW_DEADLINE_S

    with pytest.raises(LeaseLost, match="could not be renewed"):
        fenced.sync(fenced.config_map("one", key="late"), digest="sha256:two", hook=late)
    assert fenced.must("ConfigMap", "one")["data"] == {"key": "value"}, "reading is not fenced"


def test_a_lease_that_ends_in_the_midst_of_an_apply_stops_all_that_is_left(fenced: EngineDriver, timer: Timer) -> None:
    applied: list[str] = []
    one = threading.Lock()  # nobody gets on to a next object between the twentieth and the end of the lease

    def on_applied(object_id: object, _: object) -> None:
        with one:
            applied.append(str(object_id))
            if len(applied) == 20:
                timer.now += RENEW_DEADLINE_S

    wanted = [fenced.config_map(f"entry-{number:03d}") for number in range(200)]
    with pytest.raises(LeaseLost):
        fenced.sync(*wanted, on_applied=on_applied)
    made = sum(fenced.live("ConfigMap", f"entry-{number:03d}") is not None for number in range(0, 200))
    assert 20 <= made <= 40, "those on the way, and not one more"


def test_a_write_waits_for_a_renewal_that_comes_in_time(fenced: EngineDriver, timer: Timer) -> None:
    timer.now += WRITE_START_S + 1.0
    fence = fenced.own.fence
    assert fence is not None
    fence._wait = lambda _, __: fence.renewed(timer.now)
    assert fenced.sync(fenced.config_map("one")).all_applied
