"""`--sign-key exec:PROGRAM?KEY`: the same commands with a key that never enters the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry
from tests.support.signingprogram import honest, script


@pytest.fixture
def key(cli: Cli, tmp_path: Path) -> str:
    """What to type for a key that only a program has; its public half is k.pub."""
    assert cli("keys", "generate", "k").exit_code == 0
    hidden = tmp_path / "vault"
    hidden.mkdir()
    (tmp_path / "k.key").rename(hidden / "k.key")
    return f"exec:{honest(tmp_path)}?{hidden / 'k.key'}"


def test_push_signs_in_both_forms_and_sign_adds_a_tag(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, key: str, tmp_path: Path
) -> None:
    target = f"oci://{sandbox_registry.host}/cli/{tmp_path.name[-40:].strip('-_')}"
    pushed = cli(
        "push", str(repo.path / "deploy"), f"{target}:1.0.0", "--sign-key", key, "--legacy-signature", "-o", "json"
    )
    assert pushed.exit_code == 0, pushed.err
    answer = json.loads(pushed.out)
    assert [item["format"] for item in answer["signatures"]] == ["Bundle", "Legacy"]
    again = cli("push", str(repo.path / "deploy"), f"{target}:1.0.0", "--sign-key", key, "--legacy-signature")
    assert "unchanged" in again.out
    assert cli("verify", f"{target}:1.0.0", "--key", "k.pub").exit_code == 0
    promoted = cli("tag", f"{target}@{answer['digest']}", "production", "--sign-key", key, "--key", "k.pub")
    assert promoted.exit_code == 0, promoted.err
    assert cli("verify", f"{target}:production", "--key", "k.pub").exit_code == 0


def test_keys_show_prints_the_programs_public_key(cli: Cli, key: str, tmp_path: Path) -> None:
    shown = cli("keys", "show", key, "-o", "json")
    assert json.loads(shown.out)["pem"] == (tmp_path / "k.pub").read_text()


def test_verifying_takes_no_program(cli: Cli, key: str) -> None:
    ran = cli("verify", "oci://registry.example/shop:1.0.0", "--key", key)
    assert ran.exit_code == 2
    assert "ocisync keys show" in ran.err


def test_a_program_that_fails_ends_the_push_before_anything_is_tagged(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, tmp_path: Path
) -> None:
    program = script(tmp_path, "echo permission denied on alias/release >&2; exit 1")
    target = f"oci://{sandbox_registry.host}/cli/{tmp_path.name[-40:].strip('-_')}"
    ran = cli("push", str(repo.path / "deploy"), f"{target}:1.0.0", "--sign-key", f"exec:{program}?alias/release")
    assert ran.exit_code == 1
    assert "kms public-key failed with exit code 1: permission denied on alias/release" in ran.err
    assert cli("verify", f"{target}:1.0.0", "--key", "x.pub").exit_code == 5


def test_mirror_files_and_receipts_are_signed_by_programs(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, key: str, tmp_path: Path
) -> None:
    target = f"oci://{sandbox_registry.host}/cli/{tmp_path.name[-40:].strip('-_')}"
    assert cli("push", str(repo.path / "deploy"), f"{target}:1.0.0", "--sign-key", key).exit_code == 0
    saved = cli("mirror", "save", f"{target}:1.0.0", "-o", "x.tar", "--sign-key", key)
    assert saved.exit_code == 0, saved.err
    assert cli("mirror", "verify", "x.tar", "--sender-key", "k.pub").exit_code == 0
    receipt = ("--receipt", "r.json", "--sign-key", key)
    loaded = cli("mirror", "load", "x.tar", f"{target}-far", "--sender-key", "k.pub", *receipt)
    assert loaded.exit_code == 0, loaded.err
    delta = cli("mirror", "save", f"{target}:1.0.0", "-o", "y.tar", "--since", "r.json", "--since-key", "k.pub")
    assert delta.exit_code == 0, delta.err
    twice = cli("mirror", "save", f"{target}:1.0.0", "-o", "z.tar", "--sign-key", key, "--sign-key", key)
    assert (twice.exit_code, "names one key twice" in twice.err) == (1, True)
