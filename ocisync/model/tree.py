"""What `source` hands to `pack` and `unpack` hands to `manifests`: a tree of files, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One regular file. `path` is relative, `/`-separated, without `.` or `..` parts."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a tree came from.

    Attributes:
        commit: 40 (or 64) hex characters; empty for input that is not from Git.
        revision: `<ref>@sha1:<commit>`, `-dirty` appended when uncommitted changes were allowed in.
        committed_at: committer time, aware UTC; becomes `created` and the default sequence.
        source: URL of the repository without user info, query and `.git`; empty if unknown.
        dirty: the packed bytes are not exactly those of the commit.
    """

    commit: str
    revision: str
    committed_at: datetime
    source: str = ""
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Files sorted by path, and where they came from."""

    files: tuple[TreeFile, ...]
    provenance: Provenance
