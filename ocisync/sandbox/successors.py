"""What decides whether and how one version of an object follows another. Pure."""

from __future__ import annotations

from typing import Final

from ocisync.sandbox import ownership, patches
from ocisync.sandbox.apierrors import ApiError
from ocisync.sandbox.fields import same
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.ownership import Managers
from ocisync.sandbox.shapes import Json, zero
from ocisync.sandbox.store import Key, Stored

NAMESPACES: Final = ("", "namespaces")
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
_SYSTEM: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


def patched(resource: Resource, value: Json, media_type: str, body: Json) -> Json:
    """Return a value with a patch applied. Raises ApiError for a patch type that the kind does not take."""
    if media_type == JSON_PATCH:
        return patches.json_patch(value, body)
    if media_type == MERGE_PATCH:
        return patches.merge_patch(value, body)
    if media_type == STRATEGIC_PATCH and not resource.custom:
        return patches.strategic_patch(resource.shape, value, body)
    known = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH] + ([] if resource.custom else [STRATEGIC_PATCH])
    listed = ", ".join(sorted(known))
    text = f"the body of the request was in an unknown format - accepted media types include: {listed}"
    raise ApiError("UnsupportedMediaType", text, details={})


def readable_managers(entries: Json) -> Managers:
    """Read what a client wrote into managedFields; what cannot be read counts as not sent."""
    try:
        return ownership.decode_managers(entries) if isinstance(entries, list) else {}
    except (ValueError, AttributeError, TypeError):
        return {}


def keep_system_fields(resource: Resource, old: Json, value: Json, *, status: bool = False) -> None:
    """Put back what no client can change."""
    metadata = value["metadata"]
    for name in _SYSTEM:
        metadata.pop(name, None)
        if name in old["metadata"]:
            metadata[name] = old["metadata"][name]
    if resource.status and not status:
        value.pop("status", None)
        if "status" in old:
            value["status"] = old["status"]


def content_differs(resource: Resource, old: Json, new: Json) -> bool:
    """Whether what generation counts has changed: all but metadata and status."""
    ignored = ("metadata", "status")
    left = {key: item for key, item in old.items() if key not in ignored}
    right = {key: item for key, item in new.items() if key not in ignored}
    return not same(left, right)


def same_ownership(old: Managers, new: Managers) -> bool:
    """Whether two tables differ in nothing but times."""
    if old.keys() != new.keys():
        return False
    return all(
        owned.paths == new[key].paths and owned.api_version == new[key].api_version for key, owned in old.items()
    )


def same_but_times(stored: Stored, value: Json, managers: Managers) -> bool:
    """Whether a write would change nothing but times in `managedFields`."""
    if not same_ownership(stored.managers, managers):
        return False
    skipped = ("managedFields", "resourceVersion")
    before = {key: item for key, item in stored.value["metadata"].items() if key not in skipped}
    after = {key: item for key, item in value["metadata"].items() if key not in skipped}
    if not same(before, after):
        return False
    left = {key: item for key, item in stored.value.items() if key != "metadata"}
    return same(left, {key: item for key, item in value.items() if key != "metadata"})


def held_by_finalizers(resource: Resource, value: Json) -> bool:
    """Whether finalizers keep a deleted object."""
    if value["metadata"].get("finalizers"):
        return True
    return resource.table == NAMESPACES and bool((value.get("spec") or {}).get("finalizers"))


def slashed(api_version: str) -> str:
    """Write an apiVersion as the real server's log form: the core group is the empty name before the slash."""
    return api_version if "/" in api_version else f"/{api_version}"


def empty_object(resource: Resource) -> Json:
    """Return what a creation is compared with."""
    return {} if resource.custom else zero(resource.shape)


def key_of(stored: Stored) -> Key:
    """Return the key under which an object is stored."""
    metadata = stored.value["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
