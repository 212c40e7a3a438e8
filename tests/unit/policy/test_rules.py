"""Policy documents: read completely, or refused with the path of the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import SignatureFormat
from ocisync.policy.rules import (
    Mode,
    OnRevoked,
    RepositoryClaim,
    TagClaim,
    parse_policy,
    readable_patterns,
    with_fingerprints,
)
from tests.support.trust import DIGEST, policy, signer

COMMIT = "5d4d9dd6f2a6e1b1e6a3f9c1f6a4fb1f0c0d0e0f"

FULL: dict[str, Any] = {
    "match": [{"repository": "Registry.Example/shop/*"}, {"repository": "registry.example/exact"}],
    "floor": False,
    "formats": ["Legacy", "Bundle"],
    "threshold": 2,
    "repositoryClaim": {"mode": "IfPresent", "remap": [{"signed": "a.example/x", "here": "b.example/x"}]},
    "tagClaim": "Ignore",
    "annotations": {"env": "prod"},
    "attestations": [],
    "rollback": {
        "monotonic": "Sequence",
        "floor": 7,
        "allow": [{"digest": DIGEST, "until": "2026-12-01T00:00:00Z"}],
        "maxAge": "720h",
    },
    "requireTimestamp": False,
    "requireTransparencyLog": False,
    "deny": {"digests": [DIGEST], "keys": [DIGEST], "revisions": [f"main@sha1:{COMMIT}", COMMIT]},
    "onRevoked": "Suspend",
    "mode": "Warn",
}


def test_every_field_is_read() -> None:
    rules = parse_policy(policy("full", ("ci", "release"), **FULL))
    assert rules.match == ("registry.example/shop/*", "registry.example/exact")
    assert rules.formats == (SignatureFormat.BUNDLE, SignatureFormat.LEGACY)
    assert [authority.name for authority in rules.authorities] == ["ci", "release"]
    assert (rules.threshold, rules.mode, rules.on_revoked) == (2, Mode.WARN, OnRevoked.SUSPEND)
    assert (rules.repository_claim, rules.tag_claim) == (RepositoryClaim.IF_PRESENT, TagClaim.IGNORE)
    assert (rules.rollback.floor, rules.rollback.max_age_s) == (7, 720 * 3600)
    assert rules.deny.revisions == (f"main@sha1:{COMMIT}", COMMIT)


def test_the_defaults_are_the_strict_ones() -> None:
    rules = parse_policy(policy())
    assert rules.formats == (SignatureFormat.BUNDLE,)
    assert (rules.repository_claim, rules.tag_claim, rules.mode) == ("Require", "Require", "Enforce")
    assert (rules.floor, rules.rollback.floor, rules.rollback.max_age_s) == (False, 0, 0)


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("spec.thresold: unknown field", {"thresold": 1}),
        ("spec.match[0].repo: unknown field", {"match": [{"repo": "a.example/b"}]}),
        ("spec.repositoryClaim.remaps: unknown field", {"repositoryClaim": {"remaps": []}}),
        ("spec.rollback.allow[0].digests: unknown field", {"rollback": {"allow": [{"digests": "x"}]}}),
        ("spec.rollback.max_age: unknown field", {"rollback": {"max_age": "1h"}}),
        ("spec.deny.key: unknown field", {"deny": {"key": []}}),
        ("spec.authorities[0].keys: unknown field", {"authorities": [{"name": "a", "keys": {}}]}),
        ("spec.authorities[0].key.file: unknown field", {"authorities": [{"name": "a", "key": {"file": "x"}}]}),
    ],
)
def test_an_unknown_field_is_named_with_its_path_at_every_level(path: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_policy(policy(**changes))
    assert refused.value.message == path


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("spec.threshold: required", {"threshold": None}),
        ("spec.threshold: expected a whole number", {"threshold": True}),
        ("spec.threshold: expected a whole number", {"threshold": 0}),
        ("spec.threshold: 2 of 1 authorities", {"threshold": 2}),
        ("spec.match: required", {"match": []}),
        ("spec.match: the same pattern twice", {"match": [{"repository": "a.example/b"}] * 2}),
        ("only be the last path segment", {"match": [{"repository": "*"}]}),
        ("only be the last path segment", {"match": [{"repository": "a.example/sh*"}]}),
        ("only be the last path segment", {"match": [{"repository": "a.example/*/b"}]}),
        ("no registry host", {"match": [{"repository": "shop/*"}]}),
        ("leave scheme, tag and digest out", {"match": [{"repository": "a.example/b:1.0"}]}),
        ("leave scheme, tag and digest out", {"match": [{"repository": "oci://a.example/b"}]}),
        ("spec.authorities: required", {"authorities": []}),
        ("exactly one of pem, secretRef", {"authorities": [{"name": "a", "key": {}}]}),
        ("exactly one of pem, secretRef", {"authorities": [
            {"name": "a", "key": {"pem": "x", "secretRef": {"name": "y"}}}]}),
        ("two authorities are named 'a'", {"authorities": [{"name": "a", "key": {"pem": "x"}}] * 2}),
        ("spec.formats: an empty list", {"formats": []}),
        ("'bundle' is none of Bundle | Legacy", {"formats": ["bundle"]}),
        ("spec.tagClaim: 'require' is none of", {"tagClaim": "require"}),
        ("spec.mode: 'Audit' is none of", {"mode": "Audit"}),
        ("spec.mode: Warn contradicts floor", {"mode": "Warn", "floor": True}),
        ("spec.rollback.monotonic: 'Version'", {"rollback": {"monotonic": "Version"}}),
        ("is not a duration", {"rollback": {"maxAge": "30 days"}}),
        ("spec.rollback.maxAge: must be longer", {"rollback": {"maxAge": "0s"}}),
        ("until: not a time", {"rollback": {"allow": [{"digest": DIGEST, "until": "tomorrow"}]}}),
        ("spec.deny.keys[0]: expected sha256:", {"deny": {"keys": ["release"]}}),
        ("spec.deny.digests[0]: expected sha256:", {"deny": {"digests": ["sha256:ABC"]}}),
        ("spec.deny.revisions[0]: 'v1.0' names no commit", {"deny": {"revisions": ["v1.0"]}}),
        ("spec.annotations.n: expected a string", {"annotations": {"n": 1}}),
        ("spec.floor: expected true or false", {"floor": "false"}),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(problem: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_policy(policy(**changes))
    assert problem in refused.value.message


@pytest.mark.parametrize(
    "change",
    [{"apiVersion": "ocisync.dev/v1"}, {"kind": "Trust"}, {"metadata": {}}, {"spec": None}, {"spec": []}, {"sepc": {}}],
    ids=str,
)
def test_another_document_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse_policy({**policy(), **change})


def test_the_cluster_s_own_metadata_and_status_are_no_unknown_fields() -> None:
    document = {**policy(), "status": {"conditions": []}}
    document["metadata"] |= {"uid": "1", "managedFields": []}
    assert parse_policy(document).name == "shop"


def test_one_key_under_two_names_makes_the_policy_invalid() -> None:
    rules = parse_policy(policy(by=("ci", "release")))
    with pytest.raises(InvalidInput, match="are the same key"):
        with_fingerprints(rules, dict.fromkeys(("ci", "release"), signer("ci").fingerprint))


def test_a_broken_policy_keeps_the_patterns_that_can_be_read() -> None:
    assert readable_patterns(policy(thresold=1)) == ("registry.example/shop/*",)


@pytest.mark.parametrize("match", [None, [], "x", [{"repo": "x"}], [{"repository": "a.example/b"}, 1]], ids=str)
def test_an_unreadable_match_may_be_about_any_repository(match: object) -> None:
    assert readable_patterns(policy(match=match)) == ()


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(FULL)) | st.text(max_size=5), inner)
    ),
    max_leaves=10,
)


@given(field=st.sampled_from(sorted(FULL)), value=_values)
@settings(deadline=None)
def test_any_value_in_any_field_is_read_or_refused(field: str, value: object) -> None:
    document = policy()
    document["spec"][field] = value
    readable_patterns(document)
    try:
        parse_policy(document)
    except InvalidInput as error:
        assert error.message.startswith(("spec", "metadata"))
