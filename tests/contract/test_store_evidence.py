"""Hostile and broken neighbours of a digest: they cost themselves, never the good evidence beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import monotonic

import pytest

from ocisync.model.descriptor import (
    BUNDLE_V03,
    BUNDLE_V03_PARAMETER,
    OCI_INDEX,
    OCI_MANIFEST,
    SIMPLE_SIGNING,
    Descriptor,
)
from ocisync.model.errors import AccessDenied, OcisyncError, Refused, Unavailable
from ocisync.model.limits import BUNDLE_BYTES, EVIDENCE_DESCRIPTORS
from ocisync.model.ref import fallback_tag, legacy_signature_tag
from ocisync.oci.client import RegistryStore, open_store
from ocisync.oci.evidence import LEGACY_SIGNATURE, EvidenceBudget, collect
from ocisync.oci.retry import RetryPlan
from ocisync.sandbox.faults import Corrupt, Status
from ocisync.sandbox.registry import Registry as Sandbox
from tests.support.images import EMPTY, described, image, index, push_bundle, push_image, quick

GOOD = b'{"good":"bundle"}'


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(referrers=False) as server:
        yield server


@pytest.fixture
def store(sandbox: Sandbox) -> Iterator[RegistryStore]:
    plan = RetryPlan(attempts=2)
    with open_store(f"{sandbox.address}/shop/config", quick(plan=plan)) as opened:
        yield opened


@pytest.fixture
def subject(store: RegistryStore) -> Descriptor:
    return push_image(store, "v1")


def put(store: RegistryStore, raw: bytes, media_type: str = OCI_MANIFEST) -> dict[str, object]:
    """Push a manifest by digest; return its index entry."""
    described_ = described(raw, media_type)
    store.put_manifest(raw, media_type, described_.digest)
    return described_.as_dict()


def list_at_tag(store: RegistryStore, subject: Descriptor, *entries: dict[str, object]) -> None:
    """Write the fallback index, as a client with push rights can write anything into it."""
    store.put_manifest(index(*entries), OCI_INDEX, fallback_tag(subject.digest))


def payloads(store: RegistryStore, subject: Descriptor, **limits: int) -> tuple[list[bytes], bool, int]:
    budget = EvidenceBudget(monotonic, **limits)
    found = collect(store, subject.digest, budget=budget)
    return [item.payload for item in found.items], found.truncated, len(found.problems)


def test_hostile_entries_do_not_hide_a_good_one(sandbox: Sandbox, store: RegistryStore, subject: Descriptor) -> None:
    bundle = put(store, push_bundle(store, subject, GOOD))
    tampered = put(store, push_bundle(store, subject, b'{"tampered":1}'))
    sandbox.replace_blob(described(b'{"tampered":1}').digest, b'{"tampered":2}')
    swapped = put(store, image(EMPTY, subject=subject, artifactType="x/swapped"))
    sandbox.replace_manifest(
        "shop/config", str(swapped["digest"]), image(EMPTY, subject=subject, artifactType="x/other")
    )
    child_index = put(store, index(bundle), OCI_INDEX)
    hostile: list[dict[str, object]] = [
        {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "1" * 64, "size": 100},  # missing
        {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "2" * 64, "size": 1 << 40},  # huge
        {**bundle, "digest": "md5:abc"},  # no descriptor
        {**bundle, "size": -1},  # no descriptor
        {**bundle, "size": True},  # no descriptor
        tampered,
        swapped,
        child_index,
    ]
    # The registry refuses an index that names missing children; a hostile registry would not.
    body = index(*hostile, bundle)
    sandbox.faults.add(
        f"/manifests/{fallback_tag(subject.digest)}$", action=Status(200, {"Content-Type": OCI_INDEX}, body)
    )
    found, truncated, problems = payloads(store, subject)
    assert found == [GOOD]
    assert not truncated
    assert problems == 5  # missing, huge, tampered, swapped, and one line for the three that are no descriptors


def test_the_type_in_a_fallback_index_is_not_believed(store: RegistryStore, subject: Descriptor) -> None:
    entry = put(store, push_bundle(store, subject, GOOD))
    list_at_tag(store, subject, {**entry, "artifactType": "application/vnd.oci.empty.v1+json"})
    assert payloads(store, subject) == ([GOOD], False, 0)


def test_both_spellings_of_the_bundle_type_are_read(store: RegistryStore, subject: Descriptor) -> None:
    store.put_blob(described(GOOD), GOOD)
    layer = described(GOOD, BUNDLE_V03_PARAMETER)
    list_at_tag(store, subject, put(store, image(layer, subject=subject)))
    assert payloads(store, subject) == ([GOOD], False, 0)


def test_an_old_bundle_version_is_not_read(store: RegistryStore, subject: Descriptor) -> None:
    store.put_blob(described(GOOD), GOOD)
    layer = described(GOOD, BUNDLE_V03.replace("0.3", "0.2"))
    list_at_tag(store, subject, put(store, image(layer, subject=subject)))
    assert payloads(store, subject) == ([], False, 0)


def test_a_bundle_that_is_too_large_is_not_fetched(sandbox: Sandbox, store: RegistryStore, subject: Descriptor) -> None:
    content = b"x" * (BUNDLE_BYTES + 1)
    list_at_tag(store, subject, put(store, push_bundle(store, subject, content)))
    sandbox.requests.clear()
    assert payloads(store, subject) == ([], False, 1)
    assert sandbox.requests.count(method="GET", resource="blob") == 0


def test_junk_beyond_the_budget_makes_the_set_truncated(store: RegistryStore, subject: Descriptor) -> None:
    junk = [put(store, image(EMPTY, subject=subject, n=number)) for number in range(12)]
    good = put(store, push_bundle(store, subject, GOOD))
    list_at_tag(store, subject, *junk, good)
    assert payloads(store, subject) == ([GOOD], False, 0)
    assert payloads(store, subject, manifests=5) == ([], True, 0)
    assert payloads(store, subject, descriptors=5) == ([], True, 0)
    assert payloads(store, subject, bytes=1000) == ([], True, 0)


def test_a_referrer_that_calls_itself_a_bundle_is_read_before_the_junk(
    store: RegistryStore, subject: Descriptor
) -> None:
    junk = [put(store, image(EMPTY, subject=subject, n=number)) for number in range(12)]
    good = {**put(store, push_bundle(store, subject, GOOD)), "artifactType": BUNDLE_V03}
    list_at_tag(store, subject, *junk, good)
    assert payloads(store, subject, manifests=5) == ([GOOD], True, 0)


def test_more_descriptors_than_may_be_listed_are_cut(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    entries = [
        {"mediaType": "x/y", "digest": f"sha256:{number:064x}", "size": 1} for number in range(EVIDENCE_DESCRIPTORS + 5)
    ]
    answer = Status(200, {"Content-Type": OCI_INDEX}, index(*entries))
    sandbox.faults.add("/referrers/", action=answer)
    listed = store.referrers(subject.digest)
    assert (len(listed.descriptors), listed.truncated) == (EVIDENCE_DESCRIPTORS, True)


def test_time_is_part_of_the_budget(store: RegistryStore, subject: Descriptor) -> None:
    list_at_tag(store, subject, put(store, push_bundle(store, subject, GOOD)))
    ticks = iter(range(0, 10_000, 20))
    found = collect(store, subject.digest, budget=EvidenceBudget(lambda: float(next(ticks))))
    assert (found.items, found.truncated) == ((), True)


def test_an_outage_does_not_look_like_a_missing_signature(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    list_at_tag(store, subject, put(store, push_bundle(store, subject, GOOD)))
    sandbox.faults.add("/blobs/", method="GET", count=None, action=Status(503))
    with pytest.raises(Unavailable):
        payloads(store, subject)


def test_a_list_that_may_not_be_read_is_no_empty_list(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    sandbox.faults.add("/referrers/", count=None, action=Status(403))
    with pytest.raises(AccessDenied):
        payloads(store, subject)


def test_good_evidence_counts_although_another_entry_cannot_be_read_now(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    other = put(store, push_bundle(store, subject, b'{"other":1}'))
    list_at_tag(store, subject, other, put(store, push_bundle(store, subject, GOOD)))
    sandbox.faults.add(str(other["digest"]), method="GET", count=None, action=Status(503))
    assert payloads(store, subject) == ([GOOD], True, 1)


@pytest.mark.parametrize(
    "layer",
    [
        {"annotations": {}},
        {"annotations": {LEGACY_SIGNATURE: ""}},
        {"annotations": {LEGACY_SIGNATURE: 7}},
        {"annotations": {LEGACY_SIGNATURE: "A" * 20_000}},
        {"annotations": []},
    ],
)
def test_a_legacy_layer_without_a_usable_signature_is_a_problem(
    store: RegistryStore, subject: Descriptor, layer: dict[str, object]
) -> None:
    payload = b'{"critical":{}}'
    store.put_blob(described(payload), payload)
    good = {**described(payload, SIMPLE_SIGNING).as_dict(), "annotations": {LEGACY_SIGNATURE: "c2ln"}}
    document = json.loads(image())
    document["layers"] = [{**good, **layer}, good]
    store.put_manifest(json.dumps(document).encode(), OCI_MANIFEST, legacy_signature_tag(subject.digest))
    assert payloads(store, subject) == ([payload], False, 1)


def test_something_else_at_the_fallback_tag_is_reported_and_never_overwritten(
    store: RegistryStore, subject: Descriptor
) -> None:
    raw = image(EMPTY)
    store.put_manifest(raw, OCI_MANIFEST, fallback_tag(subject.digest))
    assert payloads(store, subject) == ([], False, 1)
    with pytest.raises(Refused, match="will not be overwritten"):
        store.attach(push_bundle(store, subject, GOOD), subject)
    assert store.manifest(fallback_tag(subject.digest)).raw == raw


def test_an_update_that_another_client_undoes_is_repeated(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    """A rival that read the index before our update writes its own version over it."""
    rival = put(store, image(EMPTY, subject=subject, artifactType="x/rival"))
    interfered: list[float] = []

    def settle(seconds: float) -> None:
        if not interfered:
            interfered.append(seconds)
            list_at_tag(store, subject, rival)

    with open_store(store.repository, quick(settle)) as ours:
        attached = ours.attach(push_bundle(store, subject, GOOD), subject)
    assert [item.digest for item in store.referrers(subject.digest).descriptors] == [rival["digest"], attached.digest]


def test_a_registry_that_loses_the_referrer_is_told_so(
    subject: Descriptor, sandbox: Sandbox, store: RegistryStore
) -> None:
    empty = Status(200, {"Content-Type": OCI_INDEX}, index())
    stored = Status(201, {"OCI-Subject": subject.digest})
    raw = push_bundle(store, subject, GOOD)
    sandbox.faults.add("/referrers/", count=None, action=empty)
    sandbox.faults.add("/manifests/sha256:", method="PUT", count=None, action=stored)
    with pytest.raises(Unavailable, match="does not list it"):
        store.attach(raw, subject)


def test_a_referrer_of_another_subject_is_not_attached(store: RegistryStore, subject: Descriptor) -> None:
    other = push_image(store, "v2", b"other")
    with pytest.raises(Refused, match="does not name"):
        store.attach(push_bundle(store, other, GOOD), subject)


def test_a_corrupt_list_from_the_api_falls_back_to_the_tag(
    sandbox: Sandbox, store: RegistryStore, subject: Descriptor
) -> None:
    sandbox.referrers = True
    list_at_tag(store, subject, put(store, push_bundle(store, subject, GOOD)))
    sandbox.faults.add("/referrers/", action=Corrupt(0))
    assert payloads(store, subject) == ([GOOD], False, 0)


def test_errors_of_this_package_are_ours(store: RegistryStore) -> None:
    with pytest.raises(OcisyncError):
        collect(store, "sha256:short", budget=EvidenceBudget(monotonic))
