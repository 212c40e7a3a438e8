"""Streams that never block: everything arrives, and whoever waits waits no longer than it was told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from ocisync.cluster.wire import _Stream

FOR_EVER_S = 60.0


@pytest.fixture
def pair() -> Iterator[tuple[_Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = _Stream(ours)
    with theirs:
        yield stream, theirs
    stream.close()


def test_a_message_larger_than_every_buffer_arrives_whole(pair: tuple[_Stream, socket.socket]) -> None:
    stream, theirs = pair
    message = bytes(range(256)) * 40_000
    found = bytearray()

    def read() -> None:
        while len(found) < len(message):
            found.extend(theirs.recv(65_536))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    stream.begin(FOR_EVER_S, whole=True)
    stream.send(message)
    reader.join(FOR_EVER_S)
    assert bytes(found) == message


@pytest.mark.parametrize("whole", [True, False])
def test_whoever_never_reads_is_given_up(pair: tuple[_Stream, socket.socket], *, whole: bool) -> None:
    stream, _ = pair
    stream.begin(0.05, whole=whole)
    with pytest.raises(TimeoutError):
        stream.send(bytes(50_000_000))


@pytest.mark.parametrize("whole", [True, False])
def test_an_answer_that_does_not_come_is_given_up(pair: tuple[_Stream, socket.socket], *, whole: bool) -> None:
    stream, _ = pair
    stream.begin(0.05, whole=whole)
    with pytest.raises(TimeoutError):
        stream.recv(1)


def test_a_deadline_is_for_all_waits_together_and_patience_for_each(pair: tuple[_Stream, socket.socket]) -> None:
    stream, theirs = pair
    theirs.sendall(b"ab")
    stream.begin(0.0, whole=True)
    with pytest.raises(TimeoutError):
        stream.recv(1)  # although something is there
    stream.begin(FOR_EVER_S, whole=False)
    assert stream.recv(1) + stream.recv(1) == b"ab"


def test_a_stream_is_quiet_until_something_comes_or_it_ends(pair: tuple[_Stream, socket.socket]) -> None:
    stream, theirs = pair
    assert stream.quiet
    theirs.sendall(b"x")
    stream.begin(FOR_EVER_S, whole=False)
    assert stream.recv(9) == b"x"
    theirs.close()
    assert [stream.quiet, stream.recv(9)] == [False, b""]
