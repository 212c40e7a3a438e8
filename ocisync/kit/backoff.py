"""Retry delays: exponential with jitter, pure. The random source is passed in, so tests are exact."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

_MAX_DOUBLINGS = 60  # beyond any cap, and far from what a float cannot hold


def ceiling_s(failed: int, base_s: float, cap_s: float) -> float:
    """The longest pause after `failed` failures in a row: `base · 2ⁿ⁻¹` seconds, at most `cap_s`."""
    return min(cap_s, base_s * 2.0 ** min(failed - 1, _MAX_DOUBLINGS))


def delays(base_s: float, cap_s: float, rng: random.Random) -> Iterator[float]:
    """Yield endless delays in seconds, each drawn from [half, whole] of `ceiling_s`."""
    for failed in count(1):
        whole = ceiling_s(failed, base_s, cap_s)
        yield whole / 2 + rng.random() * whole / 2


def jittered(interval_s: float, rng: random.Random, spread: float = 0.1) -> float:
    """An interval moved by at most ± `spread` of itself, so that fleets do not poll in step."""
    return interval_s * (1 + spread * (2 * rng.random() - 1))
