"""Signals before a command began, while it waits, and after it ended: no traceback, and the code that is true."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo

# A module that the command line needs, which sends the signal while it is imported: the hastiest Ctrl-C there is.
EARLY = "import os, signal\nos.kill(os.getpid(), signal.{name})\n"
# The signal arrives while Python ends, behind the command's last word.
LATE = """
import atexit, os, signal, sys
from ocisync.__main__ import main
atexit.register(os.kill, os.getpid(), signal.{name})
sys.argv = ["ocisync", "completion", "bash"]
main()
"""
# A command that lets something go while the signal arrives, and then waits for a Ctrl-C that was already typed.
SWALLOWED = """
import os, signal, sys, threading, types
import click
from ocisync.__main__ import main
from ocisync.cli.app import COMMANDS

class Pool:
    def __del__(self):
        signal.raise_signal(signal.{name})

@click.command()
def command():
    Pool()
    threading.Event().wait(60)
    raise SystemExit(9)

sys.modules["ocisync.cli.held"] = module = types.ModuleType("held")
module.command = command
COMMANDS["held"] = ("held", "")
sys.argv = ["ocisync", "held"]
main()
"""
NAMES = pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])


def ran(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


@NAMES
def test_a_signal_while_the_program_loads_is_one_line_and_130(name: str, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(EARLY.format(name=name))
    done = ran(["-m", "ocisync", "list", "oci-layout:gone"], PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@NAMES
def test_a_signal_after_the_last_word_changes_neither_answer_nor_code(name: str) -> None:
    done = ran(["-c", LATE.format(name=name)])
    assert (done.returncode, done.stderr) == (0, "")
    assert "_ocisync_completion" in done.stdout


@NAMES
def test_an_interrupt_that_falls_into_a_destructor_is_not_lost(name: str) -> None:
    done = ran(["-c", SWALLOWED.format(name=name)])
    assert (done.returncode, done.stdout, done.stderr.split()) == (130, "", ["interrupted"])


def test_an_interrupt_that_the_parent_ignores_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(EARLY.format(name="SIGINT") + "raise SystemExit(9)\n")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = ran(["-m", "ocisync", "list", "oci-layout:gone"], PYTHONPATH=str(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (9, "")


@NAMES
def test_nobody_waits_for_a_silent_registry_that_does_not_want_to(name: str, cli: Cli, repo: GitRepo) -> None:
    assert cli("push", str(repo.path / "deploy"), "oci-layout:out:1.0.0").exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        words = ["mirror", "copy", "oci-layout:out:1.0.0", f"oci://127.0.0.1:{silent.getsockname()[1]}/shop"]
        # The registry has an hour to answer; the command has none.
        command = [sys.executable, "-m", "ocisync", *words, "--timeout", "3600"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as running:
            try:
                asked, _ = silent.accept()
                with asked:
                    asked.recv(1)
                    running.send_signal(getattr(signal, name))
                    out, err = running.communicate(timeout=85)  # the registry's time for an answer is 90
            finally:
                running.kill()
    assert (running.returncode, out, err.split()) == (130, "", ["interrupted"])
