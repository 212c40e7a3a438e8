"""The fence around writes of an agent that holds a lease: which may leave now, and how long they may take.

    renewed ──── 6 s ────┬──── 4 s ────┬──── 5 s ────┐
    writes may start     │ none starts │ all have    │ the earliest moment at which
                         │             │ ended       │ another agent may begin

Requests that change things cannot be fenced by the API server, so the holder fences itself, by a clock that also runs
while the process is frozen or the machine asleep. A write asks twice: `admit` before it is prepared, where it waits
for the next renewal, and `open` as the last thing before its bytes leave. Times count from the moment *before* the
renewal was sent: the other side can't have begun to count earlier.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ocisync.model.errors import LeaseLost

LEASE_S = 15.0  # how long others wait after the last renewal that they saw
RENEW_DEADLINE_S = 10.0
WRITE_START_S = 6.0
WRITE_TIMEOUT_S = 4.0
_LOOK_S = 0.5


def uptime() -> float:
    """Seconds that never go backwards and also pass while the machine sleeps."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Fence:
    """Closed until `renewed` is called for the first time, and for good after `close`. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        wait: waits on a condition for at most so many seconds; replaced in tests.
        write_timeout_s: how long a write may take. No other agent begins before it is over only with the default.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = uptime,
        wait: Callable[[threading.Condition, float], object] | None = None,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self.write_timeout_s = write_timeout_s
        self._clock = clock
        self._wait = wait or _wait
        self._changed = threading.Condition()
        self._renewed_at = float("-inf")
        self._closed = ""
        self._running = 0

    def renewed(self, at: float) -> None:
        """The lease was renewed by a request that was begun at `at`."""
        with self._changed:
            self._renewed_at = max(self._renewed_at, at)
            self._changed.notify_all()

    def close(self, why: str) -> None:
        """No write may start any more."""
        with self._changed:
            self._closed = self._closed or why
            self._changed.notify_all()

    @property
    def open(self) -> bool:
        """Whether a write may start at this instant."""
        return not self._closed and self._clock() - self._renewed_at < WRITE_START_S

    @property
    def expired(self) -> bool:
        """Whether the renewal is so late that the lease counts as lost."""
        return bool(self._closed) or self._clock() - self._renewed_at >= RENEW_DEADLINE_S

    def admit(self) -> None:
        """Return when a write may start: at once, or after the renewal that is awaited.

        Raises:
            LeaseLost: it may not: nobody knows any more whether the lease is ours.
        """
        if self.open:
            return
        with self._changed:
            while not self.open:
                if self.expired:
                    raise LeaseLost(f"nothing is written: {self._closed or 'the lease could not be renewed'}")
                self._wait(self._changed, _LOOK_S)

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Counts a write from before its first byte until its answer, so that `drain` can wait for it."""
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until no write runs; False if some still do after so many seconds."""
        deadline = self._clock() + seconds
        with self._changed:
            while self._running and self._clock() < deadline:
                self._wait(self._changed, _LOOK_S)
            return not self._running


def _wait(changed: threading.Condition, seconds: float) -> None:
    changed.wait(seconds)
