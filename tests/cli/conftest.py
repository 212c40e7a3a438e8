"""Runs the command line in this process, as a user sees it: exit code, stdout, stderr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocisync.cli.app import run
from tests.support.gitrepo import GitRepo

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Ran:
    """What came of one command."""

    exit_code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that begin with `error:`."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run one command line in an empty directory; `stdin` is never a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")

    def call(*arguments: str) -> Ran:
        capfd.readouterr()
        code = run([str(item) for item in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def golden(update_golden: bool) -> Callable[[str, str], None]:
    """Compare a text with a file of `golden/`; `pytest --update-golden` writes it."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if update_golden:
            file.write_text(text)
        assert text == file.read_text(), f"{name} differs: look at it, then run pytest --update-golden"

    return compare


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """A Git repository with one committed manifest."""
    made = GitRepo(tmp_path / "repo")
    made.commit({"deploy/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\n"})
    return made
