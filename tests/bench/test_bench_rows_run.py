"""Every row of the benchmarks runs on tiny input and gives figures. How fast is nobody's business here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.bench import report
from tests.bench.environment import Bench, Options
from tests.bench.measure import Sample
from tests.bench.report import Row
from tests.bench.rows import ROWS
from tests.support import requirements

SERVERS = ("controlplane", "olareg", "cosign")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    for name in SERVERS:
        requirements.require(name)
    started = Bench(Options(quick=True), tmp_path_factory.mktemp("bench"))
    yield started
    started.close()


@pytest.mark.real
@pytest.mark.parametrize("name", ROWS)
def test_a_row_gives_figures_with_an_anchor(bench: Bench, name: str) -> None:
    result = ROWS[name](bench)
    for row in result if isinstance(result, list) else [result]:
        answer = json.loads(json.dumps(report.as_json(row)))
        assert answer["lines"], answer
        for line in answer["lines"]:
            seconds = line["seconds"]
            assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"], line
            measured = {item["name"] for item in answer["lines"]}
            assert (line["ratio"] is not None) == (line["anchor"] in measured), line
        assert row.title in report.as_table(row)


def test_a_ratio_compares_medians() -> None:
    row = Row("r", "a row")
    anchor, ours = row.line("anchor"), row.line("ours", anchor="anchor")
    anchor.samples += [Sample(1.0, cpu_s=1.0), Sample(2.0, cpu_s=2.0), Sample(30.0, cpu_s=3.0)]
    ours.samples += [Sample(4.0, cpu_s=1.0)]
    assert row.ratios(ours) == (2.0, 0.5)
    assert row.ratios(anchor) is None


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0141, "14.1 ms"), (0.25, "250 ms"), (1.5, "1.50 s"), (12.34, "12.3 s")]
)
def test_durations_have_the_unit_that_people_would_say(seconds: float, shown: str) -> None:
    assert report.duration(seconds) == shown
