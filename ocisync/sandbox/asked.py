"""What a request asks for, read from its method, query, headers and body; and the Scale that it may get."""

from __future__ import annotations

from ocisync.sandbox import apierrors
from ocisync.sandbox.httpserver import Request
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.writes import Deletion, Options


def verb_of(request: Request, name: str) -> str:
    """Name what a request does, as audit logs do; `apply` apart from `patch`."""
    if request.method == "GET":
        return "watch" if request.flag("watch") else "get" if name else "list"
    if request.method == "PATCH":
        return "apply" if "apply-patch" in request.header("content-type") else "patch"
    names = {"POST": "create", "PUT": "update", "DELETE": "delete" if name else "deletecollection"}
    return names.get(request.method, request.method.lower())


def options_of(request: Request) -> Options:
    """Read how to write. Raises ApiError for an unknown level of field validation."""
    manager = request.param("fieldManager") or request.header("user-agent").partition("/")[0][:128]
    validation = request.param("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        causes = [apierrors.not_supported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn"))]
        raise apierrors.invalid("meta.k8s.io", "PatchOptions", "", causes)
    return Options(
        manager=manager or "unknown",
        dry_run=request.param("dryRun") == "All",
        force=request.flag("force"),
        validation=validation,
    )


def deletion_of(request: Request, body: Json) -> Deletion:
    """Read how to delete, from DeleteOptions in the body and the query."""
    body = body if isinstance(body, dict) else {}
    preconditions = body.get("preconditions") or {}
    dry = body.get("dryRun") or request.query.get("dryRun") or []
    policy = body.get("propagationPolicy") or request.param("propagationPolicy")
    if body.get("orphanDependents"):
        policy = "Orphan"
    return Deletion(
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        policy=policy or "",
        dry_run="All" in dry,
    )


def scale_of(resource: Resource, value: Json) -> Json:
    """Return the Scale of a workload."""
    spec_path, status_path, selector_path = resource.scale_paths

    def read(path: str) -> Json:
        found: Json = value
        for part in path.strip(".").split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    selector = read(selector_path) if selector_path else None
    if not resource.custom:
        labels = ((value.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        selector = ",".join(f"{key}={item}" for key, item in sorted(labels.items()))
    metadata = {
        key: item
        for key, item in value["metadata"].items()
        if key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    status: dict[str, Json] = {"replicas": read(status_path) or 0}
    if selector:
        status["selector"] = selector
    spec = {"replicas": read(spec_path)} if read(spec_path) else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}
