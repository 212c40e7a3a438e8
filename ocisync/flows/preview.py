"""The differences that a preview shows: by field, in the words of `manifests.difference`, with secrets hidden.

Hidden are all data of Secrets (also `stringData`), the annotations of Secrets, in which tools keep copies of the data,
and those annotations of every object in which tools keep a copy of the whole. That a hidden value changes is shown.
"""

from __future__ import annotations

from typing import Any, Final

from ocisync.cluster.changes import Difference
from ocisync.flows.compare import HIDDEN, hidden
from ocisync.manifests.difference import Action, FieldPath, Item, fields, pointer
from ocisync.model.resource import JsonObject, ObjectId

_ANNOTATIONS: Final = ("metadata", "annotations")


def differences(object_id: ObjectId, before: JsonObject, after: JsonObject) -> tuple[Difference, ...]:
    """What changes in one object."""
    secret = object_id.kind == "Secret" and not object_id.group
    return tuple(
        Difference(
            change.action.value.lower(),
            pointer(change.path),
            None if change.action is Action.ADDED else _value(change.old, change.path, secret),
            None if change.action is Action.REMOVED else _value(change.new, change.path, secret),
        )
        for change in fields(before, after)
    )


def _value(value: Any, path: FieldPath, secret: bool) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], Item):
        return [str(item) for item in value]
    if secret and path[:2] == _ANNOTATIONS and path[2:]:
        return None if value is None else HIDDEN
    if secret and path == _ANNOTATIONS and isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    if secret and path == ("metadata",) and isinstance(value, dict):
        return {name: _value(item, (*path, name), secret) for name, item in value.items()}
    return hidden(value, path, secret=secret)
