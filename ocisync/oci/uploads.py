"""Blob uploads: one streamed PUT of known length; in chunks where a registry or proxy refuses that.

An upload session is in an unknown state after any trouble, so a failed upload starts over with a new session, after
asking whether the blob arrived after all. The bytes are hashed while they are sent.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import OcisyncError, Refused
from ocisync.oci.endpoint import joined, origin_of
from ocisync.oci.failures import Answer, error_of

if TYPE_CHECKING:
    from ocisync.oci.transport import Call, Transport

CHUNK_BYTES = 8 * 1024 * 1024  # below the usual body limits of proxies
MAX_CHUNK_BYTES = 64 * 1024 * 1024  # what a registry may ask for as its minimum
CHUNKED_FROM_ATTEMPT = 3  # some proxies cut large bodies off instead of answering 413
_OCTETS = {"Content-Type": "application/octet-stream"}
# How registries, and proxies in front of them, say "not in one piece".
_WANTS_CHUNKS = frozenset({404, 405, 411, 413, 416, 501})


class _Part:
    """`length` bytes of a file from its current position: streamed and hashed."""

    def __init__(self, source: BinaryIO, length: int) -> None:
        self._source = source
        self._left = length
        self._length = length
        self._hash = hashlib.sha256()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(64 * 1024):
            yield data

    def read(self, amount: int = -1) -> bytes:
        """Return up to `amount` bytes of the part."""
        data = self._source.read(self._left if amount < 0 else min(amount, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        """The digest of what was read; empty unless all of it was."""
        return "" if self._left else "sha256:" + self._hash.hexdigest()


class Upload:
    """One blob on its way to one repository."""

    def __init__(
        self, transport: Transport, make_call: Callable[..., Call], descriptor: Descriptor, data: bytes | BinaryIO
    ) -> None:
        self._transport = transport
        self._call = make_call
        self._descriptor = descriptor
        self._source: BinaryIO = io.BytesIO(data) if isinstance(data, bytes) else data
        self._seekable = self._source.seekable()
        self._start = self._source.tell() if self._seekable else 0
        self._attempts = 0
        self._chunked = False
        endpoint = transport.endpoint
        self._what = f"uploading blob {descriptor.digest} to {endpoint.repository}"

    def run(self, arrived: Callable[[], bool]) -> None:
        """Upload, starting over as the retry plan allows.

        Args:
            arrived: asks whether the registry has the blob.

        Raises:
            Refused: the data is not what the descriptor says, or the registry does not want it.
            Unavailable: the registry did not take it within the plan.
        """
        self._transport.retrier.run(lambda: self._attempt(arrived))

    def _attempt(self, arrived: Callable[[], bool]) -> None:
        self._attempts += 1
        if self._attempts > 1 and arrived():
            return
        if self._attempts > 1 and not self._seekable:
            raise OcisyncError(f"{self._what}: the connection broke and the data cannot be read again")
        if self._attempts >= CHUNKED_FROM_ATTEMPT and self._seekable:
            self._chunked = self._descriptor.size > CHUNK_BYTES
        answer = self._send_chunks() if self._chunked else self._send_whole()
        if answer.status in _WANTS_CHUNKS and not self._chunked and self._descriptor.size and self._seekable:
            self._chunked = True
            answer = self._send_chunks()
        if not answer.ok:
            raise error_of(answer, self._what, self._transport.endpoint.name)

    def _send_whole(self) -> Answer:
        _, location = self._begin()
        size = self._descriptor.size
        parts: list[_Part] = []

        def body() -> bytes | _Part:
            if parts and not self._seekable:
                raise OcisyncError(f"{self._what}: the data cannot be sent twice")
            self._rewind()
            parts.append(_Part(self._source, size))
            return parts[-1] if size else b""

        answer = self._transport.once(self._call(self._what, "PUT", self._final(location), headers=_OCTETS, body=body))
        if answer.ok and size and parts[-1].digest != self._descriptor.digest:
            raise self._wrong_data()
        return answer

    def _send_chunks(self) -> Answer:
        answer, location = self._begin()
        self._rewind()
        minimum = answer.header("oci-chunk-min-length")
        chunk = CHUNK_BYTES
        if minimum.isdecimal():
            chunk = min(max(chunk, int(minimum[:12])), MAX_CHUNK_BYTES)
        whole = hashlib.sha256()
        done = 0
        while done < self._descriptor.size:
            data = self._source.read(min(chunk, self._descriptor.size - done))
            if not data:
                break
            whole.update(data)
            headers = {**_OCTETS, "Content-Range": f"{done}-{done + len(data) - 1}"}
            answer = self._transport.once(
                self._call(self._what, "PATCH", location, headers=headers, body=partial(bytes, data))
            )
            if not answer.ok:
                return answer
            location = self._location(answer, location)
            done += len(data)
        if "sha256:" + whole.hexdigest() != self._descriptor.digest:
            raise self._wrong_data()
        return self._transport.once(self._call(self._what, "PUT", self._final(location), headers=_OCTETS))

    def _wrong_data(self) -> Refused:
        return Refused(f"{self._what}: the data is not what its digest says", reason="BadArtifact")

    def _rewind(self) -> None:
        if self._seekable:
            self._source.seek(self._start)

    def _begin(self) -> tuple[Answer, str]:
        url = self._transport.endpoint.url("blobs/uploads/")
        answer = self._transport.once(self._call(self._what, "POST", url))
        if answer.status != 202:
            if answer.ok:
                raise OcisyncError(f"{self._what}: HTTP {answer.status} instead of 202 for a new upload")
            raise error_of(answer, self._what, self._transport.endpoint.name)
        return answer, self._location(answer, url)

    def _location(self, answer: Answer, url: str) -> str:
        return upload_location(answer, url, self._what)

    def _final(self, location: str) -> str:
        parts = urlsplit(location)
        query = f"{parts.query}&" if parts.query else ""
        return urlunsplit(parts._replace(query=f"{query}digest={quote(self._descriptor.digest, safe='')}"))


def upload_location(answer: Answer, url: str, what: str) -> str:
    """Where an upload goes on. A TLS-terminating proxy's `http://` for the same host is read as https.

    Raises:
        Refused: no usable address, or one that leaves https.
    """
    target = joined(url, answer.header("location"))
    here, there = urlsplit(url), urlsplit(target if origin_of(target) else "")
    if here.scheme == "https" and there.scheme == "http" and there.hostname == here.hostname:
        target = urlunsplit(there._replace(scheme="https", netloc=here.netloc))
    origin = origin_of(target)
    if not answer.header("location") or not origin or (here.scheme == "https" and not origin.startswith("https:")):
        raise Refused(f"{what}: the registry names no usable upload address", reason="BadRedirect")
    return target
