"""JSON from strangers: one reading only, bounded.

Two parsers that read the same bytes differently are an attack (a signature checker sees one subject, a policy engine
the other). Refused here: duplicate keys, NaN and Infinity, a byte order mark, bytes that are not UTF-8, lone
surrogates, nesting or size beyond the caps, anything after the value.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ocisync.model.limits import JSON_DEPTH


class Malformed(ValueError):
    """The bytes are not JSON as we accept it. The message never quotes more than a short key."""


def parse_json(data: bytes, *, max_bytes: int, max_depth: int = JSON_DEPTH) -> Any:
    """Parse one JSON value.

    Raises:
        Malformed: for anything described at the head of this module.
    """
    if len(data) > max_bytes:
        raise Malformed(f"{len(data)} bytes of JSON, at most {max_bytes} are read")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_constant)
    except Malformed:
        raise
    except RecursionError:
        raise Malformed(f"JSON is nested deeper than {max_depth} levels") from None
    except ValueError as error:  # decoding errors and absurd integers are ValueErrors too
        raise Malformed(f"not JSON: {type(error).__name__} {str(error)[:100]!r}") from None
    _check(value, max_depth)
    return value


def parse_json_object(data: bytes, *, max_bytes: int, max_depth: int = JSON_DEPTH) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        Malformed: if it is not JSON or not an object.
    """
    value = parse_json(data, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(value, dict):
        raise Malformed("JSON is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed(f"duplicate key {key[:60]!r}")
            seen.add(key)
    return out


def _constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


def _check(value: Any, max_depth: int) -> None:
    """Depth and surrogates, without recursion."""
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise Malformed(f"JSON is nested deeper than {max_depth} levels")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    _check_text(key)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str):
                _check_text(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise Malformed("a number is too large")  # written again it would be Infinity, which is not JSON
        level = below


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise Malformed("JSON string with a lone surrogate")
