"""Structural schemas of custom kinds, prepared for use: types resolved, patterns compiled, CEL rules read.

What cannot be checked here (a pattern of another dialect, a CEL function that is not known) is noted, not refused. A
schema that is none raises `DefinitionError` with its place.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ocisync.kit import cel
from ocisync.manifests import celrules
from ocisync.manifests.schema.problem import shown, type_name

_MAX_DEPTH = 64  # of a schema: deeper ones are no schemas but attacks
_SHORT_CHARS = 16  # of which Python tries all ways of any pattern soon enough
_ABSENT = object()
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "object": ((dict,), "a mapping"),
    "array": ((list,), "a list"),
    "string": ((str,), "a string"),
    "boolean": ((bool,), "a boolean"),
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
}
OBJECT_FIELDS = ("apiVersion", "kind", "metadata")


class DefinitionError(Exception):
    """A schema that cannot be used; the message names the place in it."""


@dataclass(slots=True)
class Schema:
    """One node of a schema, prepared."""

    raw: Mapping[str, Any]
    types: tuple[type, ...] = ()
    type_words: str = ""
    nullable: bool = False
    preserve: bool = False
    embedded: bool = False
    properties: dict[str, Schema] = field(default_factory=dict)
    additional: Schema | None = None
    items: Schema | None = None
    required: tuple[str, ...] = ()
    enum: list[Any] | None = None
    enum_texts: frozenset[str] = frozenset()
    pattern: Callable[[str], bool] | None = None
    list_keys: tuple[str, ...] = ()
    unique: bool = False
    all_of: tuple[Schema, ...] = ()
    any_of: tuple[Schema, ...] = ()
    one_of: tuple[Schema, ...] = ()
    negated: Schema | None = None
    rules: tuple[celrules.CelRule, ...] = ()
    has_bounds: bool = False


_BOUNDS = frozenset(
    {"minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
     "maxProperties", "uniqueItems", "format"}
)  # fmt: skip


class Preparation:
    """Prepares one schema. `notes` says what of it cannot be checked."""

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}

    def prepare(self, raw: Any, where: str = "openAPIV3Schema", depth: int = 0) -> Schema:
        """The schema `raw`, which stands at `where`.

        Raises:
            DefinitionError: it is no structural schema.
        """
        if not isinstance(raw, Mapping):
            raise DefinitionError(f"{where} is {type_name(raw)}, not a schema")
        if depth > _MAX_DEPTH:
            raise DefinitionError(f"{where} is nested deeper than {_MAX_DEPTH} levels")
        deeper = depth + 1
        made = Schema(
            raw, nullable=raw.get("nullable") is True, embedded=raw.get("x-kubernetes-embedded-resource") is True
        )
        made.preserve = raw.get("x-kubernetes-preserve-unknown-fields") is True
        kind = raw.get("type") or ""
        if raw.get("x-kubernetes-int-or-string") is True:
            made.types, made.type_words = (int, str), "an integer or a string"
        elif kind:
            if not isinstance(kind, str) or kind not in _TYPES:
                raise DefinitionError(f"{where}.type is {shown(kind)}")
            made.types, made.type_words = _TYPES[kind]
        made.properties = {
            str(name): self.prepare(sub, f"{where}.properties.{name}", deeper)
            for name, sub in _mapping(raw, "properties", where).items()
        }
        additional = raw.get("additionalProperties")
        if additional is True:
            made.preserve = True
        elif isinstance(additional, Mapping):
            made.additional = self.prepare(additional, f"{where}.additionalProperties", deeper)
        if raw.get("items") is not None:
            made.items = self.prepare(raw["items"], f"{where}.items", deeper)
        made.required = tuple(map(str, _list(raw, "required", where)))
        if raw.get("enum") is not None:
            made.enum = _list(raw, "enum", where)
            made.enum_texts = frozenset(text_of(entry) for entry in made.enum)
        made.pattern = self._pattern(raw.get("pattern"), where)
        if raw.get("x-kubernetes-list-type") == "map":
            made.list_keys = tuple(map(str, _list(raw, "x-kubernetes-list-map-keys", where)))
        made.unique = raw.get("x-kubernetes-list-type") == "set" or raw.get("uniqueItems") is True
        made.all_of = self._several(raw, "allOf", where, deeper)
        made.any_of = self._several(raw, "anyOf", where, deeper)
        made.one_of = self._several(raw, "oneOf", where, deeper)
        if raw.get("not") is not None:
            made.negated = self.prepare(raw["not"], f"{where}.not", deeper)
        made.rules = tuple(self._cel(_list(raw, "x-kubernetes-validations", where), where))
        made.has_bounds = bool(_BOUNDS & raw.keys())
        for name in _BOUNDS & raw.keys() - {"format", "uniqueItems"}:
            if type(raw[name]) not in (int, float):
                raise DefinitionError(f"{where}.{name} is {type_name(raw[name])}, not a number")
        return made

    def _several(self, raw: Mapping[str, Any], name: str, where: str, depth: int) -> tuple[Schema, ...]:
        return tuple(
            self.prepare(sub, f"{where}.{name}[{index}]", depth) for index, sub in enumerate(_list(raw, name, where))
        )

    def _pattern(self, text: Any, where: str) -> Callable[[str], bool] | None:
        if text is None or text == "":
            return None
        if not isinstance(text, str):
            raise DefinitionError(f"{where}.pattern is {type_name(text)}, not text")
        search = _python_search(text)
        # Repeats may keep Python busy for ever; the other engine is slower, and always done.
        if search is None or cel.is_risky(text):
            search = cel.matcher(text) or (search and self._in_short_values(search, text, where))
        if search is None:
            self._note(f"{where}.pattern {shown(text)} is in a dialect that is not understood here")
        return search

    def _in_short_values(self, search: Callable[[str], bool], text: str, where: str) -> Callable[[str], bool]:
        self._note(
            f"{where}.pattern {shown(text)} is checked in values of up to {_SHORT_CHARS} characters only: "
            f"{cel.NO_LIBRARY}"
        )
        return lambda value: len(value) > _SHORT_CHARS or search(value)

    def _cel(self, rules: list[Any], where: str) -> Iterator[celrules.CelRule]:
        for index, rule in enumerate(rules):
            if not isinstance(rule, Mapping) or not isinstance(rule.get("rule"), str):
                raise DefinitionError(f"{where}.x-kubernetes-validations[{index}] has no rule")
            made = celrules.CelRule.of(rule)
            if made.concerns_updates:
                continue  # rules about a change say nothing about an object alone
            problem = made.problem()
            if problem == cel.NO_LIBRARY:
                self._note(f"CEL rules are not checked: {problem}")  # once, however many there are
                continue
            if problem:
                self._note(f"CEL rule {shown(made.text)} is not checked: {problem}")
                continue
            yield made

    def _note(self, text: str) -> None:
        self.notes[text] = None


def text_of(value: Any) -> str:
    """A value as JSON text, which tells 1 from true and from "1"."""
    return json.dumps(value, sort_keys=True)


def _mapping(raw: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DefinitionError(f"{where}.{name} is {type_name(value)}, not a mapping")
    return value


def _list(raw: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = raw.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DefinitionError(f"{where}.{name} is {type_name(value)}, not a list")
    return value


def _python_search(text: str) -> Callable[[str], bool] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # `[[` may mean something else one day
            compiled = re.compile(_from_re2(text))
    except (re.error, OverflowError, RecursionError):
        return None
    return lambda value: compiled.search(value) is not None


def _from_re2(text: str) -> str:
    """RE2's spelling where Python's differs."""
    posix = {"alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "lower": "a-z", "upper": "A-Z", "space": r"\s",
             "xdigit": "0-9A-Fa-f", "word": r"\w"}  # fmt: skip
    text = re.sub(r"\[:(\w+):\]", lambda match: posix.get(match[1], match[0]), text)
    # Go's `$` is the end of the text; Python's is also before a last line end.
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\z", r"\1\\Z", text)
    text = re.sub(r"(?<!\\)((?:\\\\)*)\$(?=\Z|\)|\|)", r"\1\\Z", text)
    return f"(?a){text}" if not text.startswith("(?") else text


def filled(schema: Schema, value: Any) -> Any:
    """A copy with defaults, also where a null stands that is not allowed."""
    if type(value) is list:
        items = schema.items
        return [filled(items, entry) for entry in value] if items is not None else value
    if type(value) is not dict:
        return value
    made = {}
    for key, entry in value.items():
        inner = schema.properties.get(key) or schema.additional
        if inner is None:
            made[key] = entry
        elif entry is not None or inner.nullable or "default" not in inner.raw:
            made[key] = filled(inner, entry)
    for key, inner in schema.properties.items():
        if key not in made and (default := inner.raw.get("default", _ABSENT)) is not _ABSENT:
            made[key] = filled(inner, default)
    return made


def for_cel(schema: Schema, value: Any, *, root: bool = False) -> Any:
    """A value as CEL rules see it: declared fields under escaped names, times and durations as such."""
    if type(value) is dict:
        if schema.properties or root or schema.embedded:
            known = dict(schema.properties)
            made = {
                celrules.escaped(key): for_cel(known[key], entry)
                for key, entry in value.items()
                if key in known and not (root and key == "metadata")
            }
            if root or schema.embedded:
                made.update({key: value[key] for key in ("apiVersion", "kind") if key in value})
                metadata = value.get("metadata")
                if type(metadata) is dict:
                    made["metadata"] = {key: metadata[key] for key in ("name", "generateName") if key in metadata}
            return made
        inner = schema.additional
        return {key: for_cel(inner, entry) if inner is not None else entry for key, entry in value.items()}
    if type(value) is list:
        return [for_cel(schema.items, entry) for entry in value] if schema.items is not None else value
    return celrules.typed(value, str(schema.raw.get("format", "")))
