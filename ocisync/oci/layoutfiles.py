"""The files of an OCI image layout: what `LayoutStore` needs of a directory or a tar file.

Names are `oci-layout`, `index.json` and `blobs/sha256/HEX`, and nothing else. Whatever is not a plain file under its
own name (links of any kind, devices, sockets) is refused: a layout may come from a stranger.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import InvalidInput, Refused, Unavailable
from ocisync.oci.documents import BAD_ARTIFACT, parse_json

MARKER = "oci-layout"
INDEX = "index.json"
BLOBS = "blobs/sha256/"
MARKER_TEXT = b'{"imageLayoutVersion":"1.0.0"}'
MARKER_BYTES = 4096
NEW = ".new-"  # the beginning of temporary names

_CHUNK = 1024 * 1024
_LOCK_STEP_S = 0.05
_LOCK_STEPS = 600  # half a minute: longer than any honest writer holds it

IndexChange = Callable[[bytes | None], bytes | None]


class LayoutFiles(Protocol):
    """Files of one layout. Several processes may use it at once."""

    def exists(self) -> bool:
        """Whether there is a layout; a directory or file that is something else is an error."""
        ...

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of a file; None if there is none.

        Raises:
            Refused: larger than `limit` bytes, or no plain file.
        """
        ...

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; None if there is none."""
        ...

    def open(self, name: str) -> BinaryIO | None:
        """A file to be read from its beginning; None if there is none."""
        ...

    def add(self, descriptor: Descriptor, data: BinaryIO) -> None:
        """Store a blob, replacing what is there.

        Raises:
            Refused: the data is not what the descriptor says; nothing was stored then.
        """
        ...

    def change_index(self, change: IndexChange) -> None:
        """Replace `index.json` by what `change` makes of it (None: leave it), with no other writer between."""
        ...

    def finish(self) -> None:
        """Make everything that was stored visible, if it is not yet."""
        ...

    def abandon(self) -> None:
        """Forget what is not visible yet."""
        ...


def blob_name(digest: str) -> str:
    """Where a blob is."""
    return BLOBS + digest.removeprefix("sha256:")


def check_marker(raw: bytes, place: str) -> None:
    """Refuse a layout of another version.

    Raises:
        Refused: the `oci-layout` file says no or another version.
    """
    version = parse_json(raw, f"{place}/{MARKER}").get("imageLayoutVersion")
    if version != "1.0.0":
        raise Refused(
            f"{place} is an image layout of version {json.dumps(version)[:40]}, not 1.0.0", reason=BAD_ARTIFACT
        )


def not_a_layout(place: str, what: str) -> InvalidInput:
    """The error for a place that holds something else."""
    return InvalidInput(
        f"{place} is {what}, not an OCI image layout",
        hint="name a directory or .tar file that does not exist yet, or one with an oci-layout file in it",
    )


def copy_checked(data: BinaryIO, target: BinaryIO, descriptor: Descriptor, place: str) -> None:
    """Copy exactly what a descriptor describes.

    Raises:
        Refused: other content, or more or less of it.
    """
    digest = hashlib.sha256()
    left = descriptor.size
    while left and (chunk := data.read(min(_CHUNK, left))):
        digest.update(chunk)
        target.write(chunk)
        left -= len(chunk)
    if left or data.read(1) or "sha256:" + digest.hexdigest() != descriptor.digest:
        raise Refused(f"blob {descriptor.digest} for {place} is not what its descriptor says", reason=BAD_ARTIFACT)


@contextmanager
def locked(handle: int, place: str, sleep: Callable[[float], object]) -> Iterator[None]:
    """Hold the exclusive lock of an open file.

    Raises:
        Unavailable: somebody else holds it for too long.
    """
    take_lock(handle, place, sleep)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def take_lock(handle: int, place: str, sleep: Callable[[float], object]) -> None:
    """Take the exclusive lock of an open file; closing it gives it back.

    Raises:
        Unavailable: somebody else holds it for too long.
    """
    for _ in range(_LOCK_STEPS):
        if try_lock(handle):
            return
        sleep(_LOCK_STEP_S)
    raise Unavailable(f"another process is writing to {place} and does not end", hint="try again when it has ended")


def try_lock(handle: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def as_stream(data: bytes | BinaryIO) -> BinaryIO:
    """Bytes as a file."""
    return io.BytesIO(data) if isinstance(data, bytes) else data


def read_up_to(handle: int, limit: int, what: str) -> bytes:
    """All of an open file.

    Raises:
        Refused: it is larger than `limit` bytes.
    """
    size = os.fstat(handle).st_size
    with os.fdopen(os.dup(handle), "rb") as file:
        data = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(data) > limit:
        raise Refused(f"{what}: {size} bytes, more than the limit of {limit}", reason="TooLarge")
    return data
