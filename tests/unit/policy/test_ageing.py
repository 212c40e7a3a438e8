from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ocisync.flows.trust import load_policies
from ocisync.model.evidence import Evidence, SignatureFormat
from ocisync.policy.ageing import next_change_s
from ocisync.policy.select import Selection
from tests.support.trust import DIGEST, NOW, OTHER_DIGEST, REPOSITORY, policy

PRESENT = int(NOW.timestamp())


def selection(**rollback: object) -> Selection:
    return load_policies([policy(rollback=rollback)]).select(REPOSITORY)


def evidence(*, problem: str = "", signer: str = "sha256:k", **claims: str) -> Evidence:
    named = tuple(sorted((f"dev.ocisync.{name}", value) for name, value in claims.items()))
    return Evidence("sha256:s", SignatureFormat.BUNDLE, signer, DIGEST, claims=named, problem=problem)


def test_without_an_end_time_changes_nothing() -> None:
    assert next_change_s(selection(), [evidence(signed=str(PRESENT))], DIGEST, NOW) is None
    assert next_change_s(Selection(None), [evidence(expires=str(PRESENT - 1))], DIGEST, NOW) is None


def test_the_nearest_end_of_a_sound_signature_counts() -> None:
    found = [evidence(expires=str(PRESENT + 90)), evidence(expires=str(PRESENT + 30)), evidence(expires="soon")]
    assert next_change_s(selection(), found, DIGEST, NOW) == 30
    strangers = [evidence(signer="", expires=str(PRESENT + 5)), evidence(problem="bad", expires=str(PRESENT + 6))]
    assert next_change_s(selection(), [*found, *strangers], DIGEST, NOW) == 30
    assert next_change_s(selection(), [evidence(expires="9" * 15)], DIGEST, NOW) is not None


def test_the_end_of_an_attestation_counts_like_that_of_a_signature() -> None:
    attested = replace(evidence(problem="an attestation, not a signature", expires=str(PRESENT + 20)), predicate={})
    assert next_change_s(selection(), [evidence(expires=str(PRESENT + 90)), attested], DIGEST, NOW) == 20


def test_age_counts_only_where_a_policy_limits_it() -> None:
    signed = [evidence(signed=str(PRESENT - 3000))]
    assert next_change_s(selection(maxAge="1h"), signed, DIGEST, NOW) == 600
    assert next_change_s(selection(maxAge="30m"), signed, DIGEST, NOW) is None  # over already


def test_a_grant_ends_for_its_digest() -> None:
    until = (NOW + timedelta(minutes=7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    granted = selection(allow=[{"digest": DIGEST, "until": until}])
    assert next_change_s(granted, [], DIGEST, NOW) == 420
    assert next_change_s(granted, [], OTHER_DIGEST, NOW) is None
