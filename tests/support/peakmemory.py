"""A command of ours in a process of its own, and the most memory it had.

`ru_maxrss` would also count the process that started it, as it was before it became Python; the kernel's `VmHWM`
begins anew with each program.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PROGRAM = "import sys\nfrom tests.support.peakmemory import main\nmain(sys.argv[1:])"
_ROOT = Path(__file__).parents[2]


def measured(arguments: Sequence[str], *, timeout_s: float = 1500.0) -> tuple[int, int]:
    """Exit code of `ocisync ARGUMENTS`, and its peak resident memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True, text=True, check=False, timeout=timeout_s, cwd=_ROOT,
    )  # fmt: skip
    assert done.stdout, done.stderr
    code, peak = done.stdout.split()[-2:]
    return int(code), int(peak)


def main(arguments: list[str]) -> None:
    """The measured process."""
    from ocisync.cli.app import run

    code = run(arguments)
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    sys.stdout.write(f"\n{code} {int(found.group(1)) * 1024}\n")
