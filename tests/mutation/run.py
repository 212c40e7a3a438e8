"""Apply mutants to a copy of the package, one at a time, and see whether the tests of their threat fail.

A mutant is killed only if pytest ran tests and some failed. Tests that cannot be collected, or that fail without any
mutant, kill nothing: the selected tests are run on the unchanged copy first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.mutants import Mutant

TOP = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 300
_FAILED = re.compile(r"^FAILED \S+::(test_\w+)", re.MULTILINE)
_ENDED = {0: "survived", 1: "killed"}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a mutant. `by` is the first test that noticed."""

    mutant: Mutant
    result: str
    by: str = ""
    output: str = field(default="", repr=False)


@dataclass(slots=True)
class Copy:
    """A copy of package and tests in a directory of its own."""

    directory: Path
    sound: dict[str, bool] = field(default_factory=dict)

    def judge(self, mutant: Mutant) -> Fate:
        """Run the tests of one mutant."""
        if mutant.selected not in self.sound:
            ended = self._test(mutant.selected, stop=False)
            self.sound[mutant.selected] = ended.returncode == 0
            if ended.returncode:
                return Fate(mutant, "tests fail without it", output=ended.stdout)
        if not self.sound[mutant.selected]:
            return Fate(mutant, "tests fail without it")
        with self._applied(mutant):
            ended = self._test(mutant.selected)
        found = _FAILED.search(ended.stdout)
        result = _ENDED.get(ended.returncode, f"pytest ended with {ended.returncode}")
        return Fate(mutant, result, found[1] if found else "", ended.stdout)

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

    def _test(self, selected: str, *, stop: bool = True) -> subprocess.CompletedProcess[str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        environ = {**kept, "PYTHONPATH": str(self.directory), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += ["--tb=no", "tests/security", "-k", selected, *(["-x"] if stop else [])]
        return subprocess.run(
            command, cwd=self.directory, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )


def replaced(text: str, old: str, new: str, where: str) -> str:
    """The text with its only `old` replaced.

    Raises:
        ValueError: it is not there, or several times.
    """
    if text.count(old) != 1:
        raise ValueError(f"{where}: {old!r} is there {text.count(old)} times")
    return text.replace(old, new)


@contextmanager
def copied() -> Iterator[Copy]:
    """A copy that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="ocisync-mutation-") as made:
        directory = Path(made)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        for name in ("ocisync", "tests"):
            shutil.copytree(TOP / name, directory / name, ignore=ignored)
        shutil.copy(TOP / "pyproject.toml", directory)
        yield Copy(directory)
