"""A server that speaks nonsense: whatever it sends, the caller gets one of our errors, soon."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ocisync.model.descriptor import OCI_MANIFEST
from ocisync.model.errors import OcisyncError
from ocisync.oci.client import open_store
from ocisync.oci.retry import RetryPlan
from ocisync.sandbox.faults import Faults
from ocisync.sandbox.httpserver import HttpServer, Reply, Request
from ocisync.sandbox.requestlog import RequestLog
from tests.support.images import described, quick

ONCE = RetryPlan(attempts=1, attempts_unreachable=1)


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """A socket that reads a request, sends these bytes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5.0)


# urllib3 drops the half-read answer of some of these, so that its socket is closed by the garbage collector only: here,
# and not in the middle of some other test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 999999 Odd\r\n\r\n",
        b"HTTP/1.1 abc Odd\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nfive!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\nfive!",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDocker-Content-Digest: \xff\xfe\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 307 Moved\r\n\r\n",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\r\n\r\n",
        b"HTTP/1.1 429 No\r\nRetry-After: " + b"9" * 400 + b"\r\n\r\n",
    ],
)
def test_nonsense_on_the_wire_is_one_of_our_errors(answer: bytes) -> None:
    with saying(answer) as address, open_store(f"{address}/a/b", quick(plan=ONCE, timeout_s=2.0)) as store:
        for operation in (
            lambda: store.manifest("v1"),
            lambda: store.blob(described(b"x" * 77), max_bytes=100),
            lambda: list(store.tags()),
            lambda: store.put_manifest(b"{}", OCI_MANIFEST, "v1"),
        ):
            try:
                operation()
            except OcisyncError as error:
                assert error.message.isprintable()
    gc.collect()


HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
NEAR = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["http:", "//", "127.0.0.1", ":", "9", "/", "[", "]", "@", "?", "#", "%", "..", "\\", " ", "ü", "a"]
        ),
        max_size=8,
    ),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([202, 301, 307, 401, 429]), HEADER_TEXT | NEAR)
@example(401, "//[")
@example(401, "https://a:b")
@example(307, "//[")
@example(202, "//[")
def test_any_address_or_challenge_in_a_header_is_survived(status: int, text: str) -> None:
    HEADERS.update(status=status, text=text)
    with suppress(OcisyncError):
        STORE.manifest("v1")
    with suppress(OcisyncError):
        STORE.put_blob(described(b"x"), b"x")
    with suppress(OcisyncError):
        list(STORE.tags())


HEADERS: dict[str, object] = {}


def _service(request: Request, reply: Reply) -> None:
    request.body(1000)
    status, text = int(str(HEADERS["status"])), str(HEADERS["text"])
    if request.method == "HEAD":
        status = 404
    quoted = text.replace('"', "")
    reply.send(
        200 if request.path.endswith("tags/list") else status,
        b"{}",
        {
            "Location": text,
            "WWW-Authenticate": f'Bearer realm="{quoted}"',
            "Retry-After": text,
            "Link": f'<{quoted}>; rel="next"',
        },
    )


_SERVER = HttpServer(_service, port=0, faults=Faults(), log=RequestLog())


@pytest.fixture(scope="module", autouse=True)
def _served() -> Iterator[None]:
    _SERVER.start()
    globals()["STORE"] = open_store(f"127.0.0.1:{_SERVER.port}/a/b", quick(plan=ONCE, connect_timeout_s=1.0))
    yield
    STORE.close()
    _SERVER.stop()


STORE = open_store("127.0.0.1:1/a/b", quick(plan=ONCE))
