"""Registries behind proxies: a real one that tunnels and forwards, with and without a login."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocisync.model.errors import AccessDenied, Unavailable, UsageError
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.credentials import Credential, StaticCredentials
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.support.gate import Gate
from tests.support.images import push_image, quick
from tests.support.pki import Authority
from tests.support.proxy import Proxy

NAME = "registry.example"
LOGIN = "proxy-user:proxy%20secret"  # as it stands in a URL
DECODED = "proxy-user:proxy secret"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


@pytest.fixture
def secure(sandbox: Sandbox, tmp_path: Path) -> Iterator[tuple[Gate, Path]]:
    """A registry over TLS with tokens, under a name that only the proxy can reach; and its authority."""
    authority = Authority("proxy test authority")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(authority.certificate)
    certificate = authority.server(NAME, "127.0.0.1").write(tmp_path, "server")
    with Gate(sandbox.address, auth=Auth({"ci": Account("secret")}), certificate=certificate) as gate:
        yield gate, ca_file


def through(secure: tuple[Gate, Path], proxy: str, **more: Any) -> RegistryStore:
    login = StaticCredentials(NAME, Credential("ci", "secret"))
    options = quick(ca_file=secure[1], credentials=login, environ={"HTTPS_PROXY": proxy}, **more)
    return open_store(f"{NAME}/shop/config", options)


def port(host: str) -> int:
    return int(host.rpartition(":")[2])


def test_a_push_and_a_pull_go_through_a_tunnel(secure: tuple[Gate, Path]) -> None:
    gate = secure[0]
    with Proxy({f"{NAME}:443": port(gate.host)}) as proxy, through(secure, proxy.url()) as store:
        assert push_image(store, "v1") == store.resolve("v1")
        assert set(proxy.seen) == {f"CONNECT {NAME}:443"}


def test_a_proxy_gets_the_login_of_its_address(secure: tuple[Gate, Path]) -> None:
    gate = secure[0]
    with (
        Proxy({f"{NAME}:443": port(gate.host)}, login=DECODED) as proxy,
        through(secure, proxy.url(LOGIN)) as store,
    ):
        assert push_image(store, "v1") == store.resolve("v1")


@pytest.mark.parametrize("login", ["", "proxy-user:wrong-password"])
def test_a_proxy_that_refuses_the_login_is_named_without_it(secure: tuple[Gate, Path], login: str) -> None:
    with (
        Proxy({f"{NAME}:443": port(secure[0].host)}, login=DECODED) as proxy,
        through(secure, proxy.url(login)) as store,
        pytest.raises(AccessDenied, match="the proxy 127") as caught,
    ):
        store.resolve("v1")
    assert "HTTPS_PROXY" in caught.value.hint
    assert "wrong-password" not in f"{caught.value.message}{caught.value.hint}"
    assert len(proxy.seen) == 1


def test_a_proxy_that_forbids_the_host_is_not_asked_again(secure: tuple[Gate, Path]) -> None:
    with (
        Proxy({}, refuse=403) as proxy,
        through(secure, proxy.url()) as store,
        pytest.raises(AccessDenied, match=f"does not allow connections to {NAME}"),
    ):
        store.resolve("v1")
    assert len(proxy.seen) == 1


def test_a_proxy_that_cannot_reach_the_host_is_tried_again(secure: tuple[Gate, Path]) -> None:
    with (
        Proxy({}) as proxy,
        through(secure, proxy.url()) as store,
        pytest.raises(Unavailable, match=r"does not connect to registry\.example \(HTTP 502\)"),
    ):
        store.resolve("v1")
    assert len(proxy.seen) == 3


def test_no_proxy_is_no_proxy(secure: tuple[Gate, Path]) -> None:
    environ = {"https_proxy": "http://127.0.0.1:9", "no_proxy": NAME}
    login = StaticCredentials(NAME, Credential("ci", "secret"))
    options = quick(ca_file=secure[1], credentials=login, environ=environ)
    with open_store(f"{NAME}/shop/config", options) as store, pytest.raises(Unavailable) as caught:
        store.resolve("v1")
    assert "proxy" not in caught.value.message


def test_loopback_is_never_proxied(secure: tuple[Gate, Path]) -> None:
    gate, ca_file = secure
    login = StaticCredentials(gate.host, Credential("ci", "secret"))
    environ = {"HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    with open_store(f"{gate.host}/shop/config", quick(ca_file=ca_file, credentials=login, environ=environ)) as store:
        assert store.resolve("v1") is None


def test_plain_http_goes_through_a_proxy_with_a_login(sandbox: Sandbox) -> None:
    with Proxy({f"{NAME}:80": port(sandbox.address)}, login=DECODED) as proxy:
        for login, allowed in ((LOGIN, True), ("", False)):
            options = quick(plain_http=True, environ={"HTTP_PROXY": proxy.url(login)})
            with open_store(f"{NAME}/shop/config", options) as store:
                if allowed:
                    store.ping()
                else:
                    with pytest.raises(AccessDenied, match="HTTP 407") as caught:
                        store.ping()
                    assert "HTTP_PROXY" in caught.value.hint


def test_a_slow_proxy_is_bounded_as_well(secure: tuple[Gate, Path]) -> None:
    gate = secure[0]
    with Proxy({f"{NAME}:443": port(gate.host)}) as proxy, through(secure, proxy.url(), timeout_s=60) as store:
        store.resolve("v1")
        stalled = threading.Event()

        def stall(method: str, path: str) -> None:
            stalled.wait(30)

        gate.on_request = stall
        try:
            with pytest.raises(Unavailable, match="within the time that was left"):
                store.within(0.3).resolve("v1")
        finally:
            stalled.set()


@pytest.mark.parametrize("plain_http", [True, False])
@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://u:hunter2@h:1",
        "ftp://u:hunter2@127.0.0.1:1",
        "http://",
        "http://u:hunter2@",
        "http://u:hunter2@[::1",
        "://",
        "u:hunter2@127.0.0.1:99999",
        "x y",
    ],
)
def test_what_is_no_proxy_is_a_usage_error_without_its_login(proxy: str, plain_http: bool) -> None:
    environ = {"https_proxy": proxy, "http_proxy": proxy}
    with (
        open_store(f"{NAME}/shop/config", quick(plain_http=plain_http, environ=environ)) as store,
        pytest.raises(UsageError, match="the proxy of the environment cannot be used") as caught,
    ):
        store.resolve("v1")
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no.invalid:1"])
def test_a_proxy_that_is_not_there_is_named_without_its_login(host: str) -> None:
    options = quick(environ={"https_proxy": f"http://u:hunter2@{host}"})
    with open_store(f"{NAME}/shop/config", options) as store, pytest.raises(Unavailable, match=host) as caught:
        store.resolve("v1")
    assert "hunter2" not in caught.value.message
