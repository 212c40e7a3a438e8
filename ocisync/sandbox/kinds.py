"""The table of served kinds: built-in ones here, custom ones added by `crds.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ocisync.sandbox.shapes import Json, Shape, builtin_shapes

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CUSTOM_VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One served resource in one version."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    shape: Shape
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False  # has a status subresource
    scale: bool = False
    scale_paths: tuple[str, str, str] = (".spec.replicas", ".status.replicas", ".status.selector")
    counts_generation: bool = False
    custom: bool = False
    list_kind: str = ""
    selectable: dict[str, Callable[[Json], str]] = field(default_factory=dict)

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def table(self) -> tuple[str, str]:
        """Key of the storage, shared by all versions, and by the two faces of Event."""
        return ("", "events") if self.group == "events.k8s.io" else (self.group, self.plural)

    @property
    def qualified(self) -> str:
        """`plural.group`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def at(path: str) -> Callable[[Json], str]:
    """Return a reader of a dotted path that gives text, empty when missing."""
    parts = path.strip(".").split(".")

    def read(value: Json) -> str:
        for part in parts:
            if not isinstance(value, dict):
                return ""
            value = value.get(part)
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return read


# group/version | kind plural short-names flags; flags: c cluster-scoped, s status, x scale, g generation
_TABLE: Final = """
v1 | Namespace namespaces ns cs
v1 | ConfigMap configmaps cm -
v1 | Secret secrets - -
v1 | Service services svc s
v1 | ServiceAccount serviceaccounts sa -
v1 | Pod pods po sg
v1 | Event events ev -
v1 | PersistentVolumeClaim persistentvolumeclaims pvc s
v1 | PersistentVolume persistentvolumes pv cs
v1 | Node nodes no cs
v1 | Endpoints endpoints ep -
v1 | ResourceQuota resourcequotas quota s
v1 | LimitRange limitranges limits -
v1 | ReplicationController replicationcontrollers rc sxg
v1 | PodTemplate podtemplates - -
apps/v1 | Deployment deployments deploy sxg
apps/v1 | StatefulSet statefulsets sts sxg
apps/v1 | DaemonSet daemonsets ds sg
apps/v1 | ReplicaSet replicasets rs sxg
apps/v1 | ControllerRevision controllerrevisions - -
batch/v1 | Job jobs - sg
batch/v1 | CronJob cronjobs cj sg
autoscaling/v2 | HorizontalPodAutoscaler horizontalpodautoscalers hpa sg
policy/v1 | PodDisruptionBudget poddisruptionbudgets pdb sg
networking.k8s.io/v1 | Ingress ingresses ing sg
networking.k8s.io/v1 | IngressClass ingressclasses - cg
networking.k8s.io/v1 | NetworkPolicy networkpolicies netpol g
discovery.k8s.io/v1 | EndpointSlice endpointslices - g
events.k8s.io/v1 | Event events ev -
rbac.authorization.k8s.io/v1 | Role roles - -
rbac.authorization.k8s.io/v1 | RoleBinding rolebindings - -
rbac.authorization.k8s.io/v1 | ClusterRole clusterroles - c
rbac.authorization.k8s.io/v1 | ClusterRoleBinding clusterrolebindings - c
storage.k8s.io/v1 | StorageClass storageclasses sc c
storage.k8s.io/v1 | CSIDriver csidrivers - c
storage.k8s.io/v1 | CSINode csinodes - c
storage.k8s.io/v1 | VolumeAttachment volumeattachments - cs
scheduling.k8s.io/v1 | PriorityClass priorityclasses pc cg
coordination.k8s.io/v1 | Lease leases - -
admissionregistration.k8s.io/v1 | ValidatingWebhookConfiguration validatingwebhookconfigurations - cg
admissionregistration.k8s.io/v1 | MutatingWebhookConfiguration mutatingwebhookconfigurations - cg
admissionregistration.k8s.io/v1 | ValidatingAdmissionPolicy validatingadmissionpolicies - csg
admissionregistration.k8s.io/v1 | ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings - cg
apiextensions.k8s.io/v1 | CustomResourceDefinition customresourcedefinitions crd,crds csg
"""

_SELECTABLE: Final = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "reason",
        "source",
        "type",
    ),
    "namespaces": ("status.phase",),
    "secrets": ("type",),
    "nodes": ("spec.unschedulable",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets": ("status.replicas",),
    "jobs": ("status.successful",),
}
_IN_ALL: Final = frozenset(
    ("pods", "services", "deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs")
)


def builtin_resources() -> tuple[Resource, ...]:
    """Return every built-in resource."""
    shapes = builtin_shapes()
    made: list[Resource] = []
    for line in _TABLE.strip().splitlines():
        api_version, rest = line.split(" | ")
        kind, plural, short, flags = rest.split()
        group, _, version = api_version.rpartition("/")
        names = ("metadata.name",) if "c" in flags else ("metadata.name", "metadata.namespace")
        fields = (*names, *_SELECTABLE.get(plural, ()))
        made.append(
            Resource(
                group,
                version,
                kind,
                plural,
                namespaced="c" not in flags,
                shape=shapes[f"{api_version}/{kind}"],
                singular=kind.lower(),
                short_names=tuple(short.split(",")) if short != "-" else (),
                categories=("all",) if plural in _IN_ALL else (),
                status="s" in flags,
                scale="x" in flags,
                counts_generation="g" in flags,
                list_kind=f"{kind}List",
                selectable={name: at(name) for name in fields},
            )
        )
    return tuple(made)


class Catalog:
    """What is served now. Swapped as a whole when a CRD comes or goes, so readers need no lock."""

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        """Index resources by path and by kind; the first version of a group is its preferred one."""
        self.resources = resources
        self._by_path = {(item.group, item.version, item.plural): item for item in resources}
        self._by_kind = {(item.group, item.version, item.kind): item for item in resources}
        self._by_table: dict[tuple[str, str], Resource] = {}
        for item in resources:
            self._by_table.setdefault(item.table, item)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Find by request path."""
        return self._by_path.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """Find by apiVersion and kind."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def of_table(self, table: tuple[str, str]) -> Resource | None:
        """Find any version by storage key."""
        return self._by_table.get(table)

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Return group -> version -> resources, in table order."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for item in self.resources:
            found.setdefault(item.group, {}).setdefault(item.version, []).append(item)
        return found
