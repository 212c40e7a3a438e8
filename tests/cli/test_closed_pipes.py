"""Readers that go away: `ocisync … | head`, `ocisync … 2>&1 | head`. Nothing is said, and the exit code is the same."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ocisync.cli.app import COMMANDS
from tests.cli.conftest import Cli
from tests.support.cluster import Cluster
from tests.support.process import clean_environment

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '%s'}\n"
# Runs each command line twice, with stdout and stderr that go nowhere, then with pipes that nobody reads; tells both
# exit codes, and what Python could not flush at its end (it would turn the exit code into 120).
DRIVER = """\
import json, os, sys
from ocisync.cli.app import run
told = []
for arguments in json.loads(sys.stdin.read()):
    codes = []
    for closed in (False, True):
        if closed:
            reader, writer = os.pipe()
            os.close(reader)
        else:
            writer = os.open(os.devnull, os.O_WRONLY)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        codes.append(run(arguments))
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError as error:
            codes.append(str(error))
    told.append([arguments, codes])
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""


def both_ways(directory: Path, cases: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """The exit codes of each command line: read by somebody, and by nobody."""
    out = directory / "told.json"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(out)],
        input=json.dumps(cases),
        text=True,
        cwd=directory,
        env=clean_environment(directory, PYTHONPATH=str(Path(__file__).parents[2])),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0
    return {" ".join(arguments): codes for arguments, codes in json.loads(out.read_text())}


def unread(directory: Path, *arguments: str) -> int:
    """The exit code of the real command when nobody reads its stdout and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = clean_environment(directory, PYTHONPATH=str(Path(__file__).parents[2]))
    command = [sys.executable, "-m", "ocisync", *arguments]
    try:
        return subprocess.run(
            command, stdout=writer, stderr=writer, cwd=directory, env=environment, timeout=300, check=False
        ).returncode
    finally:
        os.close(writer)


def test_help_and_wrong_usage_of_every_command_end_as_if_somebody_read_them(tmp_path: Path) -> None:
    cases = [[], ["--help"], ["--nonsense"], ["nonsense"], ["completion", "bash"]]
    cases += [[name, flag] for name in COMMANDS for flag in ("--help", "--nonsense")]
    found = both_ways(tmp_path, cases)
    assert {line: codes for line, codes in found.items() if len(codes) != 2 or codes[0] != codes[1]} == {}
    assert {codes[0] for line, codes in found.items() if line.endswith("--help")} == {0}
    assert {codes[0] for line, codes in found.items() if line.endswith("--nonsense")} == {2}


@pytest.fixture
def where(sandbox_cluster: Cluster, tmp_path: Path, cli: Cli) -> tuple[str, ...]:
    """A namespace with a set of objects, made from `old`; `new` is another content, `bad` none at all."""
    for name, text in (("old", MAP % "1"), ("new", MAP % "2"), ("bad", "kind: [")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.yaml").write_text(text)
    namespace = f"pipes-{secrets.token_hex(4)}"
    sandbox_cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    flags = ("-n", namespace, "--kubeconfig", str(sandbox_cluster.kubeconfig))
    applied = cli("apply", "old", "--name", "shop", "--no-git", *flags)
    assert applied.exit_code == 0, applied.err
    return flags


def test_what_commands_answer_is_answered_to_nobody_with_the_same_exit_code(
    tmp_path: Path, where: tuple[str, ...]
) -> None:
    cases = {
        ("plan", "new", "--name", "shop", "--no-git", *where): 3,
        ("plan", "old", "--name", "shop", "--no-git", *where): 0,
        ("plan", "bad", "--name", "shop", "--no-git", *where): 1,
        ("plan", "nowhere/", "--name", "shop", "--no-git", *where): 2,
        ("apply", "old", "--name", "shop", "--no-git", *where): 0,
        ("apply", "bad", "--name", "shop", "--no-git", "--dry-run", *where): 1,
        ("why", "cm/settings", *where): 0,
        ("why", "cm/none", *where): 5,
        ("diff", "old", "new", "--no-git"): 3,
        ("validate", "old"): 0,
        ("validate", "bad", "-o", "json"): 1,
        ("install", "--crds-only"): 0,
        ("inspect", "oci-layout:nowhere:1"): 5,
    }
    found = both_ways(tmp_path, list(cases))
    told = {line: codes for line, codes in found.items() if len(codes) != 2 or codes[0] != codes[1]}
    assert told == {}
    wanted = {" ".join(arguments): code for arguments, code in cases.items()}
    assert {line: codes[0] for line, codes in found.items()} == wanted


def test_the_real_command_keeps_its_exit_code_to_the_end(tmp_path: Path, where: tuple[str, ...]) -> None:
    assert unread(tmp_path, "plan", "new", "--name", "shop", "--no-git", *where) == 3
    assert unread(tmp_path, "plan", "bad", "--name", "shop", "--no-git", "-v", *where) == 1
    assert unread(tmp_path, "plan", "--nonsense") == 2
