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
