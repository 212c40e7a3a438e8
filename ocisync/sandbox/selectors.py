"""Label and field selectors. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from ocisync.sandbox.apierrors import bad_request
from ocisync.sandbox.shapes import Json

Test = Callable[[Mapping[str, str]], bool]

_KEY: Final = r"(?:[A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_SET: Final = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL: Final = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([A-Za-z0-9._-]*)")
_NUMBER: Final = re.compile(rf"({_KEY})\s*([<>])\s*(-?\d+)")
_EXISTS: Final = re.compile(rf"(!?)\s*({_KEY})")
_TERM: Final = re.compile(r"\s*(?:,|$)\s*")


def parse_labels(text: str) -> Test | None:
    """Return the test of a label selector; None selects everything. Raises ApiError when it cannot be read."""
    tests: list[Test] = []
    rest = text.strip()
    while rest:
        for pattern, make in ((_SET, _set_test), (_EQUAL, _equal_test), (_NUMBER, _number_test), (_EXISTS, _exists)):
            match = pattern.match(rest)
            end = _TERM.match(rest, match.end()) if match else None
            if match and end:
                tests.append(make(match))
                rest = rest[end.end() :]
                break
        else:
            raise bad_request(f"unable to parse requirement: found '{rest}', expected a label requirement")
    if not tests:
        return None
    return lambda labels: all(test(labels) for test in tests)


def _set_test(match: re.Match[str]) -> Test:
    key, operator = match[1], match[2]
    values = {value.strip() for value in match[3].split(",")}
    if operator == "in":
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values


def _equal_test(match: re.Match[str]) -> Test:
    key, operator, value = match[1], match[2], match[3]
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def _number_test(match: re.Match[str]) -> Test:
    key, sign, bound = match[1], match[2], int(match[3])

    def test(labels: Mapping[str, str]) -> bool:
        value = labels.get(key, "")
        if not re.fullmatch(r"-?\d+", value):
            return False
        return int(value) > bound if sign == ">" else int(value) < bound

    return test


def _exists(match: re.Match[str]) -> Test:
    negated, key = bool(match[1]), match[2]
    return lambda labels: (key in labels) is not negated


def parse_fields(text: str, supported: Mapping[str, Callable[[Json], str]]) -> Callable[[Json], bool] | None:
    """Return the test of a field selector over whole objects. Raises ApiError for an unsupported field."""
    tests: list[Callable[[Json], bool]] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if match is None:
            raise bad_request(f"invalid field selector: {term!r}")
        read = supported.get(match[1])
        if read is None:
            raise bad_request(f"field label not supported: {match[1]}")
        tests.append(_field_test(read, match[3], negated=match[2] == "!="))
    if not tests:
        return None
    return lambda value: all(test(value) for test in tests)


def _field_test(read: Callable[[Json], str], wanted: str, *, negated: bool) -> Callable[[Json], bool]:
    return lambda value: (read(value) == wanted) is not negated


def matches_selector(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy a LabelSelector object (`matchLabels`, `matchExpressions`)."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or ():
        key, operator, values = term["key"], term["operator"], term.get("values") or ()
        have = labels.get(key)
        passed = {
            "In": have in values,
            "NotIn": have not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not passed:
            return False
    return True
