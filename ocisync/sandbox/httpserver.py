"""A small threaded HTTP/1.1 server for the sandbox's two services.

One thread per connection, keep-alive, `Content-Length` and chunked bodies both ways, `Expect: 100-continue`,
and long-lived streams (watches). The standard library's `BaseHTTPRequestHandler` parses headers with the
e-mail package, which alone costs more than a whole no-op apply; this one splits lines.

A service is a callable `service(request, reply)` that must answer exactly once. Around it the server applies
injected faults (`faults.py`) and records each request (`requestlog.py`) *before* the first byte of the answer
leaves, so that a client that has its answer also finds it counted.

`stop()` closes the listener and cuts every open connection, as a crashed server does; `start()` afterwards
listens on the same port again.

Lacks: TLS, HTTP/2, pipelining beyond what sequential reading gives, trailers, compression.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

from ocisync.sandbox.faults import (
    Corrupt,
    Delay,
    Endless,
    Fault,
    Faults,
    LoseAnswer,
    Misreport,
    Relabel,
    Reset,
    Status,
    Truncate,
)
from ocisync.sandbox.requestlog import RequestLog

MAX_HEADER_LINE: Final = 65536  # bytes; a bearer token or a long selector fits, an attack does not
MAX_HEADERS: Final = 200
MAX_DRAIN: Final = 8 * 1024 * 1024  # bytes of an unread request body swallowed to keep the connection
CHUNK: Final = 256 * 1024  # bytes read or written at once when streaming
IDLE_TIMEOUT_S: Final = 600.0

REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class BadRequestError(Exception):
    """The bytes on the wire are not a request this server understands; the connection is closed."""


class ConnectionLostError(Exception):
    """The client went away, or a fault cut the connection; nobody is left to answer."""


class Request:
    """One parsed request; the body is read on demand."""

    __slots__ = (
        "_chunked",
        "_expects_continue",
        "_reader",
        "_remaining",
        "_sock",
        "headers",
        "labels",
        "method",
        "path",
        "query",
        "raw_path",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        reader: io.BufferedReader[socket.SocketIO],
        sock: socket.socket,
    ) -> None:
        """Take a request line and headers (lower-case names) already read from `reader`."""
        self.method = method
        self.target = target
        self.raw_path, _, query = target.partition("?")
        self.path = unquote(self.raw_path)
        self.query: dict[str, list[str]] = {}
        for key, value in parse_qsl(query, keep_blank_values=True):
            self.query.setdefault(key, []).append(value)
        self.headers = headers
        self.labels: dict[str, str] = {}
        self._reader = reader
        self._sock = sock
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise BadRequestError("Content-Length is not a number")
        self._remaining = 0 if self._chunked else int(length)
        self._expects_continue = headers.get("expect", "").lower() == "100-continue"

    def header(self, name: str, default: str = "") -> str:
        """Return a header by case-insensitive name."""
        return self.headers.get(name.lower(), default)

    def param(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """Read a boolean query parameter as the API server does: `1`, `true`, or present without a value."""
        values = self.query.get(name)
        return values is not None and values[0].lower() not in ("false", "0")

    def iter_body(self) -> Iterator[bytes]:
        """Yield the body in bounded pieces; ConnectionLostError when the client stops sending."""
        if self._expects_continue:
            self._expects_continue = False
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._chunked:
            yield from self._iter_chunked()
            return
        while self._remaining:
            data = self._reader.read1(min(CHUNK, self._remaining))
            if not data:
                raise ConnectionLostError("body ended early")
            self._remaining -= len(data)
            yield data

    def _iter_chunked(self) -> Iterator[bytes]:
        while self._chunked:
            size_line = self._reader.readline(MAX_HEADER_LINE)
            try:
                left = int(size_line.split(b";")[0], 16)
            except ValueError:
                raise BadRequestError("bad chunk size") from None
            if left == 0:
                while self._reader.readline(MAX_HEADER_LINE).strip():
                    pass
                self._chunked = False
                return
            while left:
                data = self._reader.read1(min(CHUNK, left))
                if not data:
                    raise ConnectionLostError("body ended early")
                left -= len(data)
                yield data
            self._reader.readline(MAX_HEADER_LINE)

    def body(self, limit: int) -> bytes | None:
        """Return the whole body, or None when it is longer than `limit` bytes."""
        if not self._chunked and self._remaining > limit:
            return None
        if not self._chunked and not self._expects_continue:
            data = self._reader.read(self._remaining)
            if len(data) < self._remaining:
                raise ConnectionLostError("body ended early")
            self._remaining = 0
            return data
        parts: list[bytes] = []
        size = 0
        for data in self.iter_body():
            size += len(data)
            if size > limit:
                return None
            parts.append(data)
        return b"".join(parts)

    def drain(self) -> bool:
        """Swallow what is left of the body; return False when that is too much to keep the connection."""
        if self._expects_continue and (self._chunked or self._remaining):
            return False  # the client still waits for permission to send
        if not self._chunked and self._remaining == 0:
            return True
        if self._remaining > MAX_DRAIN:
            return False
        size = 0
        for data in self.iter_body():
            size += len(data)
            if size > MAX_DRAIN:
                return False
        return True


class Stream:
    """An open chunked answer; each `write` is one chunk on the wire."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        """Wrap a reply whose head was already sent."""
        self._reply = reply

    def write(self, data: bytes) -> None:
        """Send one chunk; raises ConnectionLostError when nobody reads any more."""
        self._reply.transmit(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        """Send the last chunk."""
        self._reply.transmit(b"0\r\n\r\n")


class Reply:
    """The answer side of one exchange."""

    __slots__ = ("_fault", "_log", "_request", "_sock", "close", "sent", "status")

    def __init__(self, request: Request, sock: socket.socket, log: RequestLog, fault: Fault | None) -> None:
        """Prepare an answer to `request`; `fault` damages it on the way out."""
        self._request = request
        self._sock = sock
        self._log = log
        self._fault = fault
        self.close = request.headers.get("connection", "").lower() == "close"
        self.sent = False
        self.status = 0

    def transmit(self, data: bytes) -> None:
        """Write raw bytes to the socket."""
        try:
            self._sock.sendall(data)
        except OSError as err:
            raise ConnectionLostError(str(err)) from err

    def _head(self, status: int, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
        if self.sent:
            raise RuntimeError("a request was answered twice")
        self.sent = True
        self.status = status
        request = self._request
        self._log.add(request.method, request.target, status, request.headers.get("user-agent", ""), request.labels)
        if self._fault is not None and isinstance(self._fault.action, LoseAnswer):
            raise ConnectionLostError("answer lost by injected fault")
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if self._fault is not None and isinstance(self._fault.action, Relabel):
            changed = self._fault.action.headers
            replaced = {name.lower() for name in changed}
            pairs = [pair for pair in pairs if pair[0].lower() not in replaced] + list(changed.items())
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        if self.close:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace")

    def send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a body held in memory."""
        damage = self._fault.action if self._fault is not None else None
        if isinstance(damage, Endless) or (isinstance(damage, Truncate | Corrupt) and body):
            self.send_chunks(status, [body], len(body), headers)
            return
        announced = len(body)
        if self._fault is not None and isinstance(self._fault.action, Misreport) and status not in (204, 304):
            announced = max(announced + self._fault.action.by, 0)
            self.close = True
        head = self._head(status, headers or {})
        if status in (204, 304):
            self.transmit(head + b"\r\n")
        elif self._request.method == "HEAD":
            self.transmit(head + (b"\r\n" if b"Content-Length" in head else b"Content-Length: %d\r\n\r\n" % announced))
        else:
            self.transmit(head + b"Content-Length: %d\r\n\r\n" % announced + body)

    def send_chunks(
        self, status: int, chunks: Iterable[bytes], length: int, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with `length` bytes that are produced on the way."""
        action = self._fault.action if self._fault is not None else None
        if isinstance(action, Misreport):
            length = max(length + action.by, 0)
            self.close = True
        head = self._head(status, headers or {})
        if self._request.method == "HEAD":
            self.transmit(head + b"Content-Length: %d\r\n\r\n" % length)
            return
        if isinstance(action, Endless):
            self.close = True
            self.transmit(head + b"Transfer-Encoding: chunked\r\n\r\n")
            stream = Stream(self)
            for data in filter(None, chunks):  # an empty chunk would be the end
                stream.write(data)
            while True:  # ends when the client gives up or the server stops: transmit raises
                stream.write(action.chunk)
        self.transmit(head + b"Content-Length: %d\r\n\r\n" % length)
        offset = 0
        for piece in chunks:
            data = piece
            if isinstance(action, Corrupt) and offset <= action.offset < offset + len(data):
                at = action.offset - offset
                data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
            if isinstance(action, Truncate) and offset + len(data) >= action.after:
                self.transmit(data[: action.after - offset])
                raise ConnectionLostError("truncated by injected fault")
            self.transmit(data)
            offset += len(data)

    def open_stream(self, status: int, headers: Mapping[str, str] | None = None) -> Stream:
        """Answer with a chunked body that stays open until `Stream.close`."""
        self.transmit(self._head(status, headers or {}) + b"Transfer-Encoding: chunked\r\n\r\n")
        return Stream(self)

    @property
    def sock(self) -> socket.socket:
        """The client's socket, for a stream that must notice an early hang-up."""
        return self._sock


Service = Callable[[Request, Reply], None]


def read_request(reader: io.BufferedReader[socket.SocketIO], sock: socket.socket) -> Request | None:
    """Read one request head; None at a clean end of the connection."""
    line = reader.readline(MAX_HEADER_LINE)
    if not line:
        return None
    try:
        method, target, version = line.decode("latin-1").rstrip("\r\n").split(" ")
    except ValueError:
        raise BadRequestError("bad request line") from None
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        raw = reader.readline(MAX_HEADER_LINE)
        if raw in (b"\r\n", b"\n"):
            break
        name, colon, value = raw.decode("latin-1").partition(":")
        if not colon:
            raise BadRequestError("bad header line")
        key = name.strip().lower()
        headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    else:
        raise BadRequestError("too many headers")
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Request(method, target, headers, reader, sock)


class HttpServer:
    """Listens on loopback and runs a service; can be stopped and started again on the same port."""

    def __init__(self, service: Service, *, port: int = 0, faults: Faults | None = None, log: RequestLog) -> None:
        """Prepare the server; nothing listens until `start`."""
        self._service = service
        self._log = log
        self.faults = faults if faults is not None else Faults()
        self.port = port
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._generation = 0

    @property
    def running(self) -> bool:
        """Whether the port is open."""
        return self._listener is not None

    def start(self) -> None:
        """Listen; the first start with port 0 takes a free port and keeps it for later starts."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._generation += 1
        threading.Thread(target=self._accept, args=(listener,), name="sandbox-accept", daemon=True).start()

    def stop(self) -> None:
        """Close the port and cut all connections without saying good-bye."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
            listener.close()
        self.faults.release_all()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            cut(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(IDLE_TIMEOUT_S)
            with self._lock:
                if self._listener is not listener:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="sandbox-conn", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = io.BufferedReader(socket.SocketIO(connection, "r"), 65536)
        try:
            while True:
                request = read_request(reader, connection)
                if request is None or not self._exchange(request, connection):
                    return
        except BadRequestError as err:
            with contextlib.suppress(OSError):
                text = str(err).encode()
                connection.sendall(
                    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
                )
        except (OSError, ValueError, ConnectionLostError):
            return  # the client went away, or stop() closed the socket below the reader
        finally:
            with self._lock:
                self._connections.discard(connection)
            with contextlib.suppress(OSError, ValueError):
                reader.close()
            cut(connection, gently=True)

    def _exchange(self, request: Request, connection: socket.socket) -> bool:
        """Answer one request; return whether the connection goes on."""
        fault = self.faults.take(request.method, request.target)
        reply = Reply(request, connection, self._log, fault)
        action = fault.action if fault is not None else None
        if isinstance(action, Reset):
            request.labels["fault"] = "reset"
            self._log.add(request.method, request.target, 0, request.header("user-agent"), request.labels)
            reset(connection)
            return False
        if isinstance(action, Delay) and fault is not None:
            fault.wait(action.timeout_s)
        if isinstance(action, Status):
            request.labels["fault"] = "status"
            reply.send(action.code, action.body, dict(action.headers))
        else:
            try:
                self._service(request, reply)
            except ConnectionLostError:
                if isinstance(action, LoseAnswer):
                    reset(connection)
                return False
        return request.drain() and not reply.close


def reset(connection: socket.socket) -> None:
    """Close with a TCP reset, so that the client sees `Connection reset by peer`."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def cut(connection: socket.socket, *, gently: bool = False) -> None:
    """Close a connection so that a thread blocked in `recv` on it wakes up."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR if gently else socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
