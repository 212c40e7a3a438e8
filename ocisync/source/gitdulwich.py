"""Read a repository without a git binary. The only owner of dulwich; slower, with the same answers.

dulwich has no notion of whose repository it may trust, and runs the filter programs that a configuration names. So
git's rule is kept here: a repository that neither this user nor the owner of the named directory made is not opened,
and in one that is not this user's own no filter runs.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from inspect import signature
from pathlib import Path
from typing import Any

from ocisync.model.errors import InvalidInput, NotFound, OcisyncError
from ocisync.source.plainchanges import differing
from ocisync.source.repository import SUBMODULE, Entry, committer_time

_STEPS = re.compile(r"(?:[~^][0-9]{0,4})+\Z")


class DulwichRepository:
    """A repository read with dulwich."""

    def __init__(self, top: Path, *, trusted_owners: Collection[int]) -> None:
        """Open the repository.

        Args:
            top: its work tree.
            trusted_owners: user ids; a repository of anybody else is refused.
        """
        owner = (top / ".git").lstat().st_uid
        self._is_own = owner == os.geteuid()
        if owner not in trusted_owners:
            raise OcisyncError(
                f"dubious ownership of the repository {top}: it belongs to user id {owner}",
                hint=f"if you trust it, use git: git config --global --add safe.directory {shlex.quote(str(top))}",
            )
        from dulwich.errors import NotGitRepository  # 140 ms that a machine with git never pays
        from dulwich.repo import Repo

        self.top = top
        try:
            self._repo: Any = Repo(str(top))
        except (NotGitRepository, OSError, ValueError) as err:
            raise OcisyncError(f"cannot read the repository {top}: {err}", hint="install git") from err

    def commit(self, rev: str) -> str:
        """See `Repository`."""
        from dulwich.objectspec import parse_commit

        name, steps = _split_steps(rev)
        try:
            if not name:
                raise KeyError(rev)  # noqa: TRY301  # dulwich takes it for the beginning of any id
            oid: bytes = parse_commit(self._repo, name.encode(errors="surrogateescape")).id
            for step in steps:
                oid = self._repo[oid].parents[step]
        except (KeyError, ValueError, IndexError, AttributeError):
            if rev == "HEAD":
                raise NotFound(f"{self.top} has no commit yet", hint="git commit first") from None
            raise NotFound(
                f"no commit {rev[:100]!r} in {self.top}", hint="fetch it first; shallow clones have few commits"
            ) from None
        return oid.decode()

    def committed_at(self, commit: str) -> datetime:
        """See `Repository`."""
        return committer_time(self._repo[commit.encode()].as_raw_string())

    def entries(self, commit: str, prefix: str) -> Sequence[Entry]:
        """See `Repository`."""
        from dulwich.object_store import iter_tree_contents, tree_lookup_path

        tree = self._repo[commit.encode()].tree
        try:
            if prefix:
                path = prefix.encode(errors="surrogateescape")
                mode, tree = tree_lookup_path(self._repo.object_store.__getitem__, tree, path)
                if not stat.S_ISDIR(mode):
                    raise KeyError(prefix)  # noqa: TRY301  # a file is no directory: the same answer
            found = list(iter_tree_contents(self._repo.object_store, tree))
        except (KeyError, NotADirectoryError):
            raise NotFound(f"commit {commit[:12]} has no directory {prefix or '.'!r}", hint="commit it first") from None
        return [Entry(_text(item.path), item.mode, item.sha.decode()) for item in found]

    def blobs(self, oids: Sequence[str]) -> dict[str, bytes]:
        """See `Repository`."""
        contents = {}
        for oid in oids:
            try:
                contents[oid] = self._repo.object_store.get_raw(oid.encode())[1]
            except KeyError:
                raise InvalidInput(f"object {oid} is missing in {self.top}", hint="git fetch --refetch") from None
        return contents

    def changes(self, prefix: str) -> Sequence[str]:
        """See `Repository`."""
        texts = self._status() if self._is_own else self._plain_status()
        # dulwich calls every submodule changed; a commit that holds one is refused with a better reason.
        modes = {_text(path): getattr(entry, "mode", 0) for path, entry in self._repo.open_index().items()}
        submodules = {path for path, mode in modes.items() if mode == SUBMODULE}
        texts |= {path for path, mode in modes.items() if not mode}  # conflicts have three entries and no mode
        return sorted(_below({path for path in texts if path.rstrip("/") not in submodules}, prefix))

    def work_files(self, prefix: str) -> Sequence[str]:
        """See `Repository`."""
        return sorted(_below({_text(path) for path in self._repo.open_index()} | self._untracked(), prefix))

    def _status(self) -> set[str]:
        from dulwich import porcelain

        # Newer releases would write the index's stat cache.
        options = {"optional_locks": False} if "optional_locks" in signature(porcelain.status).parameters else {}
        status = porcelain.status(self._repo, untracked_files="no", **options)
        return self._names(status.staged, status.unstaged) | self._untracked()

    def _plain_status(self) -> set[str]:
        from dulwich import porcelain

        index = self._repo.open_index()
        found = {path: (getattr(entry, "mode", 0), getattr(entry, "sha", b"")) for path, entry in index.items()}
        tracked = [Entry(_text(path), mode, sha.decode()) for path, (mode, sha) in found.items()]
        staged = porcelain.get_tree_changes(self._repo, index)
        return self._names(staged, differing(self.top, tracked)) | self._untracked()

    @staticmethod
    def _names(staged: Mapping[str, Iterable[bytes | str]], unstaged: Iterable[bytes | str]) -> set[str]:
        paths = {path for group in staged.values() for path in group} | set(unstaged)
        return {_text(path) if isinstance(path, bytes) else path for path in paths}

    def _untracked(self) -> set[str]:
        """Untracked files; pipes and the like are none, as in git."""
        from dulwich import porcelain

        top, index = str(self.top), self._repo.open_index()
        found = porcelain.get_untracked_paths(top, top, index, exclude_ignored=True, untracked_files="all")
        names = {os.fsdecode(path) for path in found}
        kinds = {name: (self.top / name).lstat().st_mode for name in names if os.path.lexists(self.top / name)}
        return {name for name, mode in kinds.items() if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)}

    def tags_at(self, commit: str) -> Sequence[str]:
        """See `Repository`."""
        names = self._repo.refs.subkeys(b"refs/tags")
        return sorted(_text(name) for name in names if self._repo.get_peeled(b"refs/tags/" + name) == commit.encode())

    def branch(self) -> str:
        """See `Repository`."""
        head = self._repo.refs.read_ref(b"HEAD") or b""
        prefix = b"ref: refs/heads/"
        return _text(head.removeprefix(prefix)).strip() if head.startswith(prefix) else ""

    def ref_name(self, rev: str) -> str:
        """See `Repository`."""
        for prefix in ("", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"):  # git's own order
            name = prefix + rev
            if name.startswith("refs/") and name.encode(errors="surrogateescape") in self._repo.refs:
                for kind in ("refs/heads/", "refs/tags/", "refs/remotes/origin/"):
                    if name.startswith(kind):
                        return name.removeprefix(kind)
                return ""
        return ""

    def remote_urls(self) -> dict[str, str]:
        """See `Repository`."""
        config = self._repo.get_config()
        urls: dict[str, str] = {}
        for section in config.sections():
            if len(section) == 2 and section[0] == b"remote" and config.has_section(section):
                try:
                    urls[_text(section[1])] = _text(config.get(section, b"url"))
                except KeyError:
                    continue
        return urls

    def close(self) -> None:
        """See `Repository`."""
        self._repo.close()


def _split_steps(rev: str) -> tuple[str, list[int]]:
    """Split `main~2^2` into the name and the parents to walk to, counted from 0; dulwich knows names only."""
    found = _STEPS.search(rev)
    name = rev[: found.start()] if found else rev
    steps: list[int] = []
    for kind, digits in re.findall(r"([~^])([0-9]*)", found[0] if found else ""):
        count = int(digits or 1)
        steps += [0] * count if kind == "~" else [count - 1] if count else []
    return "HEAD" if name == "@" else name, steps


def _below(paths: set[str], prefix: str) -> list[str]:
    return [path for path in paths if not prefix or path.startswith(prefix + "/")]


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
