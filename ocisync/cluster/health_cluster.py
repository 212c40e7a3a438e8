"""Health of what others stand on: namespaces, storage, network, and the API itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ocisync.cluster.health import (
    CURRENT,
    Health,
    HealthStatus,
    Rule,
    conditions,
    failed,
    is_false,
    is_true,
    progressing,
    said,
    section,
)


def namespace(obj: Mapping[str, Any]) -> Health:
    """Active."""
    phase = section(obj, "status").get("phase")
    if phase == "Terminating":
        return Health(HealthStatus.TERMINATING, "the namespace is being deleted")
    return CURRENT if phase in {"Active", None} else progressing(f"phase {phase}")


def volume_claim(obj: Mapping[str, Any]) -> Health:
    """Bound; Lost is a failure. A claim that waits for its first pod stays in progress, and the message says so."""
    status = section(obj, "status")
    phase = status.get("phase")
    if phase == "Bound":
        return CURRENT
    if phase == "Lost":
        return failed("its volume is lost")
    return progressing(f"phase {phase or 'Pending'}: not bound to a volume")


def service(obj: Mapping[str, Any]) -> Health:
    """A load balancer needs an address; other services are there when they exist."""
    spec = section(obj, "spec")
    if spec.get("type") == "LoadBalancer" and not section(section(obj, "status"), "loadBalancer").get("ingress"):
        return progressing("waiting for a load balancer address")
    return CURRENT


def ingress(obj: Mapping[str, Any]) -> Health:
    """Exists. Many controllers never write an address, and kstatus does not wait for one either."""
    return CURRENT if obj else progressing("empty")


def custom_resource_definition(obj: Mapping[str, Any]) -> Health:
    """Names accepted and served."""
    found = conditions(obj)
    if is_false(found, "NamesAccepted"):
        return failed(said(found["NamesAccepted"], "its names are taken"))
    established = found.get("Established", {})
    if is_true(found, "Established"):
        return CURRENT
    if is_false(found, "Established") and established.get("reason") != "Installing":
        return failed(said(established, "not established"))
    return progressing("not established yet")


def api_service(obj: Mapping[str, Any]) -> Health:
    """Available."""
    found = conditions(obj)
    if is_true(found, "Available"):
        return CURRENT
    return progressing(said(found.get("Available", {}), "not available yet"))


RULES: Final[Mapping[tuple[str, str], Rule]] = {
    ("", "Namespace"): namespace,
    ("", "PersistentVolumeClaim"): volume_claim,
    ("", "Service"): service,
    ("networking.k8s.io", "Ingress"): ingress,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): custom_resource_definition,
    ("apiregistration.k8s.io", "APIService"): api_service,
}
