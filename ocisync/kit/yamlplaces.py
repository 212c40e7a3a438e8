"""Where values are written in a file: a tree of places, built only when a message needs one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

Path = tuple[str | int, ...]


class Kind(Enum):
    """What an event says."""

    SCALAR = 1  # or an alias
    MAPPING = 2
    LIST = 3
    END = 4


class Event(NamedTuple):
    """One step through a document; lines and columns count from 1."""

    kind: Kind
    line: int
    column: int
    text: str = ""


@dataclass(slots=True)
class Place:
    """A value: where it is, and what is below it."""

    line: int
    column: int
    children: dict[str | int, Place]


def read(events: Iterable[Event], max_depth: int) -> Place | None:
    """The places of one document; None if it has no value or is nested too deep."""
    steps = iter(events)
    first = next(steps, None)
    return None if first is None else _place(first, steps, max_depth)


def _place(event: Event, steps: Iterator[Event], depth: int) -> Place | None:
    place = Place(event.line, event.column, {})
    if event.kind is Kind.SCALAR:
        return place
    if depth <= 0:
        return None
    while (inner := next(steps)).kind is not Kind.END:
        below = _place(inner, steps, depth - 1)
        if event.kind is Kind.MAPPING:
            value = _place(next(steps), steps, depth - 1)
            # A mapping or list starts on the line below its key: the key is what people look for.
            below = below and value and Place(below.line, below.column, value.children)
        if below is None:
            return None
        place.children[len(place.children) if event.kind is Kind.LIST else inner.text] = below
    return place


def find(roots: list[Place | None], index: int, path: Path) -> tuple[int, int]:
    """Line and column of the value at `path` in document `index`; of its nearest known parent otherwise."""
    root = roots[index] if index < len(roots) else None
    return (0, 0) if root is None else _descend(root, path)


def find_at(roots: list[Place | None], line: int, path: Path) -> tuple[int, int]:
    """As `find`, below the outermost document or list item that starts in `line`."""
    level = [root for root in roots if root is not None]
    while level:
        for place in level:
            if place.line == line:
                return _descend(place, path)
        level = [below for place in level for below in place.children.values()]
    return 0, 0


def _descend(place: Place, path: Path) -> tuple[int, int]:
    for part in path:
        below = place.children.get(part)
        if below is None:
            break
        place = below
    return place.line, place.column
