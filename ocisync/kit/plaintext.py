"""Foreign text made harmless: for a terminal, for a CI system's log, for a line of a log.

Registries, artifacts and repositories choose names, annotations and messages. A terminal obeys control characters (of
both ranges: U+009B begins a sequence as ESC [ does), a reader is fooled by a line that the text began itself or by a
change of direction, and GitHub's runner obeys lines that begin with `::`.
"""

from __future__ import annotations

import re

_COMMANDS = ("::", "##[")
# What JSON text may hold raw and a terminal should not get. Outside of strings JSON has none of them.
_RAW_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def plain(text: str) -> str:
    """Spell out whatever is not printable, line ends too."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def plain_start(text: str) -> str:
    """`plain`, for a path that begins a line of output: it stays a path, and is no command to a CI system."""
    shown = plain(text)
    return f"./{shown}" if shown.lstrip().startswith(_COMMANDS) else shown


def plain_json(text: str) -> str:
    """JSON text with the same meaning, in which no control character and no change of direction stands raw."""
    return _RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
