"""A seeded sample of the fuzzing, and every kept case; `python -m tests.fuzz` goes on for as long as it is told to."""

from __future__ import annotations

import os

import pytest

from tests.fuzz import corpus
from tests.fuzz.kinds import Target
from tests.fuzz.run import answer_to, run
from tests.fuzz.targets import TARGETS

CASES = 100_000 if os.environ.get("OCISYNC_HEAVY") == "1" else 600


def _sort(answer: str) -> str:
    return answer.partition(":")[0]


def _name(target: Target) -> str:
    return target.name


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("target", TARGETS, ids=_name)
def test_damaged_documents_are_read_or_refused_with_a_reason(target: Target) -> None:
    campaign = run(target, CASES * target.share // 100, seed=1)
    assert [(number, data, repr(error)) for number, data, error in campaign.defects] == []
    assert campaign.read < campaign.cases
    assert campaign.read or campaign.cases < 90, "both ways are taken"


@pytest.mark.parametrize("target", [target for target in TARGETS if target.kept], ids=_name)
def test_kept_cases_are_answered_as_before(target: Target) -> None:
    """Read, or refused: the words belong to the versions of Python and of libraries, too."""
    kept = list(corpus.read(target.name))
    assert kept
    found = [(_sort(expected), _sort(answer_to(target, data)), data) for expected, data in kept]
    assert [case for case in found if case[0] != case[1]] == [], "look at it, then python -m tests.fuzz --keep"


def test_every_case_counts_for_one_target() -> None:
    assert sum(target.share for target in TARGETS) == 100
