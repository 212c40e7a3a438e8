"""Whose turn it is: what a busy server is spared, and what never waits behind what."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from ocisync.cluster.pace import GENTLE_MOST, LEVEL_HEADER, MOST, Level, Pace
from tests.support.waiting import eventually


class Timer:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(pace: Pace, user: str, status: int, level: str = "low") -> None:
    with pace.turn(user) as turn:
        turn.answered(status, {LEVEL_HEADER: level})


class Crowd(ExitStack):
    """Threads that take turns and keep them until the block ends."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace
        self._release = threading.Event()

    def enter(self, *, user: str = "u", gentle: bool = True) -> threading.Thread:
        def take() -> None:
            with self._pace.turn(user, gentle=gentle):
                self._release.wait(120)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        self.callback(thread.join, 60)
        self.callback(self._release.set)
        return thread


def test_a_refusal_halves_what_may_be_on_its_way_once_for_all_that_were_sent_before_it() -> None:
    timer = Timer()
    pace = Pace(monotonic=timer)
    with ExitStack() as stack:
        turns = [stack.enter_context(pace.turn("u")) for _ in range(16)]
        timer.now = 1.0
        for turn in turns:
            turn.answered(429, {LEVEL_HEADER: "low"})
    assert pace.limits == {"low": MOST // 2}
    assert pace.refused == 16


def test_answers_raise_the_limit_by_one_for_each_round_of_them() -> None:
    pace = Pace()
    answer(pace, "u", 429)
    for _ in range(MOST // 2 + 1):
        answer(pace, "u", 200)
    assert pace.limits == {"low": MOST // 2 + 1}


def test_a_full_level_slows_nobody_on_another_one() -> None:
    timer = Timer()
    pace = Pace(monotonic=timer)
    answer(pace, "agent", 200, "high")
    for _ in range(8):
        timer.now += 1
        answer(pace, "tenant", 429, "low")
    assert pace.limits == {"low": 1}
    with ExitStack() as stack:
        stack.enter_context(pace.turn("tenant"))
        for _ in range(10):
            stack.enter_context(pace.turn("agent"))


def test_two_users_of_one_level_share_its_limit() -> None:
    timer = Timer()
    pace = Pace(monotonic=timer)
    for user in ("a", "b"):
        answer(pace, user, 200)
    for _ in range(8):
        timer.now += 1
        answer(pace, "a", 429)
    with Crowd(pace) as stack, pace.turn("a"):
        second = stack.enter(user="b", gentle=False)
        second.join(0.2)
        assert second.is_alive()


def test_gentle_work_takes_few_places_and_one_while_anything_else_is_on_its_way() -> None:
    timer = Timer()
    pace = Pace(monotonic=timer)
    timer.now = 10.0
    with Crowd(pace) as stack:
        for _ in range(GENTLE_MOST + 4):
            stack.enter()
        eventually(lambda: pace._gentle == GENTLE_MOST, what="gentle work fills its places and no more")
        stack.enter_context(pace.turn("u"))  # at once, whoever waits
    with Crowd(pace) as stack:
        stack.enter_context(pace.turn("u"))
        for _ in range(4):
            stack.enter()
        eventually(lambda: pace._gentle == 1, what="one goes on")
        assert pace._gentle == 1


def test_a_moment_between_two_requests_is_not_used_to_push_in() -> None:
    timer = Timer()
    pace = Pace(monotonic=timer)
    answer(pace, "u", 200)
    with Crowd(pace) as stack:
        for _ in range(3):
            stack.enter()
        eventually(lambda: pace._gentle == 1, what="one goes on")
        timer.now += 1.0
        eventually(lambda: pace._gentle == 3, what="all go on when nothing else happens")


def test_reads_neither_wait_for_writes_nor_hold_gentle_work_up() -> None:
    timer = Timer()
    pace = Pace(monotonic=timer)
    timer.now = 10.0
    with Crowd(pace) as stack:
        stack.enter_context(pace.turn("u", reading=True))
        for _ in range(3):
            stack.enter()
        eventually(lambda: pace._gentle == 3, what="gentle work goes on")


def _answers() -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from([200, 201, 409, 429, 503]), max_size=300)


@given(_answers())
def test_there_is_always_a_place_and_never_too_many(statuses: list[int]) -> None:
    level, now = Level(), 0.0
    for status in statuses:
        now += 1.0
        level.answered(status, now - 0.5, now)
        assert 1.0 <= level.limit <= MOST
