"""Blobs as streams: read piece by piece, taken up where the connection broke, checked before the last byte is given.

Memory is one buffer, whatever the blob's size. A consumer that has read all bytes has bytes of the right digest; one
that stops earlier has been promised nothing. After a break the rest is asked for by `Range`; a registry that ignores it
sends everything again, and what is known is skipped. Time that the consumer takes for itself counts against nobody.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused, Unavailable
from ocisync.oci.failures import Answer, error_of
from ocisync.oci.retry import PROGRESS_BYTES, Transient
from ocisync.oci.transport import BODY_GRACE_S, BODY_MIN_BYTES_PER_S, BodyBroke, Call, OpenBody, Transport

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-", re.ASCII)


class BlobReader(io.RawIOBase):
    """The bytes of one blob; close it."""

    def __init__(self, transport: Transport, make_call: Callable[..., Call], descriptor: Descriptor, what: str) -> None:
        self._transport = transport
        self._make_call = make_call
        self._descriptor = descriptor
        self._what = what
        self._url = transport.endpoint.url(f"blobs/{descriptor.digest}")
        self._body: OpenBody | None = None
        self._hash = hashlib.sha256()
        self._at = 0
        self._waited = 0.0
        self._breaks = 0  # since `PROGRESS_BYTES` came in one go …
        self._paid = 0  # … which ended here

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def open(self) -> BlobReader:
        """Send the first request, so that what is missing is missed at once.

        Raises:
            NotFound: no such blob.
            Refused: its length is not the descriptor's.
        """
        self._connect()
        return self

    def close(self) -> None:
        """Give the connection back, or cut it if there is more to come."""
        self._hang_up()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read some bytes; 0 at the end.

        Raises:
            Refused: other content than the descriptor says.
            Unavailable: the connection breaks again and again.
        """
        view = memoryview(buffer).cast("B")
        while self._at < self._descriptor.size:
            data = self._piece(min(len(view), self._descriptor.size - self._at))
            if data:
                self._at += len(data)
                if self._at >= self._paid + PROGRESS_BYTES:
                    self._breaks, self._paid = 0, self._at
                self._hash.update(data)
                if self._at == self._descriptor.size:
                    self._finish()
                view[: len(data)] = data
                return len(data)
        if not self._descriptor.size:
            self._finish()
        return 0

    def _piece(self, amount: int) -> bytes:
        """Some bytes; none after a break."""
        started = self._transport.options.monotonic()
        problem: BodyBroke | None = None
        try:
            data = self._connect().read(amount)
        except BodyBroke as error:
            data, problem = b"", error
        self._waited += self._transport.options.monotonic() - started
        if self._waited > BODY_GRACE_S + self._at / BODY_MIN_BYTES_PER_S:
            raise self._given_up("sends too slowly")
        if not data:
            self._break(problem)
        return data

    def _break(self, problem: BodyBroke | None) -> None:
        """Wait as the plan says before the rest is asked for."""
        self._hang_up()
        self._breaks += 1
        options = self._transport.options
        delay = options.plan.delay_s(self._breaks, elapsed_s=0.0, random=options.random())
        if delay is None:
            raise self._given_up(f"broke off after {self._at} bytes") from problem
        options.sleep(delay)

    def _given_up(self, how: str) -> Unavailable:
        return Unavailable(f"{self._what}: {self._transport.endpoint.name} {how}", hint="try again later")

    def _connect(self) -> OpenBody:
        if self._body is None:
            self._body = self._transport.retrier.run(self._request)
        return self._body

    def _request(self) -> OpenBody:
        """Ask for the rest.

        Raises:
            Transient: a repetition may help.
        """
        size, at = self._descriptor.size, self._at
        headers = {"Range": f"bytes={at}-"} if at else {}
        call = self._make_call(self._what, "GET", self._url, headers=headers, size=size - at, limit=size - at)
        got = self._transport.open_body(call, partial=bool(at))
        if isinstance(got, Answer):
            raise error_of(got, self._what, self._transport.endpoint.name)
        found = _CONTENT_RANGE.match(got.header("Content-Range"))
        if got.status == 206 and (found is None or int(found[1]) != at):
            got.close()
            raise Refused(f"{self._what}: the registry sent another part than asked for", reason="BadArtifact")
        if at and got.status != 206:
            self._skip(got, at)
        return got

    def _skip(self, body: OpenBody, count: int) -> None:
        """Read over what is known already."""
        while count:
            try:
                data = body.read(min(count, BUFFER_BYTES))
            except BodyBroke:
                data = b""
            if not data:
                body.close()
                raise Transient(Unavailable(f"{self._what}: the connection broke", hint="try again later"))
            count -= len(data)

    def _finish(self) -> None:
        """Check before the last piece is given.

        Raises:
            Refused: other content, or more of it.
        """
        found = "sha256:" + self._hash.hexdigest()
        if found != self._descriptor.digest:
            raise Refused(f"{self._what}: the registry sent other content, with digest {found}", reason="BadArtifact")
        try:
            more = self._body is not None and self._body.read(1)
        except BodyBroke:
            more = False  # all that was promised is here
        if more:
            raise Refused(f"{self._what}: more than {self._descriptor.size} bytes", reason="BadArtifact")
        self._hang_up()

    def _hang_up(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
