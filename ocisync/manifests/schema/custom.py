"""Schemas of custom kinds, from their CustomResourceDefinitions: structural schemas as the API server reads them.

An object is judged as the server judges it: defaults are filled in (for a null that is not allowed, too), then values
are checked (types, required fields, bounds, patterns, formats, enumerations, `allOf`, `anyOf`, `oneOf`, `not`, sets and
lists with keys, CEL rules). Unknown fields are looked for in what was written; only
`x-kubernetes-preserve-unknown-fields` lets them pass.

A definition may hold what cannot be checked here (a pattern of another dialect, a CEL function that is not known);
that is a problem with the rule `unchecked-rule`, which is a warning, told once for each definition.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ocisync.kit.cel import Allowance
from ocisync.kit.yamlio import Path
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
    unknown_field,
    wrong_type,
)
from ocisync.manifests.schema.structural import OBJECT_FIELDS, Preparation, Schema, filled, for_cel, text_of

_EMBEDDED = (
    ("apiVersion", re.compile(r"[^/]+(?:/[^/]+)?\Z")),
    ("kind", re.compile(r"[A-Za-z](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")),
)


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
        self._allowance = Allowance()
        preparation = Preparation()
        self._root = preparation.prepare(schema)
        self._unchecked = dict.fromkeys(preparation.notes, False)  # text → told already

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong with an object."""
        self._metadata.check(value.get("metadata"), (*path, "metadata"), out)
        self._unknown(self._root, value, path, out, root=True)
        judged = {key: entry for key, entry in value.items() if not (key == "status" and self._drops_status)}
        complete = filled(self._root, judged)
        found: Problems = []
        self._values(self._root, complete, path, found)
        # With a broken shape, rules would report its consequences.
        if not found and not out:
            self._rules(self._root, complete, path, found)
        out.extend(found)

    def unchecked(self) -> list[str]:
        """What of the schema cannot be checked here, each told by one call only."""
        fresh = [text for text, told in self._unchecked.items() if not told]
        self._unchecked.update(dict.fromkeys(fresh, True))
        return fresh

    def _note(self, text: str) -> None:
        self._unchecked.setdefault(text, False)

    # Preparing ------------------------------------------------------------------------------------------------

    def _unknown(self, schema: Schema, value: Any, path: Path, out: Problems, *, root: bool = False) -> None:
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
            if embedded and key in OBJECT_FIELDS:
                continue
            if inner is not None:
                self._unknown(inner, entry, (*path, key), out)
            elif schema.additional is not None:
                self._unknown(schema.additional, entry, (*path, key), out)
            # Where the schema says another type than "object", that is the problem to tell.
            elif not schema.preserve and (dict in schema.types or not schema.types):
                out.append(unknown_field((*path, key), schema.properties))

    # Values ---------------------------------------------------------------------------------------------------

    def _values(self, schema: Schema, value: Any, path: Path, out: Problems) -> None:
        if value is None and schema.nullable:
            return
        if schema.types and not _has_type(value, schema.types):
            out.append(wrong_type(path, schema.type_words, value))
            return
        if schema.enum is not None and text_of(value) not in schema.enum_texts:
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

    def _mapping_values(self, schema: Schema, value: dict[str, Any], path: Path, out: Problems) -> None:
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

    def _junctors(self, schema: Schema, value: Any, path: Path, out: Problems) -> None:
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

    def _trial(self, schema: Schema, value: Any, path: Path) -> Problems:
        found: Problems = []
        self._values(schema, value, path, found)
        return found

    # Rules ----------------------------------------------------------------------------------------------------

    def _rules(self, schema: Schema, value: Any, path: Path, out: Problems) -> None:
        if value is None:
            return
        for rule in schema.rules:
            verdict = rule.judge(lambda: for_cel(schema, value, root=not path), self._allowance)
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


def _is_multiple(value: float, step: float) -> bool:
    if type(value) is int and type(step) is int:
        return value % step == 0
    try:
        return abs(math.remainder(value / step, 1.0)) <= 1e-9
    except (OverflowError, ValueError):  # beyond what a float holds: nothing can be said
        return True


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    if type(value) in types:
        return True
    # JSON does not tell 1.0 from 1.
    return int in types and float not in types and type(value) is float and value.is_integer()


def _bounds(schema: Schema, value: Any, path: Path) -> Iterator[Problem]:
    raw = schema.raw
    if type(value) in (int, float):
        yield from _number_bounds(raw, value, path)
    elif type(value) is str:
        if len(value) < raw.get("minLength", 0):
            yield bad_value(path, f"has {len(value)} characters, fewer than {raw['minLength']}")
        if len(value) > raw.get("maxLength", len(value)):
            yield bad_value(path, f"has {len(value)} characters, more than {raw['maxLength']}")
        if schema.pattern is not None and not schema.pattern(value):
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
    if step and not _is_multiple(value, step):
        yield bad_value(path, f"is {shown(value)}, not a multiple of {step}")
    allowed = {"int32": formats.INT32, "int64": formats.INT64}.get(str(raw.get("format", "")))
    if allowed is not None and type(value) is int and value not in allowed:
        yield bad_value(path, f"is {shown(value)}, which does not fit into {raw['format']}")
