"""Which policy is about a repository."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ocisync.policy.rules import BrokenPolicy, TrustRules, parse_policy
from ocisync.policy.select import matching, pattern_matches
from tests.support.trust import DIGEST, OTHER_DIGEST, policy

NAME = "registry.example/shop/config"


def _policy(name: str, pattern: str, **spec: Any) -> TrustRules:
    return parse_policy(policy(name, match=[{"repository": pattern}], **spec))


@pytest.mark.parametrize(
    ("pattern", "repository", "expected"),
    [
        ("r.example/shop/*", "r.example/shop/config", True),
        ("r.example/shop/*", "r.example/shop/a/b", True),
        ("r.example/shop/*", "r.example/shop", False),
        ("r.example/shop/*", "r.example/shop/", False),
        ("r.example/shop/*", "r.example/shopping/config", False),
        ("r.example/*", "r.example.evil/config", False),
        ("r.example/*", "r.example:5000/config", False),
        ("r.example/shop", "r.example/shop", True),
        ("r.example/shop", "r.example/shop/x", False),
    ],
)
def test_patterns_match_whole_segments(pattern: str, repository: str, expected: bool) -> None:
    assert pattern_matches(pattern, repository) is expected


def test_nothing_matches_by_default() -> None:
    found = matching([_policy("a", "other.example/*")], NAME)
    assert (found.policy, found.problem) == (None, "")


def test_the_longest_pattern_wins_in_any_order() -> None:
    policies = [
        _policy("host", "registry.example/*"),
        _policy("team", "registry.example/shop/*"),
        _policy("exact", NAME),
    ]
    for order in itertools.permutations(policies):
        found = matching(order, NAME)
        assert found.policy is not None
        assert (found.policy.name, found.floors) == ("exact", ())


def test_an_exact_name_is_longer_than_a_prefix_of_the_same_length() -> None:
    found = matching([_policy("prefix", "r.example/a/*"), _policy("exact", "r.example/a/b")], "r.example/a/b")
    assert found.policy is not None
    assert found.policy.name == "exact"


def test_floors_are_judged_in_addition_to_the_winner() -> None:
    found = matching([_policy("floor", "registry.example/*", floor=True), _policy("team", NAME)], NAME)
    assert [rules.name for rules in found.rules] == ["team", "floor"]


def test_the_same_pattern_in_two_policies_makes_both_invalid() -> None:
    found = matching([_policy("a", NAME), _policy("b", NAME)], NAME)
    assert found.policy is None
    assert "'a' and 'b' are both invalid" in found.problem


def test_the_same_broad_pattern_twice_is_not_healed_by_a_narrow_policy() -> None:
    found = matching([_policy("a", "registry.example/*"), _policy("b", "registry.example/*"), _policy("c", NAME)], NAME)
    assert found.policy is None


@pytest.mark.parametrize("patterns", [(NAME,), ("registry.example/*",), ()], ids=["exact", "broad", "unreadable"])
def test_a_broken_policy_that_may_match_never_yields_to_another(patterns: tuple[str, ...]) -> None:
    found = matching([BrokenPolicy("typo", patterns, "spec.thresold: unknown field"), _policy("good", NAME)], NAME)
    assert found.policy is None
    assert "'typo' is invalid: spec.thresold: unknown field" in found.problem


def test_a_broken_policy_about_something_else_does_not_matter() -> None:
    found = matching([BrokenPolicy("typo", ("other.example/*",), "x"), _policy("good", NAME)], NAME)
    assert found.policy is not None


def test_deny_lists_of_every_matching_policy_add_up() -> None:
    found = matching(
        [
            _policy("broad", "registry.example/*", deny={"digests": [DIGEST]}),
            _policy("narrow", NAME, deny={"digests": [OTHER_DIGEST]}),
            _policy("elsewhere", "other.example/*", deny={"keys": [DIGEST]}),
        ],
        NAME,
    )
    assert set(found.deny.digests) == {DIGEST, OTHER_DIGEST}
    assert found.deny.keys == ()


def test_the_host_is_compared_without_regard_to_case() -> None:
    assert matching([_policy("a", "Registry.Example/shop/*")], "REGISTRY.example/shop/config").policy is not None
