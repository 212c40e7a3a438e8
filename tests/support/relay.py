"""A TCP port or a Unix socket that passes connections on: the way into a network namespace that has none."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

Target = tuple[str, int] | str


class Relay:
    """Accepts connections and copies bytes both ways. Threads are daemons; `close` ends accepting."""

    def __init__(self, listener: socket.socket, target: Target) -> None:
        self._listener = listener
        self._target = target

    @classmethod
    def from_port(cls, port: int, target: Path) -> Relay:
        """From a loopback port to a Unix socket."""
        return cls(socket.create_server(("127.0.0.1", port)), str(target))

    @classmethod
    def from_path(cls, path: Path, target: tuple[str, int]) -> Relay:
        """From a Unix socket to a port."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        return cls(listener, target)

    def start(self) -> Relay:
        """Begins accepting."""
        threading.Thread(target=self._accept, name="relay", daemon=True).start()
        return self

    def close(self) -> None:
        """Ends accepting; connections that exist go on until one side ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), name="relayed", daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
        with client, server:
            try:
                server.connect(self._target)
            except OSError:
                return
            back = threading.Thread(target=_copy, args=(server, client), name="relayed back", daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
        with contextlib.suppress(OSError):
            end.shutdown(how)
