"""JSON from strangers has one reading or none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.kit.strictjson import Malformed, parse_json, parse_json_object

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}', b'[{"b":{"a":1,"a":1}}]', b"NaN", b"[Infinity]", b'\xef\xbb\xbf{}', b"\xff", b'"\\ud800"',
        b'{"\\udfff":1}', b"{} {}", b"", b"[" * 100_000, b"[" * 70 + b"]" * 70, b"1" * 5_000,
    ],
    ids=["duplicate", "deep-duplicate", "nan", "infinity", "bom", "latin", "surrogate", "surrogate-key", "two",
         "empty", "bomb", "deep", "long-number"],
)  # fmt: skip
def test_ambiguous_or_hostile_json_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_json(data, max_bytes=1_000_000)


def test_too_many_bytes_are_not_parsed() -> None:
    with pytest.raises(Malformed, match="at most 3"):
        parse_json(b"[  ]", max_bytes=3)


def test_a_list_is_no_object() -> None:
    with pytest.raises(Malformed, match="not an object"):
        parse_json_object(b"[]", max_bytes=10)


@given(_values)
@settings(deadline=None)
def test_ordinary_json_reads_as_the_standard_library_reads_it(value: object) -> None:
    assert parse_json(json.dumps(value).encode(), max_bytes=1_000_000) == value


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_a_value_or_malformed(data: bytes) -> None:
    try:
        parse_json(data, max_bytes=1_000)
    except Malformed:
        return


def test_a_number_beyond_every_float_is_refused() -> None:
    with pytest.raises(Malformed, match="too large"):
        parse_json(b'{"a": [1e999]}', max_bytes=100)
