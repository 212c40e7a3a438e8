"""Schemas of custom kinds, from their CustomResourceDefinitions: structural schemas as the API server reads them.

An object is judged as the server judges it: defaults are filled in (for a null that is not allowed, too), then values
are checked (types, required fields, bounds, patterns, formats, enumerations, `allOf`, `anyOf`, `oneOf`, `not`, sets and
lists with keys, CEL rules). Unknown fields are looked for in what was written; only
`x-kubernetes-preserve-unknown-fields` lets them pass.

A definition may hold what cannot be checked here (a pattern of another dialect, a CEL function that is not known);
that is a problem with the rule `unchecked-rule`, which is a warning, told once for each definition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ocisync.kit.yamlio import Path
from ocisync.manifests import celrules
from ocisync.manifests.rules import Rule
from ocisync.manifests.schema import formats
from ocisync.manifests.schema.nodes import Node, Problems, duplicates
from ocisync.manifests.schema.problem import (
    Problem,
    bad_value,
    field_path,
    missing,
    not_one_of,
    shown,
    type_name,
    unknown_field,
    wrong_type,
)
from ocisync.model.resource import Gvk, JsonObject

_MAX_DEPTH = 64  # of a schema: deeper ones are no schemas but attacks
_ABSENT = object()
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "object": ((dict,), "a mapping"),
    "array": ((list,), "a list"),
    "string": ((str,), "a string"),
    "boolean": ((bool,), "a boolean"),
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
}
_EMBEDDED = (
    ("apiVersion", re.compile(r"[^/]+(?:/[^/]+)?\Z")),
    ("kind", re.compile(r"[A-Za-z](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")),
)
_OBJECT_FIELDS = ("apiVersion", "kind", "metadata")


class DefinitionError(Exception):
    """A schema that cannot be used; the message names the place in it."""


@dataclass(slots=True)
class _Schema:
    """One node of a schema, prepared."""

    raw: Mapping[str, Any]
    types: tuple[type, ...] = ()
    type_words: str = ""
    nullable: bool = False
    preserve: bool = False
    embedded: bool = False
    properties: dict[str, _Schema] = field(default_factory=dict)
    additional: _Schema | None = None
    items: _Schema | None = None
    required: tuple[str, ...] = ()
    enum: list[Any] | None = None
    enum_texts: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    list_keys: tuple[str, ...] = ()
    unique: bool = False
    all_of: tuple[_Schema, ...] = ()
    any_of: tuple[_Schema, ...] = ()
    one_of: tuple[_Schema, ...] = ()
    negated: _Schema | None = None
    rules: tuple[celrules.CelRule, ...] = ()
    has_bounds: bool = False


_BOUNDS = frozenset(
    {"minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
     "maxProperties", "uniqueItems", "format"}
)  # fmt: skip


class CustomKind:
    """What checks the custom resources of one kind and version.

    Args:
        schema: `openAPIV3Schema` of the version.
        metadata: what checks metadata, and an embedded object's metadata.
        drops_status: the kind has a status subresource, so an applied status counts for nothing.
    """

    def __init__(self, schema: Mapping[str, Any], metadata: Node, *, drops_status: bool = False) -> None:
        self._metadata = metadata
        self._drops_status = drops_status
        self._unchecked: dict[str, bool] = {}  # text → told already
        self._root = self._prepare(schema, "openAPIV3Schema", 0)

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong with an object."""
        self._metadata.check(value.get("metadata"), (*path, "metadata"), out)
        self._unknown(self._root, value, path, out, root=True)
        judged = {key: entry for key, entry in value.items() if not (key == "status" and self._drops_status)}
        filled = _fill(self._root, judged)
        found: Problems = []
        self._values(self._root, filled, path, found)
        # With a broken shape, rules would report its consequences.
        if not found and not out:
            self._rules(self._root, filled, path, found)
        out.extend(found)

    def unchecked(self) -> list[str]:
        """What of the schema cannot be checked here, each told by one call only."""
        fresh = [text for text, told in self._unchecked.items() if not told]
        self._unchecked.update(dict.fromkeys(fresh, True))
        return fresh

    def _note(self, text: str) -> None:
        self._unchecked.setdefault(text, False)

    # Preparing ------------------------------------------------------------------------------------------------

    def _prepare(self, raw: Any, where: str, depth: int) -> _Schema:
        if not isinstance(raw, Mapping):
            raise DefinitionError(f"{where} is {type_name(raw)}, not a schema")
        if depth > _MAX_DEPTH:
            raise DefinitionError(f"{where} is nested deeper than {_MAX_DEPTH} levels")
        deeper = depth + 1
        made = _Schema(
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
            str(name): self._prepare(sub, f"{where}.properties.{name}", deeper)
            for name, sub in _mapping(raw, "properties", where).items()
        }
        additional = raw.get("additionalProperties")
        if additional is True:
            made.preserve = True
        elif isinstance(additional, Mapping):
            made.additional = self._prepare(additional, f"{where}.additionalProperties", deeper)
        if raw.get("items") is not None:
            made.items = self._prepare(raw["items"], f"{where}.items", deeper)
        made.required = tuple(map(str, _list(raw, "required", where)))
        if raw.get("enum") is not None:
            made.enum = _list(raw, "enum", where)
            made.enum_texts = frozenset(_text(entry) for entry in made.enum)
        made.pattern = self._pattern(raw.get("pattern"), where)
        if raw.get("x-kubernetes-list-type") == "map":
            made.list_keys = tuple(map(str, _list(raw, "x-kubernetes-list-map-keys", where)))
        made.unique = raw.get("x-kubernetes-list-type") == "set" or raw.get("uniqueItems") is True
        made.all_of = self._several(raw, "allOf", where, deeper)
        made.any_of = self._several(raw, "anyOf", where, deeper)
        made.one_of = self._several(raw, "oneOf", where, deeper)
        if raw.get("not") is not None:
            made.negated = self._prepare(raw["not"], f"{where}.not", deeper)
        made.rules = tuple(self._cel(_list(raw, "x-kubernetes-validations", where), where))
        made.has_bounds = bool(_BOUNDS & raw.keys())
        for name in _BOUNDS & raw.keys() - {"format", "uniqueItems"}:
            if type(raw[name]) not in (int, float):
                raise DefinitionError(f"{where}.{name} is {type_name(raw[name])}, not a number")
        return made

    def _several(self, raw: Mapping[str, Any], name: str, where: str, depth: int) -> tuple[_Schema, ...]:
        return tuple(
            self._prepare(sub, f"{where}.{name}[{index}]", depth) for index, sub in enumerate(_list(raw, name, where))
        )

    def _pattern(self, text: Any, where: str) -> re.Pattern[str] | None:
        if not text:
            return None
        try:
            return re.compile(_from_re2(str(text)))
        except (re.error, OverflowError, RecursionError):
            self._note(f"{where}.pattern {shown(text)} is in a dialect that is not understood here")
            return None

    def _cel(self, rules: list[Any], where: str) -> Iterator[celrules.CelRule]:
        for index, rule in enumerate(rules):
            if not isinstance(rule, Mapping) or not isinstance(rule.get("rule"), str):
                raise DefinitionError(f"{where}.x-kubernetes-validations[{index}] has no rule")
            made = celrules.CelRule.of(rule)
            if made.concerns_updates:
                continue  # rules about a change say nothing about an object alone
            if problem := made.problem():
                self._note(f"CEL rule {shown(made.text)} is not checked: {problem}")
                continue
            yield made

    # Unknown fields -------------------------------------------------------------------------------------------

    def _unknown(self, schema: _Schema, value: Any, path: Path, out: Problems, *, root: bool = False) -> None:
        if type(value) is list:
            if schema.items is not None:
                for index, entry in enumerate(value):
                    self._unknown(schema.items, entry, (*path, index), out)
            return
        if type(value) is not dict:
            return
        embedded = schema.embedded or root
        if schema.embedded and not root and value.get("metadata") is not None:
            self._metadata.check(value["metadata"], (*path, "metadata"), out)
        for key, entry in value.items():
            inner = schema.properties.get(key)
            if embedded and key in _OBJECT_FIELDS:
                continue
            if inner is not None:
                self._unknown(inner, entry, (*path, key), out)
            elif schema.additional is not None:
                self._unknown(schema.additional, entry, (*path, key), out)
            # Where the schema says another type than "object", that is the problem to tell.
            elif not schema.preserve and (dict in schema.types or not schema.types):
                out.append(unknown_field((*path, key), schema.properties))

    # Values ---------------------------------------------------------------------------------------------------

    def _values(self, schema: _Schema, value: Any, path: Path, out: Problems) -> None:
        if value is None and schema.nullable:
            return
        if schema.types and not _has_type(value, schema.types):
            out.append(wrong_type(path, schema.type_words, value))
            return
        if schema.enum is not None and _text(value) not in schema.enum_texts:
            out.append(not_one_of(path, value, schema.enum))
        if schema.has_bounds or schema.pattern is not None:
            out.extend(_bounds(schema, value, path))
        if type(value) is dict:
            self._mapping_values(schema, value, path, out)
        elif type(value) is list:
            if schema.items is not None:
                for index, entry in enumerate(value):
                    self._values(schema.items, entry, (*path, index), out)
            if len(value) > 1 and (schema.list_keys or schema.unique):
                out.extend(duplicates(value, path, schema.list_keys))
        self._junctors(schema, value, path, out)

    def _mapping_values(self, schema: _Schema, value: dict[str, Any], path: Path, out: Problems) -> None:
        for key, entry in value.items():
            inner = schema.properties.get(key) or schema.additional
            if inner is not None:
                self._values(inner, entry, (*path, key), out)
        for key in schema.required:
            if key not in value:
                out.append(missing(path, key))
        if schema.embedded:
            for key, form in _EMBEDDED:
                if not isinstance(value.get(key), str) or not value[key]:
                    out.append(missing(path, key))
                elif not form.match(value[key]):
                    out.append(bad_value((*path, key), f"is {shown(value[key])}, which is none"))

    def _junctors(self, schema: _Schema, value: Any, path: Path, out: Problems) -> None:
        for part in schema.all_of:
            self._values(part, value, path, out)
        if schema.any_of:
            failures = [self._trial(part, value, path) for part in schema.any_of]
            if all(failures):
                out.append(_none_fits(path, "anyOf", failures))
        if schema.one_of:
            failures = [self._trial(part, value, path) for part in schema.one_of]
            fitting = sum(not failure for failure in failures)
            if fitting > 1:
                out.append(bad_value(path, f"fits {fitting} alternatives (oneOf), and must fit exactly one"))
            elif not fitting:
                out.append(_none_fits(path, "oneOf", failures))
        if schema.negated is not None and not self._trial(schema.negated, value, path):
            out.append(bad_value(path, "has a form that is ruled out (not)"))

    def _trial(self, schema: _Schema, value: Any, path: Path) -> Problems:
        found: Problems = []
        self._values(schema, value, path, found)
        return found

    # Rules ----------------------------------------------------------------------------------------------------

    def _rules(self, schema: _Schema, value: Any, path: Path, out: Problems) -> None:
        if value is None:
            return
        for rule in schema.rules:
            verdict = rule.judge(lambda: _for_cel(schema, value, root=not path))
            if verdict.unchecked:
                self._note(f"CEL rule {shown(rule.text)} is not checked: {verdict.unchecked}")
            elif verdict.failure:
                where = (*path, *rule.field_path)
                text = f"{field_path(where)}: {verdict.failure}"
                out.append(Problem(where, Rule.VALIDATION_RULE, text))
        if type(value) is dict:
            for key, entry in value.items():
                inner = schema.properties.get(key) or schema.additional
                if inner is not None:
                    self._rules(inner, entry, (*path, key), out)
        elif type(value) is list and schema.items is not None:
            for index, entry in enumerate(value):
                self._rules(schema.items, entry, (*path, index), out)


def _none_fits(path: Path, name: str, failures: list[Problems]) -> Problem:
    reasons = dict.fromkeys(failure[0].message for failure in failures if failure)
    return bad_value(path, f"fits none of {len(failures)} alternatives ({name}): {' — or: '.join(list(reasons)[:4])}")


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    if type(value) in types:
        return True
    # JSON does not tell 1.0 from 1.
    return int in types and float not in types and type(value) is float and value.is_integer()


def _text(value: Any) -> str:
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


def _from_re2(text: str) -> str:
    """RE2's spelling where Python's differs."""
    posix = {"alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "lower": "a-z", "upper": "A-Z", "space": r"\s",
             "xdigit": "0-9A-Fa-f", "word": r"\w"}  # fmt: skip
    text = re.sub(r"\[:(\w+):\]", lambda match: posix.get(match[1], match[0]), text)
    # Go's `$` is the end of the text; Python's is also before a last line end.
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\z", r"\1\\Z", text)
    text = re.sub(r"(?<!\\)((?:\\\\)*)\$(?=\Z|\)|\|)", r"\1\\Z", text)
    return f"(?a){text}" if not text.startswith("(?") else text


def _bounds(schema: _Schema, value: Any, path: Path) -> Iterator[Problem]:
    raw = schema.raw
    if type(value) in (int, float):
        yield from _number_bounds(raw, value, path)
    elif type(value) is str:
        if len(value) < raw.get("minLength", 0):
            yield bad_value(path, f"has {len(value)} characters, fewer than {raw['minLength']}")
        if len(value) > raw.get("maxLength", len(value)):
            yield bad_value(path, f"has {len(value)} characters, more than {raw['maxLength']}")
        if schema.pattern is not None and not schema.pattern.search(value):
            yield bad_value(path, f"does not match {shown(raw['pattern'])}")
        fits = formats.STRING_FORMATS.get(str(raw.get("format", "")))
        if fits is not None and not fits(value):
            yield bad_value(path, f"is no {raw['format']}")
    elif type(value) is list:
        yield from _count_bounds(raw, "Items", "items", len(value), path)
    elif type(value) is dict:
        yield from _count_bounds(raw, "Properties", "fields", len(value), path)


def _count_bounds(raw: Mapping[str, Any], name: str, words: str, count: int, path: Path) -> Iterator[Problem]:
    if count < raw.get(f"min{name}", 0):
        yield bad_value(path, f"has {count} {words}, fewer than {raw[f'min{name}']}")
    if count > raw.get(f"max{name}", count):
        yield bad_value(path, f"has {count} {words}, more than {raw[f'max{name}']}")


def _number_bounds(raw: Mapping[str, Any], value: float, path: Path) -> Iterator[Problem]:
    low, high = raw.get("minimum", value), raw.get("maximum", value)
    if value < low or (value == low and "minimum" in raw and raw.get("exclusiveMinimum") is True):
        yield bad_value(path, f"is {shown(value)}, below the minimum of {low}")
    if value > high or (value == high and "maximum" in raw and raw.get("exclusiveMaximum") is True):
        yield bad_value(path, f"is {shown(value)}, above the maximum of {high}")
    step = raw.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-9:
        yield bad_value(path, f"is {shown(value)}, not a multiple of {step}")
    allowed = {"int32": formats.INT32, "int64": formats.INT64}.get(str(raw.get("format", "")))
    if allowed is not None and type(value) is int and value not in allowed:
        yield bad_value(path, f"is {shown(value)}, which does not fit into {raw['format']}")


def _fill(schema: _Schema, value: Any) -> Any:
    """A copy with defaults, also where a null stands that is not allowed."""
    if type(value) is list:
        items = schema.items
        return [_fill(items, entry) for entry in value] if items is not None else value
    if type(value) is not dict:
        return value
    filled = {}
    for key, entry in value.items():
        inner = schema.properties.get(key) or schema.additional
        if inner is None:
            filled[key] = entry
        elif entry is not None or inner.nullable or "default" not in inner.raw:
            filled[key] = _fill(inner, entry)
    for key, inner in schema.properties.items():
        if key not in filled and (default := inner.raw.get("default", _ABSENT)) is not _ABSENT:
            filled[key] = _fill(inner, default)
    return filled


def _for_cel(schema: _Schema, value: Any, *, root: bool = False) -> Any:
    """A value as CEL rules see it: declared fields under escaped names, times and durations as such."""
    if type(value) is dict:
        if schema.properties or root or schema.embedded:
            known = dict(schema.properties)
            made = {
                celrules.escaped(key): _for_cel(known[key], entry)
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
        return {key: _for_cel(inner, entry) if inner is not None else entry for key, entry in value.items()}
    if type(value) is list:
        return [_for_cel(schema.items, entry) for entry in value] if schema.items is not None else value
    return celrules.typed(value, str(schema.raw.get("format", "")))


@dataclass(frozen=True, slots=True)
class Definition:
    """What one CustomResourceDefinition says about one version."""

    gvk: Gvk
    schema: Mapping[str, Any] | None  # None: any field is taken
    drops_status: bool
    served: bool
    deprecated: bool
    warning: str
    namespaced: bool


def definitions(body: JsonObject) -> tuple[Definition, ...]:
    """The versions of a CustomResourceDefinition (apiextensions.k8s.io/v1).

    Raises:
        DefinitionError: it names no kind, or a version has no usable schema.
    """
    spec = body.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    versions = spec.get("versions") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict) or not isinstance(versions, list):
        raise DefinitionError("no spec.names and spec.versions")
    group, kind = spec.get("group"), names.get("kind")
    if not isinstance(group, str) or not isinstance(kind, str):
        raise DefinitionError("no spec.group and spec.names.kind")
    found = []
    for index, version in enumerate(versions):
        if not isinstance(version, dict) or not isinstance(version.get("name"), str):
            raise DefinitionError(f"spec.versions[{index}] has no name")
        holder = version.get("schema")
        schema = holder.get("openAPIV3Schema") if isinstance(holder, dict) else None
        if not isinstance(schema, dict):
            raise DefinitionError(f"spec.versions[{index}].schema.openAPIV3Schema is required")
        subresources = version.get("subresources")
        found.append(
            Definition(
                Gvk(group, version["name"], kind),
                None if spec.get("preserveUnknownFields") is True else schema,
                isinstance(subresources, dict) and subresources.get("status") is not None,
                version.get("served") is not False,
                version.get("deprecated") is True,
                str(version.get("deprecationWarning") or ""),
                spec.get("scope") != "Cluster",
            )
        )
    return tuple(found)
