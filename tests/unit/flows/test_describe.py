"""What `inspect` says: how much is proven, and that nothing unreadable hides the rest."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ocisync.flows.describe import Description, describe
from ocisync.flows.publish import PublishRequest, publish
from ocisync.model.descriptor import CLAIM_TAGS
from ocisync.model.errors import NotFound
from ocisync.signing.keys import generate
from tests.support.artifacts import COMMIT_TIME, tree_of
from tests.support.images import EMPTY, image, push_bundle
from tests.support.memory_store import MemoryStore

KEY, OTHER = generate(), generate()
FILES = {
    "a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n"
    "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n",
    "b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
    "README.md": "# x\n",
}


class Clock:
    def now(self) -> datetime:
        return COMMIT_TIME + timedelta(hours=1)

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    publish(PublishRequest(made, tree_of(FILES), Clock(), tags=("1.0.0",), signers=(KEY,), legacy_signature=True))
    return made


def seen(store: MemoryStore, *keys: object) -> Description:
    return describe(store, "1.0.0", Clock(), [KEY.public] if keys else ())


def test_objects_are_counted_by_kind_and_files_are_listed(store: MemoryStore) -> None:
    found = seen(store)
    assert found.kinds == (("ConfigMap", 2), ("Service", 1))
    answer = found.as_json(with_files=True)
    assert answer["content"] == {
        "files": 3, "objects": 3, "kinds": {"ConfigMap": 2, "Service": 1},
        "bytes": sum(len(text.encode()) for text in FILES.values()),
    }  # fmt: skip
    assert [item["path"] for item in answer["files"]] == ["README.md", "a.yaml", "b.yaml"]
    assert "files" not in found.as_json(with_files=False)


def test_a_signature_is_proven_only_by_a_named_key(store: MemoryStore) -> None:
    assert [(item.format, item.verified) for item in seen(store).signatures] == [("Bundle", False), ("Legacy", False)]
    assert [item.verified for item in seen(store, KEY).signatures] == [True, True]
    assert [item.verified for item in describe(store, "1.0.0", Clock(), [OTHER.public]).signatures] == [False, False]


def test_what_an_unproven_signature_claims_is_told_all_the_same(store: MemoryStore) -> None:
    for item in seen(store).signatures:
        assert item.claims[CLAIM_TAGS].split()[0] == "1.0.0"
    assert seen(store).signatures[0].signer == KEY.fingerprint  # its hint


def test_a_signature_of_another_digest_is_not_proven(store: MemoryStore) -> None:
    subject = store.manifest("1.0.0").descriptor
    before = set(store.blobs)
    publish(PublishRequest(store, tree_of({"c.yaml": FILES["b.yaml"]}), Clock(), tags=("2.0.0",), signers=(KEY,)))
    other = next(data for digest, data in store.blobs.items() if digest not in before and b"dsseEnvelope" in data)
    store.attach(push_bundle(store, subject, other), subject)
    assert sorted(item.verified for item in seen(store, KEY).signatures) == [False, True, True]


def test_junk_beside_an_artifact_costs_only_itself(store: MemoryStore) -> None:
    subject = store.manifest("1.0.0").descriptor
    store.attach(push_bundle(store, subject, b"no json"), subject)
    store.attach(image(EMPTY, subject=subject, artifactType="application/x.sbom"), subject)
    found = seen(store, KEY)
    assert sorted(item.verified for item in found.signatures) == [False, True, True]
    assert all(item.problem for item in found.signatures if not item.verified)
    assert len(found.referrers.descriptors) == 3
    assert found.legacy_signature


def test_contents_that_cannot_be_read_do_not_hide_the_rest(store: MemoryStore) -> None:
    layer = next(digest for digest, data in store.blobs.items() if data[:2] == b"\x1f\x8b")
    store.blobs[layer] = b"\x1f\x8b" + b"x" * (len(store.blobs[layer]) - 2)
    found = seen(store, KEY)
    assert (found.files, found.kinds) == ((), ())
    assert [problem.startswith("content: ") for problem in found.problems] == [True]
    assert [item.verified for item in found.signatures] == [True, True]


def test_what_is_not_there_is_not_found(store: MemoryStore) -> None:
    with pytest.raises(NotFound):
        describe(store, "9.9.9", Clock())
