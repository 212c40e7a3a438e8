"""Versions and ranges: equal to the Masterminds library, which Flux and Argo CD use, on every case of the fixture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.model.errors import UsageError
from ocisync.model.semver import Version, newest_first, parse_range, parse_version

CASES = json.loads((Path(__file__).parent / "semver_cases.json").read_text())

numbers = st.integers(0, 12)
identifiers = st.one_of(st.integers(0, 99).map(str), st.sampled_from(["a", "rc", "x-1", "SNAPSHOT"]))
versions = st.builds(Version, numbers, numbers, numbers, st.lists(identifiers, max_size=3).map(tuple))


def text_of(version: Version) -> str:
    core = ".".join(map(str, version.core))
    return f"{core}-{'.'.join(version.pre)}" if version.pre else core


def found(text: str) -> list[str] | None:
    try:
        within = parse_range(text)
    except UsageError:
        return None
    return [name for name in CASES["versions"] if within.matches(version(name))]


def version(text: str) -> Version:
    parsed = parse_version(text)
    assert parsed is not None, text
    return parsed


def test_every_range_finds_what_the_library_finds() -> None:
    names = CASES["versions"]
    assert len(CASES["cases"]) > 700
    for text, bits in CASES["cases"]:
        wanted = (
            None if bits is None else [name for place, name in enumerate(reversed(names)) if bits >> place & 1][::-1]
        )
        assert found(text) == wanted, text


@pytest.mark.parametrize("text", ["1.2", "latest", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3 ", "vv1.2.3", "1.2.3.4", ""])
def test_what_is_no_whole_version_is_none(text: str) -> None:
    assert parse_version(text) is None


@pytest.mark.parametrize("text", ["01.2", ">=1.2.3-", "1" * 2000, ">= 99999999999999999999", "^1.2 garbage", "1;2"])
def test_what_is_no_range_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_range(text)


def test_versions_sort_as_the_specification_says() -> None:
    order = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    assert newest_first(order) == order[::-1]


def test_tags_that_are_no_versions_are_left_out_and_a_range_filters() -> None:
    tags = ["latest", "v1.10.0", "1.9.0", "sha-0123", "2.0.0-rc.1", "1.9"]
    assert newest_first(tags) == ["2.0.0-rc.1", "v1.10.0", "1.9.0"]
    assert newest_first(tags, parse_range("^1")) == ["v1.10.0", "1.9.0"]
    assert newest_first(tags, parse_range(">1-0")) == ["2.0.0-rc.1"]


@given(versions)
def test_a_version_reads_back(given_version: Version) -> None:
    assert parse_version(text_of(given_version)) == given_version


@given(versions, versions)
def test_comparisons_agree_with_the_order(left: Version, right: Version) -> None:
    below = left.precedence < right.precedence
    if not left.pre:
        assert parse_range(f"<{text_of(right)}").matches(left) is below
        assert parse_range(f">={text_of(right)}").matches(left) is not below


@given(versions, st.sampled_from(["", "=", "!=", ">", ">=", "<", "<=", "~", "^"]), versions)
def test_a_pre_release_is_matched_only_by_a_range_that_names_one(bound: Version, operator: str, tried: Version) -> None:
    if tried.pre and not bound.pre:
        assert not parse_range(operator + text_of(bound)).matches(tried)


@given(st.text(alphabet="0123456789.xX*v^~<>=!|, -+ab\t", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    found(text)


@given(st.lists(versions, max_size=8))
def test_sorting_does_not_depend_on_the_order(items: list[Version]) -> None:
    tags = [text_of(item) for item in items]
    assert newest_first(tags) == newest_first(tags[::-1])
