"""An OCI image layout in a directory.

Every file is either the old or the new version at any instant: written under a temporary name, synced, renamed.
`index.json` changes under a lock on the file `oci-layout`, which is written once and never replaced, so several
processes may write at once. A writer locks its temporary file, so whoever comes later can tell what a killed one left
behind, and removes it. Below the directory itself no link is followed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ocisync.kit.atomic import naming
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused
from ocisync.model.limits import LAYOUT_INDEX_BYTES
from ocisync.oci.documents import BAD_ARTIFACT
from ocisync.oci.layoutfiles import (
    INDEX,
    MARKER,
    MARKER_BYTES,
    MARKER_TEXT,
    NEW,
    IndexChange,
    blob_name,
    check_marker,
    copy_checked,
    locked,
    not_a_layout,
    read_up_to,
    take_lock,
    try_lock,
)

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LayoutDirectory:
    """Implements `LayoutFiles`. Nothing is created before the first write."""

    def __init__(self, path: Path, place: str, sleep: Callable[[float], object]) -> None:
        self._path = path
        self._place = place
        self._sleep = sleep
        self._prepared = False
        self._preparing = threading.Lock()

    def exists(self) -> bool:
        """Whether the directory has an `oci-layout` file."""
        raw = self.read(MARKER, MARKER_BYTES)
        if raw is not None:
            check_marker(raw, self._place)
            return True
        if self._path.exists():
            self._check_empty()
        return False

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of a file."""
        with self._opened(name) as handle:
            return None if handle is None else read_up_to(handle, limit, f"{self._place}/{name}")

    def size(self, name: str) -> int | None:
        """The size of a file."""
        with self._opened(name) as handle:
            return None if handle is None else os.fstat(handle).st_size

    def open(self, name: str) -> BinaryIO | None:
        """A file to be read."""
        with self._opened(name) as handle:
            return None if handle is None else os.fdopen(os.dup(handle), "rb")

    def add(self, descriptor: Descriptor, data: BinaryIO) -> None:
        """Store a blob."""
        with self._root() as root:
            self._replace(
                root, blob_name(descriptor.digest), lambda file: copy_checked(data, file, descriptor, self._place)
            )

    def change_index(self, change: IndexChange) -> None:
        """Replace the index under the lock."""
        with self._root() as root, self._lock(root):
            changed = change(self.read(INDEX, LAYOUT_INDEX_BYTES))
            if changed is not None:
                self._replace(root, INDEX, lambda file: file.write(changed), held=True)

    def finish(self) -> None:
        """Nothing to do: everything is visible at once."""

    def abandon(self) -> None:
        """Nothing to do: everything is visible at once."""

    # -- reading ----------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, name: str) -> Iterator[int | None]:
        """A plain file below the directory, without following a link; None if there is none."""
        handles: list[int] = []
        try:
            try:
                handles.append(os.open(self._path, _FOLDER))
                *folders, last = name.split("/")
                for folder in folders:
                    handles.append(os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=handles[-1]))
                handles.append(os.open(last, _FILE, dir_fd=handles[-1]))
            except FileNotFoundError:
                yield None
                return
            except NotADirectoryError as error:
                if not handles:
                    raise not_a_layout(self._place, "a file") from error
                raise self._irregular(name) from error
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
                    raise self._irregular(name) from error
                raise
            if not stat.S_ISREG(os.fstat(handles[-1]).st_mode):
                raise self._irregular(name)
            yield handles[-1]
        finally:
            for handle in handles:
                os.close(handle)

    def _irregular(self, name: str) -> Refused:
        return Refused(f"{self._place}: {name} is no plain file, or lies behind a link", reason=BAD_ARTIFACT)

    # -- writing ----------------------------------------------------------------------------------

    @contextmanager
    def _root(self) -> Iterator[int]:
        """The directory, made a layout before if it is none."""
        with self._preparing:
            if not self._prepared:
                self._path.mkdir(parents=True, exist_ok=True)
            root = os.open(self._path, _FOLDER)
            try:
                if not self._prepared:
                    self._prepare(root)
                    self._prepared = True
            except BaseException:
                os.close(root)
                raise
        try:
            yield root
        finally:
            os.close(root)

    def _prepare(self, root: int) -> None:
        if not self.exists():
            # Linked, not renamed: of two that begin at once the first wins, and the locked file stays the same one.
            name = NEW + secrets.token_hex(8)
            with os.fdopen(os.open(name, _CREATE, 0o644, dir_fd=root), "wb") as file:
                file.write(MARKER_TEXT)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(name, MARKER, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False)
            except FileExistsError:
                pass
            except FileNotFoundError:
                if not self.exists():  # else the other one was faster, and has swept our file away
                    raise
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}:
                    raise
                os.rename(name, MARKER, src_dir_fd=root, dst_dir_fd=root)  # a file system without links: a USB stick
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=root)
            os.fsync(root)
        with suppress(FileExistsError):
            os.mkdir("blobs", 0o755, dir_fd=root)
        with self._folder(root, "blobs") as blobs, suppress(FileExistsError):
            os.mkdir("sha256", 0o755, dir_fd=blobs)
        with self._lock(root):
            self._sweep(root)
            if self.read(INDEX, LAYOUT_INDEX_BYTES) is None:
                empty = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
                self._replace(root, INDEX, lambda file: file.write(empty), held=True)

    def _check_empty(self) -> None:
        with os.scandir(self._path) as entries:
            if any(not entry.name.startswith(NEW) for entry in entries):
                raise not_a_layout(self._place, "a directory with other files")

    def _sweep(self, root: int) -> None:
        """Remove what killed writers left; the lock of the layout is held."""
        for name in os.listdir(root):
            if not name.startswith(NEW):
                continue
            with suppress(OSError):
                handle = os.open(name, _FILE, dir_fd=root)
                try:
                    if try_lock(handle):
                        os.unlink(name, dir_fd=root)
                finally:
                    os.close(handle)

    @contextmanager
    def _folder(self, root: int, name: str) -> Iterator[int]:
        try:
            handle = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=root)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise self._irregular(name) from error
            raise
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _lock(self, root: int) -> Iterator[None]:
        handle = os.open(MARKER, _FILE, dir_fd=root)
        try:
            with locked(handle, self._place, self._sleep):
                yield
        finally:
            os.close(handle)

    def _temporary(self, root: int, *, held: bool) -> tuple[str, int]:
        """A new file, locked before any sweeper can see it unlocked."""

        def make() -> tuple[str, int]:
            name = NEW + secrets.token_hex(8)
            handle = os.open(name, _CREATE, 0o644, dir_fd=root)
            take_lock(handle, self._place, self._sleep)
            return name, handle

        if held:
            return make()
        with self._lock(root):
            return make()

    def _replace(self, root: int, name: str, write: Callable[[BinaryIO], object], *, held: bool = False) -> None:
        """Write a file whole. `held`: the caller has the lock of the layout."""
        temporary, handle = self._temporary(root, held=held)
        try:
            with naming(self._path), os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                with suppress(PermissionError):  # a file system without modes
                    os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
                self._rename(root, temporary, name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=root)
            raise

    def _rename(self, root: int, temporary: str, name: str) -> None:
        *folders, last = name.split("/")
        target = os.dup(root)
        try:
            for folder in folders:
                with self._folder(target, folder) as inner:
                    os.dup2(inner, target)
            os.rename(temporary, last, src_dir_fd=root, dst_dir_fd=target)
            os.fsync(target)
        finally:
            os.close(target)
