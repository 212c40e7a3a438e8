"""Work beside the main thread: its result and its error arrive where they are asked for."""

from __future__ import annotations

import threading

import pytest

from ocisync.kit.background import Background
from ocisync.model.errors import InvalidInput


def test_the_result_arrives_as_often_as_it_is_asked_for() -> None:
    work = Background(lambda: threading.current_thread().name, name="worker")
    assert (work.result(), work.result()) == ("worker", "worker")


def test_the_caller_goes_on_meanwhile() -> None:
    gate = threading.Event()
    work = Background(lambda: gate.wait(120.0), name="worker")
    gate.set()
    assert work.result() is True


def test_an_error_is_raised_by_the_one_who_asks() -> None:
    def fail() -> None:
        raise InvalidInput("damaged key")

    work = Background(fail, name="worker")
    with pytest.raises(InvalidInput, match="damaged key"):
        work.result()
