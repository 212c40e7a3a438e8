"""How many requests may be on their way to the API server, and whose turn it is.

The server says when it has enough of us: 429, and which of its priority levels that was. Then half as many requests of
that level may be on their way, and one more for each round of answers that follows (additive increase, multiplicative
decrease); a request that was refused waits by itself as long as it was told to, without holding a place.

    level      a priority level of the server, learned from its answers for each user that we act as;
               a level that is full slows nobody who is on another one
    gentle     work that nobody waits for, such as the pass after a start that changes nothing: at most eight
               requests in all, and one as long as anything else is on its way or was a moment ago
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

LEVEL_HEADER = "X-Kubernetes-PF-PriorityLevel-UID"
MOST = 64  # requests on their way in one level; beyond that only their latency grows
GENTLE_MOST = 8
_BUSY_S = 0.1  # between two requests of one piece of work
_TOO_MANY = 429
_LOOK_S = 0.05


class Level:
    """What is on its way in one priority level, and how much may be."""

    __slots__ = ("limit", "lowered_at", "running")

    def __init__(self) -> None:
        self.limit = float(MOST)
        self.running = 0
        self.lowered_at = float("-inf")

    def answered(self, status: int, sent_at: float, now: float) -> None:
        """Learn from an answer. Refusals of requests that were sent before the last decrease are no news."""
        if status != _TOO_MANY:
            self.limit = min(float(MOST), self.limit + 1.0 / self.limit)
        elif sent_at >= self.lowered_at:
            self.limit = max(1.0, self.limit / 2)
            self.lowered_at = now


class Turn:
    """One request on its way; told of its answer."""

    __slots__ = ("_pace", "_sent_at", "_user")

    def __init__(self, pace: Pace, user: str, sent_at: float) -> None:
        self._pace = pace
        self._user = user
        self._sent_at = sent_at

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Say how it ended."""
        self._pace.learn(self._user, status, headers.get(LEVEL_HEADER, ""), self._sent_at)


class Pace:
    """Gives turns. Thread-safe."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._levels: dict[str, Level] = {}
        self._level_of: dict[str, str] = {}
        self._urgent = 0  # waiting or on their way
        self._urgent_at = float("-inf")
        self._gentle = 0
        self._refused = 0

    @property
    def refused(self) -> int:
        """How often the server answered 429."""
        return self._refused

    @property
    def limits(self) -> Mapping[str, int]:
        """The present limit of each level that was lowered, by the level's uid."""
        with self._changed:
            return {uid: int(level.limit) for uid, level in self._levels.items() if level.limit < MOST}

    @contextlib.contextmanager
    def turn(self, user: str, *, gentle: bool = False, reading: bool = False) -> Iterator[Turn]:
        """Wait for a place; it is free again after the block. Reads never hold gentle work up."""
        level = self._enter(user, gentle=gentle, reading=reading)
        try:
            yield Turn(self, user, self._monotonic())
        finally:
            with self._changed:
                level.running -= 1
                if gentle:
                    self._gentle -= 1
                elif not reading:
                    self._urgent -= 1
                    self._urgent_at = self._monotonic()
                self._changed.notify_all()

    def learn(self, user: str, status: int, level_uid: str, sent_at: float) -> None:
        """Take in an answer: the level that it came from, and whether it was too much."""
        with self._changed:
            if level_uid and self._level_of.get(user) != level_uid:
                self._level_of[user] = level_uid
            self._level(user).answered(status, sent_at, self._monotonic())
            self._refused += status == _TOO_MANY

    def _enter(self, user: str, *, gentle: bool, reading: bool) -> Level:
        with self._changed:
            if not (gentle or reading):
                self._urgent += 1
            try:
                while not self._free(level := self._level(user), gentle=gentle):
                    self._changed.wait(_LOOK_S)
            except BaseException:
                if not (gentle or reading):
                    self._urgent -= 1
                raise
            level.running += 1
            self._gentle += gentle
            return level

    def _free(self, level: Level, *, gentle: bool) -> bool:
        if level.running >= max(1, int(level.limit)):
            return False
        if not gentle:
            return True
        busy = self._urgent > 0 or self._monotonic() - self._urgent_at < _BUSY_S
        return self._gentle < (1 if busy else GENTLE_MOST)

    def _level(self, user: str) -> Level:
        """The level of a user; until it is known, each user is taken for one of its own."""
        uid = self._level_of.get(user, f"user {user}")
        level = self._levels.get(uid)
        if level is None:
            level = self._levels[uid] = Level()
        return level
