"""Apply mutants to a copy of the package, one at a time, and see whether the tests of their threat fail.

A mutant is killed only if pytest ran tests and some failed. Tests that cannot be collected, or that fail without any
mutant, kill nothing: the selected tests are run on the unchanged copy first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.mutants import Mutant

TOP = Path(__file__).resolve().parents[2]
_FAILED = re.compile(r"^FAILED \S+::(test_\w+)", re.MULTILINE)
_ENDED = {0: "survived", 1: "killed"}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mutant. `by` is the first test that noticed."""

    mutant: Mutant
    result: str
    by: str = ""
    output: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """How pytest ended."""

    code: int
    output: str


@dataclass(slots=True)
class Copy:
    """A copy of package and tests in a directory of its own, for some mutants."""

    directory: Path
    mutants: Sequence[Mutant]
    _worker: subprocess.Popen[str]
    _unsound: frozenset[str] | None = None

    def judge(self, mutant: Mutant) -> Fate:
        """Run the tests of one mutant."""
        if self._unsound is None:
            # All at once: starting pytest takes longer than most of the tests.
            ended = self._test(sorted({item.selected for item in self.mutants}))
            self._unsound = frozenset(_FAILED.findall(ended.output))
            if ended.code not in {0, 1}:
                raise RuntimeError(f"pytest ended with {ended.code}: {ended.output[-3_000:]}")
        broken = [name for name in self._unsound if name.startswith(mutant.selected)]
        if broken:
            return Fate(mutant, "tests fail without it", broken[0])
        with self._applied(mutant):
            ended = self._test([mutant.selected], "-x")
        found = _FAILED.search(ended.output)
        result = _ENDED.get(ended.code, f"pytest ended with {ended.code}")
        return Fate(mutant, result, found[1] if found else "", ended.output)

    @contextmanager
    def _applied(self, mutant: Mutant) -> Iterator[None]:
        before: dict[Path, str] = {}
        try:
            for edit in mutant.edits:
                path = self.directory / "ocisync" / edit.file
                text = path.read_text()
                before.setdefault(path, text)
                path.write_text(replaced(text, edit.old, edit.new, edit.file))
            yield
        finally:
            for path, text in before.items():
                path.write_text(text)

    def _test(self, selected: Sequence[str], *options: str) -> Ended:
        files = [
            str(path.relative_to(self.directory))
            for path in sorted((self.directory / "tests" / "security").glob("test_*.py"))
            if any(f"def {name}" in path.read_text() for name in selected)
        ]
        arguments = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no"]
        arguments += [*files, "-k", " or ".join(selected), *options]
        stdin, stdout = self._worker.stdin, self._worker.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(arguments) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs pytest has ended")
        return Ended(*json.loads(answer))


def replaced(text: str, old: str, new: str, where: str) -> str:
    """The text with its only `old` replaced.

    Raises:
        ValueError: it is not there, or several times.
    """
    if text.count(old) != 1:
        raise ValueError(f"{where}: {old!r} is there {text.count(old)} times")
    return text.replace(old, new)


@contextmanager
def copied(mutants: Sequence[Mutant]) -> Iterator[Copy]:
    """A copy that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="ocisync-mutation-") as made:
        directory = Path(made)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in ("ocisync", "tests"):
            shutil.copytree(TOP / name, directory / name, ignore=ignored)
        shutil.copy(TOP / "pyproject.toml", directory)
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.worker"],
            cwd=directory,
            env={**kept, "PYTHONPATH": str(directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with worker:
            try:
                yield Copy(directory, mutants, worker)
            finally:
                worker.kill()
