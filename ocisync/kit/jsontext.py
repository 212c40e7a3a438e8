"""A stream of JSON values, as kubectl accepts in one file: strict, bounded, with line and column of each value.

Refused: duplicate keys, NaN and Infinity, numbers beyond float64, half surrogate pairs, more values, levels or
documents than allowed. Numbers mean what they mean to Kubernetes: integers of 64 bits, else float64.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from ocisync.kit.yamlscalar import json_number
from ocisync.model.values import dataclass

Value = Any


@dataclass(frozen=True, slots=True)
class Caps:
    """What one file may cost."""

    nodes: int
    depth: int
    documents: int


@dataclass(frozen=True, slots=True)
class Item:
    """One value, where it starts (from 1), and the part of the text that it is."""

    value: Value
    line: int
    column: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong. For a duplicate key the place is only that of the value around it."""

    line: int
    column: int
    message: str
    duplicate: bool = False
    syntax: bool = False  # it is not JSON at all; it may be YAML


_SMALL = 1 << 20  # characters that cannot hold enough values to matter
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class _DuplicateKey(Exception):
    pass


class _TooLarge(Exception):
    pass


def read_values(text: str, caps: Caps) -> tuple[list[Item], Problem | None]:
    """Read all values up to the first problem."""
    items: list[Item] = []
    if _values_at_most(text) > caps.nodes:  # before they fill the memory
        return items, Problem(1, 1, f"more than {caps.nodes} values in one file")
    nodes = 0
    start = _skip_space(text, 0)
    line, counted = 1, 0
    while start < len(text):
        line += text.count("\n", counted, start)
        counted = start
        column = start - text.rfind("\n", 0, start)
        try:
            value, end = _JSON.raw_decode(text, start)
            _check_number_ends(text, start, end)
            nodes = _check(value, nodes, caps)
        except json.JSONDecodeError as err:
            return items, Problem(err.lineno, err.colno, f"not JSON: {err.msg}", syntax=True)
        except _DuplicateKey as err:
            return items, Problem(line, column, f"key {err} is already set in this object", duplicate=True)
        except RecursionError:
            return items, Problem(line, column, f"nested deeper than {caps.depth} levels")
        except _TooLarge as err:
            return items, Problem(line, column, f"in this value: {err}")
        except ValueError as err:  # a constant that is not JSON
            return items, Problem(line, column, f"in this value: {err}", syntax=True)
        items.append(Item(value, line, column, start, end))
        if len(items) > caps.documents:
            return items, Problem(line, column, f"more than {caps.documents} documents in one file")
        start = _skip_space(text, end)
    return items, None


def _values_at_most(text: str) -> int:
    """A bound of the number of keys and values: each but the outermost follows one of these characters."""
    if len(text) <= _SMALL:
        return 0
    bare = _STRING.sub("", text)
    return sum(map(bare.count, "[{,:"))


def _unique(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKey(ascii(key[:80]))
            seen.add(key)
    return out


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int | float:
    if len(text) <= 20:
        number = int(text)
        if -(1 << 63) <= number < (1 << 64):
            return number
    return _float(text)


def _float(text: str) -> int | float:
    return json_number(float(text))  # infinite if too large: judged when the whole value is known to be JSON


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_float)


def _check_number_ends(text: str, start: int, end: int) -> None:
    """Refuse `1.` and `1e`, of which Python's decoder takes the `1` and leaves the rest for the next value."""
    if text[start] in "-0123456789" and text[end : end + 1] in (".", "e", "E"):
        number = text[start:end].lower()
        if "e" not in number and (text[end] != "." or "." not in number):
            raise json.JSONDecodeError("Expecting a digit", text, end)


def _skip_space(text: str, index: int) -> int:
    while index < len(text) and text[index] in " \t\r\n":
        index += 1
    return index


def _check(value: Value, nodes: int, caps: Caps) -> int:
    """Apply the limits, and refuse strings that are not Unicode text; the nodes seen so far.

    Raises:
        _TooLarge: saying what is over its limit.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > caps.depth and any(type(item) in (dict, list) for item in level):
            raise _TooLarge(f"nested deeper than {caps.depth} levels")
        nodes += len(level)
        if nodes > caps.nodes:
            raise _TooLarge(f"more than {caps.nodes} values in one file")
        below: list[Value] = []
        for item in level:
            if type(item) is dict:
                below.extend(item.values())
                _check_text("".join(item))
            elif type(item) is list:
                below.extend(item)
            elif type(item) is str:
                _check_text(item)
            elif type(item) is float and math.isinf(item):
                raise _TooLarge("a number is too large")
        level = below
    return nodes


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _TooLarge("a string holds half of a surrogate pair") from None
