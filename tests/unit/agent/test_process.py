"""Signals end the process, whatever its main thread is at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from ocisync.agent.process import on_end_asked

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_does_not_wait_for_a_lock_that_the_main_thread_holds(number: signal.Signals) -> None:
    lock, stopped = threading.Lock(), threading.Event()
    waited: list[bool] = []

    def stop() -> None:
        waited.append(lock.acquire(timeout=120.0))
        stopped.set()

    on_end_asked(stop)
    with lock:
        signal.raise_signal(number)
    assert stopped.wait(120.0)
    assert waited == [True]
