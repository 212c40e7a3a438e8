"""Defaulting of built-in kinds and of custom resources. Works in place on an object that nobody else holds.

Built-in kinds get the defaults that users see most: workloads and their pod templates, Services, Jobs and CronJobs,
PVCs, RBAC, webhooks, storage and scheduling classes, CRDs. Lacks: defaults that depend on cluster state (default
storage class, priority classes, LimitRanges), probes' less common fields, node port allocation ranges.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ocisync.sandbox.shapes import Json, Shape


def _set(target: Json, **values: Json) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _below(value: Json, *path: str) -> Json:
    """Return the object at a path, or an empty one that is not attached."""
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _each(value: Json, name: str) -> Iterator[Json]:
    items = value.get(name) if isinstance(value, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item


# -- pods -------------------------------------------------------------------------------------------


def pod_spec(spec: Json) -> None:
    """Default the spec of a pod or pod template."""
    _set(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        securityContext={},
        terminationGracePeriodSeconds=30,
    )
    if spec.get("serviceAccountName") and not spec.get("serviceAccount"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for name in ("initContainers", "containers"):
        for container in _each(spec, name):
            _container(container)
    for volume in _each(spec, "volumes"):
        _volume(volume)


def _container(container: Json) -> None:
    image = str(container.get("image") or "")
    latest = "@" not in image and (":" not in image.rpartition("/")[2] or image.endswith(":latest"))
    _set(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    for port in _each(container, "ports"):
        _set(port, protocol="TCP")
    for variable in _each(container, "env"):
        reference = _below(variable, "valueFrom", "fieldRef")
        if reference:
            _set(reference, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            _set(probe, failureThreshold=3, periodSeconds=10, successThreshold=1, timeoutSeconds=1)
            http = probe.get("httpGet")
            if isinstance(http, dict):
                _set(http, path="/", scheme="HTTP")


def _volume(volume: Json) -> None:
    modes = {"configMap": 420, "secret": 420, "downwardAPI": 420, "projected": 420}
    for name, mode in modes.items():
        source = volume.get(name)
        if isinstance(source, dict):
            _set(source, defaultMode=mode)
    for source in _each(_below(volume, "projected"), "sources"):
        token = source.get("serviceAccountToken")
        if isinstance(token, dict):
            _set(token, expirationSeconds=3600)
    host = volume.get("hostPath")
    if isinstance(host, dict):
        _set(host, type="")
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}


def _template(spec: Json) -> None:
    template = spec.get("template")
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        pod_spec(template["spec"])


# -- workloads --------------------------------------------------------------------------------------


def _deployment(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec.get("strategy", {})
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _stateful_set(value: Json) -> None:
    spec = _below(value, "spec")
    _set(
        spec,
        replicas=1,
        revisionHistoryLimit=10,
        podManagementPolicy="OrderedReady",
        updateStrategy={},
        persistentVolumeClaimRetentionPolicy={},
    )
    _set(spec["persistentVolumeClaimRetentionPolicy"], whenDeleted="Retain", whenScaled="Retain") if spec else None
    strategy = spec.get("updateStrategy", {})
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], partition=0, maxUnavailable=1)
    for claim in _each(spec, "volumeClaimTemplates"):
        _set(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _claim(claim)
        _set(claim, status={"phase": "Pending"})
    _template(spec)


def _daemon_set(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, revisionHistoryLimit=10, updateStrategy={})
    strategy = spec.get("updateStrategy", {})
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], maxUnavailable=1, maxSurge=0)
    _template(spec)


def _replica_set(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, replicas=1)
    _template(spec)


def job_spec(spec: Json) -> None:
    """Default the spec of a Job."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    _set(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    _template(spec)


def _job(value: Json) -> None:
    spec = _below(value, "spec")
    job_spec(spec)


def _cron_job(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = spec.get("jobTemplate")
    if isinstance(template, dict):
        _set(template, metadata={})
        _set(_below(template, "spec", "template"), metadata={})
        _template(_below(template, "spec"))


def _autoscaler(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


# -- network ----------------------------------------------------------------------------------------


def _service(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec.get("type") != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec.get("type") == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    if spec.get("sessionAffinity") == "ClientIP":
        _set(spec, sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10800}})
    for port in _each(spec, "ports"):
        _set(port, protocol="TCP")
        _set(port, targetPort=port.get("port"))


def _network_policy(value: Json) -> None:
    spec = _below(value, "spec")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        for rule in _each(spec, direction):
            for port in _each(rule, "ports"):
                _set(port, protocol="TCP")


def _endpoints(value: Json) -> None:
    for subset in _each(value, "subsets"):
        for port in _each(subset, "ports"):
            _set(port, protocol="TCP")


def _endpoint_slice(value: Json) -> None:
    for port in _each(value, "ports"):
        _set(port, name="", protocol="TCP")


# -- the rest ---------------------------------------------------------------------------------------


def _claim(value: Json) -> None:
    _set(_below(value, "spec"), volumeMode="Filesystem")


def _volume_resource(value: Json) -> None:
    _set(_below(value, "spec"), volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")


def _binding(value: Json) -> None:
    for subject in _each(value, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            _set(subject, apiGroup="rbac.authorization.k8s.io")
    _set(_below(value, "roleRef"), apiGroup="rbac.authorization.k8s.io")


def _webhooks(value: Json) -> None:
    for hook in _each(value, "webhooks"):
        _set(
            hook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        if value.get("kind") == "MutatingWebhookConfiguration":
            _set(hook, reinvocationPolicy="Never")
        service = _below(hook, "clientConfig", "service")
        if service:
            _set(service, port=443)
        for rule in _each(hook, "rules"):
            _set(rule, scope="*")


def _crd(value: Json) -> None:
    spec = _below(value, "spec")
    names = _below(spec, "names")
    if names.get("kind"):
        _set(names, listKind=f"{names['kind']}List", singular=names["kind"].lower())
    _set(spec, conversion={"strategy": "None"})


def _namespace(value: Json) -> None:
    labels = value["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = value["metadata"]["name"]


def _storage_class(value: Json) -> None:
    _set(value, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _priority_class(value: Json) -> None:
    _set(value, preemptionPolicy="PreemptLowerPriority")


def _secret(value: Json) -> None:
    _set(value, type="Opaque")


def _pod(value: Json) -> None:
    spec = _below(value, "spec")
    pod_spec(spec)
    _set(spec, enableServiceLinks=True)
    for container in _each(spec, "containers"):
        limits = _below(container, "resources", "limits")
        if limits:
            container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}


def _admission_policy(value: Json) -> None:
    spec = _below(value, "spec")
    _set(spec, failurePolicy="Fail")
    constraints = _below(spec, "matchConstraints")
    if constraints:
        _set(constraints, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
        for rule in _each(constraints, "resourceRules"):
            _set(rule, scope="*")


_DEFAULTERS: Final[Mapping[tuple[str, str], Callable[[Json], None]]] = {
    ("", "namespaces"): _namespace,
    ("", "pods"): _pod,
    ("", "secrets"): _secret,
    ("", "services"): _service,
    ("", "endpoints"): _endpoints,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _volume_resource,
    ("", "replicationcontrollers"): _replica_set,
    ("apps", "deployments"): _deployment,
    ("apps", "statefulsets"): _stateful_set,
    ("apps", "daemonsets"): _daemon_set,
    ("apps", "replicasets"): _replica_set,
    ("batch", "jobs"): _job,
    ("batch", "cronjobs"): _cron_job,
    ("autoscaling", "horizontalpodautoscalers"): _autoscaler,
    ("networking.k8s.io", "networkpolicies"): _network_policy,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
    ("rbac.authorization.k8s.io", "rolebindings"): _binding,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _binding,
    ("storage.k8s.io", "storageclasses"): _storage_class,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): _webhooks,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): _webhooks,
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): _admission_policy,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _crd,
}


def default_builtin(table: tuple[str, str], value: Json) -> None:
    """Fill in the defaults of a built-in kind."""
    defaulter = _DEFAULTERS.get(table)
    if defaulter is not None:
        defaulter(value)


def default_custom(shape: Shape, value: Json) -> None:
    """Fill in the `default`s of a CRD's schema."""
    if shape.kind == "struct" and isinstance(value, dict):
        for name, child in shape.fields.items():
            if name not in value and "default" in child.schema:
                value[name] = copy.deepcopy(child.schema["default"])
            if name in value:
                if value[name] is None and "default" in child.schema and not child.schema.get("nullable"):
                    value[name] = copy.deepcopy(child.schema["default"])
                default_custom(child, value[name])
    elif shape.kind == "dict" and isinstance(value, dict) and shape.element is not None:
        for item in value.values():
            default_custom(shape.element, item)
    elif shape.kind == "list" and isinstance(value, list) and shape.element is not None:
        for item in value:
            default_custom(shape.element, item)
