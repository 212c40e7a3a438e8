"""Credential helpers are programs of others: bounded in time and output, and gone when they are given up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocisync.oci.helpers import HELPER_BYTES, INPUT_BYTES, HelperFailed, ask_helper
from tests.support.waiting import eventually


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}


def helper(directory: Path, script: str) -> None:
    path = directory / "docker-credential-odd"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_helper_gets_the_action_and_its_input(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, 'printf "%s:" "$1"; cat; exit 3')
    answer = ask_helper("odd", "erase", b"registry.example", environ)
    assert (answer.status, answer.output) == (3, b"erase:registry.example")


def test_an_answer_is_not_shown_in_a_repr(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, "echo hunter2")
    assert "hunter2" not in repr(ask_helper("odd", "get", b"", environ))


def test_a_helper_that_does_not_read_is_fine(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, "exec <&-; echo ok")
    assert ask_helper("odd", "get", b"x" * INPUT_BYTES, environ).output == b"ok\n"


def test_a_long_answer_is_read_whole(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, "head -c 300000 /dev/zero")
    assert len(ask_helper("odd", "get", b"", environ).output) == 300_000


def test_endless_output_is_given_up(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, "exec cat /dev/zero")
    with pytest.raises(HelperFailed, match=f"more than {HELPER_BYTES} bytes"):
        ask_helper("odd", "get", b"", environ)


def test_a_helper_that_hangs_is_killed_with_what_it_started(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    pid = ""
    for seconds in (0.5, 10.0, 60.0):  # a busy machine may not even have started it in the shorter ones
        with pytest.raises(HelperFailed, match=f"did not answer within {seconds:g} s"):
            ask_helper("odd", "get", b"", environ, seconds)
        if (tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text().strip()):
            break
    eventually(lambda: _gone(int(pid)), what="the helper's child is gone")


def test_a_program_left_running_does_not_hold_up_the_answer(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; echo ok")
    assert ask_helper("odd", "get", b"", environ, 120.0).output == b"ok\n"
    os.kill(int((tmp_path / "pid").read_text()), 9)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "-x", "a b", "a\nb", "missing"])
def test_what_is_no_program_is_not_run(name: str, environ: dict[str, str]) -> None:
    with pytest.raises(HelperFailed):
        ask_helper(name, "get", b"", environ)


def test_more_input_than_a_pipe_takes_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    helper(tmp_path, "cat")
    with pytest.raises(HelperFailed, match="bytes to give it"):
        ask_helper("odd", "store", b"x" * (INPUT_BYTES + 1), environ)


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"
