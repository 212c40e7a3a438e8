"""Who owns which field: `metadata.managedFields` as sets of paths.

A path is the tuple of raw `fieldsV1` segments, as the server writes them: `f:NAME` (field or map key),
`k:{JSON}` (list item by its keys), `v:JSON` (set item by its value), `i:N` (list item by its index). A manager owns a
path if the path is a leaf (`{}`) of its entry, or if it holds `.` there (a list item, or a map that it created).

`managedFields` comes from the API server, but its content is chosen by whoever writes objects: nothing here raises for
odd shapes, and depth is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ocisync.model.limits import JSON_DEPTH
from ocisync.model.resource import JsonObject
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL

Path = tuple[str, ...]

PART_OF_PATH: Final[Path] = ("f:metadata", "f:labels", f"f:{PART_OF_LABEL}")

_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*\Z")


class Missing:
    """The type of `MISSING`: no value at a path, which differs from null."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class ManagerEntry:
    """One entry of managedFields. `time` is empty for entries that have none (the scale subresource writes none)."""

    manager: str
    operation: str
    api_version: str
    time: str
    subresource: str
    fields: JsonObject

    @property
    def ours(self) -> bool:
        """Whether it proves our own applies: operation Apply under our name, on the object itself."""
        return self.manager == FIELD_MANAGER and self.operation == "Apply" and not self.subresource

    def paths(self) -> frozenset[Path]:
        """Everything this entry owns."""
        return owned_paths(self.fields)


def parse_managed_fields(obj: Mapping[str, Any]) -> tuple[ManagerEntry, ...]:
    """The entries of an object's managedFields, in the server's order; malformed ones are left out."""
    metadata = obj.get("metadata")
    raw = metadata.get("managedFields") if isinstance(metadata, dict) else None
    if not isinstance(raw, list):
        return ()
    return tuple(_entry(item) for item in raw if isinstance(item, dict))


def _entry(item: JsonObject) -> ManagerEntry:
    fields = item.get("fieldsV1")
    return ManagerEntry(
        manager=str(item.get("manager") or ""),
        operation=str(item.get("operation") or ""),
        api_version=str(item.get("apiVersion") or ""),
        time=str(item.get("time") or ""),
        subresource=str(item.get("subresource") or ""),
        fields=fields if isinstance(fields, dict) else {},
    )


def our_entry(entries: Iterable[ManagerEntry]) -> ManagerEntry | None:
    """The entry of our applies; None if the object does not have one."""
    return next((entry for entry in entries if entry.ours), None)


def owned_paths(fields: Mapping[str, Any]) -> frozenset[Path]:
    """The paths that a `fieldsV1` value owns. Deeper than any real object: cut off there."""
    found: set[Path] = set()
    pending: list[tuple[Path, Mapping[str, Any]]] = [((), fields)]
    while pending:
        path, node = pending.pop()
        if path and (not node or "." in node):
            found.add(path)
        if len(path) >= JSON_DEPTH:
            continue
        pending.extend(
            ((*path, segment), child if isinstance(child, dict) else {})
            for segment, child in node.items()
            if segment != "."
        )
    return frozenset(found)


def fields_of(paths: Iterable[Path]) -> JsonObject:
    """The `fieldsV1` value that owns exactly `paths`: the inverse of `owned_paths`."""
    root: JsonObject = {}
    known = set(paths)
    for path in sorted(known):
        node = root
        for segment in path:
            node = node.setdefault(segment, {})
    for path in known:
        node = root
        for segment in path:
            node = node[segment]
        if node:
            node["."] = {}
    return root


def lost_paths(before: frozenset[Path], after: frozenset[Path]) -> tuple[Path, ...]:
    """What was owned and is owned no longer; only the topmost path where a whole subtree was lost. Sorted."""
    return topmost(before - after)


def topmost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Drop each path that lies below another one. Sorted."""
    wanted = set(paths)
    return tuple(sorted(p for p in wanted if not any(p[:n] in wanted for n in range(1, len(p)))))


def holders(entries: Iterable[ManagerEntry], path: Path) -> tuple[ManagerEntry, ...]:
    """Which entries hold `path` now: exactly it; if none, something below it or an atomic value above it.

    Our own Apply entry is never among them.
    """
    others = [(entry, entry.paths()) for entry in entries if not entry.ours]
    exact = tuple(entry for entry, paths in others if path in paths)
    if exact:
        return exact
    below = tuple(e for e, paths in others if any(p[: len(path)] == path for p in paths))
    if below:
        return below
    return tuple(e for e, _ in others if _covered_by_atomic(e.fields, path))


def _covered_by_atomic(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a leaf of `fields` is a proper prefix of `path` (an atomic map or list that holds it)."""
    node: Mapping[str, Any] = fields
    for depth, segment in enumerate(path):
        if depth and not node:
            return True
        child = node.get(segment)
        if not isinstance(child, dict):
            return False
        node = child
    return False


def is_under(path: Path, ancestor: Path) -> bool:
    """Whether `path` is `ancestor` or lies below it."""
    return path[: len(ancestor)] == ancestor


def render(path: Path) -> str:
    """The path as people write it: `spec.template.spec.containers[name="web"].image`."""
    out = ""
    for segment in path:
        sort, _, text = segment.partition(":")
        if sort == "f":
            if _PLAIN_NAME.match(text):
                out += f".{text}" if out else text
            else:
                out += f"[{json.dumps(text, ensure_ascii=False)}]"
        elif sort == "k":
            keys = _json(text)
            if isinstance(keys, dict):
                out += "[" + ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in keys.items()) + "]"
            else:
                out += f"[{text}]"
        else:
            out += f"[{text}]"
    return out


def lookup(obj: Any, path: Path) -> Any:
    """The value at `path` in an object; `MISSING` if there is none."""
    value = obj
    for segment in path:
        value = step(value, segment)
        if value is MISSING:
            return MISSING
    return value


def step(value: Any, segment: str) -> Any:
    """The value one segment further; `MISSING` if there is none."""
    sort, _, text = segment.partition(":")
    if sort == "f":
        return value.get(text, MISSING) if isinstance(value, dict) else MISSING
    if not isinstance(value, list):
        return MISSING
    wanted = _json(text)
    if sort == "k" and isinstance(wanted, dict):
        return _item_by_keys(value, wanted)
    if sort == "v":
        return next((item for item in value if item == wanted), MISSING)
    if sort == "i" and isinstance(wanted, int) and 0 <= wanted < len(value):
        return value[wanted]
    return MISSING


def _item_by_keys(items: Sequence[Any], keys: Mapping[str, Any]) -> Any:
    """The item with these keys. A key that the item leaves out was defaulted by the server (a port's protocol)."""
    loose: Any = MISSING
    for item in items:
        if not isinstance(item, dict):
            continue
        if all(item.get(name, MISSING) == wanted for name, wanted in keys.items()):
            return item
        if loose is MISSING and all(item.get(n, w) == w for n, w in keys.items()) and any(n in item for n in keys):
            loose = item
    return loose


def without(obj: JsonObject, paths: Iterable[Path]) -> JsonObject:
    """The object without the values at `paths`; the original is left as it is."""
    copy: JsonObject = json.loads(json.dumps(obj))
    for path in paths:
        container = lookup(copy, path[:-1])
        sort, _, name = path[-1].partition(":")
        if isinstance(container, dict) and sort == "f":
            container.pop(name, None)
        elif isinstance(container, list) and (index := lookup_index(container, path[-1])) >= 0:
            del container[index]
    return copy


def lookup_index(items: Sequence[Any], segment: str) -> int:
    """The position in a list of the item that a segment names; -1 if it is not there."""
    item = step(items, segment)
    return next((index for index, other in enumerate(items) if other is item), -1)


def matches_pointer(path: Path, pointer: str, obj: Any = None) -> bool:
    """Whether `path` is at or below a JSON pointer such as `/spec/template/spec/containers/0/image`.

    `*` stands for any one segment. A list item is named by its index in `obj` (the desired object), or by the value of
    one of its keys: `/spec/template/spec/containers/web/image`.
    """
    if pointer in {"", "/"}:
        return True
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("/").split("/")]
    if len(parts) > len(path):
        return False
    value = obj
    for part, segment in zip(parts, path, strict=False):
        if part != "*" and not _names(part, segment, value):
            return False
        value = step(value, segment) if value is not None else None
        value = None if value is MISSING else value
    return True


def _names(part: str, segment: str, container: Any) -> bool:
    sort, _, text = segment.partition(":")
    if sort == "f":
        return part == text
    if sort == "i":
        return part == text
    wanted = _json(text)
    if sort == "v":
        return part == str(wanted)
    if isinstance(wanted, dict):
        if part in {str(value) for value in wanted.values()}:
            return True
        if part.isdecimal() and isinstance(container, list) and int(part) < len(container):
            return _item_by_keys(container, wanted) is container[int(part)]
    return False


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
