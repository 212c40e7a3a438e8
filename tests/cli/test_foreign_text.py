"""What artifacts, registries and repositories choose is shown, and does nothing to the terminal that shows it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ocisync.cli.status import _detail, _table
from ocisync.model.artifact import Verdict, VerdictReason, VerdictStep
from ocisync.policy.explain import render_text
from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo

HOSTILE = "\x1b[31mEVIL\x9b31m\x07\u202e\nallowed: Verified\r::set-output name=digest::x"
IMAGE = "org.opencontainers.image"


@pytest.fixture
def layout(cli: Cli, repo: GitRepo) -> str:
    """A layout whose tag `evil` has hostile annotations, a hostile referrer and a neighbour with a hostile name."""
    folder = Path("out").resolve()
    assert cli("push", str(repo.path / "deploy"), "oci-layout:out:1.0.0").exit_code == 0
    index: dict[str, Any] = json.loads((folder / "index.json").read_text())

    def put(document: object) -> dict[str, Any]:
        raw = json.dumps(document).encode()
        name = hashlib.sha256(raw).hexdigest()
        (folder / "blobs/sha256" / name).write_bytes(raw)
        media_type = "application/vnd.oci.image.manifest.v1+json"
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(raw)}

    honest = index["manifests"][0]
    manifest = json.loads((folder / "blobs/sha256" / honest["digest"][7:]).read_text())
    words = ("created", "revision", "source", "version", "title")
    manifest["annotations"] = {HOSTILE: HOSTILE} | {f"{IMAGE}.{word}": HOSTILE for word in words}
    evil = put(manifest)
    empty = {**put({}), "mediaType": "application/vnd.oci.empty.v1+json"}
    kind = "application/x" + HOSTILE
    referrer = {"schemaVersion": 2, "mediaType": evil["mediaType"], "artifactType": kind, "config": empty}
    beside = put(referrer | {"layers": [empty], "subject": evil, "annotations": {HOSTILE: HOSTILE}})
    index["manifests"] += [
        evil | {"annotations": {f"{IMAGE}.ref.name": "evil"}},
        honest | {"annotations": {f"{IMAGE}.ref.name": "evil" + HOSTILE}},
        beside | {"artifactType": kind},
    ]
    (folder / "index.json").write_text(json.dumps(index))
    return "oci-layout:out"


@pytest.mark.parametrize(
    "words",
    [
        "inspect {}:evil --files",
        "inspect {}:evil -o json",
        "inspect {}:evil -o name",
        "list {} --all --long",
        "list {} --all -o name",
        "list {} --long -o json",
        "tag {}:evil other",
        "pull {}:evil -d pulled",
        "diff {}:evil {}:1.0.0",
        "diff {}:evil {}:1.0.0 -o json",
        "verify {}:evil --as registry.example/x --key k.pub --explain",
        "verify {}:evil --as registry.example/x --key k.pub -o json",
    ],
)
def test_no_output_holds_a_control_character(cli: Cli, layout: str, words: str) -> None:
    cli("keys", "generate", "k")
    ran = cli(*words.replace("{}", layout).split())
    assert ran.exit_code in {0, 4}, ran.err
    for stream in (ran.out, ran.err):
        assert stream.replace("\n", "").isprintable()
        assert not [line for line in stream.splitlines() if line.startswith(("allowed", "::"))]


def test_the_name_of_a_file_is_no_command_of_a_ci_system(cli: Cli, repo: GitRepo) -> None:
    repo.commit({"deploy/::set-output name=digest::x.yaml": "kind: [\n"})
    checked = cli("validate", str(repo.path / "deploy"))
    pushed = cli("push", str(repo.path / "deploy"), "oci-layout:out:1")
    assert (checked.exit_code, pushed.exit_code) == (1, 1)
    for line in (checked.out + checked.err + pushed.out + pushed.err).splitlines():
        assert not line.lstrip().startswith("::"), line


def test_what_a_signature_claims_begins_no_line_of_the_explanation() -> None:
    step = VerdictStep(f"bundle {HOSTILE}", "tag", passed=False, message=f"for the tag {HOSTILE}")
    verdict = Verdict(False, VerdictReason.WRONG_TAG, HOSTILE, "p", (), 0, "", (step,), HOSTILE)
    shown = render_text(verdict)
    assert shown.replace("\n", "").isprintable()
    assert not [line for line in shown.splitlines() if line.startswith("allowed")]


def test_the_status_of_a_sync_shows_foreign_text_as_text() -> None:
    from datetime import UTC, datetime

    artifact = {"revision": HOSTILE, "digest": "sha256:1", "signers": [HOSTILE]}
    sync = {
        "metadata": {"name": "a", "namespace": "b", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {
            "source": artifact,
            "applied": artifact,
            "conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": HOSTILE}],
            "failures": [{"object": HOSTILE, "class": "x", "message": HOSTILE}],
            "history": [{"revision": HOSTILE}],
        },
    }
    now = datetime(2026, 2, 1, tzinfo=UTC)
    for text in (_table([sync], now), "\n".join(_detail(sync, now))):
        assert text.replace("\n", "").isprintable()
        assert "EVIL" in text


def test_a_pulled_layout_is_verified_with_the_command_that_is_named(cli: Cli, layout: str) -> None:
    assert "--as HOST/REPOSITORY" in cli("pull", f"{layout}:1.0.0", "-d", "pulled").err
