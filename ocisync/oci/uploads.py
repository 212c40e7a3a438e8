"""Blob uploads: one streamed PUT of known length; in chunks where a registry or proxy refuses that.

A broken upload of more than a chunk is taken up where the registry says it stopped (GET of the session, then PATCH from
there). Where it cannot say (distribution 2 drops a session whose chunk broke), the upload starts over with a new
session, after asking whether the blob arrived after all. As long as the registry confirms more bytes each time, the
upload goes on. The bytes are hashed while they are sent the first time.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest
from ocisync.model.errors import OcisyncError, Refused, Unavailable
from ocisync.oci.endpoint import joined, origin_of
from ocisync.oci.failures import Answer, error_of
from ocisync.oci.retry import PROGRESS_BYTES

if TYPE_CHECKING:
    from ocisync.oci.transport import Call, Transport

MAX_CHUNK_BYTES = 64 * 1024 * 1024  # what a registry may ask for as its minimum
CHUNKED_FROM_ATTEMPT = 3  # some proxies cut large bodies off instead of answering 413
PIECE_BYTES = 64 * 1024
_OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes[ =])?0-(-1|[0-9]{1,18})\Z", re.ASCII)  # olareg says 0--1 of an empty session
# How registries, and proxies in front of them, say "not in one piece".
_WANTS_CHUNKS = frozenset({404, 405, 411, 413, 416, 501})
# How registries say that a session is gone, or elsewhere than they said a moment ago.
_SESSION_LOST = frozenset({400, 404, 409, 410, 412, 416, 422})
_SESSION_GONE = frozenset({404, 410, 416})  # a restarted registry forgets sessions; once, that is worth a new one


class _Data:
    """The blob's bytes: hashed once, and read again from where they are needed.

    What cannot be sought keeps its last chunk; less than a chunk of it is kept whole.
    """

    def __init__(self, source: bytes | BinaryIO, size: int, keep: int) -> None:
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        self.seekable = source.seekable()
        if not self.seekable and size <= keep:
            source, self.seekable = io.BytesIO(source.read(size)), True
        self._source: BinaryIO | _Chain = source
        self._seek = source.seek
        self._start = source.tell() if self.seekable else 0
        self._size = size
        self._at = 0
        self._hashed = 0
        self._hash = hashlib.sha256()
        self._last = b""  # ends at `_at`; only of what cannot be sought

    def seek(self, offset: int) -> bool:
        """Go on reading at `offset`; False if that is out of reach."""
        if offset > self._hashed:
            return False  # more than was ever read: nobody can have it from us
        if self.seekable:
            self._seek(self._start + offset)
        elif offset != self._at:
            if not self._at - len(self._last) <= offset <= self._at:
                return False
            self._last = self._last[len(self._last) - (self._at - offset) :]
            self._source = _Chain(self._last, self._source)
            self._last = b""
        self._at = offset
        return True

    def read(self, amount: int) -> bytes:
        """Return up to `amount` bytes; fewer only at the end."""
        data = self._source.read(min(amount, self._size - self._at))
        fresh = self._at + len(data) - self._hashed
        if fresh > 0:
            self._hash.update(data[len(data) - fresh :])
            self._hashed += fresh
        self._at += len(data)
        if not self.seekable:
            self._last = data
        return data

    @property
    def digest(self) -> str:
        """The digest of the whole; empty unless all of it was read."""
        return "sha256:" + self._hash.hexdigest() if self._hashed == self._size else ""


class _Chain:
    """Some bytes, then a file."""

    def __init__(self, first: bytes, rest: BinaryIO | _Chain) -> None:
        self._first = first
        self._rest = rest

    def read(self, amount: int = -1) -> bytes:
        """Return up to `amount` bytes; fewer only at the end."""
        taken, self._first = self._first[:amount], self._first[amount:]
        return taken + self._rest.read(amount - len(taken)) if len(taken) < amount else taken


class _Part:
    """All of the data as one request body."""

    def __init__(self, data: _Data, length: int) -> None:
        self._data = data
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(PIECE_BYTES):
            yield piece

    def read(self, amount: int = -1) -> bytes:
        """Return up to `amount` bytes."""
        return self._data.read(self._length if amount < 0 else amount)


class Upload:
    """One blob on its way to one repository."""

    def __init__(
        self, transport: Transport, make_call: Callable[..., Call], descriptor: Descriptor, data: bytes | BinaryIO
    ) -> None:
        self._transport = transport
        self._call = make_call
        self._descriptor = descriptor
        self._chunk = transport.options.chunk_bytes
        self._data = _Data(data, descriptor.size, self._chunk)
        # What cannot be sought could not be sent a second time in one piece.
        self._chunked = not self._data.seekable
        self._attempts = 0
        self._location = ""
        self._confirmed = 0
        self._begun_anew = False
        endpoint = transport.endpoint
        self._what = f"uploading blob {descriptor.digest} to {endpoint.repository}"

    def run(self, arrived: Callable[[], bool]) -> None:
        """Upload, going on or starting over as the retry plan allows.

        Args:
            arrived: asks whether the registry has the blob.

        Raises:
            Refused: the data is not what the descriptor says, or the registry does not want it.
            Unavailable: the registry did not take it within the plan.
        """
        while True:
            before = self._confirmed
            try:
                return self._transport.retrier.run(lambda: self._attempt(arrived))
            except Unavailable as error:
                # A long upload over a bad line may fail often; each new plan has to be paid with progress.
                if self._confirmed < before + PROGRESS_BYTES or error.retry_after_s is not None:
                    raise

    def _attempt(self, arrived: Callable[[], bool]) -> None:
        self._attempts += 1
        again = self._attempts > 1
        if again and arrived():
            return
        if self._attempts >= CHUNKED_FROM_ATTEMPT:
            self._chunked = self._chunked or self._descriptor.size > self._chunk
        offset = self._offset_there() if again else None
        answer = self._start_over() if offset is None else self._send_chunks(offset)
        taken_up = offset is not None and answer.status in _SESSION_LOST
        if taken_up or (self._chunked and answer.status in _SESSION_GONE and not self._begun_anew):
            self._begun_anew = True
            answer = self._start_over()
        if not answer.ok:
            raise error_of(answer, self._what, self._transport.endpoint.name)
        stored = answer.header("docker-content-digest").strip()
        if is_digest(stored) and stored != self._descriptor.digest:
            raise Refused(
                f"{self._what}: the registry stored other content, with digest {stored}", reason="BadArtifact"
            )

    def _offset_there(self) -> int | None:
        """How many bytes the broken session has; None if it cannot or need not be taken up."""
        if not self._location or self._descriptor.size <= self._chunk:
            return None
        answer = self._send("GET", self._location, scope=self._transport.scope_for("PUT"))
        found = _RANGE.match(answer.header("range").strip())
        if not answer.ok or (found is None and answer.header("range")):
            return None
        # "0-0" is what registries say of an empty session as well as of one byte; nobody sends one byte.
        last = int(found[1]) if found is not None else 0
        offset = last + 1 if last > 0 else 0
        if answer.header("location"):
            self._location = upload_location(answer, self._location, self._what)
        if not self._data.seek(offset):
            return None
        self._confirmed = max(self._confirmed, offset)
        return offset

    def _start_over(self) -> Answer:
        answer = self._begin()
        if not self._chunked:
            answer = self._send_whole()
            if answer.status not in _WANTS_CHUNKS or not self._descriptor.size:
                return answer
            self._chunked = True
            answer = self._begin()
        minimum = answer.header("oci-chunk-min-length").strip()
        if minimum.isdecimal():
            self._chunk = min(max(self._chunk, int(minimum[:12])), MAX_CHUNK_BYTES)
        return self._send_chunks(0)

    def _send_whole(self) -> Answer:
        size = self._descriptor.size

        def body() -> bytes | _Part:
            self._rewind()
            return _Part(self._data, size) if size else b""

        answer = self._send("PUT", self._final(), headers=_OCTETS, body=body)
        if answer.ok and size:
            self._check_digest()
        return answer

    def _send_chunks(self, offset: int) -> Answer:
        """Send everything from `offset` on, where the data stands already, and finish."""
        while offset < self._descriptor.size:
            data = self._data.read(self._chunk)
            if not data:
                raise self._wrong_data()
            headers = {**_OCTETS, "Content-Range": f"{offset}-{offset + len(data) - 1}"}
            answer = self._send("PATCH", self._location, headers=headers, body=partial(bytes, data))
            if not answer.ok:
                return answer
            self._location = upload_location(answer, self._location, self._what)
            offset += len(data)
            self._confirmed = max(self._confirmed, offset)
        self._check_digest()
        return self._send("PUT", self._final(), headers=_OCTETS)

    def _begin(self) -> Answer:
        self._location = ""
        self._rewind()
        url = self._transport.endpoint.url("blobs/uploads/")
        answer = self._send("POST", url)
        if answer.status != 202:
            if answer.ok:
                raise OcisyncError(f"{self._what}: HTTP {answer.status} instead of 202 for a new upload")
            raise error_of(answer, self._what, self._transport.endpoint.name)
        self._location = upload_location(answer, url, self._what)
        return answer

    def _rewind(self) -> None:
        if not self._data.seek(0):
            raise OcisyncError(f"{self._what}: the connection broke and the data cannot be read again")

    def _send(self, method: str, url: str, **rest: object) -> Answer:
        return self._transport.once(self._call(self._what, method, url, **rest))

    def _check_digest(self) -> None:
        if self._data.digest != self._descriptor.digest:
            raise self._wrong_data()

    def _wrong_data(self) -> Refused:
        return Refused(f"{self._what}: the data is not what its digest says", reason="BadArtifact")

    def _final(self) -> str:
        parts = urlsplit(self._location)
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
