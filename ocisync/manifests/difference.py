"""What differs between two sets of objects: which objects, and in them which fields. Pure; it hides nothing.

Objects are matched by group, kind, namespace and name (not by version or file); where one id occurs more than once (an
artifact with a directory for each environment), those in the same file belong together. Fields are matched by name,
list items by their Kubernetes merge key where the list is known to have one (`containers[name=web]`), other lists by
position if they have equal lengths, and as a whole if not. Numbers differ if their JSON does: `1` is not `1.0`.

The changes are complete: whoever makes them to the first object, in their order, gets the second.

Example:
    >>> [str(change) for change in fields({"spec": {"replicas": 1}}, {"spec": {"replicas": 2}})]
    ['Changed /spec/replicas']
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final

from ocisync.model.resource import JsonObject, ManifestObject, ObjectId
from ocisync.model.values import dataclass

# Merge keys of the built-in API (`x-kubernetes-list-map-keys` and strategic merge keys), by the name of the list.
# Tried in this order; one counts if every item on both sides has it and no two items of a side agree in it.
_KEYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "ports": (("containerPort", "protocol"), ("port", "protocol"), ("containerPort",), ("port",), ("name",)),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "hostAliases": (("ip",),),
    "conditions": (("type",),),
    "ownerReferences": (("uid",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "taints": (("key", "effect"),),
}
_DEFAULTS: Final = {"protocol": "TCP"}
# Custom resources and most lists of the built-in API: containers, env, volumes, secrets, versions, webhooks …
_USUAL: Final = (("name",),)


class Action(StrEnum):
    """What happened to an object or a field."""

    ADDED = "Added"
    REMOVED = "Removed"
    CHANGED = "Changed"
    REORDERED = "Reordered"


@dataclass(frozen=True, slots=True)
class Item:
    """The item of a keyed list whose key fields have these values."""

    key: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return "[" + ",".join(f"{name}={value}" for name, value in self.key) + "]"


Step = str | int | Item
FieldPath = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field. `old` is None for added ones, `new` for removed ones (and where null is the value).

    For a reordered list both are the keys (`Item`) of its items, in order.
    """

    action: Action
    path: FieldPath
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        return f"{self.action} {pointer(self.path)}"


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One object that only one side has (no fields are listed), or that differs in some fields."""

    action: Action
    old: ManifestObject | None
    new: ManifestObject | None
    fields: tuple[FieldChange, ...] = ()

    @property
    def object(self) -> ManifestObject:
        """The object, as the second side has it if it has it."""
        found = self.new or self.old
        if found is None:
            raise ValueError("a change of nothing")
        return found


def pointer(path: FieldPath) -> str:
    """A JSON pointer; items of keyed lists are named by their keys: `/spec/containers[name=web]/image`."""
    out = []
    for step in path:
        if isinstance(step, Item):
            out.append(str(step))
        else:
            out.append("/" + str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(out)


# Objects ----------------------------------------------------------------------------------------------------------


def compare(old: Iterable[ManifestObject], new: Iterable[ManifestObject]) -> tuple[ObjectChange, ...]:
    """All objects that differ, sorted by id and file."""
    changes = [_object_change(before, after) for before, after in _pairs(tuple(old), tuple(new))]
    return tuple(sorted((change for change in changes if change is not None), key=_place))


def _place(change: ObjectChange) -> tuple[ObjectId, str]:
    return change.object.id, change.object.file


def _object_change(old: ManifestObject | None, new: ManifestObject | None) -> ObjectChange | None:
    if old is None or new is None:
        return ObjectChange(Action.ADDED if old is None else Action.REMOVED, old, new)
    changed = fields(old.body, new.body)
    return ObjectChange(Action.CHANGED, old, new, changed) if changed else None


def _pairs(
    old: Sequence[ManifestObject], new: Sequence[ManifestObject]
) -> Iterator[tuple[ManifestObject | None, ManifestObject | None]]:
    before, after = _by_id(old), _by_id(new)
    for key in {**before, **after}:
        lefts, rights = before.get(key, []), after.get(key, [])
        if len(lefts) > 1 or len(rights) > 1:
            together, lefts, rights = _same_file(lefts, rights)
            yield from together
        yield from zip_longest(lefts, rights)


def _same_file(
    lefts: list[ManifestObject], rights: list[ManifestObject]
) -> tuple[list[tuple[ManifestObject, ManifestObject]], list[ManifestObject], list[ManifestObject]]:
    """Pairs of the same file, and who is left alone."""
    waiting: dict[str, deque[ManifestObject]] = defaultdict(deque)
    for right in rights:
        waiting[right.file].append(right)
    pairs, alone = [], []
    for left in lefts:
        if waiting[left.file]:
            pairs.append((left, waiting[left.file].popleft()))
        else:
            alone.append(left)
    return pairs, alone, [right for rest in waiting.values() for right in rest]


def _by_id(objects: Iterable[ManifestObject]) -> dict[ObjectId, list[ManifestObject]]:
    found: dict[ObjectId, list[ManifestObject]] = defaultdict(list)
    for item in objects:
        found[item.id].append(item)
    return found


# Fields -----------------------------------------------------------------------------------------------------------


def fields(old: JsonObject, new: JsonObject) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of the names."""
    return tuple(_values((), old, new))


def same(old: Any, new: Any) -> bool:
    """Tell whether two values are the same JSON: `True` is not `1`, and `1` is not `1.0`."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(same(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(same(left, right) for left, right in zip(old, new, strict=True))
    return bool(old == new)


def _values(path: FieldPath, old: Any, new: Any) -> Iterator[FieldChange]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            here = (*path, name)
            if name not in new:
                yield FieldChange(Action.REMOVED, here, old=old[name])
            elif name not in old:
                yield FieldChange(Action.ADDED, here, new=new[name])
            else:
                yield from _values(here, old[name], new[name])
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(path, old, new)
    elif not same(old, new):
        yield FieldChange(Action.CHANGED, path, old, new)


def _lists(path: FieldPath, old: list[Any], new: list[Any]) -> Iterator[FieldChange]:
    if same(old, new):
        return
    names = _merge_key(path, old, new)
    if names:
        yield from _keyed_lists(path, names, old, new)
    elif len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _values((*path, index), left, right)
    else:
        yield FieldChange(Action.CHANGED, path, old, new)


def _merge_key(path: FieldPath, old: list[Any], new: list[Any]) -> tuple[str, ...]:
    """The fields that tell the items of both lists apart; empty if none do."""
    if not old or not new:
        return ()
    name = path[-1] if path and isinstance(path[-1], str) else ""
    for names in _KEYS.get(name, _USUAL):
        lefts, rights = _keys_of(old, names), _keys_of(new, names)
        if lefts is not None and rights is not None:
            return names
    return ()


def _keys_of(items: list[Any], names: tuple[str, ...]) -> list[Item] | None:
    found = []
    for item in items:
        if not isinstance(item, dict):
            return None
        values = [(name, item.get(name, _DEFAULTS.get(name))) for name in names]
        if not all(isinstance(value, str | int) and not isinstance(value, bool) for _, value in values):
            return None
        found.append(Item(tuple(values)))
    return found if len(set(found)) == len(found) else None


def _keyed_lists(path: FieldPath, names: tuple[str, ...], old: list[Any], new: list[Any]) -> Iterator[FieldChange]:
    lefts, rights = _keys_of(old, names) or [], _keys_of(new, names) or []
    before, after = dict(zip(lefts, old, strict=True)), dict(zip(rights, new, strict=True))
    for key in lefts:
        if key not in after:
            yield FieldChange(Action.REMOVED, (*path, key), old=before[key])
        else:
            yield from _values((*path, key), before[key], after[key])
    for key in rights:
        if key not in before:
            yield FieldChange(Action.ADDED, (*path, key), new=after[key])
    if _merged(lefts, rights) != rights:
        # Some lists mean something by their order: a variable may use those before it.
        yield FieldChange(Action.REORDERED, path, lefts, rights)


def _merged(old: list[Item], new: list[Item]) -> list[Item]:
    """The order that removing and appending alone would give."""
    before, after = set(old), set(new)
    return [key for key in old if key in after] + [key for key in new if key not in before]
