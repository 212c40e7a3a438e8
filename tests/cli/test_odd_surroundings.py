"""Closed streams, foreign text and absurd numbers: one clear error or the command's own result, never a defect."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ocisync.cli import output
from ocisync.model.descriptor import OCI_EMPTY, OCI_MANIFEST, Descriptor
from ocisync.oci.client import open_store
from tests.cli.conftest import Cli
from tests.support.artifacts import artifact
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry


def shell(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; `ocisync` in it is `"$@"`."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", sys.executable, "-m", "ocisync", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def keys(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An encrypted key `e` and two plain ones, `k` and `other`."""
    for name in ("k", "other"):
        assert cli("keys", "generate", name, "-q").exit_code == 0
    with monkeypatch.context() as context:
        context.setenv("OCISYNC_KEY_PASSWORD", "x")
        assert cli("keys", "generate", "e", "-q").exit_code == 0
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("push", "-", "oci://localhost:1/a/b:1", "--revision", "r"), 2),
        (("push", ".", "oci://localhost:1/a/b:1", "--no-git", "--revision", "r", "--key", "{keys}/e.key"), 2),
        (("keys", "generate", "{keys}/new"), 0),
    ],
)
def test_a_closed_stdin_is_no_terminal(arguments: tuple[str, ...], code: int, keys: Path) -> None:
    ran = shell('"$@" <&-', *(item.format(keys=keys) for item in arguments))
    assert "defect" not in ran.stderr
    assert ran.returncode == code, ran.stderr


def test_a_closed_stdout_does_not_turn_success_into_failure(tmp_path: Path) -> None:
    ran = shell('"$@" >&-', "keys", "generate", str(tmp_path / "k"), "-q")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(("key", "code"), [("k", 0), ("other", 4)])
@pytest.mark.parametrize("form", [("-o", "json"), ("--explain",)])
def test_a_reader_that_went_away_does_not_change_a_verdict(
    form: tuple[str, ...], key: str, code: int, keys: Path, cli: Cli, repo: GitRepo, sandbox_registry: Registry
) -> None:
    target = f"oci://{sandbox_registry.host}/cli/gone:1.0.0"
    assert cli("push", str(repo.path / "deploy"), target, "--key", str(keys / "k.key")).exit_code == 0
    closed = 'exec 3> >(exec true); wait $!; "$@" >&3'
    ran = shell(closed, "verify", target, "--key", str(keys / f"{key}.pub"), *form)
    assert ran.returncode == code, ran.stderr
    assert "Broken" not in ran.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300"])
def test_a_timeout_that_no_socket_takes_is_wrong_usage(seconds: str, cli: Cli) -> None:
    ran = cli("inspect", "localhost:1/a/b:1", "--timeout", seconds)
    assert ran.exit_code == 2, ran.err
    assert "--timeout" in ran.errors[0]


@pytest.mark.parametrize("duration", ["0s", "tomorrow", "9999999999999999h", "9" * 400 + "h"])
def test_an_end_that_is_none_is_wrong_usage(duration: str, cli: Cli, repo: GitRepo) -> None:
    ran = cli("push", str(repo.path), "oci://localhost:1/a/b:1", "--expires", duration)
    assert ran.exit_code == 2, ran.err
    assert "--expires" in ran.errors[0]


def test_quiet_means_errors_only(cli: Cli, repo: GitRepo, sandbox_registry: Registry) -> None:
    ran = cli("push", str(repo.path / "deploy"), f"oci://{sandbox_registry.host}/cli/quiet:1", "-q")
    assert (ran.exit_code, ran.err) == (0, "")


def test_control_characters_of_foreign_text_never_reach_a_terminal(cli: Cli, sandbox_registry: Registry) -> None:
    built = artifact({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"})
    manifest = json.loads(built.manifest)
    manifest["annotations"]["org.opencontainers.image.source"] = "x\x1b]0;owned\x07\n::add-path::/tmp"
    raw = json.dumps(manifest).encode()
    with open_store(f"{sandbox_registry.host}/cli/hostile") as store:
        store.put_blob(built.layer_descriptor, built.layer)
        store.put_blob(built.config_descriptor, built.config)
        store.put_manifest(raw, OCI_MANIFEST, "bad")
        subject = Descriptor(OCI_MANIFEST, store.manifest("bad").descriptor.digest, len(raw))
        config = Descriptor(OCI_EMPTY, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", 2)
        store.put_blob(config, b"{}")
        referrer = {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.as_dict(), "layers": [config.as_dict()],
            "subject": subject.as_dict(), "artifactType": "x/\u009b31m",
        }  # fmt: skip
        store.put_manifest(json.dumps(referrer).encode(), OCI_MANIFEST, "referrer")
    ran = cli("inspect", f"{sandbox_registry.host}/cli/hostile:bad")
    assert ran.exit_code == 0, ran.err
    assert "\x1b" not in ran.out
    assert "\x9b" not in ran.out
    assert "\n::add-path" not in ran.out
    assert r"x\x1b]0;owned\x07\n::add-path::/tmp" in ran.out
    assert cli("inspect", f"{sandbox_registry.host}/cli/hostile:bad", "-o", "json").exit_code == 0


def test_an_error_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    output.error_text("a\n::warning::b\x1b[2J ü")
    assert capsys.readouterr().err == "error: a\\n::warning::b\\x1b[2J ü\n"


def test_a_hint_can_be_typed_as_it_is_whatever_the_key_is_called(cli: Cli) -> None:
    ran = cli("keys", "generate", "My Key_ü")
    assert ran.exit_code == 0
    assert "--sign-key 'My Key_ü.key'" in ran.err
    assert "secret generic my-key-pub --from-file='cosign.pub=My Key_ü.pub'" in ran.err
