"""Builds the values of YAML documents from parser events: the strict reading that `yamlio` describes.

libyaml and the parser of kubectl (go-yaml) differ on a few forms of spelling. Where libyaml refuses what go-yaml reads,
the text is read again in other words that mean the same to both; where it reads what go-yaml refuses, that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from sys import intern
from typing import Any, NoReturn

import yaml

from ocisync.kit import yamlstream
from ocisync.kit.yamlscalar import STRING_STARTS, ScalarError, is_float, key_text, resolve_plain, resolve_tagged
from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.values import dataclass


class PurePythonParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """Events without libyaml: the same, many times slower."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


EventParser: Any = getattr(getattr(yaml, "cyaml", None), "CParser", PurePythonParser)
_MEMO_CHARS = 40  # of a scalar that is worth remembering
_MAX_FINDINGS = 50  # for each file: more of the same help nobody
_BEHIND_END = "text behind the end of the document: kubectl ignores it; put `---` on a line before it"
_MERGE = "tag:yaml.org,2002:merge"
_MAX_RESPELLED = 50  # times that one document is read again
_RESPELLED_CHARS = 1 << 20  # a document that is larger is read once
_INNER_MARK = re.compile("(?:^|[\n\r\x85\u2028\u2029])\ufeff")
# A tag as go-yaml scans it: in libyaml the characters , [ ] end it.
_TAG = re.compile(r"(?:&[\w-]+\s+)?(![-\w;/?:@&=+$,.!~*'()\[\]%]*)", re.ASCII)

Value = Any  # None | bool | int | float | str | list[Value] | dict[str, Value]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a stream: its value, and where its content starts (from 1). `index` counts from 0."""

    value: Value
    line: int
    column: int
    index: int


@lru_cache(maxsize=4096)
def _resolve(text: str) -> Value:
    """Remember short scalars: the same few fill every file. An error is returned, so that it is remembered too."""
    try:
        return resolve_plain(text)
    except ScalarError as err:
        return err


class _Respelled(Exception):  # libyaml would not read this text as go-yaml does; the same in other words
    def __init__(self, text: str) -> None:
        self.text = text


class _Stop(Exception):  # control flow inside this module: the file cannot be read further
    pass


class _Merge:
    """Stands for the `<<` key until its value is known."""


_MERGE_KEY = _Merge()
_NO_KEY = object()


class Builder:
    """Builds values from parser events. One instance reads one file."""

    def __init__(self, file: str, max_nodes: int, max_depth: int, max_documents: int) -> None:
        self.file = file
        self.max_nodes = max_nodes
        self.max_depth = max_depth
        self.max_documents = max_documents
        self.findings: list[Finding] = []
        self.nodes = 0  # decoding steps as go-yaml counts them
        self._aliased = 0  # of the steps in this document: those inside aliases
        self._base = 0  # steps before this document
        self._lines = 0  # before this document
        self._text = ""
        self._odd = False  # the text may hold what the events do not tell
        self._may_respell = False
        self._anchors: dict[str, _Anchor] = {}
        self._opened: dict[str, Any] = {}  # anchors of values that have begun: their events

    def read(self, text: str, lines: int = 0, known: Sequence[Document] = ()) -> tuple[Document, ...]:
        """Parse everything.

        Args:
            text: of the stream.
            lines: before it in the file.
            known: documents before it.

        Raises:
            InvalidInput: with all findings of this file.
        """
        documents = list(known)
        try:
            for chunk in yamlstream.chunks(text):
                self._lines = lines + chunk.lines
                if chunk.problem:
                    self.note(1, 1, chunk.problem)
                    break
                self._chunk(chunk.text, documents)
        except _Stop:
            pass
        self.raise_findings()
        return tuple(documents)

    def _chunk(self, text: str, documents: list[Document]) -> None:
        """Read the text of one document, in another spelling where libyaml needs that to see what go-yaml sees."""
        text = text.removeprefix("\ufeff")
        if "\ufeff" in text and (found := _INNER_MARK.search(text)):
            self.note(text.count("\n", 0, found.end()) + 1, 1, "a byte order mark inside of a document: remove it")
            return
        before = len(self.findings), len(documents), self.nodes
        for respelled in range(_MAX_RESPELLED + 1):
            self._may_respell = respelled < _MAX_RESPELLED and len(text) < _RESPELLED_CHARS
            try:
                self._spelled(text, documents)
                break
            except _Respelled as again:
                text = again.text
                del self.findings[before[0] :], documents[before[1] :]
                self.nodes = before[2]

    def _spelled(self, text: str, documents: list[Document]) -> None:
        self._text = text
        self._odd = "\\/" in text or ("?" in text and ("[" in text or "{" in text))
        before_count = len(documents)
        parser = None
        try:
            parser = EventParser(text)
            self._document(parser, documents)
        except yaml.MarkedYAMLError as err:
            if self._may_respell:
                self._respell(err)
            mark = err.problem_mark or err.context_mark
            problem = err.problem or "not YAML"
            if len(documents) > before_count:
                problem = _BEHIND_END
            elif err.context and err.context_mark:
                problem += f" ({err.context} that starts in line {self._lines + err.context_mark.line + 1})"
            self.note(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, problem)
        except yaml.reader.ReaderError as err:
            before = text[: err.position]
            column = len(before) - before.rfind("\n")
            self.note(before.count("\n") + 1, column, f"{err.reason}: character {_printable(err.character)}")
        finally:
            if parser is not None:
                parser.dispose()

    def _respell(self, err: yaml.MarkedYAMLError) -> None:
        """Write in another way what go-yaml reads and libyaml does not.

        Raises:
            _Respelled: with the new text, if this error comes from one of the few known differences.
        """
        if err.problem_mark is None or err.context_mark is None:
            return
        text, start, at = self._text, err.context_mark.index, err.problem_mark.index
        if err.problem == "found unexpected ':'" and "?" not in text[start:at]:  # [a:] holds the string "a:"
            quoted = "'" + text[start : at + 1].replace("'", "''") + "'"
            raise _Respelled(text[:start] + quoted + text[at + 1 :])
        if err.problem == "found unknown escape character" and text[at : at + 2] == "\\'":
            raise _Respelled(f"{text[:at]}\\x27{text[at + 2 :]}")
        if err.context in ("while scanning a tag", "while parsing a tag"):
            self._respell_tag(start)

    def _respell_tag(self, start: int) -> None:
        found = _TAG.match(self._text, start)
        if found and any(char in found[1] for char in ",[]"):
            tag = found[1].replace(",", "%2C").replace("[", "%5B").replace("]", "%5D")
            raise _Respelled(self._text[: found.start(1)] + tag + self._text[found.end() :])

    def note(self, line: int, column: int, message: str) -> None:
        """Record a problem in a line of this document; stop reading when there are too many."""
        self.findings.append(Finding(self.file, self._lines + line, column, message))
        if len(self.findings) >= _MAX_FINDINGS:
            raise _Stop

    def raise_findings(self) -> None:
        """Raise if anything was recorded."""
        if self.findings:
            more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
            raise InvalidInput(f"{self.findings[0]}{more}", findings=tuple(self.findings))

    def _stop(self, event: Any, message: str) -> NoReturn:
        mark = event.start_mark
        self.findings.append(Finding(self.file, self._lines + mark.line + 1, mark.column + 1, message))
        raise _Stop

    def _document(self, parser: Any, documents: list[Document]) -> None:
        """Read the one document of a chunk."""
        parser.get_event()  # the start of the stream
        event = parser.get_event()
        if type(event) is yaml.StreamEndEvent:
            return
        if len(documents) >= self.max_documents:
            self._stop(event, f"more than {self.max_documents} documents in one file")
        if event.version or event.tags:
            self._stop(event, "directives are not for manifests: kubectl refuses or loses them")
        self._anchors.clear()
        self._opened.clear()
        self._base, self._aliased = self.nodes, 0
        self.nodes += 1  # go-yaml counts the document too
        first = parser.peek_event().start_mark
        value = self._value(parser)
        documents.append(Document(value, self._lines + first.line + 1, first.column + 1, len(documents)))
        parser.get_event()  # the end of the document
        event = parser.get_event()
        if type(event) is not yaml.StreamEndEvent:
            self._stop(event, _BEHIND_END)

    def _value(self, parser: Any) -> Value:  # noqa: C901, PLR0912, PLR0915  # the hot path: one loop, local names
        """Build the root value of one document."""
        get_event = parser.get_event
        scalar_event, map_start, list_start = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
        map_end, list_end = yaml.MappingEndEvent, yaml.SequenceEndEvent
        starts, anchors, odd = STRING_STARTS, self._anchors, self._odd
        nodes, max_nodes, max_depth = self.nodes, self.max_nodes, self.max_depth
        root = frame = _Frame(None, [], nodes)
        stack: list[_Frame] = []
        mapping: dict[str, Value] | None = None  # the open mapping; None inside a sequence
        items: list[Value] = frame.value  # the open sequence, if no mapping is open
        key: Any = _NO_KEY
        while True:
            event = get_event()
            kind = type(event)
            if kind is scalar_event:
                text = event.value
                nodes += 1
                if event.tag is None:
                    value = text
                    if event.implicit[0] and not (text and text[0] in starts):
                        value = _resolve(text) if len(text) <= _MEMO_CHARS else resolve_plain(text)
                else:
                    value = self._tagged(event)
                if odd and ("?" in text or "/" in text):
                    self._check_spelling(event, frame)
                if type(value) is ScalarError and (mapping is None or key is not _NO_KEY):
                    self.note_event(event, str(value))
                if event.anchor is not None:
                    self._anchor(event, _Anchor(value, 1, 0, text, event.tag))
            elif kind is map_start or kind is list_start:
                nodes += 1
                if len(stack) >= max_depth or nodes > max_nodes:
                    self._over_limit(event, len(stack))
                frame.key = key
                stack.append(frame)
                if kind is map_start:
                    frame = _Frame(event, {}, nodes - 1)
                    mapping = frame.value
                else:
                    frame = _Frame(event, [], nodes - 1)
                    mapping, items = None, frame.value
                if event.anchor is not None:
                    anchors.pop(event.anchor, None)  # unknown until complete: no value contains itself
                    self._opened[event.anchor] = event
                key = _NO_KEY
                continue
            elif kind is map_end or kind is list_end:
                event, value, height = frame.start, frame.value, frame.height + 1
                # Of several nodes with one anchor, the one that began last counts, also if it ended first.
                if event.anchor is not None and self._opened.get(event.anchor) is event:
                    self._anchor(event, _Anchor(value, nodes - frame.nodes, height))
                frame = stack.pop()
                frame.height = max(frame.height, height)
                key = frame.key
                mapping, items = (frame.value, items) if type(frame.value) is dict else (None, frame.value)
            else:
                value, more, height = self._alias(event, nodes, len(stack))
                nodes += more
                if type(value) is ScalarError and (mapping is None or key is not _NO_KEY):
                    self.note_event(event, str(value))
                frame.height = max(frame.height, height)
            if mapping is None:
                items.append(value)
                if nodes > max_nodes:
                    self._over_limit(event, 0)
                if frame is root:
                    self.nodes = nodes
                    return value
            elif key is _NO_KEY:
                if type(value) is str:
                    key = intern(value)  # one object for each distinct key: a third less memory
                    if value == "<<" and kind is scalar_event and (event.implicit[0] or event.tag == _MERGE):
                        key = _MERGE_KEY
                else:
                    key = self._key(event, value, frame)
                if key is _MERGE_KEY:
                    nodes -= 1  # go-yaml does not decode it
                elif key in mapping:
                    self.note_event(event, f"key {_printable(key)} is already set in this mapping")
            elif key is _MERGE_KEY:
                if type(value) is list:
                    nodes -= 1
                self._merge(event, frame, value)
                key = _NO_KEY
            else:
                mapping[key] = value
                key = _NO_KEY

    def note_event(self, event: Any, message: str) -> None:
        """Record a problem at an event."""
        self.note(event.start_mark.line + 1, event.start_mark.column + 1, message)

    def _anchor(self, event: Any, anchor: _Anchor) -> None:
        self._opened.pop(event.anchor, None)
        self._anchors[event.anchor] = anchor
        if len(self._anchors) > limits.YAML_ANCHORS:
            self._stop(event, f"more than {limits.YAML_ANCHORS} anchors in one document")

    def _over_limit(self, event: Any, depth: int) -> NoReturn:
        if depth >= self.max_depth:
            self._stop(event, f"nested deeper than {self.max_depth} levels")
        self._stop(event, f"more than {self.max_nodes} values in one file, aliases expanded")

    def _tagged(self, event: Any) -> Value:
        if self._may_respell:
            self._respell_tag(event.start_mark.index)
        try:
            return resolve_tagged(event.tag, event.value)
        except ScalarError as err:
            return err

    def _check_spelling(self, event: Any, frame: _Frame) -> None:
        """Refuse what libyaml reads and go-yaml does not."""
        if event.style == '"':
            raw = self._text[event.start_mark.index : event.end_mark.index]
            if "\\/" in raw.replace("\\\\", ""):
                self.note_event(event, 'unknown escape "\\/": kubectl refuses it in YAML')
        elif event.style != "'" and "?" in event.value and frame.start is not None and frame.start.flow_style:
            self.note_event(event, "`?` in an unquoted value between brackets: kubectl refuses it; put it in quotes")

    def _key(self, event: Any, value: Value, frame: _Frame) -> str:
        if type(value) in (dict, list):
            self._stop(event, f"a key must be a string, not a {'mapping' if type(value) is dict else 'list'}")
        written = self._anchors[event.anchor or ""] if isinstance(event, yaml.AliasEvent) else None
        text, tag = (written.text, written.tag) if written else (event.value, event.tag)
        try:
            key = key_text(value, text, tag)
        except ScalarError as err:
            self._stop(event, str(err))
        if value == 0 and is_float(text, tag):  # 0.0 and -0.0 are one number and two strings
            if frame.zero and key not in frame.value:
                self.note_event(event, f"key {_printable(key)} is already set in this mapping")
            frame.zero = True
        return intern(key)

    def _alias(self, event: Any, nodes: int, depth: int) -> tuple[Value, int, int]:
        known = self._anchors.get(event.anchor)
        if known is None:
            self._stop(event, f"alias *{event.anchor} is unknown, or inside its own anchor")
        if nodes + known.nodes > self.max_nodes or depth + known.height > self.max_depth:
            self._over_limit(event, depth + known.height)
        self._aliased += known.nodes
        steps = nodes + 1 + known.nodes - self._base
        if self._aliased > 100 and steps > 1000 and self._aliased > _allowed_alias_ratio(steps) * steps:
            self._stop(event, "almost everything in this document comes from aliases: kubectl refuses it as a bomb")
        return _copied(known.value), known.nodes + 1, known.height

    def _merge(self, event: Any, frame: _Frame, value: Value) -> None:
        if type(value) is list and type(event) is yaml.AliasEvent:
            self._stop(event, "<< needs a mapping or a list of mappings, not an alias of a list")
        for source in value if type(value) is list else [value]:
            if type(source) is not dict:
                self._stop(event, "<< needs a mapping or a list of mappings")
            for name, item in source.items():
                if name in frame.value:
                    self.note_event(event, f"key {_printable(name)} is already set in this mapping; << sets it again")
                frame.value[name] = item


def _allowed_alias_ratio(steps: int) -> float:
    """Which part of a document's decoding steps go-yaml lets come from aliases."""
    low, high = 400_000, 4_000_000
    return 0.99 - 0.89 * (min(max(steps, low), high) - low) / (high - low)


@dataclass(frozen=True, slots=True)
class _Anchor:
    """What an alias stands for."""

    value: Value
    nodes: int
    height: int
    text: str = ""  # of a scalar, as written
    tag: str | None = None


class _Frame:
    """An open mapping or sequence."""

    __slots__ = ("height", "key", "nodes", "start", "value", "zero")

    def __init__(self, start: Any, value: Any, nodes: int) -> None:
        self.start = start
        self.value = value
        self.nodes = nodes  # nodes read before it
        self.key: Any = _NO_KEY
        self.height = 0
        self.zero = False  # a floating zero is among the keys


def _copied(value: Value) -> Value:
    """A deep copy: an alias must not share what a later step may change. Depth was checked."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) is list:
        return [_copied(item) for item in value]
    return value


def _printable(text: object) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "...'"
