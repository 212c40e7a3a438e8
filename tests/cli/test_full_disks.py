"""A disk that is full, and places that are not there: what, where, and what next."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo


def without_space(*arguments: str) -> tuple[int, str]:
    """Run a command that can make no file of more than 8 KiB: the same errors as on a full disk, without root."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, 8_192))

    done = subprocess.run(
        [sys.executable, "-B", "-m", "ocisync", *arguments],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def big(repo: GitRepo) -> str:
    repo.commit({"deploy/big.txt": os.urandom(30_000)})
    return str(repo.path / "deploy")


@pytest.mark.parametrize("place", ["out", "out.tar"])
def test_a_push_that_finds_no_space_says_where(cli: Cli, big: str, place: str) -> None:
    code, said = without_space("push", big, f"oci-layout:{place}:1.0.0")
    assert code == 1
    assert f"error: {place}: File too large" in said
    assert cli("push", big, f"oci-layout:{place}:1.0.0").exit_code == 0, "and the next one is whole"


def test_a_pull_that_finds_no_space_says_where_and_leaves_nothing(cli: Cli, big: str) -> None:
    assert cli("push", big, "oci-layout:out:1.0.0").exit_code == 0
    code, said = without_space("pull", "oci-layout:out:1.0.0", "-d", "pulled")
    assert code == 1
    assert "error: pulled: File too large" in said
    assert sorted(path.name for path in Path().iterdir()) == ["out", "repo"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_answer_that_cannot_be_written_is_an_error_that_names_stdout(cli: Cli, big: str) -> None:
    assert cli("push", big, "oci-layout:out:1.0.0").exit_code == 0
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "ocisync", "list", "oci-layout:out", "-o", "json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "error: stdout: No space left on device\n")


@pytest.mark.parametrize(
    "words", ["verify {}:1 --as a.example/b --key k.pub", "pull {}:1", "tag {}:1 x", "diff {}:1 {}:2", "inspect {}:1"]
)
def test_a_layout_that_is_not_there_is_named_as_such(cli: Cli, words: str) -> None:
    cli("keys", "generate", "k")
    ran = cli(*words.replace("{}", "oci-layout:gone").split())
    assert ran.exit_code == 5
    assert ran.errors == ["error: oci-layout:gone: there is no such layout"]
