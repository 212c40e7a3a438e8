"""A small forward proxy: CONNECT tunnels and plain requests, with an optional login, for hosts that exist only here."""

from __future__ import annotations

import base64
import contextlib
import http.client
import selectors
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import urlsplit

from tests.support.httpservers import LoopbackServer


@dataclass(slots=True)
class Proxy:
    """Start it with ``with``. ``hosts`` maps HOST:PORT names to the loopback ports that stand for them."""

    hosts: Mapping[str, int]
    login: str = ""  # USER:PASSWORD
    refuse: int = 0  # answer every request with this status
    seen: list[str] = field(default_factory=list)  # "CONNECT host:port" and "GET http://…"
    _server: LoopbackServer = field(init=False)

    def __enter__(self) -> Proxy:
        self._server = LoopbackServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, login: str = "") -> str:
        """What HTTPS_PROXY would hold."""
        user = f"{login}@" if login else ""
        return f"http://{user}127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]

    def do_CONNECT(self) -> None:
        self.proxy.seen.append(f"CONNECT {self.path}")
        target = self._admitted(self.path)
        if target is None:
            return
        self.send_response(200)
        self.end_headers()
        with target, selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ, target)
            selector.register(target, selectors.EVENT_READ, self.connection)
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in selector.select(30):
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)

    def _plain(self) -> None:
        self.proxy.seen.append(f"{self.command} {self.path}")
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        target = self._admitted(parts.netloc if parts.port else f"{parts.netloc}:80")
        if target is None:
            return
        upstream = http.client.HTTPConnection(parts.netloc, timeout=30)
        upstream.sock = target
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        upstream.request(self.command, parts._replace(scheme="", netloc="").geturl(), body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"content-length", "connection"} or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    def do_GET(self) -> None:
        self._plain()

    def do_HEAD(self) -> None:
        self._plain()

    def do_PUT(self) -> None:
        self._plain()

    def do_POST(self) -> None:
        self._plain()

    def _admitted(self, host: str) -> socket.socket | None:
        """A connection to what stands for the host; None after a refusal."""
        expected = "Basic " + base64.b64encode(self.proxy.login.encode()).decode()
        port = self.proxy.hosts.get(host)
        if self.proxy.refuse:
            self._refuse(self.proxy.refuse)
        elif self.proxy.login and self.headers.get("Proxy-Authorization") != expected:
            self._refuse(407)
        elif port is None:
            self._refuse(502)
        else:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        return None

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent: pytest shows what matters."""
