r"""YAML and JSON text: the only owner of PyYAML.

Reading is strict and follows kubectl's parser (sigs.k8s.io/yaml in strict mode on documents cut as kubectl cuts them),
not PyYAML's loaders: `y` and `on` are booleans, `1e3` is a number, dates stay strings, `.inf` is an error, map keys
become strings, duplicate keys are errors, also when one of them comes from a `<<` merge. PyYAML gives the events
(libyaml when it is there, the pure Python parser otherwise); the values are built here.

Stricter than kubectl on purpose, because what kubectl does there is silent, random or unbounded:

- text behind the end of a document (after `...`, after a closing bracket) is refused: kubectl ignores it;
- directives (`%YAML`, `%TAG`) are refused: kubectl either refuses them or loses them;
- two keys that become the same string (`1` and `"1"`) are refused: which value stays is random;
- text that is not UTF-8, half surrogate pairs and `!!binary` of no text are refused: kubectl replaces them by U+FFFD;
- a byte order mark at the start of a line inside a document is refused: kubectl makes it a part of a key;
- bytes, documents, nesting and values after alias expansion are bounded.

All problems of a file are reported together, each with file, line and column from 1:

    documents = parse_documents(b"kind: [y, 1e3]\n", "a.yaml")
    documents[0].value == {"kind": [True, 1000]}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import yaml

from ocisync.kit import jsontext, yamlbuild, yamlplaces, yamlstream
from ocisync.kit.yamlbuild import Builder, Document, Value
from ocisync.kit.yamlscalar import STRING_STARTS, ScalarError, resolve_plain
from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput

__all__ = ["Document", "Path", "Places", "Value", "dump", "dump_all", "parse_documents"]

Path = tuple[str | int, ...]


def parse_documents(
    data: bytes,
    file: str,
    *,
    max_bytes: int = limits.YAML_BYTES,
    max_nodes: int = limits.YAML_NODES,
    max_depth: int = limits.YAML_DEPTH,
    max_documents: int = limits.YAML_DOCUMENTS,
) -> tuple[Document, ...]:
    """Parse a stream of YAML documents or JSON values, as the content demands: the file's name decides nothing.

    Empty documents are kept, with the value None.

    Raises:
        InvalidInput: with a finding for every problem.
    """
    text = _decode(data, file, max_bytes)
    builder = Builder(file, max_nodes, max_depth, max_documents)
    if yamlstream.looks_like_json(text):
        return _parse_json(text, builder)
    return builder.read(text)


def _decode(data: bytes, file: str, max_bytes: int) -> str:
    if len(data) > max_bytes:
        _fail(file, 0, 0, f"file has {len(data)} bytes, more than the limit of {max_bytes}")
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        column = len(data[data.rfind(b"\n", 0, err.start) + 1 : err.start].decode(errors="replace")) + 1
        _fail(file, line, column, "not UTF-8 text")


def _fail(file: str, line: int, column: int, message: str) -> NoReturn:
    finding = Finding(file, line, column, message)
    raise InvalidInput(str(finding), findings=(finding,))


def _parse_json(text: str, builder: Builder) -> tuple[Document, ...]:
    """Read a stream that begins with `{`: JSON values; YAML from where the first or second value is no JSON."""
    caps = jsontext.Caps(builder.max_nodes, builder.max_depth, builder.max_documents)
    values, problem = jsontext.read_values(text, caps)
    documents = tuple(Document(item.value, item.line, item.column, index) for index, item in enumerate(values))
    if problem is None:
        return documents
    rest = yamlstream.after_space(text, values[-1].end if values else 0)
    if not problem.syntax or len(values) > 1 or rest is None:
        line, column = problem.line, problem.column
        if problem.duplicate:
            line, column = _json_duplicate(text, values[-1].end if values else 0, builder) or (line, column)
        builder.note(line, column, problem.message)
        builder.raise_findings()
    try:
        return builder.read(text[rest:], text.count("\n", 0, rest), documents)
    except InvalidInput:
        if not builder.file.endswith(".json"):
            raise
        _fail(builder.file, problem.line, problem.column, problem.message)


def _json_duplicate(text: str, start: int, builder: Builder) -> tuple[int, int] | None:
    """Where the first duplicate key is: JSON is YAML, and the YAML path knows positions."""
    other = Builder(builder.file, builder.max_nodes, builder.max_depth, builder.max_documents)
    try:
        other.read(" " * start + text[start:].replace("\\/", "/ "))
    except InvalidInput as err:
        finding = err.findings[0]
        return (finding.line, finding.column) if "already set" in finding.message else None
    return None


# Places -----------------------------------------------------------------------------------------------------------


class Places:
    """Where values are written in a file. Built only when a message needs a place: it reads the file again."""

    def __init__(self, data: bytes) -> None:
        text = data.decode(errors="replace")
        self._roots: list[yamlplaces.Place | None] = []
        rest, lines = 0, 0
        if yamlstream.looks_like_json(text):
            values, _ = jsontext.read_values(text, _PLACE_CAPS)
            for item in values:
                self._add(" " * (item.column - 1) + text[item.start : item.end].replace("\\/", "/ "), item.line - 1)
            after = yamlstream.after_space(text, values[-1].end if values else 0)
            rest = len(text) if after is None else after
            lines = text.count("\n", 0, rest)
        for chunk in yamlstream.chunks(text[rest:]):
            self._add(chunk.text, lines + chunk.lines)

    def _add(self, text: str, lines: int) -> None:
        parser = yamlbuild.EventParser(text.removeprefix("\ufeff"))
        try:
            parser.get_event()
            if isinstance(parser.get_event(), yaml.DocumentStartEvent):
                self._roots.append(yamlplaces.read(_place_events(parser, lines), limits.YAML_DEPTH))
        except yaml.YAMLError:
            self._roots.append(None)  # a place is a help, never an error
        finally:
            parser.dispose()

    def find(self, index: int, path: Path) -> tuple[int, int]:
        """Line and column of the value at `path` in document `index`; of its nearest known parent otherwise."""
        return yamlplaces.find(self._roots, index, path)

    def find_at(self, line: int, path: Path) -> tuple[int, int]:
        """As `find`, below the outermost document or list item that starts in `line`."""
        return yamlplaces.find_at(self._roots, line, path)


_PLACE_CAPS = jsontext.Caps(limits.YAML_NODES, limits.YAML_DEPTH, limits.YAML_DOCUMENTS)
_PLACE_KINDS = {
    yaml.ScalarEvent: yamlplaces.Kind.SCALAR,
    yaml.AliasEvent: yamlplaces.Kind.SCALAR,
    yaml.MappingStartEvent: yamlplaces.Kind.MAPPING,
    yaml.SequenceStartEvent: yamlplaces.Kind.LIST,
    yaml.MappingEndEvent: yamlplaces.Kind.END,
    yaml.SequenceEndEvent: yamlplaces.Kind.END,
}


def _place_events(parser: Any, lines: int) -> Iterator[yamlplaces.Event]:
    while (kind := _PLACE_KINDS.get(type(event := parser.get_event()))) is not None:
        mark = event.start_mark
        yield yamlplaces.Event(kind, lines + mark.line + 1, mark.column + 1, str(getattr(event, "value", "")))


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
