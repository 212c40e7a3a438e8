from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator

import pytest

from ocisync.agent.http import HttpServer, parse_address
from ocisync.model.errors import UsageError


@pytest.fixture
def port() -> Iterator[int]:
    server = HttpServer("127.0.0.1:0", {"/healthz": lambda: (200, "ok\n"), "/readyz": lambda: (503, "not yet\n")})
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.port
    server.stop()
    thread.join(60)
    assert not thread.is_alive()


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_pages_answer_with_their_status(port: int) -> None:
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz?verbose=1") == (503, "not yet\n")


def test_other_paths_are_not_found(port: int) -> None:
    assert get(port, "/../etc/passwd")[0] == 404


def test_addresses() -> None:
    assert parse_address(":8080") == ("", 8080)
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)
    for wrong in ("8080", "host:", "host:x", "host:70000", "host:²", "host:" + "9" * 5000, ""):
        with pytest.raises(UsageError):
            parse_address(wrong)


def test_a_port_in_use_is_a_usage_error(port: int) -> None:
    with pytest.raises(UsageError, match=str(port)):
        HttpServer(f"127.0.0.1:{port}", {})
