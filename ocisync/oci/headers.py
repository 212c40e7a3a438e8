"""Pure parsers for the HTTP headers that registries speak with: challenges, links, retry hints, media types.

All input is hostile: every parser is total (bad input gives nothing, never an exception) and linear.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ocisync.model.values import dataclass

MAX_HEADER_CHARS = 8 * 1024  # what servers themselves allow for one header

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word, not a secret
_SCHEME = re.compile(rf"({_TOKEN})(?=[\s,]|\Z)")
_PARAM = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SEPARATORS = re.compile(r"[\s,]*")
_JUNK = re.compile(r"[^\s,]+")
_WARNING = re.compile(r'(?:^|,)\s*299 - "((?:[^"\\]|\\.)*)"')
_LINK = re.compile(r"<([^<>]*)>([^,<]*)")
_NEXT = re.compile(r';[ \t]*rel[ \t]*=[ \t]*(?:"[^"]*\bnext\b[^"]*"|next\b)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way a server accepts logins: scheme in lower case and its parameters."""

    scheme: str
    params: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """The value of a parameter; empty if absent."""
        return dict(self.params).get(name, "")


def parse_challenges(value: str) -> tuple[Challenge, ...]:
    """Parse `WWW-Authenticate`, which may hold several challenges in one header."""
    value = value[:MAX_HEADER_CHARS]
    found: list[tuple[str, list[tuple[str, str]]]] = []
    at = 0
    while True:
        at = _end(_SEPARATORS, value, at)
        if at >= len(value):
            break
        param = _PARAM.match(value, at)
        scheme = _SCHEME.match(value, at)
        if param and found:
            text = param[3] if param[2] is None else re.sub(r"\\(.)", r"\1", param[2])
            found[-1][1].append((param[1].lower(), text))
            at = param.end()
        elif scheme:
            found.append((scheme[1].lower(), []))
            at = scheme.end()
        else:
            at = max(_end(_JUNK, value, at), at + 1)
    return tuple(Challenge(scheme, tuple(params)) for scheme, params in found)


def _end(pattern: re.Pattern[str], value: str, at: int) -> int:
    match = pattern.match(value, at)
    return match.end() if match else at


def parse_warnings(value: str) -> tuple[str, ...]:
    """The texts of `Warning: 299 - "text"` headers, the one form in which registries speak to people."""
    return tuple(re.sub(r"\\(.)", r"\1", match[1]) for match in _WARNING.finditer(value[:MAX_HEADER_CHARS]))


def next_link(value: str) -> str:
    """The target of the `rel="next"` link; empty if there is none."""
    for match in _LINK.finditer(value[:MAX_HEADER_CHARS]):
        if _NEXT.search(match[2]):
            return match[1]
    return ""


def retry_after_s(value: str, date: str = "") -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date relative to the answer's own `Date`.

    The server's clock is compared with itself, so that ours need not be right.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", value, re.ASCII):
        return float(value)
    until, now = _http_date(value), _http_date(date)
    if until is None or now is None:
        return None
    return max(0.0, (until - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text[:100])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def media_type_of(content_type: str) -> str:
    """The media type of a `Content-Type` header, without parameters, in lower case.

    Sigstore's `application/vnd.dev.sigstore.bundle+json;version=0.3` never travels as a header of a manifest, so
    nothing is lost.
    """
    return content_type.partition(";")[0].strip().lower()
