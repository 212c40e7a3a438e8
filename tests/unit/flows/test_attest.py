"""Attestations and provenance: written once, before tags, and saying what is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ocisync.flows import provenance
from ocisync.flows.attest import AttestRequest, attest
from ocisync.flows.images import PinnedImage
from ocisync.flows.publish import PublishRequest, PublishResult, publish
from ocisync.model.descriptor import SIGN_PREDICATE
from ocisync.model.errors import InvalidInput, NotFound, Unavailable, UsageError
from ocisync.model.evidence import Identity
from ocisync.model.limits import BUNDLE_BYTES, PREDICATE_BYTES
from ocisync.model.predicates import SLSA_PROVENANCE
from ocisync.model.tree import Provenance, SourceTree
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.signing import attestation
from ocisync.signing.check import examine
from ocisync.signing.keys import Signer, generate
from ocisync.source.environment import Environment
from tests.support.artifacts import COMMIT_TIME, tree_of
from tests.support.memory_store import MemoryStore
from tests.unit.flows.test_publish import FILES, OTHER, SHA_TAG, FixedClock
from tests.unit.source.test_environment import COMMIT, GITHUB, GITLAB, JENKINS, NOISE, SECRET

GOLDEN = Path(__file__).parent / "golden"
CLOCK = FixedClock()
ORIGIN = Provenance(
    COMMIT,
    f"v1.4.0@sha1:{COMMIT}",
    COMMIT_TIME,
    "https://github.com/acme/shop",
    tools=("kustomize@v5.8.2",),
    full_ref="refs/tags/v1.4.0",
    path="deploy/production",
)
IMAGE = PinnedImage("nginx:1", "nginx:1@sha256:" + "a" * 64, "index.docker.io/library/nginx@sha256:" + "a" * 64)
WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"
HOSTED = Identity(
    "https://token.actions.githubusercontent.com",
    WORKFLOW,
    (
        ("runnerEnvironment", "github-hosted"),
        ("sourceRepository", "https://github.com/acme/shop"),
        ("sourceRepositoryDigest", COMMIT),
        ("sourceRepositoryRef", "refs/tags/v1.4.0"),
    ),
)


def without(name: str, **changes: str) -> Identity:
    """The hosted identity with other claims."""
    claims = {**dict(HOSTED.claims), **changes}
    return replace(HOSTED, claims=tuple((key, value) for key, value in claims.items() if key != name))


@pytest.fixture(scope="module")
def key() -> Signer:
    return generate()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def push(store: MemoryStore, tree: SourceTree | None = None, **options: Any) -> PublishResult:
    values: dict[str, Any] = {"clock": CLOCK, "tags": ("production",), "provenance": {}, **options}
    return publish(PublishRequest(store=store, source=tree or tree_of(FILES), **values))


def predicates(store: MemoryStore, digest: str, *keys: Signer) -> list[Mapping[str, Any]]:
    found = collect(store, digest, budget=EvidenceBudget(lambda: 0.0)).items
    examined = [examine(raw, [key.public for key in keys], digest) for raw in found]
    return [item.predicate for item in examined if item.predicate is not None]


# What provenance says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "environ", "identity"),
    [
        ("local", {}, None),
        ("github", GITHUB, None),
        ("github-keyless", GITHUB, HOSTED),
        ("gitlab", GITLAB, None),
        ("jenkins", JENKINS, None),
    ],
)
def test_provenance_is_as_reviewed(
    name: str, environ: dict[str, str], identity: Identity | None, request: pytest.FixtureRequest
) -> None:
    facts = provenance.facts_of(
        SourceTree((), ORIGIN),
        (IMAGE,),
        {**NOISE, **environ},
        {"profile": "oci", "annotations": {}},
        started=COMMIT_TIME,
        version="0.1.0",
    )
    text = json.dumps(provenance.predicate(facts, identity), indent=2) + "\n"
    file = GOLDEN / f"provenance-{name}.json"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()
    assert SECRET not in text
    assert "jane" not in text


@pytest.mark.parametrize(
    ("identity", "changes", "level"),
    [
        (HOSTED, {}, "2"),
        (None, {}, "1"),
        (HOSTED, {"dirty": True}, "1"),
        (HOSTED, {"commit": "b" * 40}, "1"),
        (HOSTED, {"commit": ""}, "1"),
        (HOSTED, {"full_ref": "refs/heads/main"}, "1"),
        (HOSTED, {"full_ref": ""}, "1"),
        (HOSTED, {"source": "https://github.com/evil/shop"}, "1"),
        (without("", runnerEnvironment="self-hosted"), {}, "1"),
        (without("sourceRepositoryDigest"), {}, "1"),
        (without("sourceRepositoryRef"), {}, "1"),
    ],
)
def test_level_2_is_claimed_where_a_certificate_proves_it_and_nowhere_else(
    identity: Identity | None, changes: dict[str, Any], level: str
) -> None:
    assert provenance.build_level(replace(ORIGIN, **changes), identity) == level


def test_uncommitted_changes_name_no_commit_that_a_policy_could_accept() -> None:
    facts = provenance.Facts(replace(ORIGIN, dirty=True), (), Environment("local"), {}, COMMIT_TIME)
    definition = provenance.predicate(facts, None)["buildDefinition"]
    assert all("gitCommit" not in item.get("digest", {}) for item in definition["resolvedDependencies"])
    assert definition["externalParameters"]["dirty"] is True


def test_a_repository_without_an_address_is_named_by_its_commit_alone() -> None:
    facts = provenance.Facts(replace(ORIGIN, source="", tools=()), (), Environment("local"), {}, COMMIT_TIME)
    definition = provenance.predicate(facts, None)["buildDefinition"]
    assert definition["resolvedDependencies"] == [{"digest": {"gitCommit": COMMIT}}]


# Pushing with provenance ----------------------------------------------------------------------------------------


def test_provenance_is_written_after_the_signature_and_before_tags(store: MemoryStore, key: Signer) -> None:
    result = push(store, signers=(key,))
    kinds = [write.split(" ")[0] for write in store.writes]
    assert kinds[-3:] == ["manifest", "manifest", "manifest"]
    assert [write.split(" ")[1] for write in store.writes[-2:]] == [SHA_TAG, "production"]
    (found,) = predicates(store, result.digest, key)
    assert found["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "git+https://git.example/acme/shop@main", "digest": {"gitCommit": "a" * 40}}
    ]
    assert result.as_json()["attestations"] == [
        {
            "predicateType": SLSA_PROVENANCE,
            "key": key.fingerprint,
            "format": "Bundle",
            "digest": result.attestations[0].by.source,
        }
    ]


def test_the_same_push_later_and_of_another_version_writes_nothing(store: MemoryStore, key: Signer) -> None:
    first = push(store, signers=(key,))
    store.writes.clear()
    later = FixedClock(CLOCK.moment + timedelta(days=1))
    again = push(store, signers=(key,), clock=later, version="9.9")
    assert (again.unchanged, store.writes) == (True, [])
    assert [item.by.source for item in again.attestations] == [item.by.source for item in first.attestations]


def test_provenance_can_be_added_by_a_second_push(store: MemoryStore, key: Signer) -> None:
    assert push(store, signers=(key,), provenance=None).attestations == ()
    dry = push(store, signers=(key,), dry_run=True)
    assert (dry.unchanged, dry.attestations) == (False, ())
    added = push(store, signers=(key,))
    assert (added.unchanged, len(added.attestations)) == (False, 1)


def test_every_signer_attests(store: MemoryStore, key: Signer) -> None:
    other = generate("ed25519")
    result = push(store, signers=(key, other))
    assert len(predicates(store, result.digest, key, other)) == 2
    assert sorted(item.by.signer for item in result.attestations) == sorted([key.fingerprint, other.fingerprint])


def test_a_push_that_was_killed_anywhere_is_completed_by_the_next(key: Signer) -> None:
    count = len(_writes(MemoryStore(), key))
    for stop in range(count):
        store = MemoryStore()
        _fail_at(store, stop)
        with pytest.raises(Unavailable):
            push(store, signers=(key,))
        assert "production" not in store.tag_digests or stop == count
        store.fail = lambda _write: None
        result = push(store, signers=(key,))
        assert len(predicates(store, result.digest, key)) == 1
        assert store.tag_digests["production"] == result.digest


def _writes(store: MemoryStore, key: Signer) -> list[str]:
    push(store, signers=(key,))
    return store.writes


def _fail_at(store: MemoryStore, number: int) -> None:
    seen = iter(range(1_000))

    def fail(_write: str) -> None:
        if next(seen) >= number:
            raise Unavailable("killed")

    store.fail = fail


def test_provenance_without_a_signature_is_refused_before_anything_is_read(store: MemoryStore) -> None:
    with pytest.raises(UsageError, match="worth what its signature is"):
        push(store)
    assert store.writes == []


def test_another_origin_of_the_same_content_is_another_artifact_with_its_own_provenance(
    store: MemoryStore, key: Signer
) -> None:
    first = push(store, signers=(key,))
    second = push(store, tree_of(FILES, commit="b" * 40, at=COMMIT_TIME + timedelta(minutes=1)), signers=(key,))
    assert first.digest != second.digest
    assert len(predicates(store, second.digest, key)) == 1


# Attesting anything ---------------------------------------------------------------------------------------------


@pytest.fixture
def pushed(store: MemoryStore, key: Signer) -> str:
    return push(store, tree_of(OTHER), signers=(key,), provenance=None).digest


def test_a_predicate_is_attested_once(store: MemoryStore, pushed: str, key: Signer) -> None:
    request = AttestRequest(store, pushed, (key,), CLOCK, "cyclonedx", {"bomFormat": "CycloneDX", "n": [1, 2.5, None]})
    made = attest(request)
    assert (made.unchanged, made.attestations[0].predicate_type) == (False, "https://cyclonedx.org/bom")
    assert predicates(store, pushed, key) == [request.predicate]
    store.writes.clear()
    again = attest(request)
    assert (again.unchanged, store.writes) == (True, [])
    assert again.attestations[0].by.source == made.attestations[0].by.source
    assert not attest(replace(request, predicate={})).unchanged
    assert not attest(replace(request, predicate_type="openvex")).unchanged


def test_nobody_makes_a_signature_by_attesting(store: MemoryStore, pushed: str, key: Signer) -> None:
    store.writes.clear()
    with pytest.raises(InvalidInput, match="is the type of signatures"):
        attest(AttestRequest(store, pushed, (key,), CLOCK, SIGN_PREDICATE, {}))
    assert store.writes == []


@pytest.mark.parametrize("kind", ["nothing-known", "", "https://a b", "x" * 2_000, "https://a.example/\n"])
def test_a_type_is_a_short_name_or_a_uri(store: MemoryStore, pushed: str, key: Signer, kind: str) -> None:
    with pytest.raises(InvalidInput):
        attest(AttestRequest(store, pushed, (key,), CLOCK, kind, {}))


def test_only_a_digest_that_is_there_is_attested(store: MemoryStore, pushed: str, key: Signer) -> None:
    with pytest.raises(UsageError):
        attest(AttestRequest(store, "production", (key,), CLOCK, "custom", {}))
    with pytest.raises(NotFound):
        attest(AttestRequest(store, "sha256:" + "0" * 64, (key,), CLOCK, "custom", {}))


def test_an_attestation_that_does_not_read_back_is_an_error(store: MemoryStore, pushed: str, key: Signer) -> None:
    honest = store.blob

    def lying(descriptor: Any, *, max_bytes: int) -> bytes:
        return honest(descriptor, max_bytes=max_bytes)[:-1] + b" "

    store.blob = lying  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="does not read back"):
        attest(AttestRequest(store, pushed, (key,), CLOCK, "custom", {"a": 1}))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b'{"a": 1, "a": 2}', "duplicate key"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "JSON"),
        (b"{" + b" " * PREDICATE_BYTES + b"}", "the most that is attested"),
    ],
)
def test_a_predicate_that_two_readers_could_read_differently_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        attestation.read_predicate(data)


def test_the_largest_predicate_makes_a_bundle_that_is_read_again(store: MemoryStore, pushed: str, key: Signer) -> None:
    largest = {"text": "x" * (PREDICATE_BYTES - 20)}
    attestation.read_predicate(json.dumps(largest).encode())
    attest(AttestRequest(store, pushed, (key,), CLOCK, "custom", largest))
    assert predicates(store, pushed, key) == [largest]
    assert max(len(blob) for blob in store.blobs.values()) <= BUNDLE_BYTES - 48 * 1024  # room for a certificate
