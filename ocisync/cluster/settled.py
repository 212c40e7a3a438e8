"""Whether applying an object would change nothing, judged from the live object alone. Pure.

It says yes only where the server could not do anything else: our Apply entry owns exactly the fields that the object
has, in the same version, and each of them has the same value. Everything else (quantities that the server rewrites,
lists in another order, fields that a newer manifest drops) is left to a dry run. No schema is needed: the entry itself
tells which lists are taken apart into items and which are one value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ocisync.cluster.fields import MISSING, PART_OF_PATH, Path, our_entry, parse_managed_fields, step
from ocisync.cluster.ownership import BEFORE_FIRST_APPLY
from ocisync.model.limits import JSON_DEPTH
from ocisync.model.resource import JsonObject

_ROOT: Final = frozenset({"apiVersion", "kind"})
_IDENTITY: Final = frozenset({"name", "namespace"})


def is_settled(desired: Mapping[str, Any], live: Mapping[str, Any], api_version: str) -> bool:
    """Whether applying `desired` leaves `live` as it is. False means: ask the server."""
    metadata = live.get("metadata") or {}
    entries = parse_managed_fields(live)
    ours = our_entry(entries)
    if ours is None or metadata.get("deletionTimestamp") or ours.api_version != api_version:
        return False
    if any(entry.manager == BEFORE_FIRST_APPLY for entry in entries) or PART_OF_PATH not in ours.paths():
        return False
    wanted = {name: value for name, value in desired.items() if name not in _ROOT}
    wanted["metadata"] = {k: v for k, v in (desired.get("metadata") or {}).items() if k not in _IDENTITY}
    theirs = frozenset(
        path[:length] for entry in entries if not entry.ours for path in entry.paths() for length in range(1, len(path))
    )
    return _owns_exactly(wanted, ours.fields, (), theirs) and _equal(wanted, dict(live))


def _owns_exactly(value: Any, owned: JsonObject, path: Path, theirs: frozenset[Path]) -> bool:
    """Whether a `fieldsV1` node owns what a value has, and nothing that it lacks.

    `theirs` are the structures inside of which other managers own something.
    """
    if len(path) > JSON_DEPTH:
        return False
    segments = [name for name in owned if name != "."]
    if not segments:
        # One value: a scalar, or a map or list that nobody takes apart. What was empty before looks the same.
        return not (isinstance(value, dict | list) and value and ("." in owned or path in theirs))
    if isinstance(value, dict):
        pairs = [(value.get(name[2:], MISSING), name) for name in segments if name.startswith("f:")]
        complete = len(pairs) == len(segments) == len(value)
    elif isinstance(value, list):
        pairs = [(step(value, name), name) for name in segments]
        complete = len(value) == len(segments) and _all_named(value, segments)
    else:
        return False
    return complete and all(
        child is not MISSING
        and isinstance(owned[name], dict)
        and _owns_exactly(child, owned[name], (*path, name), theirs)
        for child, name in pairs
    )


def _all_named(items: list[Any], segments: list[str]) -> bool:
    """Whether the segments name every item, each its own."""
    if all(name.startswith("v:") for name in segments):
        return len({json.dumps(item, sort_keys=True) for item in items}) == len(segments)
    return all(name.startswith("k:") for name in segments) and len({id(step(items, n)) for n in segments}) == len(items)


def _equal(desired: Any, live: Any) -> bool:
    """Whether every desired value stands in the live object as it is written; more may stand beside it."""
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(n in live and _equal(v, live[n]) for n, v in desired.items())
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(desired) == len(live)
            and all(_equal(a, b) for a, b in zip(desired, live, strict=True))
        )
    return type(desired) is type(live) and bool(desired == live)
