"""When to try again, and how long to wait: full jitter, the server's `Retry-After`, one bounded budget.

`RetryPlan` decides (pure); `Retrier` runs an attempt until it succeeds or the plan says no. An attempt that may be
repeated raises `Transient`; anything else ends the run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ocisync.kit.backoff import ceiling_s
from ocisync.model.errors import Unavailable
from ocisync.model.values import dataclass

T = TypeVar("T")

# 500 is not here: registries answer it for broken manifests as well, and repeating those helps nobody. Reads are
# repeated after it all the same: storage behind a registry has its moments.
RETRY_STATUSES = frozenset({408, 429, 502, 503, 504})

# What has to get through between two breaks to pay for more attempts: less, and a hostile registry keeps us for ever.
PROGRESS_BYTES = 64 * 1024


class Transient(Exception):
    """An attempt failed in a way that a repetition can cure.

    Args:
        error: what the caller gets when nothing helps.
        unreachable: nobody answered at all (refused, unknown host): repeated less, so that a typo shows soon.
    """

    def __init__(self, error: Unavailable, *, unreachable: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.unreachable = unreachable


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Limits of one operation: attempts, delays in seconds, and the whole time it may take."""

    attempts: int = 5
    attempts_unreachable: int = 3
    base_s: float = 0.5
    cap_s: float = 15.0
    retry_after_cap_s: float = 60.0
    budget_s: float = 90.0

    def delay_s(
        self,
        failed: int,
        *,
        elapsed_s: float,
        random: float,
        retry_after_s: float | None = None,
        unreachable: bool = False,
    ) -> float | None:
        """Seconds to wait after `failed` attempts; None means give up. `random` is a number in [0, 1)."""
        if failed >= (self.attempts_unreachable if unreachable else self.attempts):
            return None
        jitter = random * ceiling_s(failed, self.base_s, self.cap_s)
        if retry_after_s is not None and retry_after_s > self.retry_after_cap_s:
            return None
        delay = jitter if retry_after_s is None else retry_after_s + random
        return None if elapsed_s + delay > self.budget_s else delay


@dataclass(frozen=True, slots=True)
class Retrier:
    """Runs attempts by a plan; time and chance come from outside."""

    plan: RetryPlan
    sleep: Callable[[float], object]
    monotonic: Callable[[], float]
    random: Callable[[], float]

    def run(self, attempt: Callable[[], T], deadline: float | None = None) -> T:
        """Return the first success.

        `deadline` is a reading of `monotonic` at which no further attempt may begin.

        Raises:
            Unavailable: the last transient failure, when the plan gives up.
        """
        started = self.monotonic()
        failed = 0
        while True:
            try:
                return attempt()
            except Transient as failure:
                failed += 1
                delay = self.plan.delay_s(
                    failed,
                    elapsed_s=self.monotonic() - started,
                    random=self.random(),
                    retry_after_s=failure.error.retry_after_s,
                    unreachable=failure.unreachable,
                )
                late = delay is not None and deadline is not None and self.monotonic() + delay >= deadline
                if delay is None or late:
                    raise failure.error from failure.__cause__
            self.sleep(delay)
