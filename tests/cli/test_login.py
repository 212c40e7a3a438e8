"""`ocisync login` and `logout`: tried before they are kept, never on the command line, shared with docker."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.cli.conftest import Cli
from tests.support.images import push_image, quick

SECRET = "correct horse battery"


@pytest.fixture(params=["basic", "bearer"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(auth=Auth({"ci": Account(SECRET)}, scheme=request.param)) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes on stdin."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


def test_a_login_is_kept_and_used_by_the_next_command(
    cli: Cli, sandbox: Sandbox, config: Path, typed: Callable[[bytes], None]
) -> None:
    typed(SECRET.encode() + b"\n")
    ran = cli("login", sandbox.address, "-u", "ci", "--password-stdin", "-o", "json")
    assert (ran.exit_code, json.loads(ran.out)["checked"]) == (0, True)
    assert config.stat().st_mode & 0o777 == 0o600
    assert SECRET not in ran.out + ran.err
    from ocisync.oci.client import open_store

    with open_store(f"{sandbox.address}/shop/config", quick(environ={"DOCKER_CONFIG": str(config.parent)})) as store:
        push_image(store, "v1")
    assert cli("inspect", f"{sandbox.address}/shop/config:v2").exit_code == 5  # allowed to look, nothing there

    assert cli("logout", sandbox.address).out == f"logged out of {sandbox.address}\n"
    assert cli("inspect", f"{sandbox.address}/shop/config:v2").exit_code == 6
    again = cli("logout", f"oci://{sandbox.address}/")
    assert (again.exit_code, again.out) == (0, f"{config} holds no login for {sandbox.address}\n")


def test_a_wrong_password_is_exit_code_6_and_nothing_is_kept(
    cli: Cli, sandbox: Sandbox, config: Path, typed: Callable[[bytes], None]
) -> None:
    typed(b"wrong-password")
    ran = cli("login", sandbox.address, "-u", "ci", "--password-stdin")
    assert ran.exit_code == 6
    assert "nothing was kept" in ran.err
    assert "wrong-password" not in ran.out + ran.err
    assert not config.exists()


def test_a_registry_that_is_not_there_is_exit_code_7(cli: Cli, config: Path, typed: Callable[[bytes], None]) -> None:
    typed(b"secret")
    assert cli("login", "127.0.0.1:1", "-u", "ci", "--password-stdin", "-q").exit_code == 7
    assert not config.exists()


def test_a_login_that_nobody_asked_for_is_kept_with_a_warning(
    cli: Cli, config: Path, typed: Callable[[bytes], None]
) -> None:
    typed(b"secret")
    with Sandbox() as open_registry:
        ran = cli("login", open_registry.address, "-u", "ci", "--password-stdin")
    assert ran.exit_code == 0
    assert "kept untried" in ran.err
    assert config.exists()


@pytest.mark.parametrize(
    "host", ["", "registry.example/shop", "https://registry.example", "shop", "registry.example@x", "a b", "-x:y"]
)
def test_what_is_no_host_is_a_usage_error(cli: Cli, host: str, config: Path) -> None:
    assert cli("login", "-u", "ci", "--password-stdin", "--", host).exit_code == 2
    assert cli("logout", "--", host).exit_code == 2


@pytest.mark.parametrize("secret", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 20_000, b"nul\0"])
def test_what_is_no_password_is_a_usage_error(
    cli: Cli, secret: bytes, typed: Callable[[bytes], None], config: Path
) -> None:
    typed(secret)
    assert cli("login", "registry.example", "-u", "ci", "--password-stdin").exit_code == 2


def test_without_a_terminal_both_flags_are_needed(cli: Cli, typed: Callable[[bytes], None]) -> None:
    typed(b"secret")
    ran = cli("login", "registry.example", "-u", "ci")
    assert ran.exit_code == 2
    assert "--password-stdin" in ran.err


def test_there_is_no_password_flag(cli: Cli) -> None:
    assert cli("login", "registry.example", "-u", "ci", "--password", "x").exit_code == 2


def test_the_config_that_a_flag_names_is_made_and_is_the_only_one(
    cli: Cli, sandbox: Sandbox, config: Path, tmp_path: Path, typed: Callable[[bytes], None]
) -> None:
    typed(SECRET.encode())
    mine = tmp_path / "mine.json"
    assert cli("login", sandbox.address, "-u", "ci", "--password-stdin", "--registry-config", mine).exit_code == 0
    assert not config.exists()
    reference = f"{sandbox.address}/shop/config:v2"
    assert cli("inspect", reference, "--registry-config", mine).exit_code == 5
    assert cli("inspect", reference).exit_code == 6
    assert cli("logout", sandbox.address, "--registry-config", mine).exit_code == 0
    assert json.loads(mine.read_text()) == {"auths": {}}


def test_a_login_that_remains_elsewhere_is_named(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCISYNC_REGISTRY_USERNAME", "ci")
    monkeypatch.setenv("OCISYNC_REGISTRY_PASSWORD", SECRET)
    ran = cli("logout", "registry.example")
    assert ran.exit_code == 0
    assert "another login for registry.example remains" in ran.err


def test_processes_that_log_in_at_once_keep_all_logins(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    script = """
import pathlib, sys
from ocisync.oci.credentials import Credential
from ocisync.oci.logins import store_login
for number in range(10):
    store_login(pathlib.Path(sys.argv[1]), f"r{sys.argv[2]}-{number}.example", Credential("u", "p"), {})
"""
    running = [subprocess.Popen([sys.executable, "-c", script, str(file), str(number)]) for number in range(4)]
    assert [process.wait(240) for process in running] == [0, 0, 0, 0]
    assert len(json.loads(file.read_text())["auths"]) == 40
