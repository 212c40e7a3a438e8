"""What `source` hands to `pack` and `unpack` hands to `manifests`: a tree of files, in memory."""

from __future__ import annotations

from datetime import datetime

from ocisync.model.errors import Finding
from ocisync.model.values import dataclass


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
        tools: what rendered the files, each as `kustomize@v5.8.2`.
        full_ref: the ref of the revision as Git stores it, `refs/tags/v1.0`; empty if that is not known.
        path: of the directory in the repository; empty for all of it.
    """

    commit: str
    revision: str
    committed_at: datetime
    source: str = ""
    dirty: bool = False
    tools: tuple[str, ...] = ()
    full_ref: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """From `line` on (counted from 1), a rendered file was made from `source`."""

    file: str
    line: int
    source: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """How files of a tree were made, for messages about them. `origins` are sorted by line for each file."""

    tools: tuple[str, ...]
    warnings: tuple[Finding, ...] = ()
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Files sorted by path, and where they came from. `rendering` is None if every file is as it was committed."""

    files: tuple[TreeFile, ...]
    provenance: Provenance
    rendering: Rendering | None = None
