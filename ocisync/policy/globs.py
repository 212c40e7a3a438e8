"""Globs: `*` is any run of characters without `/`; everything else is itself, and the whole text must match.

No other wildcard and no regular expressions: a pattern means what it looks like, cannot be left unanchored by mistake,
and is matched in time proportional to pattern × text.
"""

from __future__ import annotations


def glob_matches(pattern: str, text: str) -> bool:
    """Tell whether all of `text` matches `pattern`."""
    wanted, found = pattern.split("/"), text.split("/")
    return len(wanted) == len(found) and all(map(_segment_matches, wanted, found))


def _segment_matches(pattern: str, text: str) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    if not text.startswith(first):
        return False
    *middle, last = rest
    position = len(first)
    for literal in middle:
        found = text.find(literal, position)
        if found < 0:
            return False
        position = found + len(literal)
    return len(text) - position >= len(last) and text.endswith(last)
