"""What a schema finds wrong with a value, and how places in an object are written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from ocisync.kit.yamlio import Path
from ocisync.manifests.rules import Rule
from ocisync.model.values import dataclass

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_-]*\Z")
_SHOWN_CHARS = 60
_NAMES = {dict: "a mapping", list: "a list", str: "a string", bool: "a boolean", int: "an integer", float: "a number"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, at a place inside one object."""

    path: Path
    rule: Rule
    message: str


def field_path(path: Path) -> str:
    """`spec.ports[0].name`, as the API server writes it; free keys stand in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.match(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part[:_SHOWN_CHARS]!r}]"
    return text or "the object"


def type_name(value: Any) -> str:
    """The kind of a value, in a sentence."""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A short value, for a message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def unknown_field(path: Path, known: Iterable[str]) -> Problem:
    """A field that its mapping does not have."""
    return Problem(path, Rule.UNKNOWN_FIELD, f"unknown field {field_path(path)}{did_you_mean(str(path[-1]), known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion, with the words before it; empty if nothing is close."""
    names = {other.lower(): other for other in known}
    if name.lower() in names:
        return f"; did you mean {names[name.lower()]}?"
    close = difflib.get_close_matches(name.lower()[:100], names, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(names[other] for other in close)}?" if close else ""


def wrong_type(path: Path, wanted: str, value: Any) -> Problem:
    """A value of another type. The value itself is not shown: it may be secret."""
    hint = ""
    if isinstance(value, str) and wanted in ("a boolean", "an integer", "a number"):
        hint = ": take the quotes away"
    elif wanted == "a string" and isinstance(value, (bool, int, float)):
        hint = ": put it in quotes"
    return Problem(path, Rule.WRONG_TYPE, f"{field_path(path)} must be {wanted}, not {type_name(value)}{hint}")


def missing(path: Path, name: str) -> Problem:
    """A field that must be there. Its place is that of the mapping which lacks it."""
    return Problem(path, Rule.REQUIRED_FIELD, f"{field_path((*path, name))} is required")


def bad_value(path: Path, what: str) -> Problem:
    """A value of the right type that is not allowed; `what` follows the field's name."""
    return Problem(path, Rule.BAD_VALUE, f"{field_path(path)} {what}")


def not_one_of(path: Path, value: Any, allowed: Iterable[Any]) -> Problem:
    """A value that is not in an enumeration."""
    values = [other for other in allowed if other not in ("", None)]
    names = ", ".join(shown(other) for other in values[:20])
    more = f", … ({len(values)} in all)" if len(values) > 20 else ""
    close = did_you_mean(value, (other for other in values if isinstance(other, str))) if isinstance(value, str) else ""
    text = f"{field_path(path)} is {shown(value)}, not one of {names}{more}{close}"
    return Problem(path, Rule.ENUM, text)
