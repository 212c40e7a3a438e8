"""A relay between an agent and its API server that has the accidents of networks and of busy servers.

    with FaultRelay("127.0.0.1:6443", context) as relay:
        relay.throttle(40)                       # the next 40 requests are answered 429
        trap = relay.trap(writes=3, after=True)  # holds the third write, done by the server and not yet answered
        trap.wait(5.0); …; trap.release()

Plain HTTP on loopback for the agent, TLS to the API server. A connection of the agent has one connection to the server
and breaks when that breaks. Writes are what changes the cluster; Events, Leases and reviews are none.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

_TIMEOUT_S = 400.0  # longer than a watch
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_NO_WRITE = re.compile(r"/(events|leases|subjectaccessreviews|selfsubjectaccessreviews)(/|\?|$)")


@dataclass(slots=True)
class Trap:
    """Holds one write, before the server sees it or before the agent learns the answer."""

    left: int
    after: bool
    sprung: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it holds a write; False when none came."""
        return self.sprung.wait(timeout_s)

    def release(self) -> None:
        """Let the write go on, and hold none any more."""
        self.free.set()


class FaultRelay:
    """Runs while it is a context. Faults are counted in requests, so that they end by themselves."""

    def __init__(self, upstream: str, context: ssl.SSLContext) -> None:
        self.upstream = upstream
        self.context = context
        self._lock = threading.Lock()
        self._throttled = 0
        self._lost = 0
        self._expired = 0
        self._slow = 0
        self._slow_s = 0.0
        self._traps: list[Trap] = []
        self._streams: set[socket.socket] = set()
        self._ending = threading.Event()
        self.requests = 0
        self.writes = 0
        self.faults: dict[str, int] = {}
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"relay": self}))

    def __enter__(self) -> FaultRelay:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault relay", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.calm()
        self._ending.set()
        self.drop_watches()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """For kubeconfigs."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # --- Faults -----------------------------------------------------------------------------------------------------

    def throttle(self, requests: int) -> None:
        """Answer the next requests with 429."""
        with self._lock:
            self._throttled += requests

    def lose(self, writes: int) -> None:
        """Let the server do the next writes, and break the connection instead of telling."""
        with self._lock:
            self._lost += writes

    def expire(self, watches: int) -> None:
        """Answer the next watches with 410, and break those that run."""
        with self._lock:
            self._expired += watches
        self.drop_watches()

    def slow(self, requests: int, seconds: float) -> None:
        """Answer the next requests late."""
        with self._lock:
            self._slow, self._slow_s = requests, seconds

    def drop_watches(self) -> int:
        """Break every watch; how many there were."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        return len(streams)

    def trap(self, writes: int, *, after: bool) -> Trap:
        """Hold the write of this number from now on."""
        made = Trap(max(1, writes), after)
        with self._lock:
            self._traps.append(made)
        return made

    @property
    def pending(self) -> bool:
        """Whether there are faults that have met no request yet."""
        with self._lock:
            return bool(self._throttled or self._lost or self._expired or self._slow)

    def calm(self) -> None:
        """No fault from now on."""
        with self._lock:
            self._throttled = self._lost = self._expired = self._slow = 0
            traps, self._traps = self._traps, []
        for trap in traps:
            trap.release()

    # --- For its handlers -------------------------------------------------------------------------------------------

    def count(self, *, write: bool) -> tuple[Trap | None, Trap | None]:
        """Count a request; the traps that hold it, before and after."""
        before = after = None
        with self._lock:
            self.requests += 1
            self.writes += write
            for trap in self._traps if write else ():
                trap.left -= 1
                if trap.left == 0:
                    before, after = (before, trap) if trap.after else (trap, after)
            self._traps = [trap for trap in self._traps if trap.left > 0]
        return before, after

    def hold(self, trap: Trap | None) -> None:
        """Wait until a trap is released."""
        if trap is not None:
            trap.sprung.set()
            while not trap.free.wait(0.5) and not self._ending.is_set():
                pass

    def take(self, fault: str) -> float:
        """Whether (how long) a request has a fault; its share of the fault is used up."""
        name = f"_{fault}"
        with self._lock:
            left: int = getattr(self, name)
            if not left:
                return 0.0
            setattr(self, name, left - 1)
            self.faults[fault] = self.faults.get(fault, 0) + 1
            return self._slow_s if fault == "slow" else 1.0

    def pause(self, seconds: float) -> None:
        """Let time pass, unless everything ends."""
        self._ending.wait(seconds)

    def streaming(self, connection: socket.socket, *, on: bool) -> None:
        """Remember the connections of watches."""
        with self._lock:
            (self._streams.add if on else self._streams.discard)(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    relay: ClassVar[FaultRelay]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _TIMEOUT_S

    def setup(self) -> None:
        super().setup()
        host, _, port = self.relay.upstream.partition(":")
        self._upstream = http.client.HTTPSConnection(host, int(port), timeout=_TIMEOUT_S, context=self.relay.context)

    def finish(self) -> None:
        self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        write = self.command != "GET" and not _NO_WRITE.search(self.path)
        watch = self.command == "GET" and re.search(r"[?&]watch=(1|true)", self.path) is not None
        before, after = self.relay.count(write=write)
        try:
            self.relay.hold(before)
            if delay := self.relay.take("slow"):
                self.relay.pause(delay)
            if self.relay.take("throttled"):
                self._refuse(429, "TooManyRequests", "the server has received too many requests", {"Retry-After": "1"})
            elif watch and self.relay.take("expired"):
                self._refuse(410, "Expired", "too old resource version", {})
            else:
                self._forward(body, write=write, watch=watch, after=after)
        except (OSError, http.client.HTTPException, ValueError):
            self._break()

    def _forward(self, body: bytes, *, write: bool, watch: bool, after: Trap | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {*_HOP, "host"}}
        self._upstream.request(self.command, self.path, body=body if write or body else None, headers=headers)
        answer = self._upstream.getresponse()
        if watch and answer.status == 200:
            self._stream(answer)
            return
        content = answer.read()
        self.relay.hold(after)
        if write and self.relay.take("lost"):
            self._break()
            return
        self._answer(answer.status, answer.getheaders(), content)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        """Pass events on as they come; the end of either side is the end of both, told as a broken connection."""
        self.relay.streaming(self.connection, on=True)
        watcher = threading.Thread(target=self._end_with_client, name="relayed watch", daemon=True)
        try:
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            watcher.start()
            while data := answer.read1(65536):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            if answer.isclosed():
                self.wfile.write(b"0\r\n\r\n")
        finally:
            self.relay.streaming(self.connection, on=False)
            self.close_connection = True

    def _end_with_client(self) -> None:
        """A client that went away ends the watch at the server, too."""
        with contextlib.suppress(OSError):
            self.connection.recv(1, socket.MSG_PEEK)
        upstream = self._upstream.sock
        if upstream is not None:
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)

    def _refuse(self, code: int, reason: str, message: str, headers: dict[str, str]) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
                  "code": code}  # fmt: skip
        self._answer(code, [("Content-Type", "application/json"), *headers.items()], json.dumps(status).encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _break(self) -> None:
        """Reset the connection: the agent can't know what became of its request."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Stays silent: the audit log and the agent's own log tell more."""
