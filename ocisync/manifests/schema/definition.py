"""What a CustomResourceDefinition (apiextensions.k8s.io/v1) says about its kind, one entry for each version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ocisync.manifests.schema.structural import DefinitionError
from ocisync.model.resource import Gvk, JsonObject
from ocisync.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """What one CustomResourceDefinition says about one version."""

    gvk: Gvk
    schema: Mapping[str, Any] | None  # None: any field is taken
    drops_status: bool
    served: bool
    deprecated: bool
    warning: str
    namespaced: bool


def definitions(body: JsonObject) -> tuple[Definition, ...]:
    """The versions of a CustomResourceDefinition (apiextensions.k8s.io/v1).

    Raises:
        DefinitionError: it names no kind, or a version has no usable schema.
    """
    spec = body.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    versions = spec.get("versions") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict) or not isinstance(versions, list):
        raise DefinitionError("no spec.names and spec.versions")
    group, kind = spec.get("group"), names.get("kind")
    if not isinstance(group, str) or not isinstance(kind, str):
        raise DefinitionError("no spec.group and spec.names.kind")
    found = []
    for index, version in enumerate(versions):
        if not isinstance(version, dict) or not isinstance(version.get("name"), str):
            raise DefinitionError(f"spec.versions[{index}] has no name")
        holder = version.get("schema")
        schema = holder.get("openAPIV3Schema") if isinstance(holder, dict) else None
        if not isinstance(schema, dict):
            raise DefinitionError(f"spec.versions[{index}].schema.openAPIV3Schema is required")
        subresources = version.get("subresources")
        found.append(
            Definition(
                Gvk(group, version["name"], kind),
                None if spec.get("preserveUnknownFields") is True else schema,
                isinstance(subresources, dict) and subresources.get("status") is not None,
                version.get("served") is not False,
                version.get("deprecated") is True,
                str(version.get("deprecationWarning") or ""),
                spec.get("scope") != "Cluster",
            )
        )
    return tuple(found)
