"""`/healthz`, `/readyz` and `/metrics` on a small threaded server; nothing is read from a request but its path."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ocisync.model.errors import UsageError

Page = Callable[[], tuple[int, str]]
"""Answers one path with a status and a text."""

_TIMEOUT_S = 10.0


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `:PORT` (all addresses).

    Raises:
        UsageError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"--http-address {text!r} is not HOST:PORT", hint="use 127.0.0.1:8080, :8080 or off")
    return host.strip("[]"), int(port)


class HttpServer:
    """Serves until stopped. `port` tells which one was chosen for port 0."""

    def __init__(self, address: str, pages: dict[str, Page]) -> None:
        try:
            self._server = _Server(parse_address(address), _handler(pages))
        except OSError as error:
            raise UsageError(
                f"--http-address {address}: {error.strerror or error}", hint="choose another port, or off"
            ) from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def run(self) -> None:
        """Serve; returns after `stop`."""
        self._server.serve_forever(poll_interval=0.5)

    def stop(self) -> None:
        """End `run`, from another thread, and close the socket."""
        closer = threading.Thread(target=self._server.shutdown, name="http-close", daemon=True)
        closer.start()
        closer.join(2.0)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is nobody's news."""


def _handler(pages: dict[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer one of the known paths."""
            page = pages.get(self.path.partition("?")[0])
            status, text = page() if page else (404, "not found: try /healthz, /readyz or /metrics\n")
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def version_string(self) -> str:
            """Say no more than needed."""
            return "ocisync"

        def log_message(self, format: str, *args: object) -> None:
            """Probes every few seconds are no news."""

    return Handler
