"""Blobs as streams: any size in little memory, taken up after breaks, never wrong to the end."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import NotFound, Refused, Unavailable
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.retry import RetryPlan
from ocisync.sandbox.faults import Action, Corrupt, Delay, Endless, Misreport, Relabel, Reset, Status, Truncate
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.support.images import described, quick

CONTENT = random.Random(3).randbytes(1_000_003)
BLOB = described(CONTENT)


@pytest.fixture
def store(repository: str) -> Iterator[RegistryStore]:
    with open_store(repository, quick()) as opened:
        opened.put_blob(BLOB, CONTENT)
        yield opened


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as server:
        yield server
        server.faults.clear()


@pytest.fixture
def plain(sandbox: Sandbox) -> Iterator[RegistryStore]:
    plan = RetryPlan(attempts=3)
    with open_store(f"{sandbox.address}/shop/config", quick(plan=plan, timeout_s=60.0)) as opened:
        opened.put_blob(BLOB, CONTENT)
        sandbox.requests.clear()
        yield opened


def pieces(stream: BinaryIO, amount: int) -> bytes:
    out = bytearray()
    with stream:
        while data := stream.read(amount):
            out += data
    return bytes(out)


@pytest.mark.parametrize("amount", [1000, 65_536, 10_000_000])
def test_a_stream_is_the_blob(store: RegistryStore, amount: int) -> None:
    assert pieces(store.open_blob(BLOB), amount) == CONTENT


def test_a_stream_goes_straight_into_another_repository(store: RegistryStore, repository: str) -> None:
    with open_store(repository + "/copy", quick(chunk_bytes=64 * 1024)) as other, store.open_blob(BLOB) as stream:
        assert other.put_blob(BLOB, stream)
        assert other.blob(BLOB, max_bytes=BLOB.size) == CONTENT


def test_an_empty_blob_is_an_empty_stream(plain: RegistryStore) -> None:
    plain.put_blob(described(b""), b"")
    assert pieces(plain.open_blob(described(b"")), 10) == b""


def test_what_is_missing_is_missed_at_once(store: RegistryStore) -> None:
    with pytest.raises(NotFound):
        store.open_blob(described(b"nowhere"))


def test_a_wrong_length_is_refused_at_once(plain: RegistryStore) -> None:
    with pytest.raises(Refused, match="bytes instead of"):
        plain.open_blob(Descriptor(BLOB.media_type, BLOB.digest, BLOB.size - 1))


def test_one_stream_is_one_request_and_the_connection_is_used_again(plain: RegistryStore, sandbox: Sandbox) -> None:
    for _ in range(3):
        assert pieces(plain.open_blob(BLOB), 100_000) == CONTENT
    assert sandbox.requests.count() == 3


def test_breaks_are_taken_up_where_they_happened(plain: RegistryStore, sandbox: Sandbox) -> None:
    for after in (200_000, 200_000, 1, 300_000):
        sandbox.faults.add("/blobs/", method="GET", action=Truncate(after))
    assert pieces(plain.open_blob(BLOB), 50_000) == CONTENT
    assert sandbox.requests.count(status=206) >= 4


def test_a_registry_that_ignores_ranges_is_read_over(plain: RegistryStore, sandbox: Sandbox) -> None:
    sandbox.faults.add("/blobs/", method="GET", action=Truncate(400_000))
    sandbox.faults.add("/blobs/", method="GET", action=Status(200, {}, CONTENT))
    assert pieces(plain.open_blob(BLOB), 50_000) == CONTENT


def test_breaks_without_progress_end_with_the_plan(plain: RegistryStore, sandbox: Sandbox) -> None:
    sandbox.faults.add("/blobs/", method="GET", action=Truncate(400_000))
    stuck = sandbox.faults.add("/blobs/", method="GET", count=None, action=Truncate(0))
    with pytest.raises(Unavailable, match="broke off after 400000 bytes"):
        pieces(plain.open_blob(BLOB), 50_000)
    assert stuck.hits == 2


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (Corrupt(500_000), Refused),
        (Endless(), Refused),
        (Misreport(-1), Refused),
        (Misreport(5), Refused),
        (Status(500), None),
        (Status(502), None),
        (Reset(), None),
        (Status(404), NotFound),
        (Relabel({"Content-Encoding": "gzip"}), Refused),
    ],
    ids=["corrupt", "endless", "shorter", "longer", "500", "502", "reset", "404", "compressed"],
)
def test_a_fault_never_gives_other_content(
    plain: RegistryStore, sandbox: Sandbox, action: Action, outcome: type[Exception] | None
) -> None:
    sandbox.faults.add("/blobs/", method="GET", action=action)
    if outcome is None:
        assert pieces(plain.open_blob(BLOB), 50_000) == CONTENT
        return
    with pytest.raises(outcome):
        pieces(plain.open_blob(BLOB), 50_000)


@pytest.mark.parametrize(
    "part",
    [
        Status(206, {"Content-Range": f"bytes 0-{BLOB.size - 1}/{BLOB.size}"}, CONTENT[400_000:]),
        Status(206, {}, CONTENT[400_000:]),
        Status(206, {"Content-Range": "bytes x"}, CONTENT[400_000:]),
        Status(206, {"Content-Range": f"bytes 400000-{BLOB.size - 1}/{BLOB.size}"}, bytes(BLOB.size - 400_000)),
        Status(200, {}, bytes(BLOB.size)),
    ],
    ids=["other-start", "no-range", "nonsense", "other-bytes", "other-whole"],
)
def test_a_wrong_rest_is_refused(plain: RegistryStore, sandbox: Sandbox, part: Status) -> None:
    sandbox.faults.add("/blobs/", method="GET", action=Truncate(400_000))
    sandbox.faults.add("/blobs/", method="GET", action=part)
    with pytest.raises(Refused):
        pieces(plain.open_blob(BLOB), 50_000)


def test_a_silent_registry_is_given_up_within_the_time(plain: RegistryStore, sandbox: Sandbox) -> None:
    sandbox.faults.add("/blobs/", method="GET", count=None, action=Delay())
    with pytest.raises(Unavailable, match="within the time that was left"):
        plain.within(0.3).open_blob(BLOB)


def test_a_registry_that_drips_is_given_up(sandbox: Sandbox) -> None:
    ticks = iter(range(0, 10_000_000, 100))
    options = quick(monotonic=lambda: float(next(ticks)))
    with open_store(f"{sandbox.address}/shop/config", options) as opened:
        opened.put_blob(BLOB, CONTENT)
        with pytest.raises(Unavailable, match="too slowly"):
            pieces(opened.open_blob(BLOB), 1000)


def test_an_expired_token_in_the_middle_is_replaced() -> None:
    from ocisync.oci.credentials import Credential, StaticCredentials

    with Sandbox(auth=Auth({"ci": Account("s")}, scheme="bearer")) as sandbox:
        options = quick(credentials=StaticCredentials(sandbox.address, Credential("ci", "s")))
        with open_store(f"{sandbox.address}/a/b", options) as opened:
            opened.put_blob(BLOB, CONTENT)
            sandbox.faults.add("/blobs/", method="GET", action=Truncate(400_000))
            stream = opened.open_blob(BLOB)
            sandbox.auth.expire_all()
            assert pieces(stream, 50_000) == CONTENT


def test_a_large_blob_needs_little_memory(sandbox: Sandbox, plain: RegistryStore) -> None:
    content = bytes(48 * 1024 * 1024)
    large = described(content)
    plain.put_blob(large, content)
    tracemalloc.start()
    with plain.open_blob(large) as stream:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        got = 0
        while data := stream.read(128 * 1024):
            got += len(data)
        peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert got == large.size
    assert peak < 16 * 1024 * 1024  # the sandbox, which sends it, is in this process too
