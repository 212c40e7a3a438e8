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

import threading
import time
from collections.abc import Callable, Mapping

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
    """One request on its way; told of its answer. Its place is taken when its block begins, and free again after it."""

    __slots__ = ("_gentle", "_level", "_pace", "_reading", "_sent_at", "_user")

    def __init__(self, pace: Pace, user: str, *, gentle: bool, reading: bool) -> None:
        self._pace = pace
        self._user = user
        self._gentle = gentle
        self._reading = reading

    def __enter__(self) -> Turn:
        """Wait for a place."""
        self._level, self._sent_at = self._pace.enter(self._user, gentle=self._gentle, reading=self._reading)
        return self

    def __exit__(self, *_: object) -> None:
        """Let somebody else have it."""
        self._pace.leave(self._level, gentle=self._gentle, reading=self._reading)

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
        self._waiting = 0

    @property
    def refused(self) -> int:
        """How often the server answered 429."""
        return self._refused

    @property
    def limits(self) -> Mapping[str, int]:
        """The present limit of each level that was lowered, by the level's uid."""
        with self._changed:
            return {uid: int(level.limit) for uid, level in self._levels.items() if level.limit < MOST}

    def turn(self, user: str, *, gentle: bool = False, reading: bool = False) -> Turn:
        """A turn, to be taken by a `with` block. Reads never hold gentle work up."""
        return Turn(self, user, gentle=gentle, reading=reading)

    def learn(self, user: str, status: int, level_uid: str, sent_at: float) -> None:
        """Take in an answer: the level that it came from, and whether it was too much."""
        with self._changed:
            if level_uid and self._level_of.get(user) != level_uid:
                self._level_of[user] = level_uid
            self._level(user).answered(status, sent_at, self._monotonic())
            self._refused += status == _TOO_MANY

    def enter(self, user: str, *, gentle: bool, reading: bool) -> tuple[Level, float]:
        """Wait for a place: the level that it is in, and when it was given."""
        urgent = not (gentle or reading)
        with self._changed:
            self._urgent += urgent
            try:
                while not self._free(level := self._level(user), gentle=gentle):
                    self._waiting += 1
                    try:
                        self._changed.wait(_LOOK_S)
                    finally:
                        self._waiting -= 1
            except BaseException:
                self._urgent -= urgent
                raise
            level.running += 1
            self._gentle += gentle
            return level, self._monotonic()

    def leave(self, level: Level, *, gentle: bool, reading: bool) -> None:
        """Give a place back."""
        with self._changed:
            level.running -= 1
            if gentle:
                self._gentle -= 1
            elif not reading:
                self._urgent -= 1
                self._urgent_at = self._monotonic()
            if self._waiting:
                self._changed.notify_all()

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
