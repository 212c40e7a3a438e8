"""What the registry client makes of faults: the whole table of `faulttable.py`, and what a table cannot say.

Nothing sleeps: the store's waits are recorded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST
from ocisync.model.errors import AccessDenied, ExitCode, NotFound, OcisyncError, Refused, Unavailable
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.credentials import Credential, StaticCredentials
from ocisync.oci.retry import RetryPlan
from ocisync.sandbox.faults import LoseAnswer, Status
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.sandbox.registryauth import Account, Auth
from tests.contract.faulttable import (
    ATTEMPTS,
    CELLS,
    CHUNK,
    CONTENT,
    FAULTS,
    KINDS,
    OTHER,
    TABLE,
    Bench,
    Cell,
    summary,
)
from tests.support.images import EMPTY, Sleeper, described, image, push_bundle, push_image, quick

PATIENT_S = 60.0
# Only where a timeout is what is tested. On a busy machine honest answers may take as long: then the next is tried.
HASTY_S = (0.3, 0.3, 1.0, 4.0, 12.0)
EXIT_CODES = {
    AccessDenied: ExitCode.DENIED,
    NotFound: ExitCode.NOT_FOUND,
    Refused: ExitCode.REFUSED,
    Unavailable: ExitCode.TRY_AGAIN,
}


@contextmanager
def benches(timeout_s: float = PATIENT_S) -> Iterator[Bench]:
    auth = Auth({"ci": Account("secret")}, scheme="bearer", token_ttl_s=3600)
    with Sandbox(auth=auth) as sandbox:
        sleeper = Sleeper()
        plan = RetryPlan(attempts=ATTEMPTS, attempts_unreachable=ATTEMPTS, budget_s=900)
        password = StaticCredentials(sandbox.address, Credential("ci", "secret"))
        identity = StaticCredentials(sandbox.address, Credential(identity_token=auth.refresh_token("ci")))

        def opened(
            path: str, credentials: StaticCredentials = password, timeout_s: float = timeout_s, **more: Any
        ) -> RegistryStore:
            options = quick(sleeper, credentials=credentials, plan=plan, timeout_s=timeout_s, **more)
            return open_store(f"{sandbox.address}/{path}", options)

        with opened("shop/config", timeout_s=PATIENT_S) as filling:
            subject = push_image(filling, "v1", CONTENT)
            filling.attach(push_bundle(filling, subject, b"{}"), subject)
        with opened("shop/pages", timeout_s=PATIENT_S) as filling:
            for tag in ("v1", "v2"):
                push_image(filling, tag)
        with (
            opened("shop/config") as store,
            opened("shop/config", chunk_bytes=CHUNK) as small,
            opened("shop/pages", tags_page=1) as pages,
            opened("shop/config", identity) as with_identity,
            opened("other/config") as elsewhere,
        ):
            yield Bench(sandbox, store, small, pages, with_identity, elsewhere, subject, sleeper)
            sandbox.faults.clear()


@pytest.fixture(scope="module")
def shared_bench() -> Iterator[Bench]:
    """One for the whole table: each cell makes what it needs anew."""
    with benches() as made:
        yield made


@pytest.fixture(scope="module")
def hasty_benches() -> Iterator[Callable[[float], Bench]]:
    """The same, tired of waiting after so many seconds."""
    with ExitStack() as stack:
        yield functools.cache(lambda seconds: stack.enter_context(benches(seconds)))


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benches() as made:
        yield made


def log_in(bench: Bench) -> None:
    """Get the tokens that the kinds need, so that a fault meets the request that it is meant for."""
    for store in (bench.store, bench.small):
        raw = store.manifest("v1").raw
        store.put_manifest(raw, OCI_MANIFEST, "v1")
    list(bench.pages.tags())
    bench.store.mount_blob(OTHER, bench.elsewhere.repository)
    bench.logged_in = True


def outcome(bench: Bench, kind: str, prepared: object) -> str:
    """Run the operation and name what came of it; errors must have the exit code of their class."""
    try:
        result = KINDS[kind].run(bench, prepared)
    except OcisyncError as error:
        assert error.exit_code == EXIT_CODES[type(error)]
        return type(error).__name__
    return "ok" if result else "none"


def strike(bench: Bench, kind: str, fault: str, times: int | None) -> tuple[str, int]:
    """Let a fault strike a request; the outcome and how many faulty answers were consumed."""
    request, made = KINDS[kind], FAULTS[fault]
    bench.sandbox.faults.clear()
    if kind.endswith("token"):
        bench.sandbox.auth.expire_all()
        bench.logged_in = False
    elif not bench.logged_in:
        log_in(bench)
    prepared = request.prepare(bench)
    injected = bench.fault(request.path, request.method, made(bench) if callable(made) else made, times)
    return outcome(bench, kind, prepared), injected.hits


def test_the_table_is_complete(record_property: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert {kind: set(FAULTS) - set(TABLE[kind]) for kind in KINDS} == {kind: set() for kind in KINDS}
    assert set(TABLE) == set(KINDS)
    record_property("fault table", summary())
    with capsys.disabled():
        print(f"\n{summary()}")


@pytest.mark.parametrize(("kind", "fault"), CELLS, ids=[f"{kind}-{fault}" for kind, fault in CELLS])
def test_a_fault_has_the_outcome_of_the_table(
    shared_bench: Bench, hasty_benches: Callable[[float], Bench], kind: str, fault: str
) -> None:
    expected = TABLE[kind][fault]
    assert not isinstance(expected, str)
    if fault != "timeout":
        got: Cell = (strike(shared_bench, kind, fault, 1), strike(shared_bench, kind, fault, None))
        assert got == expected
        return
    # A busy machine lets honest answers time out as well; the cell holds if it can be seen at all.
    seen: list[Cell | str] = []
    for seconds in HASTY_S:
        bench = hasty_benches(seconds)
        try:
            seen.append((strike(bench, kind, fault, 1), strike(bench, kind, fault, None)))
        except Unavailable as error:  # what the cell needs could not even be prepared
            seen.append(error.message)
        if seen[-1] == expected:
            return
    assert expected in seen


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.endswith("token")])
def test_an_expired_token_is_replaced_without_a_word(shared_bench: Bench, kind: str) -> None:
    bench = shared_bench
    bench.sandbox.faults.clear()
    log_in(bench)
    prepared = KINDS[kind].prepare(bench)
    bench.sandbox.auth.expire_all()
    bench.sandbox.requests.clear()
    bench.sleeper.slept.clear()
    assert outcome(bench, kind, prepared) == ("none" if kind == "DELETE upload" else "ok")
    assert bench.sandbox.requests.count(status=401) <= 3  # one for each scope: pull, push, push and pull elsewhere
    assert len(bench.sleeper.slept) == (1 if kind == "GET upload" else 0)  # after the chunk that broke


def test_a_deleted_tag_is_deleted_although_the_answer_was_lost(bench: Bench) -> None:
    push_image(bench.store, "doomed")
    bench.fault("/manifests/doomed", "DELETE", LoseAnswer())
    bench.store.delete_tag("doomed")
    assert bench.store.resolve("doomed") is None


def test_a_tag_that_may_not_move_and_is_ours_already_is_no_refusal(bench: Bench) -> None:
    raw = bench.store.manifest("v1").raw
    bench.fault("/manifests/v1", "PUT", LoseAnswer())
    bench.fault("/manifests/v1", "PUT", Status(409, {}, b'{"errors":[{"code":"DENIED","message":"tag is immutable"}]}'))
    assert bench.store.put_manifest(raw, OCI_MANIFEST, "v1").digest == bench.subject.digest


MISSING = Status(400, {}, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}')


def test_a_blob_that_another_upload_hides_for_a_moment_does_not_fail_the_manifest(bench: Bench) -> None:
    raw = bench.store.manifest("v1").raw
    hidden = bench.fault("/manifests/v2", "PUT", MISSING, 2)
    assert bench.store.put_manifest(raw, OCI_MANIFEST, "v2").digest == bench.subject.digest
    assert (hidden.hits, len(bench.sleeper.slept)) == (2, 2)


def test_blobs_that_stay_missing_are_told_soon(bench: Bench) -> None:
    hidden = bench.fault("/manifests/v2", "PUT", MISSING, None)
    with pytest.raises(Refused, match="MANIFEST_BLOB_UNKNOWN"):
        bench.store.put_manifest(bench.store.manifest("v1").raw, OCI_MANIFEST, "v2")
    assert hidden.hits == 4
    assert sum(bench.sleeper.slept) < 3


def test_an_answer_that_asks_for_patience_ends_an_upload_that_made_progress(bench: Bench) -> None:
    content = bench.fresh()
    bench.fault("/blobs/uploads/", "PUT", Status(413))
    asked = bench.fault("/blobs/uploads/", "PUT", Status(429, {"Retry-After": "3600"}), None)
    with pytest.raises(Unavailable):
        bench.small.put_blob(described(content), content)
    assert asked.hits == 1


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
