"""Runs command lines one after the other in this process and measures each: exit code, stderr, CPU, peak memory.

A child of `test_hostile_corpus`: reads a JSON list of cases from the file that is named first, appends a JSON line for
each to the second. A case that does not end takes much more CPU than allowed; SIGXCPU ends the process then, and its
line is missing. CPU is counted in seconds of a usual core: what takes long is put in relation to a work of known size.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import yaml

CPU_SECONDS = 5
ENDLESS_SECONDS = 60
USUAL_SECONDS = 0.05  # for the work in `slowness`


def peak_kib() -> int:
    """Most memory that this process had since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def forget_peak() -> None:
    """Begin to measure anew; where the kernel does not allow it, the peak is that of the whole run."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def slowness() -> float:
    """How much more CPU than a usual core this machine takes right now to parse a YAML list; at least 1."""
    started = time.process_time()
    for _ in yaml.parse("[" + "[]," * 50_000 + "]", Loader=yaml.CSafeLoader):
        pass
    return max(1.0, (time.process_time() - started) / USUAL_SECONDS)


def main() -> None:
    """Read the cases, write the results."""
    cases = json.loads(Path(sys.argv[1]).read_text())
    with Path(sys.argv[2]).open("a", encoding="utf-8") as results:
        run_all(cases, results)


def run_all(cases: list[dict[str, Any]], results: TextIO) -> None:
    """Run each case in its directory."""
    from ocisync.cli.app import run

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    for case in cases:
        os.chdir(case["directory"])
        out = os.open("stderr.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        forget_peak()
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + ENDLESS_SECONDS, hard))
        code = run(case["arguments"])
        cpu = time.process_time() - used
        sys.stdout.flush()
        sys.stderr.flush()
        result = {"name": case["name"], "code": code, "cpu": cpu, "peak_kib": peak_kib()}
        if cpu > 1:
            result["cpu"] = cpu / slowness()
        results.write(json.dumps({**result, "text": Path("stderr.txt").read_text(errors="replace")}) + "\n")
        results.flush()


if __name__ == "__main__":
    main()
