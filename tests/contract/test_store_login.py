"""Logins: bearer tokens by scope, basic, identity tokens, and credentials that go nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ocisync.model.descriptor import OCI_MANIFEST
from ocisync.model.errors import AccessDenied, Refused
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.credentials import Credential, CredentialSource, Sources, StaticCredentials
from ocisync.sandbox.faults import Faults
from ocisync.sandbox.httpserver import HttpServer, Reply, Request
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from ocisync.sandbox.requestlog import RequestLog
from tests.support.bearer import TokenServer
from tests.support.images import described, push_image, quick
from tests.support.registries import BASIC_LOGIN, Distribution
from tests.support.requirements import require

SECRET = "correct-horse-battery"


def login(sandbox: Sandbox, user: str = "ci", password: str = SECRET) -> CredentialSource:
    return StaticCredentials(sandbox.address, Credential(user, password))


def opened(sandbox: Sandbox, credentials: CredentialSource | None = None, path: str = "shop/config") -> RegistryStore:
    return open_store(f"{sandbox.address}/{path}", quick(credentials=credentials or Sources(())))


@pytest.fixture
def bearer() -> Iterator[Sandbox]:
    accounts = {"ci": Account(SECRET), "agent": Account(SECRET, actions=("pull",))}
    with Sandbox(auth=Auth(accounts, scheme="bearer")) as sandbox:
        yield sandbox


@pytest.fixture
def basic() -> Iterator[Sandbox]:
    accounts = {"ci": Account(SECRET), "agent": Account(SECRET, actions=("pull",))}
    with Sandbox(auth=Auth(accounts, scheme="basic")) as sandbox:
        yield sandbox


def scopes(sandbox: Sandbox) -> list[str]:
    """The scopes of all token requests so far."""
    targets = [entry.target for entry in sandbox.requests.entries() if entry.target.startswith("/token")]
    return [scope for target in targets for scope in parse_qs(urlsplit(target).query)["scope"]]


def test_reading_asks_for_pull_and_writing_for_push(bearer: Sandbox) -> None:
    with opened(bearer, login(bearer)) as store:
        store.resolve("v1")
        assert scopes(bearer) == ["repository:shop/config:pull"]
        push_image(store, "v1")
        assert scopes(bearer)[1:] == ["repository:shop/config:pull,push"]


def test_one_token_serves_all_requests_of_a_scope(bearer: Sandbox) -> None:
    with opened(bearer, login(bearer)) as store:
        for _ in range(10):
            store.resolve("v1")
    assert bearer.requests.count(resource="token") == 1
    assert bearer.requests.count(status=401) == 1


def test_sixteen_threads_share_one_token(bearer: Sandbox) -> None:
    with opened(bearer, login(bearer)) as store, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(store.resolve, ["v1"] * 64)) == [None] * 64
    assert bearer.requests.count(resource="token") == 1


def test_sixteen_threads_survive_an_expired_token(bearer: Sandbox) -> None:
    with opened(bearer, login(bearer)) as store, ThreadPoolExecutor(16) as pool:
        expected = push_image(store, "v1")
        for _ in range(3):
            bearer.auth.expire_all()
            assert list(pool.map(store.resolve, ["v1"] * 64)) == [expected] * 64


def test_a_token_that_ran_out_is_replaced_before_it_is_refused() -> None:
    auth = Auth({"ci": Account(SECRET)}, scheme="bearer", token_ttl_s=100.0)
    now = 0.0
    with Sandbox(auth=auth) as sandbox:
        options = quick(credentials=login(sandbox), monotonic=lambda: now)
        with open_store(f"{sandbox.address}/shop/config", options) as store:
            store.resolve("v1")
            now = 89.0
            store.resolve("v1")
            assert sandbox.requests.count(resource="token") == 1
            now = 91.0
            store.resolve("v1")
    assert sandbox.requests.count(resource="token") == 2
    assert sandbox.requests.count(status=401) == 1


def test_two_repositories_need_two_tokens_and_get_them(bearer: Sandbox) -> None:
    with opened(bearer, login(bearer)) as one, opened(bearer, login(bearer), "other/config") as two:
        assert push_image(one, "v1") == one.resolve("v1")
        assert push_image(two, "v1") == two.resolve("v1")
        content = secrets.token_bytes(10)
        one.put_blob(described(content), content)
        assert two.mount_blob(described(content).digest, one.repository)


def test_a_blob_that_may_not_be_read_elsewhere_is_not_mounted(bearer: Sandbox) -> None:
    accounts = {"ci": Account(SECRET), "guest": Account(SECRET, repositories=("guest/*",))}
    bearer.auth.accounts = accounts
    with opened(bearer, login(bearer)) as one, opened(bearer, login(bearer, "guest"), "guest/config") as two:
        content = secrets.token_bytes(10)
        one.put_blob(described(content), content)
        assert not two.mount_blob(described(content).digest, one.repository)


def test_an_identity_token_is_exchanged(bearer: Sandbox) -> None:
    credential = Credential(identity_token=bearer.auth.refresh_token("ci"))
    with opened(bearer, StaticCredentials(bearer.address, credential)) as store:
        assert push_image(store, "v1") == store.resolve("v1")
    assert bearer.requests.count(resource="token", method="POST") == 2
    assert bearer.requests.count(resource="token", method="GET") == 0


def test_basic_logins_work(basic: Sandbox) -> None:
    with opened(basic, login(basic)) as store:
        store.ping()
        assert push_image(store, "v1") == store.resolve("v1")
    assert basic.requests.count(status=401) == 1


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_wrong_password_is_denied_with_a_hint_and_never_shown(scheme: str) -> None:
    with (
        Sandbox(auth=Auth({"ci": Account(SECRET)}, scheme=scheme)) as sandbox,
        opened(sandbox, login(sandbox, "ci", "wrong-password")) as store,
        pytest.raises(AccessDenied) as caught,
    ):
        store.resolve("v1")
    assert sandbox.address in caught.value.message
    assert f"ocisync login {sandbox.address}" in caught.value.hint
    assert "wrong-password" not in f"{caught.value.message}{caught.value.hint}{caught.value.__cause__}"


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_missing_login_is_denied(scheme: str) -> None:
    with (
        Sandbox(auth=Auth({"ci": Account(SECRET)}, scheme=scheme)) as sandbox,
        opened(sandbox) as store,
        pytest.raises(AccessDenied, match="HTTP 401"),
    ):
        store.resolve("v1")


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_read_only_login_may_not_write(scheme: str) -> None:
    accounts = {"agent": Account(SECRET, actions=("pull",)), "ci": Account(SECRET)}
    with Sandbox(auth=Auth(accounts, scheme=scheme)) as sandbox, opened(sandbox, login(sandbox, "agent")) as store:
        with opened(sandbox, login(sandbox)) as writer:
            expected = push_image(writer, "v1")
        assert store.resolve("v1") == expected
        with pytest.raises(AccessDenied):
            store.put_manifest(store.manifest("v1").raw, OCI_MANIFEST, "v2")


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_public_content_needs_no_login(scheme: str) -> None:
    auth = Auth({"ci": Account(SECRET)}, scheme=scheme, anonymous_pull=True)
    with Sandbox(auth=auth) as sandbox, opened(sandbox, login(sandbox)) as writer, opened(sandbox) as store:
        assert push_image(writer, "v1") == store.resolve("v1")


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_rotated_password_is_picked_up(scheme: str) -> None:
    class Rotating:
        password = "first"

        def find(self, host: str, path: str) -> Credential | None:
            return Credential("ci", self.password)

    auth = Auth({"ci": Account("first")}, scheme=scheme)
    source = Rotating()
    with Sandbox(auth=auth) as sandbox, opened(sandbox, source) as store:
        expected = push_image(store, "v1")
        auth.accounts = {"ci": Account("second")}
        auth.expire_all()
        source.password = "second"
        assert store.resolve("v1") == expected


def test_a_ready_registry_token_is_sent_as_it_is(bearer: Sandbox) -> None:
    token = bearer.auth.issue("ci", ["repository:shop/config:pull"])
    with opened(bearer, StaticCredentials(bearer.address, Credential(registry_token=token))) as store:
        assert store.resolve("v1") is None
    assert bearer.requests.count(resource="token") == 0


@pytest.mark.parametrize(
    "realm",
    [
        "http://tokens.example/token",
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://user:pass@tokens.example/token",
        "ftp://127.0.0.1/token",
        "reg",
        "https://",
    ],
)
def test_logins_are_not_sent_to_a_realm_that_is_neither_https_nor_the_registry(realm: str) -> None:
    def service(request: Request, reply: Reply) -> None:
        reply.send(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    server = HttpServer(service, port=0, faults=Faults(), log=RequestLog())
    server.start()
    try:
        address = f"127.0.0.1:{server.port}"
        options = quick(credentials=StaticCredentials(address, Credential("ci", SECRET)))
        with open_store(f"{address}/shop/config", options) as store, pytest.raises((AccessDenied, Refused)) as caught:
            store.resolve("v1")
        assert caught.value.reason == "UntrustedRealm"
    finally:
        server.stop()


def test_distribution_with_a_token_server(tmp_path: Path) -> None:
    binary = require("distribution")
    with TokenServer(tmp_path / "tokens", {"ci": SECRET, "agent": SECRET}, frozenset({"agent"})) as tokens:
        registry = Distribution(binary, tmp_path / "registry", tokens=tokens)
        registry.start()
        try:
            reference = f"{registry.host}/shop/config"
            writer = StaticCredentials(registry.host, Credential("ci", SECRET))
            reader = StaticCredentials(registry.host, Credential("agent", SECRET))
            with (
                open_store(reference, quick(credentials=writer)) as write,
                open_store(reference, quick(credentials=reader)) as read,
            ):
                assert push_image(write, "v1") == read.resolve("v1")
                assert [request.scopes for request in tokens.requests if request.user == "agent"] == [
                    ("repository:shop/config:pull",)
                ]
                with pytest.raises(AccessDenied):
                    read.put_manifest(read.manifest("v1").raw, OCI_MANIFEST, "v2")
        finally:
            registry.stop()


def test_distribution_with_passwords(tmp_path: Path) -> None:
    registry = Distribution(require("distribution"), tmp_path, login=BASIC_LOGIN)
    registry.start()
    try:
        source = StaticCredentials(registry.host, Credential(BASIC_LOGIN.user, BASIC_LOGIN.password))
        with open_store(f"{registry.host}/shop/config", quick(credentials=source)) as store:
            assert push_image(store, "v1") == store.resolve("v1")
        with open_store(f"{registry.host}/shop/config", quick()) as store, pytest.raises(AccessDenied):
            store.resolve("v1")
    finally:
        registry.stop()
