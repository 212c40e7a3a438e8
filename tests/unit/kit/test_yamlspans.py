"""One scalar is exchanged, and no other byte changes, however the text is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.yamlio import Path, dump_all, parse_documents
from ocisync.kit.yamlspans import Spans, exchanged

NEW = "registry.example/a:1@sha256:" + "0" * 64


def changed(text: str | bytes, path: Path, index: int = 0) -> str:
    data = text.encode() if isinstance(text, str) else text
    spans = Spans(data)
    span = spans.find(index, path)
    assert span is not None
    return exchanged(spans, [(span, "NEW")]).decode()


CASES: dict[str, tuple[str, Path, str]] = {
    "plain": ("a: old # why\nb: old\n", ("a",), "a: NEW # why\nb: old\n"),
    "double quotes": ('a:   "old"   # why\n', ("a",), 'a:   "NEW"   # why\n'),
    "single quotes": ("a: 'old'\n", ("a",), "a: 'NEW'\n"),
    "in a list": ("- x: [q, {a: old}]\n", (0, "x", 1, "a"), "- x: [q, {a: NEW}]\n"),
    "no final line feed": ("a: old", ("a",), "a: NEW"),
    "carriage returns": ("x: é\r\na: old\r\nb: 1\r\n", ("a",), "x: é\r\na: NEW\r\nb: 1\r\n"),
    "mixed line ends": ("x: 1\r\ny: 2\na: old\r\n", ("a",), "x: 1\r\ny: 2\na: NEW\r\n"),
    "beyond the basic plane": ("x: 😀\na: old\n", ("a",), "x: 😀\na: NEW\n"),
    "other line breaks": ("x: 'a\u2028b'\na: old\n", ("a",), "x: 'a\u2028b'\na: NEW\n"),
    "anchor and tag": ("a: &x !!str old\n", ("a",), "a: &x !!str NEW\n"),
    "alias": ("b: &x old\na: *x\n", ("a",), "b: &x NEW\na: *x\n"),
    "merge": ("b: &x {a: old}\nc: {<<: *x, d: 1}\n", ("c", "a"), "b: &x {a: NEW}\nc: {<<: *x, d: 1}\n"),
    "merges": ("b: &x {a: old}\nc: {<<: [*x], d: 1}\n", ("c", "a"), "b: &x {a: NEW}\nc: {<<: [*x], d: 1}\n"),
    "beside a merge": ("b: &x {c: 1}\nd: {<<: *x, a: old}\n", ("d", "a"), "b: &x {c: 1}\nd: {<<: *x, a: NEW}\n"),
    "byte order mark": ("\ufeffa: old\n", ("a",), "\ufeffa: NEW\n"),
    "JSON": ('{"x": "\\ud83d\\ude00\\/\\\\", "a": "old"}', ("a",), '{"x": "\\ud83d\\ude00\\/\\\\", "a": "NEW"}'),
    "JSON with tabs": ('{\n\t"a": "old"\n}\n', ("a",), '{\n\t"a": "NEW"\n}\n'),
    "flow YAML": ("{a: old, b: 1}\n", ("a",), "{a: NEW, b: 1}\n"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "path", "expected"), CASES.values(), ids=CASES)
def test_only_the_scalar_changes(text: str, path: Path, expected: str) -> None:
    assert changed(text, path) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n---\na: old\n",
        "---\na: 1\n---\n# c\na: old\n",
        "a: 1\r\n---\r\na: old\r\n",
        '{"a":1}\n{"a":"old"}',
        '{"a":1}\n---\na: old\n',
    ],
)
def test_documents_are_counted_as_the_parser_counts_them(text: str) -> None:
    assert parse_documents(text.encode(), "f")[1].value == {"a": "old"}
    assert changed(text, ("a",), 1) == text.replace("old", "NEW")


@pytest.mark.parametrize(
    "text",
    ["a: |\n  old\n", "a: >-\n  old\n", 'a: "o\\\n  ld"\n', "a: o\n  ld\n", "a: {b: 1}\n", "b: 1\n", "", "a: [\n"],
)
def test_what_is_not_one_scalar_on_one_line_is_not_found(text: str) -> None:
    assert Spans(text.encode()).find(0, ("a",)) is None


def test_two_edits_do_not_shift_each_other() -> None:
    spans = Spans(b"a: 1\nb: 2\n")
    first, second = spans.find(0, ("a",)), spans.find(0, ("b",))
    assert first is not None and second is not None
    assert exchanged(spans, [(first, "long"), (second, "longer"), (first, "long")]) == b"a: long\nb: longer\n"


keys = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff\x85\u2028\u2029"), max_size=6
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), keys)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@given(st.lists(st.dictionaries(keys, values, max_size=3), min_size=1, max_size=3), st.booleans())
def test_an_image_anywhere_in_any_stream_is_exchanged_alone(documents: list[dict[str, object]], as_json: bool) -> None:
    for document in documents:
        document["image"] = "old:1"
    text = "\n".join(map(json.dumps, documents)) if as_json else dump_all(documents)
    spans = Spans(text.encode())
    found = [spans.find(index, ("image",)) for index in range(len(documents))]
    edits = [(span, NEW) for span in found if span is not None]
    assert len(edits) == len(documents)
    data = exchanged(spans, edits)
    expected = [{**document, "image": NEW} for document in documents]
    assert [document.value for document in parse_documents(data, "f")] == expected
