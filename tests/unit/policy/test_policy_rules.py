"""Rules that no single field shows: what must hold of whole policies, one signature at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from ocisync.model.artifact import VerdictReason
from ocisync.model.errors import InvalidInput
from ocisync.policy.rules import parse_policy, problems_of
from tests.support.trust import (
    DIGEST,
    NOW,
    SEQUENCE,
    bundle_of,
    claims,
    judged,
    legacy_of,
    policy,
    signer,
)

CI = signer("ci")
FULL: dict[str, Any] = policy(
    match=[{"repository": "registry.example/shop/*"}],
    authorities=[
        {"name": "pem", "key": {"pem": CI.public.pem}},
        {"name": "secret", "key": {"secretRef": {"name": "release-pub"}}},
        {"name": "identity", "keyless": {
            "issuer": "https://token.example", "subject": "dev@example.com", "claims": {"sourceRepository": "https://x.example"},
            "trustedRootRef": {"name": "root"}}},
    ],
    repositoryClaim={"mode": "Require", "remap": [{"signed": "a.example/x", "here": "b.example/x"}]},
    attestations=[{"predicateType": "https://slsa.dev/provenance/v1", "authorities": ["pem"],
                   "where": [{"path": "/buildDefinition/buildType", "equals": "x"}]}],
    rollback={"monotonic": "Sequence", "floor": 0, "maxAge": "1h",
              "allow": [{"digest": DIGEST, "until": "2026-12-01T00:00:00Z"}]},
    deny={"digests": [], "keys": [], "revisions": []},
)  # fmt: skip


def _objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all objects in a document whose fields are fixed: not metadata, whose fields are the cluster's."""
    if isinstance(value, dict):
        if path != ("metadata",):
            yield path
        for name, child in value.items():
            yield from _objects(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _objects(child, (*path, index))


def _with_field(path: tuple[Any, ...], name: str) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(FULL)
    target: Any = document
    for part in path:
        target = target[part]
    target[name] = "x"
    return document


PATHS = list(_objects(FULL))


def test_the_full_policy_is_a_policy_and_has_objects_at_every_level() -> None:
    parse_policy(FULL)
    assert len(PATHS) >= 17


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)) or "root")
def test_a_typo_anywhere_in_a_full_policy_is_refused(path: tuple[Any, ...]) -> None:
    document = _with_field(path, "tpyo")
    with pytest.raises(InvalidInput, match="tpyo: unknown field"):
        parse_policy(document)
    assert any("tpyo: unknown field" in error.message for error in problems_of(document))


def test_problems_begin_with_the_one_that_the_agent_reports() -> None:
    assert problems_of(FULL) == ()
    broken = policy(thresold=1, mode="Audit", threshold=0)
    found = [error.message for error in problems_of(broken)]
    assert len(found) == 3
    with pytest.raises(InvalidInput) as refused:
        parse_policy(broken)
    assert refused.value.message == found[0]


# Each signature alone ------------------------------------------------------------------------------------------------

SPEC: dict[str, Any] = {"annotations": {"env": "prod"}, "rollback": {"maxAge": "1h", "floor": SEQUENCE}}
GOOD = {**claims(), "env": "prod"}
LACKING: list[dict[str, str]] = [
    {**GOOD, "dev.ocisync.repository": "registry.example/shop/other"},
    {**GOOD, "dev.ocisync.tags": "staging"},
    {**GOOD, "env": "test"},
    {**GOOD, "dev.ocisync.expires": "1"},
    {**GOOD, "dev.ocisync.sequence": str(SEQUENCE - 1)},
    {**GOOD, "dev.ocisync.signed": "1"},
]


def test_good_halves_never_make_a_whole() -> None:
    assert judged([policy(**SPEC)], bundle_of(CI, with_claims=GOOD)).allowed
    made = [bundle_of(CI, with_claims=one) for one in LACKING]
    for some in [*combinations(made, 2), tuple(made)]:
        assert not judged([policy(**SPEC)], *some).allowed


def test_required_annotations_must_be_in_the_signature_that_counts() -> None:
    beside = bundle_of(signer("stranger"), with_claims=GOOD)
    verdict = judged([policy(**SPEC)], bundle_of(CI), beside)
    assert verdict.reason is VerdictReason.ANNOTATION_MISMATCH


def test_a_docker_reference_with_a_tag_is_no_tag_claim() -> None:
    made = legacy_of(
        CI, with_claims=claims(repository="", tags=""), repository="registry.example/shop/config:production"
    )
    verdict = judged([policy(formats=["Legacy"])], made)
    assert verdict.reason is VerdictReason.WRONG_TAG


def test_a_floor_judges_by_its_own_remap_and_grants() -> None:
    remap: dict[str, Any] = {
        "repositoryClaim": {"remap": [{"signed": "origin.example/team", "here": "registry.example/shop"}]}
    }
    grant: dict[str, Any] = {"rollback": {"allow": [{"digest": DIGEST, "until": "2026-12-01T00:00:00Z"}]}}
    floor: dict[str, Any] = {"name": "floor", "floor": True, "match": [{"repository": "registry.example/*"}]}
    moved = bundle_of(CI, with_claims=claims(repository="origin.example/team/config"))
    assert judged([policy(**remap)], moved).allowed
    assert judged([policy(**remap), policy(**floor)], moved).policy == "floor"
    assert judged([policy(**remap), policy(**floor, **remap)], moved).allowed
    old = bundle_of(CI)
    assert judged([policy(**grant)], old, watermark=SEQUENCE + 1).allowed
    assert not judged([policy(**grant), policy(**floor)], old, watermark=SEQUENCE + 1).allowed
    assert judged([policy(**grant), policy(**floor, **grant)], old, watermark=SEQUENCE + 1).allowed


def test_the_deny_list_of_a_policy_that_lost_still_counts_and_no_other() -> None:
    broad = policy("broad", match=[{"repository": "registry.example/*"}], deny={"digests": [DIGEST]})
    elsewhere = policy("elsewhere", match=[{"repository": "other.example/*"}], deny={"digests": [DIGEST]})
    assert judged([policy(), broad], bundle_of(CI)).distrusted
    assert judged([policy(), elsewhere], bundle_of(CI)).allowed


def test_a_grant_exempts_from_the_sequence_and_from_nothing_else() -> None:
    grant = {"allow": [{"digest": DIGEST, "until": "2026-12-01T00:00:00Z"}], "maxAge": "1h"}
    old = bundle_of(CI, with_claims=claims(signed="1"))
    assert judged([policy(rollback=grant)], old, watermark=SEQUENCE + 1, now=NOW).reason is VerdictReason.TOO_OLD
