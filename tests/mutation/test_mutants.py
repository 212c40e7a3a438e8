"""Mutants fit the source, the documented results are theirs, and a sample is killed."""

from __future__ import annotations

import ast
import os
import random
import re

import pytest

from tests.mutation import table
from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.run import TOP, Fate, copied, replaced

SECURITY = TOP / "tests" / "security"
# Seeded by their number: each new mutant draws three others.
SAMPLE = MUTANTS if os.environ.get("OCISYNC_HEAVY") == "1" else tuple(random.Random(len(MUTANTS)).sample(MUTANTS, 3))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_check_that_a_mutant_takes_out_is_there_once(mutant: Mutant) -> None:
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        text = texts.get(edit.file) or (TOP / "ocisync" / edit.file).read_text()
        texts[edit.file] = replaced(text, edit.old, edit.new, edit.file)
        assert edit.old != edit.new
    for text in texts.values():
        ast.parse(text)


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_documented_threat_has_a_mutant() -> None:
    text = (TOP / "docs" / "trust.md").read_text()
    listed = {int(number) for number in re.findall(r"^\| T(\d+) \|", text, re.MULTILINE)}
    have = {mutant.threat for mutant in MUTANTS}
    assert have == listed


def test_the_documented_table_is_of_these_mutants_and_all_were_killed() -> None:
    expected = [table.row(Fate(mutant, "killed"))[:4] for mutant in MUTANTS]
    assert [row[:4] for row in table.rows()] == expected, "run python -m tests.mutation --write"
    tests = "\n".join(path.read_text() for path in sorted(SECURITY.glob("test_*.py")))
    missing = [row[4] for row in table.rows() if f"def {row[4].strip('`')}(" not in tests]
    assert missing == []


def test_a_sample_of_mutants_is_killed() -> None:
    with copied(SAMPLE) as copy:
        fates = [copy.judge(mutant) for mutant in SAMPLE]
    assert [(fate.mutant.name, fate.result, fate.output[-500:]) for fate in fates if fate.result != "killed"] == []
