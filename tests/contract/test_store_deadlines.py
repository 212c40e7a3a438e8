"""One slow request must not outlast the time that its caller has: `within`, and the seconds of the evidence budget.

The servers here would go on for minutes, and the stores' own timeouts are longer still: a test that ends, ends in time.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.model.errors import Unavailable
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.credentials import Credential, StaticCredentials
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.sandbox.faults import Delay, Status
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.support.images import Sleeper, described, push_bundle, push_image, quick

IN_TIME = "within the time that was left"
GOOD = b'{"good":"bundle"}'
# On a busy machine an honest answer may take as long as the first of these: then the next one is tried.
GROWING_S = (1.0, 6.0, 45.0)


@contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[str]:
    """A server that answers with `first` and then a drop every few milliseconds, for a minute."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(first)
                for _ in range(3000):
                    if over.wait(0.02):
                        return
                    connection.sendall(drop)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Drop: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"{"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["status-line", "headers", "body", "chunks", "error-body"],
)
def test_an_answer_that_drips_is_given_up_in_time(first: bytes, drop: bytes) -> None:
    sleeper = Sleeper()
    with (
        dripping(first, drop) as address,
        open_store(f"{address}/a/b", quick(sleeper)) as store,
        pytest.raises(Unavailable),
    ):
        store.within(0.3).manifest("v1")
    assert sum(sleeper.slept) < 0.3


def test_a_silent_server_is_given_up_in_time() -> None:
    with (
        dripping(b"", b"") as address,
        open_store(f"{address}/a/b", quick(timeout_s=60)) as store,
        pytest.raises(Unavailable, match=IN_TIME),
    ):
        store.within(0.3).manifest("v1")


def test_no_pause_goes_beyond_the_deadline() -> None:
    sleeper = Sleeper()
    with Sandbox() as sandbox, open_store(f"{sandbox.address}/a/b", quick(sleeper)) as store:
        sandbox.faults.add("/manifests/", count=None, action=Status(429, {"Retry-After": "55"}))
        with pytest.raises(Unavailable, match="429"):
            store.within(50).resolve("v1")
    assert sleeper.slept == []


def test_time_that_is_over_sends_nothing() -> None:
    with Sandbox() as sandbox, open_store(f"{sandbox.address}/a/b", quick()) as store:
        with pytest.raises(Unavailable, match=IN_TIME):
            store.within(-1).resolve("v1")
        assert sandbox.requests.count() == 0
        assert store.resolve("v1") is None  # the store itself has no such limit


def test_a_slow_token_server_is_part_of_the_time() -> None:
    with Sandbox(auth=Auth({"ci": Account("s")}, scheme="bearer")) as sandbox:
        sandbox.faults.add("/token", count=None, action=Delay())
        options = quick(credentials=StaticCredentials(sandbox.address, Credential("ci", "s")), timeout_s=60)
        with open_store(f"{sandbox.address}/a/b", options) as store, pytest.raises(Unavailable, match=IN_TIME):
            store.within(0.3).resolve("v1")


# -- evidence -------------------------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as server:
        yield server
        server.faults.clear()


@pytest.fixture
def store(sandbox: Sandbox) -> Iterator[RegistryStore]:
    with open_store(f"{sandbox.address}/shop/config", quick(timeout_s=60)) as opened:
        yield opened


@pytest.fixture
def subject(store: RegistryStore) -> Descriptor:
    pushed = push_image(store, "v1")
    store.attach(push_bundle(store, pushed, GOOD), pushed)
    return pushed


def budget(seconds: float) -> EvidenceBudget:
    return EvidenceBudget(time.monotonic, seconds=seconds)


def test_enough_time_finds_the_evidence(store: RegistryStore, subject: Descriptor) -> None:
    found = collect(store, subject.digest, budget=budget(120))
    assert ([item.payload for item in found.items], found.truncated) == ([GOOD], False)


def test_one_slow_bundle_costs_the_budget_and_no_more(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    slow = b'{"slow":"bundle"}'
    store.attach(push_bundle(store, subject, slow), subject)
    sandbox.faults.add(described(slow).digest, method="GET", count=None, action=Delay())
    for seconds in GROWING_S:
        try:
            found = collect(store, subject.digest, budget=budget(seconds))
        except Unavailable:
            continue
        assert found.truncated
        if found.items:
            assert [item.payload for item in found.items] == [GOOD]
            return
    pytest.fail("the good bundle was never found beside the slow one")


@pytest.mark.parametrize("path", ["/referrers/", "/manifests/", "/blobs/"])
def test_a_registry_that_hangs_is_an_outage_and_not_unsigned(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor, path: str
) -> None:
    sandbox.faults.add(path, count=None, action=Delay())
    for seconds in GROWING_S:
        try:
            found = collect(store, subject.digest, budget=budget(seconds))
        except Unavailable as error:
            assert IN_TIME in error.message
            return
        assert (found.items, found.truncated) == ((), True)
    pytest.fail("the registry was never waited for")


def test_writing_is_bounded_too(sandbox: Sandbox, store: RegistryStore, subject: Descriptor) -> None:
    raw = store.manifest("v1").raw
    sandbox.faults.add("/manifests/", method="PUT", count=None, action=Delay())
    sandbox.faults.add("/uploads/", count=None, action=Delay())
    timed = store.within(0.4)
    writes: list[Callable[[], object]] = [
        lambda: timed.put_manifest(raw, OCI_MANIFEST, "v2"),
        lambda: timed.put_blob(described(b"new"), b"new"),
    ]
    for write in writes:
        with pytest.raises(Unavailable, match=IN_TIME):
            write()
