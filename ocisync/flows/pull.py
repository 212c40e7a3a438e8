"""Pull: an artifact's files into a directory.

The files are read and checked in memory first, by the rules that the agent unpacks by; only plain files with relative
names reach the disk, as 0644 in directories of 0755. A directory that does not exist or is empty appears whole, by one
rename. A directory that holds something is refused unless forced; then each file is replaced whole, directories that
are links are refused, a link in the place of a file is replaced and not followed, and other files stay.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ocisync.flows.fetch import fetch, look
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, verify
from ocisync.kit.atomic import naming
from ocisync.model.artifact import ArtifactManifest, Verdict, VerdictReason
from ocisync.model.clock import Clock
from ocisync.model.errors import InvalidInput, Refused
from ocisync.model.spec import SelectorKind
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import Store

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Pulled:
    """An artifact and its files, sorted by path. `verdict` is None if nobody was named to trust."""

    manifest: ArtifactManifest
    files: tuple[TreeFile, ...]
    verdict: Verdict | None

    @property
    def is_verified(self) -> bool:
        """Whether signatures proved it (a policy in mode Warn lets others pass)."""
        return self.verdict is not None and self.verdict.reason is VerdictReason.VERIFIED


def pull(store: Store, tag: str, digest: str, clock: Clock, trust: TrustSet | None) -> Pulled:
    """Read what a tag or digest leads to; with both, the digest is read and judged as that tag's.

    Raises:
        NotFound: nothing.
        Refused: not signed as `trust` demands, or hostile.
    """
    if trust is None:
        seen = look(store, digest or tag)
        return Pulled(seen.manifest, seen.files, None)
    request = Request(store.repository, SelectorKind.TAG if tag else SelectorKind.DIGEST, tag, digest)
    budget = EvidenceBudget(clock.monotonic)
    verified = verify(store, trust, request, now=clock.now(), collect=partial(collect, budget=budget))
    return Pulled(verified.manifest, fetch(store, verified).files, verified.verdict)


def write_files(files: Iterable[TreeFile], directory: Path, *, force: bool = False) -> None:
    """Write files into a directory.

    Raises:
        Refused: it holds something (reason NotEmpty), or a link is in the way.
        InvalidInput: it is no directory.
    """
    try:
        with os.scandir(directory) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        is_empty = True
    except NotADirectoryError as error:
        raise InvalidInput(f"{directory} is no directory") from error
    with naming(directory):
        if is_empty:
            _write_new(files, directory)
        elif force:
            _write_into(files, directory)
        else:
            raise _not_empty(directory)


def _not_empty(directory: Path) -> Refused:
    return Refused(
        f"{directory} is not empty", reason="NotEmpty", hint="name another directory with -d, or write into it: --force"
    )


def _write_into(files: Iterable[TreeFile], directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _write_all(files, handle)
    finally:
        os.close(handle)


def _write_new(files: Iterable[TreeFile], directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    target = directory.resolve()  # of a link to an empty directory, what it leads to is meant
    if target == Path.cwd():
        # Renaming over it would leave the caller's shell in a directory that is gone.
        _write_into(files, target)
        return
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        handle = os.open(scratch, _FOLDER)
        try:
            _write_all(files, handle)
            os.fchmod(handle, 0o755)
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            scratch.rename(target)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:  # somebody has filled it meanwhile
                raise _not_empty(directory) from error
            raise
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _write_all(files: Iterable[TreeFile], root: int) -> None:
    for file in files:
        *folders, name = file.path.split("/")
        handle = os.dup(root)
        try:
            for folder in folders:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o755, dir_fd=handle)
                inner = _inside(handle, folder, file.path)
                os.close(handle)
                handle = inner
            _write_file(handle, name, file)
        finally:
            os.close(handle)


def _inside(handle: int, folder: str, path: str) -> int:
    try:
        return os.open(folder, _FOLDER, dir_fd=handle)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise Refused(f"{path}: {folder} is a link or a file, not a directory", reason="NotEmpty") from error
        raise


def _write_file(folder: int, name: str, file: TreeFile) -> None:
    temporary = f".{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(temporary, _CREATE, 0o644, dir_fd=folder), "wb") as target:
            target.write(file.data)
            target.flush()
            os.fchmod(target.fileno(), 0o644)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError as error:
        _drop(folder, temporary)
        raise Refused(f"{file.path}: there is a directory of this name", reason="NotEmpty") from error
    except BaseException:
        _drop(folder, temporary)
        raise


def _drop(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
