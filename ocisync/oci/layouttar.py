"""An OCI image layout in a tar file.

Read through an index of its members, in place: nothing is extracted, the number of members and of bytes of each header
is bounded, and links, sparse files and members that appear twice are refused. Files that are no part of a layout
(docker's `manifest.json`) are ignored, and not kept when the file is written anew.

Written as one transaction: blobs wait in an unnamed file, and `finish` writes a new tar beside the old one and renames
it, so the tar has all of a command's work or none. Until then a lock on the directory keeps other writers waiting.
The order is deterministic: `oci-layout`, `index.json`, then blobs by size and digest (manifests first, since they are
small, so that a reader of a stream sees them early). Equal layouts are equal files.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from ocisync.kit.atomic import naming
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused
from ocisync.model.limits import LAYOUT_INDEX_BYTES, LAYOUT_MEMBERS
from ocisync.oci.documents import BAD_ARTIFACT
from ocisync.oci.layoutfiles import (
    BLOBS,
    INDEX,
    MARKER,
    MARKER_BYTES,
    MARKER_TEXT,
    NEW,
    IndexChange,
    blob_name,
    check_marker,
    copy_checked,
    not_a_layout,
    take_lock,
)

_BLOCK = 512
_PAX_BYTES = 64 * 1024
_MEMBER_BYTES = 8 * 1024**3 - 1  # what a plain tar header can say
_CHUNK = 1024 * 1024
_NAME = re.compile(r"(?:oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})\Z")
_IGNORED = frozenset({tarfile.DIRTYPE, b"g"})
_PLAIN = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE})

Span = tuple[int, int]  # offset and size in bytes


class LayoutTar:
    """Implements `LayoutFiles` for one tar file; safe for threads. Close it (`finish` or `abandon`) after writing."""

    def __init__(self, path: Path, place: str, sleep: Callable[[float], object]) -> None:
        self._path = path
        self._place = place
        self._sleep = sleep
        self._mutex = threading.RLock()
        self._file: BinaryIO | None = None
        self._seen: tuple[int, int, int] | None = None
        self._members: dict[str, Span] = {}
        self._lock: int | None = None
        self._staged: BinaryIO | None = None
        self._new: dict[str, Span] = {}
        self._index: bytes | None = None

    def exists(self) -> bool:
        """Whether the file is a tar with an `oci-layout` member."""
        raw = self.read(MARKER, MARKER_BYTES)
        if raw is not None:
            check_marker(raw, self._place)
            return True
        if self._file is not None:
            raise not_a_layout(self._place, "a tar file without the member oci-layout")
        return False

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of a member."""
        with self._mutex:
            if name == INDEX and self._index is not None:
                return self._index
            found = self._find(name)
            if found is None:
                # Whoever has begun to write will have made it a layout.
                return MARKER_TEXT if name == MARKER and self._staged is not None else None
            file, (offset, size) = found
            if size > limit:
                raise Refused(f"{self._place}/{name}: {size} bytes, more than the limit of {limit}", reason="TooLarge")
            data = os.pread(file.fileno(), size, offset) if size else b""
            if len(data) != size:
                raise self._bad(f"{name} is cut off")
            return data

    def size(self, name: str) -> int | None:
        """The size of a member."""
        with self._mutex:
            found = self._find(name)
            return found[1][1] if found else None

    def open(self, name: str) -> BinaryIO | None:
        """A member to be read: a window on the file."""
        with self._mutex:
            found = self._find(name)
            return None if found is None else cast(BinaryIO, _Window(os.dup(found[0].fileno()), *found[1]))

    def add(self, descriptor: Descriptor, data: BinaryIO) -> None:
        """Let a blob wait for `finish`."""
        if descriptor.size > _MEMBER_BYTES:
            raise Refused(f"blob {descriptor.digest} is too large for a tar file", reason="TooLarge")
        with self._mutex, naming(self._path):
            staged = self._begin()
            start = staged.seek(0, os.SEEK_END)
            copy_checked(data, staged, descriptor, self._place)
            staged.flush()
            self._new[blob_name(descriptor.digest)] = (start, descriptor.size)

    def change_index(self, change: IndexChange) -> None:
        """Replace the index; visible to others with `finish`."""
        with self._mutex:
            self._begin()
            changed = change(self.read(INDEX, LAYOUT_INDEX_BYTES))
            if changed is not None:
                self._index = changed

    def finish(self) -> None:
        """Write the new file, if anything was stored."""
        with self._mutex:
            try:
                if self._new or self._index is not None:
                    self._write()
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Forget what was stored, and let other writers go on."""
        with self._mutex:
            if self._staged is not None:
                self._staged.close()
            if self._lock is not None:
                os.close(self._lock)
            self._staged = self._lock = self._index = None
            self._new = {}
            self._forget()

    # -- reading ----------------------------------------------------------------------------------

    def _find(self, name: str) -> tuple[BinaryIO, Span] | None:
        if name in self._new and self._staged is not None:
            return self._staged, self._new[name]
        self._load()
        if name in self._members and self._file is not None:
            return self._file, self._members[name]
        return None

    def _load(self) -> None:
        """Read the members, again if the file was replaced; never in the middle of a transaction."""
        if self._lock is not None:
            return
        try:
            now = self._path.stat()
        except FileNotFoundError:
            self._forget()
            return
        seen = (now.st_ino, now.st_mtime_ns, now.st_size)
        if seen == self._seen:
            return
        if not stat.S_ISREG(now.st_mode):
            raise not_a_layout(self._place, "no plain file")
        self._forget()
        self._file = self._path.open("rb", buffering=0)
        opened = os.fstat(self._file.fileno())
        self._members = self._scan(self._file.fileno(), opened.st_size)
        self._seen = (opened.st_ino, opened.st_mtime_ns, opened.st_size)

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._seen, self._members = None, None, {}

    def _scan(self, handle: int, length: int) -> dict[str, Span]:
        members: dict[str, Span] = {}
        offset = count = 0
        extended: dict[str, str] = {}
        while offset + _BLOCK <= length:
            block = os.pread(handle, _BLOCK, offset)
            if block.count(0) == _BLOCK:
                break
            count += 1
            if count > LAYOUT_MEMBERS:
                raise Refused(f"{self._place} has more than {LAYOUT_MEMBERS} members", reason="TooLarge")
            info = self._header(block)
            size = int(extended.get("size", info.size)) if extended.get("size", "0").isdecimal() else -1
            start = offset + _BLOCK
            if size < 0 or start + size > length:
                raise self._bad("a member is longer than the file")
            offset = start + -(-size // _BLOCK) * _BLOCK
            if info.type == tarfile.XHDTYPE:
                extended = self._pax(handle, start, size)
                continue
            name = extended.get("path", info.name).removeprefix("./")
            extended = {}
            if info.type in _IGNORED:
                continue
            if info.type not in _PLAIN:
                raise self._bad(f"{name[:100]!r} is no plain file")
            if _NAME.match(name):
                if name in members:
                    raise self._bad(f"{name} appears twice")
                members[name] = (start, size)
        return members

    def _header(self, block: bytes) -> tarfile.TarInfo:
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            if block[:2] == b"\x1f\x8b":
                raise self._bad("it is compressed: gunzip it first") from error
            raise self._bad(f"no tar header where one belongs: {error}") from error

    def _pax(self, handle: int, start: int, size: int) -> dict[str, str]:
        """The records of an extended header that matter: `path` and `size`."""
        if size > _PAX_BYTES:
            raise self._bad("an extended header is too large")
        data = os.pread(handle, size, start)
        found: dict[str, str] = {}
        while data:
            length, _, _ = data.partition(b" ")
            if not length.isdigit() or len(length) > 6 or not len(length) + 3 < int(length) <= len(data):
                raise self._bad("an extended header is malformed")
            key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
            if key.startswith(b"GNU.sparse"):
                raise self._bad("a sparse file")
            if key in {b"path", b"size"}:
                found[key.decode()] = value.decode("utf-8", "surrogateescape")
            data = data[int(length) :]
        return found

    def _bad(self, why: str) -> Refused:
        return Refused(f"{self._place}: {why}", reason=BAD_ARTIFACT)

    # -- writing ----------------------------------------------------------------------------------

    def _begin(self) -> BinaryIO:
        """Become the only writer, and see what the last one left."""
        if self._staged is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                take_lock(lock, self._place, self._sleep)
                self.exists()
            except BaseException:
                os.close(lock)
                raise
            self._lock = lock
            self._staged = cast(BinaryIO, tempfile.TemporaryFile(dir=self._path.parent))  # noqa: SIM115 - see abandon
        return self._staged

    def _write(self) -> None:
        folder, prefix = self._path.parent, f".{self._path.name}{NEW}"
        for left in folder.glob(f"{_escaped(prefix)}*"):
            left.unlink(missing_ok=True)  # of a killed writer: we hold the lock
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
        try:
            with naming(self._path), os.fdopen(handle, "wb") as target:
                self._write_members(target)
                target.flush()
                os.fchmod(target.fileno(), 0o644)
                os.fsync(target.fileno())
            Path(name).replace(self._path)
            if self._lock is not None:
                os.fsync(self._lock)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _write_members(self, target: BinaryIO) -> None:
        index = self.read(INDEX, LAYOUT_INDEX_BYTES)
        for name, data in ((MARKER, MARKER_TEXT), (INDEX, index if index is not None else _EMPTY_INDEX)):
            target.write(_header_of(name, len(data)) + data + _padding(len(data)))
        target.write(_header_of("blobs", 0, tarfile.DIRTYPE) + _header_of("blobs/sha256", 0, tarfile.DIRTYPE))
        names = {name for name in (*self._members, *self._new) if name.startswith(BLOBS)}
        spans = {name: found for name in names if (found := self._find(name)) is not None}
        for name, (file, (offset, size)) in sorted(spans.items(), key=lambda item: (item[1][1][1], item[0])):
            target.write(_header_of(name, size))
            done = 0
            while done < size:
                chunk = os.pread(file.fileno(), min(_CHUNK, size - done), offset + done)
                if not chunk:
                    raise self._bad(f"{name} is cut off")
                target.write(chunk)
                done += len(chunk)
            target.write(_padding(size))
        target.write(bytes(2 * _BLOCK))


_EMPTY_INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'


class _Window:
    """Part of a file as a file of its own."""

    def __init__(self, handle: int, offset: int, size: int) -> None:
        self._handle = handle
        self._offset = offset
        self._left = size

    def __enter__(self) -> _Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, amount: int = -1) -> bytes:
        wanted = self._left if amount < 0 else min(amount, self._left)
        data = os.pread(self._handle, wanted, self._offset) if wanted else b""
        self._offset += len(data)
        self._left -= len(data)
        return data

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _header_of(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _escaped(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
