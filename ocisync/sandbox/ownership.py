"""Field managers: who owns which paths, and how updates, applies and scaling move ownership. Pure.

`metadata.managedFields` is decoded to a table manager -> owned paths. `updated` follows a PUT, PATCH or POST,
`applied` a server-side apply, `scaled` a write through the scale subresource. The rules, and their oddities,
are those of Kubernetes' field manager:

- a manager is identified by name, operation and subresource, and for updates also by apiVersion;
- an entry written through `scale` carries no time;
- a field that somebody removes is lost by all owners, and nobody is recorded;
- emptying `managedFields` clears the table; later updates are not tracked until the next apply, which then
names the
  owner of everything so far `before-first-apply`;
- at most ten update managers are kept, the oldest are merged into `ancient-changes`.

Lacks: rewriting of owned sets when a CRD's schema turns a granular field atomic or back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ocisync.sandbox.fields import (
    Path,
    PathSet,
    TypedError,
    compare,
    decode,
    display,
    encode,
    field_set,
    merge,
    remove,
    same,
    typed_errors,
    with_named_fields,
)
from ocisync.sandbox.shapes import Json, Shape

APPLY: Final = "Apply"
UPDATE: Final = "Update"
MAX_UPDATE_MANAGERS: Final = 10
ANCIENT: Final = "ancient-changes"
BEFORE_FIRST_APPLY: Final = "before-first-apply"
REPLICAS: Final[Path] = ("f:spec", "f:replicas")

_STRIPPED: Final = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation",
            "managedFields", "resourceVersion",
        )
    }
)  # fmt: skip


class ManagerKey(NamedTuple):
    """Identity of a manager."""

    manager: str
    operation: str
    api_version: str = ""  # empty for Apply: an applier keeps its identity across versions
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """What one manager owns."""

    paths: PathSet
    api_version: str
    time: str = ""


Managers = dict[ManagerKey, Owned]


class ConflictsError(Exception):
    """An apply without force would take fields from other managers."""

    def __init__(self, conflicts: Mapping[ManagerKey, set[Path]], managers: Managers) -> None:
        """Keep who holds what."""
        super().__init__("conflicts")
        self.conflicts = conflicts
        self._managers = managers

    def causes(self) -> list[dict[str, str]]:
        """Return the Status causes."""
        return [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {describe(key)}",
                "field": display(path),
            }
            for key, paths in sorted(self.conflicts.items())
            for path in sorted(paths)
        ]

    def message(self) -> str:
        """Return the Status message."""
        pairs = [(key, path) for key, paths in sorted(self.conflicts.items()) for path in sorted(paths)]
        if len(pairs) == 1:
            key, path = pairs[0]
            return f"Apply failed with 1 conflict: conflict with {describe(key)}: {display(path)}"
        lines = [f"Apply failed with {len(pairs)} conflicts: "]
        for key, paths in sorted(self.conflicts.items()):
            lines.append(f"conflicts with {describe(key)}:")
            lines += [f"- {display(path)}" for path in sorted(paths)]
        return lines[0] + "\n".join(lines[1:])


def describe(key: ManagerKey) -> str:
    """Name a manager as conflict messages do."""
    text = json.dumps(key.manager)
    if key.subresource:
        text += f' with subresource "{key.subresource}"'
    return f"{text} using {key.api_version}" if key.operation == UPDATE else text


# -- wire form --------------------------------------------------------------------------------------


def decode_managers(entries: Json) -> Managers:
    """Read `metadata.managedFields`. Raises ValueError for a malformed entry."""
    managers: Managers = {}
    for entry in entries or ():
        operation = entry.get("operation")
        if operation not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"invalid fieldsType {entry.get('fieldsType')!r}")
        version = entry["apiVersion"]
        key = ManagerKey(
            entry.get("manager", ""), operation, "" if operation == APPLY else version, entry.get("subresource", "")
        )
        managers[key] = Owned(decode(entry.get("fieldsV1") or {}), version, entry.get("time") or "")
    return managers


def encode_managers(managers: Managers) -> list[dict[str, Json]]:
    """Write `metadata.managedFields`, in the server's order."""
    ordered = sorted(
        managers.items(),
        key=lambda item: (item[0].operation, item[1].time, item[0].manager, item[1].api_version, item[0].subresource),
    )
    entries: list[dict[str, Json]] = []
    for key, owned in ordered:
        entry: dict[str, Json] = {"manager": key.manager, "operation": key.operation, "apiVersion": owned.api_version}
        if owned.time:
            entry["time"] = owned.time
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": encode(owned.paths)}
        if key.subresource:
            entry["subresource"] = key.subresource
        entries.append(entry)
    return entries


def is_reset(entries: Json) -> bool:
    """Whether a written `managedFields` asks for the table to be cleared."""
    return isinstance(entries, list) and entries in ([], [{}])


# -- moves ------------------------------------------------------------------------------------------


def updated(
    shape: Shape, live: Json, new: Json, managers: Managers, key: ManagerKey, version: str, now: str
) -> Managers:
    """Return the table after an update from `live` to `new` ({} = created) by `key`."""
    change = compare(shape, live, new)
    taken = change.modified | change.added
    table: Managers = {}
    for other, owned in managers.items():
        left = owned.paths - taken - change.removed
        if left:
            table[other] = owned if len(left) == len(owned.paths) else replace(owned, paths=left)
    gained = taken - _STRIPPED
    if gained:
        before = table[key].paths if key in table else frozenset()
        table[key] = Owned(before | gained, version, now)
    return _capped(table)


def tracked_update(
    shape: Shape, live: Json, new: Json, managers: Managers, key: ManagerKey, version: str, now: str, *, exists: bool
) -> Managers:
    """`updated`, except that an existing object whose table was cleared stays untracked."""
    if not managers and exists:
        return {}
    return updated(shape, live, new, managers, key, version, now)


@dataclass(frozen=True, slots=True)
class Applied:
    """Result of an apply: the merged object and the new table."""

    merged: Json
    managers: Managers
    changed: bool


def applied(
    shape: Shape,
    live: Json,
    config: Json,
    managers: Managers,
    key: ManagerKey,
    version: str,
    now: str,
    *,
    force: bool,
    nothing: Json | None = None,
) -> Applied:
    """Apply `config` over `live`; `nothing` is what an empty object of the kind has.

    Raises TypedError for a bad config, ConflictsError when it is not forced and others own what it changes.
    """
    errors = typed_errors(shape, config)
    if errors:
        raise TypedError("errors:\n" + "\n".join(f"  {error}" for error in errors) if len(errors) > 1 else errors[0])
    table = dict(managers)
    if not table and live:
        before = ManagerKey(BEFORE_FIRST_APPLY, UPDATE, version, key.subresource)
        tracked = live if key.subresource else {name: item for name, item in live.items() if name != "status"}
        table = updated(shape, nothing or {}, tracked, {}, before, version, now)
    last = table.get(key)
    merged = merge(shape, live, config)
    table[key] = Owned(frozenset(field_set(shape, config)), version, last.time if last else "")
    if last is not None and last.paths - table[key].paths:
        merged = _pruned(shape, merged, table, last.paths) or {}
    change = compare(shape, live, merged)
    taken = change.modified | change.added
    conflicts = {other: lost for other, owned in table.items() if other != key and (lost := set(owned.paths & taken))}
    if conflicts and not force:
        raise ConflictsError(conflicts, table)
    for other in list(table):
        if other == key:
            continue
        left = table[other].paths - taken - change.removed
        if left:
            table[other] = replace(table[other], paths=left)
        else:
            del table[other]
    changed = not same(live, merged)
    mine = table[key].paths - _STRIPPED
    if mine:
        table[key] = Owned(mine, version, now if changed else table[key].time)
    else:
        del table[key]
    return Applied(merged, table, changed)


def _pruned(shape: Shape, merged: Json, table: Managers, last: PathSet) -> Json:
    """Drop what this applier owned before and no longer applies, unless somebody else owns it."""
    dropped = with_named_fields(shape, last)
    pruned = remove(shape, merged, dropped)
    merged_set = with_named_fields(shape, field_set(shape, merged))
    pruned_set = with_named_fields(shape, field_set(shape, pruned if pruned is not None else {}))
    owned: set[Path] = set()
    for entry in table.values():
        owned |= entry.paths
    pruned = remove(shape, merged, merged_set - (pruned_set | with_named_fields(shape, owned)))
    pruned_set = with_named_fields(shape, field_set(shape, pruned if pruned is not None else {}))
    return remove(shape, merged, (merged_set - pruned_set) & dropped)


def scaled(managers: Managers, path: Path, key: ManagerKey | None, version: str) -> Managers:
    """Return the table after a scale by `key` (None: by nobody) changed `path`; the new entry has no time."""
    table: Managers = {}
    for other, owned in managers.items():
        left = owned.paths - {path}
        if left:
            table[other] = owned if len(left) == len(owned.paths) else replace(owned, paths=left)
    if key is not None:
        table[key] = Owned(frozenset({path}), version, "")
    return table


def _capped(table: Managers) -> Managers:
    updaters = sorted((key for key in table if key.operation == UPDATE), key=lambda key: (table[key].time, key))
    surplus = len(updaters) - MAX_UPDATE_MANAGERS
    first: dict[str, ManagerKey] = {}
    for key in updaters:
        if surplus <= 0:
            break
        owned = table[key]
        if owned.api_version not in first:
            first[owned.api_version] = key
            continue
        bucket = ManagerKey(ANCIENT, UPDATE, owned.api_version)
        if bucket not in table:
            table[bucket] = table.pop(first[owned.api_version])
        table[bucket] = Owned(table[bucket].paths | owned.paths, owned.api_version, owned.time)
        if key != bucket:
            del table[key]
        surplus -= 1
    return table
