"""Versions and ranges of versions, as Flux and Argo CD users write them.

A version is `[v]MAJOR.MINOR.PATCH[-PRE][+BUILD]`, complete. A range is what the Masterminds library reads:

    1.2.3  =1.2.3  !=1.2.3  >1.2  >=1.2  <2  <=2        comparisons; missing parts and x, X, * match any
    ~1.2.3 (>=1.2.3, <1.3.0)   ^1.2.3 (>=1.2.3, <2.0.0; left-most non-zero part stays)
    1.2 - 1.4 (>=1.2, <=1.4)   "a b" and "a, b" are both, "a || b" is either

Pre-releases are matched only by alternatives that name one: `>=1.0.0` finds no `1.1.0-rc.1`, `>=1.0.0-0` does.
Stricter than the library on purpose: no leading zeros in a range, at most 1,000 characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ocisync.model.errors import UsageError
from ocisync.model.values import dataclass

RANGE_CHARS = 1_000

_PRE = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?(0|[1-9][0-9]{{0,17}})\.(0|[1-9][0-9]{{0,17}})\.(0|[1-9][0-9]{{0,17}})(?:-({_PRE}))?(?:\+{_PRE})?\Z"
)
_PART = r"(?:0|[1-9][0-9]{0,17}|[xX*])"
_PARTIAL = rf"v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?(?:-({_PRE}))?(?:\+{_PRE})?"
_HYPHEN = re.compile(rf"(?<!\S){_PARTIAL}\s+-\s+{_PARTIAL}(?=\s|,|\Z|\|\|)".replace("(" + _PART, "(?:" + _PART))
_COMPARATOR = re.compile(rf"(!=|>=|=>|<=|=<|~>|[=><~^])?\s*{_PARTIAL}(?![^\s,])")
_AND = re.compile(r"\s*,\s*|\s+")
_ANY = frozenset("xX*")
_EXACT = (0, 3)  # the library reads `>x` as `>0.0.0`; known parts 1 and 2 are compared as far as they go


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `pre` holds the dot-separated identifiers of a pre-release."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    @property
    def precedence(self) -> tuple[object, ...]:
        """Sorts as the SemVer specification says; build metadata counts nothing."""
        identifiers = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, identifiers)

    @property
    def core(self) -> tuple[int, int, int]:
        """Without the pre-release."""
        return (self.major, self.minor, self.patch)


def parse_version(text: str) -> Version | None:
    """Read a version; None if it is none (`1.2` and `latest` are none)."""
    match = _VERSION.match(text)
    if match is None:
        return None
    pre = tuple((match[4] or "").split(".")) if match[4] else ()
    if any(part.isdecimal() and len(part) > 1 and part.startswith("0") for part in pre):
        return None
    return Version(int(match[1]), int(match[2]), int(match[3]), pre)


@dataclass(frozen=True, slots=True)
class _Comparator:
    """One comparison. `known` says how many of the three parts were given; `bound` has zeros for the others."""

    operator: str
    bound: Version
    known: int

    def matches(self, version: Version) -> bool:
        match self.operator:
            case "" | "=":
                return self._within(version, self.known) if self.known < 3 else self._compare(version) == 0
            case "!=":
                return not self._is_named(version)
            case ">":
                if self.known in _EXACT:
                    return self._compare(version) > 0
                return version.core[: self.known] > self.bound.core[: self.known]
            case ">=" | "=>":
                return self._compare(version) >= 0
            case "<":
                return self._compare(version) < 0
            case "<=" | "=<":
                if self.known == 3:
                    return self._compare(version) <= 0
                parts = self.known or 2
                return version.core[:parts] <= self.bound.core[:parts]
            case "~" | "~>":
                return self._within(version, min(self.known, 2))
            case _:
                return self._caret(version)

    def _compare(self, version: Version) -> int:
        ours, theirs = version.precedence, self.bound.precedence
        return (ours > theirs) - (ours < theirs)

    def _within(self, version: Version, parts: int) -> bool:
        """At least the bound, and equal to it in so many parts."""
        if self._compare(version) < 0:
            return False
        everything = self.bound.core == (0, 0, 0) and self.known in _EXACT  # ~0.0.0 and * set no upper limit
        return everything or version.core[:parts] == self.bound.core[:parts]

    def _is_named(self, version: Version) -> bool:
        if self.known in _EXACT:
            return self._compare(version) == 0
        if version.core[: self.known] != self.bound.core[: self.known]:
            return False
        return self.known != 2 or version.pre == self.bound.pre

    def _caret(self, version: Version) -> bool:
        if self._compare(version) < 0:
            return False
        if self.known == 0:
            # ^* reads as ^0.0.0, the library's own oddity.
            return version.core == (0, 0, 0)
        significant = next((place for place, part in enumerate(self.bound.core[: self.known], 1) if part), self.known)
        return version.core[:significant] == self.bound.core[:significant]


@dataclass(frozen=True, slots=True)
class Range:
    """A range: any of the alternatives, each of them all of its comparisons."""

    text: str
    _alternatives: tuple[tuple[_Comparator, ...], ...]

    def matches(self, version: Version) -> bool:
        """Tell whether a version is in the range."""
        return any(
            (not version.pre or any(one.bound.pre for one in group)) and all(one.matches(version) for one in group)
            for group in self._alternatives
        )


def parse_range(text: str) -> Range:
    """Read a range.

    Raises:
        UsageError: it is none.
    """
    if len(text) > RANGE_CHARS:
        raise UsageError(f"version range of {len(text)} characters, more than {RANGE_CHARS}")
    rewritten = _HYPHEN.sub(lambda found: ">= {}, <= {}".format(*re.split(r"\s+-\s+", found[0], maxsplit=1)), text)
    return Range(text, tuple(_alternative(part, text) for part in rewritten.split("||")))


def _alternative(part: str, text: str) -> tuple[_Comparator, ...]:
    found = []
    rest = part.strip()
    place = 0
    while True:
        match = _COMPARATOR.match(rest, place)
        if match is None:
            raise UsageError(
                f"not a version range: {text[:200]!r}", hint="write a range like '^1.2', '~1.4.0' or '>=1.0.0 <2.0.0'"
            )
        found.append(_comparator(match))
        place = match.end()
        if place == len(rest):
            return tuple(found)
        between = _AND.match(rest, place)
        place = between.end() if between else place


def _comparator(match: re.Match[str]) -> _Comparator:
    parts = (match[2], match[3], match[4])
    known = next((place for place, part in enumerate(parts) if part is None or part in _ANY), 3)
    numbers = [int(part) if place < known else 0 for place, part in enumerate(parts)]
    pre = tuple(match[5].split(".")) if match[5] else ()
    return _Comparator(match[1] or "", Version(numbers[0], numbers[1], numbers[2], pre), known)


def newest_first(tags: Iterable[str], within: Range | None = None) -> list[str]:
    """The tags that are versions (of the range), newest first; equal ones by name."""
    found = []
    for tag in tags:
        version = parse_version(tag)
        if version is not None and (within is None or within.matches(version)):
            found.append((version.precedence, tag))
    return [tag for _, tag in sorted(found, reverse=True)]
