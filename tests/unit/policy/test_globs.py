"""`*` is any run without `/`, and nothing else is special."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.policy.globs import glob_matches


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a", "ba", False),
        ("*", "", True),
        ("*", "anything", True),
        ("*", "a/b", False),
        ("refs/tags/v*", "refs/tags/v1.4.0", True),
        ("refs/tags/v*", "refs/tags/v1/evil", False),
        ("refs/*", "refs/tags/v1", False),
        ("refs/*/v1", "refs/tags/v1", True),
        ("*@example.com", "dev@example.com", True),
        ("*@example.com", "dev@example.com.evil.org", False),
        ("a*b*c", "a-b-c", True),
        ("a*bc*c", "abc", False),
        ("ab*ba", "aba", False),
        ("v1.4", "v1x4", False),
        ("v[12]", "v1", False),
        ("v?", "v1", False),
        ("a**b", "ab", True),
    ],
)
def test_a_glob_matches_the_whole_text_or_not_at_all(pattern: str, text: str, matches: bool) -> None:
    assert glob_matches(pattern, text) is matches


@given(pattern=st.text("ab*/", max_size=12), text=st.text("ab/", max_size=12))
@settings(max_examples=500, deadline=None)
def test_a_glob_means_what_the_same_regular_expression_means(pattern: str, text: str) -> None:
    expression = "".join("[^/]*" if char == "*" else re.escape(char) for char in pattern)
    assert glob_matches(pattern, text) is (re.fullmatch(expression, text) is not None)


def test_a_glob_with_many_stars_takes_no_time() -> None:
    assert not glob_matches("*a" * 500 + "b", "a" * 5_000)
