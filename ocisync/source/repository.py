"""What reading a commit needs of a Git repository, and its two readers: the git binary, dulwich without one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ocisync.model.errors import InvalidInput
from ocisync.model.values import dataclass

REGULAR = frozenset({0o100644, 0o100755, 0o100664})
SYMLINK = 0o120000
SUBMODULE = 0o160000
_COMMITTER = re.compile(rb"^committer .*> (-?[0-9]{1,12}) [+-][0-9]{4}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit. `path` is relative to the directory that was asked for; `size` is -1 if unknown."""

    path: str
    mode: int
    oid: str
    size: int = -1


class Repository(Protocol):
    """One repository with a work tree at `top`. Paths are `/`-separated; a prefix is empty for the whole tree."""

    top: Path

    def commit(self, rev: str) -> str:
        """The full id of a commit.

        Raises:
            NotFound: there is no such revision.
        """
        ...

    def committed_at(self, commit: str) -> datetime:
        """Committer time, UTC."""
        ...

    def entries(self, commit: str, prefix: str) -> Sequence[Entry]:
        """Files of a commit below a directory.

        Raises:
            NotFound: the commit has no such directory.
        """
        ...

    def blobs(self, oids: Sequence[str]) -> dict[str, bytes]:
        """Raw contents, unfiltered: no end-of-line conversion, no export attributes."""
        ...

    def changes(self, prefix: str) -> Sequence[str]:
        """Paths (from `top`) that differ from HEAD or are untracked and not ignored."""
        ...

    def work_files(self, prefix: str) -> Sequence[str]:
        """Paths (from `top`) of tracked files, and of untracked ones that are not ignored."""
        ...

    def tags_at(self, commit: str) -> Sequence[str]:
        """Names of tags that point at a commit."""
        ...

    def branch(self) -> str:
        """The checked-out branch; empty when detached."""
        ...

    def ref_name(self, rev: str) -> str:
        """The branch or tag that `rev` names; empty if it names none."""
        ...

    def remote_urls(self) -> dict[str, str]:
        """Configured remotes, name → URL."""
        ...

    def close(self) -> None:
        """Release files."""
        ...


def committer_time(raw: bytes) -> datetime:
    """Read the committer time from a raw commit object.

    Raises:
        InvalidInput: it has none.
    """
    found = _COMMITTER.search(raw.split(b"\n\n", 1)[0])
    if not found:
        raise InvalidInput("the commit has no committer time")
    try:
        return datetime.fromtimestamp(int(found[1]), UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"the commit's committer time {found[1].decode()} is no date", hint="git commit --amend --reset-author"
        ) from None
