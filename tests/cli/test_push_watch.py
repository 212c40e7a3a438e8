"""`ocisync push --watch` as a process: real files, a real registry, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocisync.cli import pushwatch
from ocisync.oci.client import open_store
from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.process import clean_environment
from tests.support.registries import Registry
from tests.support.sandboxes import CHECKOUT
from tests.support.waiting import eventually

LONG_S = 120.0
OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\n"


class Watching:
    """One `push --watch` with JSON lines on stdout."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.out, self.err = home / "out.log", home / "err.log"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ocisync", "push", *arguments, "--watch", "-o", "json"],
                env=clean_environment(home, PYTHONPATH=str(CHECKOUT)),
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def cycles(self) -> list[dict[str, Any]]:
        whole = self.out.read_text().rpartition("\n")[0]  # a line may be seen while it is written
        return [json.loads(line) for line in whole.splitlines()]

    def wait(self, count: int) -> dict[str, Any]:
        """The cycle with this number, from 1."""
        is_there = lambda: len(self.cycles()) >= count or self.process.poll() is not None  # noqa: E731
        eventually(is_there, what=f"cycle {count}", timeout_s=LONG_S)
        assert self.process.poll() is None, self.err.read_text()
        return self.cycles()[count - 1]

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=LONG_S)

    def save(self, path: Path, text: str) -> None:
        """A save that is one change: what is written in place has been empty for a moment."""
        (self.home / "saved").write_text(text)
        (self.home / "saved").replace(path)


@pytest.fixture
def target(sandbox_registry: Registry, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")
    return f"{sandbox_registry.host}/watch/{name[:60].strip('-')}"


@pytest.fixture
def watching(repo: GitRepo, target: str, tmp_path: Path) -> Iterator[Watching]:
    home = tmp_path / "home"
    home.mkdir()
    started = Watching(home, str(repo.path / "deploy"), f"{target}:dev")
    started.wait(1)
    yield started
    if started.process.poll() is None:
        started.stop()


def test_each_save_is_pushed_and_signed_with_the_development_key(
    watching: Watching, repo: GitRepo, target: str, cli: Cli
) -> None:
    clean = watching.wait(1)
    assert clean["revision"] == f"main@sha1:{repo.git('rev-parse', 'HEAD')}"
    watching.save(repo.path / "deploy/app.yaml", OBJECT % "saved")
    dirty = watching.wait(2)
    assert dirty["revision"] == clean["revision"] + "-dirty"
    assert dirty["digest"] != clean["digest"]
    assert open_store(f"{target}:dev").resolve("dev").digest == dirty["digest"]  # type: ignore[union-attr]
    key = watching.home / ".local/state/ocisync/development"
    assert key.with_suffix(".key").stat().st_mode & 0o777 == 0o600
    assert cli("verify", f"{target}:dev", "--key", str(key.with_suffix(".pub"))).exit_code == 0
    assert "only development clusters may trust it" in watching.err.read_text()


def test_a_burst_of_fifty_saves_is_one_push_or_two(watching: Watching, repo: GitRepo, target: str) -> None:
    watching.process.send_signal(signal.SIGSTOP)  # however long the saves take here, there they are a burst
    repo.write({f"deploy/{number}.yaml": OBJECT % f"n{number}" for number in range(50)})
    watching.process.send_signal(signal.SIGCONT)
    eventually(lambda: _objects(watching) == 51, what="all saves are pushed", timeout_s=LONG_S)
    assert len(watching.cycles()) in {2, 3}, watching.out.read_text()


def _objects(watching: Watching) -> int:
    digest = watching.cycles()[-1].get("reference", "")
    if not digest:
        return 0
    from ocisync.flows.fetch import look

    repository, _, name = digest.partition("@")
    with open_store(repository) as store:
        return len(look(store, name).files)


def test_findings_are_shown_and_the_next_save_is_the_next_try(watching: Watching, repo: GitRepo) -> None:
    watching.save(repo.path / "deploy/app.yaml", "a: {")
    broken = watching.wait(2)
    assert broken["findings"][0].startswith("app.yaml:")
    assert "error: app.yaml:" in watching.err.read_text()
    watching.save(repo.path / "deploy/app.yaml", OBJECT % "mended")
    assert watching.wait(3)["digest"].startswith("sha256:")


def test_a_directory_that_is_deleted_is_waited_for(watching: Watching, repo: GitRepo) -> None:
    shutil.rmtree(repo.path / "deploy")
    assert "error" in watching.wait(2)
    repo.write({"deploy/back.yaml": OBJECT % "back"})
    is_back = lambda: "digest" in watching.cycles()[-1] and len(watching.cycles()) > 2  # noqa: E731
    eventually(is_back, what="it is pushed again", timeout_s=LONG_S)


def test_a_loop_of_links_is_a_finding_and_no_end(watching: Watching, repo: GitRepo) -> None:
    (repo.path / "deploy" / "loop").symlink_to(".")
    refused = watching.wait(2)
    assert "loop" in refused["error"]
    (repo.path / "deploy" / "loop").unlink()
    assert watching.wait(3)["unchanged"] is True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_130(how: signal.Signals, watching: Watching) -> None:
    assert watching.stop(how) == 130
    assert watching.err.read_text().endswith("interrupted\n")
    assert "Traceback" not in watching.err.read_text()


def test_an_outage_of_the_registry_ends_nothing_and_needs_no_save(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.sandboxes import SandboxRegistry

    own = SandboxRegistry(Path(sys.executable), tmp_path / "own")
    (tmp_path / "own").mkdir(exist_ok=True)
    own.start()
    home = tmp_path / "home"
    home.mkdir()
    watching = Watching(home, str(repo.path / "deploy"), f"{own.host}/watch/outage:dev", "--timeout", "20")
    try:
        watching.wait(1)
        own.stop()
        watching.save(repo.path / "deploy/app.yaml", OBJECT % "during")
        assert "error" in watching.wait(2)
        own.start()
        eventually(lambda: "digest" in watching.cycles()[-1], what="pushed after the outage", timeout_s=LONG_S)
    finally:
        watching.stop()
        own.stop()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{repo}", "{target}:1.0.0", "--watch"), 2, "is a version, which never moves"),
        (("{repo}", "{target}", "--watch"), 2, "needs a tag that may move"),
        (("-", "{target}:dev", "--watch"), 2, "neither stdin nor a commit"),
        (("{repo}", "{target}:dev", "--watch", "--rev", "HEAD~1"), 2, "neither stdin nor a commit"),
        (("{repo}/nowhere", "{target}:dev", "--watch"), 5, "no directory"),
        (("{repo}", "{target}:dev", "--watch", "--sign-key", "k.key"), 4, "--sign-each-save"),
        (("{repo}", "{target}:dev", "--watch", "--reconcile", "shop"), 2, "is not NAMESPACE/NAME"),
        (("{repo}", "{target}:dev", "--reconcile", "apps/shop"), 2, "belongs to --watch"),
        (("{repo}", "{target}:dev", "--sign-each-save"), 2, "belongs to --watch"),
    ],
)
def test_what_watching_cannot_do_is_said_at_once(
    arguments: tuple[str, ...], code: int, words: str, cli: Cli, repo: GitRepo, target: str
) -> None:
    ran = cli("push", *(text.format(repo=repo.path, target=target) for text in arguments))
    assert ran.exit_code == code, ran.err
    assert words in ran.err


def test_a_development_key_that_others_can_read_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, repo: GitRepo, target: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = pushwatch.development_key(quiet=True)
    assert pushwatch.development_key(quiet=True).fingerprint == made.fingerprint
    (tmp_path / "ocisync" / "development.key").chmod(0o644)
    ran = cli("push", str(repo.path / "deploy"), f"{target}:dev", "--watch")
    assert ran.exit_code == 4
    assert "can be read by other users" in ran.err


def test_a_relative_state_directory_is_ignored() -> None:
    home = os.environ["HOME"]
    assert pushwatch.state_directory({"XDG_STATE_HOME": "state", "HOME": home}) == Path(home, ".local/state/ocisync")
