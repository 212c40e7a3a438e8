"""Files as they are in a work tree, for checks that must see what is not committed yet.

A directory inside a Git repository gives the files that Git would track (not those it ignores), any other directory all
of its files; `.git` and what `.ocisyncignore` names are left out, as at a push. What a push would refuse for its kind
(symlinks, sub-modules, special files) is told, not raised, so that it comes with all other findings.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput, NotFound
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.source.ignore import IGNORE_FILE, parse_ignore

_TIMEOUT_S = 60.0
_RULE = "file"


@dataclass(frozen=True, slots=True)
class WorkTree:
    """Files sorted by path (relative to the directory), and what is no file that can be packed."""

    files: tuple[TreeFile, ...]
    findings: tuple[Finding, ...]


def read_worktree(path: Path, *, environ: Mapping[str, str], git: str | None = "git") -> WorkTree:
    """Read a directory.

    Args:
        path: the directory.
        environ: for git.
        git: the program; None asks no Git.

    Raises:
        NotFound: no such directory.
        InvalidInput: a bad `.ocisyncignore`, or more than an artifact may hold.
    """
    if not path.is_dir():
        raise NotFound(f"{path} is not a directory", hint="name a directory, files, or - for stdin")
    ignore = path / IGNORE_FILE
    rules = parse_ignore(ignore.read_bytes() if ignore.is_file() and not ignore.is_symlink() else None)
    names = _tracked(path, environ, git) if git else None
    if names is None:
        names = _walk(path)
    return _read(path, (name for name in names if not rules.matches(name)))


def _read(path: Path, names: Iterable[str]) -> WorkTree:
    files: list[TreeFile] = []
    findings: list[Finding] = []
    total = 0
    for name in sorted(names):
        full = path / name
        if full.is_symlink():
            findings.append(Finding(name, 0, 0, "is a symlink, which is not packed; list it in .ocisyncignore", _RULE))
        elif full.is_dir():
            findings.append(
                Finding(name, 0, 0, "is a sub-module, which is not packed; list it in .ocisyncignore", _RULE)
            )
        elif full.is_file():
            total += full.stat().st_size
            if total > limits.UNPACKED_BYTES or len(files) >= limits.UNPACKED_ENTRIES:
                raise InvalidInput(f"{path} holds more than an artifact may hold", hint="name a smaller directory")
            files.append(TreeFile(name, full.read_bytes()))
        elif full.exists():
            findings.append(Finding(name, 0, 0, "is no regular file; list it in .ocisyncignore", _RULE))
        # What Git tracks and the work tree lacks is deleted: there is nothing to check.
    return WorkTree(tuple(files), tuple(findings))


def _tracked(path: Path, environ: Mapping[str, str], git: str) -> set[str] | None:
    """Files that Git tracks or would track; None if it does not say (no repository, no git, not ours)."""
    from ocisync.source.gitbinary import NO_FETCH, isolated

    command = [git, "-C", str(path), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    # A directory of a repository may look like a bare repository, with a configuration of its own.
    command += ["-c", "safe.bareRepository=explicit"]
    command += ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(  # noqa: S603  # fixed program and options
            command,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=isolated(environ) | NO_FETCH,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}


def _walk(path: Path) -> set[str]:
    found: set[str] = set()
    for folder, directories, names in os.walk(path, onerror=_raise):
        directories[:] = [name for name in directories if name != ".git"]
        links = [name for name in directories if (Path(folder) / name).is_symlink()]
        found.update((Path(folder) / name).relative_to(path).as_posix() for name in names + links if name != ".git")
    return found


def _raise(error: OSError) -> None:
    raise InvalidInput(f"cannot read {error.filename}: {error.strerror}") from error
