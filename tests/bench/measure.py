"""What something cost: wall time, processor time, peak memory, requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

TIMED = Path(__file__).with_name("timed.py")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. None: not measured."""

    seconds: float
    cpu_s: float | None = None
    peak_rss_mib: float | None = None
    requests: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Sample) -> Sample:
        """One thing after the other."""
        return Sample(
            self.seconds + other.seconds,
            None if self.cpu_s is None or other.cpu_s is None else self.cpu_s + other.cpu_s,
            max((rss for rss in (self.peak_rss_mib, other.peak_rss_mib) if rss is not None), default=None),
        )


class CommandFailedError(Exception):
    """A measured command ended with an error; the message has what it wrote."""


def command(
    arguments: Sequence[str], directory: Path, environment: Mapping[str, str], timeout_s: float = 600.0
) -> tuple[Sample, str]:
    """Runs a command; its cost and its standard output.

    Raises:
        CommandFailedError: It ended with an error.
    """
    result = directory / f"timed-{os.getpid()}.json"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(TIMED), str(result), *arguments],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        shown = " ".join(arguments)
        raise CommandFailedError(f"{shown} → {done.returncode}: {done.stderr[-2000:]}{done.stdout[-500:]}")
    measured = json.loads(result.read_text())
    return Sample(measured["seconds"], measured["cpu_s"], measured["peak_rss_mib"]), done.stdout


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Seconds of a block, appended to the list when it ends."""
    seconds: list[float] = []
    started = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - started)


class Process:
    """A running process, looked at from outside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_s(self) -> float:
        """Processor seconds since its start, all threads."""
        # After the name in parentheses, which may hold spaces: fields 14 and 15 of proc(5), counted from 3.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mib(self) -> float:
        """Resident memory now."""
        return self._status("VmRSS")

    def peak_rss_mib(self) -> float:
        """The most resident memory since its start, or since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Begin a new peak at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(f"process {self.pid} has no {name}")


def with_requests(sample: Sample, requests: Mapping[str, int]) -> Sample:
    """The sample, with what a server was asked meanwhile."""
    return replace(sample, requests=dict(requests))
