"""A command of ours in a process of its own, and the most memory it had.

`ru_maxrss` would also count the process that started it, as it was before it became Python; the kernel's `VmHWM`
begins anew with each program.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

_PROGRAM = "import sys\nfrom tests.support.peakmemory import main\nmain(sys.argv[1:])"
_ROOT = Path(__file__).parents[2]


def measured(
    arguments: Sequence[str], *, timeout_s: float = 1500.0, stdin: Path | None = None, stdout: Path | None = None
) -> tuple[int, int]:
    """Exit code of `ocisync ARGUMENTS`, and its peak resident memory in bytes.

    Args:
        arguments: the command line.
        timeout_s: how long it may take.
        stdin: a file that comes through a pipe.
        stdout: where its output goes, through a pipe too.
    """
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        result = Path(directory) / "result"
        source = stack.enter_context(_piped(["cat", str(stdin)])) if stdin is not None else subprocess.DEVNULL
        sink = stack.enter_context(stdout.open("wb")) if stdout is not None else subprocess.DEVNULL
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(result), *arguments],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=_ROOT,
            )
        )
        assert process.stdout is not None
        passing = stack.enter_context(subprocess.Popen(["cat"], stdin=process.stdout, stdout=sink))
        process.stdout.close()
        process.stdout = None
        _, told = process.communicate(timeout=timeout_s)
        passing.wait(timeout_s)
        assert result.exists(), told.decode()
        code, peak = result.read_text().split()
    return int(code), int(peak)


@contextmanager
def _piped(command: Sequence[str]) -> Iterator[IO[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout


def main(arguments: list[str]) -> None:
    """The measured process: where the result goes, then the command."""
    from ocisync.cli.app import run

    result, *command = arguments
    code = run(command)
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    Path(result).write_text(f"{code} {int(found.group(1)) * 1024}\n")
