"""Read a repository through the git binary: plumbing commands, NUL-separated, each with a timeout.

Git refuses repositories of another user ("dubious ownership"), which CI checkouts often are. The user named a
directory on the command line, so a repository of that directory's owner is declared safe, for these commands only; one
of somebody else that merely lies above it is left to git's own judgement. Commands that a repository's
own configuration could make git run (file system monitor, hooks) are off; in another user's repository so are filters
and the fetching of missing objects, which name programs as well. Nothing is written, not even the index's stat cache.
Replacement objects (`git replace`) are off too: a commit's name stands for one content.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Unavailable
from ocisync.source.plainchanges import differing
from ocisync.source.repository import Entry, committer_time

# What a hook or an alias sets, and what would change how paths are read.
_DROPPED = frozenset(
    {
        "GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS",
        "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS",
    }
)  # fmt: skip
# Transports are programs that the configuration chooses (`core.sshCommand`, `remote.*.uploadpack`).
NO_FETCH = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}


def isolated(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for git, without what a hook or an alias that called us has set for its own repository."""
    kept = {key: value for key, value in environ.items() if key not in _DROPPED}
    return kept | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


class GitBinary:
    """A repository read with `git`."""

    def __init__(
        self,
        top: Path,
        git: str,
        environ: Mapping[str, str],
        timeout_s: float,
        *,
        is_safe: bool = True,
        is_own: bool = True,
    ) -> None:
        """Prepare the commands; nothing runs yet.

        Args:
            top: the work tree.
            git: path of the program.
            environ: the process environment.
            timeout_s: for each command.
            is_safe: the caller named a directory of the repository's owner.
            is_own: the repository belongs to this user, so its configuration may name programs.
        """
        self.top = top
        self._timeout_s = timeout_s
        self._is_own = is_own
        self._environ = isolated(environ) | {"GIT_NO_REPLACE_OBJECTS": "1"} | ({} if is_own else NO_FETCH)
        self._command = [git, "-C", str(top), "--literal-pathspecs"]
        # Executable bits are not packed, so one that a file system or a checkout changed is no uncommitted change.
        for setting in ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.fileMode=false"):
            self._command += ["-c", setting]
        if is_safe:
            self._command += ["-c", f"safe.directory={top}"]

    def _run(self, *arguments: str, data: bytes = b"", ok: tuple[int, ...] = (0,)) -> tuple[int, bytes]:
        try:
            done = subprocess.run(  # noqa: S603  # fixed program and options; user text only after --end-of-options
                [*self._command, *arguments],
                input=data,
                capture_output=True,
                timeout=self._timeout_s,
                env=self._environ,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"git {arguments[0]} in {self.top} did not end within {self._timeout_s:.0f} s",
                hint=f"find out what it waits for: git -C {shlex.quote(str(self.top))} status",
            ) from None
        except OSError as err:
            raise OcisyncError(f"cannot run git: {err}") from err
        if done.returncode not in ok:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            from ocisync.kit.log import redact  # git repeats the remote's URL, with its password

            said = redact(lines[0]) if lines else "no message"
            raise OcisyncError(f"git {arguments[0]} in {self.top} failed: {said}")
        return done.returncode, done.stdout

    def commit(self, rev: str) -> str:
        """See `Repository`."""
        code, out = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", rev + "^{commit}", ok=(0, 1, 128))
        if code:
            self._run("rev-parse", "--git-dir")  # fails in git's own words if it is the repository that is unusable
            if rev == "HEAD":
                raise NotFound(f"{self.top} has no commit yet", hint="git commit first")
            raise NotFound(
                f"no commit {rev[:100]!r} in {self.top}", hint="fetch it first; shallow clones have few commits"
            )
        return out.decode().strip()

    def committed_at(self, commit: str) -> datetime:
        """See `Repository`."""
        return committer_time(self._run("cat-file", "commit", commit)[1])

    def entries(self, commit: str, prefix: str) -> Sequence[Entry]:
        """See `Repository`."""
        tree = f"{commit}:{prefix}"
        code, out = self._run("ls-tree", "-r", "-z", "-l", "--full-tree", tree, ok=(0, 128))
        if code:
            if self._run("cat-file", "-t", tree, ok=(0, 128))[1].strip() == b"tree":
                # It is there: a partial clone could not fetch what the list needs. Let git say so itself.
                self._run("ls-tree", "-r", "-z", "-l", "--full-tree", tree)
            raise NotFound(f"commit {commit[:12]} has no directory {prefix or '.'!r}", hint="commit it first")
        found = []
        for record in out.split(b"\0")[:-1]:
            head, _, path = record.partition(b"\t")
            mode, _, oid, size = head.decode().split()
            if size == "BAD":  # git's word for an object that is not there
                raise InvalidInput(f"object {oid} is missing in {self.top}", hint="git fetch --refetch")
            found.append(
                Entry(path.decode(errors="surrogateescape"), int(mode, 8), oid, -1 if size == "-" else int(size))
            )
        return found

    def blobs(self, oids: Sequence[str]) -> dict[str, bytes]:
        """See `Repository`."""
        # --buffer: without it git writes each object by itself, and thousands of reads cost more than git does.
        _, out = self._run("cat-file", "--batch", "--buffer", data="".join(oid + "\n" for oid in oids).encode())
        contents: dict[str, bytes] = {}
        at = 0
        for oid in oids:
            end = out.index(b"\n", at)
            head = out[at:end].split(b" ")
            if len(head) != 3 or head[1] != b"blob":
                raise InvalidInput(f"object {oid} is missing in {self.top}", hint="git fetch --refetch")
            size = int(head[2])
            contents[oid] = out[end + 1 : end + 1 + size]
            at = end + size + 2
        return contents

    def changes(self, prefix: str) -> Sequence[str]:
        """See `Repository`."""
        if not self._is_own:
            return self._plain_changes(prefix or ".")
        _, out = self._run(
            "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", prefix or "."
        )
        return [_text(record[3:]) for record in out.split(b"\0")[:-1]]

    def _plain_changes(self, below: str) -> Sequence[str]:
        options = ("--cached", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=all")
        _, staged = self._run("diff-index", *options, "HEAD", "--", below)
        _, untracked = self._run("ls-files", "-z", "--others", "--exclude-standard", "--", below)
        _, listed = self._run("ls-files", "-z", "-t", "--stage", "--", below)
        tracked = []
        for record in listed.split(b"\0")[:-1]:
            head, _, path = record.partition(b"\t")
            tag, mode, oid, _ = head.decode().split()
            if tag != "S":  # a sparse checkout leaves it out of the work tree
                tracked.append(Entry(_text(path), int(mode, 8), oid))
        named = {_text(path) for path in (staged + untracked).split(b"\0")[:-1]}
        return sorted(named.union(differing(self.top, tracked)))

    def work_files(self, prefix: str) -> Sequence[str]:
        """See `Repository`."""
        _, out = self._run("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", prefix or ".")
        return sorted({_text(record) for record in out.split(b"\0")[:-1]})

    def tags_at(self, commit: str) -> Sequence[str]:
        """See `Repository`."""
        _, out = self._run("for-each-ref", f"--points-at={commit}", "--format=%(refname)", "refs/tags")
        return [line.removeprefix("refs/tags/") for line in _text(out).splitlines()]

    def branch(self) -> str:
        """See `Repository`."""
        code, out = self._run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1))
        return "" if code else _text(out).strip().removeprefix("refs/heads/")

    def ref_name(self, rev: str) -> str:
        """See `Repository`."""
        command = ("rev-parse", "--verify", "--quiet", "--symbolic-full-name", "--end-of-options", rev)
        code, out = self._run(*command, ok=(0, 1, 128))
        name = "" if code else _text(out).strip()
        for prefix in ("refs/heads/", "refs/tags/", "refs/remotes/origin/"):
            if name.startswith(prefix):
                return name.removeprefix(prefix)
        return ""

    def remote_urls(self) -> dict[str, str]:
        """See `Repository`."""
        code, out = self._run("config", "-z", "--get-regexp", r"^remote\..*\.url$", ok=(0, 1))
        urls: dict[str, str] = {}
        for record in [] if code else _text(out).split("\0")[:-1]:
            key, _, url = record.partition("\n")
            urls.setdefault(key.removeprefix("remote.").removesuffix(".url"), url)
        return urls

    def close(self) -> None:
        """See `Repository`."""


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
