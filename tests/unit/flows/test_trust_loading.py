"""From documents to usable trust: what cannot be loaded refuses, and says why."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ocisync.flows.trust import load_policies, trust_keys
from ocisync.policy.rules import TrustRules
from tests.support.trust import REPOSITORY, policy, signer

CI = signer("ci")
BY_SECRET = policy(authorities=[{"name": "ci", "key": {"secretRef": {"name": "ci-pub"}}}])


def test_a_key_comes_from_the_only_pub_entry_of_its_secret() -> None:
    data = {"cosign.key": b"secret", "cosign.password": b"", "cosign.pub": CI.public.pem.encode()}
    trust = load_policies([BY_SECRET], {"ci-pub": data}.get)
    assert trust.unusable == {}
    assert [key.fingerprint for key in trust.keys_for(REPOSITORY)] == [CI.fingerprint]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "Secret 'ci-pub' does not exist in the agent's namespace"),
        ({}, "has 0 entries named *.pub"),
        ({"a.pub": b"x", "b.pub": b"y"}, "has 2 entries named *.pub"),
        ({"a.pub": b"no key"}, "Secret 'ci-pub': expected one PUBLIC KEY PEM block"),
    ],
    ids=["missing", "empty", "two", "damaged"],
)
def test_a_key_that_cannot_be_read_breaks_the_policy(data: Mapping[str, bytes] | None, problem: str) -> None:
    trust = load_policies([BY_SECRET], lambda name: data)
    assert problem in trust.unusable["shop"]
    assert trust.select(REPOSITORY).policy is None


def test_a_policy_from_a_file_cannot_name_a_secret() -> None:
    assert "can only be read in a cluster" in load_policies([BY_SECRET]).unusable["shop"]


def test_one_broken_policy_leaves_the_others_usable() -> None:
    trust = load_policies([policy("bad", thresold=1, match=[{"repository": "other.example/x"}]), policy()])
    assert list(trust.unusable) == ["bad"]
    found = trust.select(REPOSITORY).policy
    assert isinstance(found, TrustRules)
    assert found.authorities[0].fingerprint == CI.fingerprint


def test_only_keys_that_may_sign_for_a_repository_are_tried_on_it() -> None:
    elsewhere = policy("elsewhere", ("release",), match=[{"repository": "other.example/*"}])
    trust = load_policies([policy(), elsewhere])
    assert [key.fingerprint for key in trust.keys_for(REPOSITORY)] == [CI.fingerprint]


def test_the_same_key_file_given_twice_is_one_key() -> None:
    assert len(trust_keys([CI.public, CI.public], REPOSITORY).keys) == 1


@pytest.mark.parametrize("document", [{}, {"spec": []}, {"metadata": 1}, {"kind": "TrustPolicy", "spec": {"match": 1}}])
def test_any_document_loads_as_something_that_refuses(document: dict[str, object]) -> None:
    assert load_policies([document]).select(REPOSITORY).policy is None
