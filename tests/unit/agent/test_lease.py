"""The lease's state machine on clocks of its own: two agents, one record, anything may happen in between."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.agent.lease import Lease, LeaseStore, Record, Role
from ocisync.cluster.fence import LEASE_S, RENEW_DEADLINE_S, WRITE_START_S, WRITE_TIMEOUT_S, Fence
from ocisync.kit.stop import StopToken
from ocisync.model.errors import LeaseLost, Unavailable


@dataclass
class World:
    """True time, and the one Lease object."""

    now: float = 0.0
    record: Record | None = None
    version: int = 0

    def delete(self) -> None:
        self.record = None


class FakeStore(LeaseStore):
    """The Lease as one agent reaches it: the network may lose requests, or only answers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut = False
        self.lose_answer = False
        self.silent = 0  # so many swaps are lost
        self.swaps = 0

    def read(self) -> tuple[Record, str] | None:
        if self.cut:
            raise Unavailable("cut off")
        return None if self.world.record is None else (self.world.record, str(self.world.version))

    def swap(self, record: Record, version: str) -> tuple[Record, str] | None:
        if self.cut or self.silent:
            self.silent = max(0, self.silent - 1)
            raise Unavailable("cut off")
        present = str(self.world.version) if self.world.record is not None else ""
        if version != present:
            return None
        self.swaps += 1
        self.world.record, self.world.version = record, self.world.version + 1
        if self.lose_answer:
            raise Unavailable("the answer was lost")
        return record, str(self.world.version)

    def watch(self, wake: object, stop: StopToken) -> None:
        """Not used: tests step."""

    def end_watch(self) -> None:
        """Not used."""


@dataclass
class Machine:
    """One agent: its clock is off by some years, and it can be frozen."""

    world: World
    name: str
    offset: float
    told: list[Role] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    frozen: bool = False

    def __post_init__(self) -> None:
        self.store = FakeStore(self.world)
        self.fence = Fence(clock=self.clock)
        self.due = 0.0
        self.lease = Lease(
            self.store,
            self.name,
            self.fence,
            now=lambda: datetime.fromtimestamp(1_700_000_000 + self.clock(), UTC),
            rng=random.Random(1),
            told=lambda role, _: self.told.append(role),
            clock=self.clock,
            restored=self.restored.append,
        )

    def clock(self) -> float:
        return self.world.now + self.offset

    def role(self) -> Role:
        return self.lease.role

    def may_write(self) -> bool:
        return self.fence.open

    def step(self) -> float:
        self.due = self.world.now + self.lease.step()
        return self.due


def pair() -> tuple[World, Machine, Machine]:
    world = World()
    return world, Machine(world, "a", 0.0), Machine(world, "b", 86_400_000.0)


def run(world: World, seconds: float, *machines: Machine) -> None:
    """Let time pass; machines that are not frozen do what is due."""
    end = world.now + seconds
    while world.now < end:
        for machine in machines:
            if not machine.frozen and world.now >= machine.due and machine.role() is not Role.LOST:
                machine.step()
        world.now += 0.1


def test_a_free_lease_is_taken_and_renewed_and_the_other_waits() -> None:
    world, a, b = pair()
    run(world, 60, a, b)
    assert (a.role(), b.role()) == (Role.LEADER, Role.STANDBY)
    assert b.lease.holder == "a"
    assert a.may_write()
    assert not b.may_write()
    assert 25 <= a.store.swaps <= 36  # about every two seconds
    assert b.store.swaps == 0


def test_a_dead_holder_is_succeeded_after_the_lease_and_not_before() -> None:
    world, a, b = pair()
    run(world, 10, a, b)
    last, a.frozen = world.now, True
    run(world, LEASE_S - 3, b)
    assert b.role() is Role.STANDBY
    run(world, 6, b)
    assert b.role() is Role.LEADER
    assert world.now - last <= LEASE_S + 4
    assert world.record is not None
    assert world.record.transitions == 1


def test_no_write_may_start_six_seconds_after_the_last_renewal() -> None:
    world, a, _ = pair()
    a.step()
    a.store.cut = True
    world.now += WRITE_START_S - 0.01
    assert a.may_write()
    world.now += 0.02
    assert not a.may_write()
    assert not a.fence.expired


def test_a_frozen_holder_finds_out_and_never_writes_again() -> None:
    world, a, b = pair()
    run(world, 5, a, b)
    a.frozen = True
    run(world, 30, b)
    a.frozen = False
    assert not a.may_write()  # before its first step
    run(world, 5, a, b)
    assert (a.role(), b.role()) == (Role.LOST, Role.LEADER)
    assert not a.may_write()


def test_a_lost_lease_says_who_has_it_and_what_happens_next() -> None:
    world, a, b = pair()
    run(world, 5, a, b)
    a.frozen = True
    run(world, 30, b)
    with pytest.raises(LeaseLost) as lost:
        a.lease.run()
    assert lost.value.message == (
        "b holds the lease now: nothing more is written, and this agent ends; started again, it stands by"
    )
    assert a.told == [Role.LEADER, Role.LOST]


def test_an_outage_without_a_successor_costs_no_term() -> None:
    world, a, _ = pair()
    run(world, 5, a)
    term = a.lease.term()
    a.store.cut = True
    run(world, 120, a)
    assert a.role() is Role.DOUBT
    assert not a.may_write()
    a.store.cut = False
    run(world, 3, a)
    assert a.role() is Role.LEADER
    assert a.may_write()
    after = a.lease.term()
    assert term is not None
    assert after is not None
    assert (term.holder, term.transitions) == (after.holder, after.transitions)
    assert a.told == [Role.LEADER, Role.DOUBT, Role.LEADER]


def test_a_released_lease_is_taken_by_the_next_look() -> None:
    world, a, b = pair()
    run(world, 5, a, b)
    a.lease.release()
    assert world.record is not None
    assert world.record.holder == ""
    b.step()
    assert b.role() is Role.LEADER
    assert not a.may_write()


def test_a_lease_is_not_released_while_a_write_still_runs() -> None:
    world = World()
    a = Machine(world, "a", 0.0)
    a.fence = Fence(clock=a.clock, wait=lambda _, seconds: setattr(world, "now", world.now + seconds))
    a.lease = Lease(
        a.store, "a", a.fence, now=lambda: datetime.now(UTC), rng=random.Random(1), told=print, clock=a.clock
    )
    a.step()
    with a.fence.write():
        a.lease.release()
    assert world.record is not None
    assert world.record.holder == "a"
    assert world.now >= WRITE_TIMEOUT_S


def test_a_release_that_is_not_heard_at_once_is_tried_again() -> None:
    _, a, b = pair()
    a.step()
    a.store.silent = 2
    a.lease.release()
    assert (a.store.silent, a.store.swaps) == (0, 2)
    b.step()
    assert b.role() is Role.LEADER


def test_a_release_whose_answer_was_lost_is_written_once() -> None:
    world, a, _ = pair()
    a.step()
    a.store.lose_answer = True
    a.lease.release()
    assert world.record is not None
    assert (world.record.holder, a.store.swaps) == ("", 2)


def test_a_release_follows_a_renewal_whose_answer_was_lost() -> None:
    world, a, _ = pair()
    a.step()
    world.now += 2
    a.store.lose_answer = True
    a.step()
    a.store.lose_answer = False
    a.lease.release()
    assert world.record is not None
    assert world.record.holder == ""


def test_a_release_does_not_touch_what_somebody_else_holds_and_gives_up_when_nobody_answers() -> None:
    world, a, _ = pair()
    a.step()
    assert world.record is not None
    world.record, world.version = replace(world.record, holder="b", transitions=1), world.version + 1
    a.lease.release()
    assert world.record.holder == "b"
    world, a, _ = pair()
    a.step()
    a.store.cut = True
    a.lease.release()
    assert world.record is not None
    assert world.record.holder == "a"


def test_our_own_name_from_an_earlier_life_is_not_waited_for_and_begins_a_new_term() -> None:
    world, a, _ = pair()
    a.step()
    again = Machine(world, "a", 5.0)
    again.step()
    assert again.role() is Role.LEADER
    assert world.record is not None
    assert world.record.transitions == 1


def test_a_lost_answer_to_a_renewal_is_no_lost_lease() -> None:
    world, a, _ = pair()
    a.step()
    world.now += 2
    a.store.lose_answer = True
    a.step()
    a.store.lose_answer = False
    run(world, 2, a)
    assert a.role() is Role.LEADER
    assert a.told == [Role.LEADER]


def test_a_deleted_lease_counts_as_held_until_its_time_is_over() -> None:
    world, a, b = pair()
    run(world, 5, a, b)
    a.frozen = True
    world.delete()
    run(world, LEASE_S - 4, b)
    assert b.role() is Role.STANDBY
    run(world, 6, b)
    assert b.role() is Role.LEADER


def test_a_holder_writes_its_deleted_lease_again_in_the_same_term() -> None:
    world, a, b = pair()
    run(world, 5, a, b)
    world.delete()
    run(world, 5, a, b)
    assert (a.role(), b.role()) == (Role.LEADER, Role.STANDBY)
    assert world.record is not None
    assert world.record.holder == "a"


def test_a_term_says_whether_it_lasts() -> None:
    world, a, b = pair()
    run(world, 5, a, b)
    term = a.lease.term()
    assert term is not None
    assert term.lasts()
    a.frozen = True
    run(world, 30, b)
    assert term.lasts() is False


@pytest.mark.parametrize("deleted", [False, True])
def test_a_holder_that_meets_its_lease_of_an_earlier_time_tells_it_once_and_writes_no_more(*, deleted: bool) -> None:
    world, a, _ = pair()
    run(world, 5, a)
    backup = world.record, world.version
    run(world, 20, a)
    world.record, world.version = (None, 3) if deleted else backup
    run(world, 10, a)
    assert a.restored == ["the lease is older than what was written to it"]
    assert (a.role(), a.may_write()) == (Role.LOST, False)
    a.lease.run()  # ends: whoever was told stops everything, and this is no lost lease


def test_a_restore_with_raised_numbers_shows_in_the_lease_too() -> None:
    world, a, _ = pair()
    run(world, 5, a)
    backup = world.record, world.version
    run(world, 20, a)
    world.record, world.version = backup
    a.store.lose_answer = True  # an unanswered renewal just then hides nothing
    run(world, 2.5, a)
    a.store.lose_answer = False
    run(world, 5, a)
    assert len(a.restored) == 1


@pytest.mark.parametrize("holder", ["b", ""])
def test_a_standby_does_not_believe_a_restored_record_that_names_itself_or_nobody(holder: str) -> None:
    world, a, b = pair()
    run(world, 10, a, b)
    assert world.record is not None
    world.record, world.version = replace(world.record, holder=holder, transitions=0), 2
    a.frozen = True  # it may still write: its last renewal is a moment ago
    run(world, LEASE_S - 2, b)
    assert b.role() is Role.STANDBY
    run(world, 6, b)
    assert b.role() is Role.LEADER
    b.lease.release()
    assert world.record.holder == ""


@pytest.mark.parametrize(
    "spec",
    [None, [], {}, {"leaseDurationSeconds": "x", "leaseTransitions": -1, "holderIdentity": None}, {"renewTime": 5}],
)
def test_a_record_that_makes_no_sense_is_a_free_one(spec: object) -> None:
    record = Record.of({"spec": spec})
    assert record.holder == ""
    assert record.transitions == 0
    assert record.patience_s == LEASE_S


def test_an_absurd_duration_is_not_waited_for() -> None:
    assert Record.of({"spec": {"leaseDurationSeconds": 10**9, "holderIdentity": "x"}}).patience_s == 60.0


EVENTS = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.05, 20.0)),
    st.tuples(
        st.sampled_from(["freeze", "thaw", "cut", "mend", "mute", "speak", "restart"]), st.sampled_from([0, 1, 2])
    ),
    st.tuples(st.just("touch"), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
def test_writes_of_two_holders_never_come_close(events: list[tuple[str, float]], offsets: list[float]) -> None:
    """A new holder may write only when every write of the one before has been over for a while.

    Deleting the Lease is left to its own tests: a fresh standby has nothing to know a former holder by.
    """
    world = World()
    machines = [Machine(world, name, offset) for name, offset in zip("abc", offsets, strict=True)]
    lives = 0
    last_open: dict[str, float] = {}  # the last instant at which each life could have begun a write
    held = ""

    def look() -> None:
        nonlocal held
        could = [machine for machine in machines if machine.may_write()]
        assert len(could) <= 1, "two may write at once"
        for machine in could:
            if held and held != machine.name:
                assert world.now >= last_open[held] + WRITE_TIMEOUT_S, f"{held} may still have a write on its way"
            held = machine.name
            last_open[held] = world.now

    for what, value in events:
        machine = machines[int(value) % 3]
        match what:
            case "pass":
                end = world.now + value
                while world.now < end:
                    for one in machines:
                        if not one.frozen and world.now >= one.due and one.role() is not Role.LOST:
                            one.step()
                        look()
                    world.now += 0.25
            case "freeze" | "thaw":
                machine.frozen = what == "freeze"
            case "cut" | "mend":
                machine.store.cut = what == "cut"
            case "mute" | "speak":
                machine.store.lose_answer = what == "mute"
            case "restart":
                lives += 1
                fresh = Machine(world, f"life-{lives}", offsets[int(value) % 3])
                machines[machines.index(machine)] = fresh
            case "touch" if world.record is not None:
                world.version += 1  # somebody sets a label
        look()


def test_the_margins_add_up() -> None:
    assert WRITE_START_S + WRITE_TIMEOUT_S <= RENEW_DEADLINE_S < LEASE_S
