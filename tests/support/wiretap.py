"""A proxy between a client and a registry that keeps every byte the client sends and can stop the world at a request.

Plain HTTP/1.1 on loopback. The client's Host header goes on unchanged, so addresses that the registry answers with
lead back here. Requests are handled one by one per connection, connections in parallel.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.httpservers import LoopbackServer

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_MANIFEST = re.compile(r"/manifests/([^/?]+)")
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it came in, and the status that the registry answered (0 before it did)."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int = 0

    @property
    def writes(self) -> bool:
        """Whether it changes the registry."""
        return self.method in ("POST", "PUT", "PATCH", "DELETE")

    @property
    def manifest(self) -> str:
        """The tag or digest of a manifest request; empty for others."""
        found = _MANIFEST.search(self.target)
        return found[1] if found else ""

    @property
    def raw(self) -> bytes:
        """All that the client sent."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"{self.method} {self.target}\r\n{head}\r\n".encode("latin-1") + self.body


def _nothing(_exchange: Exchange) -> None:
    return None


@dataclass
class Wiretap:
    """Runs on a port of its own while it is a context.

    Attributes:
        before: called with each request before the registry sees it; may block.
        after: called when the registry has answered, before the client learns it; may block.
    """

    upstream: str
    before: Callable[[Exchange], None] = _nothing
    after: Callable[[Exchange], None] = _nothing
    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        tap = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = TIMEOUT_S

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, BrokenPipeError):
                    self.close_connection = True  # a client that was killed

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: tap._forward(self)
                raise AttributeError(name)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = LoopbackServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def host(self) -> str:
        """HOST:PORT to give to the client."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Wiretap:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def quiet(self) -> None:
        """Only listen from now on, and forget what was heard."""
        self.before = self.after = _nothing
        self.exchanges.clear()

    def sent(self) -> bytes:
        """Every byte of every request."""
        return b"\n".join(exchange.raw for exchange in self.exchanges)

    def _forward(self, handler: BaseHTTPRequestHandler) -> None:
        exchange = Exchange(handler.command, handler.path, tuple(handler.headers.items()), _body(handler))
        self.before(exchange)
        upstream = http.client.HTTPConnection(self.upstream, timeout=TIMEOUT_S)
        try:
            headers = {name: value for name, value in exchange.headers if name.lower() not in _HOP}
            if exchange.body or exchange.method in ("POST", "PUT", "PATCH"):
                headers["Content-Length"] = str(len(exchange.body))
            upstream.request(exchange.method, exchange.target, body=exchange.body or None, headers=headers)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        known = Exchange(exchange.method, exchange.target, exchange.headers, exchange.body, answer.status)
        self.exchanges.append(known)
        self.after(known)
        handler.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(content))
        if length is not None and answer.status != 204:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(content)
        handler.wfile.flush()


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if "chunked" in handler.headers.get("Transfer-Encoding", "").lower():
        parts = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            parts.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(parts)
    return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
