"""What registries say is logged once, not with each poll."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ocisync.agent.registries import Registries
from ocisync.kit.stop import StopToken
from ocisync.model.errors import AccessDenied, OcisyncError
from ocisync.model.spec import SyncSpec, parse_sync
from ocisync.oci.store import Store
from ocisync.sandbox.faults import Relabel
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.support.gate import Gate
from tests.support.pki import Authority
from tests.support.proxy import Proxy
from tests.unit.agent.fakes import FakeCluster

NAME = "registry.example"


def secret(**data: str | bytes) -> dict[str, Any]:
    plain = {key.replace("_", "."): value.encode() if isinstance(value, str) else value for key, value in data.items()}
    return {"data": {key: base64.b64encode(value).decode() for key, value in plain.items()}}


def login(host: str, user: str, password: str) -> dict[str, Any]:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"data": {".dockerconfigjson": secret(x=json.dumps({"auths": {host: {"auth": auth}}}))["data"]["x"]}}


def sync(repository: str, **source: Any) -> SyncSpec:
    metadata = {"name": "shop", "namespace": "apps", "uid": "u", "generation": 1}
    return parse_sync({"metadata": metadata, "spec": {"source": {"repository": repository, "tag": "v1", **source}}})


def opened(spec: SyncSpec, objects: dict[str, Any]) -> Store:
    def answer(_method: str, path: str, _body: object) -> tuple[int, Any]:
        name = path.removeprefix("/api/v1/namespaces/apps/")
        return (200, objects[name]) if name in objects else (404, {})

    return Registries(FakeCluster(answer), StopToken(), {}).open(spec)


def test_a_warning_of_a_registry_is_logged_once_for_all_polls(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox() as sandbox:
        sandbox.faults.add("/manifests/", count=None, action=Relabel({"Warning": '299 - "this registry moves in May"'}))
        registries = Registries(FakeCluster(lambda *_: (404, {})), StopToken(), {})
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                store = registries.open(sync(f"{sandbox.address}/shop/config"))
                assert store.resolve("v1") is None
                store.close()
    assert [record.getMessage() for record in caplog.records].count("registry") == 1


def test_the_pull_secrets_of_a_service_account_log_in() -> None:
    with Sandbox() as sandbox, Gate(sandbox.address, auth=Auth({"ci": Account("secret")})) as gate:
        objects = {
            "serviceaccounts/puller": {"imagePullSecrets": [{"name": "other"}, {"name": "ours"}]},
            "secrets/other": login("other.example", "x", "y"),
            "secrets/ours": login(gate.host, "ci", "secret"),
        }
        repository = f"{gate.host}/shop/config"
        with closing(opened(sync(repository, serviceAccountName="puller"), objects)) as store:
            assert store.resolve("v1") is None
        with closing(opened(sync(repository), objects)) as store, pytest.raises(AccessDenied):
            store.resolve("v1")


def test_a_registry_is_reached_through_the_proxy_and_trusted_by_the_authority_of_its_secrets(tmp_path: Path) -> None:
    authority = Authority("sync test authority")
    certificate = authority.server(NAME).write(tmp_path, "server")
    with Sandbox() as sandbox, Gate(sandbox.address, certificate=certificate) as gate:
        ports = {f"{NAME}:443": int(gate.host.rpartition(":")[2])}
        with Proxy(ports, login="proxy user:pass/word") as proxy:
            objects = {
                "secrets/ca": secret(ca_crt=authority.certificate),
                "secrets/proxy": secret(address=proxy.url(), username="proxy user", password="pass/word\n"),
            }
            source = {"caSecretRef": {"name": "ca"}, "proxySecretRef": {"name": "proxy"}}
            with closing(opened(sync(f"{NAME}/shop/config", **source), objects)) as store:
                assert store.resolve("v1") is None
            assert set(proxy.seen) == {f"CONNECT {NAME}:443"}
            del source["caSecretRef"]
            with (
                closing(opened(sync(f"{NAME}/shop/config", **source), objects)) as store,
                pytest.raises(OcisyncError) as caught,
            ):
                store.resolve("v1")
    assert "certificate" in caught.value.message
    assert "pass/word" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "held", "message"),
    [
        ("pullSecretRef", {}, r"pullSecretRef: Secret apps/s: HTTP 404"),
        ("pullSecretRef", {"secrets/s": secret(x="y")}, r"pullSecretRef: Secret apps/s has no \.dockerconfigjson"),
        ("caSecretRef", {"secrets/s": secret(tls_crt="y")}, r"caSecretRef: Secret apps/s has no ca\.crt"),
        ("caSecretRef", {"secrets/s": secret(ca_crt=b"\xff")}, r"caSecretRef: Secret apps/s: ca\.crt is no text"),
        ("proxySecretRef", {"secrets/s": secret(x="y")}, r"proxySecretRef: Secret apps/s has no address"),
        ("proxySecretRef", {"secrets/s": secret(username="y")}, r"proxySecretRef: Secret apps/s: it has no address"),
        ("proxySecretRef", {"secrets/s": secret(address="socks5://p:1")}, r"proxySecretRef: .*only http and https"),
    ],
)
def test_a_secret_that_is_not_what_it_should_be_is_named(field: str, held: dict[str, Any], message: str) -> None:
    with pytest.raises(AccessDenied, match=message):
        opened(sync(f"{NAME}/shop/config", **{field: {"name": "s"}}), held)


def test_a_service_account_that_is_not_there_is_named() -> None:
    with pytest.raises(AccessDenied, match=r"serviceAccountName: ServiceAccount apps/gone: HTTP 404"):
        opened(sync(f"{NAME}/shop/config", serviceAccountName="gone"), {})
