"""Custom resources: from CustomResourceDefinitions in the store to served resources.

A CRD is served as soon as its creation is answered; its conditions `NamesAccepted` and `Established` are set by
`garbage.py`'s worker a moment later, as clients expect to have to wait for them. All served versions share one storage;
conversion only rewrites `apiVersion` (strategy None). Lacks: conversion webhooks, CEL rules, name conflicts between
CRDs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ocisync.sandbox.apierrors import Cause, invalid_value, required
from ocisync.sandbox.kinds import Catalog, Resource, at
from ocisync.sandbox.shapes import Json, Shape, crd_shape
from ocisync.sandbox.store import Store

TABLE: Final = ("apiextensions.k8s.io", "customresourcedefinitions")
FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"  # put on by the deletion itself
_shapes: dict[tuple[str, str, int], Shape] = {}  # uid, version, generation


def catalog_of(builtin: tuple[Resource, ...], store: Store) -> Catalog:
    """Return the catalog of built-in kinds and of every CRD in the store."""
    resources = list(builtin)
    for stored in list(store.table(TABLE).objects.values()):
        resources += resources_of(stored.value)
    return Catalog(tuple(resources))


def resources_of(crd: Json) -> Iterator[Resource]:
    """Yield the resources that a CRD serves, the storage version first."""
    spec, metadata = crd["spec"], crd["metadata"]
    names = spec["names"]
    for version in sorted(spec["versions"], key=lambda item: not item.get("storage")):
        if not version.get("served"):
            continue
        key = (metadata["uid"], version["name"], metadata.get("generation", 1))
        if key not in _shapes:
            _shapes[key] = crd_shape((version.get("schema") or {}).get("openAPIV3Schema"))
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale") or {}
        fields = ["metadata.name", "metadata.namespace"] if spec["scope"] == "Namespaced" else ["metadata.name"]
        fields += [item["jsonPath"].strip(".") for item in version.get("selectableFields") or ()]
        yield Resource(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            namespaced=spec["scope"] == "Namespaced",
            shape=_shapes[key],
            singular=names.get("singular") or names["kind"].lower(),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            status="status" in subresources,
            scale=bool(scale),
            scale_paths=(
                scale.get("specReplicasPath", ".spec.replicas"),
                scale.get("statusReplicasPath", ".status.replicas"),
                scale.get("labelSelectorPath", ""),
            ),
            custom=True,
            list_kind=names.get("listKind") or f"{names['kind']}List",
            selectable={name: at(name) for name in fields},
        )


def check(crd: Json) -> list[Cause]:
    """Check what would otherwise break serving: names, versions, structural schema at the root."""
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    causes: list[Cause] = []
    for name in ("plural", "kind"):
        if not names.get(name):
            causes.append(required(f"spec.names.{name}"))
    if not spec.get("group"):
        causes.append(required("spec.group"))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(required("spec.scope"))
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if crd["metadata"].get("name") != wanted:
        why = 'must be spec.names.plural+"."+spec.group'
        causes.append(invalid_value("metadata.name", crd["metadata"].get("name"), why))
    versions = spec.get("versions") or []
    if sum(1 for version in versions if version.get("storage")) != 1:
        why = "must have exactly one version marked as storage version"
        causes.append(invalid_value("spec.versions", [version.get("name") for version in versions], why))
    for index, version in enumerate(versions):
        where = f"spec.versions[{index}].schema.openAPIV3Schema"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not schema:
            causes.append(required(where, "schemas are required"))
        elif schema.get("type") != "object":
            causes.append(invalid_value(f"{where}.type", schema.get("type", ""), "must be object at the root"))
    return causes


def conditions(crd: Json, now: str) -> Json | None:
    """Return the status that an established CRD has; None when it has it already."""
    names = crd["spec"]["names"]
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    status = crd.get("status") or {}
    status = {**status, "conditions": status.get("conditions") or []}
    have = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    versions = list(dict.fromkeys([*(status.get("storedVersions") or ()), *stored]))
    settled = have.get("Established") == "True" and have.get("NamesAccepted") == "True"
    if settled and status.get("acceptedNames") == names and status.get("storedVersions") == versions:
        return None
    return {
        "acceptedNames": names,
        "storedVersions": versions,
        "conditions": [
            {
                "type": "NamesAccepted",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "NoConflicts",
                "message": "no conflicts found",
            },
            {
                "type": "Established",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
            },
        ],
    }
