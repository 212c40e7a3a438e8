"""The threat table, as far as attestations go: one attack each, judged by the same recipe as the agent's.

T-numbers are those of docs/trust.md. Every case has a good signature; what must not be believed is the attestation.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ocisync.flows.localcopy import LocalCopies, Saved
from ocisync.flows.trust import TrustSet, load_policies
from ocisync.flows.verify import Judgement, reverify
from ocisync.model.artifact import VerdictReason
from ocisync.model.descriptor import (
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    IN_TOTO_PAYLOAD_TYPE,
    OCI_EMPTY,
    OCI_MANIFEST,
    SIGN_PREDICATE,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.model.limits import BUNDLE_BYTES, EVIDENCE_BYTES
from ocisync.oci.evidence import EvidenceBudget
from ocisync.pack.artifact import BuiltArtifact
from ocisync.sandbox.registry import Registry
from ocisync.signing import bundle
from ocisync.signing.check import examine
from ocisync.signing.statement import pae
from tests.support.minisigstore import WORKFLOW, MiniSigstore, Wish
from tests.support.signedrepository import CREATED, SignedRepository
from tests.support.trust import DIGEST, NOW, OTHER_DIGEST, bundle_with, policy, signer

CI = signer("ci")
FILES = {"app.yaml": "kind: ConfigMap\n"}
SLSA = "https://slsa.dev/provenance/v1"
SOURCE = "git+https://github.com/acme/shop@refs/tags/v1.4.0"
RULE = {
    "predicateType": SLSA,
    "authorities": ["ci"],
    "where": [
        {
            "path": "/buildDefinition/resolvedDependencies/0/uri",
            "glob": "git+https://github.com/acme/shop@refs/tags/*",
        }
    ],
}
SIGSTORE = MiniSigstore()


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def repo(server: Registry) -> SignedRepository:
    return SignedRepository(f"{server.address}/shop/config")


@pytest.fixture
def built(repo: SignedRepository) -> BuiltArtifact:
    """Signed as the policy wants it."""
    made = repo.push(FILES, "production")
    repo.sign(made.descriptor, CI)
    return made


def statement(digest: str, **changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "anything", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": SLSA,
        "predicate": {"buildDefinition": {"resolvedDependencies": [{"uri": SOURCE}]}},
        **changes,
    }


def attach(repo: SignedRepository, built: BuiltArtifact, document: Any, by: str = "ci") -> None:
    repo.attach_bundle(built.descriptor, bundle_with(signer(by), document).payload)


def trust(repo: SignedRepository, **spec: Any) -> TrustSet:
    return load_policies([repo.policy(**{"attestations": [RULE], **spec})])


def judge(repo: SignedRepository, **spec: Any) -> Judgement:
    return repo.judge(trust(repo, **spec))


def refused(repo: SignedRepository) -> str:
    verdict = judge(repo).verdict
    assert verdict.reason is VerdictReason.NO_ATTESTATION
    return verdict.message


def test_the_honest_case_is_verified_and_holds_offline_from_a_saved_copy(
    repo: SignedRepository, built: BuiltArtifact, tmp_path: Path
) -> None:
    attach(repo, built, statement(built.descriptor.digest))
    judgement = judge(repo)
    assert judgement.verdict.allowed
    saved = Saved(repo.repository, "production", OCI_MANIFEST, built.manifest, b"{}", b"layer", judgement.evidence)
    assert LocalCopies(tmp_path).save("apps/shop", saved)
    loaded = LocalCopies(tmp_path).load("apps/shop", repo.repository, "production")
    assert loaded is not None
    again = reverify(loaded.manifest, OCI_MANIFEST, loaded.evidence, trust(repo), repo.request(), now=NOW)
    assert again.verdict == judgement.verdict
    fewer = reverify(
        loaded.manifest, OCI_MANIFEST, type(loaded.evidence)(loaded.evidence.items[:1]), trust(repo),
        repo.request(), now=NOW,
    )  # fmt: skip
    assert not fewer.verdict.allowed


@pytest.mark.parametrize("with_claims", [True, False])
def test_t08_no_number_of_attestations_is_a_signature(repo: SignedRepository, with_claims: bool) -> None:
    built = repo.push(FILES, "production")
    document = statement(built.descriptor.digest)
    if with_claims:
        document["subject"][0]["annotations"] = repo.claims()
    attach(repo, built, document)
    attach(repo, built, {**document, "predicateType": "https://sigstore.dev/cosign/sign/v2"})
    verdict = judge(repo).verdict
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.BAD_SIGNATURE)


def test_t08_a_signature_is_no_attestation_whatever_it_says(repo: SignedRepository, built: BuiltArtifact) -> None:
    document = statement(built.descriptor.digest, predicateType=SIGN_PREDICATE)
    document["subject"][0]["annotations"] = repo.claims()
    attach(repo, built, document)
    repo.sign_legacy(built.descriptor, CI)
    assert "none of that type was found" in refused(repo)
    asking = {**RULE, "predicateType": SIGN_PREDICATE}
    assert judge(repo, attestations=[asking]).verdict.reason is VerdictReason.INVALID_POLICY


def test_t08_an_attestation_of_another_type_is_not_the_one_asked_for(
    repo: SignedRepository, built: BuiltArtifact
) -> None:
    for kind in (SLSA + "/", SLSA.upper(), SLSA + "?x", "https://slsa.dev/provenance/v0.2", "x" + SLSA):
        attach(repo, built, statement(built.descriptor.digest, predicateType=kind))
    assert "none of that type was found" in refused(repo)


def test_t09_large_attestations_do_not_hide_a_signature(repo: SignedRepository, server: Registry) -> None:
    built = repo.push(FILES, "production")
    for number in range(EVIDENCE_BYTES // BUNDLE_BYTES + 1):
        text = f"{number:x<{700 * 1024}}"
        attach(repo, built, statement(built.descriptor.digest, predicateType="https://spdx.dev/Document", predicate={
            "text": text
        }), by="stranger")  # fmt: skip
    repo.sign(built.descriptor, CI)
    attach(repo, built, statement(built.descriptor.digest))
    judgement = judge(repo)
    assert judgement.verdict.allowed
    assert judgement.evidence.truncated


def test_t10_an_attestation_that_is_too_large_is_not_read(
    repo: SignedRepository, built: BuiltArtifact, server: Registry
) -> None:
    document = statement(built.descriptor.digest, predicate={"text": "x" * BUNDLE_BYTES})
    attach(repo, built, document)
    server.requests.clear()
    assert "none of that type was found" in refused(repo)
    assert len([entry for entry in server.requests.entries() if "/blobs/" in entry.target]) <= 1


def test_t17_an_attestation_of_another_digest_does_not_count(repo: SignedRepository, built: BuiltArtifact) -> None:
    attach(repo, built, statement(OTHER_DIGEST))
    assert "none of that type was found" in refused(repo)


@pytest.mark.parametrize("order", [1, -1])
def test_t17_an_attestation_of_two_digests_does_not_count(
    repo: SignedRepository, built: BuiltArtifact, order: int
) -> None:
    both = [{"digest": {"sha256": one.removeprefix("sha256:")}} for one in (built.descriptor.digest, OTHER_DIGEST)]
    attach(repo, built, statement(built.descriptor.digest, subject=both[::order]))
    assert "none of that type was found" in refused(repo)


def test_t17_a_digest_in_another_algorithm_beside_ours_does_not_count(
    repo: SignedRepository, built: BuiltArtifact
) -> None:
    digests = {"sha256": built.descriptor.digest.removeprefix("sha256:"), "sha512": "0" * 128}
    attach(repo, built, statement(built.descriptor.digest, subject=[{"digest": digests}]))
    assert "none of that type was found" in refused(repo)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"predicate":', '"predicate":{},"predicate":'),
        ('"predicateType":', '"predicateType":"x:y","predicateType":'),
        ('"uri":', '"uri":"git+https://evil.example/x@refs/tags/v1","uri":'),
        ('"sha256":', f'"sha256":"{OTHER_DIGEST[7:]}","sha256":'),
        ('"_type":', '"Predicate":{},"_type":'),
        ('"predicate":{', '"predicate":{"n":NaN,'),
        ('"predicate":{', '"predicate":{"t":"\\ud800",'),
    ],
)
def test_t18_a_statement_with_two_readings_does_not_count(
    repo: SignedRepository, built: BuiltArtifact, old: str, new: str
) -> None:
    text = json.dumps(statement(built.descriptor.digest), separators=(",", ":"))
    assert old in text
    attach(repo, built, text.replace(old, new, 1).encode())
    assert "none of that type was found" in refused(repo)


def test_t18_other_encodings_of_signature_and_payload_do_not_count(
    repo: SignedRepository, built: BuiltArtifact
) -> None:
    payload = json.dumps(statement(built.descriptor.digest)).encode()
    while len(payload) % 3 != 1:
        payload += b" "
    made = CI.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload))
    r, s = decode_dss_signature(made)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    repo.attach_bundle(built.descriptor, bundle_with(CI, payload, signature=raw).payload)
    text = base64.b64encode(payload).decode()
    for lax in (text + "\n", text.rstrip("="), text[:-3] + chr(ord(text[-3]) + 1) + "=="):
        repo.attach_bundle(built.descriptor, bundle_with(CI, payload, signature=made, payload=lax).payload)
    assert "none of that type was found" in refused(repo)
    repo.attach_bundle(built.descriptor, bundle_with(CI, payload, signature=made).payload)
    assert judge(repo).verdict.allowed


def test_t22_an_attestation_by_a_denied_key_does_not_count(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, signer("release"))
    attach(repo, built, statement(built.descriptor.digest))
    verdict = judge(repo, by=("ci", "release"), deny={"keys": [CI.fingerprint]}).verdict
    assert verdict.reason is VerdictReason.NO_ATTESTATION


def test_t23_what_the_referrer_says_of_itself_is_no_attestation(repo: SignedRepository, built: BuiltArtifact) -> None:
    other = bundle_with(CI, statement(built.descriptor.digest, predicateType="https://acme.example/x")).payload
    raw, layer = bundle.bundle_manifest(other, built.descriptor, CREATED, SLSA)
    repo.store.put_blob(Descriptor(OCI_EMPTY, EMPTY_JSON_DIGEST, len(EMPTY_JSON)), EMPTY_JSON)
    repo.store.put_blob(layer, other)
    repo.store.attach(raw, built.descriptor)
    assert "none of that type was found" in refused(repo)


def test_t29_a_typo_in_a_requirement_makes_the_policy_invalid(repo: SignedRepository, built: BuiltArtifact) -> None:
    for typo in ({**RULE, "Where": []}, {**RULE, "where": [{"path": "/a", "equal": "x"}]}, {"predicateType": SLSA}):
        assert judge(repo, attestations=[typo]).verdict.reason is VerdictReason.INVALID_POLICY


def test_t30_keyless_provenance_names_the_builder_that_signed_it(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.attach_bundle(built.descriptor, SIGSTORE.sign(built.descriptor.digest, repo.claims()).payload)
    authority = {
        "name": "ci",
        "keyless": {
            "issuer": "https://token.actions.githubusercontent.com",
            "subject": WORKFLOW,
            "trustedRootRef": {"name": "root"},
        },
    }

    def verdict(**rule: Any) -> VerdictReason:
        document = policy(
            match=[{"repository": repo.repository}], authorities=[authority], attestations=[{**RULE, **rule}]
        )
        loaded = load_policies([document], read_root=lambda name: {"root.json": SIGSTORE.root_bytes()})
        return repo.judge(loaded).verdict.reason

    def attest(builder: str, wish: Wish | None = None) -> None:
        said = statement(built.descriptor.digest)
        said["predicate"]["runDetails"] = {"builder": {"id": builder}}
        made = (
            SIGSTORE.document(json.dumps(said).encode(), wish) if wish else SIGSTORE.document(json.dumps(said).encode())
        )
        repo.attach_bundle(built.descriptor, json.dumps(made).encode())

    attest("https://github.com/evil/shop/.github/workflows/release.yml@refs/tags/v1.4.0")
    assert verdict() is VerdictReason.NO_ATTESTATION
    stranger = WORKFLOW.replace("acme", "evil")
    attest(WORKFLOW, Wish(subject=stranger))
    assert verdict() is VerdictReason.NO_ATTESTATION
    named = [{"path": "/runDetails/builder/id", "glob": "https://github.com/evil/shop/.github/workflows/*@refs/tags/*"}]
    assert verdict(where=named) is VerdictReason.VERIFIED  # the policy's own choice
    attest(WORKFLOW)
    assert verdict() is VerdictReason.VERIFIED


CASES = 100_000 if os.environ.get("OCISYNC_HEAVY") == "1" else 400


def test_damaged_attestations_never_raise_and_never_say_something_else() -> None:
    good = bundle_with(CI, statement(DIGEST)).payload
    said = examine(_raw(good), [CI.public], DIGEST).predicate
    assert said is not None
    source = random.Random(7)
    for _ in range(CASES):
        data = bytearray(good)
        for _ in range(source.choice([1, 1, 2, 5])):
            data[source.randrange(len(data))] = source.randrange(256)
        found = examine(_raw(bytes(data)), [CI.public], DIGEST)
        assert found.predicate is None or found.predicate == said
        assert found.problem or not found.signer


def test_damaged_statements_that_are_signed_never_raise() -> None:
    good = json.dumps(statement(DIGEST)).encode()
    source = random.Random(11)
    for _ in range(CASES // 4):
        data = bytearray(good)
        for _ in range(source.choice([1, 1, 2, 5])):
            at = source.randrange(len(data))
            data[at : at + source.randrange(3)] = bytes(source.randrange(32, 127) for _ in range(source.randrange(3)))
        found = examine(_raw(bundle_with(CI, bytes(data)).payload), [CI.public], DIGEST)
        assert found.signer == CI.fingerprint
        assert found.problem
        assert found.predicate is None or found.subject == DIGEST


def _raw(data: bytes) -> RawSignature:
    return RawSignature(SignatureFormat.BUNDLE, sha256_digest(data), data)


def test_t09_a_budget_that_is_used_up_is_told_and_not_taken_for_a_missing_attestation(
    repo: SignedRepository, built: BuiltArtifact
) -> None:
    attach(repo, built, statement(built.descriptor.digest, predicate={"text": "x" * 100_000}))
    small = EvidenceBudget(lambda: 0.0, bytes=20_000)
    verdict = repo.judge(trust(repo), budget=small).verdict
    assert verdict.reason is VerdictReason.EVIDENCE_TRUNCATED
