"""What a built-in kind sets itself when it is created, changed or deleted; after defaulting, owned by no manager."""

from __future__ import annotations

import base64
from typing import Final

from ocisync.sandbox.fields import same
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import Store

TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"
FIRST_ADDRESS: Final = 10  # last octet of the first Service address in 10.96.0.0/16


def prepare_create(resource: Resource, value: Json, store: Store) -> None:
    """Set what creation sets."""
    table = resource.table
    if table == ("", "namespaces"):
        value.setdefault("spec", {})["finalizers"] = ["kubernetes"]
        value["status"] = {"phase": "Active"}
    elif table == ("", "services"):
        _allocate(value, store)
        value["status"] = {"loadBalancer": {}}
    elif table == ("", "pods"):
        value["status"] = {"phase": "Pending", "qosClass": _quality(value.get("spec") or {})}
        spec = value.setdefault("spec", {})
        spec.setdefault("serviceAccountName", "default")
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        spec.setdefault("tolerations", []).extend(_tolerations())
    elif table == ("apps", "daemonsets"):
        value["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = "1"
    elif table == ("", "persistentvolumeclaims"):
        value["status"] = {"phase": "Pending"}
    elif table == ("batch", "jobs"):
        _own_pods(value)
    if table in _EMPTY_STATUS:
        value["status"] = dict(_EMPTY_STATUS[table])
    if table == ("apiextensions.k8s.io", "customresourcedefinitions"):
        versions = [version.get("name") for version in value["spec"].get("versions") or () if version.get("storage")]
        value["status"]["storedVersions"] = versions
    if table == ("", "secrets"):
        _join_string_data(value)


_EMPTY_STATUS: Final[dict[tuple[str, str], dict[str, Json]]] = {
    ("apps", "deployments"): {},
    ("apps", "replicasets"): {"replicas": 0},
    ("apps", "statefulsets"): {"replicas": 0, "availableReplicas": 0},
    ("apps", "daemonsets"): {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
    ("batch", "cronjobs"): {},
    ("autoscaling", "horizontalpodautoscalers"): {"desiredReplicas": 0, "currentMetrics": None},
    ("policy", "poddisruptionbudgets"): {
        "disruptionsAllowed": 0,
        "currentHealthy": 0,
        "desiredHealthy": 0,
        "expectedPods": 0,
    },
    ("networking.k8s.io", "ingresses"): {"loadBalancer": {}},
    ("", "resourcequotas"): {},
    ("apiextensions.k8s.io", "customresourcedefinitions"): {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": [],
    },
}


def _tolerations() -> list[Json]:
    names = ("not-ready", "unreachable")
    rest = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    return [{"key": f"node.kubernetes.io/{name}", **rest} for name in names]


def prepare_update(resource: Resource, old: Json, value: Json) -> None:
    """Set what a change sets."""
    if resource.table == ("apps", "daemonsets"):
        before = (old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "1")
        moved = not same((old.get("spec") or {}).get("template"), (value.get("spec") or {}).get("template"))
        annotations = dict(value["metadata"].get("annotations") or {})
        annotations[TEMPLATE_GENERATION] = str(int(before) + 1) if moved else before
        value["metadata"]["annotations"] = annotations
    if resource.table == ("", "secrets"):
        _join_string_data(value)
    if resource.table == ("", "services"):
        # A client that never saw the allocated addresses may leave them out; they stay.
        spec, before = value.get("spec") or {}, old.get("spec") or {}
        if spec.get("type") != "ExternalName":
            for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if not spec.get(name) and before.get(name):
                    spec[name] = before[name]
            _keep_node_ports(spec, before)


def prepare_delete(resource: Resource, value: Json) -> None:
    """Set what a delayed deletion sets."""
    if resource.table == ("", "namespaces"):
        value["status"] = {**(value.get("status") or {}), "phase": "Terminating"}


def _join_string_data(value: Json) -> None:
    text = value.pop("stringData", None)
    if text:
        data = value.setdefault("data", {})
        for key, item in text.items():
            data[key] = base64.b64encode(item.encode()).decode()


def _allocate(value: Json, store: Store) -> None:
    spec = value.setdefault("spec", {})
    if spec.get("type") == "ExternalName":
        return
    if not spec.get("clusterIP"):
        number = store.revision + FIRST_ADDRESS
        spec["clusterIP"] = f"10.96.{(number >> 8) & 255}.{number & 255}"
    spec["clusterIPs"] = [spec["clusterIP"]]
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        for index, port in enumerate(spec.get("ports") or ()):
            port.setdefault("nodePort", 30000 + (store.revision + index) % 2768)


def _keep_node_ports(spec: Json, before: Json) -> None:
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        return
    known = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in before.get("ports") or ()}
    for port in spec.get("ports") or ():
        held = known.get((port.get("port"), port.get("protocol")))
        if held and not port.get("nodePort"):
            port["nodePort"] = held


def _own_pods(value: Json) -> None:
    spec = value["spec"]
    value["status"] = {}
    if spec.get("manualSelector"):
        return
    uid, name = value["metadata"]["uid"], value["metadata"]["name"]
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    labels |= {
        "controller-uid": uid,
        "job-name": name,
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
    }
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    if not value["metadata"].get("labels"):
        value["metadata"]["labels"] = dict(labels)


def _quality(spec: Json) -> str:
    resources = [container.get("resources") or {} for container in spec.get("containers") or ()]
    if not any(item.get("requests") or item.get("limits") for item in resources):
        return "BestEffort"
    sure = all(item.get("limits") and item.get("limits") == item.get("requests") for item in resources)
    return "Guaranteed" if sure else "Burstable"
