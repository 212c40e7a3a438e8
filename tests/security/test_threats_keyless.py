"""The threat table, as far as keyless signatures go: one attack each, judged by the same recipe as the agent's.
T-numbers are those of docs/trust.md. Certificates and log entries are made by a Sigstore in Python, which does what no
honest one would; the golden ones were made by real services.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ocisync.flows.trust import TrustSet, load_policies
from ocisync.flows.verify import reverify
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.model.evidence import EvidenceSet
from ocisync.sandbox.registry import Registry
from ocisync.signing.check import examine
from ocisync.signing.statement import statement
from tests.support import goldensigstore as golden
from tests.support.minisigstore import GITHUB, REPOSITORY_CLAIMS, SIGNED_AT, WORKFLOW, MiniSigstore, Wish, raw
from tests.support.signedrepository import SignedRepository
from tests.support.trust import DIGEST, NOW, OTHER_DIGEST, SEQUENCE, claims, judged, policy, signer, subject

FILES = {"app.yaml": "kind: ConfigMap\n"}
SIGSTORE = MiniSigstore()
RELEASE: dict[str, Any] = {
    "issuer": GITHUB,
    "subjectGlob": "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*",
    "claims": {"sourceRepository": "https://github.com/acme/shop"},
    "trustedRootRef": {"name": "root"},
}
DEV: dict[str, Any] = {
    "issuer": "https://accounts.example",
    "subject": "dev@example.com",
    "trustedRootRef": {"name": "root"},
}
OPS: dict[str, Any] = {**DEV, "subject": "ops@example.com"}
BY_DEV = Wish(issuer=DEV["issuer"], subject="dev@example.com", claims={})
BY_OPS = Wish(issuer=DEV["issuer"], subject="ops@example.com", claims={})


def trust(*rules: dict[str, Any], root: bytes = b"", **spec: Any) -> TrustSet:
    """A policy about everything of the registry, with one keyless authority for each rule."""
    authorities = [{"name": name, "keyless": rule} for name, rule in zip("abc", rules, strict=False)]
    document = policy(authorities=authorities, **spec)
    return load_policies([document], read_root=lambda name: {"root.json": root or SIGSTORE.root_bytes()})


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def repo(server: Registry) -> SignedRepository:
    return SignedRepository(f"{server.address}/shop/config")


def attach(repo: SignedRepository, subject: Descriptor, wish: Wish | None = None, **changes: str) -> None:
    repo.attach_bundle(subject, SIGSTORE.sign(subject.digest, repo.claims(**changes), wish).payload)


def judge(repo: SignedRepository, *rules: dict[str, Any], watermark: int = 0, **spec: Any) -> Verdict:
    loaded = trust(*(rules or (RELEASE,)), match=[{"repository": repo.repository}], **spec)
    return repo.judge(loaded, watermark=watermark).verdict


def test_the_honest_case_is_verified_and_holds_offline_from_saved_bytes(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    attach(repo, built.descriptor)
    loaded = trust(RELEASE, match=[{"repository": repo.repository}])
    judgement = repo.judge(loaded)
    assert (judgement.verdict.reason, judgement.verdict.signers) == (VerdictReason.VERIFIED, ("a",))
    again = reverify(built.manifest, OCI_MANIFEST, judgement.evidence, loaded, repo.request(), now=NOW)
    assert again.verdict == judgement.verdict


def test_t02_rollback_to_an_older_keyless_digest_is_refused(repo: SignedRepository) -> None:
    attach(repo, repo.push(FILES, "production").descriptor, sequence=str(SEQUENCE - 1))
    assert judge(repo, watermark=SEQUENCE).reason is VerdictReason.ROLLED_BACK


def test_t05_a_keyless_signature_copied_to_another_repository_is_refused(repo: SignedRepository) -> None:
    attach(repo, repo.push(FILES, "production").descriptor, repository="registry.example/other")
    assert judge(repo).reason is VerdictReason.WRONG_REPOSITORY


@pytest.mark.parametrize(
    "subject",
    [
        "https://evil.example/" + WORKFLOW,
        WORKFLOW + "-evil/x",
        WORKFLOW.replace("github.com", "github.com.evil.example"),
        WORKFLOW.replace("acme/shop", "acme/shop-evil"),
        WORKFLOW.replace("release.yml", "releaseXyml"),
        "dev" + WORKFLOW,
    ],
)
def test_t06_an_identity_that_contains_the_wanted_one_is_another_one(repo: SignedRepository, subject: str) -> None:
    attach(repo, repo.push(FILES, "production").descriptor, Wish(subject=subject))
    exact = {**RELEASE, "subject": WORKFLOW}
    exact.pop("subjectGlob")
    for rule in (RELEASE, exact):
        assert judge(repo, rule).reason is VerdictReason.UNKNOWN_SIGNER


@pytest.mark.parametrize("issuer", [GITHUB + "/", GITHUB + ".evil.example", GITHUB.upper(), "https://evil.example"])
def test_t06_an_issuer_that_looks_like_the_wanted_one_is_another_one(repo: SignedRepository, issuer: str) -> None:
    attach(repo, repo.push(FILES, "production").descriptor, Wish(issuer=issuer))
    assert judge(repo).reason is VerdictReason.UNKNOWN_SIGNER


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"issuer": GITHUB},
        {"subject": WORKFLOW},
        {"issuer": GITHUB, "subject": ""},
        {"issuer": GITHUB, "subjectGlob": "*", "claims": {"sourceRepository": "https://github.com/acme/shop"}},
        {"issuer": "", "subject": "dev@example.com"},
        {"issuer": "https://accounts.example", "subjectGlob": "*@*"},
    ],
    ids=str,
)
def test_t07_an_authority_that_names_nobody_makes_the_policy_invalid(
    repo: SignedRepository, rule: dict[str, Any]
) -> None:
    attach(repo, repo.push(FILES, "production").descriptor)
    assert judge(repo, {**rule, "trustedRootRef": {"name": "root"}}).reason is VerdictReason.INVALID_POLICY


def test_t08_a_keyless_attestation_is_no_signature(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    signed = json.loads(statement(built.descriptor.digest, repo.claims()))
    signed["predicateType"] = "https://slsa.dev/provenance/v1"
    repo.attach_bundle(built.descriptor, raw(SIGSTORE.document(json.dumps(signed).encode())).payload)
    verdict = judge(repo)
    assert verdict.reason is VerdictReason.BAD_SIGNATURE
    assert "attestation" in verdict.message


def test_t11_foreign_and_broken_keyless_bundles_hide_nothing(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    for junk in (MiniSigstore().sign(built.descriptor.digest, repo.claims()).payload, b"{}", b"\xff"):
        repo.attach_bundle(built.descriptor, junk)
    assert not judge(repo).allowed
    attach(repo, built.descriptor)
    assert judge(repo).allowed


def _swapped(part: str) -> dict[str, Any]:
    """A bundle with a part of another bundle by the same identity over the same digest."""
    one, other = (json.loads(SIGSTORE.sign(DIGEST, claims(signed=str(n))).payload) for n in (1, 2))
    one["verificationMaterial"][part] = other["verificationMaterial"][part]
    found: dict[str, Any] = one
    return found


@pytest.mark.parametrize("part", ["tlogEntries", "certificate"])
def test_t13_a_log_entry_of_something_else_proves_nothing(part: str) -> None:
    verdict = judged(trust(RELEASE), raw(_swapped(part)))
    assert verdict.reason is VerdictReason.BAD_SIGNATURE


@pytest.mark.parametrize("field", ["signatures", "payloadHash"])
def test_t13_a_log_entry_that_is_signed_by_the_log_but_about_something_else_proves_nothing(field: str) -> None:
    bundle = json.loads(SIGSTORE.sign(DIGEST, claims()).payload)
    other = json.loads(SIGSTORE.sign(OTHER_DIGEST, claims()).payload)
    bodies = [
        json.loads(base64.b64decode(item["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]))
        for item in (bundle, other)
    ]
    bodies[0]["spec"][field] = bodies[1]["spec"][field]
    entry = SIGSTORE.entry(json.dumps(bodies[0]).encode(), SIGNED_AT)
    bundle["verificationMaterial"]["tlogEntries"] = [entry]
    verdict = judged(trust(RELEASE), raw(bundle))
    assert verdict.reason is VerdictReason.BAD_SIGNATURE
    assert "log entry" in verdict.message


@pytest.mark.parametrize("kind", ["certificateAuthorities", "ctlogs", "tlogs"])
def test_t14_a_signature_made_after_an_authority_was_retired_does_not_count(kind: str) -> None:
    ended = {"start": "2026-01-01T00:00:00Z", "end": "2026-11-22T00:00:00Z"}
    loaded = trust(RELEASE, root=SIGSTORE.root_bytes(**{kind: ended}))
    late = judged(loaded, SIGSTORE.sign(DIGEST, claims()))
    assert (late.reason, "was valid at" in late.message) == (VerdictReason.BAD_SIGNATURE, True)
    before = Wish(signed_at=SIGNED_AT - timedelta(days=2))
    assert judged(loaded, SIGSTORE.sign(DIGEST, claims(), before)).allowed


@pytest.mark.parametrize("kind", ["certificateAuthorities", "ctlogs", "tlogs", "timestampAuthorities"])
def test_t14_real_services_that_were_retired_before_the_signature_prove_nothing(kind: str) -> None:
    retired = {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"}
    signature = golden.signature("ocisync-github")
    assert examine(signature, [], golden.digest(), [golden.root()]).signer
    assert not examine(signature, [], golden.digest(), [golden.root(windows={kind: retired})]).signer


@pytest.mark.parametrize("kind", ["certificateAuthorities", "ctlogs", "tlogs", "timestampAuthorities"])
def test_t14_a_service_that_was_taken_out_of_the_root_proves_nothing(kind: str) -> None:
    document = golden.document("trusted_root")
    document[kind] = golden.document("elsewhere_root")[kind]
    loaded = trust({**DEV, "issuer": "http://127.0.0.1:15060"}, root=json.dumps(document).encode())
    found = examine(golden.signature("ocisync-person"), [], golden.digest(), loaded.roots)
    assert not found.signer


def test_t17_a_keyless_signature_of_another_digest_is_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.attach_bundle(built.descriptor, SIGSTORE.sign(OTHER_DIGEST, repo.claims()).payload)
    assert judge(repo).reason is VerdictReason.WRONG_SUBJECT


def _duplicate(payload: bytes, key: str) -> bytes:
    return payload.replace(f'"{key}":'.encode(), f'"{key}": null, "{key}":'.encode(), 1)


@pytest.mark.parametrize("key", ["certificate", "tlogEntries", "canonicalizedBody", "inclusionProof", "rootHash"])
def test_t18_keyless_material_has_one_reading_only(key: str) -> None:
    good = SIGSTORE.sign(DIGEST, claims())
    twice = raw({})
    twice = type(twice)(twice.format, twice.source, _duplicate(good.payload, key))
    verdict = judged(trust(RELEASE), twice)
    assert (verdict.reason, "duplicate key" in verdict.message) == (VerdictReason.BAD_SIGNATURE, True)
    # protobuf's readers take both spellings of a name; two spellings are two readings.
    snake = "".join("_" + char.lower() if char.isupper() else char for char in key)
    if snake != key:
        other = good.payload.replace(f'"{key}"'.encode(), f'"{snake}"'.encode())
        renamed = type(twice)(twice.format, twice.source, other)
        assert not judged(trust(RELEASE), renamed).allowed


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_t19_a_certificate_for_a_key_of_another_kind_is_refused(curve: ec.EllipticCurve) -> None:
    verdict = judged(trust(RELEASE), SIGSTORE.sign(DIGEST, claims(), Wish(curve=curve)))
    assert (verdict.reason, "ECDSA P-256" in verdict.message) == (VerdictReason.BAD_SIGNATURE, True)


@pytest.mark.parametrize("year", [2026, 2035, 2060])
def test_t21_a_wrong_clock_neither_opens_nor_closes_a_keyless_signature(repo: SignedRepository, year: int) -> None:
    """Nothing of the certificate, log or root is compared with the clock; only rules of the policy about age are."""
    built = repo.push(FILES, "production")
    attach(repo, built.descriptor)
    loaded = trust(RELEASE, match=[{"repository": repo.repository}])
    evidence: EvidenceSet = repo.judge(loaded).evidence
    now = datetime(year, 12, 1, tzinfo=UTC)
    assert reverify(built.manifest, OCI_MANIFEST, evidence, loaded, repo.request(), now=now).verdict.allowed


def test_t21_the_machines_clock_may_be_years_behind_the_signature() -> None:
    """A machine without a battery wakes up in the past."""
    later = {"start": "2034-01-01T00:00:00Z"}
    kinds = ("certificateAuthorities", "ctlogs", "tlogs")
    root = SIGSTORE.trusted_root(**dict.fromkeys(kinds, later))
    future = Wish(signed_at=datetime(2034, 2, 1, tzinfo=UTC))
    assert examine(SIGSTORE.sign(DIGEST, claims(), future), [], DIGEST, [root]).signer


@pytest.mark.parametrize("days", [-2, 2])
def test_t21_a_log_that_lies_about_the_time_is_caught_by_the_certificate(days: int) -> None:
    """A log's signed promise for another day: the certificate was valid for minutes."""
    bundle = json.loads(SIGSTORE.sign(DIGEST, claims()).payload)
    body = base64.b64decode(bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"])
    bundle["verificationMaterial"]["tlogEntries"] = [SIGSTORE.entry(body, SIGNED_AT + timedelta(days=days))]
    assert judged(trust(RELEASE), raw(bundle)).reason is VerdictReason.BAD_SIGNATURE


def test_t22_one_stolen_identity_of_two_is_not_enough(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    attach(repo, built.descriptor, BY_DEV)
    assert judge(repo, DEV, OPS, threshold=2).reason is VerdictReason.BELOW_THRESHOLD
    attach(repo, built.descriptor, BY_OPS)
    assert judge(repo, DEV, OPS, threshold=2).allowed


def test_t23_what_is_not_signed_about_a_keyless_bundle_is_never_looked_at(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    attach(repo, built.descriptor, Wish(subject=WORKFLOW.replace("acme", "evil")))
    assert judge(repo).reason is VerdictReason.UNKNOWN_SIGNER


def test_t25_a_keyless_digest_under_another_tag_is_refused(repo: SignedRepository) -> None:
    attach(repo, repo.push(FILES, "production").descriptor, tags="staging")
    assert judge(repo).reason is VerdictReason.WRONG_TAG


def test_t26_one_stolen_identity_cannot_move_the_watermark_of_two(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    attach(repo, built.descriptor, BY_DEV)
    attach(repo, built.descriptor, BY_OPS)
    attach(repo, built.descriptor, BY_OPS, sequence=str(SEQUENCE + 300))
    assert judge(repo, DEV, OPS, threshold=2).sequence == SEQUENCE
    assert judge(repo, DEV, OPS, threshold=2, watermark=SEQUENCE + 1).reason is VerdictReason.BELOW_THRESHOLD


def test_t27_one_identity_as_two_authorities_is_one_signer(repo: SignedRepository) -> None:
    attach(repo, repo.push(FILES, "production").descriptor, BY_DEV)
    assert judge(repo, DEV, DEV, threshold=2).reason is VerdictReason.INVALID_POLICY
    everybody = {**DEV, "subjectGlob": "*@example.com"}
    everybody.pop("subject")
    assert judge(repo, DEV, everybody, threshold=2).reason is VerdictReason.BELOW_THRESHOLD


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({"claims": {"sourceRepository": "https://github.com/acme/shop"}}, False),
        ({"claims": {"sourceRepositoryOwnerId": "42"}}, False),
        ({}, False),
        ({"claims": {"sourceRepository": "https://github.com/evil/shop"}}, True),
    ],
    ids=["repository", "owner", "implied", "the foreign one on purpose"],
)
def test_t30_a_shared_workflow_run_by_a_foreign_repository_does_not_count(
    repo: SignedRepository, rule: dict[str, Any], allowed: bool
) -> None:
    """The certificate names the workflow's file, which is acme's, whoever runs it."""
    evil = {"sourceRepository": "https://github.com/evil/shop", "sourceRepositoryOwnerId": "666"}
    foreign = {**REPOSITORY_CLAIMS, **evil}
    attach(repo, repo.push(FILES, "production").descriptor, Wish(claims=foreign))
    exact = {"issuer": GITHUB, "subject": WORKFLOW, "trustedRootRef": {"name": "root"}, **rule}
    assert judge(repo, exact).allowed is allowed


def test_t30_a_real_shared_workflow_run_by_a_foreign_repository_does_not_count() -> None:
    rule = {
        "issuer": "http://127.0.0.1:15061",
        "subject": "https://github.com/acme/ci/.github/workflows/release.yml@refs/tags/v1",
        "trustedRootRef": {"name": "root"},
    }
    root = golden.data("trusted_root.json")
    about = {"digest": golden.digest()}
    foreign = golden.signature("ocisync-reused-workflow")
    refused = judged(trust(rule, root=root), foreign, about=subject(**about))
    assert refused.reason is VerdictReason.UNKNOWN_SIGNER
    assert "wants sourceRepository https://github.com/acme/ci, which is https://github.com/evil/shop" in refused.message
    named = {**rule, "claims": {"sourceRepository": "https://github.com/evil/shop"}}
    assert judged(trust(named, root=root), foreign, about=subject(**about)).allowed


def test_t33_a_keyless_policy_without_its_root_asks_nobody(server: Registry, repo: SignedRepository) -> None:
    attach(repo, repo.push(FILES, "production").descriptor)
    document = repo.policy(authorities=[{"name": "a", "keyless": RELEASE}])
    server.requests.clear()
    verdict = repo.judge(load_policies([document], read_root=lambda name: None)).verdict
    assert verdict.reason is VerdictReason.INVALID_POLICY
    assert server.requests.entries() == ()


def test_keys_and_identities_are_never_confused() -> None:
    """A key whose fingerprint an identity's name imitates, and the reverse, are strangers."""
    key = signer("ci")
    imitation = Wish(issuer=DEV["issuer"], subject=key.fingerprint, claims={})
    by_key = policy(authorities=[{"name": "ci", "key": {"pem": key.public.pem}}])
    assert not judged([by_key], SIGSTORE.sign(DIGEST, claims(), imitation)).allowed
