"""What a push leaves for the pages and later steps of a CI system."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocisync.cli import jobsummary
from ocisync.flows.publish import PublishResult
from ocisync.flows.sign import Signature
from ocisync.model.errors import Finding
from ocisync.model.evidence import SignatureFormat
from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry

RESULT = PublishResult(
    repository="registry.example/acme/shop",
    tags=("1.4.0", "production", "sha-aaaaaaaaaaaa"),
    digest="sha256:" + "1" * 64,
    content_digest="sha256:" + "2" * 64,
    revision="v1.4.0@sha1:" + "a" * 40,
    unchanged=False,
    signatures=(Signature("sha256:" + "3" * 64, SignatureFormat.BUNDLE, "sha256:" + "4" * 64, made=True),),
    warnings=(Finding("app.yaml", 7, 12, "image `web` has a | mutable tag"),),
    notes=("tag sha-aaaaaaaaaaaa has other content and is left alone",),
    objects=12,
    files=3,
    layer_bytes=4321,
)


def test_the_summary_is_as_reviewed(golden: Callable[[str, str], None]) -> None:
    golden("job-summary.md", jobsummary.markdown(RESULT))


def test_the_outputs_are_as_reviewed(golden: Callable[[str, str], None]) -> None:
    golden("job-outputs.txt", jobsummary.outputs(RESULT))


def test_foreign_text_cannot_become_another_output_or_markdown() -> None:
    from dataclasses import replace

    hostile = replace(
        RESULT,
        revision="x\ndigest=evil",
        notes=("`</code>` [click](https://evil.example) <script>\n# head",) * 30,
    )
    lines = jobsummary.outputs(hostile).splitlines()
    assert [line for line in lines if line.startswith("digest=")] == [f"digest={RESULT.digest}"]
    text = jobsummary.markdown(hostile)
    assert text.count("`") % 2 == 0
    assert all(line.startswith("- `") for line in text.splitlines() if "click" in line)
    assert "… and 11 more" in text
    assert "\n# head" not in text


@pytest.fixture
def target(sandbox_registry: Registry, tmp_path: Path) -> str:
    return f"{sandbox_registry.host}/cli/summary-{tmp_path.name[-30:].lower().strip('_-').replace('_', '-')}"


def test_a_push_appends_to_the_files_that_the_job_names(
    cli: Cli, repo: GitRepo, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    summary.write_text("earlier step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    for unchanged in (False, True):
        ran = cli("push", str(repo.path / "deploy"), f"oci://{target}:1.0.0", "-o", "json")
        assert ran.exit_code == 0, ran.err
        answer = json.loads(ran.out)
        values = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        assert values["digest"] == answer["digest"]
        assert values["reference"] == answer["reference"]
        assert values["unchanged"] == str(unchanged).lower()
    text = summary.read_text()
    assert text.startswith("earlier step\n### ocisync push: published\n")
    assert "### ocisync push: unchanged\n" in text
    assert answer["reference"] in text


@pytest.mark.parametrize("kind", ["directory", "missing parent", "pipe"])
def test_a_summary_that_cannot_be_written_does_not_fail_the_push(
    cli: Cli, repo: GitRepo, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = tmp_path / "place"
    if kind == "directory":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place = place / "no" / "such"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place))
    ran = cli("push", str(repo.path / "deploy"), f"oci://{target}:1.0.0")
    assert ran.exit_code == 0, ran.err
    assert "GITHUB_STEP_SUMMARY: cannot write" in ran.err


def test_without_a_job_nothing_is_written(cli: Cli, repo: GitRepo, target: str, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert cli("push", str(repo.path / "deploy"), f"oci://{target}:1.0.0").exit_code == 0
    assert set(tmp_path.iterdir()) == before
