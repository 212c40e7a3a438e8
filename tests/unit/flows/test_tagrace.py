"""A newer push that takes a moving tag between our check and our write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from ocisync.flows.publish import PublishRequest, PublishResult, publish
from ocisync.model.errors import AccessDenied, Refused
from ocisync.model.tree import SourceTree
from ocisync.oci.store import PutResult
from ocisync.signing.keys import Signer, generate
from tests.support.artifacts import COMMIT_TIME, tree_of
from tests.support.memory_store import MemoryStore

OURS = {"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"}
THEIRS = {"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"}


class FixedClock:
    def now(self) -> Any:
        return COMMIT_TIME + timedelta(hours=1)

    def monotonic(self) -> float:
        return 0.0


class Overtaken(MemoryStore):
    """A registry in which somebody else pushes right before `production` is written for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Callable[[], object] = lambda: None
        self.listings = 0

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        if ref == "production":
            rival, self.rival = self.rival, lambda: None
            rival()
        return super().put_manifest(raw, media_type, ref)

    def tags(self) -> Iterator[str]:
        self.listings += 1
        return super().tags()


@pytest.fixture
def store() -> Overtaken:
    return Overtaken()


@pytest.fixture(scope="module")
def key() -> Signer:
    return generate()


def push(store: MemoryStore, tree: SourceTree, *tags: str, **options: Any) -> PublishResult:
    return publish(PublishRequest(store=store, source=tree, clock=FixedClock(), tags=tags, **options))


def commit(files: dict[str, str], letter: str, *, minutes: int) -> SourceTree:
    return tree_of(files, commit=letter * 40, at=COMMIT_TIME + timedelta(minutes=minutes))


def test_a_newer_commit_gets_the_tag_back_if_our_key_signed_it_for_the_tag(store: Overtaken, key: Signer) -> None:
    newer: list[PublishResult] = []
    store.rival = lambda: newer.append(push(store, commit(THEIRS, "b", minutes=5), "production", signers=(key,)))
    with pytest.raises(Refused, match=r"was taken by main@sha1:b{40}") as caught:
        push(store, commit(OURS, "a", minutes=0), "production", signers=(key,))
    assert (caught.value.reason, caught.value.exit_code) == ("OlderCommit", 4)
    assert store.tag_digests["production"] == newer[0].digest


def test_an_older_rival_changes_nothing(store: Overtaken, key: Signer) -> None:
    store.rival = lambda: push(store, commit(THEIRS, "b", minutes=-5), "production", signers=(key,))
    result = push(store, commit(OURS, "a", minutes=0), "production", signers=(key,))
    assert store.tag_digests["production"] == result.digest
    assert result.notes == ()


@pytest.mark.parametrize("case", ["unsigned", "for another tag", "by a key that is not ours"])
def test_without_our_signature_for_the_tag_nothing_is_given_back_but_the_user_is_told(
    store: Overtaken, key: Signer, case: str
) -> None:
    signers = () if case == "unsigned" else (generate(),) if "key" in case else (key,)
    tag = "staging" if case == "for another tag" else "production"
    store.rival = lambda: push(store, commit(THEIRS, "b", minutes=5), tag, signers=signers)
    result = push(store, commit(OURS, "a", minutes=0), "production", signers=(key,))
    assert store.tag_digests["production"] == result.digest
    assert [note for note in result.notes if "is newer and was pushed at the same moment" in note]


def test_a_planted_commit_tag_without_a_signature_does_not_get_the_tag(store: Overtaken, key: Signer) -> None:
    def plant() -> None:
        other = MemoryStore()
        planted = push(other, commit(THEIRS, "b", minutes=5), "production")
        store.blobs |= other.blobs
        store.manifests |= other.manifests
        store.tag_digests["sha-" + "b" * 12] = planted.digest

    store.rival = plant
    result = push(store, commit(OURS, "a", minutes=0), "production", signers=(key,))
    assert store.tag_digests["production"] == result.digest


def test_a_forced_tag_and_a_version_are_not_raced_for(store: Overtaken, key: Signer) -> None:
    push(store, commit(OURS, "a", minutes=0), "production", signers=(key,), force_tag=True)
    push(store, commit(OURS, "a", minutes=0), "1.0.0", signers=(key,))
    assert store.listings == 0


def test_a_push_that_moves_no_tag_lists_nothing(store: Overtaken, key: Signer) -> None:
    push(store, commit(OURS, "a", minutes=0), "production", signers=(key,))
    store.listings = 0
    assert push(store, commit(OURS, "a", minutes=0), "production", signers=(key,)).unchanged
    assert store.listings == 0


def test_a_repository_with_too_many_tags_is_not_searched_for_rivals(store: Overtaken, key: Signer) -> None:
    push(store, commit(OURS, "a", minutes=-5), "1.0.0", signers=(key,))
    store.tag_digests |= {f"v{number}": store.tag_digests["1.0.0"] for number in range(2_001)}
    result = push(store, commit(OURS, "b", minutes=0), "production", signers=(key,))
    assert (store.tag_digests["production"], store.listings) == (result.digest, 1)


def test_a_registry_that_lists_no_tags_is_no_obstacle(key: Signer) -> None:
    class Silent(MemoryStore):
        def tags(self) -> Iterator[str]:
            raise AccessDenied("listing is not allowed")

    silent = Silent()
    result = push(silent, commit(OURS, "a", minutes=0), "production", signers=(key,))
    assert silent.tag_digests["production"] == result.digest
