"""Files that are not from Git: a plain directory, or one stream of manifests on standard input."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput, NotFound, UsageError
from ocisync.model.tree import Provenance, SourceTree, TreeFile
from ocisync.source.ignore import IGNORE_FILE, parse_ignore
from ocisync.source.revision import check_source, has_user_info

STDIN_FILE = "manifests.yaml"
_MAX_REVISION_CHARS = 300


def read_directory(path: Path, *, revision: str, committed_at: datetime, source: str = "") -> SourceTree:
    """Read all regular files below a directory; `.git` and what `.ocisyncignore` names are left out.

    Raises:
        NotFound: no such directory.
        InvalidInput: symlinks, other special files, or more than an artifact may hold.
    """
    if not path.is_dir():
        raise NotFound(f"{path} is not a directory", hint="name the directory with the manifests")
    ignore = path / IGNORE_FILE
    rules = parse_ignore(ignore.read_bytes() if ignore.is_file() and not ignore.is_symlink() else None)
    files: list[TreeFile] = []
    findings: list[Finding] = []
    total = 0
    for folder, directories, names in os.walk(path, onerror=_raise):
        directories[:] = [name for name in directories if name != ".git"]
        links = [name for name in directories if (Path(folder) / name).is_symlink()]
        for name in names + links:
            full = Path(folder) / name
            relative = full.relative_to(path).as_posix()
            if rules.matches(relative) or name == ".git":
                continue
            if full.is_symlink() or not full.is_file():
                kind = "a symlink" if full.is_symlink() else "no regular file"
                findings.append(Finding(relative, 0, 0, f"is {kind}; list it in .ocisyncignore"))
                continue
            total += full.stat().st_size
            if total > limits.UNPACKED_BYTES or len(files) >= limits.UNPACKED_ENTRIES:
                raise InvalidInput(f"{path} holds more than an artifact may hold", hint="push a smaller directory")
            files.append(TreeFile(relative, full.read_bytes()))
    if findings:
        raise InvalidInput(str(findings[0]), findings=tuple(findings))
    return _tree(sorted(files, key=lambda file: file.path), revision, committed_at, source)


def read_stdin(data: bytes, *, revision: str, committed_at: datetime, source: str = "") -> SourceTree:
    """Take a stream of manifests as a tree of one file."""
    return _tree([TreeFile(STDIN_FILE, data)], revision, committed_at, source)


def _tree(files: list[TreeFile], revision: str, committed_at: datetime, source: str) -> SourceTree:
    if not revision:
        raise UsageError("without Git a revision is needed", hint="--revision NAME, for example main@sha1:COMMIT")
    bad = any(ord(char) <= 0x20 or ord(char) == 0x7F or "\ud800" <= char <= "\udfff" for char in revision)
    if has_user_info(revision):
        raise UsageError("the revision holds a URL with a password or user name", hint="--revision main@sha1:COMMIT")
    if bad or len(revision) > _MAX_REVISION_CHARS:
        raise UsageError(f"bad revision {revision[:80]!r}: no spaces, at most {_MAX_REVISION_CHARS} characters")
    provenance = Provenance("", revision, committed_at, check_source(source) if source else "")
    return SourceTree(tuple(files), provenance)


def _raise(error: OSError) -> None:
    raise InvalidInput(f"cannot read {error.filename}: {error.strerror}") from error
