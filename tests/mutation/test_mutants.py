"""Mutants fit the source, the documented results are theirs, and a sample is killed."""

from __future__ import annotations

import ast
import os
import random
import re

import pytest

from tests.mutation import table
from tests.mutation.__main__ import Asked, main, parse
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


def test_arguments_choose_mutants_by_name_or_threat_and_none_means_all() -> None:
    first, last = MUTANTS[0], MUTANTS[-1]
    assert parse([]).chosen == MUTANTS
    assert parse([last.name, first.name]).chosen == (first, last)
    of_threat = tuple(mutant for mutant in MUTANTS if mutant.threat == last.threat)
    assert parse(["--threat", str(last.threat), "--write"]) == Asked(of_threat, only_list=False, write=True)


def test_help_and_list_run_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "--threat N" in capsys.readouterr().out
    assert main(["--list", MUTANTS[0].name]) == 0
    assert capsys.readouterr().out == f"T{MUTANTS[0].threat:<3} {MUTANTS[0].name:24} {MUTANTS[0].without}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((MUTANTS[0].name + "x",), f"there is no mutant {MUTANTS[0].name}x; did you mean {MUTANTS[0].name}?"),
        (("--threat", "999"), "there is no mutant of threat T999; see --list"),
        (("--threads", "2"), "unrecognized arguments"),
    ],
)
def test_what_does_not_exist_is_a_usage_error_and_not_all_or_none(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_a_sample_of_mutants_is_killed() -> None:
    with copied(SAMPLE) as copy:
        fates = [copy.judge(mutant) for mutant in SAMPLE]
    assert [(fate.mutant.name, fate.result, fate.output[-500:]) for fate in fates if fate.result != "killed"] == []
