r"""YAML and JSON text: the only owner of PyYAML.

Reading is strict and follows kubectl's parser (sigs.k8s.io/yaml), not PyYAML's loaders: `y` and `on` are booleans,
`1e3` is a number, dates stay strings, `.inf` is an error, map keys become strings. On top of that duplicate keys are
errors, and everything that can grow is bounded: bytes, documents, nesting, and nodes after alias expansion.
PyYAML gives the events (libyaml when it is there, the pure Python parser otherwise); the values are built here.

One deliberate difference: a `<<` merge that follows a key which it also sets is refused, because kubectl lets the
merge win and the YAML specification lets the key win.

All problems of a file are reported together, each with file, line and column from 1:

    documents = parse_documents(b"kind: [y, 1e3]\n", "a.yaml")
    documents[0].value == {"kind": [True, 1000]}
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any, NoReturn

import yaml

from ocisync.kit import jsontext
from ocisync.kit.yamlscalar import STRING_STARTS, ScalarError, is_exponent, key_text, resolve_plain, resolve_tagged
from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput


class PurePythonParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """Events without libyaml: the same, many times slower."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


_Parser: Any = getattr(getattr(yaml, "cyaml", None), "CParser", PurePythonParser)
_MEMO_CHARS = 40  # of a scalar that is worth remembering
_MAX_FINDINGS = 50  # for each file: more of the same help nobody
_BINARY = "tag:yaml.org,2002:binary"
_MERGE = "tag:yaml.org,2002:merge"

Value = Any  # None | bool | int | float | str | list[Value] | dict[str, Value]
Path = tuple[str | int, ...]


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


class _Stop(Exception):  # control flow inside this module: the file cannot be read further
    pass


class _Merge:
    """Stands for the `<<` key until its value is known."""


_MERGE_KEY = _Merge()
_NO_KEY = object()


def parse_documents(
    data: bytes,
    file: str,
    *,
    max_bytes: int = limits.YAML_BYTES,
    max_nodes: int = limits.YAML_NODES,
    max_depth: int = limits.YAML_DEPTH,
    max_documents: int = limits.YAML_DOCUMENTS,
) -> tuple[Document, ...]:
    """Parse a YAML stream; `.json` files as a stream of JSON values.

    Empty documents are kept, with the value None.

    Raises:
        InvalidInput: with a finding for every problem.
    """
    text = _decode(data, file, max_bytes)
    builder = _Builder(file, max_nodes, max_depth, max_documents)
    if file.endswith(".json"):
        return _parse_json(text, builder)
    return builder.read(text)


def _decode(data: bytes, file: str, max_bytes: int) -> str:
    if len(data) > max_bytes:
        _fail(file, 0, 0, f"file has {len(data)} bytes, more than the limit of {max_bytes}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        _fail(file, line, 0, "not UTF-8 text")


def _fail(file: str, line: int, column: int, message: str) -> NoReturn:
    finding = Finding(file, line, column, message)
    raise InvalidInput(str(finding), findings=(finding,))


class _Builder:
    """Builds values from parser events. One instance reads one file."""

    def __init__(self, file: str, max_nodes: int, max_depth: int, max_documents: int) -> None:
        self.file = file
        self.max_nodes = max_nodes
        self.max_depth = max_depth
        self.max_documents = max_documents
        self.findings: list[Finding] = []
        self.nodes = 0
        self._text = ""
        self._odd = False  # the text may hold what the events do not tell
        self._anchors: dict[str, tuple[Value, int, int]] = {}  # value, nodes, height

    def read(self, text: str) -> tuple[Document, ...]:
        """Parse everything.

        Raises:
            InvalidInput: with all findings of this file.
        """
        self._text = text
        self._odd = "\\/" in text or "! " in text
        parser = _Parser(text)
        documents: list[Document] = []
        try:
            self._documents(parser, documents)
        except yaml.MarkedYAMLError as err:
            mark = err.problem_mark or err.context_mark
            problem = err.problem or "not YAML"
            if err.context and err.context_mark:
                problem += f" ({err.context} that starts in line {err.context_mark.line + 1})"
            self.note(mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, problem)
        except yaml.reader.ReaderError as err:
            line = text.count("\n", 0, err.position) + 1
            self.note(line, 0, f"{err.reason}: character {_printable(err.character)}")
        except _Stop:
            pass
        finally:
            parser.dispose()
        self.raise_findings()
        return tuple(documents)

    def note(self, line: int, column: int, message: str) -> None:
        """Record a problem; stop reading when there are too many."""
        self.findings.append(Finding(self.file, line, column, message))
        if len(self.findings) >= _MAX_FINDINGS:
            raise _Stop

    def raise_findings(self) -> None:
        """Raise if anything was recorded."""
        if self.findings:
            more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
            raise InvalidInput(f"{self.findings[0]}{more}", findings=tuple(self.findings))

    def _stop(self, event: Any, message: str) -> NoReturn:
        mark = event.start_mark
        self.findings.append(Finding(self.file, mark.line + 1, mark.column + 1, message))
        raise _Stop

    def _documents(self, parser: Any, documents: list[Document]) -> None:
        while True:
            event = parser.get_event()
            kind = type(event)
            if kind is yaml.StreamEndEvent:
                return
            if kind is not yaml.DocumentStartEvent:
                continue
            if len(documents) >= self.max_documents:
                self._stop(event, f"more than {self.max_documents} documents in one file")
            if event.version not in (None, (1, 1)):
                self._stop(event, "%YAML must be 1.1: kubectl refuses other versions")
            self._anchors.clear()
            first = parser.peek_event().start_mark
            value = self._value(parser)
            documents.append(Document(value, first.line + 1, first.column + 1, len(documents)))

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
                    if event.implicit[0] and not (text and text[0] in starts) and not (odd and self._is_forced(event)):
                        value = self._plain(event, text) if len(text) > _MEMO_CHARS else _resolve(text)
                        if type(value) is ScalarError:
                            self.note_event(event, str(value))
                    if odd and event.style == '"':
                        self._check_escape(event)
                else:
                    value = self._tagged(event)
                if event.anchor is not None:
                    anchors[event.anchor] = (value, 1, 0)
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
                key = _NO_KEY
                continue
            elif kind is map_end or kind is list_end:
                event, value, height = frame.start, frame.value, frame.height + 1
                if frame.merged:
                    value = {**frame.merged, **value}
                if event.anchor is not None:
                    anchors[event.anchor] = (value, nodes - frame.nodes, height)
                frame = stack.pop()
                frame.height = max(frame.height, height)
                key = frame.key
                mapping, items = (frame.value, items) if type(frame.value) is dict else (None, frame.value)
            else:
                value, more, height = self._alias(event, nodes, len(stack))
                nodes += more
                frame.height = max(frame.height, height)
            if mapping is None:
                items.append(value)
                if nodes > max_nodes:
                    self._over_limit(event, 0)
                if frame is root:
                    self.nodes = nodes
                    return value
            elif key is _NO_KEY:
                if type(value) is not str:
                    key = self._key(event, value)
                elif value == "<<" and event.implicit[0] and event.tag in (None, _MERGE):
                    key = _MERGE_KEY
                else:
                    key = intern(value)  # one object for each distinct key: a third less memory
                if key in mapping:
                    self.note_event(event, f"key {_printable(key)} is already set in this mapping")
            elif key is _MERGE_KEY:
                self._merge(event, frame, value)
                key = _NO_KEY
            else:
                mapping[key] = value
                key = _NO_KEY

    def note_event(self, event: Any, message: str) -> None:
        """Record a problem at an event."""
        self.note(event.start_mark.line + 1, event.start_mark.column + 1, message)

    def _over_limit(self, event: Any, depth: int) -> NoReturn:
        if depth >= self.max_depth:
            self._stop(event, f"nested deeper than {self.max_depth} levels")
        self._stop(event, f"more than {self.max_nodes} values in one file, aliases expanded")

    def _plain(self, event: Any, text: str) -> Value:
        try:
            return resolve_plain(text)
        except ScalarError as err:
            self.note_event(event, str(err))
            return text

    def _tagged(self, event: Any) -> Value:
        tag, text = event.tag, event.value
        try:
            if tag == _BINARY:
                return base64.b64decode("".join(text.split()), validate=True).decode()
            return resolve_tagged(tag, text)
        except (binascii.Error, UnicodeDecodeError):
            self.note_event(event, "!!binary value is not base64 of UTF-8 text")
        except ScalarError as err:
            self.note_event(event, str(err))
        return text

    def _is_forced(self, event: Any) -> bool:
        """Tell whether the non-specific tag `!` makes this scalar a string; libyaml drops it from the event."""
        return self._text[event.start_mark.index : event.start_mark.index + 1] == "!"

    def _check_escape(self, event: Any) -> None:
        raw = self._text[event.start_mark.index : event.end_mark.index]
        if "\\/" in raw.replace("\\\\", ""):
            self.note_event(event, 'unknown escape "\\/": kubectl refuses it in YAML')

    def _key(self, event: Any, value: Value) -> str:
        try:
            text = key_text(value)
            if type(value) in (int, float) and is_exponent(event.value):
                raise ScalarError("quote this key: kubectl reads it as a number")  # noqa: TRY301  # one way out
        except ScalarError as err:
            self._stop(event, str(err))
        return intern(text)

    def _alias(self, event: Any, nodes: int, depth: int) -> tuple[Value, int, int]:
        known = self._anchors.get(event.anchor)
        if known is None:
            self._stop(event, f"alias *{event.anchor} is unknown, or inside its own anchor")
        value, more, height = known
        if nodes + more > self.max_nodes or depth + height > self.max_depth:
            self._over_limit(event, depth + height)
        event.implicit, event.tag = (False, False), None  # an alias is never a merge key
        return _copied(value), more, height

    def _merge(self, event: Any, frame: _Frame, value: Value) -> None:
        merged: dict[str, Value] = {}
        for source in value if type(value) is list else [value]:
            if type(source) is not dict:
                self._stop(event, "<< needs a mapping or a list of mappings")
            for name, item in source.items():
                merged.setdefault(name, item)
        for name in merged:
            if name in frame.value:
                self.note_event(event, f"<< also sets {_printable(name)}, written above it: put << first")
        frame.merged.update(merged)


class _Frame:
    """An open mapping or sequence."""

    __slots__ = ("height", "key", "merged", "nodes", "start", "value")

    def __init__(self, start: Any, value: Any, nodes: int) -> None:
        self.start = start
        self.value = value
        self.nodes = nodes  # nodes read before it
        self.key: Any = _NO_KEY
        self.height = 0
        self.merged: dict[str, Value] = {}


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


def _parse_json(text: str, builder: _Builder) -> tuple[Document, ...]:
    caps = jsontext.Caps(builder.max_nodes, builder.max_depth, builder.max_documents)
    values, problem = jsontext.read_values(text, caps)
    if problem is not None:
        line, column = problem.line, problem.column
        if problem.duplicate:
            line, column = _json_duplicate(text, builder) or (line, column)
        builder.note(line, column, problem.message)
    builder.raise_findings()
    return tuple(Document(item.value, item.line, item.column, index) for index, item in enumerate(values))


def _json_duplicate(text: str, builder: _Builder) -> tuple[int, int] | None:
    """Where the first duplicate key is: JSON is YAML, and the YAML path knows positions."""
    other = _Builder(builder.file, builder.max_nodes, builder.max_depth, builder.max_documents)
    try:
        other.read(text.replace("\\/", "/ "))
    except InvalidInput as err:
        finding = err.findings[0]
        return (finding.line, finding.column) if "already set" in finding.message else None
    return None


# Places -----------------------------------------------------------------------------------------------------------


class Places:
    """Where values are written in a file. Built only when a message needs a place: it reads the file again."""

    def __init__(self, data: bytes) -> None:
        self._roots: list[_Place] = []
        text = data.decode("utf-8-sig", errors="replace")
        parser = _Parser(text)
        try:
            while not isinstance(parser.peek_event(), yaml.StreamEndEvent):
                if isinstance(parser.get_event(), yaml.DocumentStartEvent):
                    self._roots.append(_place(parser, 0))
        except yaml.YAMLError:
            return  # a place is a help, never an error: JSON that is no YAML has only its first line
        finally:
            parser.dispose()

    def find(self, index: int, path: Path) -> tuple[int, int]:
        """Line and column of the value at `path` in document `index`; of its nearest known parent otherwise."""
        if index >= len(self._roots):
            return 0, 0
        return self._descend(self._roots[index], path)

    def find_at(self, line: int, path: Path) -> tuple[int, int]:
        """As `find`, below the outermost document or list item that starts in `line`."""
        level = self._roots
        while level:
            for place in level:
                if place.line == line:
                    return self._descend(place, path)
            level = [below for place in level for below in place.children.values()]
        return 0, 0

    def _descend(self, place: _Place, path: Path) -> tuple[int, int]:
        for part in path:
            below = place.children.get(part)
            if below is None:
                break
            place = below
        return place.line, place.column


@dataclass(slots=True)
class _Place:
    line: int
    column: int
    children: dict[str | int, _Place]


def _place(parser: Any, depth: int) -> _Place:
    event = parser.get_event()
    place = _Place(event.start_mark.line + 1, event.start_mark.column + 1, {})
    if depth > limits.YAML_DEPTH:
        raise yaml.YAMLError("too deep")
    if isinstance(event, yaml.SequenceStartEvent):
        while not isinstance(parser.peek_event(), yaml.SequenceEndEvent):
            place.children[len(place.children)] = _place(parser, depth + 1)
        parser.get_event()
    elif isinstance(event, yaml.MappingStartEvent):
        while not isinstance(parser.peek_event(), yaml.MappingEndEvent):
            name = getattr(parser.peek_event(), "value", "")
            key = _place(parser, depth + 1)
            value = _place(parser, depth + 1)
            # A mapping or list starts on the line below its key: the key is what people look for.
            place.children[str(name)] = _Place(key.line, key.column, value.children)
        parser.get_event()
    return place


# Writing ----------------------------------------------------------------------------------------------------------

_Dumper: Any = getattr(yaml, "CSafeDumper", None) or yaml.SafeDumper


class _BlockDumper(_Dumper):  # type: ignore[misc]  # the base is chosen when the module loads
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: Any, text: str) -> Any:
    style = None
    if "\n" in text:
        style = "|"
    elif _needs_quotes(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _needs_quotes(text: str) -> bool:
    if text and text[0] in STRING_STARTS:
        return text in ("=", "<<")
    try:
        return type(resolve_plain(text)) is not str
    except ScalarError:
        return True


_BlockDumper.add_representer(str, _write_text)


def dump(value: Value, *, sort_keys: bool = False) -> str:
    """Write one document in block style; multi-line strings stay readable. `parse_documents` reads it back equal."""
    text: str = yaml.dump(
        value, Dumper=_BlockDumper, sort_keys=sort_keys, default_flow_style=False, allow_unicode=True, width=10_000
    )
    return text


def dump_all(values: Sequence[Value], *, sort_keys: bool = False) -> str:
    """Write a stream of documents separated by `---`."""
    return "---\n".join(dump(value, sort_keys=sort_keys) for value in values)
