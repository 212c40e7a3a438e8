from __future__ import annotations

import logging
import threading

import pytest

from ocisync.agent.supervisor import Group, Supervisor, ended
from ocisync.kit.stop import StopToken
from ocisync.model.errors import LeaseLost


class Recorder:
    """Groups that say when they start and stop."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def group(self, name: str, stop: StopToken) -> Group:
        ended = threading.Event()

        def loop() -> None:
            ended.wait(60)
            self.said.append(f"{name} loop ended")

        def end() -> None:
            self.said.append(f"stop {name}")
            ended.set()

        return Group(name, [(name, loop)], start=lambda: self.said.append(f"start {name}"), stop=end, grace_s=60.0)


def test_groups_start_in_order_and_stop_in_reverse() -> None:
    stop, recorder = StopToken(), Recorder()
    last = Group("last", start=stop.stop)
    code = Supervisor([recorder.group("a", stop), recorder.group("b", stop), last], stop).run()
    assert code == 0
    assert recorder.said == ["start a", "start b", "stop b", "b loop ended", "stop a", "a loop ended"]


def test_a_thread_that_dies_ends_everything_with_an_error() -> None:
    stop, recorder = StopToken(), Recorder()

    def dies() -> None:
        raise ValueError("a defect")

    code = Supervisor([recorder.group("a", stop), Group("bad", [("bad", dies)])], stop).run()
    assert code == 1
    assert recorder.said[-1] == "a loop ended"


def test_a_lost_lease_ends_everything_with_an_error_and_is_told_in_one_line_as_no_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "ocisync")
    stop, recorder = StopToken(), Recorder()

    def loses() -> None:
        raise LeaseLost("another holds the lease")

    code = Supervisor([recorder.group("a", stop), Group("lease", [("lease", loses)])], stop).run()
    assert code == 1
    assert recorder.said[-1] == "a loop ended"
    (line,) = caplog.records
    assert (line.levelname, line.getMessage(), line.exc_info) == ("WARNING", "lease: lost", None)
    assert line.__dict__["fields"] == {"thread": "lease", "text": "another holds the lease"}


def test_a_thread_that_returns_unasked_counts_as_dead() -> None:
    stop = StopToken()
    assert Supervisor([Group("short", [("short", lambda: None)])], stop).run() == 1


def test_a_thread_that_hangs_is_not_waited_for_endlessly() -> None:
    stop, release = StopToken(), threading.Event()

    def hangs() -> None:
        release.wait(30)

    hang = Group("hang", [("hang", hangs)], grace_s=0.05)
    assert Supervisor([hang, Group("last", start=stop.stop)], stop).run() == 0
    release.set()


class Slow:
    """A thread that ends in a look of its own, whatever the clock says then."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def join(self, timeout: float) -> None:
        assert 0 < timeout <= 0.1
        self.looks -= 1

    def is_alive(self) -> bool:
        return self.looks > 0


def test_patience_is_counted_in_looks_so_that_a_frozen_process_does_not_use_it_up() -> None:
    slow = Slow(looks=9)
    assert ended(slow, 1.0) == pytest.approx(0.2)
    assert not slow.is_alive()
    stuck = Slow(looks=1_000)
    assert ended(stuck, 1.0) <= 0
    assert 985 <= stuck.looks <= 990
    assert ended(stuck, 0.0) == 0


def test_a_defect_elsewhere_can_be_reported() -> None:
    stop = StopToken()
    supervisor = Supervisor([], stop)
    threading.Timer(0.05, lambda: supervisor.crashed("watch", ValueError("a defect"))).start()
    assert supervisor.run() == 1
