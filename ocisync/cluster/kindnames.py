"""Kinds as people type them: `deployment`, `deploy`, `deployments.apps`, `Deployment.v1.apps`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ocisync.cluster.discovery import ApiResource
from ocisync.model.errors import NotFound, UsageError

# What kubectl's users type. The server could say so, too, but not in the documents that are read here.
_SHORT: Final = {
    "cm": "ConfigMap", "cj": "CronJob", "crd": "CustomResourceDefinition", "crds": "CustomResourceDefinition",
    "deploy": "Deployment", "ds": "DaemonSet", "ep": "Endpoints", "hpa": "HorizontalPodAutoscaler", "ing": "Ingress",
    "limits": "LimitRange", "netpol": "NetworkPolicy", "no": "Node", "ns": "Namespace", "pc": "PriorityClass",
    "pdb": "PodDisruptionBudget", "po": "Pod", "pv": "PersistentVolume", "pvc": "PersistentVolumeClaim",
    "quota": "ResourceQuota", "rc": "ReplicationController", "rs": "ReplicaSet", "sa": "ServiceAccount",
    "sc": "StorageClass", "sts": "StatefulSet", "svc": "Service",
}  # fmt: skip


def split_name(text: str) -> tuple[str, str]:
    """Kind and name of `KIND/NAME`.

    Raises:
        UsageError: it has not that form.
    """
    kind, slash, name = text.partition("/")
    if not slash or not kind or not name or "/" in name:
        raise UsageError(f"{text[:100]!r} is not KIND/NAME", hint="for example deployment/web")
    return kind, name


def full_kind(text: str) -> str:
    """With the full name instead of a short one: `deploy.apps` → `Deployment.apps`."""
    first, dot, rest = text.partition(".")
    return _SHORT.get(first.lower(), first) + dot + rest


def find_kind(text: str, resources: Iterable[ApiResource]) -> ApiResource:
    """The resource that people mean; of several the first, as the server orders groups.

    Raises:
        NotFound: the server has no such kind.
    """
    wanted, _, rest = full_kind(text).lower().partition(".")
    groups = {rest, rest.partition(".")[2]} if rest else set()
    for resource in resources:
        if wanted in {resource.kind.lower(), resource.plural.lower()} and (not groups or resource.group in groups):
            return resource
    raise NotFound(f"the server has no kind {text[:100]!r}", hint="kubectl api-resources lists all", reason="NoKind")
