"""One changed field, for people: a line, or for long values a diff of their lines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from ocisync.cli import output

SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "reordered": ("~", "yellow")}
_LINE_CHARS = 500  # of one value in the text form; `-o json` has all of it
_BLOCK_LINES = 200
_COMPARED_LINES = 4_000


def field_lines(action: str, path: str, old: Any, new: Any) -> Iterator[str]:
    """What changed in one field; `action` is a word of `SIGNS`."""
    sign, colour = SIGNS[action]
    head = f"{sign} {output.plain(path)}"
    before = [] if action == "added" else _value_lines(old)
    after = [] if action == "removed" else _value_lines(new)
    if before == after:  # what splitting into lines or shortening has hidden: an end of line, the end of a long line
        before, after = ([_tail(json.dumps(value, ensure_ascii=False))] for value in (old, new))
    if len(before) <= 1 and len(after) <= 1:
        values = " → ".join((*before, *after))
        yield styled(f"{head}: {values}", colour)
        return
    if len(before) + len(after) > _COMPARED_LINES:  # lining up takes time with the square of it
        yield styled(f"{head}: {len(before)} lines → {len(after)} lines (-o json has them)", colour)
        return
    yield styled(f"{head}:", colour)
    for number, line in enumerate(_unified(before, after)):
        if number == _BLOCK_LINES:
            yield "    … (-o json has all of it)"
            return
        yield f"    {line}"


def styled(text: str, colour: str) -> str:
    """Coloured, if stdout is a terminal that wants it."""
    return output.styled(text, colour, stderr=False)


def _unified(before: list[str], after: list[str]) -> Iterator[str]:
    """Lines with what surrounds them, without the headings of files."""
    for line in difflib.unified_diff(before, after, n=2, lineterm=""):
        if line.startswith(("--- ", "+++ ")) and len(line) == 4:
            continue
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        yield styled(line, colour) if colour else line


def _value_lines(value: Any) -> list[str]:
    """A scalar in one line as JSON; text of several lines and structures in as many as they have."""
    if isinstance(value, str) and "\n" in value:
        lines = value.splitlines()
    elif isinstance(value, dict | list) and value:
        from ocisync.kit import yamlio

        lines = yamlio.dump(_named_items(value)).splitlines()
    else:
        lines = [json.dumps(value, ensure_ascii=False)]
    return [_short(output.plain(line)) for line in lines]


def _named_items(value: Any) -> Any:
    from ocisync.manifests.difference import Item

    if isinstance(value, list) and value and isinstance(value[0], Item):
        return [str(item) for item in value]
    return value


def _tail(text: str) -> str:
    return output.plain(text if len(text) <= _LINE_CHARS else f"…{text[-_LINE_CHARS:]} ({len(text)} characters)")


def _short(line: str) -> str:
    return line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}… ({len(line)} characters)"
