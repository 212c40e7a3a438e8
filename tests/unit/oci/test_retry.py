from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import Refused, Unavailable
from ocisync.oci.retry import Retrier, RetryPlan, Transient


class World:
    """Time that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def retrier(self, plan: RetryPlan, random: float = 1.0) -> Retrier:
        return Retrier(plan, self.sleep, lambda: self.now, lambda: random)


def failing(times: int, *, retry_after_s: float | None = None, unreachable: bool = False) -> list[Exception]:
    error = Unavailable("overloaded", retry_after_s=retry_after_s)
    return [Transient(error, unreachable=unreachable) for _ in range(times)]


def run(world: World, plan: RetryPlan, failures: list[Exception]) -> int:
    attempts = 0

    def attempt() -> int:
        nonlocal attempts
        attempts += 1
        if failures:
            raise failures.pop(0)
        return attempts

    return world.retrier(plan).run(attempt)


def test_delays_grow_and_stop_at_the_cap() -> None:
    world = World()
    run(world, RetryPlan(attempts=7, base_s=1, cap_s=5, budget_s=999), failing(6))
    assert world.slept == [1, 2, 4, 5, 5, 5]


def test_the_last_failure_is_what_the_caller_gets() -> None:
    world = World()
    with pytest.raises(Unavailable, match="overloaded"):
        run(world, RetryPlan(attempts=3), failing(3))
    assert len(world.slept) == 2


def test_nobody_there_is_tried_less_often() -> None:
    world = World()
    with pytest.raises(Unavailable):
        run(world, RetryPlan(attempts=5, attempts_unreachable=2), failing(2, unreachable=True))
    assert len(world.slept) == 1


def test_the_budget_ends_the_tries() -> None:
    world = World()
    with pytest.raises(Unavailable):
        run(world, RetryPlan(attempts=100, base_s=10, cap_s=10, budget_s=35), failing(100))
    assert world.slept == [10, 10, 10]


def test_the_server_s_wait_is_kept_with_some_jitter_on_top() -> None:
    world = World()
    run(world, RetryPlan(), failing(1, retry_after_s=30))
    assert world.slept == [31]


def test_a_longer_wait_than_the_cap_is_not_waited() -> None:
    world = World()
    with pytest.raises(Unavailable) as caught:
        run(world, RetryPlan(), failing(1, retry_after_s=61))
    assert (world.slept, caught.value.retry_after_s) == ([], 61)


def test_other_errors_end_the_run_at_once() -> None:
    world = World()
    with pytest.raises(Refused):
        run(world, RetryPlan(), [Refused("no")])
    assert world.slept == []


@given(
    st.integers(1, 50),
    st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 1e9),
    st.booleans(),
)
def test_no_wait_exceeds_the_budget(
    failed: int, elapsed: float, random: float, retry_after: float | None, unreachable: bool
) -> None:
    plan = RetryPlan()
    delay = plan.delay_s(failed, elapsed_s=elapsed, random=random, retry_after_s=retry_after, unreachable=unreachable)
    if delay is not None:
        assert 0 <= delay <= plan.budget_s - elapsed
        assert failed < plan.attempts
        assert retry_after is None or delay >= retry_after
