"""Policies × evidence × time: what is allowed, and which reason a person is given when it is not."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ocisync.flows.trust import load_policies, trust_keys
from ocisync.model.artifact import VerdictReason
from ocisync.model.evidence import RawSignature
from ocisync.model.spec import SelectorKind
from ocisync.policy.evaluate import judge, named
from ocisync.policy.explain import as_json, render_text
from ocisync.policy.requirements import SIGNATURE_RULES
from ocisync.signing.check import examine
from tests.support.trust import (
    DIGEST,
    NOW,
    OTHER_DIGEST,
    REPOSITORY,
    SEQUENCE,
    bundle_of,
    bundle_with,
    claims,
    judged,
    legacy_of,
    policy,
    signer,
    subject,
)

COMMIT = "5d4d9dd6f2a6e1b1e6a3f9c1f6a4fb1f0c0d0e0f"
CI = signer("ci")
RELEASE = signer("release")
PROVENANCE = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"digest": {"sha256": DIGEST.removeprefix("sha256:")}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {},
}


def test_a_full_signature_by_the_authority_is_verified() -> None:
    verdict = judged([policy()], bundle_of(CI, with_claims=claims(revision=f"main@sha1:{COMMIT}")))
    assert (verdict.allowed, verdict.reason, verdict.signers) == (True, VerdictReason.VERIFIED, ("ci",))
    assert (verdict.sequence, verdict.revision, verdict.policy) == (SEQUENCE, f"main@sha1:{COMMIT}", "shop")


REFUSALS: list[tuple[str, VerdictReason, dict[str, Any], Callable[[], list[RawSignature]]]] = [
    ("nothing", VerdictReason.UNSIGNED, {}, list),
    ("a stranger", VerdictReason.UNKNOWN_SIGNER, {}, lambda: [bundle_of(signer("stranger"))]),
    ("junk", VerdictReason.BAD_SIGNATURE, {}, lambda: [bundle_with(CI, b"junk")]),
    ("an attestation", VerdictReason.BAD_SIGNATURE, {}, lambda: [bundle_with(CI, PROVENANCE)]),
    ("another digest", VerdictReason.WRONG_SUBJECT, {}, lambda: [bundle_of(CI, OTHER_DIGEST)]),
    ("a format not accepted", VerdictReason.UNSIGNED, {}, lambda: [legacy_of(CI)]),
    ("another repository", VerdictReason.WRONG_REPOSITORY, {},
     lambda: [bundle_of(CI, with_claims=claims(repository="registry.example/shop/other"))]),
    ("no repository", VerdictReason.WRONG_REPOSITORY, {}, lambda: [bundle_of(CI, with_claims=claims(repository=""))]),
    ("another repository though claims are optional", VerdictReason.WRONG_REPOSITORY,
     {"repositoryClaim": {"mode": "IfPresent"}},
     lambda: [bundle_of(CI, with_claims=claims(repository="registry.example/shop/other"))]),
    ("another docker-reference", VerdictReason.WRONG_REPOSITORY,
     {"formats": ["Legacy"], "repositoryClaim": {"mode": "IfPresent"}},
     lambda: [legacy_of(CI, with_claims=claims(repository=""), repository="evil.example/x")]),
    ("a docker-reference that is none", VerdictReason.WRONG_REPOSITORY, {"formats": ["Legacy"]},
     lambda: [legacy_of(CI, with_claims=claims(repository=""), repository="::")]),
    ("another tag", VerdictReason.WRONG_TAG, {}, lambda: [bundle_of(CI, with_claims=claims(tags="staging"))]),
    ("part of a tag", VerdictReason.WRONG_TAG, {}, lambda: [bundle_of(CI, with_claims=claims(tags="production-eu"))]),
    ("no tag", VerdictReason.WRONG_TAG, {}, lambda: [bundle_of(CI, with_claims=claims(tags=""))]),
    ("another tag though claims are optional", VerdictReason.WRONG_TAG, {"tagClaim": "IfPresent"},
     lambda: [bundle_of(CI, with_claims=claims(tags="staging"))]),
    ("a missing annotation", VerdictReason.ANNOTATION_MISMATCH, {"annotations": {"env": "prod"}},
     lambda: [bundle_of(CI)]),
    ("another annotation", VerdictReason.ANNOTATION_MISMATCH, {"annotations": {"env": "prod"}},
     lambda: [bundle_of(CI, with_claims={**claims(), "env": "test"})]),
    ("expired", VerdictReason.EXPIRED, {},
     lambda: [bundle_of(CI, with_claims=claims(expires=str(int(NOW.timestamp()))))]),
    ("an end that is no time", VerdictReason.EXPIRED, {},
     lambda: [bundle_of(CI, with_claims=claims(expires="2026-12-01"))]),
    ("below the floor", VerdictReason.ROLLED_BACK, {"rollback": {"floor": SEQUENCE + 1}}, lambda: [bundle_of(CI)]),
    ("no sequence below a floor", VerdictReason.ROLLED_BACK, {"rollback": {"floor": 1}},
     lambda: [bundle_of(CI, with_claims=claims(sequence=""))]),
    ("a sequence that is no number", VerdictReason.ROLLED_BACK, {},
     lambda: [bundle_of(CI, with_claims=claims(sequence="0x7"))]),
    ("a sequence far ahead of the clock", VerdictReason.ROLLED_BACK, {},
     lambda: [bundle_of(CI, with_claims=claims(sequence=str(int(NOW.timestamp()) + 3_601)))]),
    ("too old", VerdictReason.TOO_OLD, {"rollback": {"maxAge": "9m"}}, lambda: [bundle_of(CI)]),
    ("no time of signing", VerdictReason.TOO_OLD, {"rollback": {"maxAge": "9m"}},
     lambda: [bundle_of(CI, with_claims=claims(signed=""))]),
    ("a time of signing far ahead", VerdictReason.TOO_OLD, {"rollback": {"maxAge": "9m"}},
     lambda: [bundle_of(CI, with_claims=claims(signed=str(int(NOW.timestamp()) + 3_601)))]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "spec", "make"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_refusals_have_the_reason_that_helps(
    reason: VerdictReason, spec: dict[str, Any], make: Callable[[], list[RawSignature]]
) -> None:
    verdict = judged([policy(**spec)], *make())
    assert (verdict.allowed, verdict.reason, verdict.distrusted) == (False, reason, False)
    assert verdict.message
    assert any(f"{program} " in verdict.hint for program in ("cosign", "ocisync", "date")), verdict.hint


ALLOWED: list[tuple[str, dict[str, Any], Callable[[], RawSignature]]] = [
    ("no repository, claims optional", {"repositoryClaim": {"mode": "IfPresent"}},
     lambda: bundle_of(CI, with_claims=claims(repository=""))),
    ("docker-reference instead of a claim", {"formats": ["Legacy"]},
     lambda: legacy_of(CI, with_claims=claims(repository=""))),
    ("docker-reference with a tag", {"formats": ["Legacy"]},
     lambda: legacy_of(CI, with_claims=claims(repository=""), repository=f"{REPOSITORY}:1.0.0")),
    ("name of the mirrored repository", {"repositoryClaim": {"remap": [
        {"signed": "origin.example/team", "here": "registry.example/shop"}]}},
     lambda: bundle_of(CI, with_claims=claims(repository="origin.example/team/config"))),
    ("own name though a remap exists", {"repositoryClaim": {"remap": [
        {"signed": "origin.example/team", "here": "registry.example/shop"}]}}, lambda: bundle_of(CI)),
    ("several tags", {}, lambda: bundle_of(CI, with_claims=claims(tags="1.2.3 production"))),
    ("no tag, claims optional", {"tagClaim": "IfPresent"}, lambda: bundle_of(CI, with_claims=claims(tags=""))),
    ("another tag, ignored", {"tagClaim": "Ignore"}, lambda: bundle_of(CI, with_claims=claims(tags="staging"))),
    ("required annotation", {"annotations": {"env": "prod"}},
     lambda: bundle_of(CI, with_claims={**claims(), "env": "prod", "more": "x"})),
    ("not expired yet", {}, lambda: bundle_of(CI, with_claims=claims(expires=str(int(NOW.timestamp()) + 1)))),
    ("exactly the floor", {"rollback": {"floor": SEQUENCE}}, lambda: bundle_of(CI)),
    ("just young enough", {"rollback": {"maxAge": "10m"}}, lambda: bundle_of(CI)),
    ("no sequence, none seen", {}, lambda: bundle_of(CI, with_claims=claims(sequence=""))),
    ("a sequence a little ahead", {},
     lambda: bundle_of(CI, with_claims=claims(sequence=str(int(NOW.timestamp()) + 3_600)))),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "make"), [case[1:] for case in ALLOWED], ids=[case[0] for case in ALLOWED])
def test_allowed(spec: dict[str, Any], make: Callable[[], RawSignature]) -> None:
    verdict = judged([policy(**spec)], make())
    assert verdict.allowed, verdict.message


def test_a_remap_ends_at_a_path_segment() -> None:
    remap = {"remap": [{"signed": "origin.example/team", "here": "registry.example/sho"}]}
    made = bundle_of(CI, with_claims=claims(repository="origin.example/teamp/config"))
    assert judged([policy(repositoryClaim=remap)], made).reason is VerdictReason.WRONG_REPOSITORY


def test_the_nearest_miss_is_reported_not_the_noise_around_it() -> None:
    noise = [bundle_of(signer("stranger")), bundle_with(CI, b"junk"), bundle_of(CI, OTHER_DIGEST)]
    near = bundle_of(CI, with_claims=claims(repository="registry.example/shop/other"))
    verdict = judged([policy()], *noise, near)
    assert verdict.reason is VerdictReason.WRONG_REPOSITORY
    assert "for the repository registry.example/shop/other, not for registry.example/shop/config" in verdict.message


def test_claims_of_two_signatures_are_never_combined() -> None:
    half = bundle_of(CI, with_claims=claims(tags=""))
    other_half = bundle_of(CI, with_claims=claims(repository=""))
    assert not judged([policy()], half, other_half).allowed


# Thresholds and watermarks ------------------------------------------------------------------------------------------


def test_two_signatures_of_one_authority_are_one_signer() -> None:
    two = policy(by=("ci", "release"), threshold=2)
    verdict = judged([two], bundle_of(CI), bundle_of(CI, with_claims=claims(sequence=str(SEQUENCE + 1))))
    assert (verdict.reason, verdict.signers) == (VerdictReason.BELOW_THRESHOLD, ("ci",))
    assert judged([two], bundle_of(CI), bundle_of(RELEASE)).signers == ("ci", "release")


def test_the_watermark_rises_to_the_threshold_th_highest_sequence() -> None:
    higher = bundle_of(RELEASE, with_claims=claims(sequence=str(SEQUENCE + 60)))
    two = policy(by=("ci", "release"), threshold=2)
    assert judged([two], bundle_of(CI), higher).sequence == SEQUENCE
    one = policy(by=("ci", "release"), threshold=1)
    assert judged([one], bundle_of(CI), higher).sequence == SEQUENCE + 60


def test_equal_to_the_watermark_is_allowed_and_below_is_not() -> None:
    assert judged([policy()], bundle_of(CI), watermark=SEQUENCE).allowed
    verdict = judged([policy()], bundle_of(CI), watermark=SEQUENCE + 1)
    assert verdict.reason is VerdictReason.ROLLED_BACK
    assert "was already accepted here" in verdict.message


def test_a_signature_without_sequence_is_refused_once_one_was_accepted() -> None:
    verdict = judged([policy()], bundle_of(CI, with_claims=claims(sequence="")), watermark=1)
    assert verdict.reason is VerdictReason.ROLLED_BACK


def test_a_digest_source_is_exempt_from_tag_and_sequence_and_from_nothing_else() -> None:
    pinned = subject(kind=SelectorKind.DIGEST, tag="")
    old = bundle_of(CI, with_claims=claims(tags="", sequence=""))
    assert judged([policy()], old, about=pinned, watermark=SEQUENCE).allowed
    foreign = bundle_of(CI, with_claims=claims(repository="registry.example/shop/other"))
    assert judged([policy()], foreign, about=pinned).reason is VerdictReason.WRONG_REPOSITORY


def test_a_digest_source_does_not_lift_the_watermark_with_a_sequence_from_the_future() -> None:
    ahead = bundle_of(CI, with_claims=claims(sequence="99999999999"))
    assert judged([policy()], ahead, about=subject(kind=SelectorKind.DIGEST, tag="")).sequence == 0


def test_a_semver_source_needs_a_signed_tag_whatever_the_policy_says() -> None:
    chosen = subject(kind=SelectorKind.SEMVER, tag="1.2.3")
    assert judged([policy(tagClaim="Ignore")], bundle_of(CI), about=chosen).reason is VerdictReason.WRONG_TAG
    assert judged([policy(tagClaim="Ignore")], bundle_of(CI, with_claims=claims(tags="1.2.3")), about=chosen).allowed


def test_a_planned_rollback_is_allowed_by_digest_until_its_end() -> None:
    rollback = {"allow": [{"digest": DIGEST, "until": "2026-11-23T12:00:01Z"}]}
    assert judged([policy(rollback=rollback)], bundle_of(CI), watermark=SEQUENCE + 1).allowed
    later = NOW + timedelta(seconds=1)
    verdict = judged([policy(rollback=rollback)], bundle_of(CI), watermark=SEQUENCE + 1, now=later)
    assert verdict.reason is VerdictReason.ROLLED_BACK


# Several policies, deny lists, modes --------------------------------------------------------------------------------


def test_no_policy_is_a_refusal() -> None:
    assert judged([], bundle_of(CI)).reason is VerdictReason.NO_POLICY


def test_a_broken_policy_refuses_with_its_problem() -> None:
    verdict = judged([policy(thresold=1)], bundle_of(CI))
    assert verdict.reason is VerdictReason.INVALID_POLICY
    assert "spec.thresold: unknown field" in verdict.message


def test_a_file_cannot_say_which_trusted_root_of_a_cluster_it_means() -> None:
    keyless = {"issuer": "https://issuer.example", "subject": "dev@example.com", "trustedRootRef": {"name": "root"}}
    key = {"name": "ci", "key": {"pem": CI.public.pem}}
    verdict = judged([policy(authorities=[key, {"name": "dev", "keyless": keyless}])], bundle_of(CI))
    assert verdict.reason is VerdictReason.INVALID_POLICY
    assert "trustedRootRef 'root' can only be read in a cluster" in verdict.message


def test_a_floor_must_allow_too() -> None:
    floor = policy("floor", ("release",), floor=True, match=[{"repository": "registry.example/*"}])
    assert judged([policy(), floor], bundle_of(CI)).policy == "floor"
    assert not judged([policy(), floor], bundle_of(CI)).allowed
    verdict = judged([policy(), floor], bundle_of(CI), bundle_of(RELEASE))
    assert (verdict.allowed, verdict.signers) == (True, ("ci",))


def test_warn_allows_and_says_what_would_have_been_refused() -> None:
    verdict = judged([policy(mode="Warn")], bundle_of(signer("stranger")))
    assert (verdict.allowed, verdict.reason, verdict.signers) == (True, VerdictReason.UNKNOWN_SIGNER, ())
    assert "mode Warn" in verdict.message


def test_warn_does_not_hold_under_a_floor_or_against_a_deny_list() -> None:
    floor = policy("floor", floor=True, match=[{"repository": "registry.example/*"}])
    assert not judged([policy(by=("release",), mode="Warn"), floor], bundle_of(CI)).allowed
    assert not judged([policy(mode="Warn", deny={"digests": [DIGEST]})], bundle_of(CI)).allowed


@pytest.mark.parametrize(
    "deny",
    [
        {"digests": [DIGEST]},
        {"keys": [CI.fingerprint]},
        {"revisions": [f"main@sha1:{COMMIT}"]},
        {"revisions": [COMMIT]},
        {"revisions": [f"sha1:{COMMIT}"]},
    ],
    ids=["digest", "key", "revision", "commit", "sha1-commit"],
)
def test_explicit_distrust_is_told_apart_from_missing_evidence(deny: dict[str, Any]) -> None:
    made = bundle_of(CI, with_claims=claims(revision=f"main@sha1:{COMMIT}"))
    verdict = judged([policy(deny=deny)], made)
    assert (verdict.allowed, verdict.reason, verdict.distrusted) == (False, VerdictReason.DENIED, True)


def test_the_revision_of_the_manifest_counts_for_deny_lists_too() -> None:
    about = subject(revision=f"main@sha1:{COMMIT}-dirty")
    assert judged([policy(deny={"revisions": [COMMIT]})], bundle_of(CI), about=about).distrusted


def test_a_stranger_cannot_stop_writes_by_naming_a_denied_revision() -> None:
    denied = policy(deny={"revisions": [COMMIT]})
    made = bundle_of(signer("stranger"), with_claims=claims(revision=COMMIT))
    assert judged([denied], bundle_of(CI), made).allowed


def test_only_sound_signatures_of_authorities_are_asked_for_a_denied_revision() -> None:
    trust = load_policies([policy(deny={"revisions": [COMMIT]})])
    good = examine(bundle_of(CI), trust.keys, DIGEST)
    stranger = replace(good, signer=RELEASE.fingerprint, claims=(("dev.ocisync.revision", COMMIT),))
    damaged = replace(stranger, signer=CI.fingerprint, problem="damaged")
    assert judge(trust.select(REPOSITORY), [good, stranger, damaged], subject(), NOW, 0).allowed


def test_a_denied_key_is_distrusted_even_when_its_signature_would_not_count_any_more() -> None:
    expired = bundle_of(CI, with_claims=claims(expires="1"))
    assert judged([policy(deny={"keys": [CI.fingerprint]})], expired).distrusted


def test_a_clock_that_is_wrong_is_not_answered_with_signing_again() -> None:
    ahead = bundle_of(CI, with_claims=claims(sequence=str(int(NOW.timestamp()) + 3_601)))
    assert judged([policy()], ahead).hint == "compare the clocks of the signer and of this machine: date -u"


def test_a_denied_key_does_not_spoil_a_good_signature_beside_it() -> None:
    both = policy(by=("ci", "release"), deny={"keys": [RELEASE.fingerprint]})
    verdict = judged([both], bundle_of(CI), bundle_of(RELEASE))
    assert (verdict.allowed, verdict.signers) == (True, ("ci",))


def test_truncated_evidence_is_enough_if_it_is_good_and_else_says_so() -> None:
    assert judged([policy()], bundle_of(CI), truncated=True).allowed
    assert judged([policy()], truncated=True).reason is VerdictReason.EVIDENCE_TRUNCATED


# Keys without a policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bundle_of, legacy_of], ids=["bundle", "legacy"])
def test_keys_alone_accept_claimless_signatures_of_both_formats(make: Callable[..., RawSignature]) -> None:
    trust = trust_keys([CI.public, RELEASE.public], REPOSITORY)
    assert judged(trust, make(CI, with_claims={})).allowed
    assert judged(trust, make(signer("stranger"))).reason is VerdictReason.UNKNOWN_SIGNER


def test_keys_alone_still_check_the_claims_that_are_there() -> None:
    trust = trust_keys([CI.public], REPOSITORY)
    foreign = claims(repository="registry.example/shop/other")
    assert judged(trust, bundle_of(CI, with_claims=foreign)).reason is VerdictReason.WRONG_REPOSITORY
    assert judged(trust, bundle_of(CI, with_claims=claims(tags="staging"))).reason is VerdictReason.WRONG_TAG


# Explanations -------------------------------------------------------------------------------------------------------


def test_the_hint_is_a_cosign_command_whose_signature_would_be_accepted() -> None:
    spec: dict[str, Any] = {"annotations": {"env": "eu prod"}, "rollback": {"maxAge": "1h", "floor": 5}}
    verdict = judged([policy(**spec)], bundle_of(CI, with_claims={}))
    words = shlex.split(verdict.hint.partition(": ")[2])
    assert words[:5] == ["cosign", "sign", "--yes", "--key", "KEY"]
    assert words[-1] == f"{REPOSITORY}@{DIGEST}"
    signed = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "-a")
    assert judged([policy(**spec)], bundle_of(CI, with_claims=signed)).allowed


def test_the_hint_asks_for_the_legacy_format_only_where_nothing_else_is_accepted() -> None:
    assert "--new-bundle-format=false" in judged([policy(formats=["Legacy"])]).hint
    assert "--new-bundle-format=false" not in judged([policy(formats=["Legacy", "Bundle"])]).hint


def test_a_rollback_is_not_answered_with_a_command_that_performs_it() -> None:
    assert "cosign" not in judged([policy()], bundle_of(CI), watermark=SEQUENCE + 1).hint


def test_the_explanation_shows_every_check_of_every_signature() -> None:
    verdict = judged([policy()], bundle_of(CI, with_claims=claims(tags="staging")), bundle_of(signer("stranger")))
    text = render_text(verdict)
    assert "FAIL  tag          for the tags 'staging', not for 'production'" in text
    assert "FAIL  signer       made by a key that no authority of the policy has" in text
    assert "pass  repository   for the repository registry.example/shop/config" in text
    assert "refused: WrongTag (policy shop): signed by ci, but for the tags 'staging', not for 'production'" in text


def test_the_json_explanation_has_the_same_content() -> None:
    verdict = judged([policy()], bundle_of(CI))
    shown = as_json(verdict)
    assert (shown["allowed"], shown["reason"], shown["signers"]) == (True, "Verified", ["ci"])
    assert len(shown["steps"]) == len(verdict.steps)


def test_every_piece_of_evidence_is_shown_with_each_rule_and_how_it_ended() -> None:
    both = [policy(), policy("floor", floor=True, match=[{"repository": "registry.example/*"}])]
    trust = load_policies(both)
    found = [examine(one, trust.keys, DIGEST) for one in (bundle_of(CI), bundle_of(CI, OTHER_DIGEST), legacy_of(CI))]
    same = [replace(one, source=found[0].source) for one in found]  # as layers of one manifest have
    verdict = judge(trust.select(REPOSITORY), same, subject(), NOW, 0)
    shown = as_json(verdict, named(same))["evidence"]
    assert len({one["name"] for one in shown}) == 3
    good = next(one for one in shown if not one["problem"] and one["format"] == "Bundle")
    assert good["claims"]["dev.ocisync.tags"] == "production"
    assert [(rule["policy"], rule["rule"]) for rule in good["rules"]] == [
        (name, rule) for name in ("shop", "floor") for rule in SIGNATURE_RULES
    ]
    bad = next(one for one in shown if one["problem"])
    assert [rule["passed"] for rule in bad["rules"]] == [True, True, False] * 2


def test_whoever_signed_already_is_not_asked_again() -> None:
    two = policy(by=("ci", "release"), threshold=2)
    assert judged([two], bundle_of(CI)).hint.startswith("sign it with the key of release: cosign sign")


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        ([], "ocisync policy init --repository registry.example/shop/config"),
        ([policy(thresold=1)], "ocisync policy check FILE"),
        ([policy(deny={"digests": [DIGEST]})], "ocisync tag oci://registry.example/shop/config@sha256:GOOD production"),
        ([policy(deny={"keys": [CI.fingerprint]})], "--rollback --sign-key KEY; or have another authority sign it"),
    ],
)
def test_refusals_by_policy_name_a_command(documents: list[dict[str, Any]], told: str) -> None:
    assert told in judged(documents, bundle_of(CI)).hint
    assert told in judged(documents, bundle_of(CI), truncated=True).hint


def test_too_much_evidence_names_the_command_that_lists_it() -> None:
    assert f"ocisync inspect oci://{REPOSITORY}@{DIGEST}" in judged([policy()], truncated=True).hint


@pytest.mark.parametrize("listed", ["{}", "sha256:{}", "main@sha256:{}", "{}-dirty"])
def test_a_denied_commit_of_a_sha256_repository_is_denied(listed: str) -> None:
    commit = "c" * 64
    made = bundle_of(CI, with_claims=claims(revision=f"main@sha256:{commit}"))
    assert judged([policy(deny={"revisions": [listed.format(commit)]})], made).distrusted
