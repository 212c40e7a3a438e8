"""CEL rules: what Kubernetes adds to the language, and what counts as not checked."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.kit.cel import Allowance, is_risky
from ocisync.manifests import celrules
from ocisync.manifests.celrules import CelRule, CelVerdict


def judge(rule: str, value: Any, **more: str) -> CelVerdict:
    return CelRule.of({"rule": rule, **more}).judge(lambda: value, Allowance())


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.replicas >= self.min", {"replicas": 3, "min": 1}),
        ("!has(self.a) || self.a > 3", {}),
        ("self.all(x, x.startsWith('a'))", ["ab", "ac"]),
        ("self.exists_one(x, x.name == 'b')", [{"name": "a"}, {"name": "b"}]),
        ("self.matches('^[a-z]+$') && size(self) < 4", "abc"),
        ("self.isSorted() && self.sum() == 6 && self.min() == 1 && self.max() == 3", [1, 2, 3]),
        ("self.indexOf('b') == 1 && self.lastIndexOf('b') == 3", ["a", "b", "c", "b"]),
        ("self.lowerAscii() == 'äbc' && self.upperAscii() == 'äBC'", "äBc"),
        ("self.split(',').join('-') == 'a-b' && self.replace(',', '') == 'ab'", "a,b"),
        ("self.substring(1, 3) == 'bc' && self.charAt(0) == 'a' && self.find('[cd]+') == 'cd'", "abcd"),
        ("self.trim() == 'a' && isURL('https://a.example/x') && !isURL('x')", " a "),
        ("self == 'x' || self.size() > 3", "x"),
        ("self.__dash__ == 1 && self.__namespace__ == 'n'", {"__dash__": 1, "__namespace__": "n"}),
    ],
)
def test_rules_that_hold(rule: str, value: Any) -> None:
    assert judge(rule, value) == CelVerdict()


def test_a_broken_rule_says_its_message() -> None:
    assert judge("self > 3", 1, message="must be large").failure == "must be large"
    assert judge("self > 3", 1, messageExpression="'not ' + string(self)", message="x").failure == "not 1"
    assert judge("self > 3", 1, messageExpression="1", message="x").failure == "x"
    assert judge("self  >\n3", 1).failure == "failed rule: self > 3"


def test_a_missing_key_is_a_refusal_as_on_the_server() -> None:
    assert "cannot be evaluated" in judge("self.a == 1", {}).failure


@pytest.mark.parametrize(
    "rule", ["self.?a.hasValue()", "1 +", "quantity(self) > quantity('1')", "self", "unknown(self)"]
)
def test_a_rule_beyond_the_library_is_not_checked(rule: str) -> None:
    verdict = judge(rule, "1")
    assert verdict.unchecked
    assert not verdict.failure


@pytest.mark.parametrize(("rule", "concerns"), [("self == oldSelf", True), ("self != 'oldSelf'", False)])
def test_rules_about_updates_are_told_from_others(rule: str, concerns: bool) -> None:
    assert CelRule.of({"rule": rule}).concerns_updates is concerns


@pytest.mark.parametrize(
    ("name", "written"),
    [("a", "a"), ("a-b", "a__dash__b"), ("a.b/c", "a__dot__b__slash__c"), ("a__b", "a__underscores__b"),
     ("namespace", "__namespace__")],
)  # fmt: skip
def test_names_are_escaped_as_rules_write_them(name: str, written: str) -> None:
    assert celrules.escaped(name) == written


def test_the_path_of_a_rule_is_read() -> None:
    assert CelRule.of({"rule": "true", "fieldPath": ".spec['a b'].c"}).field_path == ("spec", "a b", "c")


@pytest.mark.parametrize(
    ("rule", "value", "reason"),
    [
        ("self.all(a, self.all(b, self.all(c, a + b + c >= 0)))", list(range(300)), "too many steps"),
        ("self.map(a, self.map(b, self.map(c, 1))).size() > 0", list(range(300)), "too many steps"),
        ("self.split('').all(a, self.split('').all(b, a == b))", "a" * 3_000, "too many steps"),
        (
            "self.replace('a', 'aaaaaaaaaaaaaaaa').replace('a', 'aaaaaaaaaaaaaaaa').size() > 0",
            "a" * 10_000,
            "a text of",
        ),
        ("self.map(x, self[0]).join().size() > 0", ["a" * 2_000] * 1_000, "a text of"),
        (f"{list(range(300))}.all(a, {list(range(300))}.all(b, self.all(c, a + b + c >= 0)))", [1], "too many steps"),
        ("(self + self + self).all(a, (self + self + self).all(b, a + b >= 0))", list(range(400)), "too many steps"),
        (f"'{'x' * 2_000}'.split('').all(a, '{'x' * 2_000}'.split('').all(b, a == b))", [1], "too many steps"),
        ("self.find('(a|a)*b') == ''", "a" * 40, "may never end"),
        ("self.findAll('(.*)(.*)(.*)(.*)b').size() == 0", "a" * 400, "may never end"),
    ],
)
def test_a_rule_that_would_take_for_ever_is_not_checked(rule: str, value: Any, reason: str) -> None:
    assert reason in judge(rule, value).unchecked


def test_loops_beside_each_other_and_inside_texts_are_not_nested() -> None:
    rule = " && ".join(["self.all(a, a >= 0)"] * 9 + ["'x.all(a, x.all(b, x.all(c, x.all(d' != ''"])
    assert judge(rule, list(range(1_000))) == CelVerdict()


def test_the_objects_of_a_kind_share_what_rules_may_take() -> None:
    allowance, rule = Allowance(2_500), CelRule.of({"rule": "self.all(a, a >= 0)"})
    told = [rule.judge(lambda: list(range(1_000)), allowance).unchecked for _ in range(3)]
    assert told[:2] == ["", ""]
    assert "too many steps" in told[2]


@pytest.mark.parametrize("pattern", ["(a|a)*", "(a+)+$", "(.*)(.*)(.*)x", "(a?){60}", r"(x+x+)+y", "a{1,}b{1,}c{1,}"])
def test_patterns_of_which_python_could_try_too_many_ways_are_risky(pattern: str) -> None:
    assert is_risky(pattern)


@pytest.mark.parametrize("pattern", ["^[a-z]+$", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", r"^\d{1,3}$", r"a\+b\*c\+d\+"])
def test_other_patterns_are_not(pattern: str) -> None:
    assert not is_risky(pattern)
