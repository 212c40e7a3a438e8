"""The whole installation in the order in which it must be applied: CRDs, namespace, RBAC, workload."""

from __future__ import annotations

from ocisync.install import crds, rbac, workload
from ocisync.install.rbac import Access
from ocisync.install.workload import Workload
from ocisync.model.resource import JsonObject


def definitions() -> list[JsonObject]:
    """The custom resource definitions alone."""
    return [crds.artifact_sync(), crds.trust_policy()]


def installation(spec: Workload, access: Access) -> list[JsonObject]:
    """Every object of an installation."""
    return [
        *definitions(),
        workload.namespace(spec.namespace),
        *rbac.objects(spec.namespace, access),
        workload.deployment(spec),
        *([workload.disruption_budget(spec)] if spec.replicas > 1 else []),
    ]
