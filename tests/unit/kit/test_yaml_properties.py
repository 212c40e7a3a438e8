"""Properties of the YAML reader: one value in many spellings, and no bytes that break it or that have no place."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.yamlio import Places, dump_all, parse_documents
from ocisync.model.errors import InvalidInput

pytestmark = pytest.mark.timeout(1800)  # OCISYNC_HEAVY=1 looks at thousands of values

TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"], exclude_characters="\ufeff\u2028\u2029"), max_size=8
)
KEYS = st.text("abcxyz-./é ", min_size=1, max_size=6).map(str.strip).filter(bool)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(-1e20, 1e20).map(lambda number: number + 0.5).filter(lambda number: not number.is_integer())
    | TEXT
    | st.sampled_from(["y", "1e3", "0x1F", "~", "2001-01-01", "a: b", "- a", "#", "{", "a?b", ".inf", "<<", "%", "''"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(VALUES, st.randoms(use_true_random=False))
def test_a_value_reads_the_same_in_every_spelling(value: Any, rng: random.Random) -> None:
    text = spelled(value, rng, 0)
    (document,) = parse_documents(text.encode(), "f.yaml")
    assert json.dumps(document.value, sort_keys=True) == json.dumps(value, sort_keys=True), text


@given(st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), min_size=1, max_size=4))
def test_documents_of_a_stream_come_back_in_order(values: list[Any]) -> None:
    read = parse_documents(dump_all(values).encode(), "f.yaml")
    assert [document.value for document in read] == values
    assert [document.index for document in read] == list(range(len(values)))


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_every_key_has_the_place_where_it_is_written(value: dict[str, Any], rng: random.Random) -> None:
    text = "# first\n" + spelled(value, rng, 0)
    places = Places(text.encode())
    lines = text.split("\n")
    for key in value:
        line, column = places.find(0, (key,))
        assert lines[line - 1][column - 1 :].lstrip("'\"").startswith(key)


@given(st.binary(max_size=120) | st.text("-:[]{}&*!<>|'\"\n #ab%@,?.\\/~=\t\r1e", max_size=50).map(str.encode))
def test_an_error_has_a_place_inside_the_file(data: bytes) -> None:
    try:
        parse_documents(data, "f.yaml")
    except InvalidInput as err:
        for finding in err.findings:
            # Other characters than LF end lines for YAML too; behind the last line there is one more.
            ends = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80")
            assert 1 <= finding.line <= ends + 2
            assert 1 <= finding.column <= len(data) + 2
            assert finding.message.isprintable()


def spelled(value: Any, rng: random.Random, indent: int) -> str:
    """YAML text of a value in any of its forms: block or flow, each scalar quoted in any way that keeps it."""
    if isinstance(value, dict | list) and value and indent < 12 and rng.random() < 0.7:
        return _block(value, rng, indent)
    return _flow(value, rng) + "\n"


def _block(value: Any, rng: random.Random, indent: int) -> str:
    pad = " " * indent
    lines = []
    pairs = [(f"{_string(key, rng)}:", item) for key, item in value.items()] if isinstance(value, dict) else []
    for lead, item in pairs or [("-", item) for item in value]:
        comment = rng.choice(["", "", f"{pad}# a: [comment\n", "\n"])
        if isinstance(item, dict | list) and item and rng.random() < 0.7:
            lines.append(f"{comment}{pad}{lead}\n{_block(item, rng, indent + rng.choice([1, 2, 4]))}")
        else:
            lines.append(f"{comment}{pad}{lead}{rng.choice([' ', '  '])}{_flow(item, rng)}{rng.choice(['', ' # c'])}\n")
    return "".join(lines)


def _flow(value: Any, rng: random.Random) -> str:
    comma = rng.choice([", ", ",", " , "])
    if isinstance(value, list):
        return f"[{comma.join(_flow(item, rng) for item in value)}]"
    if isinstance(value, dict):
        return "{" + comma.join(f"{_string(key, rng)}: {_flow(item, rng)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return _string(value, rng)
    if value is None:
        return rng.choice(["~", "null", "Null"])
    if isinstance(value, bool):
        return rng.choice(["true", "yes", "on", "y"] if value else ["false", "no", "Off", "N"])
    if isinstance(value, int) and value >= 0:
        return rng.choice([str(value), hex(value), oct(value), f"0{value:o}", bin(value), f"{value:_}"])
    return repr(value)


def _string(text: str, rng: random.Random) -> str:
    forms = [json.dumps(text, ensure_ascii=False), "'" + text.replace("'", "''") + "'"]
    if text.isalpha() and len(text) > 5:  # no word of YAML is that long
        forms.append(text)
    return rng.choice(forms)
