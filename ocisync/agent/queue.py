"""Which sync is worked on next: keys without duplicates, with delays, and never the same key twice at once.

A key carries nothing but its name: whoever takes it reads the world anew. Adding a key that waits already keeps the
earlier time; adding a key that is being worked on makes it due again after `done`.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

_LONGEST_WAIT_S = 1.0  # how soon a stop or a change of the clock is noticed


class WorkQueue:
    """Thread-safe. `monotonic` is replaced in tests; then only `take` is used, which never waits."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._running: set[str] = set()
        self._again: dict[str, float] = {}
        self._closed = False

    def add(self, key: str, *, after_s: float = 0.0) -> None:
        """Make a key due after a while; the earliest wish wins."""
        at = self._monotonic() + after_s
        with self._changed:
            if key in self._running:
                self._again[key] = min(at, self._again.get(key, at))
                return
            self._schedule(key, at)

    def take(self) -> str | None:
        """A due key, or None at once. The caller must give it back with `done`."""
        with self._changed:
            return self._take()

    def wait(self) -> str | None:
        """Wait for a due key; None when the queue was closed."""
        with self._changed:
            while not self._closed:
                key = self._take()
                if key is not None:
                    return key
                self._changed.wait(self._pause())
            return None

    def done(self, key: str) -> None:
        """The work on a key has ended."""
        with self._changed:
            self._running.discard(key)
            at = self._again.pop(key, None)
            if at is not None:
                self._schedule(key, at)

    def forget(self, key: str) -> None:
        """Drop a key that waits; work on it goes on."""
        with self._changed:
            self._due.pop(key, None)
            self._again.pop(key, None)

    def close(self) -> None:
        """End all waits; nothing is handed out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def depth(self) -> int:
        """How many keys are due now."""
        now = self._monotonic()
        with self._changed:
            return sum(at <= now for at in self._due.values())

    def _schedule(self, key: str, at: float) -> None:
        known = self._due.get(key)
        if known is not None and known <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        self._changed.notify()

    def _take(self) -> str | None:
        now = self._monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) != at:
                continue  # dropped, or moved to an earlier time
            del self._due[key]
            self._running.add(key)
            return key
        return None

    def _pause(self) -> float:
        if not self._heap:
            return _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.001, self._heap[0][0] - self._monotonic()))
