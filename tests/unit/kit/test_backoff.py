from __future__ import annotations

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.backoff import ceiling_s, delays, jittered


def test_pauses_double_up_to_the_cap() -> None:
    assert [ceiling_s(failed, 0.5, 5.0) for failed in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@given(st.integers(1, 10**6), st.floats(0.01, 10), st.floats(0.01, 1000))
def test_no_pause_is_longer_than_its_cap(failed: int, base_s: float, cap_s: float) -> None:
    assert 0 < ceiling_s(failed, base_s, cap_s) <= cap_s


@given(st.integers(0, 2**32))
def test_delays_lie_in_the_upper_half(seed: int) -> None:
    drawn = list(islice(delays(1.0, 8.0, random.Random(seed)), 6))
    assert all(whole / 2 <= delay <= whole for delay, whole in zip(drawn, [1, 2, 4, 8, 8, 8], strict=True))


@given(st.floats(0.1, 1000), st.integers(0, 2**32))
def test_jitter_moves_by_a_tenth_at_most(interval_s: float, seed: int) -> None:
    moved = jittered(interval_s, random.Random(seed))
    assert 0.9 * interval_s - 1e-9 <= moved <= 1.1 * interval_s + 1e-9
