"""JSON patch, JSON merge patch and strategic merge patch. Pure: the value given is never changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence

from ocisync.sandbox.apierrors import ApiError, bad_request
from ocisync.sandbox.fields import same
from ocisync.sandbox.shapes import ANY, Json, Shape


def merge_patch(value: Json, patch: Json) -> Json:
    """Apply RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(value) if isinstance(value, Mapping) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), item)
    return result


# -- JSON patch (RFC 6902) --------------------------------------------------------------------------


def json_patch(value: Json, operations: Json) -> Json:
    """Apply RFC 6902. Raises ApiError: 400 for nonsense, 422 for a failed test or a missing path."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    result = copy.deepcopy(value)
    for operation in operations:
        result = _operate(result, operation)
    return result


def _operate(document: Json, operation: Json) -> Json:
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise bad_request("jsonpatch: an operation has no path")
    if kind in ("add", "replace", "test") and "value" not in operation:
        raise bad_request(f"jsonpatch {kind} operation has no value")
    if kind == "add":
        return _add(document, path, copy.deepcopy(operation["value"]))
    if kind == "remove":
        return _drop(document, path)
    if kind == "replace":
        return _replace(document, path, copy.deepcopy(operation["value"]))
    if kind in ("move", "copy"):
        moved = copy.deepcopy(_read(document, operation.get("from", "")))
        if kind == "move":
            document = _drop(document, operation["from"])
        return _add(document, path, moved)
    if kind == "test":
        _check(document, path, operation["value"])
        return document
    raise bad_request(f"Unexpected kind: {kind}")


def _failed(message: str) -> ApiError:
    # The real server keeps the cause to itself; it is kept here for whoever reads the exception.
    error = ApiError("Invalid", "the server rejected our request due to an error in our request", details={})
    error.add_note(message)
    return error


def _check(document: Json, path: str, wanted: Json) -> None:
    try:
        have = _read(document, path)
    except ApiError:
        if wanted is None:
            return
        raise
    if not same(have, wanted):
        raise _failed(f"testing value {path} failed: test failed")


def _parts(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise bad_request(f"jsonpatch: {path!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _index(part: str, length: int) -> int:
    if not part.isdigit() or int(part) > length:
        raise _failed(f"invalid array index: {part}")
    return int(part)


def _read(document: Json, path: str) -> Json:
    for part in _parts(path):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            raise _failed(f"missing path: {path}: missing value")
    return document


def _parent(document: Json, path: str) -> tuple[Json, str]:
    parts = _parts(path)
    if not parts:
        raise _failed("the whole document cannot be replaced")
    for part in parts[:-1]:
        document = _read(document, "/" + part.replace("~", "~0").replace("/", "~1"))
    return document, parts[-1]


def _add(document: Json, path: str, value: Json) -> Json:
    if path == "":
        return value
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    else:
        raise _failed(f"add operation does not apply: doc is missing path: {path}")
    return document


def _drop(document: Json, path: str) -> Json:
    _read(document, path)
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        del parent[last]
    else:
        del parent[int(last)]
    return document


def _replace(document: Json, path: str, value: Json) -> Json:
    if path == "":
        return value
    _read(document, path)
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        parent[last] = value
    else:
        parent[int(last)] = value
    return document


# -- strategic merge patch --------------------------------------------------------------------------


def strategic_patch(shape: Shape, value: Json, patch: Json) -> Json:
    """Apply a strategic merge patch.

    Known directives: `$patch: delete|replace|merge`, `$retainKeys`, `$deleteFromPrimitiveList/…`; `$setElementOrder/…`
    is accepted and ignored.
    """
    if not isinstance(patch, Mapping):
        return patch
    if patch.get("$patch") == "replace":
        return {key: item for key, item in patch.items() if key != "$patch"}
    result = dict(value) if isinstance(value, Mapping) else {}
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        result = {key: item for key, item in result.items() if key in retained}
    for key, item in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            result[name] = [entry for entry in result.get(name) or () if entry not in item]
        elif key.startswith("$"):
            continue
        elif item is None:
            result.pop(key, None)
        else:
            result[key] = _strategic_child(shape.child(key) or ANY, result.get(key), item)
    return result


def _strategic_child(shape: Shape, value: Json, item: Json) -> Json:
    if isinstance(item, Mapping):
        if item.get("$patch") == "delete":
            return None
        return strategic_patch(shape, value, item)
    if isinstance(item, list) and shape.kind == "list":
        if shape.merge_key:
            return _strategic_items(shape, value or [], item)
        if shape.merge_scalars:
            return [*(value or ()), *(entry for entry in item if entry not in (value or ()))]
    return item


def _strategic_items(shape: Shape, value: Sequence[Json], items: Sequence[Json]) -> list[Json]:
    key = shape.merge_key
    element = shape.element or ANY
    if any(item.get("$patch") == "replace" for item in items if isinstance(item, Mapping)):
        return [item for item in items if not (isinstance(item, Mapping) and "$patch" in item)]
    result = list(value)
    for item in items:
        if not isinstance(item, Mapping) or key not in item:
            raise bad_request(f"map: {json.dumps(item)} does not contain declared merge key: {key}")
        at = next((i for i, have in enumerate(result) if have.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(strategic_patch(element, {}, item))
        else:
            result[at] = strategic_patch(element, result[at], item)
    return result
