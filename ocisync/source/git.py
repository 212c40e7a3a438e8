"""Read the committed tree of a directory: never the work tree, unless uncommitted content is allowed by name.

`read_tree` finds the repository around `path`, packs what the commit holds below `path`, and names it. Refused, with
every finding at once: uncommitted changes below `path` (elsewhere they do not matter), symlinks, submodules,
Git LFS pointers. With `allow_dirty` the work tree's tracked and untracked, not ignored files are taken if anything
differs from the commit, and the revision ends in `-dirty`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput, NotFound, Refused
from ocisync.model.tree import Provenance, SourceTree, TreeFile
from ocisync.source.environment import build_environment
from ocisync.source.ignore import IGNORE_FILE, IgnoreRules, parse_ignore
from ocisync.source.repository import REGULAR, SUBMODULE, SYMLINK, Entry, Repository
from ocisync.source.revision import check_ref, check_source, ci_ref, ci_source, clean_url, is_ref, revision_text

LFS_MARK = b"version https://git-lfs.github.com/spec/v1"
TIMEOUT_S = 120.0
_SHOWN_CHANGES = 10


def read_tree(
    path: Path,
    *,
    rev: str = "HEAD",
    ref: str = "",
    source: str = "",
    allow_dirty: bool = False,
    environ: Mapping[str, str],
    git: str | None = "git",
    timeout_s: float = TIMEOUT_S,
) -> SourceTree:
    """Read the directory `path` as it is in commit `rev`.

    Args:
        path: a directory inside a work tree; paths in the result are relative to it.
        rev: any commit; only for HEAD uncommitted changes matter.
        ref: goes before the `@` of the revision; found from CI variables, tags and branches if empty.
        source: URL of the repository; found from CI variables and remotes if empty.
        allow_dirty: take uncommitted content too.
        environ: the process environment: PATH for git, CI variables.
        git: name of the git binary; dulwich reads if it is None or not in PATH.
        timeout_s: for each git command.

    Raises:
        NotFound: no such directory, repository or revision.
        Refused: reason Dirty.
        InvalidInput: what the directory holds cannot be packed.
    """
    rev = "HEAD" if rev == "@" else rev
    # A directory that another commit has may be gone from the work tree.
    if not path.is_dir() and (rev == "HEAD" or os.path.lexists(path)):
        raise NotFound(f"{path} is not a directory", hint="name the directory with the manifests")
    directory = path.resolve()
    top = find_top(directory)
    prefix = directory.relative_to(top).as_posix()
    prefix = "" if prefix == "." else prefix
    repository = _open(top, directory, git, environ, timeout_s)
    try:
        return _read(repository, prefix, rev, ref, source, allow_dirty, environ)
    finally:
        repository.close()


def find_top(directory: Path) -> Path:
    """The work tree that `directory` is in.

    Raises:
        NotFound: it is in none.
    """
    for candidate in (directory, *directory.parents):
        if os.path.lexists(candidate / ".git"):
            return candidate
    raise NotFound(f"{directory} is not in a Git repository", hint="use --no-git --revision NAME for a plain directory")


def _open(top: Path, directory: Path, git: str | None, environ: Mapping[str, str], timeout_s: float) -> Repository:
    # A repository's configuration names programs that git runs. Whoever may write to a directory above the named one
    # (such as /tmp) could plant a repository there; naming the directory is no trust in that.
    owner = _existing(directory).stat().st_uid
    holder = (top / ".git").lstat().st_uid
    is_own = holder == os.geteuid()
    program = shutil.which(git, path=environ.get("PATH", os.defpath)) if git else None
    if program:
        from ocisync.source.gitbinary import GitBinary  # one of two readers

        return GitBinary(top, program, environ, timeout_s, is_safe=holder == owner, is_own=is_own)
    from ocisync.source.gitdulwich import DulwichRepository

    return DulwichRepository(top, trusted_owners={owner, os.geteuid()})


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.is_dir())


def _read(
    repository: Repository,
    prefix: str,
    rev: str,
    ref: str,
    source: str,
    allow_dirty: bool,
    environ: Mapping[str, str],
) -> SourceTree:
    commit = repository.commit(rev)
    entries = _entries(repository, commit, prefix)
    rules = _ignore_rules(repository, entries)
    # Only HEAD has a work tree to disagree with.
    changes = _changes(repository, prefix, rules) if rev == "HEAD" else []
    if changes and not allow_dirty:
        _refuse_dirty(changes)
    if changes:
        files = _work_tree(repository, prefix)
    else:
        files = _committed(repository, [entry for entry in entries if not rules.matches(entry.path)])
    name, full = (check_ref(ref), ref) if ref else _ref(repository, rev, commit, environ)
    provenance = Provenance(
        commit=commit,
        revision=revision_text(name, commit, dirty=bool(changes)),
        committed_at=repository.committed_at(commit),
        source=check_source(source) if source else _source(repository, commit, environ),
        dirty=bool(changes),
        full_ref=full if full.startswith(("refs/heads/", "refs/tags/")) else "",
        path=_shown(prefix),
    )
    return SourceTree(files, provenance)


def _entries(repository: Repository, commit: str, prefix: str) -> Sequence[Entry]:
    try:
        return repository.entries(commit, prefix)
    except NotFound:
        parent, _, name = prefix.rpartition("/")
        with contextlib.suppress(NotFound):
            if prefix and any(
                entry.path == name and entry.mode == SUBMODULE for entry in repository.entries(commit, parent)
            ):
                raise InvalidInput(
                    f"{_shown(prefix)} is a submodule whose files are not here",
                    hint=f"git submodule update --init {shlex.quote(_shown(prefix))}",
                ) from None
        raise


def _ignore_rules(repository: Repository, entries: Iterable[Entry]) -> IgnoreRules:
    for entry in entries:
        if entry.path == IGNORE_FILE and entry.mode in REGULAR:
            return parse_ignore(repository.blobs([entry.oid])[entry.oid])
    return IgnoreRules()


def _changes(repository: Repository, prefix: str, rules: IgnoreRules) -> list[str]:
    start = f"{prefix}/" if prefix else ""
    return [path for path in repository.changes(prefix) if not rules.matches(path.removeprefix(start))]


def _refuse_dirty(changes: Sequence[str]) -> None:
    findings = tuple(Finding(_shown(path), 0, 0, "not as committed") for path in changes)
    listed = ", ".join(finding.file for finding in findings[:_SHOWN_CHANGES])
    more = f" and {len(findings) - _SHOWN_CHANGES} more" if len(findings) > _SHOWN_CHANGES else ""
    raise Refused(
        f"uncommitted changes: {listed}{more}",
        reason="Dirty",
        hint="commit them, or pack them with --allow-dirty (the revision then ends in -dirty)",
    )


def _committed(repository: Repository, entries: Sequence[Entry]) -> tuple[TreeFile, ...]:
    findings = [
        Finding(_shown(entry.path), 0, 0, _mode_problem(entry.mode)) for entry in entries if entry.mode not in REGULAR
    ]
    _check_amount(sum(max(entry.size, 0) for entry in entries), len(entries))
    regular = [entry for entry in entries if entry.mode in REGULAR]
    contents = repository.blobs(list(dict.fromkeys(entry.oid for entry in regular)))
    files = tuple(sorted((TreeFile(entry.path, contents[entry.oid]) for entry in regular), key=lambda file: file.path))
    _finish(files, findings)
    return files


def _mode_problem(mode: int) -> str:
    if mode == SYMLINK:
        return "is a symlink; put the file itself here, or list the link in .ocisyncignore"
    if mode == SUBMODULE:
        return "is a submodule; its files are not in this commit: list it in .ocisyncignore"
    return f"has the unknown mode {mode:o}"


def _kind_problem(mode: int) -> str:
    if stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
        return _mode_problem(SYMLINK if stat.S_ISLNK(mode) else SUBMODULE)
    return "is no regular file; remove it, or list it in .ocisyncignore"


def _work_tree(repository: Repository, prefix: str) -> tuple[TreeFile, ...]:
    start = f"{prefix}/" if prefix else ""
    ignore = repository.top / start / IGNORE_FILE
    rules = parse_ignore(ignore.read_bytes() if ignore.is_file() and not ignore.is_symlink() else None)
    findings: list[Finding] = []
    files: list[TreeFile] = []
    total = 0
    for path in repository.work_files(prefix):
        relative = path.removeprefix(start)
        full = repository.top / path
        if rules.matches(relative) or not os.path.lexists(full):
            continue
        mode = full.lstat().st_mode
        if stat.S_ISREG(mode):
            total += full.stat().st_size
            _check_amount(total, len(files))
            files.append(TreeFile(relative, full.read_bytes()))
        else:
            findings.append(Finding(_shown(relative), 0, 0, _kind_problem(mode)))
    packed = tuple(sorted(files, key=lambda file: file.path))
    _finish(packed, findings)
    return packed


def _check_amount(total_bytes: int, count: int) -> None:
    if total_bytes > limits.UNPACKED_BYTES or count > limits.UNPACKED_ENTRIES:
        raise InvalidInput(
            f"{count} files of {total_bytes} bytes are more than an artifact may hold",
            hint="push a smaller directory, or list what is no manifest in .ocisyncignore",
        )


def _finish(files: Sequence[TreeFile], findings: list[Finding]) -> None:
    findings += [
        Finding(_shown(file.path), 1, 0, "is a Git LFS pointer; its content is not in this commit")
        for file in files
        if file.data.startswith(LFS_MARK)
    ]
    if findings:
        raise InvalidInput(f"{findings[0]}", findings=tuple(findings), hint="list such files in .ocisyncignore")


def _ref(repository: Repository, rev: str, commit: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The ref as it is shown, and as Git stores it (empty if that is not known)."""
    found, full = ci_ref(environ, commit), build_environment(environ, commit).ref
    if not found:
        tags = repository.tags_at(commit)
        found = tags[0] if len(tags) == 1 else ""
        full = f"refs/tags/{found}"
    if not found and rev == "HEAD":
        found = repository.branch()
        full = f"refs/heads/{found}"
    elif not found:
        found, full = repository.ref_name(rev), ""
    if not found or not is_ref(found):
        return "HEAD", ""
    return found, full if full.endswith(f"/{found}") else ""


def _source(repository: Repository, commit: str, environ: Mapping[str, str]) -> str:
    found = ci_source(environ, commit)
    if found:
        return found
    urls = repository.remote_urls()
    if "origin" in urls:
        return clean_url(urls["origin"])
    return clean_url(next(iter(urls.values()))) if len(urls) == 1 else ""


def _shown(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
