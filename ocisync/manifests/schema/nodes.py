"""Schemas of built-in kinds as a graph of nodes, each of which checks one value.

A node takes what Go's decoder takes in strict mode and what server-side apply takes: null is absence everywhere,
names of fields are exact, integers have their size, lists with keys hold each key once. `check` appends problems; it
never raises and never ends early, so all are found at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ocisync.kit.yamlio import Path
from ocisync.manifests.rules import Rule
from ocisync.manifests.schema import formats
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

Problems = list[Problem]


class _Nothing:
    """No value has this type."""


class Node:
    """Takes anything. `plain` is a type all of whose values are right, so that the caller need not ask."""

    __slots__ = ("plain",)

    def __init__(self) -> None:
        self.plain: type = _Nothing

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong with a value; `value` is not None."""


class Text(Node):
    """A string, perhaps of an enumeration. The empty string stands for absence, as everywhere in Go's types."""

    __slots__ = ("_values",)

    def __init__(self, values: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._values = values
        if not values:
            self.plain = str

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is not str:
            out.append(wrong_type(path, "a string", value))
        elif self._values and value and value not in self._values:
            out.append(not_one_of(path, value, sorted(self._values)))


class Formatted(Node):
    """A string of a format; `words` tell which."""

    __slots__ = ("_fits", "_words")

    def __init__(self, fits: Callable[[str], bool], words: str) -> None:
        super().__init__()
        self._fits, self._words = fits, words

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is not str:
            out.append(wrong_type(path, "a string", value))
        elif not self._fits(value):
            out.append(bad_value(path, f"must be {self._words}"))


class Flag(Node):
    """A boolean."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.plain = bool

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is not bool:
            out.append(wrong_type(path, "a boolean", value))


class Integer(Node):
    """An integer of 32 or 64 bits."""

    __slots__ = ("_range",)

    def __init__(self, allowed: range) -> None:
        super().__init__()
        self._range = allowed

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is float and value.is_integer():
            value = int(value)  # JSON does not tell 3.0 from 3, and Go takes it
        if type(value) is not int:
            out.append(wrong_type(path, "an integer", value))
        elif value not in self._range:
            out.append(
                bad_value(path, f"is {shown(value)}, which does not fit into {self._range.stop.bit_length()} bits")
            )


class Number(Node):
    """Any number."""

    __slots__ = ()

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) not in (int, float):
            out.append(wrong_type(path, "a number", value))


class Quantity(Node):
    """An amount of a resource."""

    __slots__ = ()

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is str:
            if not formats.is_quantity(value):
                out.append(bad_value(path, f"is {shown(value)}, which is no quantity such as 500m or 1.5Gi"))
        elif type(value) not in (int, float):
            out.append(wrong_type(path, "a quantity such as 500m or 1.5Gi", value))


class IntOrString(Node):
    """A port's number or name, a count or a percentage."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.plain = str

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int:
            if value not in formats.INT32:
                out.append(bad_value(path, f"is {shown(value)}, which does not fit into 32 bits"))
        elif type(value) is not str:
            out.append(wrong_type(path, "an integer or a string", value))


class Items(Node):
    """A list. With `keys`, items are mappings that differ in these; a set's items differ in themselves."""

    __slots__ = ("_defaults", "_item", "_keys", "_set")

    def __init__(
        self, item: Node, keys: tuple[str, ...] = (), *, unique: bool = False, defaults: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._item, self._keys, self._set = item, keys, unique
        self._defaults = defaults or {}

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is not list:
            out.append(wrong_type(path, "a list", value))
            return
        item = self._item
        plain = item.plain
        for index, entry in enumerate(value):
            if type(entry) is not plain:
                if entry is not None:
                    item.check(entry, (*path, index), out)
                elif self._keys or self._set:
                    out.append(wrong_type((*path, index), "a mapping" if self._keys else "a value", entry))
        if len(value) > 1 and (self._keys or self._set):
            out.extend(duplicates(value, path, self._keys, self._defaults))
        if (
            self._keys
            and not self._defaults
            and not (isinstance(item, Struct) and set(item.required) & set(self._keys))
        ):
            out.extend(_without_keys(value, path, self._keys))


def duplicates(
    value: list[Any], path: Path, keys: tuple[str, ...], defaults: Mapping[str, Any] | None = None
) -> Problems:
    """Items of a list that an earlier item equals, in their keys or as a whole if there are no keys."""
    seen: dict[str, int] = {}
    found = []
    for index, entry in enumerate(value):
        identity: Any = entry
        if keys:
            if type(entry) is not dict:
                continue
            identity = [entry.get(key, (defaults or {}).get(key)) for key in keys]
        # JSON text tells 1 from "1" and from true, which equality does not.
        first = seen.setdefault(json.dumps(identity, sort_keys=True), index)
        if first != index:
            what = (
                " and ".join(f"{key} {shown(part)}" for key, part in zip(keys, identity, strict=True)) if keys else ""
            )
            named = f" with {what}" if what else ""
            message = f"{field_path((*path, index))}{named} is already there as {field_path((*path, first))}"
            found.append(Problem((*path, index), Rule.DUPLICATE_ITEM, message))
    return found


def _without_keys(value: list[Any], path: Path, keys: tuple[str, ...]) -> Problems:
    """Items that say nothing of what tells them from others."""
    return [
        missing((*path, index), keys[0])
        for index, entry in enumerate(value)
        if type(entry) is dict and not any(key in entry for key in keys)
    ]


class Entries(Node):
    """A mapping with free keys."""

    __slots__ = ("_value",)

    def __init__(self, value: Node) -> None:
        super().__init__()
        self._value = value

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is not dict:
            out.append(wrong_type(path, "a mapping", value))
            return
        node = self._value
        plain = node.plain
        for key, entry in value.items():
            if type(entry) is not plain and entry is not None:
                node.check(entry, (*path, key), out)


class Struct(Node):
    """A mapping with declared fields. Filled in after it is made, because structs contain themselves."""

    __slots__ = ("fields", "required")

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, Node] = {}
        self.required: tuple[str, ...] = ()

    def check(self, value: Any, path: Path, out: Problems) -> None:
        """Append what is wrong."""
        if type(value) is not dict:
            out.append(wrong_type(path, "a mapping", value))
            return
        fields = self.fields
        for key, entry in value.items():
            node = fields.get(key)
            if node is None:
                out.append(unknown_field((*path, key), fields))
            elif type(entry) is not node.plain and entry is not None:
                node.check(entry, (*path, key), out)
        for key in self.required:
            if value.get(key) is None:
                out.append(missing(path, key))


SCALARS: dict[str, Node] = {
    "s": Text(),
    "b": Flag(),
    "i": Integer(formats.INT32),
    "I": Integer(formats.INT64),
    "n": Number(),
    "q": Quantity(),
    "x": IntOrString(),
    "t": Formatted(formats.is_time, "a time such as 2006-01-02T15:04:05Z"),
    "T": Formatted(formats.is_micro_time, "a time such as 2006-01-02T15:04:05.000000Z"),
    "d": Formatted(lambda text: formats.is_base64(text) or formats.is_left_open(text), "base64"),
    "*": Node(),
}
