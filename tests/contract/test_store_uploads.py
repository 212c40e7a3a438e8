"""Uploads that break: taken up where the registry can say where it stopped, begun again where it cannot.

Real registries stand behind a gate that cuts connections at chosen bytes. olareg keeps what a cut chunk brought;
distribution 2 drops the session whose chunk was cut, and keeps one that a whole chunk reached.
"""

from __future__ import annotations

import http.client
import io
import random
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from ocisync.model.errors import OcisyncError, Refused, Unavailable
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.retry import RetryPlan
from ocisync.sandbox.faults import LoseAnswer, Reset, Status
from ocisync.sandbox.registry import Registry as Sandbox
from tests.support.gate import Cut, Gate
from tests.support.images import described, quick
from tests.support.registries import Registry
from tests.support.waiting import eventually

CHUNK = 256 * 1024
CONTENT = random.Random(7).randbytes(5 * CHUNK + 1234)
BLOB = described(CONTENT)


class Pipe(io.RawIOBase):
    """Bytes that can be read once, a few at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        return self._data.readinto(buffer)


def pipe(data: bytes = CONTENT) -> BinaryIO:
    """A reader that cannot be sought."""
    return io.BufferedReader(Pipe(data))  # type: ignore[type-var]


class Scissors:
    """Cuts the connection when so many bytes of request bodies have passed, each place once."""

    def __init__(self, *places: int) -> None:
        self.places = sorted(places)
        self.seen = 0

    def __call__(self, method: str, count: int) -> None:
        self.seen += count
        if self.places and self.seen >= self.places[0]:
            del self.places[0]
            raise Cut


@pytest.fixture
def gate(registry: Registry) -> Iterator[Gate]:
    with Gate(registry.host) as made:
        yield made


def opened(host: str, repository: str, **more: Any) -> RegistryStore:
    name = repository.partition("/")[2]
    return open_store(f"{host}/{name}", quick(chunk_bytes=CHUNK, **more))


@pytest.mark.parametrize("source", [lambda: CONTENT, lambda: io.BytesIO(CONTENT), pipe], ids=["bytes", "file", "pipe"])
def test_a_blob_goes_in_chunks_where_a_proxy_refuses_large_bodies(
    gate: Gate, repository: str, source: type[BinaryIO]
) -> None:
    gate.max_body = CHUNK
    with opened(gate.host, repository) as store:
        assert store.put_blob(BLOB, source())
        assert store.blob(BLOB, max_bytes=BLOB.size) == CONTENT
    assert gate.count("PATCH", 202) == 6


def test_a_broken_upload_arrives_whole_on_each_registry(gate: Gate, repository: str) -> None:
    gate.max_body = CHUNK
    cut = gate.on_bytes = Scissors(CHUNK // 2, 2 * CHUNK, 3 * CHUNK + 100_000)
    with opened(gate.host, repository) as store:
        store.put_blob(BLOB, io.BytesIO(CONTENT))
        assert store.blob(BLOB, max_bytes=BLOB.size) == CONTENT
    assert cut.places == []


def test_olareg_is_not_sent_again_what_it_has(olareg: Registry) -> None:
    with Gate(olareg.host, max_body=CHUNK) as gate:
        cut, asked = Scissors(CHUNK + CHUNK // 2), [""]

        def cutting(method: str, count: int) -> None:
            try:
                cut(method, count)
            except Cut:  # what is still on its way there when the client asks would be sent again
                eventually(lambda: received(olareg.host, asked[-1]) == cut.seen, what="olareg has all of it")
                raise

        gate.on_bytes = cutting
        gate.on_request = lambda method, path: asked.append(path) if method == "PATCH" else None
        with opened(gate.host, "x/test/resumed-upload") as store:
            store.put_blob(BLOB, io.BytesIO(CONTENT))
        assert gate.count("POST") == 2  # the whole PUT that was refused, and the chunks
        assert cut.seen <= BLOB.size + 2 * 64 * 1024


def received(host: str, path: str) -> int:
    """The bytes that an upload session has."""
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", path)
        return int(connection.getresponse().headers["Range"].removeprefix("0-")) + 1
    finally:
        connection.close()


def test_a_broken_whole_upload_goes_on_where_it_stopped(olareg: Registry) -> None:
    with Gate(olareg.host) as gate:
        cut = gate.on_bytes = Scissors(3 * CHUNK)
        with opened(gate.host, "x/test/resumed-whole") as store:
            store.put_blob(BLOB, CONTENT)
            assert store.blob(BLOB, max_bytes=BLOB.size) == CONTENT
        assert cut.places == []


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        made.faults.add("/blobs/uploads/", method="PUT", count=1, action=Status(413))
        yield made


def test_a_pipe_survives_a_cut_within_its_last_chunk(sandbox: Sandbox) -> None:
    sandbox.faults.clear()
    sandbox.faults.add("/blobs/uploads/", method="PATCH", count=2, action=Reset())
    with opened(sandbox.address, "x/shop/config") as store:
        assert store.put_blob(BLOB, pipe())
        assert store.blob(BLOB, max_bytes=BLOB.size) == CONTENT
    assert sandbox.requests.count(method="POST") == 1


def test_a_pipe_that_cannot_be_read_again_is_an_error_that_says_so(sandbox: Sandbox) -> None:
    sandbox.faults.clear()
    sandbox.faults.add("/blobs/uploads/", method="GET", count=None, action=Status(404))
    with (
        Gate(sandbox.address, on_bytes=Scissors(2 * CHUNK)) as gate,
        opened(gate.host, "x/shop/config") as store,
        pytest.raises(OcisyncError, match="cannot be read again"),
    ):
        store.put_blob(BLOB, pipe())


def test_a_short_pipe_is_kept_and_sent_again(sandbox: Sandbox) -> None:
    sandbox.faults.clear()
    sandbox.faults.add("/blobs/uploads/", method="PUT", count=2, action=Reset())
    content = CONTENT[:1000]
    with opened(sandbox.address, "x/shop/config") as store:
        assert store.put_blob(described(content), pipe(content))


def test_a_chunk_whose_answer_was_lost_is_not_sent_again(sandbox: Sandbox) -> None:
    sandbox.faults.add("/blobs/uploads/", method="PATCH", count=1, action=LoseAnswer())
    with opened(sandbox.address, "x/shop/config") as store:
        store.put_blob(BLOB, CONTENT)
    assert sandbox.requests.count(method="PATCH", status=202) == 6
    assert sandbox.requests.count(method="GET", status=204) == 1


def test_progress_pays_for_more_attempts_than_the_plan_has(sandbox: Sandbox) -> None:
    plan = RetryPlan(attempts=2, attempts_unreachable=2)
    for _ in range(5):  # each chunk arrives, and each answer is lost
        sandbox.faults.add("/blobs/uploads/", method="PATCH", count=1, action=LoseAnswer())
    with opened(sandbox.address, "x/shop/config", plan=plan) as store:
        store.put_blob(BLOB, CONTENT)
        assert store.has_blob(BLOB.digest)


def test_no_progress_ends_with_the_plan(sandbox: Sandbox) -> None:
    plan = RetryPlan(attempts=3, attempts_unreachable=3)
    fault = sandbox.faults.add("/blobs/uploads/", method="PATCH", count=None, action=Reset())
    with opened(sandbox.address, "x/shop/config", plan=plan) as store, pytest.raises(Unavailable):
        store.put_blob(BLOB, CONTENT)
    assert fault.hits == 3


@pytest.mark.parametrize(
    "status",
    [
        Status(204, {"Range": "0-99999999"}),
        Status(204, {"Range": "0-" + "9" * 40}),
        Status(204, {"Range": "nonsense"}),
        Status(204, {"Range": "5-10"}),
        Status(404),
        Status(200, {"Range": "0-7"}, b"?"),
        Status(204, {"Range": f"0-{CHUNK - 2}", "Location": "http://127.0.0.1:99999/"}),
    ],
    ids=["more-than-sent", "huge", "nonsense", "middle", "gone", "wrong-place", "no-address"],
)
def test_a_registry_that_lies_about_what_it_has_gets_the_blob_anew_or_an_error(
    sandbox: Sandbox, status: Status
) -> None:
    sandbox.faults.add("/blobs/uploads/", method="PATCH", count=1, action=LoseAnswer())
    sandbox.faults.add("/blobs/uploads/", method="GET", count=None, action=status)
    with opened(sandbox.address, "x/shop/config") as store:
        try:
            store.put_blob(BLOB, CONTENT)
        except Refused as error:
            assert error.reason == "BadRedirect"
        else:
            assert store.blob(BLOB, max_bytes=BLOB.size) == CONTENT


def test_the_smallest_chunk_that_a_registry_wants_is_kept(sandbox: Sandbox) -> None:
    answer = {"OCI-Chunk-Min-Length": str(2 * CHUNK)}
    with opened(sandbox.address, "x/shop/config") as store:
        begun: list[int] = []
        original = sandbox.faults.take

        def take(method: str, target: str) -> object:
            if method == "POST":
                begun.append(1)
            return original(method, target)

        store.put_blob(BLOB, CONTENT)
    assert answer
