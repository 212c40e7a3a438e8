"""Whatever is wrong, the user gets one clear error, the next step, and the right exit code. Never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.process import free_port

CLOSED = f"127.0.0.1:{free_port()}"

WRONG_USAGE = [
    ("an unknown command", ("pusch",), "did you mean push"),
    ("an unknown flag", ("push", "--sing-key", "k"), "--sing-key"),
    ("nothing to push to", ("push", "."), "no reference"),
    ("no registry host", ("push", ".", "oci://shop:1.0.0"), "no repository"),
    ("a bad tag", ("push", ".", "oci://r.example/shop:-x"), "bad tag"),
    ("an upper-case repository", ("inspect", "r.example/Shop:1"), "repository name"),
    ("a digest to push to", ("push", ".", f"oci://r.example/shop@sha256:{'a' * 64}"), "digest"),
    ("two repositories in one push", ("push", ".", "oci://r.example/a:1", "oci://r.example/b:1"), "one repository"),
    ("an annotation without value", ("push", ".", "oci://r.example/a:1", "-a", "x"), "NAME=VALUE"),
    ("another scheme", ("inspect", "https://r.example/shop:1"), "scheme"),
    ("neither tag nor digest", ("inspect", "r.example/shop"), "neither a tag nor a digest"),
    ("neither key nor policy", ("verify", "r.example/shop:1"), "nothing to verify against"),
    ("key and policy", ("verify", "r.example/shop:1", "--key", "k", "--policy", "p"), "exclude each other"),
    ("a short digest", ("inspect", "r.example/shop@sha256:abc"), "bad digest"),
    ("an install without image", ("install",), "no --image"),
    ("an image that is not pinned", ("install", "--image", "r.example/ocisync:1"), "not pinned by digest"),
    (
        "a service account without namespace",
        ("install", "--crds-only", "--impersonate", "x"),
        "NAMESPACE/SERVICEACCOUNT",
    ),
    ("a namespace that is none", ("install", "--crds-only", "-n", "A_B"), "namespace"),
    ("an unknown key algorithm", ("keys", "generate", "x", "--algorithm", "dsa"), "dsa"),
    ("credentials without colon", ("inspect", f"{CLOSED}/shop:1", "--creds", "user"), "USER:PASSWORD"),
    ("an unknown output form", ("inspect", "r.example/shop:1", "-o", "xml"), "xml"),
]


@pytest.mark.parametrize(("arguments", "words"), [row[1:] for row in WRONG_USAGE], ids=[row[0] for row in WRONG_USAGE])
def test_wrong_usage_is_exit_code_2_with_one_error(arguments: tuple[str, ...], words: str, cli: Cli) -> None:
    ran = cli(*arguments)
    assert ran.exit_code == 2, ran.err
    assert len(ran.errors) == 1
    assert words in ran.errors[0]
    assert ran.out == ""


def test_an_unreachable_registry_is_exit_code_7_and_named(cli: Cli) -> None:
    ran = cli("inspect", f"{CLOSED}/shop:1", "--timeout", "1")
    assert ran.exit_code == 7
    assert len(ran.errors) == 1
    assert CLOSED in ran.errors[0]


def test_a_host_name_that_does_not_exist_is_exit_code_7(cli: Cli) -> None:
    ran = cli("inspect", "registry.invalid/shop:1", "--plain-http", "--timeout", "1")
    assert ran.exit_code == 7
    assert "registry.invalid" in ran.errors[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "r.example/shop:1", "--key", "missing.pub"),
        ("verify", "r.example/shop:1", "--policy", "missing.yaml"),
        ("keys", "show", "missing.pub"),
        ("keys", "show", "env://NOT_SET_ANYWHERE"),
        ("inspect", "r.example/shop:1", "--ca-file", "missing.pem"),
        ("push", "missing", "oci://r.example/shop:1"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_missing_file_is_exit_code_5_and_named(arguments: tuple[str, ...], cli: Cli) -> None:
    ran = cli(*arguments)
    assert ran.exit_code == 5, ran.err
    assert len(ran.errors) == 1
    assert "missing" in ran.errors[0] or "NOT_SET" in ran.errors[0]


def test_bad_yaml_is_reported_with_file_line_and_column_and_nothing_is_sent(cli: Cli, repo: GitRepo) -> None:
    repo.commit(
        {
            "deploy/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  name: b\n",
            "deploy/c.yaml": "a: [1\n",
        }
    )
    ran = cli("push", str(repo.path / "deploy"), f"oci://{CLOSED}/shop:1")
    assert ran.exit_code == 1, ran.err
    assert len(ran.errors) == 1
    assert "bad.yaml:5:3" in ran.err
    assert "c.yaml:" in ran.err


def test_a_dirty_tree_is_exit_code_4_and_names_a_file(cli: Cli, repo: GitRepo) -> None:
    repo.write({"deploy/app.yaml": "changed: true\n"})
    ran = cli("push", str(repo.path / "deploy"), f"oci://{CLOSED}/shop:1")
    assert ran.exit_code == 4, ran.err
    assert "app.yaml" in ran.err
    assert "--allow-dirty" in ran.err


def test_a_plain_secret_is_refused_without_showing_its_value(cli: Cli, repo: GitRepo) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: n}\nstringData: {pin: hunter2hunter2}\n"
    repo.commit({"deploy/s.yaml": secret})
    ran = cli("push", str(repo.path / "deploy"), f"oci://{CLOSED}/shop:1")
    assert ran.exit_code == 1
    assert "s.yaml" in ran.err
    assert "hunter2" not in ran.err + ran.out


def test_a_directory_that_is_no_repository_says_what_to_do(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    ran = cli("push", "plain", f"oci://{CLOSED}/shop:1")
    assert ran.exit_code in (1, 2, 5)
    assert len(ran.errors) == 1
    assert "--no-git" in ran.err


@pytest.mark.parametrize(
    "content",
    [b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", bytes(range(100, 200))],
)
def test_a_file_that_is_no_key_is_exit_code_1_and_named(content: bytes, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.pub").write_bytes(content)
    ran = cli("verify", f"{CLOSED}/shop:1", "--key", "bad.pub")
    assert ran.exit_code == 1, ran.err
    assert "bad.pub" in ran.errors[0]


def test_an_existing_key_is_never_overwritten(cli: Cli, tmp_path: Path) -> None:
    assert cli("keys", "generate", "k").exit_code == 0
    before = (tmp_path / "k.key").read_bytes()
    assert cli("keys", "generate", "k").exit_code == 4
    assert (tmp_path / "k.key").read_bytes() == before
    assert (tmp_path / "k.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("key_format", ["pkcs8", "cosign"])
def test_a_wrong_password_is_exit_code_1(key_format: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCISYNC_KEY_PASSWORD", "right")
    assert cli("keys", "generate", "k", "--format", key_format).exit_code == 0
    monkeypatch.setenv("OCISYNC_KEY_PASSWORD", "wrong")
    ran = cli("keys", "show", "k.key")
    assert ran.exit_code == 1
    assert "password" in ran.errors[0]
    assert "wrong password" in ran.errors[0] or "damaged" in ran.errors[0]


def test_a_kubeconfig_that_is_missing_is_one_clear_error(cli: Cli) -> None:
    ran = cli("install", "--crds-only", "--apply", "--kubeconfig", "missing.yaml")
    assert ran.exit_code in (1, 5)
    assert len(ran.errors) == 1
    assert "missing.yaml" in ran.errors[0]


def test_an_unreachable_cluster_is_exit_code_7(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "kc").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        f"clusters: [{{name: x, cluster: {{server: 'http://{CLOSED}'}}}}]\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\n"
    )
    ran = cli("install", "--crds-only", "--apply", "--kubeconfig", "kc")
    assert ran.exit_code == 7, ran.err
    assert CLOSED in ran.errors[0]


def test_a_closed_pipe_is_not_an_error() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m ocisync install --crds-only | head -1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
