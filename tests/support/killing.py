"""Killing a command at one byte: of what goes over the wire, or of a file that it writes, or at one use of a file.

A `Tripwire` is shared by relays that stand before registries. It lets exactly so many bytes through, in both directions
together, and then calls `sprung` once; what comes after goes nowhere. Without a limit it only counts.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

PIECE = 64 * 1024


class Tripwire:
    """Counts bytes; safe for many threads."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._armed = threading.Event()
        self._sprung: Callable[[], None] = lambda: None
        self.count = 0

    def arm(self, sprung: Callable[[], None]) -> None:
        """Say what happens. Bytes that come before wait for it."""
        self._sprung = sprung
        self._armed.set()

    def allowed(self, amount: int) -> int:
        """How many of the next bytes may pass; fewer than asked for: the wire has sprung."""
        with self._lock:
            before = self.count
            self.count += amount
            if self._limit is None or self.count <= self._limit:
                return amount
            first = before <= self._limit
            left = max(0, self._limit - before)
        if first:
            self._armed.wait(120)
            self._sprung()
        return left


@contextlib.contextmanager
def tripped(upstream: str, wire: Tripwire) -> Iterator[str]:
    """A port before `upstream` (HOST:PORT) whose bytes the wire counts; yields HOST:PORT."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, upstream, wire), daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, upstream: str, wire: Tripwire) -> None:
    host, _, port = upstream.rpartition(":")
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_join, args=(client, (host, int(port)), wire), daemon=True).start()


def _join(client: socket.socket, upstream: tuple[str, int], wire: Tripwire) -> None:
    with client, socket.create_connection(upstream) as server:
        for end in (client, server):  # small pieces must not wait for each other's acknowledgements
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_copy, args=(server, client, wire), daemon=True)
        back.start()
        _copy(client, server, wire)
        back.join()


def _copy(source: socket.socket, sink: socket.socket, wire: Tripwire) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE):
            allowed = wire.allowed(len(data))
            sink.sendall(data[:allowed])
            if allowed < len(data):
                break
    for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
        with contextlib.suppress(OSError):
            end.shutdown(how)
