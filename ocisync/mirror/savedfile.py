"""A mirror file on disk: there whole or not at all, and what a killed run had fetched is not fetched again.

A file grows under `NAME.partial` and is renamed at the end. A run that finds such a file keeps it as `NAME.spare` and
takes from it, after hashing it, every blob that it holds whole; unless the disk has no room for both. A disk that is
too small is told of before anything is written, and one that becomes full is left as it was. Two runs do not write one
file at the same time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ocisync.kit.sizes import readable
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import OcisyncError, Unavailable
from ocisync.model.limits import LAYOUT_MEMBERS
from ocisync.oci.layoutfiles import BLOBS

_BLOCK = 512
_CHUNK = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM_HINT = "free some space, name a file elsewhere, or save less: fewer versions, or a delta with --since"


class Spare:
    """What an unfinished file holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spans: dict[str, tuple[int, int]] = {}
        if path.is_file():
            with path.open("rb") as file:
                self._scan(file, path.stat().st_size)

    def _scan(self, file: BinaryIO, length: int) -> None:
        offset = 0
        for _ in range(LAYOUT_MEMBERS):
            file.seek(offset)
            block = file.read(_BLOCK)
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.TarError:
                return  # cut off here
            if info.size < 0 or offset + _BLOCK + info.size > length:
                return
            if info.name.startswith(BLOBS):
                self._spans["sha256:" + info.name.removeprefix(BLOBS)] = (offset + _BLOCK, info.size)
            offset += _BLOCK + info.size + -info.size % _BLOCK

    def open(self, blob: Descriptor) -> BinaryIO | None:
        """A file that stands where a blob begins; None if it is not here whole and right."""
        span = self._spans.get(blob.digest)
        if span is None or span[1] != blob.size:
            return None
        file = self._path.open("rb")
        file.seek(span[0])
        digest, left = hashlib.sha256(), blob.size
        while left and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        if left or "sha256:" + digest.hexdigest() != blob.digest:
            file.close()
            return None
        file.seek(span[0])
        return file


@contextmanager
def saved_file(path: Path, size: int = 0) -> Iterator[tuple[BinaryIO, Spare]]:
    """A file to be written, which appears under its name at the end of the block; and what is there already.

    Raises:
        OcisyncError: there is no room for `size` bytes, or no more room.
        Unavailable: another run is writing it.
    """
    partial, spare = (path.with_name(path.name + ending) for ending in (".partial", ".spare"))
    with _alone(partial, spare) as target:
        _make_room(path, partial, spare, size)
        try:
            yield target, Spare(spare)
            target.flush()
            os.fsync(target.fileno())
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            partial.unlink(missing_ok=True)  # whoever filled the disk needs the room now
            raise OcisyncError(
                f"{path}: {(error.strerror or '').lower()}; what had been written was removed", hint=_NO_ROOM_HINT
            ) from error
        partial.replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    spare.unlink(missing_ok=True)


@contextmanager
def _alone(partial: Path, spare: Path) -> Iterator[BinaryIO]:
    """The file that grows, empty and ours; what another run left in its place becomes the spare."""
    while True:
        with _closing(partial.open("ab")) as left:
            try:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Unavailable(f"another run is writing {partial}", hint="wait for it") from error
            if not _is_at(left, partial):
                continue  # that run has just ended
            if left.tell() > (spare.stat().st_size if spare.exists() else 0):
                partial.replace(spare)
                continue
            left.truncate(0)
            yield left
            return


@contextmanager
def _closing(file: BinaryIO) -> Iterator[BinaryIO]:
    """Close without a word: a full disk would say a second time that it is, and more loudly than what we say of it."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _make_room(path: Path, partial: Path, spare: Path, size: int) -> None:
    """Give up what a killed run left if the disk is too small for it and the new file.

    Raises:
        OcisyncError: it is too small all the same.
    """
    free = _free(path)
    if free < size and spare.exists():
        spare.unlink()
        free = _free(path)
    if free < size:
        partial.unlink()
        raise OcisyncError(f"{path} needs {readable(size)}, and {readable(free)} are free there", hint=_NO_ROOM_HINT)


def _free(path: Path) -> int:
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize
