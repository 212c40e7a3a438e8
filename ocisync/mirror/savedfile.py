"""A mirror file on disk: there whole or not at all, and what a killed run had fetched is not fetched again.

A file grows under `NAME.partial` and is renamed at the end. A run that finds such a file keeps it as `NAME.spare` and
takes from it, after hashing it, every blob that it holds whole.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ocisync.model.descriptor import Descriptor
from ocisync.model.limits import LAYOUT_MEMBERS
from ocisync.oci.layoutfiles import BLOBS

_BLOCK = 512
_CHUNK = 1024 * 1024


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
def saved_file(path: Path) -> Iterator[tuple[BinaryIO, Spare]]:
    """A file to be written, which appears under its name at the end of the block; and what is there already."""
    partial, spare = (path.with_name(path.name + ending) for ending in (".partial", ".spare"))
    if partial.exists() and (not spare.exists() or partial.stat().st_size > spare.stat().st_size):
        partial.replace(spare)
    with partial.open("wb") as target:
        yield target, Spare(spare)
        target.flush()
        os.fsync(target.fileno())
    partial.replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    spare.unlink(missing_ok=True)
