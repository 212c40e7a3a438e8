"""How a file is cut into documents: exactly as kubectl's resource builder does it. Pure text, no YAML parser.

A file whose first character is `{` is a stream of JSON values; where that ends (a `{` also begins YAML), and in every
other file, lines that begin with `---` part the documents. Behind `---` there may be only a comment. Lines end with
LF or CRLF, and the last line counts as ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ocisync.model.values import dataclass

# What Go's unicode.IsSpace takes for white space: less than Python's str.strip().
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_PEEK_BYTES = 4096  # kubectl looks no further for the `{`
_SEPARATOR = re.compile(r"^---([^\n]*)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one YAML document, and the number of lines before it. `problem` is about its first line."""

    text: str
    lines: int
    problem: str = ""


def looks_like_json(text: str) -> bool:
    """Tell whether the stream is read as JSON first."""
    start = len(text) - len(text.lstrip(_SPACE))
    return text.startswith("{", start) and (start < _PEEK_BYTES // 4 or len(text[:start].encode()) < _PEEK_BYTES)


def after_space(text: str, start: int) -> int | None:
    """Where YAML goes on behind a JSON value: after white space, but at the next line at the latest.

    None if it does not: kubectl gives up when fewer than four bytes are left.
    """
    while len(text[start : start + 4].encode()) >= 4 and text[start] != "\ufffd":
        if text[start] not in _SPACE:
            return start
        start += 1
        if text[start - 1] == "\n":
            return start
    return None


def chunks(text: str) -> Iterator[Chunk]:
    """Cut YAML text into its documents; the last one has `problem` if it begins at a line that kubectl refuses."""
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    if text and not text.endswith("\n"):
        text += "\n"
    start = lines = 0
    for found in _SEPARATOR.finditer(text):
        behind = found[1].strip(_SPACE)
        if behind and behind[0] != "#":
            lines += text.count("\n", start, found.start())
            yield Chunk("", lines, "only a comment may follow `---` in its line: kubectl refuses anything else")
            return
        if found.start() == start:
            continue  # nothing before it: it belongs to the document that follows
        yield Chunk(text[start : found.start()], lines)
        lines += text.count("\n", start, found.end())
        start = found.end()
    if start < len(text):
        yield Chunk(text[start:], lines)
