"""What a YAML scalar means to kubectl: the resolver of go-yaml v2 as sigs.k8s.io/yaml uses it, then as JSON.

Pure: text in; None, bool, int, float or str out.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from datetime import date
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
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:[Tt]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?(?:Z|[+-]([0-9]{2}):([0-9]{2}))"
    r"| ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?)?\Z"
)
_INT = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|([1-9][0-9]*|0))\Z")
_SIGNED_BINARY = re.compile(r"0b([+-][01]+)\Z")  # Go strips the prefix and reads what is left, sign and all
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_POINT_FLOAT = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?\Z")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_MAX_DIGITS = 64  # of an integer of 64 bits in base 2, the longest; leading zeros apart
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
    if first in "+-.0123456789":
        if text in _INFINITE:
            raise ScalarError(f"{text} is not a JSON number")
        number = _go_number(text)
        return text if number is None else json_number(number) if type(number) is float else number
    return text


def _go_number(text: str) -> int | float | None:
    """The number as Go has it, int or float64; None if the text is no number there."""
    if text[0] == ".":
        return _float(text.replace("_", "")) if _POINT_FLOAT.match(text) else None
    plain = text.replace("_", "")
    found = _INT.match(plain)
    if found:
        sign, *digits = found.groups()
        for base, part in zip((16, 2, 8, 8, 10), digits, strict=True):
            if part is None or len(part.lstrip("0")) > _MAX_DIGITS:
                continue
            number = int(part.lstrip("0") or "0", base)
            if sign == "-":
                number = -number
            # int64, or uint64 when written without a sign; anything else is read as a float.
            if -(1 << 63) <= number < (1 << 63) or (not sign and number < (1 << 64)):
                return number
    signed = _SIGNED_BINARY.match(plain)
    if signed and -(1 << 63) <= int(signed[1], 2) < (1 << 63):
        return int(signed[1], 2)
    return _float(plain) if _FLOAT.match(plain) else None


def _float(plain: str) -> float | None:
    number = float(plain)
    return None if number in (float("inf"), float("-inf")) else number


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
    if tag == short or short not in ("bool", "int", "float", "null", "timestamp", "binary"):
        return text
    if short == "binary":
        return _binary(text)
    if short == "timestamp":
        if not _is_time(text):
            raise ScalarError(f"this is no !!{short}")
        return text
    value = resolve_plain(text) if text == "" or text[0] not in STRING_STARTS else text
    number = _tagged_number(tag, text)
    fits = {
        "bool": type(value) is bool,
        "int": type(number) is int,
        "float": type(number) is float,
        "null": value is None,
    }[short]
    if not fits:
        raise ScalarError(f"this is no !!{short}")
    return json_number(number) if short == "float" and number is not None else value


def _tagged_number(tag: str | None, text: str) -> int | float | None:
    if not text or text[0] not in "+-.0123456789" or text in _INFINITE:
        return None
    number = _go_number(text)
    if tag == _PREFIX + "float" and type(number) is int and number < (1 << 63):
        return float(number)
    return number


def is_float(text: str, tag: str | None) -> bool:
    """Tell whether Go reads number text as float64."""
    return type(_tagged_number(tag, text)) is float


def _binary(text: str) -> str:
    joined = text.replace("\n", "").replace("\r", "")
    try:
        if _BASE64.match(joined):
            return base64.b64decode(joined).decode()
    except (binascii.Error, UnicodeDecodeError):
        pass
    raise ScalarError("!!binary value is not base64 of UTF-8 text")


def _is_time(text: str) -> bool:
    found = _TIME.match(text)
    if not found:
        return False
    numbers = [int(part) if part else 0 for part in found.groups()]
    try:
        date(numbers[0] or 4, numbers[1], numbers[2])  # Go has a year 0, a leap year
    except ValueError:
        return False
    hours, minutes, seconds, zone_hours, zone_minutes = numbers[3:8]
    hours, minutes, seconds = max(hours, numbers[8]), max(minutes, numbers[9]), max(seconds, numbers[10])
    return hours < 24 and minutes < 60 and seconds < 60 and zone_hours <= 24 and zone_minutes <= 60


def key_text(value: Scalar | ScalarError, text: str, tag: str | None) -> str:
    """A scalar as a mapping key: the string that sigs.k8s.io/yaml makes of it.

    Args:
        value: what the scalar means as a value.
        text: as it is written.
        tag: of the scalar, if it has one.

    Raises:
        ScalarError: if it cannot be a key.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        raise ScalarError("a key must be a string, not null")
    if isinstance(value, ScalarError):
        if text in _INFINITE and tag in (None, _PREFIX + "float"):
            return text.lower().removeprefix("+")
        raise value
    number = _tagged_number(tag, text)
    if isinstance(number, float):
        return _float32_text(number)
    if value >= 1 << 63:
        raise ScalarError("a key must be a string, not a number beyond 64 bits: put it in quotes")
    return str(value)


def _as_float32(text: str) -> float:
    try:
        number: float = struct.unpack("f", struct.pack("f", float(text)))[0]
    except OverflowError:  # beyond the largest, also if only by rounding
        return float("inf") if text[0] != "-" else float("-inf")
    return number


def _float32_text(number: float) -> str:
    """The shortest text that is this number as float32, in the form of Go's %g: keys are written with so few digits."""
    short = _as_float32(repr(number))
    if short in (float("inf"), float("-inf")):
        return "-.inf" if number < 0 else ".inf"
    if short == 0:
        return "-0" if str(short)[0] == "-" else "0"
    text = next(text for digits in range(10) if _as_float32(text := f"{short:.{digits}e}") == short)
    mantissa, _, exponent = text.partition("e")
    size = int(exponent)
    if size < -4 or size >= 6:
        return f"{mantissa}e{'-' if size < 0 else '+'}{abs(size):02}"
    return format(Decimal(text), "f")
