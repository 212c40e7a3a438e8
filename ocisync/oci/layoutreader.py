"""A blob of a layout as a stream that ends in the right content or in an error."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO

from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused
from ocisync.oci.documents import BAD_ARTIFACT

BUFFER_BYTES = 256 * 1024


class CheckedReader(io.RawIOBase):
    """Hashes what it gives, and raises `Refused` instead of giving the last piece of other content."""

    def __init__(self, file: BinaryIO, descriptor: Descriptor, what: str) -> None:
        super().__init__()
        self._file = file
        self._descriptor = descriptor
        self._what = what
        self._hash = hashlib.sha256()
        self._left = descriptor.size

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes."""
        data = self._file.read(min(len(buffer), self._left)) if self._left else b""
        self._hash.update(data)
        self._left -= len(data)
        ended = self._left == 0
        if (self._left and not data) or (ended and "sha256:" + self._hash.hexdigest() != self._descriptor.digest):
            raise Refused(f"{self._what}: the file has other content", reason=BAD_ARTIFACT)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def open_checked(file: BinaryIO, descriptor: Descriptor, what: str) -> BinaryIO:
    """Wrap a file that begins where the blob does."""
    return io.BufferedReader(CheckedReader(file, descriptor, what), BUFFER_BYTES)
