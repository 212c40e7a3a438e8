"""Fields that are left to others: what `spec.ignore` names, and replicas that an autoscaler sets. Pure.

Such a field is applied as Git has it while the object, or the part of it that holds the field, is created. From then on
it is nobody's to change but theirs: once another manager holds it, it is left out of what we apply; until then it is
applied with its live value, because leaving out what only we own would reset it. What they removed stays removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ocisync.cluster.fields import (
    MISSING,
    PART_OF_PATH,
    ManagerEntry,
    Path,
    holders,
    is_under,
    lookup,
    lookup_index,
    matches_pointer,
    our_entry,
    parse_managed_fields,
    without,
)
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import IgnoreRule

AUTOSCALER: Final = "kube-controller-manager"
REPLICAS: Final[Path] = ("f:spec", "f:replicas")
REPLICAS_POINTER: Final = "/spec/replicas"

# Without these it is another object, or none of ours.
_IDENTITY: Final = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace"), PART_OF_PATH}
)


def ignored_pointers(rules: Iterable[IgnoreRule], object_id: ObjectId) -> tuple[str, ...]:
    """The JSON pointers of `spec.ignore` that apply to an object."""
    return tuple(
        pointer
        for rule in rules
        if rule.kind in {"", object_id.kind}
        and (rule.group == object_id.group or (not rule.group and not rule.kind))
        and rule.namespace in {"", object_id.namespace}
        and rule.name in {"", object_id.name}
        for pointer in rule.paths
    )


def named(path: Path, pointers: Sequence[str], desired: Mapping[str, Any] | None) -> bool:
    """Whether one of the pointers names a path. `desired` is needed for those that count list items."""
    return any(matches_pointer(path, pointer, desired) for pointer in pointers)


def left_to_others(
    path: Path, entries: Sequence[ManagerEntry], pointers: Sequence[str], desired: Mapping[str, Any] | None
) -> bool:
    """Whether others may change a field: it is named, or it is `replicas` and an autoscaler holds it."""
    return named(path, pointers, desired) or (
        path == REPLICAS and any(e.manager == AUTOSCALER and e.subresource == "scale" for e in holders(entries, path))
    )


def yielded(desired: JsonObject, live: JsonObject, pointers: Sequence[str]) -> JsonObject:
    """What to apply to a live object so that nothing left to others moves; `desired` itself if that is all the same."""
    entries = parse_managed_fields(live)
    ours = our_entry(entries)
    owned = ours.paths() if ours else frozenset()
    known = owned.union(*(entry.paths() for entry in entries), _leaves(desired, ()))
    left = {p for p in known if p not in _IDENTITY and left_to_others(p, entries, pointers, desired)}
    values = {p for p in left if not any(q != p and is_under(q, p) for q in left)}
    dropped: set[Path] = set()
    kept: dict[Path, Any] = {}
    for path in values:
        wanted, found = lookup(desired, path), lookup(live, path)
        if _is_key(path):
            continue
        if wanted is MISSING:
            if path in owned and found is not MISSING and not holders(entries, path):
                kept[path] = found
        elif holders(entries, path) or (found is MISSING and lookup(live, path[:-1]) is not MISSING):
            dropped.add(path)
        elif found is not MISSING:
            kept[path] = found
    for path in left - values:  # list items of which nothing is left but their key
        below = {q for q in values if is_under(q, path) and not _is_key(q)}
        held = any(path in entry.paths() for entry in entries if not entry.ours)
        if path[-1].startswith("k:") and held and below <= dropped:
            dropped.add(path)
    if not dropped and not kept:
        return desired
    result = without(desired, sorted(dropped, key=len))
    for path in sorted(kept):
        _put(result, path, kept[path])
    return result


def _leaves(value: object, path: Path) -> Iterator[Path]:
    """The paths of an object's values that no list comes before."""
    if not isinstance(value, dict) or (path and not value):
        if path:
            yield path
        return
    for key, child in value.items():
        yield from _leaves(child, (*path, f"f:{key}"))


def _is_key(path: Path) -> bool:
    """Whether a path is one of the fields that make a list item the one it is."""
    return len(path) > 1 and path[-2].startswith("k:") and f"{json.dumps(path[-1][2:])}:" in path[-2]


def _put(obj: Any, path: Path, value: object) -> None:
    """Set a value; structures are made on the way, list items are not."""
    for segment in path[:-1]:
        child = lookup(obj, (segment,))
        if child is MISSING:
            if not segment.startswith("f:") or not isinstance(obj, dict):
                return
            child = obj[segment[2:]] = {}
        obj = child
    if isinstance(obj, dict) and path[-1].startswith("f:"):
        obj[path[-1][2:]] = value
    elif isinstance(obj, list) and (index := lookup_index(obj, path[-1])) >= 0:
        obj[index] = value
