"""Token buckets on a clock that is passed in: a burst at once, then one token every so often."""

from __future__ import annotations


class TokenBucket:
    """`burst` tokens, one more every `every_s` seconds. Not thread-safe: its owner locks."""

    __slots__ = ("_burst", "_every_s", "_stamp", "_tokens")

    def __init__(self, burst: int, every_s: float, now: float) -> None:
        self._burst = float(burst)
        self._every_s = every_s
        self._tokens = float(burst)
        self._stamp = now

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait_s(self, now: float) -> float:
        """Seconds until there is a token."""
        self._refill(now)
        return max(0.0, (1 - self._tokens) * self._every_s)

    def full(self, now: float) -> bool:
        """Whether nothing was taken lately."""
        self._refill(now)
        return self._tokens >= self._burst

    def _refill(self, now: float) -> None:
        # A tiny surplus keeps a token that is due exactly now from being lost to rounding.
        self._tokens = min(self._burst, self._tokens + (now - self._stamp) / self._every_s + 1e-9)
        self._stamp = now
