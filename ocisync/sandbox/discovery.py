"""Discovery: which groups, versions and resources there are, in the legacy form and as one aggregated document.

`/openapi/v3` names each kind's patch parameters and no schemas: what kubectl asks for before it leaves validation to
the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from ocisync.sandbox.kinds import CUSTOM_VERBS, VERBS, Catalog, Resource
from ocisync.sandbox.shapes import Json

VERSION: Final = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "gitVersion": "v1.37.2+ocisync-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "any/any",
}

# Resources that hold nothing and are answered on the spot: group, version, plural, kind, namespaced.
REVIEWS: Final = (
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False),
)
_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def wants_aggregated(accept: str) -> bool:
    """Whether the client asks for the aggregated document, version v2."""
    return any(
        "as=APIGroupDiscoveryList" in part and "v=v2;" in part + ";" and "application/json" in part
        for part in accept.replace(" ", "").split(",")
    )


def aggregated(catalog: Catalog, *, core: bool) -> tuple[bytes, str]:
    """Return the aggregated document of `/api` or `/apis`, and its content type."""
    items: list[Json] = []
    for group, versions in _groups(catalog).items():
        if (group == "") is core:
            items.append(_group_discovery(group, versions))
    body = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
    return json.dumps(body).encode(), _AGGREGATED


def _groups(catalog: Catalog) -> dict[str, dict[str, list[Resource]]]:
    groups = catalog.groups()
    for group, version, *_ in REVIEWS:
        groups.setdefault(group, {}).setdefault(version, [])
    return groups


def _group_discovery(group: str, versions: dict[str, list[Resource]]) -> Json:
    made: Json = {"metadata": {"creationTimestamp": None} | ({"name": group} if group else {}), "versions": []}
    for version, resources in versions.items():
        listed = [_resource_discovery(resource) for resource in resources]
        listed += [
            {
                "resource": plural,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "scope": "Namespaced" if namespaced else "Cluster",
                "singularResource": kind.lower(),
                "verbs": ["create"],
            }
            for owner, at, plural, kind, namespaced in REVIEWS
            if (owner, at) == (group, version)
        ]
        made["versions"].append({"version": version, "resources": listed, "freshness": "Current"})
    return made


def _resource_discovery(resource: Resource) -> Json:
    made: Json = {
        "resource": resource.plural,
        "responseKind": _response_kind(resource, resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": _verbs(resource),
    }
    if resource.short_names:
        made["shortNames"] = list(resource.short_names)
    if resource.categories:
        made["categories"] = list(resource.categories)
    subresources = [
        {
            "subresource": name,
            "responseKind": _response_kind(resource, group, version, kind),
            "verbs": verbs,
        }
        for name, group, version, kind, verbs in _subresources(resource)
    ]
    if subresources:
        made["subresources"] = subresources
    return made


def _response_kind(resource: Resource, group: str, version: str, kind: str) -> Json:
    """Built-in kinds leave out what is the resource's own group and version, custom ones write it."""
    if not resource.custom and (group, version) == (resource.group, resource.version):
        group = version = ""
    return {"group": group, "version": version, "kind": kind}


def _verbs(resource: Resource) -> list[str]:
    if resource.custom:
        return list(CUSTOM_VERBS)
    return [verb for verb in VERBS if verb != "deletecollection" or resource.table != ("", "namespaces")]


def _subresources(resource: Resource) -> Iterator[tuple[str, str, str, str, list[str]]]:
    if resource.status:
        yield "status", resource.group, resource.version, resource.kind, ["get", "patch", "update"]
    if resource.scale:
        yield "scale", "autoscaling", "v1", "Scale", ["get", "patch", "update"]
    if resource.table == ("", "serviceaccounts"):
        yield "token", "authentication.k8s.io", "v1", "TokenRequest", ["create"]
    if resource.table == ("", "namespaces"):
        yield "finalize", "", "v1", "Namespace", ["update"]
    if resource.table == ("", "pods"):
        yield "eviction", "policy", "v1", "Eviction", ["create"]


# -- legacy -----------------------------------------------------------------------------------------


def core_versions(address: str) -> Json:
    """Answer `/api`."""
    cidrs = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": cidrs}


def group_list(catalog: Catalog) -> Json:
    """Answer `/apis`."""
    groups = [_group(name, list(versions)) for name, versions in _groups(catalog).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalog: Catalog, name: str) -> Json | None:
    """Answer `/apis/GROUP`; None when there is none."""
    versions = _groups(catalog).get(name)
    if versions is None or not name:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))}


def _group(name: str, versions: list[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(catalog: Catalog, group_name: str, version: str) -> Json | None:
    """Answer `/api/v1` or `/apis/GROUP/VERSION`; None when there is none."""
    versions = _groups(catalog).get(group_name, {})
    if version not in versions:
        return None
    listed: list[Json] = []
    for resource in versions[version]:
        listed.append(_api_resource(resource))
        for name, owner, at, kind, verbs in _subresources(resource):
            extra = {} if (owner, at) == (resource.group, resource.version) else {"group": owner, "version": at}
            listed.append(
                {
                    "name": f"{resource.plural}/{name}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": kind,
                    "verbs": verbs,
                    **extra,
                }
            )
    for owner, at, plural, kind, namespaced in REVIEWS:
        if (owner, at) == (group_name, version):
            entry = {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind}
            listed.append({**entry, "verbs": ["create"]})
    api_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": listed}


def _api_resource(resource: Resource) -> Json:
    made: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _verbs(resource),
    }
    if resource.short_names:
        made["shortNames"] = list(resource.short_names)
    if resource.categories:
        made["categories"] = list(resource.categories)
    return made


# -- OpenAPI ----------------------------------------------------------------------------------------


def openapi_index(catalog: Catalog) -> Json:
    """Answer `/openapi/v3`."""
    paths = {
        root: {"serverRelativeURL": f"/openapi/v3/{root}?hash={len(catalog.resources)}"}
        for name, versions in catalog.groups().items()
        for root in (_root(name, version) for version in versions)
    }
    return {"paths": paths}


def openapi_document(catalog: Catalog, root: str) -> Json | None:
    """Answer `/openapi/v3/ROOT`; None when there is none."""
    for name, versions in catalog.groups().items():
        for version, resources in versions.items():
            if _root(name, version) == root:
                paths = dict(_patch_path(root, resource) for resource in resources)
                info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
                return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}
    return None


def _root(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _patch_path(root: str, resource: Resource) -> tuple[str, Json]:
    middle = "/namespaces/{namespace}" if resource.namespaced else ""
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("dryRun", "fieldManager", "fieldValidation", "force")
    ]
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    patch = {"parameters": parameters, "responses": {}, "x-kubernetes-action": "patch"}
    return f"/{root}{middle}/{resource.plural}/{{name}}", {"patch": patch | {"x-kubernetes-group-version-kind": kind}}
