"""The agent's Deployment: no root, read-only root file system, no capabilities; one replica works, others stand by.

Also a single replica works under the lease: a node that was given up for dead may still run its pod.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocisync.install.rbac import AGENT_NAME
from ocisync.model.resource import JsonObject

HTTP_PORT = 8080


@dataclass(frozen=True, slots=True)
class Workload:
    """What an installation can choose about the Deployment. `image` should be pinned by digest."""

    image: str
    namespace: str
    log_level: str = "info"
    cache_claim: str = ""
    replicas: int = 1


def _probe(path: str) -> JsonObject:
    return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5}


def deployment(workload: Workload) -> JsonObject:
    """The Deployment. `Recreate` for one replica: it releases the lease before its successor asks for it."""
    labels = {"app.kubernetes.io/name": "ocisync", "app.kubernetes.io/component": "agent"}
    cache: JsonObject = {"emptyDir": {"sizeLimit": "1Gi"}}
    if workload.cache_claim:
        cache = {"persistentVolumeClaim": {"claimName": workload.cache_claim}}
    container: JsonObject = {
        "name": "agent",
        "image": workload.image,
        "args": [
            "agent",
            "--log-level",
            workload.log_level,
            "--cache-dir",
            "/var/cache/ocisync",
            "--http-address",
            f":{HTTP_PORT}",
            "--leader-elect",
        ],
        "env": [
            _from_pod("OCISYNC_NAMESPACE", "metadata.namespace"),
            _from_pod("POD_NAME", "metadata.name"),
            _from_pod("POD_UID", "metadata.uid"),
            # One pod runs one agent at a time, so a restarted container need not wait for its own lease.
            {"name": "OCISYNC_IDENTITY", "value": "$(POD_NAME)_$(POD_UID)"},
        ],
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/healthz"),
        "readinessProbe": _probe("/readyz"),
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "cache", "mountPath": "/var/cache/ocisync"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": AGENT_NAME, "namespace": workload.namespace, "labels": labels},
        "spec": {
            "replicas": workload.replicas,
            "strategy": _strategy(workload.replicas),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": AGENT_NAME,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    **_apart(workload.replicas, labels),
                    "containers": [container],
                    "volumes": [{"name": "cache", **cache}, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
                },
            },
        },
    }


def _from_pod(name: str, field: str) -> JsonObject:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def _strategy(replicas: int) -> JsonObject:
    if replicas == 1:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}


def _apart(replicas: int, labels: JsonObject) -> JsonObject:
    """Replicas on nodes of their own where there are enough."""
    if replicas == 1:
        return {}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}


def disruption_budget(workload: Workload) -> JsonObject:
    """Of several replicas, one stays when nodes are drained."""
    labels = {"app.kubernetes.io/name": "ocisync", "app.kubernetes.io/component": "agent"}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": AGENT_NAME, "namespace": workload.namespace, "labels": labels},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }


def namespace(name: str) -> JsonObject:
    """The agent's own namespace, held to the restricted pod security level."""
    labels = {"app.kubernetes.io/name": "ocisync", "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
