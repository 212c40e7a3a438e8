"""Make `ocisync/sandbox/builtin.json` from the OpenAPI v2 document of Kubernetes.

    python tests/assets/make_builtin_schema.py SWAGGER.json > ocisync/sandbox/builtin.json

SWAGGER.json is `api/openapi-spec/swagger.json` of the Kubernetes source tree (Apache-2.0), or what a running API server
answers under `/openapi/v2`. Only the shape is kept: field names, types, required fields, list and map merge rules,
key defaults. Descriptions are dropped. Two levels of short keys keep the result small enough to load in milliseconds:

    kinds: "group/version/Kind" -> definition name
    defs:  name -> {"p": {field: type}, "r": [required], "m": "atomic"?}
    type:  "s" string, "i" integer, "n" number, "b" boolean, "q" quantity, "x" int-or-string, "t" time, "*" anything, or
           {"$": definition, "a": true?}                      reference ("a": atomic map)
           {"l": type, "t": atomic|set|map, "k": [keys], "pk": merge key, "ps": merge of a list of scalars?}   list
           {"d": type, "a": true?}                            map with free keys
           {"v": default, "y": type}                          a list key with a default
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KINDS = """
v1 Namespace ConfigMap Secret Service ServiceAccount Pod Event PersistentVolumeClaim PersistentVolume Node Endpoints
v1 ResourceQuota LimitRange ReplicationController PodTemplate
apps/v1 Deployment StatefulSet DaemonSet ReplicaSet ControllerRevision
batch/v1 Job CronJob
autoscaling/v1 HorizontalPodAutoscaler Scale
autoscaling/v2 HorizontalPodAutoscaler
policy/v1 PodDisruptionBudget Eviction
networking.k8s.io/v1 Ingress IngressClass NetworkPolicy
discovery.k8s.io/v1 EndpointSlice
events.k8s.io/v1 Event
rbac.authorization.k8s.io/v1 Role RoleBinding ClusterRole ClusterRoleBinding
storage.k8s.io/v1 StorageClass CSIDriver CSINode VolumeAttachment
scheduling.k8s.io/v1 PriorityClass
coordination.k8s.io/v1 Lease
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration MutatingWebhookConfiguration
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
apiextensions.k8s.io/v1 CustomResourceDefinition
"""

SCALARS = {"string": "s", "integer": "i", "number": "n", "boolean": "b"}
SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "x",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "*",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "*",
}


# The static document lacks these defaults, which the server's own has; they are part of list keys.
KEY_DEFAULTS = {
    "io.k8s.api.core.v1.ContainerPort": {"protocol": "TCP"},
    "io.k8s.api.core.v1.ServicePort": {"protocol": "TCP"},
}


class Compactor:
    """Collects the definitions that the wanted kinds reach."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.source: dict[str, Any] = document["definitions"]
        self.defs: dict[str, Any] = {}

    def define(self, name: str) -> None:
        """Compact one definition and, through its fields, all that it reaches."""
        if name in self.defs:
            return
        spec = self.source[name]
        made: dict[str, Any] = {}
        self.defs[name] = made
        made["p"] = {field: self.type_of(sub) for field, sub in sorted(spec.get("properties", {}).items())}
        for field, value in KEY_DEFAULTS.get(name, {}).items():
            made["p"][field] = {"v": value, "y": "s"}
        if spec.get("required"):
            made["r"] = spec["required"]
        if spec.get("x-kubernetes-map-type") == "atomic":
            made["m"] = "atomic"

    def type_of(self, spec: dict[str, Any]) -> Any:
        """Compact the type of a field."""
        made = self.plain_type_of(spec)
        if "default" in spec and isinstance(made, str) and spec["default"] not in ("", {}):
            return {"v": spec["default"], "y": made}
        return made

    def plain_type_of(self, spec: dict[str, Any]) -> Any:
        atomic = {"a": True} if spec.get("x-kubernetes-map-type") == "atomic" else {}
        if "$ref" in spec:
            name = spec["$ref"].removeprefix("#/definitions/")
            if name in SPECIAL:
                return SPECIAL[name]
            target = self.source[name]
            if not target.get("properties"):
                return SCALARS.get(target.get("type", ""), "*")
            self.define(name)
            return {"$": name} | atomic
        if spec.get("type") == "array":
            return self.list_of(spec)
        if spec.get("type") == "object":
            if isinstance(spec.get("additionalProperties"), dict):
                return {"d": self.type_of(spec["additionalProperties"])} | atomic
            return "*"
        return SCALARS.get(spec.get("type", ""), "*")

    def list_of(self, spec: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {"l": self.type_of(spec["items"]), "t": spec.get("x-kubernetes-list-type", "")}
        keys = spec.get("x-kubernetes-list-map-keys")
        merge_key = spec.get("x-kubernetes-patch-merge-key")
        merges = "merge" in spec.get("x-kubernetes-patch-strategy", "").split(",")
        if not made["t"]:
            made["t"] = ("map" if merge_key else "set") if merges else "atomic"
        if made["t"] == "map":
            made["k"] = keys or [merge_key]
        if merges and merge_key:
            made["pk"] = merge_key
        elif merges:
            made["ps"] = True
        return made


def compact(document: dict[str, Any]) -> str:
    """Return the compact schema of an OpenAPI v2 document."""
    compactor = Compactor(document)
    by_gvk = {
        "/".join(filter(None, (gvk["group"], gvk["version"], gvk["kind"]))): name
        for name, spec in compactor.source.items()
        for gvk in spec.get("x-kubernetes-group-version-kind", [])
    }
    kinds: dict[str, str] = {}
    for line in KINDS.strip().splitlines():
        version, *names = line.split()
        for kind in names:
            key = f"{version}/{kind}"
            kinds[key] = by_gvk[key]
            compactor.define(by_gvk[key])
    short = shorten(sorted(compactor.defs))
    text = json.dumps({"kinds": kinds, "defs": compactor.defs}, separators=(",", ":"), sort_keys=True)
    for name in sorted(short, key=len, reverse=True):
        text = text.replace(f'"{name}"', f'"{short[name]}"')
    # One definition a line keeps a change readable in a diff.
    return text.replace('},"', '},\n"') + "\n"


def main() -> None:
    """Write the compact schema to standard output."""
    sys.stdout.write(compact(json.loads(Path(sys.argv[1]).read_text())))


def shorten(names: list[str]) -> dict[str, str]:
    """Give each definition its last part as name, with its version and group where two would clash."""
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        parts = name.split(".")
        candidate = next(c for size in range(1, len(parts) + 1) if (c := "D:" + ".".join(parts[-size:])) not in taken)
        taken.add(candidate)
        result[name] = candidate
    return result


if __name__ == "__main__":
    main()
