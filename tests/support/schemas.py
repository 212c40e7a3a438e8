"""Good objects to hold against schemas, and ways to spoil them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocisync.kit.yamlio import Path as Place
from ocisync.kit.yamlio import parse_documents
from ocisync.manifests.schema.catalog import Catalog
from ocisync.manifests.schema.problem import Problem
from ocisync.model.resource import JsonObject, ManifestObject, gvk_of, id_of

FOLDER = Path(__file__).parent.parent / "assets" / "schemas"
NEWEST = 37

# Values of every JSON type, and some at the edges of Go's.
ODD_VALUES: tuple[Any, ...] = (
    "text", 7, 1.5, True, ["x"], [{}], {"a": "b"}, {}, [], None, "", 2**31, 2**40, -1, "1Gi", 3.0,
)  # fmt: skip


def documents(name: str) -> tuple[JsonObject, ...]:
    """The objects of a file in the assets."""
    return tuple(document.value for document in parse_documents((FOLDER / name).read_bytes(), name))


def kinds() -> tuple[JsonObject, ...]:
    """Good objects of many built-in kinds, as the newest release takes them."""
    return documents("kinds.yaml")


def custom() -> tuple[JsonObject, JsonObject]:
    """A definition that uses most of what there is, and a good object of its kind."""
    definition, gadget = documents("definition.yaml")
    return definition, gadget


def item(body: JsonObject) -> ManifestObject:
    """An object as if it had been read."""
    return ManifestObject(id_of(body), gvk_of(body), body, "a.yaml", 1)


def judge(body: JsonObject, catalog: Catalog | None = None) -> list[Problem]:
    """What a catalog (default: the newest release's) finds."""
    return (catalog or Catalog(NEWEST)).check(item(body))


def messages(body: JsonObject, catalog: Catalog | None = None) -> list[str]:
    """The same as text."""
    return [problem.message for problem in judge(body, catalog)]


def catalog_of(*definitions: JsonObject, minor: int = NEWEST) -> Catalog:
    """A catalog that knows some custom kinds."""
    made = Catalog(minor)
    for definition in definitions:
        assert made.define(definition) == []
    return made


def value_at(body: Any, place: Place) -> Any:
    """The value at a place of an object."""
    for part in place:
        body = body[part]
    return body


def places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value in an object, with its place."""
    yield place, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*place, index))


@dataclass(frozen=True, slots=True)
class Spoilt:
    """An object with one change; `how` is unknown, other, gone or twice."""

    how: str
    place: Place
    value: Any
    body: JsonObject


def spoilt(body: JsonObject) -> Iterator[Spoilt]:
    """Each change of one value that is worth a look; the object's identity stays."""
    for place, value in places(body):
        if isinstance(value, dict):
            yield Spoilt("unknown", place, "x", _with(body, (*place, "zzUnknown"), "x"))
        if not place or place[0] in ("apiVersion", "kind") or place in (("metadata",), *_IDENTITY):
            continue
        for odd in ODD_VALUES:
            if type(odd) is not type(value) or odd != value:
                yield Spoilt("other", place, odd, _with(body, place, odd))
        if isinstance(place[-1], str):
            made = copy.deepcopy(body)
            del value_at(made, place[:-1])[place[-1]]
            yield Spoilt("gone", place, None, made)
        if isinstance(value, list) and value:
            yield Spoilt("twice", place, value[0], _with(body, place, [*value, value[0]]))


_IDENTITY = (("metadata", "name"), ("metadata", "namespace"))


def _with(body: JsonObject, place: Place, value: Any) -> JsonObject:
    made = copy.deepcopy(body)
    value_at(made, place[:-1])[place[-1]] = copy.deepcopy(value)
    return made
