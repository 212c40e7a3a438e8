"""Changes of a work tree found without asking the repository's configuration what to run.

`git status` passes files through the filter programs that a repository's configuration names, also those of its
sub-modules. In a checkout that somebody else owns these would be that somebody's programs, run as the caller. So the
files' own bytes are held against the index here. An end of line that a checkout converted is no change; what other
filters wrote is one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ocisync.model import limits
from ocisync.source.repository import REGULAR, SYMLINK, Entry

_SHA1_CHARS = 40


def differing(top: Path, tracked: Iterable[Entry]) -> Iterator[str]:
    """Paths of index entries whose file in the work tree is missing or has other content, but for sub-modules."""
    for entry in tracked:
        if (entry.mode in REGULAR or entry.mode == SYMLINK) and not _equal(top / entry.path, entry):
            yield entry.path


def _equal(path: Path, entry: Entry) -> bool:
    try:
        found = path.lstat()
        if entry.mode == SYMLINK:
            return stat.S_ISLNK(found.st_mode) and _id_of(os.fsencode(path.readlink()), entry.oid) == entry.oid
        if not stat.S_ISREG(found.st_mode) or found.st_size > limits.UNPACKED_BYTES:
            return False
        # Its owner may put a link or a pipe there after the look.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(limits.UNPACKED_BYTES + 1)
    except OSError:
        return False
    return entry.oid in (_id_of(data, entry.oid), _id_of(data.replace(b"\r\n", b"\n"), entry.oid))


def _id_of(data: bytes, like: str) -> str:
    digest = hashlib.sha1(usedforsecurity=False) if len(like) == _SHA1_CHARS else hashlib.sha256()
    digest.update(b"blob %d\0" % len(data))
    digest.update(data)
    return digest.hexdigest()
