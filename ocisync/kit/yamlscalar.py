"""What a plain YAML scalar means to kubectl: the resolver of go-yaml v2 as sigs.k8s.io/yaml uses it, then as JSON.

Pure: text in; None, bool, int, float or str out.
"""

from __future__ import annotations

import re
from decimal import Decimal

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_NULL = ("", "~", "null", "Null", "NULL")
_INFINITE = frozenset(sign + "." + word for word in ("inf", "Inf", "INF") for sign in ("", "+", "-")) | {
    ".nan",
    ".NaN",
    ".NAN",
}
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys(_NULL, None),
}

_NOT_STRING = "yYnNtTfFoO~+-.0123456789"
# A plain scalar that starts with one of these ASCII characters is a string without looking further.
STRING_STARTS = frozenset(chr(code) for code in range(33, 127) if chr(code) not in _NOT_STRING)

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"(?:[Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
    r"| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:[.,][0-9]+)?)?\Z"
)
_INT = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|([1-9][0-9]*|0))\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_POINT_FLOAT = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?\Z")
_MAX_DIGITS = 400  # no number that fits a float is longer to any purpose; a cap for the conversion's cost
_PREFIX = "tag:yaml.org,2002:"

Scalar = None | bool | int | float | str


class ScalarError(ValueError):
    """The text has no meaning in JSON, or its tag does not fit."""


def resolve_plain(text: str) -> Scalar:
    """The value of an unquoted, untagged scalar.

    Raises:
        ScalarError: for infinities and NaN, which JSON cannot hold.
    """
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first == ".":
        if text in _INFINITE:
            raise ScalarError(f"{text} is not a JSON number")
        return _float(text.replace("_", ""), text) if _POINT_FLOAT.match(text) else text
    if first in "+-" or first.isdecimal():
        if text in _INFINITE:
            raise ScalarError(f"{text} is not a JSON number")
        return _number(text)
    return text


def _number(text: str) -> Scalar:
    if len(text) > _MAX_DIGITS or _TIME.match(text):
        return text
    plain = text.replace("_", "")
    found = _INT.match(plain)
    if found:
        sign, *digits = found.groups()
        for base, part in zip((16, 2, 8, 8, 10), digits, strict=True):
            if part is None:
                continue
            number = int(part, base)
            if sign == "-":
                number = -number
            # int64, or uint64 when written without a sign; anything else is read as a float.
            if -(1 << 63) <= number < (1 << 63) or (not sign and number < (1 << 64)):
                return number
    return _float(plain, text) if _FLOAT.match(plain) else text


def _float(plain: str, text: str) -> Scalar:
    number = float(plain)
    if number in (float("inf"), float("-inf")):
        return text
    return json_number(number)


def json_number(number: float) -> int | float:
    """As Go writes a float64 to JSON: whole numbers below 1e21 have no fraction, so that they are integers there."""
    if number.is_integer() and abs(number) < 1e21:  # encoding/json switches to exponents here
        return int(Decimal(repr(number)))
    return number


def resolve_tagged(tag: str, text: str) -> Scalar:
    """The value of a scalar with an explicit tag; unknown tags leave the text as it is.

    Raises:
        ScalarError: if the text is no value of that type.
    """
    short = tag.removeprefix(_PREFIX)
    if tag == short or short not in ("bool", "int", "float", "null", "timestamp"):
        return text
    if short == "timestamp":
        if not _TIME.match(text):
            raise ScalarError(f"this is no !!{short}")
        return text
    value = resolve_plain(text) if text == "" or text[0] not in STRING_STARTS else text
    # A whole !!float is an int here because JSON writes it so; any other number under !!int is a mistake.
    fits = {
        "bool": type(value) is bool,
        "int": type(value) is int and not _is_float_text(text),
        "float": type(value) in (int, float),
        "null": value is None,
    }[short]
    if not fits:
        raise ScalarError(f"this is no !!{short}")
    return value


def _is_float_text(text: str) -> bool:
    return not _INT.match(text.replace("_", ""))


def is_exponent(text: str) -> bool:
    """Tell whether number text has an exponent: as a key, kubectl rewrites it in a way of its own."""
    return "e" in text.lower() and "x" not in text.lower()


def key_text(value: object) -> str:
    """A mapping key as the string that JSON needs.

    Raises:
        ScalarError: for null, mappings and sequences.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    kind = "null" if value is None else "a mapping" if isinstance(value, dict) else "a list"
    raise ScalarError(f"a key must be a string, not {kind}")
