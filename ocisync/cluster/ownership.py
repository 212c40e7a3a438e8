"""Whose object is it, and may we take it? Pure rules over `metadata`.

A member of a sync carries its id in `applyset.kubernetes.io/part-of` *and* an Apply entry of ours in managedFields. The
label alone proves nothing: controllers copy the labels of a Service to its Endpoints and EndpointSlices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ocisync.cluster.fields import fields_of, our_entry, owned_paths, parse_managed_fields
from ocisync.cluster.leave import AUTOSCALER, named
from ocisync.cluster.outcome import Cause
from ocisync.model.resource import JsonObject
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL

CLIENT_SIDE_APPLY = "kubectl-client-side-apply"
BEFORE_FIRST_APPLY = "before-first-apply"

# Hands, not programs: what a person wrote with these is Git's from now on.
_HANDS = re.compile(r"kubectl(?:-.+)?\Z|before-first-apply\Z|OpenAPI-Generator\Z|curl\Z|k9s\Z|Mozilla\Z")
_CONFLICT = re.compile(r'conflict with "(?P<manager>[^"]*)"(?: with subresource "(?P<subresource>[^"]*)")?')


class Claim(StrEnum):
    """What an existing object is to us."""

    OURS = "Ours"
    FREE = "Free"
    FOREIGN = "Foreign"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """One field that another manager holds."""

    field: str
    manager: str
    subresource: str

    @property
    def autoscaled(self) -> bool:
        """Whether a HorizontalPodAutoscaler holds it."""
        return self.manager == AUTOSCALER and self.subresource == "scale" and self.field.endswith(".spec.replicas")


def part_of(obj: Mapping[str, Any]) -> str:
    """The ApplySet id in the object's label; empty if it has none."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return str(labels.get(PART_OF_LABEL) or "")


def applied_by_us(obj: Mapping[str, Any]) -> bool:
    """Whether managedFields hold our Apply entry."""
    return our_entry(parse_managed_fields(obj)) is not None


def is_member(obj: Mapping[str, Any], sync_id: str) -> bool:
    """Whether the object is proven to belong to the sync."""
    return part_of(obj) == sync_id and applied_by_us(obj)


def claim(obj: Mapping[str, Any], sync_id: str, adopt: str = "") -> Claim:
    """Judge an existing object before it is touched for the first time."""
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return Claim.TERMINATING
    owner = part_of(obj)
    if owner == sync_id:
        return Claim.OURS if applied_by_us(obj) else Claim.FREE
    return Claim.FREE if owner in ("", adopt) else Claim.FOREIGN


def conflicts_of(causes: tuple[Cause, ...]) -> tuple[FieldConflict, ...]:
    """The fields of a 409, each with who holds it."""
    found = []
    for cause in causes:
        if cause.reason == "FieldManagerConflict":
            match = _CONFLICT.search(cause.message)
            manager, subresource = (match["manager"], match["subresource"] or "") if match else (cause.message, "")
            found.append(FieldConflict(cause.field, manager, subresource))
    return tuple(found)


def may_take(conflicts: tuple[FieldConflict, ...]) -> bool:
    """Whether Git may have all of these fields: written by hand, or in our name, as admission does in our requests."""
    return all(conflict.manager == FIELD_MANAGER or _HANDS.match(conflict.manager) for conflict in conflicts)


def describe(conflicts: tuple[FieldConflict, ...]) -> str:
    """`field a, b are managed by X; field c is managed by Y`, at most three fields of each."""
    by_manager: dict[str, list[str]] = {}
    for conflict in conflicts:
        by_manager.setdefault(conflict.manager, []).append(conflict.field.lstrip("."))
    parts = []
    for manager, fields in sorted(by_manager.items()):
        more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
        parts.append(f"{', '.join(fields[:3])}{more} managed by {manager!r}")
    return "; ".join(parts)


def take_over_patch(obj: JsonObject, *, leave: Sequence[str] = ()) -> list[JsonObject] | None:
    """A JSON patch that makes what `kubectl apply` wrote ours; None if it wrote nothing.

    The entries become our Apply entry, so that our next apply removes what Git does not have. Dropping the entries
    alone would leave such fields without an owner for ever.

    Args:
        obj: the live object.
        leave: JSON pointers to what is left to others: it becomes nobody's, else what Git lacks of it is reset.
    """
    metadata = obj.get("metadata") or {}
    entries = [entry for entry in metadata.get("managedFields") or () if isinstance(entry, dict)]
    theirs = [entry for entry in entries if _from_kubectl_apply(entry)]
    if not theirs:
        return None
    ours = [entry for entry in entries if _is_our_apply(entry)]
    version = theirs[-1].get("apiVersion")
    fields: JsonObject = {}
    for entry in (*ours, *theirs):
        if entry.get("apiVersion") == version:
            fields = _union(fields, entry.get("fieldsV1") or {})
    if leave:
        fields = fields_of(path for path in owned_paths(fields) if not named(path, leave, obj))
    merged = {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "apiVersion": version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if theirs[-1].get("time"):
        merged["time"] = theirs[-1]["time"]
    kept = [entry for entry in entries if entry not in theirs and entry not in ours]
    return [_test_version(metadata), {"op": "replace", "path": "/metadata/managedFields", "value": [merged, *kept]}]


def residue_patch(obj: JsonObject, *, adopted: bool = False) -> list[JsonObject] | None:
    """A JSON patch that ends what would keep fields alive that Git drops one day; None if there is nothing to end.

    `before-first-apply` goes whole. Of an object just `adopted`, hands let go of the fields that are ours now too: what
    they hold beside those stays theirs, and stays.
    """
    metadata = obj.get("metadata") or {}
    entries = [entry for entry in metadata.get("managedFields") or () if isinstance(entry, dict)]
    ours = next((entry for entry in entries if _is_our_apply(entry)), None)
    kept = []
    for entry in entries:
        left: JsonObject | None = entry
        if entry.get("manager") == BEFORE_FIRST_APPLY:
            left = None
        elif adopted and ours is not None and _by_hand(entry) and entry.get("apiVersion") == ours.get("apiVersion"):
            left = _without_shared(entry, ours)
        if left is not None:
            kept.append(left)
    if kept == entries:
        return None
    return [_test_version(metadata), {"op": "replace", "path": "/metadata/managedFields", "value": kept}]


def _by_hand(entry: Mapping[str, Any]) -> bool:
    hand = entry.get("operation") == "Update" and not entry.get("subresource")
    return hand and _HANDS.match(str(entry.get("manager") or "")) is not None


def _without_shared(entry: JsonObject, ours: JsonObject) -> JsonObject | None:
    """An entry without the fields that ours holds, and what holds those; None if it held no other."""
    theirs, held = owned_paths(entry.get("fieldsV1") or {}), owned_paths(ours.get("fieldsV1") or {})
    rest = theirs - held - {path[:length] for path in held for length in range(1, len(path))}
    if rest == theirs:
        return entry
    return {**entry, "fieldsV1": fields_of(rest)} if rest else None


def _test_version(metadata: Mapping[str, Any]) -> JsonObject:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.get("resourceVersion")}


def _from_kubectl_apply(entry: Mapping[str, Any]) -> bool:
    if entry.get("subresource"):
        return False
    manager, operation = entry.get("manager"), entry.get("operation")
    return (manager == CLIENT_SIDE_APPLY and operation == "Update") or (manager == "kubectl" and operation == "Apply")


def _is_our_apply(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def _union(left: JsonObject, right: JsonObject) -> JsonObject:
    merged = dict(left)
    for key, value in right.items():
        known = merged.get(key)
        merged[key] = _union(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
