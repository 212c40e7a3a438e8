from __future__ import annotations

from ocisync.agent.queue import WorkQueue


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[WorkQueue, Time]:
    time = Time()
    return WorkQueue(monotonic=time), time


def test_a_key_added_twice_is_handed_out_once() -> None:
    work, _ = queue()
    work.add("a")
    work.add("a")
    assert work.take() == "a"
    assert work.take() is None


def test_a_delayed_key_comes_when_its_time_has_come() -> None:
    work, time = queue()
    work.add("a", after_s=10)
    assert work.take() is None
    time.now += 10
    assert work.take() == "a"


def test_the_earliest_wish_wins() -> None:
    work, time = queue()
    work.add("a", after_s=60)
    work.add("a", after_s=1)
    work.add("a", after_s=30)
    time.now += 1
    assert work.take() == "a"
    work.done("a")
    time.now += 100
    assert work.take() is None


def test_a_key_is_never_worked_on_twice_at_once() -> None:
    work, _ = queue()
    work.add("a")
    assert work.take() == "a"
    work.add("a")
    assert work.take() is None
    work.done("a")
    assert work.take() == "a"


def test_keys_come_in_the_order_of_their_times() -> None:
    work, time = queue()
    for key, after in (("c", 3), ("a", 1), ("b", 2)):
        work.add(key, after_s=after)
    time.now += 5
    assert [work.take(), work.take(), work.take()] == ["a", "b", "c"]


def test_a_forgotten_key_does_not_come() -> None:
    work, _ = queue()
    work.add("a")
    work.forget("a")
    assert work.take() is None


def test_closing_ends_every_wait() -> None:
    work, _ = queue()
    work.add("a", after_s=1000)
    work.close()
    assert work.wait() is None


def test_depth_counts_what_is_due() -> None:
    work, time = queue()
    work.add("a")
    work.add("b", after_s=5)
    assert work.depth() == 1
    time.now += 5
    assert work.depth() == 2


def test_what_stands_in_line_is_handed_out_in_order_and_only_when_nothing_is_due() -> None:
    work, _ = queue()
    for key in ("a", "b", "a"):
        work.line_up(key)
    work.add("new")
    assert [work.take() for _ in range(4)] == ["new", "a", "b", None]


def test_a_taker_who_keeps_himself_free_gets_nothing_from_the_line() -> None:
    work, _ = queue()
    work.line_up("a")
    assert work.take(last=False) is None
    work.add("new")
    assert work.take(last=False) == "new"
    assert work.take() == "a"


def test_only_a_key_from_the_line_has_its_turn_and_only_until_it_is_done() -> None:
    work, _ = queue()
    work.add("a")
    assert work.take() == "a"
    assert not work.turn("a")
    work.line_up("a")
    assert work.take() is None  # it is being worked on
    work.done("a")
    assert work.take() == "a"
    assert work.turn("a")
    work.done("a")
    assert not work.turn("a")


def test_a_key_in_line_that_becomes_due_is_not_worked_on_twice_at_once() -> None:
    work, time = queue()
    work.add("a", after_s=5)
    work.line_up("a")
    assert work.take() == "a"
    time.now += 10
    assert work.take() is None
    work.done("a")
    assert work.take() == "a"
    assert not work.turn("a")


def test_a_key_that_is_forgotten_leaves_the_line() -> None:
    work, _ = queue()
    work.line_up("a")
    work.forget("a")
    assert work.take() is None
    assert work.depth() == 0
