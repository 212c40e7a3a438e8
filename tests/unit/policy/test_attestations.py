"""Attestations that a policy requires: which count, and what a person is told when none does."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.flows.trust import load_policies, trust_keys, with_attestations
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import Evidence, Identity, RawSignature, RootProof, SignatureFormat
from ocisync.policy.attestations import Attested, judge_attestations
from ocisync.policy.explain import render_text
from ocisync.policy.predicates import Condition
from ocisync.policy.requirements import Context
from ocisync.policy.rules import parse_policy, with_fingerprints
from tests.support.trust import (
    DIGEST,
    NOW,
    OTHER_DIGEST,
    REPOSITORY,
    bundle_of,
    bundle_with,
    claims,
    judged,
    legacy_of,
    policy,
    signer,
    subject,
)

CI = signer("ci")
SLSA = "https://slsa.dev/provenance/v1"
SOURCE = "git+https://github.com/acme/shop@refs/tags/v1.4.0"
PREDICATE: dict[str, Any] = {
    "buildDefinition": {"buildType": "x:y", "resolvedDependencies": [{"uri": SOURCE}]},
    "runDetails": {"builder": {"id": "https://build.example/a"}, "metadata": {"count": 3, "a/b": {"m~n": "odd"}}},
}
RULE: dict[str, Any] = {"predicateType": SLSA, "authorities": ["ci"]}
FROM_TAG = {
    "path": "/buildDefinition/resolvedDependencies/0/uri",
    "glob": "git+https://github.com/acme/shop@refs/tags/*",
}


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": REPOSITORY, "digest": {"sha256": DIGEST.removeprefix("sha256:")}}],
        "predicateType": SLSA,
        "predicate": PREDICATE,
        **changes,
    }


def attestation(by: str = "ci", **changes: Any) -> RawSignature:
    return bundle_with(signer(by), statement(**changes))


def judge(
    *evidence: RawSignature, rules: list[dict[str, Any]] | None = None, by: tuple[str, ...] = ("ci",), **spec: Any
) -> Verdict:
    return judged([policy(by=by, attestations=[RULE] if rules is None else rules, **spec)], *evidence)


def with_where(*conditions: dict[str, str]) -> list[dict[str, Any]]:
    return [{**RULE, "where": list(conditions)}]


# What counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"])
def test_a_signature_and_an_attestation_by_the_authority_are_enough(kind: str) -> None:
    verdict = judge(bundle_of(CI), attestation(_type=kind), rules=with_where(FROM_TAG))
    assert (verdict.allowed, verdict.signers) == (True, ("ci",))
    assert "FAIL" not in render_text(verdict)
    assert f"attested by ci: {SLSA}" in render_text(verdict)


SIGNATURE_ONLY: list[tuple[str, list[RawSignature], str]] = [
    ("none", [], "none of that type was found"),
    ("a stranger's", [attestation("stranger")], "none of that type was found"),
    ("another type", [attestation(predicateType="https://slsa.dev/provenance/v0.2")], "none of that type was found"),
    ("another digest", [attestation(subject=[{"digest": {"sha256": OTHER_DIGEST[7:]}}])], "none of that type"),
    (
        "two subjects",
        [attestation(subject=[{"digest": {"sha256": one[7:]}} for one in (DIGEST, OTHER_DIGEST)])],
        "none of that type",
    ),
    ("a predicate that is no object", [attestation(predicate=[PREDICATE])], "none of that type was found"),
]


@pytest.mark.parametrize(
    ("evidence", "told"), [case[1:] for case in SIGNATURE_ONLY], ids=[case[0] for case in SIGNATURE_ONLY]
)
def test_a_signature_without_the_attestation_is_refused(evidence: list[RawSignature], told: str) -> None:
    verdict = judge(bundle_of(CI), *evidence)
    assert (verdict.allowed, verdict.reason, verdict.distrusted) == (False, VerdictReason.NO_ATTESTATION, False)
    assert verdict.message.startswith("signed by ci, but no attestation https://slsa.dev/provenance/v1 by ci counts")
    assert told in verdict.message
    assert verdict.hint == "push with --provenance"


def test_an_attestation_without_a_signature_is_refused_whatever_it_claims() -> None:
    claiming = [{"digest": {"sha256": DIGEST[7:]}, "annotations": claims()}]
    verdict = judge(attestation(subject=claiming))
    assert (verdict.allowed, verdict.reason) == (False, VerdictReason.BAD_SIGNATURE)
    assert "not a signature" in verdict.message


def test_a_signature_never_is_an_attestation() -> None:
    legacy = legacy_of(CI)
    verdict = judge(bundle_of(CI), legacy, rules=[{**RULE, "predicateType": "https://x.example/t"}])
    assert verdict.reason is VerdictReason.NO_ATTESTATION
    with pytest.raises(InvalidInput, match="is the type of signatures"):
        parse_policy(policy(attestations=[{**RULE, "predicateType": "https://sigstore.dev/cosign/sign/v1"}]))


def test_only_the_named_authorities_may_attest() -> None:
    both = ("ci", "scanner")
    evidence = (bundle_of(signer("ci")), attestation("ci"))
    rule = [{**RULE, "authorities": ["scanner"]}]
    refused = judge(*evidence, rules=rule, by=both)
    assert refused.reason is VerdictReason.NO_ATTESTATION
    assert "which is no authority of the policy" in refused.message
    assert judge(*evidence, attestation("scanner"), rules=rule, by=both).allowed


def test_conditions_are_never_combined_from_two_attestations() -> None:
    other = {**PREDICATE, "runDetails": {"builder": {"id": "https://build.example/b"}}}
    elsewhere = {**PREDICATE, "buildDefinition": {"resolvedDependencies": [{"uri": "git+https://evil.example/x@y"}]}}
    rules = with_where(FROM_TAG, {"path": "/runDetails/builder/id", "equals": "https://build.example/a"})
    halves = (attestation(predicate=other), attestation(predicate=elsewhere))
    verdict = judge(bundle_of(CI), *halves, rules=rules)
    assert verdict.reason is VerdictReason.NO_ATTESTATION
    assert "/runDetails/builder/id is 'https://build.example/b'" in verdict.message  # the nearest
    assert judge(bundle_of(CI), *halves, attestation(), rules=rules).allowed


def test_every_requirement_must_be_met() -> None:
    rules = [RULE, {"predicateType": "https://cyclonedx.org/bom", "authorities": ["ci"]}]
    sbom = attestation(predicateType="https://cyclonedx.org/bom", predicate={})
    assert "cyclonedx" in judge(bundle_of(CI), attestation(), rules=rules).message
    assert judge(bundle_of(CI), attestation(), sbom, rules=rules).allowed


def test_an_attestation_by_a_denied_key_does_not_count() -> None:
    evidence = (bundle_of(signer("release")), attestation("ci"))
    denied = {"keys": [signer("ci").fingerprint]}
    verdict = judge(*evidence, by=("ci", "release"), deny=denied)
    assert verdict.reason is VerdictReason.NO_ATTESTATION
    assert "denied key" in verdict.message


def test_claims_that_an_attestation_has_are_held() -> None:
    def claiming(**changes: str) -> RawSignature:
        noted = {f"dev.ocisync.{name}": value for name, value in changes.items()}
        return attestation(subject=[{"digest": {"sha256": DIGEST[7:]}, "annotations": noted}])

    past = str(int((NOW - timedelta(hours=1)).timestamp()))
    assert "expired" in judge(bundle_of(CI), claiming(expires=past)).message
    assert "not for" in judge(bundle_of(CI), claiming(repository="registry.example/other")).message
    assert judge(bundle_of(CI), claiming(repository=REPOSITORY)).allowed


def test_truncated_evidence_is_named_as_such() -> None:
    trust = load_policies([policy(attestations=[RULE])])
    assert judged(trust, bundle_of(CI), truncated=True).reason is VerdictReason.EVIDENCE_TRUNCATED
    assert judged(trust, bundle_of(CI), attestation(), truncated=True).allowed


def test_a_floor_requires_its_own_attestations() -> None:
    floor = {**policy("floor", attestations=[RULE]), "spec": {**policy(attestations=[RULE])["spec"], "floor": True}}
    floor["spec"]["match"] = [{"repository": "registry.example/*"}]
    assert judged([policy(), floor], bundle_of(CI)).reason is VerdictReason.NO_ATTESTATION
    assert judged([policy(), floor], bundle_of(CI), attestation()).allowed


def test_warn_lets_it_pass_and_says_so() -> None:
    verdict = judge(bundle_of(CI), mode="Warn")
    assert (verdict.allowed, verdict.reason) == (True, VerdictReason.NO_ATTESTATION)


# Asked for on the command line ----------------------------------------------------------------------------------


def test_keys_can_be_asked_for_attestations() -> None:
    trust = with_attestations(trust_keys([CI.public], REPOSITORY), REPOSITORY, [SLSA])
    assert judged(trust, bundle_of(CI)).reason is VerdictReason.NO_ATTESTATION
    assert judged(trust, bundle_of(CI), attestation()).allowed


def test_asking_adds_to_what_the_policy_requires() -> None:
    trust = load_policies([policy(attestations=[RULE])])
    asked = with_attestations(trust, REPOSITORY, ["https://openvex.dev/ns"])
    assert "openvex" in judged(asked, bundle_of(CI), attestation()).message
    assert judged(trust, bundle_of(CI), attestation()).allowed
    assert with_attestations(trust, "other.example/x", [SLSA]) is trust  # nothing to allow there anyway


# Conditions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({"path": "/runDetails/builder/id", "equals": "https://build.example/a"}, True),
        ({"path": "/runDetails/builder/id", "equals": "https://build.example/A"}, False),
        ({"path": "/runDetails/builder/id", "glob": "https://*/a"}, True),
        ({"path": "/runDetails/builder/id", "glob": "https:*"}, False),
        ({"path": "/runDetails/metadata/a~1b/m~0n", "equals": "odd"}, True),
        ({"path": "/runDetails/metadata/a/b", "equals": "odd"}, False),
        ({"path": "/runDetails/metadata/count", "equals": "3"}, False),
        ({"path": "/runDetails/builder", "glob": "*"}, False),
        ({"path": "/runDetails/nothing", "equals": ""}, False),
        ({"path": "/buildDefinition/resolvedDependencies/1/uri", "glob": "*"}, False),
        ({"path": "/buildDefinition/resolvedDependencies/00/uri", "equals": SOURCE}, False),
        ({"path": "/buildDefinition/resolvedDependencies/-1/uri", "equals": SOURCE}, False),
        ({"path": "/buildDefinition/resolvedDependencies/-/uri", "equals": SOURCE}, False),
        ({"path": "/buildDefinition/resolvedDependencies/٠/uri", "equals": SOURCE}, False),
        ({"path": "/buildDefinition/resolvedDependencies/0/uri", "equals": SOURCE}, True),
        ({"path": "/buildDefinition/buildType/0", "equals": "x"}, False),
    ],
)
def test_a_condition_looks_at_one_text(condition: dict[str, str], matches: bool) -> None:
    assert judge(bundle_of(CI), attestation(), rules=with_where(condition)).allowed is matches


@pytest.mark.parametrize(
    ("problem", "rule"),
    [
        ("spec.attestations[0].predicateType: required", {"predicateType": None}),
        ("spec.attestations[0].predicateType: 'slsaprovenance1' is no URI", {"predicateType": "slsaprovenance1"}),
        ("is no URI", {"predicateType": "https://a b"}),
        ("spec.attestations[0].authorities: required", {"authorities": []}),
        ("spec.attestations[0].authorities[0]: 'cd' is no authority", {"authorities": ["cd"]}),
        ("is named twice", {"authorities": ["ci", "ci"]}),
        ("spec.attestations[0].were: unknown field", {"were": []}),
        ("spec.attestations[0].where[0].paths: unknown field", {"where": [{"paths": "/a", "equals": "b"}]}),
        ("spec.attestations[0].where[0].path: required", {"where": [{"equals": "b"}]}),
        ("is no JSON pointer", {"where": [{"path": "a/b", "equals": "b"}]}),
        ("is no JSON pointer", {"where": [{"path": "/a~2", "equals": "b"}]}),
        ("is no JSON pointer", {"where": [{"path": "/a~", "equals": "b"}]}),
        ("is no JSON pointer", {"where": [{"path": "/a\nb", "equals": "b"}]}),
        ("exactly one of equals, glob", {"where": [{"path": "/a"}]}),
        ("exactly one of equals, glob", {"where": [{"path": "/a", "equals": "b", "glob": "b"}]}),
        ("where[0].equals: expected a string, found a number", {"where": [{"path": "/a", "equals": 3}]}),
        ("where[0].glob: required", {"where": [{"path": "/a", "glob": ""}]}),
        ("spec.attestations[0]: expected an object", "x"),
    ],
)
def test_a_wrong_requirement_is_refused(problem: str, rule: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_policy(policy(attestations=[{**RULE, **rule} if isinstance(rule, dict) else rule]))
    assert problem in refused.value.message


def test_a_requirement_that_nothing_can_meet_is_refused() -> None:
    with pytest.raises(InvalidInput, match="attestations are bundles"):
        parse_policy(policy(attestations=[RULE], formats=["Legacy"]))
    keyless = {
        "name": "workflow",
        "keyless": {
            "issuer": "https://i.example",
            "subject": "dev@example.com",
            "trustedRootRef": {"name": "r"},
        },
    }
    key = {"name": "ci", "key": {"pem": CI.public.pem}}
    with pytest.raises(InvalidInput, match="none of them is keyless"):
        parse_policy(policy(authorities=[keyless, key], attestations=[RULE], requireTransparencyLog=True))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.text(max_size=12), st.text(max_size=6))
def test_no_predicate_and_no_path_makes_a_condition_fail_loudly(
    predicate: dict[str, Any], path: str, text: str
) -> None:
    for condition in (Condition("/" + path, equals=text), Condition("/" + path, glob=text)):
        assert isinstance(condition.mismatch(predicate), str)


def _texts(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(path, value)]
    if isinstance(value, dict):
        pairs = [(key.replace("~", "~0").replace("/", "~1"), item) for key, item in value.items()]
    else:
        pairs = [(str(index), item) for index, item in enumerate(value)] if isinstance(value, list) else []
    return [found for key, item in pairs for found in _texts(item, f"{path}/{key}")]


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_every_text_of_a_predicate_is_found_by_its_pointer_and_by_no_other_value(predicate: dict[str, Any]) -> None:
    for path, text in _texts(predicate):
        assert Condition(path, equals=text).mismatch(predicate) == ""
        assert Condition(path, equals=text + "x").mismatch(predicate) != ""


@given(JSON.filter(lambda value: not isinstance(value, dict)), st.binary(max_size=40))
def test_no_statement_without_an_object_as_predicate_counts(predicate: Any, junk: bytes) -> None:
    if predicate is not None:
        assert not judge(bundle_of(CI), attestation(predicate=predicate)).allowed
    assert not judge(bundle_of(CI), bundle_with(CI, junk)).allowed


def test_duplicate_keys_are_no_way_to_say_two_things() -> None:
    text = json.dumps(statement()).replace('"predicate":', '"predicate": {}, "predicate":')
    assert not judge(bundle_of(CI), bundle_with(CI, text.encode())).allowed


@pytest.mark.parametrize(
    ("field", "told"), [("requireTimestamp", "timestamp"), ("requireTransparencyLog", "transparency log")]
)
def test_what_is_asked_of_every_maker_is_asked_of_attestations(field: str, told: str) -> None:
    keyless = {
        "issuer": "https://i.example",
        "subject": "dev@example.com",
        "trustedRootRef": {"name": "r"},
    }
    authorities = [{"name": "dev", "keyless": keyless}, {"name": "ci", "key": {"pem": CI.public.pem}}]
    asked: dict[str, Any] = {field: True, "attestations": [{**RULE, "authorities": ["dev", "ci"]}]}
    rules = parse_policy(policy(authorities=authorities, **asked))
    rules = with_fingerprints(rules, {"dev": "root", "ci": CI.fingerprint})
    context = Context(rules, subject(), NOW, 0)

    def found(timestamped: bool | None) -> Attested:
        """By the key; or by the identity, with or without a timestamp."""
        proofs = (RootProof("root", timestamped=bool(timestamped)),)
        who = None if timestamped is None else Identity("https://i.example", "dev@example.com", proofs=proofs)
        said = {"runDetails": {"builder": {"id": "mailto:dev@example.com"}}}
        item = Evidence(
            "sha256:1",
            SignatureFormat.BUNDLE,
            who.signer if who else CI.fingerprint,
            DIGEST,
            SLSA,
            problem="an attestation",
            identity=who,
            predicate=said,
        )
        return judge_attestations([item], context)

    assert told in found(None).problem
    assert found(True).problem == ""
    assert (found(False).problem == "") is (field == "requireTransparencyLog")
