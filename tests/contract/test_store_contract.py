"""What a `Store` promises: the sandbox (with and without the referrers API), two real registries, image layouts."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from ocisync.model.descriptor import (
    BUNDLE_V03,
    OCI_INDEX,
    OCI_MANIFEST,
    SIMPLE_SIGNING,
    Descriptor,
)
from ocisync.model.errors import NotFound, Refused, UsageError
from ocisync.model.evidence import SignatureFormat
from ocisync.model.limits import MIB
from ocisync.model.ref import LayoutReference, fallback_tag, legacy_signature_tag
from ocisync.oci.client import open_store
from ocisync.oci.evidence import LEGACY_SIGNATURE, EvidenceBudget, collect
from ocisync.oci.layout import open_layout
from ocisync.oci.store import Store
from ocisync.sandbox.registry import Registry as Sandbox
from tests.support.images import EMPTY, described, image, index, push_bundle, push_image, quick

NOWHERE = "sha256:" + "0" * 64


REGISTRIES = ["sandbox", "sandbox-without-api", "distribution", "olareg"]
LAYOUTS = ["layout", "layout-tar"]


@contextmanager
def running(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """HOST:PORT of a registry."""
    if kind.startswith("sandbox"):
        with Sandbox(referrers=kind == "sandbox") as sandbox:
            yield sandbox.address
    else:
        yield request.getfixturevalue(kind).host


@pytest.fixture(params=REGISTRIES)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """HOST:PORT of each registry in turn."""
    with running(request.param, request) as started:
        yield started


@pytest.fixture(params=[*REGISTRIES, *LAYOUTS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty repository of each registry, and an empty layout of each form, in turn."""
    if request.param in LAYOUTS:
        with open_layout(
            LayoutReference(str(tmp_path / ("x.tar" if request.param == "layout-tar" else "x")))
        ) as layout:
            yield layout
        return
    with (
        running(request.param, request) as started,
        open_store(f"{started}/test/{secrets.token_hex(6)}", quick()) as opened,
    ):
        yield opened


def test_a_registry_answers_a_ping(store: Store) -> None:
    store.ping()


def test_a_blob_comes_back_as_it_went(store: Store) -> None:
    content = secrets.token_bytes(200_000)
    assert not store.has_blob(described(content).digest)
    store.put_blob(described(content), content)
    assert store.has_blob(described(content).digest)
    assert store.blob(described(content), max_bytes=MIB) == content


def test_a_blob_is_streamed_from_a_file(store: Store) -> None:
    content = secrets.token_bytes(20 * MIB)
    store.put_blob(described(content), io.BytesIO(content))
    assert store.blob(described(content), max_bytes=32 * MIB) == content


def test_an_empty_blob_can_be_stored(store: Store) -> None:
    store.put_blob(described(b""), b"")
    assert store.blob(described(b""), max_bytes=0) == b""


def test_a_blob_larger_than_allowed_is_not_fetched(store: Store) -> None:
    content = b"x" * 1000
    store.put_blob(described(content), content)
    with pytest.raises(Refused, match="more than the limit of 999"):
        store.blob(described(content), max_bytes=999)


def test_a_descriptor_with_the_wrong_size_is_refused(store: Store) -> None:
    store.put_blob(described(b"four"), b"four")
    for size in (3, 5):
        with pytest.raises(Refused, match=f"4 bytes instead of {size}"):
            store.blob(Descriptor("x/y", described(b"four").digest, size), max_bytes=100)


def test_bytes_that_are_not_what_the_descriptor_says_are_not_uploaded(store: Store) -> None:
    with pytest.raises(Refused):
        store.put_blob(described(b"one"), b"two")
    with pytest.raises(Refused):
        store.put_blob(described(b"one"), io.BytesIO(b"two"))
    assert not store.has_blob(described(b"one").digest)


def test_missing_things_are_missing(store: Store) -> None:
    push_image(store, "v1")
    assert store.resolve("v2") is None
    assert store.resolve(NOWHERE) is None
    with pytest.raises(NotFound):
        store.manifest("v2")
    with pytest.raises(NotFound):
        store.manifest(NOWHERE)
    with pytest.raises(NotFound):
        store.blob(Descriptor("x/y", NOWHERE, 3), max_bytes=10)


def test_manifest_bytes_are_exact(store: Store) -> None:
    push_image(store, "v1")
    raw = json.dumps(json.loads(image(EMPTY)), indent=3).encode() + b"\n"
    result = store.put_manifest(raw, OCI_MANIFEST, "odd-white-space")
    assert result.digest == described(raw).digest
    assert store.manifest("odd-white-space").raw == raw
    assert store.manifest(result.digest).descriptor == described(raw, OCI_MANIFEST)


def test_a_tag_resolves_to_what_it_points_to_now(store: Store) -> None:
    one = push_image(store, "production", b"one")
    assert store.resolve("production") == one
    two = push_image(store, "production", b"two")
    assert store.resolve("production") == two
    assert store.resolve(one.digest) == one


def test_an_index_can_be_pushed(store: Store) -> None:
    child = push_image(store, "child")
    raw = index(child.as_dict())
    store.put_manifest(raw, OCI_INDEX, "all")
    assert store.manifest("all").descriptor == described(raw, OCI_INDEX)


def test_a_manifest_whose_blobs_are_missing_is_refused_with_the_registry_s_reason(store: Store) -> None:
    push_image(store, "v1")
    missing = described(secrets.token_bytes(8))
    with pytest.raises(Refused, match=r"MANIFEST_BLOB_UNKNOWN|BLOB_UNKNOWN|MANIFEST_INVALID"):
        store.put_manifest(image(missing), OCI_MANIFEST, "broken")


def test_a_manifest_is_not_stored_under_another_digest(store: Store) -> None:
    push_image(store, "v1")
    with pytest.raises(UsageError):
        store.put_manifest(image(EMPTY), OCI_MANIFEST, NOWHERE)


def test_all_tags_are_listed_over_many_pages(address: str) -> None:
    store = open_store(f"{address}/test/{secrets.token_hex(6)}", quick(tags_page=4))
    push_image(store, "v0")
    raw = store.manifest("v0").raw
    wanted = {f"v{number}" for number in range(11)}
    for tag in wanted:
        store.put_manifest(raw, OCI_MANIFEST, tag)
    assert sorted(store.tags()) == sorted(wanted)


def test_an_unknown_repository_has_no_tags(store: Store) -> None:
    try:
        assert list(store.tags()) == []  # olareg
    except NotFound as missing:
        assert store.repository in missing.message


def test_deleting_a_tag_never_takes_other_tags_along(store: Store) -> None:
    push_image(store, "keep")
    raw = store.manifest("keep").raw
    store.put_manifest(raw, OCI_MANIFEST, "drop")
    try:
        store.delete_tag("drop")
    except Refused as refused:
        assert refused.reason == "Unsupported"  # distribution 2 cannot delete a single tag
    else:
        assert store.resolve("drop") is None
    assert store.manifest("keep").raw == raw


def test_a_blob_is_mounted_from_another_repository(address: str) -> None:
    content = secrets.token_bytes(100)
    with (
        open_store(f"{address}/test/{secrets.token_hex(6)}", quick()) as store,
        open_store(f"{address}/test/{secrets.token_hex(6)}", quick()) as source,
    ):
        source.put_blob(described(content), content)
        assert store.mount_blob(described(content).digest, source.repository)
        assert store.blob(described(content), max_bytes=100) == content
        assert not store.mount_blob(NOWHERE, source.repository)


def test_nothing_refers_to_a_new_image(store: Store) -> None:
    subject = push_image(store, "v1")
    assert store.referrers(subject.digest).descriptors == ()


def test_an_attached_referrer_is_listed(store: Store) -> None:
    subject = push_image(store, "v1")
    raw = push_bundle(store, subject, b'{"bundle":1}', annotations={"a": "b"})
    attached = store.attach(raw, subject)
    assert attached.digest == described(raw).digest
    listed = store.referrers(subject.digest)
    assert [item.digest for item in listed.descriptors] == [attached.digest]
    assert not listed.truncated
    assert listed.descriptors[0].artifact_type == BUNDLE_V03
    assert listed.descriptors[0].annotations == {"a": "b"}
    assert store.attach(raw, subject) == attached  # once more changes nothing
    assert len(store.referrers(subject.digest).descriptors) == 1


def test_attaching_keeps_the_entries_of_others_as_they_are(store: Store) -> None:
    subject = push_image(store, "v1")
    foreign = image(EMPTY, subject=subject, artifactType="application/x.foreign")
    store.put_manifest(foreign, OCI_MANIFEST, described(foreign).digest)
    # As cosign 3.1.1 writes it: the wrong artifactType, no annotations; and a field that nobody knows.
    entry = {
        **described(foreign, OCI_MANIFEST).as_dict(),
        "artifactType": "application/vnd.oci.empty.v1+json",
        "x": [1],
    }
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "annotations": {"who": "else"}, "manifests": [entry]}
    tag = fallback_tag(subject.digest)
    store.put_manifest(json.dumps(document).encode(), OCI_INDEX, tag)
    attached = store.attach(push_bundle(store, subject, b'{"bundle":2}'), subject)
    listed = {item.digest for item in store.referrers(subject.digest).descriptors}
    assert listed >= {attached.digest, described(foreign).digest}
    kept = json.loads(store.manifest(tag).raw)
    assert kept["annotations"] == {"who": "else"}
    assert kept["manifests"][0] == entry


def test_sixteen_threads_attach_to_one_subject_and_none_is_lost(store: Store) -> None:
    subject = push_image(store, "v1")
    manifests = [push_bundle(store, subject, b'{"n":%d}' % number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        attached = list(pool.map(lambda raw: store.attach(raw, subject), manifests))
    listed = {item.digest for item in store.referrers(subject.digest).descriptors}
    assert listed == {item.digest for item in attached}


def test_sixteen_threads_read_and_write_through_one_store(store: Store) -> None:
    def work(number: int) -> bool:
        content = b"blob %d " % number * 5000
        tag = f"t{number}"
        return (
            push_image(store, tag, content) == store.resolve(tag)
            and store.manifest(tag).descriptor == store.resolve(tag)
            and store.blob(described(content), max_bytes=MIB) == content
        )

    push_image(store, "first")  # so that the empty config is there: see `put_blob`
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(48)))


def test_evidence_of_both_formats_is_found(store: Store) -> None:
    subject = push_image(store, "v1")
    store.attach(push_bundle(store, subject, b'{"bundle":1}'), subject)
    store.attach(image(EMPTY, subject=subject, artifactType="application/x.sbom"), subject)
    payload = b'{"critical":{}}'
    store.put_blob(described(payload), payload)
    layer = Descriptor(SIMPLE_SIGNING, described(payload).digest, len(payload), annotations={LEGACY_SIGNATURE: "c2ln"})
    store.put_manifest(image(layer), OCI_MANIFEST, legacy_signature_tag(subject.digest))
    found = collect(store, subject.digest, budget=EvidenceBudget(monotonic))
    assert [(item.format, item.payload, item.signature) for item in found.items] == [
        (SignatureFormat.BUNDLE, b'{"bundle":1}', ""),
        (SignatureFormat.LEGACY, payload, "c2ln"),
    ]
    assert not found.truncated
    assert found.problems == ()


def test_no_evidence_is_no_error(store: Store) -> None:
    subject = push_image(store, "v1")
    found = collect(store, subject.digest, budget=EvidenceBudget(monotonic))
    assert (found.items, found.truncated, found.problems) == ((), False, ())
