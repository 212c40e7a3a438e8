"""How stored objects are shown: in the asked version, whole or as metadata only, alone or in lists.

Objects are stored in the version that wrote them last. Versions of one CRD differ in `apiVersion` only; Events have two
faces, `v1` (stored) and `events.k8s.io/v1`, whose fields are renamed both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import Stored, dump, partial

View = Callable[[Stored], bytes]
METADATA: Final = "PartialObjectMetadata"

_EVENT_FIELDS: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENT_FIELDS_BACK: Final = {new: old for old, new in _EVENT_FIELDS.items()}


def is_new_event(resource: Resource) -> bool:
    """Whether this is the `events.k8s.io` face of Events."""
    return resource.group == "events.k8s.io"


def event_to_core(value: Json) -> Json:
    """Rename an `events.k8s.io/v1` Event's fields to those of `v1`."""
    return {_EVENT_FIELDS_BACK.get(key, key): item for key, item in value.items()} | {"apiVersion": "v1"}


def shown(resource: Resource, value: Json) -> Json:
    """Return an object in the resource's version."""
    if value["apiVersion"] == resource.api_version:
        return value
    if is_new_event(resource):
        value = {_EVENT_FIELDS.get(key, key): item for key, item in value.items()}
    return {**value, "apiVersion": resource.api_version}


def view(resource: Resource, accept: str) -> View:
    """Return how to write one object for this Accept header."""
    if wants_metadata(accept):
        return Stored.meta
    return lambda stored: whole(resource, stored)


def wants_metadata(accept: str) -> bool:
    """Whether the client asks for metadata only, in its first acceptable media type."""
    first = accept.partition(",")[0].replace(" ", "")
    return "as=PartialObjectMetadata" in first and "g=meta.k8s.io" in first


def whole(resource: Resource, stored: Stored) -> bytes:
    """Write the whole object."""
    if stored.value["apiVersion"] == resource.api_version:
        return stored.raw()
    return dump(shown(resource, stored.value))


def item(resource: Resource, stored: Stored) -> bytes:
    """Write an object as an item of a list: built-in kinds carry no kind and apiVersion there."""
    if resource.custom:
        return whole(resource, stored)
    value = shown(resource, stored.value)
    return dump({key: part for key, part in value.items() if key not in ("kind", "apiVersion")})


def list_body(resource: Resource, items: Iterable[Stored], accept: str, metadata: Json) -> bytes:
    """Write a list."""
    if wants_metadata(accept):
        head = {"kind": f"{METADATA}List", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        parts = [stored.meta() for stored in items]
    else:
        head = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
        parts = [item(resource, stored) for stored in items]
    return dump(head)[:-1] + b',"items":[' + b",".join(parts) + b"]}"


def bookmark(resource: Resource, revision: int, accept: str, *, initial_end: bool) -> bytes:
    """Write a BOOKMARK event."""
    metadata: dict[str, Json] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    value = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    if wants_metadata(accept):
        value = partial(value)
    return event_line("BOOKMARK", dump(value))


def event_line(kind: str, body: bytes) -> bytes:
    """Write one watch event as a line."""
    return b'{"type":"' + kind.encode() + b'","object":' + body + b"}\n"
