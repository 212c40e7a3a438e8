"""One signer is one authority at most, whatever the rules of authorities overlap."""

from __future__ import annotations

from itertools import combinations, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.policy.counting import Vote, next_watermark, reached


def test_one_signer_never_reaches_two_authorities() -> None:
    assert reached([Vote("dev", "a"), Vote("dev", "b")]) == ("a",)


def test_a_signer_moves_to_another_authority_to_make_room() -> None:
    votes = [Vote("dev", "a"), Vote("dev", "b"), Vote("ops", "a")]
    assert reached(votes) == ("a", "b")


def test_the_watermark_is_what_enough_signers_reach_together() -> None:
    votes = [Vote("dev", "a", 9), Vote("dev", "b", 9), Vote("ops", "a", 5)]
    assert next_watermark(votes, 1) == 9
    assert next_watermark(votes, 2) == 5
    assert next_watermark(votes, 3) == 0


_votes = st.lists(
    st.builds(Vote, st.sampled_from("wxyz"), st.sampled_from("abcd"), st.integers(0, 3)), max_size=9, unique=True
)


@given(votes=_votes)
@settings(max_examples=300, deadline=None)
def test_the_count_is_the_best_that_any_assignment_reaches(votes: list[Vote]) -> None:
    edges = {(vote.signer, vote.authority) for vote in votes}
    best = max(
        size
        for size in range(5)
        for signers in combinations("wxyz", size)
        for authorities in permutations("abcd", size)
        if set(zip(signers, authorities, strict=True)) <= edges
    )
    assert len(reached(votes)) == best


@given(votes=_votes, more=_votes, data=st.data())
@settings(max_examples=200, deadline=None)
def test_order_does_not_matter_and_more_votes_never_count_less(
    votes: list[Vote], more: list[Vote], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(votes))
    assert reached(shuffled) == reached(votes)
    for threshold in range(1, 5):
        assert next_watermark(shuffled, threshold) == next_watermark(votes, threshold)
        assert next_watermark([*votes, *more], threshold) >= next_watermark(votes, threshold)
    assert len(reached([*votes, *more])) >= len(reached(votes))
