"""Every malformed or hostile input gets one clear error: no traceback, no more than 256 MB, no more than 5 s of CPU.

`hostile.runner` tells which seconds are meant.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.security.hostile import GROUPS, runner
from tests.security.hostile.common import Case
from tests.support.process import clean_environment

PEAK_MIB = 256
_PLACE = re.compile(r"error: a\.yaml:\d+:\d+: ")
AT_LEAST = 300


@pytest.mark.parametrize("group", GROUPS)
def test_each_hostile_input_is_one_error_within_bounds(
    group: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    cases = list(GROUPS[group]())
    assert len({case.name for case in cases}) == len(cases), "names are unique"
    results = run_all(cases, tmp_path)
    wrong = [f"{case.name}: {problem}" for case in cases if (problem := fault(case, results.get(case.name)))]
    measured = list(results.values())
    record_property("cases", len(cases))
    record_property("peak MiB", max(item["peak_kib"] for item in measured) >> 10)
    record_property("CPU s", round(max(item["cpu"] for item in measured), 1))
    print(f"{group}: {len(cases)} inputs, peak {max(item['peak_kib'] for item in measured) >> 10} MiB,", end=" ")
    print(f"at most {max(item['cpu'] for item in measured):.1f} s of CPU")
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:30])


def test_the_corpus_is_large_enough() -> None:
    counts = {group: sum(1 for _ in make()) for group, make in GROUPS.items() if group not in ("yaml", "layers")}
    assert sum(counts.values()) >= AT_LEAST, counts


def run_all(cases: Sequence[Case], directory: Path) -> dict[str, dict[str, Any]]:
    """Write every case's files and run them one after the other in one child; in a new one after a death."""
    jobs = []
    for number, case in enumerate(cases):
        home = directory / str(number)
        for name, data in case.files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        home.mkdir(exist_ok=True)
        jobs.append({"name": case.name, "directory": str(home), "arguments": list(case.arguments)})
    todo, done = directory / "cases.json", directory / "results.jsonl"
    done.touch()
    results: dict[str, dict[str, Any]] = {}
    while jobs:
        todo.write_text(json.dumps(jobs))
        environment = clean_environment(directory, PYTHONPATH=os.pathsep.join(sys.path), NO_COLOR="1")
        command = [sys.executable, runner.__file__, str(todo), str(done)]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        results = {item["name"]: item for item in map(json.loads, done.read_text().splitlines())}
        left = [job for job in jobs if job["name"] not in results]
        jobs = left[1:]  # the first that has no result ended the child
    return results


def fault(case: Case, result: dict[str, Any] | None) -> str:
    """What is wrong with how a case ended; nothing if it is as it must be."""
    if result is None:
        return f"ended the process: more than {runner.ENDLESS_SECONDS} s of CPU, or a crash"
    text = str(result["text"])
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    shown = text[:300].replace("\n", " | ")
    if result["code"] not in (1, 2, 4, 5, 7):
        return f"exit code {result['code']}: {shown}"
    if "Traceback" in text or "defect in ocisync" in text:
        return f"a defect: {shown}"
    if len(errors) != 1 or len(errors[0]) > 2_000:
        return f"{len(errors)} errors: {shown}"
    if case.places and not _PLACE.match(errors[0]):
        return f"no file:line:column: {shown}"
    if case.words and not re.search(case.words, errors[0]):
        return f"not {case.words!r}: {shown}"
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in errors[0]):
        return f"a control character: {shown!a}"
    if result["peak_kib"] > PEAK_MIB << 10:
        return f"{result['peak_kib'] >> 10} MiB"
    if result["cpu"] > runner.CPU_SECONDS:
        return f"{result['cpu']:.1f} s of CPU"
    return ""
