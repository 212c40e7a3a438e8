"""Publishing and signing a commit, beside what Flux and cosign need for the same."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import inputs, measure
from tests.bench.environment import Bench
from tests.bench.measure import Sample
from tests.bench.report import Row
from tests.servers import build

TITLE = "push and sign a commit"
_PAIR = "flux-like push + cosign sign"


def run(bench: Bench) -> list[Row]:
    """One row for each number of files."""
    return [_row(bench, count) for count in bench.options.sizes(1_000, 10_000)]


def _row(bench: Bench, count: int) -> Row:
    row = Row(f"push-{count}", f"{TITLE}, {count:,} files (validated only by ocisync)")
    repo = inputs.repository(bench.fresh("push"), count)
    flux = build.find("fluxpush")
    parts = row.line("flux-like push"), row.line("cosign sign --key")
    pair = row.line(_PAIR)
    goal = "≤ 1.0 ×" if count <= 1_000 else "≤ 2.5 ×"
    ours = row.line("ocisync push --sign-key", anchor=_PAIR, goal=goal)
    again = row.line("ocisync push --sign-key, unchanged", anchor=_PAIR, goal="≤ 500 ms")
    if flux is None:
        row.notes.append(f"Without the anchor: fluxpush is missing, {build.how_to_get('fluxpush')}.")

    def once(number: int) -> None:
        if flux is not None:
            pushed, signed = _anchor(bench, flux, repo.path)
            parts[0].samples.append(pushed)
            parts[1].samples.append(signed)
            pair.samples.append(pushed + signed)
        repository = bench.repository()
        for line, unchanged in ((ours, False), (again, True)):
            sample, answer = _push(bench, repo.path, repository)
            assert json.loads(answer)["unchanged"] is unchanged, answer
            line.samples.append(sample)

    bench.repeat(once)
    return row


def _anchor(bench: Bench, flux: Path, directory: Path) -> tuple[Sample, Sample]:
    repository = bench.repository()
    command = [str(flux), f"oci://{repository}:production", str(directory), "main@sha1:" + "0" * 40]
    pushed, digest = measure.command(command, bench.home, bench.environment)
    signing = bench.cosign.directory / "signing-config.json"
    sign = [
        str(build.find("cosign")), "sign", "--yes", "--key", str(bench.key.private),
        "--signing-config", str(signing), f"{repository}@{digest.strip().rpartition('@')[2]}",
    ]  # fmt: skip
    return pushed, measure.command(sign, bench.home, bench.environment)[0]


def _push(bench: Bench, directory: Path, repository: str) -> tuple[Sample, str]:
    command = [
        str(bench.installed.ocisync), "push", str(directory), f"oci://{repository}:production",
        "--sign-key", str(bench.key.private), "-o", "json",
    ]  # fmt: skip
    return measure.command(command, bench.home, bench.environment)
