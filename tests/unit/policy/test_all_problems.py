"""Reading a policy to the end finds what reading it once would refuse, and nothing in a policy that is fine."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocisync.flows.policycases import run_cases
from ocisync.flows.policyfiles import PolicyFile, check, rehearsed
from ocisync.model.errors import InvalidInput
from ocisync.policy.rules import parse_policy, problems_of
from tests.support.trust import NOW, policy
from tests.unit.policy.test_policy_rules import FULL, PATHS

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "x", "1h", "*", "a.example/b", "sha256:" + "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "key", "where", "x"]), inner),
    max_leaves=6,
)
_PLACES = [
    (*path, name) for path in PATHS for name in ("name", "key", "pem", "keyless", "digest", "until", "path", "where")
]


def _put(document: Any, path: tuple[Any, ...], value: object) -> None:
    for part in path[:-1]:
        document = document[part]
    if isinstance(document, dict):
        document[path[-1]] = value


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [leaf for name, child in pairs for leaf in _leaves(child, (*path, name))]
    return ([path] if path else []) + below


@given(
    changes=st.lists(
        st.tuples(st.sampled_from(_PLACES + [at for at in _leaves(FULL) if isinstance(at[-1], str)]), _values),
        max_size=4,
    )
)
def test_all_problems_are_found_exactly_where_one_would_be(changes: list[tuple[tuple[Any, ...], object]]) -> None:
    document = copy.deepcopy(FULL)
    for path, value in changes:
        try:
            _put(document, path, value)
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    found = problems_of(document)
    try:
        parse_policy(document)
    except InvalidInput as error:
        assert error.message in [one.message for one in found]
    else:
        assert found == ()
    places = [one.message.partition(": ")[0] for one in found]
    assert len(places) == len(set(places))
    report = check([PolicyFile("p.json", json.dumps(document).encode())], NOW)
    assert bool(report.errors) or not found
    assert all(one.line for one in report.errors if one.rule == "invalid")


_fields = st.sampled_from(
    ["name", "repository", "tag", "version", "digest", "now", "watermark", "evidence", "expect", "x"]
)


_evidence_fields = st.sampled_from(
    ["signer", "key", "identity", "claims", "format", "predicateType", "predicate", "damaged", "bare"]
)


@given(
    case=st.dictionaries(_fields, _values, max_size=3), evidence=st.dictionaries(_evidence_fields, _values, max_size=3)
)
def test_no_case_does_anything_but_run_or_be_refused(case: dict[str, Any], evidence: dict[str, Any]) -> None:
    full = {"name": "x", "repository": "registry.example/shop/config", "expect": {"allowed": True},
            "evidence": [{"signer": "ci", **evidence}], **case}  # fmt: skip
    document = {"apiVersion": "ocisync.dev/v1alpha1", "kind": "TrustPolicyCases", "cases": [full]}
    policies = [rehearsed(policy())]
    try:
        run_cases(json.dumps(document).encode(), "c.json", policies)
    except InvalidInput as error:
        assert error.message.startswith("c.json")


def test_the_policies_of_these_tests_are_policies() -> None:
    assert problems_of(policy()) == ()
