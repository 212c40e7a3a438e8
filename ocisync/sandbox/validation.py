"""Checks of names, fields, types and the rules that users of the built-in kinds meet most. Pure.

Three steps, as on the real server: `unknown_fields` and `wrong_types` judge what was sent (before anything is dropped),
`strip_unknown` drops what is not declared, `check` judges the whole object and, on updates, what must not change.

Built-in kinds: every field and type of the shapes is known, so unknown fields and wrong types are found at any depth;
values are checked for names, labels, selectors, required fields of workloads, Services, Ingresses, CronJobs,
RBAC, and immutable fields. Custom resources: types, required, enum, pattern, lengths and bounds of the schema.
Lacks: CEL rules (`x-kubernetes-validations` are accepted and not evaluated), `oneOf`/`anyOf`/`not`, formats, and the
long tail of value checks (quantities, ports, label syntax inside pod templates, cron syntax beyond five fields).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ocisync.sandbox.apierrors import Cause, forbidden_value, invalid_value, not_supported, required, wrong_type
from ocisync.sandbox.fields import same, scalar_problem
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.selectors import matches_selector
from ocisync.sandbox.shapes import Json, Shape

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")

LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
VALUE_WORDS: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)

Findings = Iterator[Cause]


# -- what was sent ----------------------------------------------------------------------------------


def unknown_fields(shape: Shape, value: Json, path: str = "") -> Iterator[str]:
    """Yield the path of every field that the shape does not declare."""
    if shape.kind in ("struct", "dict") and isinstance(value, dict):
        for key, item in value.items():
            child = shape.child(key)
            here = f"{path}.{key}" if path else key
            if child is None:
                yield here
            else:
                yield from unknown_fields(child, item, here)
    elif shape.kind == "list" and isinstance(value, list) and shape.element is not None:
        for index, item in enumerate(value):
            yield from unknown_fields(shape.element, item, f"{path}[{index}]")


def strip_unknown(shape: Shape, value: Json) -> Json:
    """Return the value without undeclared fields; shares what needs no change."""
    if shape.kind in ("struct", "dict") and isinstance(value, dict):
        kept: dict[str, Json] = {}
        moved = False
        for key, item in value.items():
            child = shape.child(key)
            if child is None:
                moved = True
                continue
            kept[key] = strip_unknown(child, item)
            moved = moved or kept[key] is not item
        return kept if moved else value
    if shape.kind == "list" and isinstance(value, list) and shape.element is not None:
        items = [strip_unknown(shape.element, item) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def strip_nulls(shape: Shape, value: Json) -> Json:
    """Return the value without null fields, as a typed server decodes it; shares what needs no change."""
    if shape.kind in ("struct", "dict") and isinstance(value, dict):
        kept: dict[str, Json] = {}
        moved = False
        for key, item in value.items():
            if item is None and not (shape.kind == "struct" and _keeps_null(shape, key)):
                moved = True
                continue
            child = shape.child(key)
            kept[key] = strip_nulls(child, item) if child is not None else item
            moved = moved or kept[key] is not item
        return kept if moved else value
    if shape.kind == "list" and isinstance(value, list) and shape.element is not None:
        items = [strip_nulls(shape.element, item) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _keeps_null(shape: Shape, key: str) -> bool:
    """Whether a field may be null: it is declared nullable, or not declared at all but preserved."""
    child = shape.fields.get(key)
    return shape.preserve if child is None else bool(child.schema.get("nullable"))


_GO_TYPES: Final = {"s": "string", "i": "int32", "n": "float64", "b": "bool", "t": "v1.Time"}


def wrong_types(shape: Shape, value: Json, path: str = "", owner: str = "") -> Iterator[str]:
    """Yield one sentence for each value whose type cannot be decoded; `owner` is the Go struct around it."""
    if value is None or shape.kind == "any":
        return
    if shape.kind == "scalar":
        wrong = scalar_problem(shape.scalar, value) or (shape.scalar == "i" and isinstance(value, float))
        if wrong:
            yield _undecodable(value, owner, path, _GO_TYPES.get(shape.scalar, "string"))
    elif shape.kind == "list":
        if not isinstance(value, list):
            yield _undecodable(value, owner, path, "[]interface {}")
            return
        for item in value:
            yield from wrong_types(shape.element or shape, item, path, owner)
    elif not isinstance(value, dict):
        yield _undecodable(value, owner, path, shape.name or "map[string]interface {}")
    else:
        for key, item in value.items():
            child = shape.child(key)
            if child is not None:
                below = path if shape.kind == "dict" else f"{path}.{key}" if path else key
                yield from wrong_types(child, item, below, shape.name or owner)


def _undecodable(value: Json, owner: str, path: str, wanted: str) -> str:
    return f"json: cannot unmarshal {_json_type(value)} into Go struct field {owner}.{path} of type {wanted}"


def _json_type(value: Json) -> str:
    names = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


# -- metadata ---------------------------------------------------------------------------------------

_LABEL_NAMES: Final = frozenset({("", "namespaces"), ("", "services")})
_FREE_NAMES: Final = frozenset(
    ("rbac.authorization.k8s.io", plural) for plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
)


def check_metadata(resource: Resource, value: Json) -> Findings:
    """Check name, labels, annotations and owner references."""
    metadata = value["metadata"]
    name = metadata.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from _check_name(resource, name)
    for key, text in (metadata.get("labels") or {}).items():
        yield from _check_key("metadata.labels", key)
        if text and (_QUALIFIED.fullmatch(text) is None or len(text) > 63):
            why = VALUE_WORDS if _QUALIFIED.fullmatch(text) is None else "must be no more than 63 bytes"
            yield invalid_value("metadata.labels", text, why)
    size = 0
    for key, text in (metadata.get("annotations") or {}).items():
        yield from _check_key("metadata.annotations", key.lower())
        size += len(key) + len(text)
    if size > 262144:
        yield Cause("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes")
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield invalid_value(f"metadata.ownerReferences[{index}].{key}", "", "must not be empty")
    for finalizer in metadata.get("finalizers") or ():
        yield from _check_key("metadata.finalizers", finalizer)


def _check_name(resource: Resource, name: str) -> Findings:
    if resource.table in _FREE_NAMES:
        if "/" in name or "%" in name or name in (".", ".."):
            yield invalid_value("metadata.name", name, "may not contain '/'")
        return
    if resource.table in _LABEL_NAMES:
        pattern, words, longest = _LABEL, LABEL_WORDS, 63
    else:
        pattern, words, longest = _SUBDOMAIN, SUBDOMAIN_WORDS, 253
    if pattern.fullmatch(name) is None:
        yield invalid_value("metadata.name", name, words)
    elif len(name) > longest:
        yield invalid_value("metadata.name", name, f"must be no more than {longest} bytes")


def _check_key(where: str, key: str) -> Findings:
    prefix, slash, name = key.rpartition("/")
    if (slash and _SUBDOMAIN.fullmatch(prefix) is None) or _QUALIFIED.fullmatch(name) is None or len(name) > 63:
        words = (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )
        yield invalid_value(where, key, words)


# -- built-in kinds ---------------------------------------------------------------------------------


def _below(value: Json, *path: str) -> Json:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _check_pod_spec(spec: Json, path: str, claims: Json = ()) -> Findings:
    """Check a pod template. `claims`: a StatefulSet's claim templates, which are volumes too."""
    volumes = {_below(volume, "name") for volume in _below(spec, "volumes") or ()}
    volumes |= {_below(claim, "metadata", "name") for claim in claims or ()}
    containers = _below(spec, "containers")
    if not containers:
        yield required(f"{path}.containers")
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(_below(spec, kind) or ()):
            here = f"{path}.{kind}[{index}]"
            if not container.get("name"):
                yield required(f"{here}.name")
            elif _LABEL.fullmatch(container["name"]) is None:
                yield invalid_value(f"{here}.name", container["name"], LABEL_WORDS)
            if not container.get("image"):
                yield required(f"{here}.image")
            for at, mount in enumerate(container.get("volumeMounts") or ()):
                if mount.get("name") not in volumes:
                    where = f"{here}.volumeMounts[{at}].name"
                    yield Cause("FieldValueNotFound", where, f'Not found: "{mount.get("name")}"')


def _check_workload(value: Json) -> Findings:
    spec = value.get("spec") or {}
    if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0:
        yield invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    selector = spec.get("selector")
    labels = _below(spec, "template", "metadata", "labels") or {}
    if not selector:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid_value("spec.selector", selector, "empty selector is invalid for deployment")
    if not selector or not matches_selector(selector, labels):
        why = "`selector` does not match template `labels`"
        yield invalid_value("spec.template.metadata.labels", labels or None, why)
    template = _below(spec, "template", "spec") or {}
    yield from _check_pod_spec(template, "spec.template.spec", spec.get("volumeClaimTemplates"))


def _check_job(value: Json) -> Findings:
    spec = _below(value, "spec", "template", "spec") or {}
    yield from _check_pod_spec(spec, "spec.template.spec")
    if spec.get("restartPolicy") not in ("OnFailure", "Never"):
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')


def _check_cron_job(value: Json) -> Findings:
    spec = value.get("spec") or {}
    schedule = spec.get("schedule") or ""
    if not schedule:
        yield required("spec.schedule")
    elif not schedule.startswith("@") and len(schedule.split()) != 5:
        why = f"expected exactly 5 fields, found {len(schedule.split())}: {schedule.split()}"
        yield invalid_value("spec.schedule", schedule, why)
    pod = _below(spec, "jobTemplate", "spec", "template", "spec") or {}
    yield from _check_pod_spec(pod, "spec.jobTemplate.spec.template.spec")


def _check_pod(value: Json) -> Findings:
    yield from _check_pod_spec(value.get("spec") or {}, "spec")


def _check_service(value: Json) -> Findings:
    spec = value.get("spec") or {}
    if spec.get("type") not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        yield not_supported("spec.type", spec.get("type"), ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    headless = spec.get("clusterIP") == "None"
    if not spec.get("ports") and spec.get("type") != "ExternalName" and not headless:
        yield required("spec.ports")
    for index, port in enumerate(spec.get("ports") or ()):
        if not isinstance(port.get("port"), int) or not 0 < port["port"] < 65536:
            yield invalid_value(
                f"spec.ports[{index}].port", port.get("port") or 0, "must be between 1 and 65535, inclusive"
            )
        if not port.get("name") and len(spec["ports"]) > 1:
            yield required(f"spec.ports[{index}].name")


def _check_config_map(value: Json) -> Findings:
    for name in ("data", "binaryData"):
        for key in value.get(name) or {}:
            if _CONFIG_KEY.fullmatch(key) is None or len(key) > 253:
                why = (
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                )
                yield invalid_value(f"{name}[{key}]", key, why)


def _check_ingress(value: Json) -> Findings:
    for at, rule in enumerate(_below(value, "spec", "rules") or ()):
        for index, path in enumerate(_below(rule, "http", "paths") or ()):
            here = f"spec.rules[{at}].http.paths[{index}].pathType"
            if not path.get("pathType"):
                yield required(here, "pathType must be specified")
            elif path["pathType"] not in ("Exact", "Prefix", "ImplementationSpecific"):
                yield not_supported(here, path["pathType"], ("Exact", "ImplementationSpecific", "Prefix"))


def _check_role_binding(value: Json) -> Findings:
    if not _below(value, "roleRef", "name"):
        yield required("roleRef.name")
    if _below(value, "roleRef", "kind") not in ("Role", "ClusterRole"):
        yield not_supported("roleRef.kind", _below(value, "roleRef", "kind") or "", ("Role", "ClusterRole"))


def _check_autoscaler(value: Json) -> Findings:
    if not isinstance(_below(value, "spec", "maxReplicas"), int) or _below(value, "spec", "maxReplicas") < 1:
        yield invalid_value("spec.maxReplicas", _below(value, "spec", "maxReplicas") or 0, "must be greater than 0")
    for key in ("kind", "name"):
        if not _below(value, "spec", "scaleTargetRef", key):
            yield required(f"spec.scaleTargetRef.{key}")


def _check_claim(value: Json) -> Findings:
    if not _below(value, "spec", "accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    if not _below(value, "spec", "resources", "requests", "storage"):
        yield required("spec.resources[storage]")


_CHECKS: Final[Mapping[tuple[str, str], Callable[[Json], Findings]]] = {
    ("", "configmaps"): _check_config_map,
    ("", "secrets"): _check_config_map,
    ("", "services"): _check_service,
    ("", "pods"): _check_pod,
    ("", "persistentvolumeclaims"): _check_claim,
    ("apps", "deployments"): _check_workload,
    ("apps", "statefulsets"): _check_workload,
    ("apps", "daemonsets"): _check_workload,
    ("apps", "replicasets"): _check_workload,
    ("batch", "jobs"): _check_job,
    ("batch", "cronjobs"): _check_cron_job,
    ("networking.k8s.io", "ingresses"): _check_ingress,
    ("rbac.authorization.k8s.io", "rolebindings"): _check_role_binding,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _check_role_binding,
    ("autoscaling", "horizontalpodautoscalers"): _check_autoscaler,
}

_IMMUTABLE: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("apps", "deployments"): ("spec.selector",),
    ("apps", "daemonsets"): ("spec.selector",),
    ("apps", "replicasets"): ("spec.selector",),
    ("apps", "statefulsets"): (
        "spec.selector",
        "spec.volumeClaimTemplates",
        "spec.serviceName",
        "spec.podManagementPolicy",
    ),
    ("batch", "jobs"): ("spec.completions", "spec.selector", "spec.template", "spec.completionMode"),
    ("", "secrets"): ("type",),
    ("storage.k8s.io", "storageclasses"): ("provisioner", "reclaimPolicy", "volumeBindingMode", "parameters"),
    ("rbac.authorization.k8s.io", "rolebindings"): ("roleRef",),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): ("roleRef",),
    ("scheduling.k8s.io", "priorityclasses"): ("value", "preemptionPolicy"),
    ("discovery.k8s.io", "endpointslices"): ("addressType",),
}


def check_changes(resource: Resource, old: Json, new: Json) -> Findings:
    """Check what must not change from one version of an object to the next."""
    for path in _IMMUTABLE.get(resource.table, ()):
        parts = path.split(".")
        if not same(_below(old, *parts), _below(new, *parts)):
            yield invalid_value(path, _below(new, *parts), "field is immutable")
    if resource.table == ("", "services"):
        before, after = _below(old, "spec", "clusterIP"), _below(new, "spec", "clusterIP")
        kinds = {_below(old, "spec", "type"), _below(new, "spec", "type")}
        if before and before != after and "ExternalName" not in kinds:
            why = "may not change once set"
            yield invalid_value("spec.clusterIPs[0]", [after] if after else None, why)
    if resource.table in (("", "configmaps"), ("", "secrets")) and old.get("immutable"):
        for key in ("data", "binaryData"):
            if not same(old.get(key), new.get(key)):
                yield forbidden_value(key, "field is immutable when `immutable` is set")
        if not new.get("immutable"):
            yield forbidden_value("immutable", "field is immutable when `immutable` is set")
    if resource.table == ("", "persistentvolumeclaims"):
        yield from _check_claim_change(old, new)


def _check_claim_change(old: Json, new: Json) -> Findings:
    before = {key: item for key, item in (old.get("spec") or {}).items() if key not in ("resources", "volumeName")}
    after = {key: item for key, item in (new.get("spec") or {}).items() if key not in ("resources", "volumeName")}
    if not same(before, after):
        why = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        yield forbidden_value("spec", why)


# -- all --------------------------------------------------------------------------------------------


def check(resource: Resource, value: Json, old: Json | None) -> list[Cause]:
    """Judge a whole object, and what changed against `old`."""
    findings = list(check_metadata(resource, value))
    if resource.custom:
        findings += _check_schema(resource.shape, value, "")
    else:
        checker = _CHECKS.get(resource.table)
        if checker is not None:
            findings += checker(value)
    if old is not None:
        findings += check_changes(resource, old, value)
    return findings


def _check_schema(shape: Shape, value: Json, path: str) -> Findings:
    schema = shape.schema
    if value is None:
        if path and not schema.get("nullable") and shape.kind != "any":
            yield wrong_type(path, value, str(schema.get("type", "object")))
        return
    if shape.kind == "scalar":
        yield from _check_scalar(shape, value, path)
    elif shape.kind == "list":
        if not isinstance(value, list):
            yield wrong_type(path, value, "array")
            return
        yield from _check_length(schema, len(value), path, "Items")
        for index, item in enumerate(value):
            yield from _check_schema(shape.element or shape, item, f"{path}[{index}]")
    elif shape.kind in ("struct", "dict"):
        if not isinstance(value, dict):
            yield wrong_type(path, value, "object")
            return
        yield from _check_length(schema, len(value), path, "Properties")
        for name in shape.required:
            if name not in value:
                yield required(f"{path}.{name}" if path else name)
        for key, item in sorted(value.items()):
            if not path and key in ("apiVersion", "kind", "metadata"):
                continue
            child = shape.child(key)
            if child is not None:
                yield from _check_schema(child, item, f"{path}.{key}" if path else key)


def _check_length(schema: Mapping[str, Json], size: int, path: str, unit: str) -> Findings:
    if size > schema.get(f"max{unit}", size):
        yield Cause("FieldValueTooMany", path, f"Too many: {size}: must have at most {schema[f'max{unit}']} items")
    if size < schema.get(f"min{unit}", size):
        yield invalid_value(path, size, f"{path} in body should have at least {schema[f'min{unit}']} items")


def _check_scalar(shape: Shape, value: Json, path: str) -> Findings:
    schema = shape.schema
    names = {"s": "string", "i": "integer", "n": "number", "b": "boolean"}
    if scalar_problem(shape.scalar, value) or (shape.scalar == "i" and isinstance(value, float)):
        yield wrong_type(path, value, names.get(shape.scalar, "string"))
        return
    if "enum" in schema and value not in schema["enum"]:
        yield not_supported(path, value, [str(item) for item in schema["enum"]])
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            yield Cause("FieldValueTooLong", path, f"Too long: may not be more than {schema['maxLength']} bytes")
        if len(value) < schema.get("minLength", len(value)):
            why = f"{path} in body should be at least {schema['minLength']} chars long"
            yield invalid_value(path, value, why)
        if "pattern" in schema and re.search(schema["pattern"], value) is None:
            yield invalid_value(path, value, f"{path} in body should match '{schema['pattern']}'")
    elif isinstance(value, int | float):
        if value < schema.get("minimum", value):
            why = f"{path} in body should be greater than or equal to {schema['minimum']}"
            yield invalid_value(path, value, why)
        if value > schema.get("maximum", value):
            yield invalid_value(path, value, f"{path} in body should be less than or equal to {schema['maximum']}")
