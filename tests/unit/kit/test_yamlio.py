from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.kit import yamlbuild
from ocisync.kit.yamlio import Places, dump, dump_all, parse_documents
from ocisync.model.errors import InvalidInput

# What sigs.k8s.io/yaml answers (asked of the Go library itself), where PyYAML's own loader would answer otherwise.
AS_KUBECTL = [
    ("y", True),
    ("n", False),
    ("Y", True),
    ("N", False),
    ("on", True),
    ("Off", False),
    ("yes", True),
    ("NO", False),
    ("yEs", "yEs"),
    ("1e3", 1000),
    ("1E3", 1000),
    ("1.0e3", 1000),
    ("1e-7", 1e-07),
    ("5.", 5),
    ("1.", 1),
    ("+.5", 0.5),
    ("-.5", -0.5),
    (".5_0", 0.5),
    ("1:30", "1:30"),
    ("190:20:30", "190:20:30"),
    ("0o10", 8),
    ("08", 8),
    ("09", 9),
    ("010", 8),
    ("0o8", "0o8"),
    ("0x1F", 31),
    ("0x_1F", 31),
    ("0b101", 5),
    ("-0b101", -5),
    ("0b2", "0b2"),
    ("1_000", 1000),
    ("0x1p3", "0x1p3"),
    ("1e400", "1e400"),
    ("-0.0", 0),
    ("2001-12-14", "2001-12-14"),
    ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
    ("18446744073709551615", 18446744073709551615),
    ("18446744073709551616", 18446744073709552000),
    ("-9223372036854775808", -9223372036854775808),
    ("1e21", 1e21),
    ("=", "="),
    ("<<", "<<"),
    ("~", None),
    ("", None),
    ("! 3", "3"),
    ('! "3"', "3"),
    ("!foo x", "x"),
    ("!foo [x]", ["x"]),
    ("!!binary aGk=", "hi"),
    ("!!timestamp 2001-12-14", "2001-12-14"),
    ("!!str 3", "3"),
    ("!!float 3", 3),
    ('!!int "3"', 3),
    ("!!set {a, b}", {"a": None, "b": None}),
    ("'y'", "y"),
    ('"1e3"', "1e3"),
    ("+", "+"),
    (".", "."),
    ("0x", "0x"),
]


@pytest.mark.parametrize(("text", "expected"), AS_KUBECTL)
def test_a_scalar_means_what_it_means_to_kubectl(text: str, expected: object) -> None:
    value = one(f"a: {text}\n")["a"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("y: v", "true"),
        ("no: v", "false"),
        ("1: v", "1"),
        ("0x10: v", "16"),
        ("1.5: v", "1.5"),
        ("=: v", "="),
        ("'y': v", "y"),
    ],
)
def test_a_key_becomes_the_string_that_kubectl_makes_of_it(text: str, key: str) -> None:
    assert one(text) == {key: "v"}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: .inf", "f.yaml:1:4", "not a JSON number"),
        ("a:\n- .NaN", "f.yaml:2:3", "not a JSON number"),
        ("{null: v}", "f.yaml:1:2", "not null"),
        ("? [a]\n: b", "f.yaml:1:3", "not a list"),
        ("a: [b?c]", "f.yaml:1:5", "put it in quotes"),
        ("a: 1\n...\nb: 2", "f.yaml:3:1", "kubectl ignores it"),
        ("a: 1\n--- {b: 2}", "f.yaml:2:1", "only a comment"),
        ("a: 1\n---\nb: [\n---\nc: }", "f.yaml:4:1", "expected node content"),
        ("a: 1\n\ufeffb: 2", "f.yaml:2:1", "byte order mark"),
        ("1: a\n'1': b", "f.yaml:2:1", "already set"),
        ("%YAML 1.1\n---\na: 1", "f.yaml:2:1", "document start"),
        ('a: "\\/"', "f.yaml:1:4", "escape"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1", "'a' is already set"),
        ("1: x\n'1': y", "f.yaml:2:1", "already set"),
        ("a: !!int foo", "f.yaml:1:4", "no !!int"),
        ("a: !!binary '*'", "f.yaml:1:4", "base64"),
        ("a: *b", "f.yaml:1:4", "unknown"),
        ("a: &a [*a]", "f.yaml:1:8", "inside its own anchor"),
        ("<<: x", "f.yaml:1:5", "needs a mapping"),
        ("x: &a {b: 1}\nz:\n  b: 2\n  <<: *a", "f.yaml:4:7", "<< sets it again"),
        ("a: b: c", "f.yaml:1:5", "not allowed"),
        ("a: [1", "f.yaml:2:1", "starts in line 1"),
        ("a: \x01", "f.yaml:1", "character"),
    ],
)
def test_a_mistake_is_reported_at_its_place(text: str, place: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_documents(text.encode(), "f.yaml")
    assert words in caught.value.findings[0].message
    assert str(caught.value.findings[0]).startswith(place + ":")


def test_all_duplicate_keys_of_a_file_are_reported_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_documents(b"a: 1\na: 2\n---\nb: {c: 1, c: 2}\n", "f.yaml")
    assert [finding.line for finding in caught.value.findings] == [2, 4]


def test_merge_keys_fill_in_what_the_mapping_does_not_set_itself() -> None:
    text = "base: &b {x: 1, q: {z: 2}}\nother: &o {w: 3}\nuse: {<<: [*b, *o], v: 9}\n"
    assert one(text)["use"] == {"x": 1, "q": {"z": 2}, "w": 3, "v": 9}
    assert one("'<<': plain") == {"<<": "plain"}


@pytest.mark.parametrize("text", ["{<<: *b, x: 2}", "{x: 2, <<: *b}", "{<<: [*b, {x: 2}]}"])
def test_a_merge_never_decides_between_two_values(text: str) -> None:
    with pytest.raises(InvalidInput, match="'x' is already set"):
        parse_documents(f"- &b {{x: 1}}\n- {text}".encode(), "f.yaml")


def test_an_alias_is_a_copy() -> None:
    value = one("a: &a {l: [1]}\nb: *a\n")
    value["a"]["l"].append(2)
    assert value["b"] == {"l": [1]}


def test_documents_know_where_they_start() -> None:
    documents = parse_documents(b"# comment\na: 1\n---\n\nb: 2\n---\n", "f.yaml")
    assert [(d.index, d.line, d.value) for d in documents] == [(0, 2, {"a": 1}), (1, 5, {"b": 2})]


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_refused() -> None:
    assert parse_documents(b"\xef\xbb\xbfa: 1", "f.yaml")[0].value == {"a": 1}
    with pytest.raises(InvalidInput, match="not UTF-8"):
        parse_documents("a: 1".encode("utf-16"), "f.yaml")


def test_an_alias_bomb_stops_at_the_node_limit() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(InvalidInput, match="comes from aliases"):
        parse_documents("\n".join(lines).encode(), "f.yaml", max_nodes=100_000)


def test_aliases_cannot_hide_depth() -> None:
    lines = ["a0: &a0 [[[[[[[[[x]]]]]]]]]"]
    lines += [f"a{i}: &a{i} [[[[[[[[[*a{i - 1}]]]]]]]]]" for i in range(1, 20)]
    with pytest.raises(InvalidInput, match="nested deeper"):
        parse_documents("\n".join(lines).encode(), "f.yaml")


@pytest.mark.parametrize("name", ["f.yaml", "f.json"])
def test_limits_hold_for_yaml_and_json(name: str) -> None:
    with pytest.raises(InvalidInput, match="nested deeper"):
        parse_documents(b"[" * 101 + b"]" * 101, name)
    with pytest.raises(InvalidInput, match="nested deeper"):
        parse_documents(b"[" * 100_000, name)
    assert parse_documents(b"[" * 100 + b"]" * 100, name)
    with pytest.raises(InvalidInput, match="more than 3 values"):
        parse_documents(b"[1, 2, 3, 4]", name, max_nodes=3)
    with pytest.raises(InvalidInput, match="more than the limit of 4"):
        parse_documents(b"[1, 2]", name, max_bytes=4)
    with pytest.raises(InvalidInput, match="more than 2 documents"):
        parse_documents(b"{}\n---\n{}\n---\n{}" if name == "f.yaml" else b"{}{}{}", name, max_documents=2)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('{"a": 1,\n "a": 2}', "f.json:2:2", "already set"),
        ('{"a": 1\n "b": 2}', "f.json:2:2", "not JSON"),
        ('{"a": [1, 2}', "f.json:1:12", "not JSON"),
        ('{"a": "\\ud800"}', "f.json:1:1", "surrogate"),
        ('{"a": 1e999}', "f.json:1:1", "too large"),
        ('{"a": 1}{"b": 2}\n {"a": 1,\n "a": 2}', "f.json:3:2", "already set"),
    ],
)
def test_json_mistakes_have_a_place_too(text: str, place: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_documents(text.encode(), "f.json")
    assert words in caught.value.findings[0].message
    assert str(caught.value.findings[0]).startswith(place + ":")


def test_a_json_file_may_hold_several_values_and_escaped_slashes() -> None:
    documents = parse_documents(b'{"a": "\\/"}\n{"b": 2}\n', "f.json")
    assert [(d.line, d.value) for d in documents] == [(1, {"a": "/"}), (2, {"b": 2})]


def test_places_are_found_for_keys_and_items() -> None:
    places = Places(b"a:\n  b:\n  - c\n  - d: 1\n---\nx: y\n")
    assert places.find(0, ("a", "b")) == (2, 3)
    assert places.find(0, ("a", "b", 1, "d")) == (4, 5)
    assert places.find(0, ("a", "missing")) == (1, 1)
    assert places.find(1, ("x",)) == (6, 1)
    assert places.find(7, ()) == (0, 0)


def test_without_libyaml_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"k{i}: {text}\n" for i, (text, _) in enumerate(AS_KUBECTL))
    expected = one(text)
    monkeypatch.setattr(yamlbuild, "EventParser", yamlbuild.PurePythonParser)
    assert one(text) == expected
    with pytest.raises(InvalidInput, match="already set"):
        parse_documents(b"a: 1\na: 2", "f.yaml")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([text for text, _ in AS_KUBECTL]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("aby1e~<=. -", max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values)
def test_what_dump_writes_reads_back_equal(value: Any) -> None:
    read = parse_documents(dump(value).encode(), "f.yaml")[0].value
    assert same(read, value)


@settings(deadline=None)
@given(json_values)
def test_json_reads_as_json(value: Any) -> None:
    assert same(parse_documents(json.dumps({"v": value}).encode(), "f.json")[0].value, {"v": value})


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("-:[]{}&*!<>|'\"\n #ab%@,?", max_size=60).map(str.encode))
def test_no_input_raises_anything_but_invalid_input(data: bytes) -> None:
    for name in ("f.yaml", "f.json"):
        try:
            parse_documents(data, name)
        except InvalidInput as err:
            assert err.findings


def test_dump_keeps_multi_line_text_readable_and_quotes_what_kubectl_would_misread() -> None:
    text = dump({"b": "one\ntwo\n", "a": "y", "c": "1e3", "d": "plain"})
    assert text == 'b: |\n  one\n  two\na: "y"\nc: "1e3"\nd: plain\n'
    assert dump({"b": 1, "a": 2}, sort_keys=True) == "a: 2\nb: 1\n"
    assert dump_all([{"a": 1}, {"b": 2}]) == "a: 1\n---\nb: 2\n"


def one(text: str) -> Any:
    (document,) = parse_documents(text.encode(), "f.yaml")
    return document.value


def same(left: Any, right: Any) -> bool:
    """Equal, where a float that JSON writes without a fraction counts as that integer."""
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(right, float) and not isinstance(left, bool):
        return isinstance(left, int | float) and math.isclose(left, right, rel_tol=1e-15)
    return type(left) is type(right) and bool(left == right)


def test_places_are_known_in_yaml_that_begins_like_json() -> None:
    assert Places(b"{a: x, b: y}\n").find(0, ("b",)) == (1, 8)
