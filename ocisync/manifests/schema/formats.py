"""Formats of scalar values, as Go's decoders and the API server's format registry take them. All pure predicates."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)

_QUANTITY = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?\Z", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,]\d+)?(?:Z|[+-](?:[01]\d|2[0-4]):[0-5]\d)\Z", re.ASCII
)
_MICRO = re.compile(r"[^.,]*[.,]\d{6}(?:Z|[+-])", re.ASCII)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_LEFT_OPEN = re.compile(r"(?:ENC\[.*\]|\$\{[^{}]+\})\Z", re.DOTALL)
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)\Z", re.ASCII)
_LONG_DURATION = re.compile(
    r"\s*\d+\s*(?:ns|nanos?|nanoseconds?|us|µs|micros?|microseconds?|ms|millis?|milliseconds?|s|secs?|seconds?"
    r"|m|mins?|minutes?|h|hr|hours?|d|days?|w|wk|weeks?)\s*\Z",
    re.ASCII,
)
_HOSTNAME = re.compile(
    r"(?=.{1,255}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}))*\.?\Z"
)
_EMAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+\Z")
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z", re.IGNORECASE)
_MAC = re.compile(
    r"(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4}(?:[0-9a-f]{2}\1[0-9a-f]{2}\1)?[0-9a-f]{2}\Z", re.IGNORECASE
)
_HEX_COLOUR = re.compile(r"#?(?:[0-9a-f]{3}|[0-9a-f]{6})\Z", re.IGNORECASE)
_OBJECT_ID = re.compile(r"[0-9a-f]{24}\Z", re.IGNORECASE)
_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")


def is_quantity(text: str) -> bool:
    """`500m`, `1.5Gi`, `1e3`; spaces around it do no harm."""
    return _QUANTITY.match(text.strip()) is not None


def is_time(text: str) -> bool:
    """RFC 3339 with a zone."""
    match = _TIME.match(text)
    if match is None:
        return False
    try:
        datetime(*map(int, match.groups()))  # type: ignore[arg-type]  # noqa: DTZ001 - six numbers; only whether they are a date
    except ValueError:
        return False
    return True


def is_micro_time(text: str) -> bool:
    """RFC 3339 with exactly six digits of a second."""
    return is_time(text) and _MICRO.match(text) is not None


def is_base64(text: str) -> bool:
    """Standard base64 with padding; line ends inside are passed over, as Go does."""
    return _BASE64.match(text.replace("\n", "").replace("\r", "")) is not None


def is_left_open(text: str) -> bool:
    """Encrypted by SOPS, or wholly a `${variable}`: somebody fills it in before it reaches a cluster."""
    return _LEFT_OPEN.match(text) is not None


def _is_date(text: str) -> bool:
    try:
        return len(text) == len("2006-01-02") and bool(datetime.strptime(text, "%Y-%m-%d"))  # noqa: DTZ007
    except ValueError:
        return False


def _address(kind: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return "%" not in text

    return check


def _is_cidr(text: str) -> bool:
    return "/" in text and _address(lambda value: ipaddress.ip_network(value, strict=False))(text)


def _is_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return (bool(parts.scheme) or text.startswith("/")) and not re.search(r"[\s\x00-\x1f]", text)


# What apiextensions-apiserver's format registry knows; other formats mean nothing to it, so nothing here.
STRING_FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": lambda text: _OBJECT_ID.match(text) is not None,
    "byte": lambda text: bool(text) and is_base64(text),
    "cidr": _is_cidr,
    "date": _is_date,
    "date-time": is_time,
    "datetime": is_time,
    "duration": lambda text: _DURATION.match(text) is not None or _LONG_DURATION.match(text) is not None,
    "email": lambda text: _EMAIL.match(text) is not None,
    "hexcolor": lambda text: _HEX_COLOUR.match(text) is not None,
    "hostname": lambda text: _HOSTNAME.match(text) is not None,
    "ipv4": _address(ipaddress.IPv4Address),
    "ipv6": _address(ipaddress.IPv6Address),
    "k8s-long-name": lambda text: _DNS_NAME.match(text) is not None,
    "k8s-short-name": lambda text: _DNS_LABEL.match(text) is not None,
    "mac": lambda text: _MAC.match(text) is not None,
    "uri": _is_uri,
    "uuid": lambda text: _UUID.match(text) is not None,
    "uuid3": lambda text: _UUID.match(text) is not None,
    "uuid4": lambda text: _UUID.match(text) is not None,
    "uuid5": lambda text: _UUID.match(text) is not None,
}
