"""Small live objects with managedFields, as an API server would show them."""

from __future__ import annotations

from typing import Any

from ocisync.cluster.fields import Path, fields_of
from ocisync.cluster.normalise import Desired, body_of
from ocisync.model.resource import Gvk, JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL

SYNC = "applyset-shop-v1"
T0 = "2026-01-01T00:00:00Z"
T1 = "2026-01-01T00:01:00Z"

LABEL: Path = ("f:metadata", "f:labels", f"f:{PART_OF_LABEL}")
REPLICAS: Path = ("f:spec", "f:replicas")
WEB: Path = ("f:spec", "f:containers", 'k:{"name":"web"}')
IMAGE: Path = (*WEB, "f:image")
OURS: tuple[Path, ...] = (LABEL, REPLICAS, WEB, (*WEB, "f:name"), IMAGE)


def entry(manager: str, *paths: Path, operation: str = "Update", time: str = T1, subresource: str = "") -> JsonObject:
    found: JsonObject = {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields_of(paths),
    }
    if time:
        found["time"] = time
    if subresource:
        found["subresource"] = subresource
    return found


def ours(*paths: Path, time: str = T0) -> JsonObject:
    return entry("ocisync", *(paths or OURS), operation="Apply", time=time)


def live(
    *entries: JsonObject,
    version: int = 10,
    generation: int | None = 1,
    uid: str = "u1",
    kind: str = "Deployment",
    label: str = SYNC,
    name: str = "web",
    **parts: Any,
) -> JsonObject:
    metadata: JsonObject = {
        "name": name,
        "namespace": "shop",
        "uid": uid,
        "resourceVersion": str(version),
        "managedFields": list(entries) or [ours()],
        **parts.pop("metadata", {}),
    }
    if label:
        metadata["labels"] = {PART_OF_LABEL: label}
    if generation is not None:
        metadata["generation"] = generation
    body: JsonObject = {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, **SPEC, **parts}
    return body


SPEC: JsonObject = {"spec": {"replicas": 3, "containers": [{"name": "web", "image": "web:1"}]}}


def desired(name: str = "web", kind: str = "Deployment", group: str = "apps", **parts: Any) -> Desired:
    body: JsonObject = {
        "apiVersion": f"{group}/v1" if group else "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "labels": {PART_OF_LABEL: SYNC}},
        **(parts or SPEC),
    }
    return Desired(ObjectId(group, kind, "shop", name), Gvk(group, "v1", kind), body_of(body), "web.yaml:1")
