from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ocisync.flows.publish import PublishRequest, PublishResult, Source, Step, publish
from ocisync.model.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput, Refused, Unavailable, UsageError
from ocisync.model.evidence import SignatureFormat
from ocisync.model.ref import legacy_signature_tag
from ocisync.model.tree import SourceTree
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import PutResult
from ocisync.pack.artifact import BuiltArtifact, build
from ocisync.pack.tar import write_tar
from ocisync.signing.check import examine
from ocisync.signing.keys import Signer, generate
from tests.support.artifacts import COMMIT_TIME, tree_of
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo
from tests.support.memory_store import MemoryStore

FILES = {"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "README.md": "# x\n"}
OTHER = {"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"}
SHA_TAG = "sha-" + "a" * 12


class FixedClock:
    def __init__(self, moment: datetime = COMMIT_TIME + timedelta(hours=1)) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def key() -> Signer:
    return generate()


def request(store: MemoryStore, tree: SourceTree | None = None, *tags: str, **options: Any) -> PublishRequest:
    options.setdefault("clock", FixedClock())
    return PublishRequest(store=store, source=tree or tree_of(FILES), tags=tags or ("production",), **options)


def push(store: MemoryStore, tree: SourceTree | None = None, *tags: str, **options: Any) -> PublishResult:
    return publish(request(store, tree, *tags, **options))


def later(files: dict[str, str] | None = None, **delta: float) -> SourceTree:
    return tree_of(files or FILES, commit="b" * 40, at=COMMIT_TIME + timedelta(**(delta or {"minutes": 1})))


def signatures(store: MemoryStore, digest: str, key: Signer) -> list[dict[str, str]]:
    found = collect(store, digest, budget=EvidenceBudget(lambda: 0.0)).items
    examined = [examine(raw, [key.public], digest) for raw in found]
    assert all(item.signer == key.fingerprint and not item.problem for item in examined)
    return [dict(item.claims) for item in examined]


# What a push does -----------------------------------------------------------------------------------------------


def test_a_push_writes_blobs_then_the_manifest_then_the_signature_then_tags(store: MemoryStore, key: Signer) -> None:
    result = push(store, None, "production", "v1.0.0", signers=(key,))
    kinds = [write.split(" ")[0] for write in store.writes]
    assert kinds == ["blob", "blob", "manifest", "blob", "blob", "manifest", "manifest", "manifest", "manifest"]
    assert store.writes[2] == f"manifest {result.digest}"
    assert [write.split(" ")[1] for write in store.writes[-3:]] == ["v1.0.0", SHA_TAG, "production"]
    assert {store.tag_digests[tag] for tag in result.tags} == {result.digest}


def test_the_result_has_what_scripts_read(store: MemoryStore, key: Signer) -> None:
    result = push(store, signers=(key,))
    built = build(tree_of(FILES))
    assert result.as_json() == {
        "reference": f"registry.example/acme/shop@{built.descriptor.digest}",
        "repository": "registry.example/acme/shop",
        "tags": ["production", SHA_TAG],
        "digest": built.descriptor.digest,
        "contentDigest": built.diff_id,
        "revision": "main@sha1:" + "a" * 40,
        "unchanged": False,
        "signatures": [{"key": key.fingerprint, "format": "Bundle", "digest": result.signatures[0].source}],
    }
    assert (result.objects, result.files) == (1, 2)


def test_the_signature_claims_repository_revision_tags_and_sequence(store: MemoryStore, key: Signer) -> None:
    expires = COMMIT_TIME + timedelta(days=30)
    result = push(store, signers=(key,), claims={"team": "shop"}, expires=expires)
    (claims,) = signatures(store, result.digest, key)
    assert claims == {
        "dev.ocisync.repository": "registry.example/acme/shop",
        "dev.ocisync.revision": "main@sha1:" + "a" * 40,
        "dev.ocisync.tags": f"production {SHA_TAG}",
        "dev.ocisync.sequence": str(int(COMMIT_TIME.timestamp())),
        "dev.ocisync.signed": str(int(COMMIT_TIME.timestamp()) + 3600),
        "dev.ocisync.expires": str(int(expires.timestamp())),
        "team": "shop",
    }


def test_a_legacy_signature_is_added_with_the_same_claims(store: MemoryStore, key: Signer) -> None:
    result = push(store, signers=(key,), legacy_signature=True)
    one, two = signatures(store, result.digest, key)
    assert one == two
    assert legacy_signature_tag(result.digest) in store.tag_digests
    assert {signature.format for signature in result.signatures} == set(SignatureFormat)
    store.heal()
    assert push(store, signers=(key,), legacy_signature=True).unchanged
    assert store.writes == []


def test_each_key_signs(store: MemoryStore, key: Signer) -> None:
    other = generate("ed25519")
    result = push(store, signers=(key, other, key))
    assert {signature.signer for signature in result.signatures} == {key.fingerprint, other.fingerprint}
    assert len(store.referrers(result.digest).descriptors) == 2


def test_without_a_key_the_result_says_that_agents_will_refuse(store: MemoryStore) -> None:
    (note,) = push(store).notes
    assert "not signed" in note


def test_progress_is_told_step_by_step(store: MemoryStore, key: Signer) -> None:
    steps: list[Step] = []
    push(store, signers=(key,), progress=lambda step, _: steps.append(step))
    assert list(dict.fromkeys(steps)) == list(Step)


def test_a_dry_run_writes_nothing_and_says_what_it_would_do(store: MemoryStore, key: Signer) -> None:
    result = push(store, signers=(key,), dry_run=True)
    assert store.writes == []
    assert (result.digest, result.unchanged) == (build(tree_of(FILES)).descriptor.digest, False)
    push(store, signers=(key,))
    assert push(store, signers=(key,), dry_run=True).unchanged


# The same again -------------------------------------------------------------------------------------------------


def test_the_same_commit_again_uploads_nothing(store: MemoryStore, key: Signer) -> None:
    first = push(store, signers=(key,))
    store.heal()
    again = push(store, signers=(key,), clock=FixedClock(COMMIT_TIME + timedelta(days=3)))
    assert store.writes == []
    assert again.unchanged
    assert again.digest == first.digest
    assert [signature.source for signature in again.signatures] == [s.source for s in first.signatures]


@pytest.mark.parametrize("moment", ["blob", "manifest sha256:", "manifest production", "manifest v1.0.0"])
def test_a_push_that_was_killed_is_completed_by_the_next(store: MemoryStore, key: Signer, moment: str) -> None:
    store.stop_at(moment)
    with pytest.raises(Unavailable, match="killed"):
        push(store, None, "production", "v1.0.0", signers=(key,))
    store.heal()
    result = push(store, None, "production", "v1.0.0", signers=(key,))
    assert not result.unchanged
    assert len(signatures(store, result.digest, key)) == 1
    assert {store.tag_digests[tag] for tag in ("production", "v1.0.0", SHA_TAG)} == {result.digest}


def test_a_push_killed_between_upload_and_signature_is_completed_without_uploading_again(
    store: MemoryStore, key: Signer
) -> None:
    unsigned = push(store)
    store.heal()
    result = push(store, signers=(key,))
    assert result.digest == unsigned.digest
    assert not result.unchanged
    assert [write.split(" ")[0] for write in store.writes] == ["blob", "blob", "manifest"]
    assert len(signatures(store, result.digest, key)) == 1


def test_a_missing_tag_is_completed_with_a_signature_for_it(store: MemoryStore, key: Signer) -> None:
    push(store, None, "production", signers=(key,))
    result = push(store, None, "staging", signers=(key,))
    assert len(signatures(store, result.digest, key)) == 2
    store.heal()
    assert push(store, None, "production", signers=(key,)).unchanged
    assert store.writes == []


def test_a_signature_with_other_claims_does_not_count_as_ours(store: MemoryStore, key: Signer) -> None:
    push(store, signers=(key,))
    result = push(store, signers=(key,), claims={"team": "shop"})
    assert len(signatures(store, result.digest, key)) == 2


def test_a_blob_that_the_registry_lost_is_uploaded_again(store: MemoryStore, key: Signer) -> None:
    push(store, signers=(key,))
    layer = build(tree_of(FILES)).layer_descriptor.digest
    del store.blobs[layer]
    assert not push(store, signers=(key,)).unchanged
    assert layer in store.blobs


def test_a_new_commit_with_equal_content_reuses_the_layer_and_moves_the_tag(store: MemoryStore, key: Signer) -> None:
    first = push(store, signers=(key,))
    store.heal()
    second = push(store, later(), signers=(key,))
    assert second.digest != first.digest
    assert second.content_digest == first.content_digest
    assert f"blob {build(tree_of(FILES)).layer_descriptor.digest}" not in store.writes
    assert store.tag_digests["production"] == second.digest


def test_if_changed_skips_a_new_commit_with_equal_content(store: MemoryStore, key: Signer) -> None:
    first = push(store, signers=(key,))
    store.heal()
    result = push(store, later(), signers=(key,), if_changed=True)
    assert (result.unchanged, result.digest, result.tags) == (True, first.digest, ("production",))
    assert result.revision == first.revision
    assert store.writes == []
    assert push(store, later(OTHER), signers=(key,), if_changed=True).digest != first.digest


def test_if_changed_does_not_skip_a_missing_signature_or_tag(store: MemoryStore, key: Signer) -> None:
    push(store)
    result = push(store, later(), signers=(key,), if_changed=True)
    assert not result.unchanged
    assert len(signatures(store, result.digest, key)) == 1
    assert not push(store, later(), "new", signers=(key,), if_changed=True).unchanged


# What must not happen -------------------------------------------------------------------------------------------


def test_nothing_is_uploaded_when_a_manifest_is_bad(store: MemoryStore) -> None:
    files = {**FILES, "b.yaml": "a: [", "c.yaml": FILES["a.yaml"], "tls.key": "-----BEGIN PRIVATE KEY-----\n"}
    with pytest.raises(InvalidInput) as caught:
        push(store, tree_of(files))
    assert [finding.file for finding in caught.value.findings] == ["b.yaml", "c.yaml", "tls.key"]
    assert store.writes == []


def test_a_tree_without_manifests_is_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidInput, match="no manifest among 1 files"):
        push(store, tree_of({"README.md": "x"}))


def test_what_holds_nothing_to_publish_is_told_in_the_words_of_where_it_came_from(store: MemoryStore) -> None:
    piped = Source(environ={}, data=b"# only a comment\n---\n", revision="r")
    for source, message, hint in (
        (tree_of({}), "no file to publish", ".ocisyncignore"),
        (tree_of({"README.md": "x"}), "no manifest among 1 files", "directory"),
        (piped, "no manifest on stdin", "the command before the |"),
    ):
        with pytest.raises(InvalidInput) as caught:
            publish(PublishRequest(store=store, source=source, clock=FixedClock(), tags=("x",)))
        assert caught.value.message == message
        assert hint in caught.value.hint
    assert store.writes == []


def test_a_plain_secret_is_refused_unless_it_is_named(store: MemoryStore) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: ns}\nstringData: {a: hunter2}\n"
    with pytest.raises(InvalidInput, match="plain value") as caught:
        push(store, tree_of({"s.yaml": secret}))
    assert "hunter2" not in str(caught.value)
    assert push(store, tree_of({"s.yaml": secret}), allow_plain_secrets=("ns/s",)).objects == 1


def test_a_version_never_changes_unless_it_is_forced(store: MemoryStore) -> None:
    first = push(store, None, "v1.0.0")
    store.heal()
    with pytest.raises(Refused, match=r"tag v1\.0\.0 is a version") as caught:
        push(store, later(OTHER), "v1.0.0")
    assert (caught.value.reason, caught.value.exit_code) == ("TagImmutable", 4)
    assert store.writes == []
    assert store.tag_digests["v1.0.0"] == first.digest
    assert push(store, later(OTHER), "v1.0.0", force_tag=True).digest == store.tag_digests["v1.0.0"]


def test_an_automatic_tag_with_other_content_is_left_alone_with_a_warning(store: MemoryStore, key: Signer) -> None:
    first = push(store)
    result = push(store, tree_of(OTHER), signers=(key,))
    assert result.tags == ("production",)
    assert store.tag_digests[SHA_TAG] == first.digest
    assert "left alone" in result.notes[0]
    assert signatures(store, result.digest, key)[0]["dev.ocisync.tags"] == "production"


def test_a_commit_from_the_future_is_refused(store: MemoryStore) -> None:
    clock = FixedClock(COMMIT_TIME - timedelta(minutes=4, seconds=59))
    assert push(store, clock=clock).tags == ("production", SHA_TAG)
    with pytest.raises(Refused) as caught:
        push(store, clock=FixedClock(COMMIT_TIME - timedelta(minutes=6)), force_tag=True)
    assert caught.value.reason == "FutureCommit"


def test_an_older_commit_does_not_take_a_tag_unless_it_is_forced(store: MemoryStore) -> None:
    push(store, later(OTHER))
    with pytest.raises(Refused, match="newer than this") as caught:
        push(store)
    assert caught.value.reason == "OlderCommit"
    assert push(store, force_tag=True).digest == store.tag_digests["production"]


def test_a_foreign_thing_under_a_tag_is_mentioned_and_replaced(store: MemoryStore) -> None:
    store.manifests["sha256:" + "0" * 64] = b'{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    store.tag_digests["production"] = "sha256:" + "0" * 64
    result = push(store)
    assert "no artifact of ocisync" in result.notes[0]
    assert store.tag_digests["production"] == result.digest


@pytest.mark.parametrize("tag", ["sha256-" + "a" * 64, "sha256-" + "a" * 64 + ".sig", "bad tag", ""])
def test_reserved_and_bad_tags_are_refused(store: MemoryStore, tag: str) -> None:
    with pytest.raises(UsageError):
        push(store, None, tag)


def test_uncommitted_content_gets_no_commit_tag(store: MemoryStore) -> None:
    tree = tree_of(FILES)
    dirty = replace(tree, provenance=replace(tree.provenance, dirty=True, revision="main@sha1:x-dirty"))
    assert push(store, dirty).tags == ("production",)
    with pytest.raises(UsageError, match="no tag"):
        publish(PublishRequest(store=store, source=dirty, clock=FixedClock()))


def test_our_own_claims_cannot_be_set_by_hand(store: MemoryStore, key: Signer) -> None:
    for claims in ({"dev.ocisync.sequence": "9"}, {"a": "b,c"}, {"": "x"}):
        with pytest.raises(UsageError):
            push(store, signers=(key,), claims=claims)


def other_compression(built: BuiltArtifact, tree: SourceTree) -> tuple[bytes, bytes]:
    """The manifest and layer that a machine with another zlib would make."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    layer = deflate.compress(write_tar(tree.files)) + deflate.flush()
    descriptor = Descriptor(built.layer_descriptor.media_type, sha256_digest(layer), len(layer))
    return built.manifest_with_layer(descriptor), layer


def place(store: MemoryStore, manifest: bytes, config: bytes, layer: bytes, tag: str) -> str:
    for data in (config, layer):
        store.put_blob(Descriptor(OCI_CONFIG, sha256_digest(data), len(data)), data)
    return store.put_manifest(manifest, OCI_MANIFEST, tag).digest


def test_equal_content_compressed_by_another_machine_is_unchanged(store: MemoryStore, key: Signer) -> None:
    tree = tree_of(FILES)
    built = build(tree)
    manifest, layer = other_compression(built, tree)
    digest = place(store, manifest, built.config, layer, "v1.0.0")
    assert digest != built.descriptor.digest
    result = push(store, tree, "v1.0.0", signers=(key,))
    assert result.digest == digest
    assert push(store, tree, "v1.0.0", signers=(key,)).unchanged


def test_a_planted_manifest_that_claims_our_content_is_neither_signed_nor_kept(store: MemoryStore, key: Signer) -> None:
    tree = tree_of(FILES)
    built = build(tree)
    evil = other_compression(build(tree_of(OTHER)), tree_of(OTHER))[1]
    lie = built.manifest_with_layer(Descriptor(built.layer_descriptor.media_type, sha256_digest(evil), len(evil)))
    planted = place(store, lie, built.config, evil, "production")
    result = push(store, tree, signers=(key,))
    assert result.digest == built.descriptor.digest
    assert store.tag_digests["production"] == built.descriptor.digest
    assert store.referrers(planted).descriptors == ()


def test_a_planted_manifest_with_more_annotations_is_not_ours(store: MemoryStore, key: Signer) -> None:
    built = build(tree_of(FILES))
    document = json.loads(built.manifest)
    document["annotations"]["x"] = "y"
    planted = place(store, json.dumps(document).encode(), built.config, built.layer, "v1.0.0")
    with pytest.raises(Refused):
        push(store, None, "v1.0.0", signers=(key,))
    assert store.referrers(planted).descriptors == ()


def test_a_tag_that_does_not_take_is_an_error(store: MemoryStore) -> None:
    class Stubborn(MemoryStore):
        def resolve(self, ref: str) -> Descriptor | None:
            found = super().resolve(ref)
            return replace(found, digest="sha256:" + "1" * 64) if found and ref == "production" else found

    with pytest.raises(Refused, match="right after it was set") as caught:
        push(Stubborn())
    assert caught.value.exit_code == 4


def test_a_push_that_runs_at_the_same_time_does_not_lose_a_version(store: MemoryStore) -> None:
    theirs = MemoryStore()
    other = push(theirs, later(OTHER), "v1.0.0")

    def meanwhile(write: str) -> None:
        if write.startswith("manifest sha256:"):
            store.fail = lambda _write: None
            store.blobs |= theirs.blobs
            store.manifests |= theirs.manifests
            store.tag_digests["v1.0.0"] = other.digest

    store.fail = meanwhile
    with pytest.raises(Refused) as caught:
        push(store, None, "v1.0.0")
    assert caught.value.reason == "TagImmutable"
    assert store.tag_digests["v1.0.0"] == other.digest


# From files and from Git ----------------------------------------------------------------------------------------


def git_source(path: Path, **options: Any) -> Source:
    return Source(environ=GIT_ENVIRONMENT, path=path, **options)


def test_two_clones_of_one_commit_give_one_digest(tmp_path: Path) -> None:
    origin = GitRepo(tmp_path / "origin")
    origin.commit({f"deploy/{name}": text for name, text in FILES.items()})
    digests = set()
    for index, options in enumerate([(), ("--depth=1",)]):
        clone = origin.clone(tmp_path / f"clone{index}", *options)
        clone.git(
            "config",
            "remote.origin.url",
            "git@git.example:acme/shop.git" if index else "https://u:p@git.example/acme/shop",
        )
        clone.git("config", "core.autocrlf", "true" if index else "false")
        result = publish(
            PublishRequest(store=MemoryStore(), source=git_source(clone.path / "deploy"), clock=FixedClock())
        )
        digests.add(result.digest)
    assert len(digests) == 1


def test_a_token_in_the_remote_is_in_no_uploaded_byte(tmp_path: Path, store: MemoryStore, key: Signer) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(FILES)
    repo.git("remote", "add", "origin", "https://ci:SECRETTOKEN@git.example/acme/shop.git?private_token=SECRETTOKEN")
    messages: list[str] = []
    result = publish(
        PublishRequest(
            store=store,
            source=git_source(repo.path),
            clock=FixedClock(),
            signers=(key,),
            legacy_signature=True,
            progress=lambda _step, message: messages.append(message),
        )
    )
    assert b"https://git.example/acme/shop" in store.every_byte()
    for uploaded in (*store.blobs.values(), store.every_byte(), str((result, messages)).encode()):
        assert b"SECRETTOKEN" not in uploaded
        assert b"SECRETTOKEN" not in (zlib.decompress(uploaded, 31) if uploaded[:2] == b"\x1f\x8b" else b"")


def test_a_repository_of_sha256_names_its_revision_and_its_tag_so(tmp_path: Path, store: MemoryStore) -> None:
    repo = GitRepo(tmp_path / "long", "--object-format=sha256")
    commit = repo.commit(FILES)
    result = publish(PublishRequest(store=store, source=git_source(repo.path), clock=FixedClock()))
    assert result.revision == f"main@sha256:{commit}"
    assert result.tags == (f"sha-{commit[:12]}",)
    assert len(commit) == 64


def test_standard_input_and_a_plain_directory_are_named_by_hand(tmp_path: Path, store: MemoryStore) -> None:
    (tmp_path / "a.yaml").write_text(FILES["a.yaml"])
    environ = {"SOURCE_DATE_EPOCH": "1772366400"}
    plain = Source(environ=environ, path=tmp_path, use_git=False, revision="build-7")
    result = publish(PublishRequest(store=store, source=plain, clock=FixedClock(), tags=("x",)))
    assert (result.revision, result.tags) == ("build-7", ("x",))
    piped = Source(environ=environ, data=FILES["a.yaml"].encode(), revision="build-7")
    assert publish(PublishRequest(store=store, source=piped, clock=FixedClock(), tags=("y",))).objects == 1
    for wrong in (replace(plain, environ={"SOURCE_DATE_EPOCH": "soon"}), replace(plain, use_git=True)):
        with pytest.raises(UsageError):
            publish(PublishRequest(store=store, source=wrong, clock=FixedClock(), tags=("x",)))


def test_the_time_of_content_without_a_commit_is_now_or_the_epoch_given(store: MemoryStore) -> None:
    source = Source(environ={}, data=FILES["a.yaml"].encode(), revision="r")
    now = datetime(2026, 5, 1, tzinfo=UTC)
    result = publish(PublishRequest(store=store, source=source, clock=FixedClock(now), tags=("x",)))
    created = json.loads(store.manifests[result.digest])["annotations"]["org.opencontainers.image.created"]
    assert created == "2026-05-01T00:00:00Z"


def test_a_claim_that_is_not_text_is_refused_before_anything_is_written(store: MemoryStore, key: Signer) -> None:
    with pytest.raises(UsageError, match="bad claim 'x'"):
        push(store, signers=(key,), claims={"x": "\udcff"})
    assert store.writes == []


def test_if_changed_keeps_a_version_tag_of_equal_content_from_another_commit(store: MemoryStore, key: Signer) -> None:
    first = push(store, None, "1.0.0", signers=(key,))
    store.heal()
    result = push(store, later(), "1.0.0", signers=(key,), if_changed=True)
    assert (result.unchanged, result.digest, store.writes) == (True, first.digest, [])
    earlier = tree_of(FILES, commit="c" * 40, at=COMMIT_TIME - timedelta(hours=1))
    push(store, None, "production", signers=(key,))
    assert push(store, earlier, signers=(key,), if_changed=True).unchanged, "nothing moves, so nothing moves back"


def test_if_changed_does_not_skip_a_missing_format_or_a_signature_that_has_ended(
    store: MemoryStore, key: Signer
) -> None:
    first = push(store, signers=(key,), expires=COMMIT_TIME + timedelta(hours=2))
    assert push(store, signers=(key,), if_changed=True).unchanged
    assert not push(store, later(), signers=(key,), if_changed=True, legacy_signature=True).unchanged
    assert push(store, signers=(key,), if_changed=True, legacy_signature=True, force_tag=True).unchanged
    late = FixedClock(COMMIT_TIME + timedelta(hours=3))
    old = MemoryStore()
    first = push(old, signers=(key,), expires=COMMIT_TIME + timedelta(hours=2))
    again = push(old, signers=(key,), if_changed=True, clock=late)
    assert not again.unchanged
    assert again.digest == first.digest
    assert len(signatures(old, again.digest, key)) == 2


def test_a_legacy_signature_that_a_rival_undid_is_written_again_though_another_key_signed_the_same_payload(
    store: MemoryStore, key: Signer
) -> None:
    tag = legacy_signature_tag(push(store).digest)
    other = generate()
    push(store, signers=(other,), legacy_signature=True)
    undone = store.tag_digests[tag]
    put = store.put_manifest
    rivals = [undone]

    def put_and_lose(raw: bytes, media_type: str, ref: str) -> PutResult:
        result = put(raw, media_type, ref)
        if ref == tag and rivals:
            store.tag_digests[tag] = rivals.pop()
        return result

    store.put_manifest = put_and_lose  # type: ignore[method-assign]  # a rival between our write and our read
    push(store, signers=(key,), legacy_signature=True)
    layers = json.loads(store.manifests[store.tag_digests[tag]])["layers"]
    assert len({layer["digest"] for layer in layers}) == 1, "one payload"
    assert len(layers) == 2, "signed by both keys"


def test_a_lost_config_is_restored_also_under_a_manifest_of_another_compression(store: MemoryStore) -> None:
    built = build(tree_of(FILES))
    manifest, layer = other_compression(built, tree_of(FILES))
    digest = place(store, manifest, built.config, layer, "v1.0.0")
    del store.blobs[built.config_descriptor.digest]
    assert push(store, None, "v1.0.0").digest == digest
    assert built.config_descriptor.digest in store.blobs


@pytest.mark.parametrize(
    "changed",
    [{"profile": "flux"}, {"annotations": {"team": "other"}}, {"annotations": {}}, {"claims": {"approved": "yes"}}],
    ids=["profile", "annotation", "no annotation", "claim"],
)
def test_if_changed_does_not_skip_what_is_said_in_another_way(
    store: MemoryStore, key: Signer, changed: dict[str, Any]
) -> None:
    first = push(store, signers=(key,), annotations={"team": "shop"}, claims={"approved": "no"})
    same = {"annotations": {"team": "shop"}, "claims": {"approved": "no"}}
    assert push(store, later(), signers=(key,), if_changed=True, **same).digest == first.digest
    assert not push(store, later(), signers=(key,), if_changed=True, **(same | changed)).unchanged


def test_if_changed_keeps_content_of_another_compression(store: MemoryStore, key: Signer) -> None:
    tree = tree_of(FILES)
    manifest, layer = other_compression(build(tree), tree)
    place(store, manifest, build(tree).config, layer, "1.0.0")
    first = push(store, tree, "1.0.0", signers=(key,))
    store.heal()
    again = push(store, later(), "1.0.0", signers=(key,), if_changed=True)
    assert (again.unchanged, again.digest, store.writes) == (True, first.digest, [])


def test_if_changed_does_not_believe_a_config_that_claims_our_content(store: MemoryStore, key: Signer) -> None:
    built = build(tree_of(FILES))
    evil = other_compression(build(tree_of(OTHER)), tree_of(OTHER))[1]
    lie = built.manifest_with_layer(Descriptor(built.layer_descriptor.media_type, sha256_digest(evil), len(evil)))
    planted = place(store, lie, built.config, evil, "production")
    result = push(store, later(), if_changed=True)
    assert not result.unchanged
    assert store.tag_digests["production"] == result.digest != planted


def test_if_changed_writes_nothing_in_a_dry_run_and_says_what_would_be_kept(store: MemoryStore, key: Signer) -> None:
    first = push(store, signers=(key,))
    store.heal()
    same = push(store, later(), signers=(key,), if_changed=True, dry_run=True)
    assert (same.unchanged, same.digest) == (True, first.digest)
    other = push(store, later(OTHER), signers=(key,), if_changed=True, dry_run=True)
    assert (other.unchanged, store.writes) == (False, [])


def test_if_changed_completes_tags_that_do_not_agree(store: MemoryStore, key: Signer) -> None:
    push(store, None, "production", signers=(key,))
    result = push(store, later(), "production", "staging", signers=(key,), if_changed=True)
    assert not result.unchanged
    assert store.tag_digests["production"] == store.tag_digests["staging"] == result.digest
