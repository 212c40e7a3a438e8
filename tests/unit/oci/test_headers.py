from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.oci.headers import (
    Challenge,
    media_type_of,
    next_link,
    parse_challenges,
    parse_warnings,
    retry_after_s,
)

BEARER = Challenge(
    "bearer",
    (
        ("realm", "https://auth.docker.io/token"),
        ("service", "registry.docker.io"),
        ("scope", "repository:a/b:pull,push"),
    ),
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            (BEARER,),
        ),
        ('Basic realm="reg"', (Challenge("basic", (("realm", "reg"),)),)),
        ("BASIC", (Challenge("basic"),)),
        ("Basic, Bearer realm=https://x/t", (Challenge("basic"), Challenge("bearer", (("realm", "https://x/t"),)))),
        (
            'Basic realm="a, b", Bearer realm="https://x/t" , error="invalid_token"',
            (
                Challenge("basic", (("realm", "a, b"),)),
                Challenge("bearer", (("realm", "https://x/t"), ("error", "invalid_token"))),
            ),
        ),
        (r'Basic realm="say \"hi\" \\ bye"', (Challenge("basic", (("realm", r'say "hi" \ bye'),)),)),
        ('realm="no scheme"', ()),
        ('Basic realm="never closed', (Challenge("basic"), Challenge("closed"))),
    ],
)
def test_challenges_are_read(header: str, expected: tuple[Challenge, ...]) -> None:
    found = parse_challenges(header)
    if "never" in header:
        assert found[0] == expected[0]  # what follows is anything, as long as it ends
    else:
        assert found == expected


@given(st.text(max_size=300))
def test_any_challenge_header_is_survived(text: str) -> None:
    for challenge in parse_challenges(text):
        assert challenge.scheme


def test_a_huge_challenge_header_is_read_in_no_time() -> None:
    parse_challenges('Basic realm="' + "\\" * 1_000_000)
    parse_challenges("a " * 1_000_000)
    parse_challenges("=" * 1_000_000)


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</v2/a/tags/list?n=5&last=x>; rel="next"', "/v2/a/tags/list?n=5&last=x"),
        ("</next>; rel=next", "/next"),
        ('</next>;  REL = "prev next"', "/next"),
        ('</a>; rel="prev", </b,c>; title="x"; rel="next"', "/b,c"),
        ('</a>; rel="nextish"', ""),
        ('</a>; rel="prev"', ""),
        ("</a>", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_the_next_page_is_found(header: str, target: str) -> None:
    assert next_link(header) == target


@given(st.text(max_size=300))
def test_any_link_header_is_survived(text: str) -> None:
    assert isinstance(next_link(text), str)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("0", "", 0.0),
        ("120", "", 120.0),
        (" 7 ", "", 7.0),
        ("1.5", "", 1.5),
        ("-1", "", None),
        ("soon", "", None),
        ("٣", "", None),
        ("9" * 50, "", None),
        ("", "", None),
        ("Mon, 23 Nov 2026 06:01:00 GMT", "Mon, 23 Nov 2026 06:00:00 GMT", 60.0),
        ("Mon, 23 Nov 2026 05:00:00 GMT", "Mon, 23 Nov 2026 06:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 06:01:00 GMT", "", None),
    ],
)
def test_the_wait_that_a_server_asks_for(value: str, date: str, seconds: float | None) -> None:
    assert retry_after_s(value, date) == seconds


@given(st.text(max_size=100), st.text(max_size=100))
def test_any_retry_after_is_survived(value: str, date: str) -> None:
    seconds = retry_after_s(value, date)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("header", "expected"), [("Application/JSON; charset=utf-8", "application/json"), ("", ""), (" a/b ", "a/b")]
)
def test_a_media_type_loses_its_parameters(header: str, expected: str) -> None:
    assert media_type_of(header) == expected


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ('299 - "this registry ends in May"', ("this registry ends in May",)),
        ('299 - "one", 299 - "two, too"', ("one", "two, too")),
        (r'299 - "say \"no\""', ('say "no"',)),
        ('110 - "stale", 299 - "told"', ("told",)),
        ('299 cache.example "not from a registry"', ()),
        ('299 - "no end', ()),
        ("", ()),
    ],
)
def test_warnings_for_people_are_read(header: str, texts: tuple[str, ...]) -> None:
    assert parse_warnings(header) == texts


@given(st.text(max_size=200))
def test_any_warning_header_is_survived(header: str) -> None:
    assert all(isinstance(text, str) for text in parse_warnings(header))
