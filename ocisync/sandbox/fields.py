"""Structured merge: the paths of a value, what changed between two values, how an applied value is merged. Pure.

A path is a tuple of path elements in the text form of `fieldsV1`: `f:NAME` a field or key, `k:{…}` an item of
a keyed list, `v:…` an item of a set, `i:N` an index. A set of paths is a frozenset of such tuples: union,
intersection and difference are those of the sets, element by element, exactly as in Kubernetes'
structured-merge-diff, whose rules this module follows function by function (field set, compare, merge,
remove, named fields).

Example:
    >>> encode(frozenset({("f:spec", "f:replicas")}))
    {'f:spec': {'f:replicas': {}}}
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ocisync.sandbox.shapes import ANY, Json, Shape

Path = tuple[str, ...]
PathSet = frozenset[Path]
Trie = dict[str, Any]  # element -> Trie; the key MEMBER marks that the path up to here is in the set

MEMBER: Final = ""
_ABSENT: Final = object()


class TypedError(Exception):
    """The value does not fit its shape; the message names path and reason as the real server words it."""


# -- fieldsV1 ---------------------------------------------------------------------------------------


def encode(paths: Iterable[Path]) -> dict[str, Json]:
    """Return the `fieldsV1` object of a set of paths."""
    return _encode(trie(paths))


def _encode(node: Trie) -> dict[str, Json]:
    made: dict[str, Json] = {}
    for key in sorted(node, key=_element_order):
        if key == MEMBER:
            continue
        child = node[key]
        inner = _encode(child)
        if MEMBER in child and inner:
            inner = {".": {}, **inner}
        made[key] = inner
    return made


_ORDER: Final = {"f": 0, "k": 1, "v": 2, "i": 3}


def _element_order(element: str) -> tuple[int, str]:
    return _ORDER.get(element[:1], -1), element


def decode(fields: Mapping[str, Json]) -> PathSet:
    """Return the set of paths of a `fieldsV1` object. Raises ValueError for a malformed one."""
    found: set[Path] = set()
    _decode(fields, (), found)
    return frozenset(found)


def _decode(node: Mapping[str, Json], path: Path, found: set[Path]) -> None:
    for key, child in node.items():
        if not isinstance(child, Mapping):
            raise ValueError(f"fieldsV1: {key!r} does not hold an object")  # noqa: TRY004 - bad data, not a bad call
        if key == ".":
            found.add(path)
            continue
        if key[:2] not in ("f:", "k:", "v:", "i:"):
            raise ValueError(f"fieldsV1: {key!r} is no path element")
        here = (*path, key)
        if child:
            _decode(child, here, found)
        else:
            found.add(here)


def trie(paths: Iterable[Path]) -> Trie:
    """Return the paths as a tree."""
    root: Trie = {}
    for path in paths:
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node[MEMBER] = True
    return root


def _paths(node: Trie, path: Path, found: set[Path]) -> None:
    for element, child in node.items():
        if element == MEMBER:
            found.add(path)
        else:
            _paths(child, (*path, element), found)


def display(path: Path) -> str:
    """Write a path as conflict messages do: `.spec.template.spec.containers[name="web"].image`."""
    return "".join(_display(element) for element in path)


def _display(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        return "[" + ",".join(f"{key}={_scalar(value)}" for key, value in json.loads(rest).items()) + "]"
    return f"[={_scalar(json.loads(rest))}]" if kind == "v:" else f"[{rest}]"


def _scalar(value: Json) -> str:
    return json.dumps(value)


# -- path elements of list items --------------------------------------------------------------------


def item_element(shape: Shape, item: Json) -> str:
    """Return the path element of an item of a keyed list or set. Raises TypedError when it has none."""
    if not shape.keys:
        if item is None:
            raise TypedError("associative list without keys has an element that's an explicit null")
        if isinstance(item, Mapping):
            raise TypedError("associative list without keys has an element that's a map type")
        if isinstance(item, list):
            raise TypedError("not supported: associative list with lists as elements")
        return "v:" + json.dumps(item)
    if item is None:
        raise TypedError("associative list with keys may not have a null element")
    if not isinstance(item, Mapping):
        raise TypedError("associative list with keys may not have non-map elements")
    named: dict[str, Json] = {}
    for key in sorted(shape.keys):
        if key in item:
            named[key] = item[key]
        elif key in shape.key_defaults:
            named[key] = shape.key_defaults[key]
    if not named:
        listed = "[" + " ".join(json.dumps(key) for key in shape.keys) + "]"
        raise TypedError(
            f"associative list with keys has an element that omits all key fields {listed} "
            "(and doesn't have default values for any key fields)"
        )
    return "k:" + json.dumps(named, separators=(",", ":"))


def _is_struct(shape: Shape, value: Json) -> bool:
    return shape.kind in ("struct", "dict", "any") and isinstance(value, dict)


def _is_keyed_list(shape: Shape, value: Json) -> bool:
    return shape.kind == "list" and not shape.atomic and isinstance(value, list)


# -- the set of paths of a value --------------------------------------------------------------------


def field_set(shape: Shape, value: Json) -> set[Path]:
    """Return the paths that applying `value` owns."""
    found: set[Path] = set()
    _field_set(shape, value, (), found)
    return found


def _field_set(shape: Shape, value: Json, path: Path, found: set[Path]) -> None:
    if _is_struct(shape, value):
        if shape.atomic:
            found.add(path)
            return
        for key, child in value.items():
            here = (*path, f"f:{key}")
            declared = shape.fields.get(key) if shape.kind == "struct" else None
            _field_set(declared or shape.child(key) or ANY, child, here, found)
            if child is None or child == {} or declared is None:
                found.add(here)
        return
    if shape.kind in ("struct", "dict"):  # null
        if shape.atomic:
            found.add(path)
        return
    if shape.kind == "list" and not shape.atomic:
        element = shape.element or ANY
        for item in value or ():
            here = (*path, item_element(shape, item))
            _field_set(element, item, here, found)
            found.add(here)
        return
    found.add(path)


# -- comparison -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Comparison:
    """What changed from one value to another."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


def compare(shape: Shape, old: Json, new: Json) -> Comparison:
    """Compare two values of one shape."""
    result = Comparison()
    _compare(shape, old, new, (), result)
    return result


def same(old: Json, new: Json) -> bool:
    """Whether two JSON values are equal; unlike Python's `==`, true is not 1."""
    if old is new:
        return True
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool) and old == new
    return bool(old == new)


def _compare(shape: Shape, old: Json, new: Json, path: Path, result: Comparison) -> None:
    if old is new:
        return
    if _descend_maps(shape, old, new):
        left = old if isinstance(old, dict) else {}
        right = new if isinstance(new, dict) else {}
        for key in left.keys() | right.keys():
            child = shape.child(key) or ANY
            _compare(child, left.get(key, _ABSENT), right.get(key, _ABSENT), (*path, f"f:{key}"), result)
    elif _descend_lists(shape, old, new):
        _compare_items(shape, old, new, path, result)
    else:
        if old is _ABSENT:
            result.added.add(path)
        elif new is _ABSENT:
            result.removed.add(path)
        elif not same(old, new):
            result.modified.add(path)
        return
    if old is _ABSENT:
        result.added.add(path)
    elif new is _ABSENT:
        result.removed.add(path)


def _blank(value: Json) -> bool:
    return value is _ABSENT or value is None or value in ({}, [])


def _descend_maps(shape: Shape, old: Json, new: Json) -> bool:
    if shape.atomic or shape.kind not in ("struct", "dict", "any") or (_blank(old) and _blank(new)):
        return False
    return all(isinstance(value, dict) or value is _ABSENT or value is None for value in (old, new))


def _descend_lists(shape: Shape, old: Json, new: Json) -> bool:
    if shape.atomic or shape.kind != "list" or (_blank(old) and _blank(new)):
        return False
    return all(isinstance(value, list) or value is _ABSENT or value is None for value in (old, new))


def _compare_items(shape: Shape, old: Json, new: Json, path: Path, result: Comparison) -> None:
    left, right = _grouped(shape, old), _grouped(shape, new)
    element = shape.element or ANY
    for key in left.keys() | right.keys():
        before, after = left.get(key, []), right.get(key, [])
        here = (*path, key)
        if len(before) <= 1 and len(after) <= 1:
            _compare(element, before[0] if before else _ABSENT, after[0] if after else _ABSENT, here, result)
        elif len(before) >= 2 and len(after) >= 2:  # duplicates are one atomic lump
            if not same(before, after):
                result.modified.add(here)
        elif len(before) >= 2:
            if after:
                _compare(element, _ABSENT, after[0], here, result)
            result.removed.add(here)
        else:
            if before:
                _compare(element, before[0], _ABSENT, here, result)
            result.added.add(here)


def _grouped(shape: Shape, items: Json) -> dict[str, list[Json]]:
    grouped: dict[str, list[Json]] = {}
    for item in items if isinstance(items, list) else ():
        grouped.setdefault(item_element(shape, item), []).append(item)
    return grouped


# -- merge ------------------------------------------------------------------------------------------


def merge(shape: Shape, live: Json, config: Json) -> Json:
    """Return `live` with `config` applied over it; neither is changed, unchanged parts are shared."""
    return _merge(shape, live, config)


def _merge(shape: Shape, live: Json, config: Json) -> Json:
    if live is _ABSENT or config is _ABSENT:
        return config if live is _ABSENT else live
    if _descend_maps(shape, live, config):
        if config is None:
            return live
        merged = dict(live or {})
        moved = live is None
        for key, value in config.items():
            before = merged.get(key, _ABSENT)
            after = _merge(shape.child(key) or ANY, before, value)
            if after is not before:
                merged[key] = after
                moved = True
        return merged if moved else live  # sharing unchanged parts makes the comparison afterwards short
    if _descend_lists(shape, live, config):
        items = _merge_items(shape, live or [], config or [])
        unchanged = live is not None and len(items) == len(live) and all(map(operator.is_, items, live))
        return live if unchanged else items
    return live if same(live, config) else config


def _merge_items(shape: Shape, live: Sequence[Json], config: Sequence[Json]) -> list[Json]:
    """Merge keyed items: the applied order where both have an item, live-only items stay where they were."""
    element = shape.element or ANY
    left = [item_element(shape, item) for item in live]
    right = [item_element(shape, item) for item in config]
    by_left: dict[str, Json] = {}
    for key, item in zip(left, live, strict=True):
        by_left[key] = _ABSENT if key in by_left else item  # duplicated live items are not merged
    by_right = dict(zip(right, config, strict=True))
    shared = [key for key in right if key in by_left]
    merged: list[Json] = []
    done: set[str] = set()

    def take(key: str) -> None:
        done.add(key)
        merged.append(_merge(element, by_left.get(key, _ABSENT), by_right[key]))
        if shared and shared[0] == key:
            shared.pop(0)

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i] == right[j]:
                take(left[i])
                i, j = i + 1, j + 1
                continue
            if left[i] in by_right and shared and shared[0] != left[i]:
                i += 1  # a shared item, but not the one whose turn it is
                continue
        if i < len(left):
            if left[i] not in by_right:
                merged.append(live[i])
                i += 1
                continue
            if left[i] in done:
                i += 1
        if j < len(right):
            take(right[j])
            j += 1
    return merged


# -- removal ----------------------------------------------------------------------------------------


def remove(shape: Shape, value: Json, paths: Iterable[Path]) -> Json:
    """Return `value` without the items and fields at `paths`."""
    tree = trie(paths)
    return _remove(shape, value, tree) if tree else value


def _remove(shape: Shape, value: Json, tree: Trie) -> Json:
    if _is_struct(shape, value):
        if not value:
            return value
        if shape.atomic:
            return None
        kept: dict[str, Json] = {}
        for key, child in value.items():
            node = tree.get(f"f:{key}")
            if node is None:
                kept[key] = child
            elif MEMBER not in node:
                inner = _remove(shape.child(key) or ANY, child, node)
                kept[key] = inner
        return kept or None
    if _is_keyed_list(shape, value):
        if not value:
            return value
        items: list[Json] = []
        for item in value:
            node = tree.get(item_element(shape, item))
            if node is None:
                items.append(item)
            elif MEMBER not in node:
                items.append(_remove(shape.element or ANY, item, node))
        return items or None
    return value


def with_named_fields(shape: Shape, paths: Iterable[Path]) -> set[Path]:
    """Return the paths plus every declared field on the way to them."""
    found: set[Path] = set()
    tree = trie(paths)
    _name_fields(shape, tree, (), found)
    _paths(tree, (), found)
    return found


def _name_fields(shape: Shape, node: Trie, path: Path, found: set[Path]) -> None:
    for element, child in node.items():
        if element == MEMBER:
            continue
        here = (*path, element)
        below: Shape | None = None
        if element.startswith("f:"):
            name = element[2:]
            if shape.kind == "struct" and name in shape.fields and any(key != MEMBER for key in child):
                found.add(here)
            below = shape.child(name)
        elif element.startswith("k:") and shape.kind == "list":
            below = shape.element
        _name_fields(below or ANY, child, here, found)


# -- type check of an applied value -----------------------------------------------------------------


def typed_errors(shape: Shape, value: Json, path: str = "") -> list[str]:
    """Return why `value` cannot be applied: undeclared fields, wrong types, duplicate list keys."""
    if value is None or shape.kind == "any":
        return []
    if shape.kind == "scalar":
        problem = scalar_problem(shape.scalar, value)
        return [f"{path}: {problem}"] if problem else []
    if shape.kind == "list":
        if not isinstance(value, list):
            return [f"{path}: expected list, got &{{{value}}}"]
        return _list_errors(shape, value, path)
    if not isinstance(value, dict):
        return [f"{path}: expected map, got &{{{value}}}"]
    errors: list[str] = []
    for key, item in value.items():
        child = shape.child(key)
        if child is None:
            errors.append(f"{path}.{key}: field not declared in schema")
        else:
            errors += typed_errors(child, item, f"{path}.{key}")
    return errors


def _list_errors(shape: Shape, value: Sequence[Json], path: str) -> list[str]:
    errors: list[str] = []
    seen: set[str] = set()
    for index, item in enumerate(value):
        where = f"[{index}]"
        if not shape.atomic:
            try:
                element = item_element(shape, item)
            except TypedError as err:
                return [*errors, f"{path}: element {index}: {err}"]
            where = _display(element)
            if element in seen:
                errors.append(f"{path}: duplicate entries for key {where}")
            seen.add(element)
        errors += typed_errors(shape.element or ANY, item, path + where)
    return errors


def scalar_problem(code: str, value: Json) -> str:
    """Say why a value is not of a scalar type; empty when it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if code in ("i", "n"):
        return "" if number else f"expected numeric (int or float), got {_go_type(value)}"
    if code in ("s", "t"):
        return "" if isinstance(value, str) else f"expected string, got {_go_value(value)}"
    if code == "b":
        return "" if isinstance(value, bool) else f"expected boolean, got {_go_value(value)}"
    if isinstance(value, dict | list):
        return f"expected any scalar, got {_go_value(value)}"
    return ""


def _go_type(value: Json) -> str:
    names = {str: "string", bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), type(value).__name__)


def _go_value(value: Json) -> str:
    return f"&value.valueUnstructured{{Value:{json.dumps(value)}}}"
