"""Which sync is worked on next: keys without duplicates, with delays, and never the same key twice at once.

A key carries nothing but its name: whoever takes it reads the world anew. Adding a key that waits already keeps the
earlier time; adding a key that is being worked on makes it due again after `done`.

Beside these stands a line of keys whose turn comes last: first passes after a start over what is applied already.
They are handed out in order, only while nothing is due, and never to a taker who keeps himself free for the rest.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
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
        self._line: deque[str] = deque()
        self._turns: set[str] = set()
        self._closed = False

    def add(self, key: str, *, after_s: float = 0.0) -> None:
        """Make a key due after a while; the earliest wish wins."""
        at = self._monotonic() + after_s
        with self._changed:
            if key in self._running:
                self._again[key] = min(at, self._again.get(key, at))
                return
            self._schedule(key, at)

    def line_up(self, key: str) -> None:
        """Put a key at the end of the line of those whose turn comes last."""
        with self._changed:
            if key not in self._line:
                self._line.append(key)
                self._changed.notify_all()  # not everybody takes from the line

    def turn(self, key: str) -> bool:
        """Whether a key that is being worked on has come to its turn in that line."""
        with self._changed:
            return key in self._turns

    def take(self, *, last: bool = True) -> str | None:
        """A due key, or None at once. The caller must give it back with `done`. Not `last`: none from the line."""
        with self._changed:
            return self._take(last=last)

    def wait(self, *, last: bool = True) -> str | None:
        """Wait for a due key; None when the queue was closed. `last` as for `take`."""
        with self._changed:
            while not self._closed:
                key = self._take(last=last)
                if key is not None:
                    return key
                self._changed.wait(self._pause())
            return None

    def done(self, key: str) -> None:
        """The work on a key has ended."""
        with self._changed:
            self._running.discard(key)
            self._turns.discard(key)
            at = self._again.pop(key, None)
            if at is not None:
                self._schedule(key, at)
            if key in self._line:
                self._changed.notify_all()

    def forget(self, key: str) -> None:
        """Drop a key that waits; work on it goes on."""
        with self._changed:
            self._due.pop(key, None)
            self._again.pop(key, None)
            if key in self._line:
                self._line.remove(key)

    def close(self) -> None:
        """End all waits; nothing is handed out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def depth(self) -> int:
        """How many keys are due now."""
        now = self._monotonic()
        with self._changed:
            return sum(at <= now for at in self._due.values()) + len(self._line)

    def _schedule(self, key: str, at: float) -> None:
        known = self._due.get(key)
        if known is not None and known <= at:
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        self._changed.notify()

    def _take(self, *, last: bool) -> str | None:
        now = self._monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) != at:
                continue  # dropped, or moved to an earlier time
            del self._due[key]
            self._running.add(key)
            return key
        return self._from_line() if last else None

    def _from_line(self) -> str | None:
        for key in self._line:
            if key not in self._running:
                self._line.remove(key)
                self._running.add(key)
                self._turns.add(key)
                if key in self._due:  # it waits for its time, too
                    self._again[key] = self._due.pop(key)
                return key
        return None

    def _pause(self) -> float:
        if not self._heap:
            return _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.001, self._heap[0][0] - self._monotonic()))
