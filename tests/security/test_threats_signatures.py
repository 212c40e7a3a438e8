"""The threat table, as far as signatures made with keys go: one attack for each test, over real HTTP, judged by the
same recipe as the agent's. T-numbers are those of docs/trust.md.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ocisync.flows.fetch import fetch
from ocisync.flows.sign import sign_bundle
from ocisync.flows.trust import load_policies
from ocisync.flows.verify import VerificationRefused, require, reverify
from ocisync.model.artifact import VerdictReason
from ocisync.model.descriptor import BUNDLE_V03, OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.descriptor import CREATED as CREATED_ANNOTATION
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused, Unavailable
from ocisync.model.evidence import EvidenceSet, SignatureFormat
from ocisync.model.limits import BUNDLE_BYTES
from ocisync.model.spec import SelectorKind
from ocisync.oci.evidence import EvidenceBudget
from ocisync.pack.tar import write_tar
from ocisync.sandbox.faults import Relabel
from ocisync.sandbox.registry import Registry
from ocisync.signing import bundle
from ocisync.signing.statement import statement
from tests.support.artifacts import artifact, tree_of
from tests.support.memory_store import MemoryStore
from tests.support.signedrepository import SignedRepository
from tests.support.trust import NOW, SEQUENCE, bundle_of, bundle_with, claims, policy, signer

CI = signer("ci")
FILES = {"app.yaml": "kind: ConfigMap\n"}
OTHER_FILES = {"app.yaml": "kind: ConfigMap # evil\n"}


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def repo(server: Registry) -> SignedRepository:
    return SignedRepository(f"{server.address}/shop/config")


def test_the_honest_case_is_verified_and_fetched(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    verified = repo.verify()
    assert (verified.digest, verified.tag, verified.verdict.signers) == (built.descriptor.digest, "production", ("ci",))
    assert [file.path for file in fetch(repo.store, verified).files] == ["app.yaml"]


def test_t01_tag_moved_to_unsigned_content_is_refused(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    repo.push(OTHER_FILES, "production")
    with pytest.raises(VerificationRefused) as refused:
        repo.verify()
    assert refused.value.reason == "Unsigned"


def test_t02_rollback_to_an_older_signed_digest_is_refused(repo: SignedRepository) -> None:
    old = repo.push(OTHER_FILES, "production")
    repo.sign(old.descriptor, CI, repo.claims(sequence=str(SEQUENCE - 1)))
    verdict = repo.judge(watermark=SEQUENCE).verdict
    assert verdict.reason is VerdictReason.ROLLED_BACK


def test_t03_an_old_state_served_for_ever_becomes_too_old(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    assert repo.judge(load_policies([repo.policy(rollback={"maxAge": "1m"})])).verdict.reason is VerdictReason.TOO_OLD


def test_t03_a_signature_that_has_ended_does_not_count(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI, repo.claims(expires=str(int(NOW.timestamp()))))
    assert repo.judge().verdict.reason is VerdictReason.EXPIRED


def test_t04_what_is_pulled_is_what_was_verified_though_the_tag_moved(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    verified = repo.verify()
    repo.push(OTHER_FILES, "production")
    assert fetch(repo.store, verified).files[0].data == FILES["app.yaml"].encode()


def test_t04_the_tag_is_resolved_exactly_once(server: Registry, repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    server.requests.clear()
    fetch(repo.store, repo.verify())
    assert [entry.method for entry in server.requests.entries() if entry.target.endswith("/production")] == ["HEAD"]


def test_t04_a_changed_layer_byte_is_refused(server: Registry, repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    changed = built.layer[:-1] + bytes([built.layer[-1] ^ 1])
    server.replace_blob(built.layer_descriptor.digest, changed)
    with pytest.raises(Refused):
        fetch(repo.store, repo.verify())


def test_t04_another_sound_layer_of_the_same_size_is_refused(server: Registry, repo: SignedRepository) -> None:
    def plain(content: str) -> bytes:
        return gzip.compress(write_tar(tree_of({"app.yaml": content}).files), 0, mtime=0)

    honest, evil = plain("kind: A\n"), plain("kind: B\n")
    built = artifact({"app.yaml": "kind: A\n"})
    layer = Descriptor(built.layer_descriptor.media_type, sha256_digest(honest), len(honest))
    raw = built.manifest_with_layer(layer)
    descriptor = Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw))
    repo.push(replace(built, manifest=raw, descriptor=descriptor, layer=honest, layer_descriptor=layer), "production")
    repo.sign(descriptor, CI)
    assert fetch(repo.store, repo.verify()).files[0].data == b"kind: A\n"
    assert len(evil) == len(honest)
    server.replace_blob(layer.digest, evil)
    with pytest.raises(Refused):
        fetch(repo.store, repo.verify())


def test_t04_a_changed_manifest_is_refused(server: Registry, repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    server.replace_manifest(
        "shop/config", built.descriptor.digest, built.manifest.replace(b'"schemaVersion":2', b'"schemaVersion": 2')
    )
    assert repo.judge().verdict.reason is VerdictReason.BAD_ARTIFACT


@pytest.mark.parametrize("format_", SignatureFormat)
def test_t05_signature_for_another_repository_is_refused(
    server: Registry, repo: SignedRepository, format_: SignatureFormat
) -> None:
    elsewhere = repo.claims(repository=f"{server.address}/shop/other")
    built = repo.push(FILES, "production")
    (repo.sign if format_ is SignatureFormat.BUNDLE else repo.sign_legacy)(built.descriptor, CI, elsewhere)
    verdict = repo.judge(load_policies([repo.policy(formats=["Bundle", "Legacy"])])).verdict
    assert verdict.reason is VerdictReason.WRONG_REPOSITORY
    assert "/shop/other, not for" in verdict.message


def test_t05_a_claimless_legacy_signature_of_another_repository_is_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign_legacy(built.descriptor, CI, repo.claims(repository=""), docker_reference="registry.example/other")
    verdict = repo.judge(load_policies([repo.policy(formats=["Legacy"])])).verdict
    assert verdict.reason is VerdictReason.WRONG_REPOSITORY


def test_t05_where_a_claim_may_be_missing_the_docker_reference_must_still_be_ours(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    lenient = load_policies([repo.policy(formats=["Legacy"], repositoryClaim={"mode": "IfPresent"})])
    repo.sign_legacy(built.descriptor, CI, repo.claims(repository=""), docker_reference="registry.example/other")
    assert repo.judge(lenient).verdict.reason is VerdictReason.WRONG_REPOSITORY
    repo.sign_legacy(built.descriptor, CI, repo.claims(repository=""))
    assert repo.judge(lenient).verdict.allowed


def test_t05_a_bundle_that_names_no_repository_is_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI, repo.claims(repository=""))
    assert repo.judge().verdict.reason is VerdictReason.WRONG_REPOSITORY


def test_t07_an_authority_without_a_key_makes_the_policy_invalid(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    trust = load_policies([repo.policy(authorities=[{"name": "anyone", "keyless": {}}])])
    assert repo.judge(trust).verdict.reason is VerdictReason.INVALID_POLICY


def test_t08_an_attestation_is_no_signature(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    statement = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{
            "name": repo.repository,
            "digest": {"sha256": built.descriptor.digest.removeprefix("sha256:")},
            "annotations": repo.claims(),
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    }  # fmt: skip
    repo.attach_bundle(built.descriptor, bundle_with(CI, statement).payload)
    verdict = repo.judge().verdict
    assert verdict.reason is VerdictReason.BAD_SIGNATURE
    assert "an attestation (https://slsa.dev/provenance/v1), not a signature" in verdict.message


def test_t09_a_flood_of_referrers_is_refused_and_says_why(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    for number in range(4):
        repo.attach_bundle(built.descriptor, b'{"junk": %d}' % number)
    few = EvidenceBudget(lambda: 0.0, manifests=2)
    assert repo.judge(budget=few).verdict.reason is VerdictReason.EVIDENCE_TRUNCATED


def test_t10_a_huge_bundle_is_not_read(server: Registry, repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    huge = b" " * (BUNDLE_BYTES + 1)
    repo.attach_bundle(built.descriptor, huge)
    repo.sign(built.descriptor, CI)
    server.requests.clear()
    assert repo.judge().verdict.allowed
    assert not any(sha256_digest(huge) in entry.target for entry in server.requests.entries())


def test_t11_a_foreign_bundle_does_not_hide_a_good_legacy_signature(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign_legacy(built.descriptor, CI)
    repo.sign(built.descriptor, signer("stranger"))
    assert repo.judge(load_policies([repo.policy(formats=["Bundle", "Legacy"])])).verdict.allowed


def test_t12_a_format_that_the_policy_does_not_list_does_not_count(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign_legacy(built.descriptor, CI)
    verdict = repo.judge().verdict
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.UNSIGNED)
    assert "in format Legacy; the policy accepts Bundle" in verdict.message


def test_t15_an_index_under_the_tag_is_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [built.descriptor.as_dict()]}).encode()
    repo.store.put_manifest(index, OCI_INDEX, "production")
    repo.sign(Descriptor(OCI_INDEX, sha256_digest(index), len(index)), CI)
    assert repo.judge().verdict.reason is VerdictReason.BAD_ARTIFACT


@pytest.mark.parametrize(
    "changes",
    [{"manifests": []}, {"mediaType": OCI_INDEX}, {"mediaType": None}, {"layers": []}],
    ids=["both", "index", "untyped", "nothing"],
)
def test_t15_a_manifest_that_others_read_as_something_else_is_refused(
    repo: SignedRepository, changes: dict[str, Any]
) -> None:
    built = artifact(FILES)
    raw = json.dumps({**json.loads(built.manifest), **changes}).encode()
    signed = EvidenceSet((bundle_of(CI, sha256_digest(raw), repo.claims()),))
    trust = load_policies([repo.policy()])
    judgement = reverify(raw, OCI_MANIFEST, signed, trust, repo.request(), now=NOW)
    assert (judgement.verdict.allowed, judgement.verdict.reason) == (False, VerdictReason.BAD_ARTIFACT)


def test_t15_a_manifest_served_with_another_type_than_it_states_is_refused(
    server: Registry, repo: SignedRepository
) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    server.faults.add(r"/manifests/sha256:", method="GET", count=None, action=Relabel({"Content-Type": OCI_INDEX}))
    assert repo.judge().verdict.reason is VerdictReason.BAD_ARTIFACT


def test_t17_a_signature_of_another_digest_is_refused(repo: SignedRepository) -> None:
    good, evil = repo.push(FILES), repo.push(OTHER_FILES, "production")
    repo.attach_bundle(evil.descriptor, bundle.make(CI, good.descriptor.digest, repo.claims()))
    assert repo.judge().verdict.reason is VerdictReason.WRONG_SUBJECT


def test_t17_two_subjects_are_refused_though_one_is_ours(repo: SignedRepository) -> None:
    good, evil = repo.push(FILES), repo.push(OTHER_FILES, "production")
    subjects = [
        {"digest": {"sha256": item.descriptor.digest.removeprefix("sha256:")}, "annotations": repo.claims()}
        for item in (good, evil)
    ]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
    }
    repo.attach_bundle(evil.descriptor, bundle_with(CI, statement).payload)
    assert repo.judge().verdict.reason is VerdictReason.BAD_SIGNATURE


def test_t18_two_readings_of_one_statement_are_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    made = json.loads(bundle.make(CI, built.descriptor.digest, repo.claims()))
    payload = base64.b64decode(made["dsseEnvelope"]["payload"])
    doubled = payload.replace(b'"predicate":{}', b'"predicate":{},"predicate":{}')
    repo.attach_bundle(built.descriptor, bundle_with(CI, doubled).payload)
    verdict = repo.judge().verdict
    assert verdict.reason is VerdictReason.BAD_SIGNATURE
    assert "duplicate key" in verdict.message


@pytest.mark.parametrize("part", ["bundle", "material", "envelope", "signature", "statement", "subject"])
def test_t18_a_field_that_nobody_defined_is_refused(repo: SignedRepository, part: str) -> None:
    """Another tool may read a second signature, subject or condition there."""
    built = repo.push(FILES, "production")
    payload = json.loads(statement(built.descriptor.digest, repo.claims()))
    if part in {"statement", "subject"}:
        (payload if part == "statement" else payload["subject"][0])["x"] = 1
    made = json.loads(bundle_with(CI, payload).payload)
    envelope = made["dsseEnvelope"]
    outer = {
        "bundle": made,
        "material": made["verificationMaterial"],
        "envelope": envelope,
        "signature": envelope["signatures"][0],
    }
    if part in outer:
        outer[part]["x"] = 1
    repo.attach_bundle(built.descriptor, json.dumps(made).encode())
    verdict = repo.judge().verdict
    assert verdict.reason is VerdictReason.BAD_SIGNATURE
    assert "unknown field 'x'" in verdict.message


def test_t18_a_signature_copied_in_another_encoding_is_still_one_signer(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    made = repo.sign(built.descriptor, CI)
    repo.attach_bundle(built.descriptor, made + b"\n")
    trust = load_policies([repo.policy(by=("ci", "release"), threshold=2)])
    assert repo.judge(trust).verdict.reason is VerdictReason.BELOW_THRESHOLD


def test_t20_a_lost_signature_is_a_missing_signature(repo: SignedRepository) -> None:
    repo.push(FILES, "production")
    assert repo.judge().verdict.reason is VerdictReason.UNSIGNED


class LosingStore(MemoryStore):
    """Takes a signature, says yes, and has other bytes when asked for it."""

    def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        data = super().blob(descriptor, max_bytes=max_bytes)
        return data[:-1] + b" " if descriptor.media_type == BUNDLE_V03 else data


def test_t20_a_signature_that_does_not_read_back_is_not_reported_as_made() -> None:
    built = artifact(FILES)
    for store in (MemoryStore(), LosingStore()):
        store.put_blob(built.config_descriptor, built.config)
        store.put_blob(built.layer_descriptor, built.layer)
        store.put_manifest(built.manifest, OCI_MANIFEST, built.descriptor.digest)
        if isinstance(store, LosingStore):
            with pytest.raises(Unavailable):
                sign_bundle(store, built.descriptor, CI, claims(), NOW)
        else:
            assert sign_bundle(store, built.descriptor, CI, claims(), NOW).made


def test_t22_a_stolen_key_is_denied_and_stops_every_write(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    verdict = repo.judge(load_policies([repo.policy(deny={"keys": [CI.fingerprint]})])).verdict
    assert (verdict.reason, verdict.distrusted) == (VerdictReason.DENIED, True)


def test_t22_two_signers_are_needed_where_the_policy_says_two(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    trust = load_policies([repo.policy(by=("ci", "release"), threshold=2)])
    assert repo.judge(trust).verdict.reason is VerdictReason.BELOW_THRESHOLD
    repo.sign(built.descriptor, signer("release"))
    assert repo.judge(trust).verdict.signers == ("ci", "release")


def test_t23_unsigned_annotations_decide_nothing(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    made = bundle.make(CI, built.descriptor.digest, repo.claims(tags="", repository=""))
    document = json.loads(bundle.bundle_manifest(made, built.descriptor, NOW)[0])
    document["annotations"] = {**repo.claims(), CREATED_ANNOTATION: "2036-01-01T00:00:00Z"}
    repo.attach_bundle(built.descriptor, made)
    repo.store.attach(json.dumps(document).encode(), built.descriptor)
    assert repo.judge().verdict.reason is VerdictReason.WRONG_REPOSITORY


def test_t25_a_signed_digest_under_another_tag_is_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "staging", "production")
    repo.sign(built.descriptor, CI, repo.claims(tags="staging"))
    assert repo.judge(tag="staging").verdict.allowed
    verdict = repo.judge(tag="production").verdict
    assert verdict.reason is VerdictReason.WRONG_TAG
    assert "for the tags 'staging', not for 'production'" in verdict.message


@pytest.mark.parametrize("signed", ["", "productions", "pre-production", "prod uction"])
def test_t25_a_signature_for_no_tag_or_a_longer_one_is_refused(repo: SignedRepository, signed: str) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI, repo.claims(tags=signed))
    assert repo.judge().verdict.reason is VerdictReason.WRONG_TAG


def test_t25_an_immutable_tag_that_led_elsewhere_is_refused(repo: SignedRepository) -> None:
    first = repo.push(FILES, "1.2.3")
    second = repo.push(OTHER_FILES, "1.2.3")
    repo.sign(second.descriptor, CI, repo.claims(tags="1.2.3"))
    verdict = repo.judge(tag="1.2.3", accepted_digest=first.descriptor.digest).verdict
    assert verdict.reason is VerdictReason.TAG_MUTATED
    assert repo.judge(tag="1.2.3", accepted_digest=second.descriptor.digest).verdict.allowed


def test_t26_one_stolen_key_of_two_cannot_roll_back(repo: SignedRepository) -> None:
    old = repo.push(OTHER_FILES, "production")
    for by in ("ci", "release"):
        repo.sign(old.descriptor, signer(by), repo.claims(sequence=str(SEQUENCE - 100)))
    repo.sign(old.descriptor, CI, repo.claims(sequence=str(SEQUENCE + 100)))
    trust = load_policies([repo.policy(by=("ci", "release"), threshold=2)])
    verdict = repo.judge(trust, watermark=SEQUENCE).verdict
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.BELOW_THRESHOLD)


def test_t26_one_stolen_key_of_two_cannot_raise_the_watermark(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    for by in ("ci", "release"):
        repo.sign(built.descriptor, signer(by))
    repo.sign(built.descriptor, CI, repo.claims(sequence=str(SEQUENCE + 100)))
    verdict = repo.judge(load_policies([repo.policy(by=("ci", "release"), threshold=2)])).verdict
    assert (verdict.allowed, verdict.sequence) == (True, SEQUENCE)


def test_t26_a_sequence_from_the_future_cannot_lock_out_honest_ones(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI, repo.claims(sequence=str(int(NOW.timestamp()) + 7_200)))
    assert repo.judge().verdict.reason is VerdictReason.ROLLED_BACK


def test_t27_the_same_key_as_two_authorities_is_an_invalid_policy(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    twice = [{"name": name, "key": {"pem": CI.public.pem}} for name in ("one", "two")]
    verdict = repo.judge(load_policies([repo.policy(authorities=twice, threshold=2)])).verdict
    assert verdict.reason is VerdictReason.INVALID_POLICY
    assert "are the same key" in verdict.message


def test_t28_a_narrow_policy_does_not_switch_off_a_broad_deny_list(server: Registry, repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    host: dict[str, Any] = {"match": [{"repository": f"{server.address}/*"}]}
    broad = policy("broad", **host, deny={"digests": [built.descriptor.digest]})
    verdict = repo.judge(load_policies([repo.policy(), broad])).verdict
    assert (verdict.reason, verdict.distrusted) == (VerdictReason.DENIED, True)


def test_t28_an_invalid_policy_never_yields_to_a_broader_one(server: Registry, repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    broad = policy("broad", match=[{"repository": f"{server.address}/*"}])
    verdict = repo.judge(load_policies([repo.policy(thresold=2), broad])).verdict
    assert verdict.reason is VerdictReason.INVALID_POLICY


def test_t28_the_same_pattern_in_two_policies_makes_both_invalid(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    second = policy("second", match=[{"repository": repo.repository}])
    assert repo.judge(load_policies([repo.policy(), second])).verdict.reason is VerdictReason.INVALID_POLICY


@pytest.mark.parametrize("mode", ["Enforce", "Warn"])
def test_t28_a_narrow_policy_does_not_switch_off_a_floor(server: Registry, repo: SignedRepository, mode: str) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    host: dict[str, Any] = {"match": [{"repository": f"{server.address}/*"}]}
    floor = policy("floor", by=("release",), floor=True, **host)
    verdict = repo.judge(load_policies([repo.policy(mode=mode), floor])).verdict
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.UNKNOWN_SIGNER)


def test_t28_mode_warn_does_not_switch_off_a_deny_list(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    verdict = repo.judge(load_policies([repo.policy(mode="Warn", deny={"digests": [built.descriptor.digest]})])).verdict
    assert (verdict.allowed, verdict.distrusted) == (False, True)


def test_t29_a_typo_in_a_policy_is_refused_with_its_path(repo: SignedRepository) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    trust = load_policies([repo.policy(rollback={"maxage": "1h"})])
    assert "spec.rollback.maxage: unknown field" in repo.judge(trust).verdict.message
    assert trust.unusable == {"shop": "spec.rollback.maxage: unknown field"}


@pytest.mark.parametrize("policies", ["none", "broken"])
def test_t33_without_a_usable_policy_nobody_is_asked_anything(
    server: Registry, repo: SignedRepository, policies: str
) -> None:
    repo.sign(repo.push(FILES, "production").descriptor, CI)
    trust = load_policies([] if policies == "none" else [policy(match="everything")])
    server.requests.clear()
    verdict = repo.judge(trust).verdict
    assert verdict.reason is (VerdictReason.NO_POLICY if policies == "none" else VerdictReason.INVALID_POLICY)
    assert server.requests.entries() == ()


# Saved bytes are judged like fetched ones ---------------------------------------------------------------------------


def test_saved_evidence_is_judged_again_without_the_registry(server: Registry, repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    trust = load_policies([repo.policy()])
    evidence = repo.judge(trust).evidence
    server.stop()
    request = repo.request()
    judgement = reverify(built.manifest, OCI_MANIFEST, evidence, trust, request, now=NOW)
    assert require(judgement, request).digest == built.descriptor.digest


def test_a_saved_manifest_that_was_changed_is_refused(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    trust = load_policies([repo.policy()])
    evidence = repo.judge(trust).evidence
    request = repo.request(digest=built.descriptor.digest)
    changed = built.manifest.replace(b'"schemaVersion":2', b'"schemaVersion": 2')
    assert (
        reverify(changed, OCI_MANIFEST, evidence, trust, request, now=NOW).verdict.reason is VerdictReason.BAD_ARTIFACT
    )
    unpinned = reverify(changed, OCI_MANIFEST, evidence, trust, repo.request(), now=NOW)
    assert unpinned.verdict.reason is VerdictReason.WRONG_SUBJECT


def test_saved_evidence_does_not_survive_a_changed_policy(repo: SignedRepository) -> None:
    built = repo.push(FILES, "production")
    repo.sign(built.descriptor, CI)
    evidence = repo.judge().evidence
    stricter = load_policies([repo.policy(by=("release",))])
    judgement = reverify(built.manifest, OCI_MANIFEST, evidence, stricter, repo.request(), now=NOW)
    assert judgement.verdict.reason is VerdictReason.UNKNOWN_SIGNER
    none = reverify(built.manifest, OCI_MANIFEST, EvidenceSet(()), stricter, repo.request(), now=NOW)
    assert none.verdict.reason is VerdictReason.UNSIGNED


def test_a_digest_source_is_verified_without_any_tag(repo: SignedRepository) -> None:
    built = repo.push(FILES)
    repo.sign(built.descriptor, CI, repo.claims(tags=""))
    verified = repo.verify(tag="", kind=SelectorKind.DIGEST, digest=built.descriptor.digest)
    assert (verified.digest, verified.tag) == (built.descriptor.digest, "")
