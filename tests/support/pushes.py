"""Pushes as processes of their own: the real command line, killed for real.

One process imports the command line; each push is a fork of it, so that hundreds of them cost little. A push has a
directory for what it prints, and nothing of the environment of the person who runs the tests.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tests
from tests.support.gitrepo import GIT_ENVIRONMENT

# Variables of a push that is to end early: bytes that a file may have, and whether the kernel then kills; `N:PREFIX`.
FILE_BYTES, FILE_BYTES_KILL, FILE_USE = "OCISYNC_TEST_FILE_BYTES", "OCISYNC_TEST_KILL", "OCISYNC_TEST_FILE_USE"
CHECKOUT = Path(tests.__file__).resolve().parents[1]
# What a push imports. None of it starts a thread, so a fork is a whole process.
PRELOADED = (
    "ocisync.cli.push",
    "ocisync.cli.registry",
    "ocisync.flows.publish",
    "ocisync.oci.transport",
    "ocisync.oci.connections",
    "oras.provider",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.serialization",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a push ended. A negative code is the signal that ended it."""

    exit_code: int
    out: str
    err: str


class PushServer:
    """The process that pushes are forks of. A context manager."""

    def __enter__(self) -> PushServer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.pushes"], cwd=CHECKOUT, stdin=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def start(self, arguments: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None) -> Push:
        """Begin `ocisync ARGUMENTS`."""
        directory.mkdir(parents=True, exist_ok=True)
        os.mkfifo(directory / "status")
        given = {**GIT_ENVIRONMENT, **(environ or {})}
        assert self._process.stdin is not None
        print(json.dumps([list(arguments), str(directory), given]), file=self._process.stdin, flush=True)
        return Push(directory)

    def run(self, arguments: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None) -> Ended:
        """Run it to its end."""
        return self.start(arguments, directory, environ).wait()


class Push:
    """One `ocisync …` process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._status = (directory / "status").open()
        self._pid = int(self._status.readline())

    def kill(self) -> None:
        """End it at once, as a lost machine does."""
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> Ended:
        """Wait until it has ended."""
        with self._status:
            code = int(self._status.readline())
        return Ended(code, *((self._directory / name).read_text() for name in ("out", "err")))


def _watch(arguments: list[str], directory: Path, environ: Mapping[str, str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with (directory / "status").open("w") as status:
        child = os.fork()
        if child == 0:
            _run(arguments, directory, environ)
        print(child, file=status, flush=True)
        _, ended = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(ended), file=status, flush=True)
    os._exit(0)


def _run(arguments: list[str], directory: Path, environ: Mapping[str, str]) -> None:
    code = 70
    try:
        for descriptor, name in ((0, os.devnull), (1, directory / "out"), (2, directory / "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        os.environ.clear()
        os.environ.update(environ)
        _arm(environ)
        from ocisync.cli.app import run

        code = run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _arm(environ: Mapping[str, str]) -> None:
    """Let the kernel end this process at a byte of any file that it writes, or end it at the n-th use of a file.

    Python ignores the kernel's signal, and gets an error instead: without `FILE_BYTES_KILL` that is a full disk.
    """
    size, operation = environ.get(FILE_BYTES, ""), environ.get(FILE_USE, "")
    if size:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
        if environ.get(FILE_BYTES_KILL):
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if operation:
        number, _, below = operation.partition(":")
        left = int(number)

        def hook(event: str, details: tuple[object, ...]) -> None:
            nonlocal left
            used = event in ("open", "os.rename", "os.remove") and details and str(details[0]).startswith(below)
            left -= bool(used)
            if used and left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)


def main() -> None:
    """Fork once for each line of stdin."""
    import importlib

    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    for line in iter(sys.stdin.readline, ""):
        arguments, directory, environ = json.loads(line)
        if os.fork() == 0:
            _watch(arguments, Path(directory), environ)


if __name__ == "__main__":
    main()
