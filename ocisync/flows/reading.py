"""Read what is to be packed: a commit, a directory or standard input; rendered if that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ocisync.flows.rendering import rendered
from ocisync.model.clock import Clock
from ocisync.model.errors import UsageError
from ocisync.model.tree import SourceTree
from ocisync.model.values import dataclass
from ocisync.source import files as plain_source
from ocisync.source import git as git_source

if TYPE_CHECKING:
    from ocisync.render.layout import RenderOptions


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files come from.

    Attributes:
        path: a directory; None for standard input, whose bytes are in `data`.
        use_git: read the committed tree around `path`; otherwise the directory as it is.
        revision: names content that is not from Git.
        rev, ref, source, allow_dirty: as for `source.git.read_tree`.
        environ: PATH, CI variables, SOURCE_DATE_EPOCH for content that is not from Git.
        render: how to make plain manifests of overlays and charts; None: not at all.
    """

    environ: Mapping[str, str]
    path: Path | None = None
    data: bytes = b""
    use_git: bool = True
    revision: str = ""
    rev: str = "HEAD"
    ref: str = ""
    source: str = ""
    allow_dirty: bool = False
    render: RenderOptions | None = None


def read_source(source: Source | SourceTree, clock: Clock) -> SourceTree:
    """Read the files to pack.

    Raises:
        NotFound, Refused, InvalidInput, UsageError: as `source.git`, `source.files` and `flows.rendering` say.
    """
    if isinstance(source, SourceTree):
        return source
    tree = _read(source, clock)
    if source.render is None:
        return tree
    if source.path is None:
        raise UsageError("standard input cannot be rendered", hint="name a directory, or leave --render out")
    return rendered(
        tree, source.path, source.render, source.environ, lambda above: _read(replace(source, path=above), clock)
    )


def _read(source: Source, clock: Clock) -> SourceTree:
    if source.path is not None and source.use_git:
        if source.revision:
            raise UsageError("--revision names content that is not from Git", hint="use --ref, or add --no-git")
        return git_source.read_tree(
            source.path,
            rev=source.rev,
            ref=source.ref,
            source=source.source,
            allow_dirty=source.allow_dirty,
            environ=source.environ,
        )
    moment = _moment(source.environ, clock)
    if source.path is None:
        return plain_source.read_stdin(source.data, revision=source.revision, committed_at=moment, source=source.source)
    return plain_source.read_directory(source.path, revision=source.revision, committed_at=moment, source=source.source)


def _moment(environ: Mapping[str, str], clock: Clock) -> datetime:
    epoch = environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return clock.now()
    if not epoch.isascii() or not epoch.isdigit() or len(epoch) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is not a number of seconds: {epoch[:40]!r}")
    return datetime.fromtimestamp(int(epoch), UTC)
