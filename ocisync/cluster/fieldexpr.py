"""Fields as people name them, found in a real object and in what managers own. Pure.

    .spec.replicas                                          as kubectl's jsonpath
    spec.template.spec.containers[name=app].image           list items by a key, `[0]` by position
    /spec/template/spec/containers/0/image                  a JSON pointer; items by position or by the value of a key
    metadata.annotations[example.com/team]                  map keys with dots, quoted or not
    containers[name=app].image                              the end of a path, if only one field of the object has it

A found field is a path of concrete steps (keys and positions) in one object. `path_of` turns it into the segments of
managedFields, which name list items by their keys and so fit other states of the object, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ocisync.cluster.fields import ManagerEntry, Path, lookup_index
from ocisync.model.errors import UsageError
from ocisync.model.limits import JSON_DEPTH
from ocisync.model.resource import JsonObject

Steps = tuple[str | int, ...]
"""Where a value is in one object: map keys and list positions."""

_MAX_CHARS: Final = 1_000
_MAX_FOUND: Final = 6
_MAX_NODES: Final = 200_000
_TOKEN = re.compile(
    r"""
      \[\s*"(?P<double>(?:[^"\\]|\\.)*)"\s*\]
    | \[\s*'(?P<single>[^']*)'\s*\]
    | \[\s*(?P<index>\d{1,6})\s*\]
    | \[(?P<inside>[^\[\]"']+(?:="[^"]*"|='[^']*')?[^\[\]]*)\]
    | (?P<name>(?:\\.|[^.\[\]\\])+)
    """,
    re.VERBOSE,
)
_PAIR = re.compile(
    r"""\s*(?P<key>[^=,\s]+)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^,]*?))\s*(?:,|\Z)"""
)


@dataclass(frozen=True, slots=True)
class Keyed:
    """A list item whose keys have these values, compared as text."""

    pairs: tuple[tuple[str, str], ...]

    def fits(self, item: object) -> bool:
        """Whether it is this item."""
        return isinstance(item, dict) and all(k in item and _text(item[k]) == v for k, v in self.pairs)


Step = str | int | Keyed


def parse_field(text: str) -> tuple[Step, ...]:
    """The steps of a field as people write it.

    Raises:
        UsageError: it is no field.
    """
    if not text or len(text) > _MAX_CHARS:
        raise UsageError(f"no field: {text[:80]!r}", hint="for example .spec.replicas or containers[name=app].image")
    if text.startswith("/"):
        return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))
    rest = text.strip().removeprefix("$").removeprefix("{").removesuffix("}").lstrip(".")
    steps: list[Step] = []
    position = 0
    while position < len(rest):
        found = _TOKEN.match(rest, position)
        if found is None:
            raise UsageError(
                f"field {text[:80]!r}: cannot be read from {rest[position : position + 20]!r} on",
                hint="for example .spec.replicas or containers[name=app].image",
            )
        steps.append(_step(found))
        position = found.end()
        if position < len(rest) and rest[position] == ".":
            position += 1
            if position == len(rest):
                raise UsageError(f"field {text[:80]!r} ends with a dot")
    if not steps:
        raise UsageError(f"no field: {text[:80]!r}", hint="for example .spec.replicas")
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["index"] is not None:
        return int(found["index"])
    if found["double"] is not None:
        return re.sub(r"\\(.)", r"\1", found["double"])
    if found["single"] is not None:
        return found["single"]
    if found["name"] is not None:
        return re.sub(r"\\(.)", r"\1", found["name"])
    inside = found["inside"]
    if "=" not in inside:
        return inside.strip()
    pairs = []
    for pair in _PAIR.finditer(inside.removeprefix("?(@.").removesuffix(")")):
        value = next(v for v in (pair["double"], pair["single"], pair["plain"]) if v is not None)
        pairs.append((pair["key"], value))
    if not pairs:
        raise UsageError(f"no list item: [{inside}]", hint="for example containers[name=app]")
    return Keyed(tuple(pairs))


def find(obj: JsonObject, steps: Sequence[Step]) -> tuple[Steps, ...]:
    """Where a field is: one place if it is written from the top, else every place that ends so (at most six)."""
    exact = tuple(_walk(obj, tuple(steps)))
    if exact:
        return exact[:1]
    found: list[Steps] = []
    budget = _MAX_NODES
    pending: list[tuple[Steps, Any]] = [((), obj)]
    while pending and budget > 0 and len(found) < _MAX_FOUND:
        at, value = pending.pop(0)
        if at == ("metadata",) and isinstance(value, dict):
            value = {key: below for key, below in value.items() if key != "managedFields"}
        children: Iterator[tuple[str | int, Any]] = iter(())
        if isinstance(value, dict):
            children = iter(value.items())
        elif isinstance(value, list):
            children = iter(enumerate(value))
        for key, below in children:
            budget -= 1
            if not isinstance(below, dict | list) or len(at) > JSON_DEPTH:
                continue
            here = (*at, key)
            found.extend(here + rest for rest in _walk(below, tuple(steps)) if here + rest not in found)
            pending.append((here, below))
    return tuple(found[:_MAX_FOUND])


def _walk(value: Any, steps: tuple[Step, ...]) -> Iterator[Steps]:
    """Every way to follow these steps from here; keys with dots may be written without quotes."""
    if not steps:
        yield ()
        return
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict) and isinstance(step, str):
        for number in range(1, len(steps) + 1):
            names = steps[:number]
            if not all(isinstance(name, str) for name in names):
                break
            key = ".".join(str(name) for name in names)
            if key in value:
                yield from ((key, *below) for below in _walk(value[key], steps[number:]))
    elif isinstance(value, dict) and isinstance(step, int) and str(step) in value:
        yield from ((str(step), *below) for below in _walk(value[str(step)], rest))
    elif isinstance(value, list):
        for index in _indexes(value, step):
            yield from ((index, *below) for below in _walk(value[index], rest))


def _indexes(items: list[Any], step: Step) -> list[int]:
    if isinstance(step, Keyed):
        return [index for index, item in enumerate(items) if step.fits(item)][:1]
    if isinstance(step, int) or (step.isascii() and step.isdigit()):
        return [int(step)] if int(step) < len(items) else []
    by_name = [i for i, item in enumerate(items) if isinstance(item, dict) and item.get("name") == step]
    return (
        by_name or [i for i, item in enumerate(items) if not isinstance(item, dict | list) and _text(item) == step]
    )[:1]


def path_of(obj: Any, steps: Steps, entries: Sequence[ManagerEntry] = ()) -> Path:
    """The segments of managedFields for a place: items by the keys that some entry uses, else name, else position."""
    path: list[str] = []
    nodes: list[Mapping[str, Any]] = [entry.fields for entry in entries]
    value = obj
    for step in steps:
        if isinstance(step, str):
            segment = f"f:{step}"
            value = value.get(step) if isinstance(value, dict) else None
        else:
            segment = _item_segment(value, step, nodes)
            value = value[step] if isinstance(value, list) and step < len(value) else None
        path.append(segment)
        nodes = [child for node in nodes if isinstance(child := node.get(segment), dict)]
    return tuple(path)


def _item_segment(items: Any, index: int, nodes: Sequence[Mapping[str, Any]]) -> str:
    if isinstance(items, list):
        for node in nodes:
            for segment in node:
                if segment[:2] in {"k:", "v:"} and lookup_index(items, segment) == index:
                    return segment
        names = [item.get("name") if isinstance(item, dict) else None for item in items]
        if index < len(names) and isinstance(names[index], str) and names.count(names[index]) == 1:
            return "k:" + json.dumps({"name": names[index]}, separators=(",", ":"))
    return f"i:{index}"


def steps_of(obj: Any, path: Path) -> Steps | None:
    """Where the field of a path is in another state of the object; None if that has no such field."""
    steps: list[str | int] = []
    value = obj
    for segment in path:
        sort, _, text = segment.partition(":")
        if sort == "f":
            if not isinstance(value, dict) or text not in value:
                return None
            steps.append(text)
            value = value[text]
            continue
        index = lookup_index(value, segment) if isinstance(value, list) else -1
        if index < 0:
            return None
        steps.append(index)
        value = value[index]
    return tuple(steps)


def value_at(obj: Any, steps: Steps) -> Any:
    """The value at a place that is known to exist."""
    for step in steps:
        obj = obj[step]
    return obj


class Hold(StrEnum):
    """How an entry holds a field."""

    EXACT = "Exact"
    AROUND = "Around"  # an atomic value that contains it
    WITHIN = "Within"  # something below it


def hold_of(entry: ManagerEntry, path: Path) -> Hold | None:
    """How an entry of managedFields holds a field, if it does."""
    node: Mapping[str, Any] = entry.fields
    for depth, segment in enumerate(path):
        if depth and not node:
            return Hold.AROUND
        child = node.get(segment)
        if not isinstance(child, dict):
            return None
        node = child
    return Hold.EXACT if not node or "." in node else Hold.WITHIN


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
