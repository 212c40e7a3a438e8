"""Retry delays: exponential with full jitter, pure. The random source is passed in, so tests are exact."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(base_s: float, cap_s: float, rng: random.Random) -> Iterator[float]:
    """Yield endless delays in seconds, each drawn from [half, whole] of `base · 2ⁿ`, at most `cap_s`."""
    whole = base_s
    while True:
        yield whole / 2 + rng.random() * whole / 2
        whole = min(whole * 2, cap_s)


def jittered(interval_s: float, rng: random.Random, spread: float = 0.1) -> float:
    """An interval moved by at most ± `spread` of itself, so that fleets do not poll in step."""
    return interval_s * (1 + spread * (2 * rng.random() - 1))
