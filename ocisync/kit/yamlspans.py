"""Exactly where scalars are written in YAML or JSON text, so that one can be exchanged and no other byte changes.

Aliases and `<<` merges lead to the scalar behind their anchor. What cannot be found for certain is not found: callers
read the changed text again and compare, so that a wrong place is an error and never a wrong file.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import yaml

from ocisync.kit import jsontext, yamlbuild, yamlstream
from ocisync.kit.yamlio import Path
from ocisync.model import limits
from ocisync.model.values import dataclass

_CAPS = jsontext.Caps(limits.YAML_NODES, limits.YAML_DEPTH, limits.YAML_DOCUMENTS)
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")
# Escapes of JSON that libyaml refuses, each exchanged for as many characters.
_JSON_ESCAPE = re.compile(r"\\(?:\\|/|u[dD][89a-fA-F][0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Span:
    """One scalar: characters `start` to `end` of the text, quotes included. `quote` is empty, `'` or `"`."""

    start: int
    end: int
    quote: str


@dataclass(slots=True)
class _Node:
    start: int
    end: int
    style: str | None = None
    children: dict[str | int, _Node] | None = None  # None for a scalar


_UNKNOWN = _Node(0, 0, "|")


class Spans:
    """The scalars of a file that `yamlio.parse_documents` reads."""

    def __init__(self, data: bytes) -> None:
        self.text = data.decode()
        self._roots: list[_Node | None] = []
        self._starts: list[int] = []  # of each document, in its own counting
        self._base = 0  # where YAML begins
        self._crlf: list[int] = []  # line feeds behind it, counted as if alone, that stand for two characters
        self._json = 0  # so many documents are JSON values
        text = self.text
        if yamlstream.looks_like_json(text):
            values, _ = jsontext.read_values(text, _CAPS)
            for item in values:
                self._add(_JSON_ESCAPE.sub(_as_long, text[item.start : item.end]), item.start)
            self._json = len(self._roots)
            rest = yamlstream.after_space(text, values[-1].end if values else 0)
            self._base = len(text) if rest is None else rest
        self._add_yaml(text[self._base :])

    def find(self, index: int, path: Path) -> Span | None:
        """The scalar at `path` in document `index`; None if there is none, or it is not written on one line."""
        node = self._roots[index] if index < len(self._roots) else None
        for part in path:
            node = node.children.get(part) if node is not None and node.children is not None else None
        if node is None or node.children is not None or node.style in ("|", ">"):
            return None
        start, end = self._place(index, node.start), self._place(index, node.end)
        found = _PROPERTIES.match(self.text, start, end)
        start = found.end() if found else start
        if "\n" in self.text[start:end]:
            return None
        return Span(start, end, node.style or "")

    def _place(self, index: int, offset: int) -> int:
        offset += self._starts[index]
        return offset if index < self._json else self._base + offset + bisect_left(self._crlf, offset)

    def _add_yaml(self, text: str) -> None:
        plain = text.replace("\r\n", "\n")
        lines = [0, *(found.end() for found in re.finditer("\n", plain))]
        if len(plain) != len(text):
            ends = [found.start() for found in re.finditer("\r?\n", text)]
            pairs = [text.startswith("\r\n", place) for place in ends]
            self._crlf = [start - 1 for start, pair in zip(lines[1:], pairs, strict=True) if pair]
        for chunk in yamlstream.chunks(text):
            mark = chunk.text.startswith("\ufeff")
            self._add(chunk.text.removeprefix("\ufeff"), lines[chunk.lines] + mark)

    def _add(self, text: str, start: int) -> None:
        parser = yamlbuild.EventParser(text)
        try:
            parser.get_event()
            if isinstance(parser.get_event(), yaml.DocumentStartEvent):
                self._starts.append(start)
                self._roots.append(_node(parser, {}, limits.YAML_DEPTH))
        except yaml.YAMLError:
            self._roots.append(None)
        finally:
            parser.dispose()


def exchanged(spans: Spans, edits: Iterable[tuple[Span, str]]) -> bytes:
    """The text with other scalars, each quoted as before. The new ones must need no escapes."""
    text = spans.text
    for span, value in sorted(set(edits), key=lambda edit: edit[0].start, reverse=True):
        text = f"{text[: span.start]}{span.quote}{value}{span.quote}{text[span.end :]}"
    return text.encode()


def _as_long(found: re.Match[str]) -> str:
    escape = found[0]
    return escape if escape == "\\\\" else "/ " if escape == "\\/" else "\\u0041"


def _node(parser: Any, anchors: dict[str, _Node], depth: int) -> _Node:
    event = parser.get_event()
    if depth <= 0:
        raise yaml.YAMLError("too deep")
    if isinstance(event, yaml.AliasEvent):
        return anchors.get(str(event.anchor), _UNKNOWN)
    node = _Node(event.start_mark.index, event.end_mark.index)
    if isinstance(event, yaml.ScalarEvent):
        node.style = event.style
    elif isinstance(event, yaml.SequenceStartEvent):
        node.children = {}
        while not isinstance(parser.peek_event(), yaml.SequenceEndEvent):
            node.children[len(node.children)] = _node(parser, anchors, depth - 1)
        parser.get_event()
    else:
        node.children = _children(parser, anchors, depth - 1)
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _children(parser: Any, anchors: dict[str, _Node], depth: int) -> dict[str | int, _Node]:
    children: dict[str | int, _Node] = {}
    merged: list[_Node] = []
    while not isinstance(parser.peek_event(), yaml.MappingEndEvent):
        event = parser.peek_event()
        name = event.value if isinstance(event, yaml.ScalarEvent) else None
        _node(parser, anchors, depth)
        value = _node(parser, anchors, depth)
        if name == "<<" and event.implicit[0]:
            merged.append(value)
        elif name is not None:
            children[name] = value
    parser.get_event()
    for source in merged:
        below = source.children or {}
        sources = [source, *(item for key, item in below.items() if isinstance(key, int))]
        for item in sources:
            for key, inherited in (item.children or {}).items():
                if not isinstance(key, int):
                    children.setdefault(key, inherited)
    return children
