"""Requests to an API server: what is retried, what is read, what is refused."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3

from ocisync.cluster.client import APPLY_PATCH, Cluster, Endpoint, connect
from ocisync.cluster.wire import Address, Wire, WireError
from ocisync.kit.stop import StopToken
from ocisync.model.errors import InvalidInput, Unavailable
from tests.support.process import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Script:
    """A server on loopback that answers requests with prepared bytes; None closes the connection instead."""

    answers: list[bytes | None]
    seen: list[bytes] = field(default_factory=list)
    port: int = 0
    connections: int = 0


@contextlib.contextmanager
def scripted(*answers: bytes | None) -> Iterator[Script]:
    script = Script(list(answers))
    server = socket.create_server(("127.0.0.1", 0))
    script.port = server.getsockname()[1]

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                script.connections += 1
                with connection:
                    talk(connection)

    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while script.answers:
                request = connection.recv(65536)
                if not request:
                    return
                script.seen.append(request)
                answer = script.answers.pop(0)
                if answer is None:
                    return
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(60)


def client(script: Script, pauses: list[float] | None = None, token: Callable[[], str] = str) -> Cluster:
    waited = pauses if pauses is not None else []

    def load() -> Endpoint:
        url = f"http://127.0.0.1:{script.port}"
        wire = Wire(Address("127.0.0.1", script.port, None, ""), keep=4, connect_timeout_s=60.0)
        return Endpoint(url, urllib3.HTTPConnectionPool("127.0.0.1", script.port), token, wire=wire)

    def sleep(seconds: float) -> bool:
        waited.append(seconds)
        return False

    return Cluster(load, user_agent="ocisync/test", sleep=sleep)


def test_a_request_carries_agent_impersonation_and_query_and_reuses_its_connection() -> None:
    with scripted(OK, OK) as script:
        cluster = client(script, token=lambda: "Bearer t")
        for _ in range(2):
            response = cluster.request("GET", "/api", query=(("a", "b c"),), as_user="system:serviceaccount:n:s")
        assert (response.status, response.body, response.headers["content-LENGTH"]) == (200, b"ok", "2")
        request = script.seen[1].decode()
        assert request.startswith("GET /api?a=b+c HTTP/1.1\r\n")
        for line in (
            "user-agent: ocisync/test",
            "impersonate-user: system:serviceaccount:n:s",
            "authorization: Bearer t",
        ):
            assert f"\r\n{line}\r\n" in request
        assert script.connections == 1
        cluster.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: v\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_answers_are_read_in_every_form(answer: bytes) -> None:
    with scripted(answer) as script:
        assert client(script).request("GET", "/x").body == b"ok"


def test_compressed_answers_are_unpacked() -> None:
    packed = gzip.compress(b"ok" * 1000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with scripted(head + packed) as script:
        assert client(script).request("GET", "/x").body == b"ok" * 1000


def test_after_a_429_fewer_requests_are_on_their_way_in_the_level_that_the_server_named() -> None:
    level = b"X-Kubernetes-PF-PriorityLevel-UID: low\r\n"
    busy = b"HTTP/1.1 429 Too Many Requests\r\n" + level + b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n"
    with scripted(busy, OK) as script:
        cluster = client(script, [])
        assert cluster.request("POST", "/x", body=b"{}", as_user="tenant").status == 200
        assert cluster.pace.limits == {"low": 32}
        assert cluster.pace.refused == 1


def test_too_many_requests_wait_as_long_as_the_server_asks() -> None:
    busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    pauses: list[float] = []
    with scripted(busy, OK) as script:
        assert client(script, pauses).request("POST", "/x", body=b"{}").status == 200
    assert [7 <= pause < 8 for pause in pauses] == [True]


def test_a_pause_that_is_no_number_is_none() -> None:
    busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: ³\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    pauses: list[float] = []
    with scripted(busy, OK) as script:
        assert client(script, pauses).request("POST", "/x", body=b"{}").status == 200
    assert [pause < 1 for pause in pauses] == [True]


def test_a_lost_connection_is_tried_again_for_reads_and_applies_only() -> None:
    with scripted(None, OK, None, OK, None, OK) as script:
        cluster = client(script)
        assert cluster.request("GET", "/x").status == 200
        assert cluster.request("PATCH", "/x", body=b"{}", content_type=APPLY_PATCH).status == 200
        with pytest.raises(Unavailable):
            cluster.request("DELETE", "/x")
        assert len(script.seen) == 5


def test_a_busy_server_is_asked_again_for_reads_and_its_answer_returned_for_writes() -> None:
    down = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    with scripted(down, OK, down) as script:
        cluster = client(script)
        assert cluster.request("GET", "/x").status == 200
        assert cluster.request("POST", "/x", body=b"{}").status == 503


def test_nobody_there_is_said_with_the_address_and_without_a_traceback() -> None:
    port = free_port()
    cluster = client(Script([], port=port))
    with pytest.raises(Unavailable, match=f"GET http://127.0.0.1:{port}/x: .*refused"):
        cluster.request("GET", "/x")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
def test_malformed_answers_are_errors(answer: bytes) -> None:
    with scripted(answer) as script:
        wire = Wire(Address("127.0.0.1", script.port, None, ""), keep=1, connect_timeout_s=60.0)
        with pytest.raises(WireError):
            wire.exchange("GET", "/x", {}, None, 60.0)


@pytest.mark.parametrize("target", ["/x\r\nevil: 1", "/x\nevil", "/x\revil"])
def test_a_line_break_cannot_smuggle_a_header(target: str) -> None:
    with scripted(OK) as script:
        wire = Wire(Address("127.0.0.1", script.port, None, ""), keep=1, connect_timeout_s=60.0)
        with pytest.raises(ValueError, match="line break"):
            wire.exchange("GET", target, {}, None, 60.0)
        with pytest.raises(ValueError, match="line break"):
            wire.exchange("GET", "/x", {"a": target}, None, 60.0)
        assert script.seen == []


def test_a_stream_gives_lines_as_they_come_and_ends_with_the_stop_token() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'6\r\n{"a":1\r\n9\r\n}\n{"b":2}\r\n1\r\n\n\r\n0\r\n\r\n'
    with scripted(head + body) as script, client(script).stream("/w", timeout_s=60.0) as (status, lines):
        assert (status, list(lines)) == (200, [b'{"a":1}', b'{"b":2}'])
    stop = StopToken()
    stop.stop()
    with scripted(head + body) as script, client(script).stream("/w", timeout_s=60.0, stop=stop) as (_, lines):
        assert list(lines) == []


def test_a_missing_kubeconfig_is_said_with_what_to_do() -> None:
    with pytest.raises(InvalidInput) as refusal:
        connect("/nowhere/kubeconfig", user_agent="x")
    assert "/nowhere/kubeconfig" in refusal.value.message
    assert "--kubeconfig" in refusal.value.hint


KUBECONFIG = """
current-context: x
clusters: [{{name: c, cluster: {{{cluster}}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
"""


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- a",
        "just words",
        KUBECONFIG.format(cluster=""),
        KUBECONFIG.format(cluster="server: 12"),
        KUBECONFIG.format(cluster="server: 'ftp://127.0.0.1'"),
        KUBECONFIG.format(cluster="server: 'http://127.0.0.1:99999'"),
        KUBECONFIG.format(cluster="server: 'https://127.0.0.1:1', certificate-authority-data: YWJj"),
    ],
    ids=["no YAML", "a list", "words", "no server", "a number", "a scheme", "a port", "no certificate"],
)
def test_a_wrong_kubeconfig_is_named_whatever_is_wrong_with_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(InvalidInput) as refusal:
        connect(str(file), user_agent="x")
    assert str(file) in refusal.value.message
    assert "object" not in refusal.value.message  # of Python
    assert "--kubeconfig" in refusal.value.hint


def test_a_token_that_no_header_takes_is_wrong_input_and_not_shown() -> None:
    with scripted(OK) as script, pytest.raises(InvalidInput) as refusal:
        client(script, token=lambda: "Bearer hunter2\n").request("GET", "/version")
    assert "token" in refusal.value.message
    assert "hunter2" not in f"{refusal.value.message} {refusal.value.hint}"
    assert script.seen == []
