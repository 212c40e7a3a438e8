"""The agent's Deployment: one replica, no root, read-only root file system, no capabilities."""

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


def _probe(path: str) -> JsonObject:
    return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5}


def deployment(workload: Workload) -> JsonObject:
    """The Deployment. `Recreate`: two agents at once would only race for the same writes."""
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
        ],
        "env": [{"name": "OCISYNC_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
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
            "replicas": 1,
            "strategy": {"type": "Recreate"},
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
                    "containers": [container],
                    "volumes": [{"name": "cache", **cache}, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
                },
            },
        },
    }


def namespace(name: str) -> JsonObject:
    """The agent's own namespace, held to the restricted pod security level."""
    labels = {"app.kubernetes.io/name": "ocisync", "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
