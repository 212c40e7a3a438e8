"""The fault table: each kind of request × each thing that goes wrong on the wire.

Every cell says what the caller gets and how many faulty answers were consumed: with the fault striking once, and with
the fault striking for ever. Nothing sleeps: the store's waits are recorded.

Outcomes: `ok` the operation succeeds; `none` it says that the thing does not exist; else the error's class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.errors import AccessDenied, NotFound, OcisyncError, Refused, Unavailable
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.credentials import Credential, StaticCredentials
from ocisync.oci.retry import RetryPlan
from ocisync.sandbox.faults import Action, Corrupt, Delay, Endless, LoseAnswer, Reset, Status, Truncate
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.support.images import EMPTY, Sleeper, described, image, push_bundle, push_image, quick

ATTEMPTS = 3
CONTENT = b"layer one"
NEW = b"a new blob"
TIMEOUT_S = 0.15


@dataclass
class Bench:
    """A registry with a pushed image that has a referrer, and a store to read it with."""

    sandbox: Sandbox
    store: RegistryStore
    subject: Descriptor
    sleeper: Sleeper


@pytest.fixture
def bench() -> Iterator[Bench]:
    auth = Auth({"ci": Account("secret")}, scheme="bearer")
    with Sandbox(auth=auth) as sandbox:
        login = StaticCredentials(sandbox.address, Credential("ci", "secret"))
        sleeper = Sleeper()
        plan = RetryPlan(attempts=ATTEMPTS, attempts_unreachable=ATTEMPTS, budget_s=900)
        reference = f"{sandbox.address}/shop/config"
        with open_store(reference, quick(credentials=login)) as writer:
            subject = push_image(writer, "v1", CONTENT)
            writer.attach(push_bundle(writer, subject, b"{}"), subject)
        options = quick(sleeper, credentials=login, plan=plan, timeout_s=TIMEOUT_S)
        with open_store(reference, options) as store:
            yield Bench(sandbox, store, subject, sleeper)
            sandbox.faults.clear()


@dataclass(frozen=True)
class Kind:
    """One kind of request: how to cause it, and how to recognise it."""

    method: str
    path: str
    run: Callable[[Bench], object]


def _put_blob(bench: Bench) -> object:
    content = NEW + str(bench.sandbox.requests.count()).encode()  # another one each time
    bench.store.put_blob(described(content), content)
    return True


def _put_manifest(bench: Bench) -> object:
    raw = image(EMPTY, described(CONTENT))
    return bench.store.put_manifest(raw, OCI_MANIFEST, "v2").digest == described(raw).digest


KINDS = {
    "HEAD manifest": Kind("HEAD", "/manifests/", lambda bench: bench.store.resolve(bench.subject.digest)),
    "GET manifest": Kind("GET", "/manifests/", lambda bench: bench.store.manifest(bench.subject.digest)),
    "GET blob": Kind("GET", "/blobs/", lambda bench: bench.store.blob(described(CONTENT), max_bytes=100)),
    "HEAD blob": Kind("HEAD", "/blobs/", lambda bench: bench.store.has_blob(described(CONTENT).digest)),
    "POST upload": Kind("POST", "/blobs/uploads/", _put_blob),
    "PUT blob": Kind("PUT", "/blobs/uploads/", _put_blob),
    "PUT manifest": Kind("PUT", "/manifests/", _put_manifest),
    "GET referrers": Kind("GET", "/referrers/", lambda bench: bench.store.referrers(bench.subject.digest).descriptors),
    "GET tags": Kind("GET", "/tags/list", lambda bench: list(bench.store.tags())),
    "token": Kind("GET", "/token", lambda bench: bench.store.resolve("v1")),
}

OTHER = "sha256:" + "7" * 64
FAULTS: dict[str, Action] = {
    "timeout": Delay(),
    "reset": Reset(),
    "lost answer": LoseAnswer(),
    "401": Status(401),
    "403": Status(403, {}, json.dumps({"errors": [{"code": "DENIED", "message": "no"}]}).encode()),
    "404": Status(404, {}, json.dumps({"errors": [{"code": "X_UNKNOWN", "message": "no"}]}).encode()),
    "429": Status(429, {"Retry-After": "7"}),
    "500": Status(500),
    "502": Status(502),
    "truncated": Truncate(1),
    "corrupt": Corrupt(1),
    "endless": Endless(),
    "wrong digest": Status(200, {"Docker-Content-Digest": OTHER, "Content-Type": OCI_MANIFEST, "Location": "/"}, b"{}"),
    "wrong type": Status(200, {"Content-Type": "text/html"}, b"<html></html>"),
}

# once / for ever: outcome and number of faulty answers consumed.
RECOVERS = (("ok", 1), ("Unavailable", ATTEMPTS))
DENIED = (("AccessDenied", 1), ("AccessDenied", 1))
REFUSED = (("Refused", 1), ("Refused", 1))
MISSING = (("NotFound", 1), ("NotFound", 1))
NONE = (("none", 1), ("none", 1))
BROKEN = (("Unavailable", 1), ("Unavailable", 1))
HARMLESS = (("ok", 1), ("ok", 1))  # the fault cannot touch an answer without a body

ALWAYS = {
    "timeout": RECOVERS,
    "reset": RECOVERS,
    "lost answer": RECOVERS,
    "401": DENIED,
    "403": DENIED,
    "429": RECOVERS,
    "500": BROKEN,
    "502": RECOVERS,
}
READ = {**ALWAYS, "truncated": RECOVERS, "corrupt": REFUSED, "endless": REFUSED}
NO_BODY = {**ALWAYS, "truncated": HARMLESS, "corrupt": HARMLESS, "endless": HARMLESS}

TABLE = {
    "HEAD manifest": {
        **NO_BODY,
        "404": NONE,
        "wrong digest": REFUSED,
        "wrong type": HARMLESS,  # the manifest itself is looked at instead
    },
    "GET manifest": {**READ, "404": MISSING, "wrong digest": REFUSED, "wrong type": REFUSED},
    "GET blob": {**READ, "404": MISSING, "wrong digest": REFUSED, "wrong type": REFUSED},
    "HEAD blob": {**NO_BODY, "404": NONE, "wrong digest": HARMLESS, "wrong type": HARMLESS},
    "POST upload": {
        **NO_BODY,
        "404": MISSING,
        "wrong digest": (("OcisyncError", 1), ("OcisyncError", 1)),  # 200 opens no upload
        "wrong type": (("OcisyncError", 1), ("OcisyncError", 1)),
    },
    "PUT blob": {
        **NO_BODY,
        # For ever: the registry has the blob although its answers are lost; asking finds it.
        "lost answer": HARMLESS,
        "404": (("ok", 1), ("NotFound", 2)),  # tried again in chunks
        "wrong digest": HARMLESS,
        "wrong type": HARMLESS,
    },
    "PUT manifest": {**NO_BODY, "404": MISSING, "wrong digest": REFUSED, "wrong type": HARMLESS},
    "GET referrers": {
        **READ,
        # No usable API means the fallback tag, where nothing is.
        "404": NONE,
        "corrupt": NONE,
        "endless": NONE,
        "wrong digest": NONE,
        "wrong type": NONE,
    },
    "GET tags": {**READ, "404": MISSING, "wrong digest": (("none", 1), ("none", 1)), "wrong type": REFUSED},
    "token": {
        **ALWAYS,
        "401": (("AccessDenied", 1), ("AccessDenied", 1)),
        "404": DENIED,
        "truncated": RECOVERS,
        "corrupt": RECOVERS,  # no JSON: asked again
        "endless": REFUSED,
        "wrong digest": DENIED,
        "wrong type": RECOVERS,
    },
}
CELLS = [(kind, fault) for kind, faults in TABLE.items() for fault in faults]


def log_in(bench: Bench) -> None:
    """Get the tokens to pull and to push, so that a fault meets the request that it is meant for."""
    raw = bench.store.manifest("v1").raw
    bench.store.put_manifest(raw, OCI_MANIFEST, "v1")


def outcome(bench: Bench, kind: Kind) -> str:
    """Run the operation and name what came of it."""
    try:
        result = kind.run(bench)
    except OcisyncError as error:
        for known in (AccessDenied, NotFound, Refused, Unavailable):
            if isinstance(error, known):
                return known.__name__
        return type(error).__name__
    return "ok" if result else "none"


def test_the_table_is_complete() -> None:
    assert {kind: set(FAULTS) - set(faults) for kind, faults in TABLE.items()} == {kind: set() for kind in KINDS}


@pytest.mark.parametrize(("kind", "fault"), CELLS, ids=[f"{kind}-{fault}" for kind, fault in CELLS])
def test_a_fault_has_the_outcome_of_the_table(bench: Bench, kind: str, fault: str) -> None:
    request = KINDS[kind]
    for times, expected in zip((1, None), TABLE[kind][fault], strict=True):
        bench.sandbox.faults.clear()
        bench.sandbox.auth.expire_all()
        if kind != "token":
            log_in(bench)
        injected = bench.sandbox.faults.add(request.path, method=request.method, count=times, action=FAULTS[fault])
        assert (outcome(bench, request), injected.hits) == expected, f"the fault strikes {times or 'always'}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "token"])
def test_an_expired_token_is_replaced_without_a_word(bench: Bench, kind: str) -> None:
    bench.store.ping()
    assert outcome(bench, KINDS[kind]) == "ok"
    bench.sandbox.auth.expire_all()
    bench.sandbox.requests.clear()
    assert outcome(bench, KINDS[kind]) == "ok"
    assert bench.sandbox.requests.count(status=401) <= 2  # one for each scope: pull, push
    assert bench.sleeper.slept == []


def test_the_wait_that_a_registry_asks_for_is_kept(bench: Bench) -> None:
    bench.sandbox.faults.add("/manifests/", action=Status(429, {"Retry-After": "7"}))
    assert bench.store.resolve("v1") == bench.subject
    assert bench.sleeper.slept == [pytest.approx(7.5)]


def test_a_wait_until_a_date_is_kept(bench: Bench) -> None:
    headers = {"Retry-After": "Mon, 23 Nov 2026 06:00:20 GMT", "Date": "Mon, 23 Nov 2026 06:00:00 GMT"}
    bench.sandbox.faults.add("/manifests/", action=Status(503, headers))
    assert bench.store.resolve("v1") == bench.subject
    assert bench.sleeper.slept == [pytest.approx(20.5)]


def test_a_wait_that_is_too_long_is_left_to_the_caller(bench: Bench) -> None:
    bench.sandbox.faults.add("/manifests/", action=Status(429, {"Retry-After": "3600"}))
    with pytest.raises(Unavailable) as caught:
        bench.store.resolve("v1")
    assert caught.value.retry_after_s == 3600.0
    assert bench.sleeper.slept == []


def test_the_error_names_host_operation_and_the_registry_s_words(bench: Bench) -> None:
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow\ndown\x1b[31m"}]}).encode()
    bench.sandbox.faults.add("/manifests/", count=None, action=Status(429, {}, body))
    with pytest.raises(Unavailable) as caught:
        bench.store.manifest("v1")
    message = caught.value.message
    assert bench.sandbox.address in message
    assert "reading manifest" in message
    assert "TOOMANYREQUESTS: slow down [31m (HTTP 429)" in message


def test_a_blob_of_another_length_is_refused_before_it_is_read(bench: Bench) -> None:
    bench.sandbox.replace_blob(described(CONTENT).digest, CONTENT * 100_000)
    with pytest.raises(Refused, match="bytes instead of 9"):
        bench.store.blob(described(CONTENT), max_bytes=10_000_000)


def test_a_manifest_replaced_by_other_bytes_is_refused(bench: Bench) -> None:
    raw = bench.store.manifest("v1").raw
    bench.sandbox.replace_manifest("shop/config", bench.subject.digest, raw.replace(b" ", b"  "))
    with pytest.raises(Refused, match="other content"):
        bench.store.manifest(bench.subject.digest)
    with pytest.raises(Refused, match="announces digest"):
        bench.store.manifest("v1")


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}), OCI_MANIFEST),
        (json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "manifests": []}), OCI_MANIFEST),
        (json.dumps({"schemaVersion": 2, "layers": [], "manifests": []}), OCI_INDEX),
        ('{"mediaType": "' + OCI_INDEX + '", "mediaType": "' + OCI_MANIFEST + '"}', OCI_MANIFEST),
        (json.dumps({"mediaType": "application/json"}), "application/json"),
        ("[]", OCI_MANIFEST),
        ("{" * 100_000, OCI_MANIFEST),
    ],
    ids=["type-differs", "both-in-an-image", "both-in-an-index", "duplicate-key", "no-manifest", "no-object", "deep"],
)
def test_an_ambiguous_manifest_is_refused(bench: Bench, body: str, header: str) -> None:
    bench.sandbox.faults.add("/manifests/", action=Status(200, {"Content-Type": header}, body.encode()))
    with pytest.raises(Refused) as caught:
        bench.store.manifest("v1")
    assert caught.value.reason == "BadArtifact"


def test_a_dead_registry_is_named(bench: Bench) -> None:
    bench.sandbox.stop()
    with pytest.raises(Unavailable, match=f"{bench.sandbox.address} refuses connections"):
        bench.store.resolve("v1")


def test_a_registry_that_returns_is_used_again(bench: Bench) -> None:
    bench.store.resolve("v1")
    bench.sandbox.stop()
    with pytest.raises(Unavailable):
        bench.store.resolve("v1")
    bench.sandbox.start()
    assert bench.store.resolve("v1") == bench.subject


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "ImageTagAlreadyExistsException", "The image tag 'v1' already exists and is immutable"),
        (412, "PRECONDITION", "Failed to process request due to 'config:v1' configured as immutable."),
        (409, "CONFLICT", "conflict"),
        (403, "DENIED", "cannot push to protected tag"),
        (400, "MANIFEST_INVALID", "cannot update tag v1. The repository has enabled tag immutability"),
    ],
)
def test_a_registry_that_does_not_let_a_tag_move_refuses(bench: Bench, status: int, code: str, message: str) -> None:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    bench.sandbox.faults.add("/manifests/v1", method="PUT", action=Status(status, {}, body))
    with pytest.raises(Refused) as caught:
        bench.store.put_manifest(image(EMPTY), OCI_MANIFEST, "v1")
    assert caught.value.reason == "TagImmutable"
    assert code in caught.value.message


def test_a_proxy_that_refuses_large_bodies_gets_chunks(bench: Bench) -> None:
    content = bytes(20 * 1024 * 1024)
    bench.sandbox.faults.add("/blobs/uploads/", method="PUT", count=1, action=Status(413))
    bench.store.put_blob(described(content), content)
    assert bench.store.has_blob(described(content).digest)
    assert bench.sandbox.requests.count(method="PATCH", status=202) == 3
