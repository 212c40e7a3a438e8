"""A reverse proxy in front of a real registry: logins, limits and accidents that the registry itself cannot have.

It forwards requests as they are (the Host header too, so that a registry's absolute addresses lead back here) and
streams bodies. On the way it can ask for logins (`auth`, the rules of the sandbox; its token endpoint is `/token`), let
each token serve only so many requests (`token_uses`), refuse large bodies as proxies do (`max_body`), and call
`on_bytes` with each piece of a request body: what that raises cuts the connection, while it blocks nothing moves.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

from ocisync.sandbox.registryauth import PULL, PUSH, Auth

PIECE = 64 * 1024
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-authorization", "te", "upgrade"})


class Cut(Exception):
    """Raised by a hook: the connection is reset."""


@dataclass(frozen=True, slots=True)
class Passed:
    """One request that went through, or was turned away."""

    method: str
    path: str
    status: int
    length: int = 0  # of the request's body


@dataclass(slots=True)
class Gate:
    """Start it with ``with``."""

    upstream: str  # HOST:PORT
    auth: Auth = field(default_factory=Auth)
    token_uses: int = 0  # requests that a token is good for; 0: any number
    max_body: int = 0  # bytes; 0: any
    on_bytes: Callable[[str, int], None] = lambda _method, _count: None
    on_request: Callable[[str, str], None] = lambda _method, _path: None
    certificate: tuple[Path, Path] | None = None
    client_authority: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)  # added to each answer
    passed: list[Passed] = field(default_factory=list)
    uses: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer = field(init=False)

    def __enter__(self) -> Gate:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"gate": self}))
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            if self.client_authority:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(cadata=self.client_authority.decode())
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        """HOST:PORT, the first part of references."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def count(self, method: str = "", status: int = 0, path: str = "") -> int:
        """How many requests were like this."""
        with self.lock:
            seen = list(self.passed)
        return sum(
            (not method or item.method == method) and (not status or item.status == status) and path in item.path
            for item in seen
        )

    def spend(self, authorization: str) -> None:
        """Count a use of a token; after the last one it is worth nothing."""
        token = authorization.removeprefix("Bearer ")
        if not self.token_uses or token not in self.auth.tokens:
            return
        with self.lock:
            self.uses[token] = self.uses.get(token, 0) + 1
            if self.uses[token] >= self.token_uses:
                self.auth.tokens.pop(token, None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Cut connections are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    gate: ClassVar[Gate]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        path = urlsplit(self.path).path
        try:
            self.gate.on_request(self.command, self.path)
            if path == "/token":
                self._token(length)
            elif refusal := self._refusal(path):
                self._swallow(length)
                self._answer(refusal[0], {"errors": [{"code": "UNAUTHORIZED"}]}, refusal[1])
            elif self.gate.max_body and length > self.gate.max_body:
                self.close_connection = True  # as nginx: the body is not read
                self._answer(413, {})
            else:
                self._forward(length)
        except Cut:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _refusal(self, path: str) -> tuple[int, str] | None:
        header = self.headers.get("Authorization", "")
        name = path.removeprefix("/v2/")
        for mark in ("/blobs/", "/manifests/", "/tags/", "/referrers/"):
            name = name.partition(mark)[0] if mark in name else name
        action = PULL if self.command in {"GET", "HEAD"} and "/uploads/" not in path else PUSH
        scheme = "https" if self.gate.certificate else "http"
        refusal = self.gate.auth.refusal(header, action, name.strip("/"), f"{scheme}://{self.gate.host}/token")
        if refusal is None:
            self.gate.spend(header)
        return refusal

    def _token(self, length: int) -> None:
        form = dict(parse_qsl(self.rfile.read(length).decode()))
        if form.get("grant_type") == "refresh_token":
            user = self.gate.auth.refresh_tokens.get(form.get("refresh_token", ""))
            scopes = [form.get("scope", "")]
        else:
            user = self.gate.auth.login(self.headers.get("Authorization", ""))
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
        if user is None:
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong login"}]})
            return
        token = self.gate.auth.issue(user, scopes)
        self._answer(200, {"token": token, "expires_in": 300})

    def _forward(self, length: int) -> None:
        upstream = http.client.HTTPConnection(self.gate.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                ours = name.lower() == "authorization" and bool(self.gate.auth.accounts)
                if name.lower() not in _HOP and not ours:
                    upstream.putheader(name, value)
            upstream.endheaders()
            while length:
                piece = self.rfile.read(min(PIECE, length))
                if not piece:
                    raise Cut
                upstream.send(piece)
                length -= len(piece)
                self.gate.on_bytes(self.command, len(piece))
            answer = upstream.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP and (name.lower() != "content-length" or self.command == "HEAD"):
                    self.send_header(name, value)
            self._end(answer.status, body)
        except (OSError, http.client.HTTPException) as error:
            raise Cut from error
        finally:
            upstream.close()

    def _swallow(self, length: int) -> None:
        while length:
            length -= len(self.rfile.read(min(PIECE, length)))

    def _answer(self, status: int, body: object, challenge: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self._end(status, json.dumps(body).encode())

    def _end(self, status: int, body: bytes) -> None:
        with self.gate.lock:
            self.gate.passed.append(
                Passed(self.command, self.path, status, int(self.headers.get("Content-Length", "0")))
            )
        for name, value in self.gate.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent: pytest shows what matters."""
