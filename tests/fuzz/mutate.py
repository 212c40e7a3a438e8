"""Damage to documents that knows their structure: fields go, double, move and change type; base64 is damaged inside.

All randomness comes from the given source, so that a case is its seed.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import random
import re
from typing import Any

_KEY = re.compile(rb'"([A-Za-z_][A-Za-z0-9_.]*)":')
_JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 2**53, 2**64, 10**30, "", " ", "0", "x", "*", "/", "sha256:", "\x00", "é",
    "\u202e", "\ud800", "A" * 5_000, "https://", "2026-11-23T00:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z",
    "-1h", "9" * 400 + "h", [], {}, [[]], [None], {"": ""}, {"a": {"a": {}}}, ["x"] * 200,
)  # fmt: skip
_TEXTS = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"[" * 300,
    b"{}",
    b",",
    b'"',
    b"\n",
    b"9" * 30,
)
Place = tuple[Any, Any]


def document(golden: Any, other: Any, source: random.Random) -> bytes:
    """A golden document with one to four changes, as JSON text; some texts are damaged further."""
    out = copy.deepcopy(golden)
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4))):
        out = _changed(out, other, source)
    text = json.dumps(out, ensure_ascii=source.random() < 0.7, separators=source.choice(((",", ":"), (", ", ": "))))
    data = text.encode("utf-8", "surrogatepass")
    chance = source.random()
    if chance < 0.06:
        return _doubled(data, source)
    return damaged(data, source) if chance < 0.2 else data


def damaged(data: bytes, source: random.Random) -> bytes:
    """Bytes changed, taken out, put in, doubled or cut off."""
    out = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        at = source.randrange(len(out)) if out else 0
        kind = source.randrange(7)
        if kind == 0 and out:
            out[at] = source.randrange(256)
        elif kind == 1 and out:
            out[at] ^= 1 << source.randrange(8)
        elif kind == 2:
            del out[at : at + source.randrange(1, 17)]
        elif kind == 3:
            out[at:at] = source.randbytes(source.randrange(1, 5))
        elif kind == 4:
            out[at:at] = out[at : at + source.randrange(1, 65)]
        elif kind == 5:
            out[at:at] = source.choice(_TEXTS)
        else:
            del out[max(at, 1) :]
    return bytes(out)


def pem(golden: bytes, other: bytes, source: random.Random) -> bytes:
    """A PEM file with its label, its lines or the DER inside damaged, or of two files."""
    kind = source.randrange(5)
    if kind == 0:
        return damaged(golden, source)
    if kind == 1:
        lines = golden.splitlines(keepends=True)
        lines.insert(source.randrange(len(lines) + 1), source.choice(lines + other.splitlines(keepends=True)))
        return b"".join(lines)
    if kind == 2:
        return golden[: source.randrange(len(golden))] + other[source.randrange(len(other)) :]
    head, *body, tail = golden.strip().splitlines()
    try:
        inside = damaged(base64.b64decode(b"".join(body)), source)
    except binascii.Error:
        return damaged(golden, source)
    text = base64.b64encode(inside)
    wrapped = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([head, *wrapped, tail, b""])


def _changed(root: Any, other: Any, source: random.Random) -> Any:
    places = _places(root)
    if not places:
        return source.choice(_JUNK)
    holder, key = source.choice(places)
    kind = source.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = copy.deepcopy(source.choice(_JUNK))
    elif kind == 2:
        there, name = source.choice(_places(other) or places)
        holder[key] = copy.deepcopy(there[name])
    elif kind == 3:
        _add(holder, key, source)
    elif kind == 4:
        holder[key] = [copy.deepcopy(holder[key]) for _ in range(source.choice((1, 2, 40)))]
    elif kind == 5 and isinstance(holder, dict):
        holder[_spoiled(str(key), source)] = holder.pop(key)
    else:
        holder[key] = _near(holder[key], source)
    return root


def _add(holder: Any, key: Any, source: random.Random) -> None:
    if isinstance(holder, dict):
        holder[source.choice(("x", "", "keyid", "subject", "manifests", "end", "__proto__", "é"))] = holder[key]
    else:
        holder.append(copy.deepcopy(holder[key]))


def _near(found: Any, source: random.Random) -> Any:
    """A value close to the one that is there."""
    if isinstance(found, bool) or found is None:
        return not found
    if isinstance(found, int | float):
        return source.choice((found + 1, found - 1, -found, found * 2**40, str(found)))
    if isinstance(found, str):
        try:
            raw = base64.b64decode(found, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) >= 16 and source.random() < 0.8:
            return base64.b64encode(damaged(raw, source)).decode()
        return _spoiled(found, source)
    if isinstance(found, list):
        return [*found, *found][: source.randrange(len(found) * 2 + 1)]
    return {**found, "x": found}


def _spoiled(text: str, source: random.Random) -> str:
    at = source.randrange(len(text) + 1)
    return source.choice(
        (text[:at], text[:at] + source.choice(("\x00", "é", "*", "/", "\ud800", " ", ",", "@", "..")) + text[at:],
         text.upper(), text * 2, text[:at] + text[at + 1 :], f" {text}", text + "\n")
    )  # fmt: skip


def _doubled(data: bytes, source: random.Random) -> bytes:
    """Some key twice: what one reader takes the first of, and another the last."""
    found = list(_KEY.finditer(data))
    if not found:
        return data
    chosen = source.choice(found)
    return (
        data[: chosen.start()]
        + chosen[0]
        + source.choice((b"null,", b'"",', b"[],", b"{},", b"1,"))
        + data[chosen.start() :]
    )


def _places(root: Any) -> list[Place]:
    """Every holder and key below `root`."""
    found: list[Place] = []
    waiting = [root]
    while waiting and len(found) < 2_000:
        holder = waiting.pop()
        if isinstance(holder, dict):
            found += [(holder, key) for key in holder]
            waiting += holder.values()
        elif isinstance(holder, list):
            found += [(holder, index) for index in range(len(holder))]
            waiting += holder
    return found
