"""What oras 0.2.43 gets wrong (all measured), and that none of it reaches a user of our store.

One test for each defect; where another file tests the matter in depth, this one is its witness.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import AccessDenied, OcisyncError, Refused, Unavailable
from ocisync.model.ref import parse_reference
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.connections import SEND_BYTES
from ocisync.oci.credentials import Credential, StaticCredentials, parse_docker_config, parse_helper_answer
from ocisync.oci.endpoint import endpoint_of
from ocisync.sandbox.faults import Corrupt, Delay, Status
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.support.images import EMPTY, Sleeper, described, image, index, push_bundle, push_image, quick


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as server:
        yield server


@pytest.fixture
def store(sandbox: Sandbox) -> Iterator[RegistryStore]:
    with open_store(f"{sandbox.address}/shop/config", quick()) as opened:
        yield opened


def test_a_manifest_is_stored_byte_for_byte(store: RegistryStore) -> None:
    """oras hands a dict to requests, which writes other white space: another digest than the signed one."""
    push_image(store, "v1")
    raw = json.dumps({"artifactType": "a/b", **json.loads(image(EMPTY))}, separators=(",", ":")).encode()
    assert store.put_manifest(raw, OCI_MANIFEST, "v2").digest == sha256_digest(raw)
    assert store.manifest("v2").raw == raw


def test_an_index_can_be_written(store: RegistryStore) -> None:
    """oras demands a config by JSON schema."""
    child = push_image(store, "v1")
    assert store.put_manifest(index(child.as_dict()), OCI_INDEX, "all").digest


def test_referrers_can_be_listed_and_attached(store: RegistryStore) -> None:
    """oras knows neither the API nor the fallback tag."""
    subject = push_image(store, "v1")
    attached = store.attach(push_bundle(store, subject, b"{}"), subject)
    assert store.referrers(subject.digest).descriptors == (attached,)


def test_a_blob_is_mounted_across_repositories(sandbox: Sandbox, store: RegistryStore) -> None:
    """oras uploads again."""
    store.put_blob(described(b"shared"), b"shared")
    with open_store(f"{sandbox.address}/other", quick()) as other:
        assert other.mount_blob(described(b"shared").digest, store.repository)
    assert sandbox.requests.count(method="PUT", resource="upload") == 1


def test_an_upload_is_never_read_into_memory_whole(store: RegistryStore) -> None:
    """oras reads the file whole: 138 MB for a blob of 100 MB."""

    class Watched(io.BytesIO):
        largest = 0

        def read(self, amount: int | None = -1, /) -> bytes:
            data = super().read(amount)
            self.largest = max(self.largest, len(data))
            return data

    content = bytes(3_000_000)
    source = Watched(content)
    store.put_blob(described(content), source)
    assert 0 < source.largest <= SEND_BYTES


def test_tampered_content_is_refused(sandbox: Sandbox, store: RegistryStore) -> None:
    """oras verifies no digest at all."""
    push_image(store, "v1", b"honest bytes")
    sandbox.faults.add("/blobs/", method="GET", action=Corrupt(3))
    with pytest.raises(Refused):
        store.blob(described(b"honest bytes"), max_bytes=100)
    sandbox.faults.add("/manifests/", method="GET", action=Corrupt(40))
    with pytest.raises(Refused):
        store.manifest("v1")


def test_a_registry_that_stops_answering_does_not_hang_us(sandbox: Sandbox) -> None:
    """oras has no timeout on any call."""
    sandbox.faults.add("/manifests/", count=None, action=Delay())
    with (
        open_store(f"{sandbox.address}/shop/config", quick(timeout_s=0.2)) as hasty,
        pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"),
    ):
        hasty.resolve("v1")


def test_overload_is_waited_out_and_an_error_of_a_write_is_not(sandbox: Sandbox) -> None:
    """oras retries 500 and any exception for 131 s, but not 429, 502 or 503, and ignores Retry-After."""
    sleeper = Sleeper()
    with open_store(f"{sandbox.address}/shop/config", quick(sleeper)) as store:
        sandbox.faults.add("/manifests/", action=Status(429, {"Retry-After": "3"}))
        sandbox.faults.add("/manifests/", action=Status(503))
        assert store.resolve("v1") is None
        assert sleeper.slept == [pytest.approx(3.5), pytest.approx(0.5)]
        broken = sandbox.faults.add("/manifests/", count=None, action=Status(500))
        with pytest.raises(Unavailable):
            store.put_manifest(b"{}", OCI_MANIFEST, "v1")
        assert (broken.hits, len(sleeper.slept)) == (1, 2)


def test_all_waiting_together_is_bounded(sandbox: Sandbox) -> None:
    sleeper = Sleeper()
    sandbox.faults.add("/manifests/", count=None, action=Status(503))
    with open_store(f"{sandbox.address}/shop/config", quick(sleeper)) as store, pytest.raises(Unavailable):
        store.resolve("v1")
    assert sum(sleeper.slept) < 30


def test_an_expired_token_is_replaced(sandbox: Sandbox) -> None:
    """oras resends the same token after a 401: a polling agent is locked out after five minutes."""
    sandbox.auth = Auth({"ci": Account("secret")}, scheme="bearer")
    login = StaticCredentials(sandbox.address, Credential("ci", "secret"))
    with open_store(f"{sandbox.address}/shop/config", quick(credentials=login)) as store:
        assert store.resolve("v1") is None
        sandbox.auth.expire_all()
        assert store.resolve("v1") is None


def test_a_token_belongs_to_its_repository(sandbox: Sandbox) -> None:
    """oras keeps one token for all scopes: the second repository gets 401."""
    sandbox.auth = Auth({"ci": Account("secret")}, scheme="bearer")
    login = StaticCredentials(sandbox.address, Credential("ci", "secret"))
    for path in ("one", "two", "one"):
        with open_store(f"{sandbox.address}/{path}", quick(credentials=login)) as store:
            push_image(store, "v1")


def test_a_basic_registry_needs_no_setting(sandbox: Sandbox) -> None:
    """oras takes `Basic realm="reg"` for an address and connects to http://reg/."""
    sandbox.auth = Auth({"ci": Account("secret")}, scheme="basic", service="reg")
    login = StaticCredentials(sandbox.address, Credential("ci", "secret"))
    with open_store(f"{sandbox.address}/shop/config", quick(credentials=login)) as store:
        assert store.resolve("v1") is None


def test_logins_are_not_sent_wherever_a_401_points(sandbox: Sandbox, store: RegistryStore) -> None:
    """oras sends the password to any realm."""
    challenge = {"WWW-Authenticate": 'Bearer realm="http://collector.example/token",service="x"'}
    sandbox.faults.add("/manifests/", action=Status(401, challenge))
    with pytest.raises(AccessDenied, match="neither https nor itself"):
        store.resolve("v1")


def test_identity_tokens_and_scoped_logins_are_understood() -> None:
    """oras ignores both."""
    config = parse_docker_config(
        b'{"auths":{"r.example":{"identitytoken":"whole"},"r.example/team/a":{"auth":"dTpw"}}}', "config.json"
    )
    assert config.find("r.example", "team/b") == Credential(identity_token="whole")
    assert config.find("r.example", "team/a/x") == Credential("u", "p")


def test_the_token_user_of_a_helper_is_understood() -> None:
    """oras would log in as the user `<token>`."""
    assert parse_helper_answer(b'{"Username":"<token>","Secret":"s"}') == Credential(identity_token="s")


def test_docker_hub_is_spoken_to_at_its_api() -> None:
    """oras asks https://docker.io/v2/."""
    found = endpoint_of(parse_reference("docker.io/alpine:3"))
    assert (found.base, found.path) == ("https://registry-1.docker.io/v2/", "library/alpine")
    assert found.repository == "docker.io/alpine"


def test_deleting_one_of_two_tags_keeps_the_other(store: RegistryStore) -> None:
    """oras deletes the manifest, and with it all tags."""
    expected = push_image(store, "keep")
    store.put_manifest(store.manifest("keep").raw, OCI_MANIFEST, "drop")
    store.delete_tag("drop")
    assert list(store.tags()) == ["keep"]
    assert store.resolve("keep") == expected


def test_a_poll_costs_one_request(sandbox: Sandbox, store: RegistryStore) -> None:
    """oras has no HEAD."""
    push_image(store, "v1")
    sandbox.requests.clear()
    for _ in range(30):
        store.resolve("v1")
    assert sandbox.requests.count() == sandbox.requests.count(method="HEAD", resource="manifest") == 30


def test_threads_share_a_store(sandbox: Sandbox) -> None:
    """oras keeps its token in one shared attribute."""
    sandbox.auth = Auth({"ci": Account("secret")}, scheme="bearer")
    login = StaticCredentials(sandbox.address, Credential("ci", "secret"))
    with open_store(f"{sandbox.address}/shop/config", quick(credentials=login)) as store:
        expected = push_image(store, "v1")
        with ThreadPoolExecutor(16) as pool:
            reads = [pool.submit(store.manifest, "v1") for _ in range(100)]
            sandbox.auth.expire_all()
            assert {read.result().descriptor.digest for read in reads} == {expected.digest}


def test_nothing_is_printed_or_logged(
    store: RegistryStore, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """oras logs progress to the terminal."""
    caplog.set_level(logging.INFO)
    subject = push_image(store, "v1")
    store.attach(push_bundle(store, subject, b"{}"), subject)
    list(store.tags())
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_oras_is_loaded_when_a_store_is_opened_and_not_before() -> None:
    """Importing it takes 0.2 s and 36 MiB."""
    code = (
        "import sys, pkgutil, ocisync.oci\n"
        "names = [m.name for m in pkgutil.iter_modules(ocisync.oci.__path__)]\n"
        "for name in names:\n"
        "    if name not in ('transport', 'connections', 'downloads'): __import__('ocisync.oci.' + name)\n"
        "heavy = {'oras', 'requests', 'urllib3', 'jsonschema', 'cryptography'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "from ocisync.oci.client import open_store\n"
        "open_store('registry.example/shop')\n"
        "assert 'oras' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_oras_s_own_request_function_keeps_our_rules(sandbox: Sandbox, store: RegistryStore) -> None:
    """What oras would call goes through the same logins, timeouts, retries and limits."""
    push_image(store, "v1")
    transport = store._transport
    sandbox.faults.add("/manifests/", action=Status(503))
    url = transport.endpoint.url("manifests/v1")
    response = transport.do_request(url, "GET", headers={"Accept": OCI_MANIFEST})
    assert (response.status_code, response.content) == (200, store.manifest("v1").raw)
    with pytest.raises(OcisyncError):
        transport.do_request(url, stream=True)


def test_a_store_does_not_tell_secrets_when_it_is_shown() -> None:
    store = open_store("registry.example/shop", quick(creds="ci:hunter2"))
    shown = f"{store!r}{store._transport!r}{store._transport.options!r}{cast(object, store._transport.auth)!r}"
    assert "hunter2" not in shown
