"""Count signers: how many different authorities signed, each by a signer of its own.

A key is one authority. An identity may satisfy several, whose rules overlap; it still is one signer. So signers are
matched to authorities one to one, as many as possible: two authorities are never reached by one signer.

The next watermark is the highest sequence that `threshold` such pairs reach together: fewer than `threshold` thieves
can neither lower nor raise it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ocisync.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Vote:
    """A signature that counts: who made it, for which authority, with which sequence."""

    signer: str
    authority: str
    sequence: int = 0


def reached(votes: Iterable[Vote]) -> tuple[str, ...]:
    """The authorities of a largest matching, sorted. Does not depend on the order of votes."""
    return tuple(sorted(_match(votes)))


def next_watermark(votes: Iterable[Vote], threshold: int) -> int:
    """The highest sequence that `threshold` authorities reach together; 0 if so many did not sign."""
    known = tuple(votes)
    for sequence in sorted({vote.sequence for vote in known}, reverse=True):
        if len(_match(vote for vote in known if vote.sequence >= sequence)) >= threshold:
            return sequence
    return 0


def _match(votes: Iterable[Vote]) -> Mapping[str, str]:
    """Authority → signer, by augmenting paths."""
    signers: dict[str, set[str]] = {}
    for vote in votes:
        signers.setdefault(vote.authority, set()).add(vote.signer)
    holder: dict[str, str] = {}  # signer → authority
    for authority in sorted(signers):
        _place(authority, signers, holder, set())
    return {authority: signer for signer, authority in holder.items()}


def _place(authority: str, signers: Mapping[str, set[str]], holder: dict[str, str], tried: set[str]) -> bool:
    # As deep as there are authorities, which a policy has at most 32 of.
    for signer in sorted(signers[authority]):
        if signer in tried:
            continue
        tried.add(signer)
        if signer not in holder or _place(holder[signer], signers, holder, tried):
            holder[signer] = authority
            return True
    return False
