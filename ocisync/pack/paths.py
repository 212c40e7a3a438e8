"""Which paths an artifact may hold. The same rules when it is written and when it is read."""

from __future__ import annotations

import re

from ocisync.model import limits

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def path_problem(path: str) -> str:
    """Say why `path` cannot be in an artifact; empty if it can.

    Accepted: relative, `/` between parts, no `.`, `..` or empty part, no backslash and no control character,
    no `.wh.` part (a deletion mark in image layers), bounded length and depth.
    """
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    parts = path.split("/")
    problem = ""
    if not path:
        problem = "is empty"
    elif size > limits.PATH_BYTES:
        problem = f"is longer than {limits.PATH_BYTES} bytes"
    elif len(parts) > limits.PATH_DEPTH:
        problem = f"is deeper than {limits.PATH_DEPTH} levels"
    elif path.startswith("/"):
        problem = "is absolute"
    elif ".." in parts:
        problem = "leaves its directory"
    elif "." in parts or "" in parts:
        problem = "has an empty part or a '.' part"
    elif "../" in path:
        problem = "has a directory whose name ends in '..', which Flux refuses to unpack"
    elif "\\" in path:
        problem = "holds a backslash"
    elif _CONTROL.search(path):
        problem = "holds a control character"
    elif ".wh." in path and any(part.startswith(".wh.") for part in parts):
        problem = "holds a '.wh.' deletion mark"
    return problem
