"""Token buckets on a played clock."""

from __future__ import annotations

from ocisync.cluster.buckets import TokenBucket


def test_a_burst_goes_through_and_then_one_token_comes_at_a_time() -> None:
    bucket = TokenBucket(3, 10.0, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert 9.9 < bucket.wait_s(0.0) <= 10.0
    assert not bucket.take(9.0)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)


def test_a_bucket_fills_up_to_its_burst_and_no_further() -> None:
    bucket = TokenBucket(2, 1.0, 0.0)
    bucket.take(0.0)
    assert not bucket.full(0.5)
    assert bucket.full(1000.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]
