"""Our reader against kubectl's libraries: on every committed case, and with Go on as many fresh ones as wanted."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ocisync.kit import yamlbuild
from ocisync.kit.yamlio import dump, dump_all
from tests.oracle import cases
from tests.oracle.answers import STRICTER, Answer, ask, disagreement, read, read_fixture, stricter

FRESH = 100_000 if os.environ.get("OCISYNC_HEAVY") == "1" else 3_000
ROUND = 1_500  # of each kind of generated case

Fixture = list[tuple[str, bytes, Answer]]


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    """All committed cases with their answers."""
    return read_fixture(dict(cases.all_cases()))


def test_every_committed_case_is_read_as_kubectl_reads_it(
    fixture: Fixture, record_property: Callable[[str, object], None]
) -> None:
    wrong = [f"{name}: {problem}" for name, data, answer in fixture if (problem := disagreement(data, answer))]
    assert not wrong, f"{len(wrong)} of {len(fixture)} differ:\n" + "\n".join(wrong[:20])
    rules = Counter(stricter(answer, data) for _, data, answer in fixture if answer.documents is not None)
    assert set(rules) == {*STRICTER, ""}, "each rule that makes our reader stricter has a case, and nothing else does"
    record_property("cases", len(fixture))
    record_property("stricter", sum(rules.values()) - rules[""])
    assert len(fixture) > 4_000
    assert rules[""] > 2_000, "most cases must be read, not refused by both"


def test_the_committed_cases_are_those_of_the_generator(fixture: Fixture) -> None:
    assert [(name, data) for name, data, _ in fixture] == cases.all_cases()


def test_without_libyaml_sound_documents_read_the_same(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlbuild, "EventParser", yamlbuild.PurePythonParser)
    sound = [case for case in fixture if case[0].startswith(("grown", "bool", "int", "float", "merge"))]
    wrong = [data for _, data, answer in sound if answer.documents is not None and disagreement(data, answer)]
    assert len(wrong) <= len(sound) * 0.02, wrong[:10]


@pytest.mark.real
def test_the_go_libraries_still_answer_as_committed(fixture: Fixture, yamloracle: Path) -> None:
    now = ask(yamloracle, [data for _, data, _ in fixture])
    changed = [name for (name, _, answer), fresh in zip(fixture, now, strict=True) if answer != fresh]
    assert not changed, "run `python -m tests.oracle` and look at what changed"


@pytest.mark.real
def test_fresh_cases_are_read_as_kubectl_reads_them(yamloracle: Path) -> None:
    asked = 0
    for seed in range(1, 1 + -(-FRESH // (2 * ROUND))):
        rng = random.Random(seed)
        fresh = [
            *cases.combined(rng, ROUND // 3),
            *cases.grown(rng, ROUND // 3 * 2),
            *cases.soup(rng, ROUND // 2),
            *cases.mutated(rng, ROUND // 2),
        ]
        for (_, data), answer in zip(fresh, ask(yamloracle, [data for _, data in fresh]), strict=True):
            problem = disagreement(data, answer)
            assert not problem, f"seed {seed}: {problem}"
        asked += len(fresh)
    assert asked >= FRESH * 0.8


@pytest.mark.real
def test_kubectl_reads_what_dump_writes(fixture: Fixture, yamloracle: Path) -> None:
    values = [value for _, data, _ in fixture[::5] if (value := read(data))]
    streams = [dump_all(list(value)).encode() for value in values] + [dump(value[0]).encode() for value in values]
    expected = values + [value[:1] for value in values]
    answers = ask(yamloracle, streams)
    wrong = [
        (text, answer)
        for text, answer, value in zip(streams, answers, expected, strict=True)
        if not answer.agrees(value)
    ]
    assert not wrong, wrong[:5]
