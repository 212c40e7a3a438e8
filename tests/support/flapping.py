"""A line to a server that breaks: connections are reset in the middle of a transfer, so many times, then no more."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator

_RESET = struct.pack("ii", 1, 0)


class Flapping:
    """Give it to clients as HOST:PORT."""

    def __init__(self, upstream: str, seed: int, breaks: int) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._left = breaks
        self.broke = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        """HOST:PORT of the line's end."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def again(self, *, breaks: int) -> None:
        """Break so many times more."""
        with self._lock:
            self._left = breaks

    def close(self) -> None:
        """No new connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _budget(self) -> int | None:
        """After how many bytes a connection breaks; None: it does not."""
        with self._lock:
            if not self._left:
                return None
            self._left -= 1
            self.broke += 1
            return self._random.randrange(1, 6_000)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        left = self._budget()
        with client, socket.create_connection(self._upstream) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lock, state = threading.Lock(), [left]
            back = threading.Thread(target=_copy, args=(server, client, lock, state), daemon=True)
            back.start()
            _copy(client, server, lock, state)
            back.join()


def _copy(source: socket.socket, sink: socket.socket, lock: threading.Lock, state: list[int | None]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            with lock:
                left = state[0]
                if left is not None:
                    state[0] = left - len(data)
            if left is not None and left < len(data):
                for end in (source, sink):  # the shutdown wakes the other thread; closing then sends a reset
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)
                return
            sink.sendall(data)
    for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
        with contextlib.suppress(OSError):
            end.shutdown(how)


@contextlib.contextmanager
def flapping(upstream: str, *, seed: int, breaks: int) -> Iterator[Flapping]:
    """A line to `upstream` whose first so many connections break."""
    line = Flapping(upstream, seed, breaks)
    try:
        yield line
    finally:
        line.close()
