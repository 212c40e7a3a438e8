"""Writes of a lease holder: which leave, which wait, and that refused ones never leave a byte behind."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import urllib3

from ocisync.cluster.client import APPLY_PATCH, Cluster, Endpoint
from ocisync.cluster.fence import RENEW_DEADLINE_S, WRITE_START_S, Fence
from ocisync.cluster.wire import Address, NotAdmitted, Wire
from ocisync.model.errors import LeaseLost, Unavailable
from tests.support import pki
from tests.support.waiting import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Timer:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Listener:
    """A server that notes what it receives and answers as it is told; `answer` gets the connection and the request."""

    def __init__(self, answer: Callable[[socket.socket, bytes], None], context: ssl.SSLContext | None = None) -> None:
        self.seen: list[bytes] = []
        self._answer = answer
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(60)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._server.accept()
                with contextlib.suppress(OSError):
                    connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
                    with connection:
                        while data := connection.recv(65536):
                            self.seen.append(data)
                            self._answer(connection, data)


@pytest.fixture
def listening() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def listen(answer: Callable[[socket.socket, bytes], None] | None = None, **more: ssl.SSLContext) -> Listener:
        made.append(Listener(answer or (lambda connection, _: connection.sendall(OK)), **more))
        return made[-1]

    yield listen
    for one in made:
        one.close()


def fenced(listener: Listener, fence: Fence) -> Cluster:
    def load() -> Endpoint:
        wire = Wire(Address("127.0.0.1", listener.port, None, ""), keep=4, connect_timeout_s=60.0)
        pool = urllib3.HTTPConnectionPool("127.0.0.1", listener.port)
        return Endpoint(f"http://127.0.0.1:{listener.port}", pool, str, wire=wire)

    return Cluster(load, user_agent="test", fence=fence, sleep=lambda _: True)


def write(cluster: Cluster, method: str = "PATCH") -> int:
    return cluster.request(method, "/x", body=b"{}", content_type=APPLY_PATCH).status


@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST", "DELETE"])
def test_no_write_leaves_before_the_lease_is_held(listening: Callable[..., Listener], method: str) -> None:
    listener = listening()
    with pytest.raises(LeaseLost):
        write(fenced(listener, Fence(clock=Timer())), method)
    assert not listener.seen


def test_reads_are_not_fenced(listening: Callable[..., Listener]) -> None:
    listener = listening()
    assert fenced(listener, Fence(clock=Timer())).request("GET", "/x").status == 200


def test_a_write_tells_the_server_how_long_it_may_take(listening: Callable[..., Listener]) -> None:
    listener, timer = listening(), Timer()
    fence = Fence(clock=timer, write_timeout_s=60.0)
    fence.renewed(timer.now)
    assert write(fenced(listener, fence)) == 200
    assert listener.seen[0].startswith(b"PATCH /x?timeout=60s HTTP/1.1\r\n")
    assert Fence().write_timeout_s == 4.0


def test_a_fence_that_closes_after_it_was_asked_still_keeps_the_write_in(listening: Callable[..., Listener]) -> None:
    """As when the process is frozen while it prepares the request: the last question is asked at the door."""
    listener, timer = listening(), Timer()
    fence = Fence(clock=timer, wait=lambda _, __: setattr(timer, "now", RENEW_DEADLINE_S))
    fence.renewed(timer.now)
    cluster = fenced(listener, fence)
    admit = fence.admit

    def admitted_then_frozen() -> None:
        admit()
        timer.now = WRITE_START_S + 0.01

    fence.admit = admitted_then_frozen  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        write(cluster)
    assert not listener.seen


def test_a_write_that_waited_for_its_renewal_is_sent_once(listening: Callable[..., Listener]) -> None:
    listener, timer = listening(), Timer()
    fence = Fence(clock=timer, wait=lambda _, __: fence.renewed(timer.now), write_timeout_s=60.0)
    fence.renewed(timer.now)
    timer.now = WRITE_START_S + 1
    assert write(fenced(listener, fence)) == 200
    assert len(listener.seen) == 1


def test_after_closing_nothing_leaves_however_new_the_renewal(listening: Callable[..., Listener]) -> None:
    listener, timer = listening(), Timer()
    fence = Fence(clock=timer)
    fence.renewed(timer.now)
    fence.close("another agent holds the lease")
    fence.renewed(timer.now)
    with pytest.raises(LeaseLost, match="another agent holds the lease"):
        write(fenced(listener, fence))
    assert not listener.seen


def test_an_answer_that_drips_ends_at_the_deadline_of_the_whole_write(listening: Callable[..., Listener]) -> None:
    dripped = threading.Event()

    def drip(connection: socket.socket, _: bytes) -> None:
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000:
                connection.sendall(bytes([byte]))
                dripped.wait(0.02)

    listener = listening(drip)
    wire = Wire(Address("127.0.0.1", listener.port, None, ""), keep=1, connect_timeout_s=60.0)
    with pytest.raises(TimeoutError):
        wire.exchange("PATCH", "/x", {}, b"{}", 0.3, lambda: True)
    dripped.set()
    wire.close()


LARGE = b"x" * 32_000_000  # more than the buffers between two sockets hold


def _plain(listener: Listener) -> Wire:
    return Wire(Address("127.0.0.1", listener.port, None, ""), keep=1, connect_timeout_s=60.0)


def test_a_write_in_pieces_is_asked_for_before_each_and_whole_only_if_all_were_admitted(
    listening: Callable[..., Listener],
) -> None:
    whole = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> None:
        if sum(map(len, listener.seen)) > len(LARGE):
            whole.set()  # first: whoever has the answer looks at once
            connection.sendall(OK)

    listener, asked = listening(answer), count(1)
    wire = _plain(listener)
    assert wire.exchange("PATCH", "/x", {}, LARGE, 300.0, lambda: next(asked) > 0)[0] == 200
    assert whole.is_set() and next(asked) > 2
    listener.seen.clear()
    leave = iter([True, False])
    with pytest.raises(NotAdmitted):
        wire.exchange("PATCH", "/x", {}, LARGE, 300.0, lambda: next(leave))
    assert sum(map(len, listener.seen)) < len(LARGE)


def test_a_write_that_nobody_reads_ends_at_its_deadline(listening: Callable[..., Listener]) -> None:
    end = threading.Event()
    listener = listening(lambda *_: end.wait(120))
    with pytest.raises(TimeoutError):
        _plain(listener).exchange("PATCH", "/x", {}, LARGE, 0.3, lambda: True)
    end.set()


def test_a_write_into_a_connection_that_the_server_ends_is_an_outage(listening: Callable[..., Listener]) -> None:
    listener = listening(lambda connection, _: connection.close())
    with pytest.raises(OSError, match=r"reset|pipe"):
        _plain(listener).exchange("PATCH", "/x", {}, LARGE, 300.0, lambda: True)


def test_drain_waits_for_the_write_that_runs() -> None:
    fence = Fence()
    entered, release = threading.Event(), threading.Event()

    def body() -> None:
        with fence.write():
            entered.set()
            release.wait(60)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    assert entered.wait(60)
    assert not fence.drain(0.01)
    release.set()
    assert fence.drain(60.0)
    thread.join(60)


# --- TLS: records are made before the question ---------------------------------------------------------------------


@pytest.fixture
def authority() -> pki.Authority:
    return pki.Authority("test")


def _server_context(authority: pki.Authority, folder: Path) -> ssl.SSLContext:
    certificate, key = authority.server("127.0.0.1").write(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _tls(listener: Listener, authority: pki.Authority, name: str = "127.0.0.1") -> Wire:
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    return Wire(Address("127.0.0.1", listener.port, context, name), keep=2, connect_timeout_s=60.0)


def test_over_tls_a_refused_write_leaves_no_byte_and_the_next_one_goes_through(
    listening: Callable[..., Listener], authority: pki.Authority, tmp_path: Path
) -> None:
    listener = listening(context=_server_context(authority, tmp_path))
    wire = _tls(listener, authority)
    with pytest.raises(NotAdmitted):
        wire.exchange("PATCH", "/x", {}, b"{}", 60.0, lambda: False)
    assert wire.exchange("PATCH", "/x", {}, b"y" * 300_000, 60.0, lambda: True)[0] == 200
    eventually(lambda: sum(map(len, listener.seen)) > 300_000, what="all of the body arrives")
    assert b"".join(listener.seen).count(b"PATCH /x") == 1
    wire.close()


def test_over_tls_a_server_of_another_authority_or_name_is_refused(
    listening: Callable[..., Listener], authority: pki.Authority, tmp_path: Path
) -> None:
    listener = listening(context=_server_context(authority, tmp_path))
    for trusted, name in ((pki.Authority("other"), "127.0.0.1"), (authority, "elsewhere.example")):
        with pytest.raises(ssl.SSLCertVerificationError):
            _tls(listener, trusted, name).exchange("GET", "/x", {}, None, 60.0)
    assert not listener.seen


def test_over_tls_a_connection_that_ends_early_is_an_outage(
    listening: Callable[..., Listener], authority: pki.Authority, tmp_path: Path
) -> None:
    def cut(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_RDWR)

    listener = listening(cut, context=_server_context(authority, tmp_path))
    with pytest.raises(OSError, match="closed"):
        _tls(listener, authority).exchange("GET", "/x", {}, None, 60.0)


def test_an_outage_of_a_write_is_told_as_one(listening: Callable[..., Listener]) -> None:
    listener, timer = listening(lambda connection, _: connection.close()), Timer()
    fence = Fence(clock=timer)
    fence.renewed(timer.now)
    with pytest.raises(Unavailable):
        write(fenced(listener, fence))
