"""Child servers of a test: started on loopback, logged to a file, stopped by their own process id.

A server never outlives the test run: it is stopped by its owner, and the kernel kills it when the
thread that started it ends without doing so. So start servers from the main thread.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.waiting import eventually

LEASH = Path(__file__).with_name("leash.py")

# Below the ports that Linux gives to outgoing connections (32768…): no client connection of this
# machine can take a port between choosing it and listening on it, or during a planned outage.
PORTS = range(20000, 32000)

_given: set[int] = set()


def free_port() -> int:
    """A loopback TCP port that nothing listens on; never the same twice in one run."""
    mine = _ports_of_worker()
    for port in random.SystemRandom().sample(mine, min(500, len(mine))):
        if port in _given:
            continue
        with socket.socket() as probe:
            # As servers do, so that connections of an earlier run in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free loopback port among 500 tried")


def _ports_of_worker() -> range:
    """A share of the ports for each worker of a run: another one's server may be about to listen, or be stopped."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(PORTS) // count
    first = int(worker.removeprefix("gw")) % count * size
    return PORTS[first : first + size]


def clean_environment(home: Path, **extra: str) -> dict[str, str]:
    """The variables a child gets: no proxies, no configuration of the person who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "TZ") if name in os.environ}
    return {**kept, "HOME": str(home), **extra}


class Server:
    """One child process. ``start`` after ``stop`` runs the same command again (an outage)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.directory = directory
        self.log = directory / f"{name}.log"
        self._environment = dict(environment) if environment is not None else clean_environment(directory)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._child is not None, f"{self.name} is not running"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (also when frozen)."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None while it runs."""
        assert self._child is not None, f"{self.name} was never started"
        return self._child.poll()

    def start(self) -> None:
        """Starts the command in a process group of its own; does not wait until it serves."""
        assert not self.running, f"{self.name} is already running"
        leashed = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.command]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                leashed,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def wait_until(self, ready: Callable[[], object], timeout_s: float, what: str = "") -> None:
        """Waits until the server answers; fails at once, with its log, when it has ended."""

        def ready_or_ended() -> bool:
            return not self.running or bool(ready())

        try:
            eventually(ready_or_ended, timeout_s=timeout_s, what=what or f"{self.name} answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None
        if not self.running:
            code = self._child.returncode if self._child is not None else None
            raise AssertionError(f"{self.name} ended with exit code {code}\n{self.log_tail()}")

    def stop(self, grace_s: float = 10.0) -> None:
        """Asks it to end and kills it after the grace time; nothing when it is not running."""
        self._end(signal.SIGTERM, grace_s)

    def kill(self) -> None:
        """Ends it without warning, as a crash does."""
        self._end(signal.SIGKILL, 60.0)

    def freeze(self) -> None:
        """Keeps it connected but silent: the outage that only time limits reveal."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines it wrote."""
        if not self.log.exists():
            return f"{self.name} wrote no log"
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join((f"--- last lines of {self.log}", *text))

    def _end(self, how: signal.Signals, grace_s: float) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGCONT)  # a frozen process cannot act on SIGTERM
        child.send_signal(how)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(60.0)
