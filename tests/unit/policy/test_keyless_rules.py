"""Keyless authorities: what may be written, whom it admits, and how signers are counted."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ocisync.flows.trust import TrustSet, load_policies
from ocisync.model.artifact import VerdictReason
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import Evidence, Identity, RootProof, SignatureFormat
from ocisync.policy.evaluate import judge
from ocisync.policy.keyless import CLAIM_NAMES
from ocisync.policy.rules import parse_policy
from ocisync.signing.certificate import CLAIMS
from tests.support.minisigstore import GITHUB, WORKFLOW, MiniSigstore, Wish
from tests.support.trust import DIGEST, NOW, SEQUENCE, bundle_of, claims, judged, policy, signer, subject

HERE = MiniSigstore()
ELSEWHERE = MiniSigstore()
REPO = {"sourceRepository": "https://github.com/acme/shop"}
REF = {"trustedRootRef": {"name": "root"}}
GLOB = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*"
RELEASE: dict[str, Any] = {"issuer": GITHUB, "subjectGlob": GLOB, "claims": REPO, **REF}
DEV: dict[str, Any] = {"issuer": "https://accounts.example", "subject": "dev@example.com", **REF}


def keyless(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A policy with keyless authorities a, b, …"""
    return policy(
        authorities=[{"name": name, "keyless": rule} for name, rule in zip("abc", rules, strict=False)], **spec
    )


def trust(*documents: dict[str, Any], **roots: bytes) -> TrustSet:
    known = {"root": HERE.root_bytes(), **roots}

    def read(name: str) -> dict[str, bytes] | None:
        return {"trusted_root.json": known[name]} if name in known else None

    return load_policies(documents, read_root=read)


def test_the_names_of_claims_are_those_that_certificates_have() -> None:
    assert sorted(CLAIMS) == list(CLAIM_NAMES)


@pytest.mark.parametrize(
    ("problem", "rule"),
    [
        ("keyless.issuer: required", {}),
        ("set exactly one of subject, subjectGlob", {"issuer": GITHUB, **REF}),
        ("set exactly one of subject, subjectGlob", {**RELEASE, "subject": WORKFLOW}),
        ("keyless.issuer: 'token.example' is no exact URL", {**RELEASE, "issuer": "token.example"}),
        ("is no exact URL", {**RELEASE, "issuer": "https://*.example"}),
        ("is no exact URL", {**RELEASE, "issuer": "https://a b"}),
        ("is no exact URL", {**RELEASE, "issuer": "https://["}),
        ("taken literally", {**DEV, "subject": "*@example.com"}),
        ("leaves the mail domain open", {"issuer": DEV["issuer"], "subjectGlob": "dev@*", **REF}),
        ("leaves the beginning open", {"issuer": DEV["issuer"], "subjectGlob": "*", **REF}),
        ("leaves the scheme and host open", {**RELEASE, "subjectGlob": "https://*/acme/x"}),
        ("leaves the scheme and host open", {**RELEASE, "subjectGlob": "*://github.com/acme/x"}),
        ("leaves the scheme and host open", {**RELEASE, "subjectGlob": "https:/*/*/acme/x"}),
        ("leaves the scheme and host open", {**RELEASE, "subjectGlob": "*//*/acme/ci.yml@refs/heads/main"}),
        ("not printable", {**DEV, "subject": "dev\n@example.com"}),
        ("trustedRootRef.name: required", {"issuer": DEV["issuer"], "subject": "dev@example.com"}),
        ("keyless.claims.sourceRepo: unknown field", {**RELEASE, "claims": {"sourceRepo": "x"}}),
        ("keyless.subjectRegExp: unknown field", {**RELEASE, "subjectRegExp": ".*"}),
        ("not for which repository it ran", {"issuer": GITHUB, "subjectGlob": GLOB, **REF}),
        ("not for which repository it ran", {"issuer": GITHUB, "subject": "repo:acme/shop", **REF}),
        ("not for which repository it ran", {"issuer": "https://ghe.example", "subjectGlob": GLOB, **REF}),
        ("not for which repository it ran",
         {"issuer": "https://ghe.example", "subjectGlob": "https://github.com/acme/shop/*/*/*", **REF}),
        ("not for which repository it ran",
         {"issuer": "https://ghe.example", "subjectGlob": "https://git.example/acme/*@refs/heads/main", **REF}),
        ("not for which repository it ran",
         {"issuer": "https://gitlab.com", "subjectGlob": "https://gitlab.com/acme/shop//ci.yml@*", **REF}),
    ],
)  # fmt: skip
def test_a_rule_that_names_nobody_or_too_many_is_refused(problem: str, rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_policy(keyless(rule))
    assert problem in refused.value.message


@pytest.mark.parametrize("authority", [{}, {"key": {"pem": "x"}, "keyless": DEV}])
def test_an_authority_is_a_key_or_an_identity(authority: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="set exactly one of key, keyless"):
        parse_policy(policy(authorities=[{"name": "a", **authority}]))


@pytest.mark.parametrize(
    ("subject", "repository"),
    [
        (WORKFLOW, "https://github.com/acme/shop"),
        ("https://gitlab.example/a/b/c//.gitlab-ci.yml@refs/heads/main", "https://gitlab.example/a/b/c"),
    ],
)
def test_an_exact_workflow_implies_that_it_ran_for_its_own_repository(subject: str, repository: str) -> None:
    rules = parse_policy(keyless({"issuer": "https://ci.example", "subject": subject, **REF}))
    assert rules.authorities[0].keyless is not None
    assert rules.authorities[0].keyless.claims == (("sourceRepository", repository),)


def test_a_release_of_the_repository_is_verified() -> None:
    verdict = judged(trust(keyless(RELEASE)), HERE.sign(DIGEST, claims()))
    assert (verdict.reason, verdict.signers, verdict.sequence) == (VerdictReason.VERIFIED, ("a",), SEQUENCE)


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        (Wish(issuer="https://accounts.example"), "wants the issuer"),
        (Wish(subject=WORKFLOW.replace("release.yml", "test.yml")), "wants a subject like"),
        (Wish(subject=WORKFLOW.replace("tags/v", "heads/v")), "wants a subject like"),
        (Wish(subject=WORKFLOW + "/evil"), "wants a subject like"),
        (Wish(claims={"sourceRepository": "https://github.com/evil/shop"}), "wants sourceRepository"),
        (Wish(claims={}), "which is not stated"),
    ],
    ids=["issuer", "workflow", "branch", "deeper", "foreign repository", "no repository"],
)
def test_another_identity_is_an_unknown_signer_and_the_difference_is_told(wish: Wish, wanted: str) -> None:
    verdict = judged(trust(keyless(RELEASE)), HERE.sign(DIGEST, claims(), wish))
    assert verdict.reason is VerdictReason.UNKNOWN_SIGNER
    assert wanted in verdict.message


def test_the_same_identity_under_another_trusted_root_does_not_count() -> None:
    documents = keyless(RELEASE), keyless({**DEV, "trustedRootRef": {"name": "other"}})
    documents[1]["metadata"]["name"], documents[1]["spec"]["floor"] = "floor", True
    documents[1]["spec"]["match"] = [{"repository": "registry.example/*"}]
    loaded = trust(*documents, other=ELSEWHERE.root_bytes())
    assert len(loaded.roots_for(subject().repository)) == 2
    stranger = ELSEWHERE.sign(DIGEST, claims())
    verdict = judged(loaded, stranger)
    assert verdict.reason is VerdictReason.UNKNOWN_SIGNER
    assert "wants another trusted root" in verdict.message


def test_claims_of_the_signature_are_judged_as_with_keys() -> None:
    verdict = judged(trust(keyless(RELEASE)), HERE.sign(DIGEST, claims(repository="registry.example/shop/other")))
    assert verdict.reason is VerdictReason.WRONG_REPOSITORY
    assert verdict.message.startswith("signed by a, but for the repository")


def test_one_identity_that_two_authorities_admit_is_one_signer() -> None:
    wide = {"issuer": DEV["issuer"], "subjectGlob": "*@example.com", **REF}
    loaded = trust(keyless(DEV, wide, threshold=2))
    dev = HERE.sign(DIGEST, claims(), Wish(issuer=DEV["issuer"], subject="dev@example.com", claims={}))
    ops = HERE.sign(DIGEST, claims(), Wish(issuer=DEV["issuer"], subject="ops@example.com", claims={}))
    assert judged(loaded, dev, dev).reason is VerdictReason.BELOW_THRESHOLD
    assert judged(loaded, ops, dev).signers == ("a", "b")


def test_the_same_identity_twice_is_an_invalid_policy() -> None:
    loaded = trust(keyless(DEV, {**DEV, "trustedRootRef": {"name": "again"}}), again=HERE.root_bytes())
    assert "'a' and 'b' are the same identity" in loaded.unusable["shop"]


def test_a_key_and_an_identity_count_together() -> None:
    ci = {"name": "ci", "key": {"pem": signer("ci").public.pem}}
    loaded = trust(policy(authorities=[ci, {"name": "a", "keyless": RELEASE}], threshold=2))
    mine = HERE.sign(DIGEST, claims())
    assert not judged(loaded, mine).allowed
    assert judged(loaded, mine, bundle_of(signer("ci"))).signers == ("a", "ci")


def test_a_keyless_signature_beside_a_policy_of_keys_says_what_it_is() -> None:
    verdict = judged([policy()], HERE.sign(DIGEST, claims()))
    assert verdict.reason is VerdictReason.UNKNOWN_SIGNER
    assert "made with a certificate, and no authority of the policy is keyless" in verdict.message


def test_a_keyless_policy_says_how_to_sign_for_it() -> None:
    verdict = judged(trust(keyless(DEV)))
    assert verdict.hint.startswith("sign it as a: cosign sign --yes -a dev.ocisync.repository=")
    assert "--key" not in verdict.hint


@pytest.mark.parametrize(
    ("problem", "roots"),
    [
        ("neither a Secret nor a ConfigMap", None),
        ("0 entries named *.json", {"root.pem": b""}),
        ("2 entries named *.json", {"a.json": b"", "b.json": b""}),
        ("not a trusted root that can be used", {"trusted_root.json": b"{}"}),
    ],
)
def test_a_root_that_cannot_be_read_makes_the_policy_invalid(problem: str, roots: dict[str, bytes] | None) -> None:
    loaded = load_policies([keyless(DEV)], read_root=lambda name: roots)
    assert problem in loaded.unusable["shop"]
    assert not loaded.roots


def test_without_the_library_a_keyless_policy_is_invalid_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore", None)  # as if it were not installed
    keys = policy("keys", match=[{"repository": "registry.example/keys"}])
    loaded = trust(keyless(DEV), keys)
    assert set(loaded.unusable) == {"shop"}
    assert "the extra ocisync[keyless]" in loaded.unusable["shop"]
    assert judged(loaded, HERE.sign(DIGEST, claims())).reason is VerdictReason.INVALID_POLICY


@pytest.mark.parametrize("field", ["requireTimestamp", "requireTransparencyLog"])
def test_what_only_keyless_signatures_prove_cannot_be_required_of_keys(field: str) -> None:
    required: dict[str, Any] = {field: True}
    with pytest.raises(InvalidInput, match=f"{field}: 1 authorities are required, and only 0 can satisfy it"):
        parse_policy(policy(**required))
    assert parse_policy(keyless(DEV, **required)).keyless_only


def test_keyless_signatures_are_bundles() -> None:
    with pytest.raises(InvalidInput, match="keyless signatures are bundles"):
        parse_policy(keyless(DEV, formats=["Legacy"]))


def test_a_required_log_is_satisfied_by_identities_and_not_by_keys() -> None:
    ci = {"name": "ci", "key": {"pem": signer("ci").public.pem}}
    loaded = trust(policy(authorities=[ci, {"name": "a", "keyless": RELEASE}], requireTransparencyLog=True))
    assert judged(loaded, bundle_of(signer("ci"))).reason is VerdictReason.NOT_LOGGED
    assert judged(loaded, HERE.sign(DIGEST, claims())).signers == ("a",)


@pytest.mark.parametrize("timestamped", [True, False])
def test_a_required_timestamp_is_what_the_authoritys_own_root_proves(timestamped: bool) -> None:
    loaded = trust(keyless(DEV, requireTimestamp=True))
    root = loaded.roots[0].fingerprint
    proofs = (RootProof("sha256:" + "0" * 64, True), RootProof(root, timestamped))
    identity = Identity(DEV["issuer"], "dev@example.com", (), proofs)
    found = Evidence(
        "sha256:x", SignatureFormat.BUNDLE, identity.signer, DIGEST, "https://sigstore.dev/cosign/sign/v1",
        tuple(sorted(claims().items())), identity=identity, certified=True,
    )  # fmt: skip
    verdict = judge(loaded.select(subject().repository), [found], subject(), NOW, 0)
    assert verdict.allowed is timestamped
    assert timestamped or verdict.reason is VerdictReason.NO_TIMESTAMP
