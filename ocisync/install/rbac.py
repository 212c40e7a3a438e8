"""Who may do what, told truthfully.

The agent itself reads (get, list, watch) and writes only its own bookkeeping. Every write to a user's object is made as
the sync's service account; the right to act as it is granted per namespace and by name, because a cluster-wide right
to impersonate is the right to read every Secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP

AGENT_NAME = "ocisync-agent"
_READ = ["get", "list", "watch"]
_LABELS = {"app.kubernetes.io/name": "ocisync"}

# The core kinds an artifact usually holds, Secrets apart; used when Secrets shall not be readable.
_CORE_WITHOUT_SECRETS = [
    "configmaps", "endpoints", "limitranges", "namespaces", "persistentvolumeclaims", "persistentvolumes", "pods",
    "replicationcontrollers", "resourcequotas", "serviceaccounts", "services",
]  # fmt: skip
_BUILT_IN_GROUPS = [
    "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "autoscaling", "batch",
    "coordination.k8s.io", "discovery.k8s.io", "gateway.networking.k8s.io", "networking.k8s.io", "node.k8s.io",
    "policy", "rbac.authorization.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """What an installation allows the agent.

    Attributes:
        watch_kinds: `resource.group` names to read; empty: everything.
        read_secrets: whether Secrets outside the agent's namespace can be read (drift of Secrets needs it).
        impersonate: `namespace/name` of service accounts it may act as.
        cluster_admin: may do anything; for clusters with one team.
    """

    watch_kinds: tuple[str, ...] = ()
    read_secrets: bool = True
    impersonate: tuple[str, ...] = ()
    cluster_admin: bool = False


def _named(
    kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None, **body: object
) -> JsonObject:
    metadata: JsonObject = {"name": name, "labels": {**_LABELS, **(labels or {})}}
    if namespace:
        metadata["namespace"] = namespace
    version = "v1" if kind == "ServiceAccount" else "rbac.authorization.k8s.io/v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def _rule(groups: list[str], resources: list[str], verbs: list[str], names: list[str] | None = None) -> JsonObject:
    out: JsonObject = {"apiGroups": groups, "resources": resources, "verbs": verbs}
    if names:
        out["resourceNames"] = names
    return out


def _binding(kind: str, name: str, role_kind: str, role: str, agent_namespace: str, namespace: str = "") -> JsonObject:
    return _named(
        kind,
        name,
        namespace,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        subjects=[{"kind": "ServiceAccount", "name": AGENT_NAME, "namespace": agent_namespace}],
    )


def _read_rules(access: Access) -> list[JsonObject]:
    if access.watch_kinds:
        by_group: dict[str, list[str]] = {}
        for kind in access.watch_kinds:
            resource, _, group = kind.partition(".")
            by_group.setdefault(group, []).append(resource)
        return [_rule([group], sorted(resources), _READ) for group, resources in sorted(by_group.items())]
    if access.read_secrets:
        return [_rule(["*"], ["*"], _READ)]
    return [_rule([""], _CORE_WITHOUT_SECRETS, _READ), _rule(_BUILT_IN_GROUPS, ["*"], _READ)]


def _impersonation(access: Access, agent_namespace: str) -> list[JsonObject]:
    by_namespace: dict[str, list[str]] = {}
    for account in access.impersonate:
        namespace, _, name = account.partition("/")
        by_namespace.setdefault(namespace, []).append(name)
    out: list[JsonObject] = []
    for namespace, names in sorted(by_namespace.items()):
        rule = _rule([""], ["serviceaccounts"], ["impersonate"], sorted(names))
        out.append(_named("Role", f"{AGENT_NAME}-impersonate", namespace, rules=[rule]))
        out.append(
            _binding(
                "RoleBinding",
                f"{AGENT_NAME}-impersonate",
                "Role",
                f"{AGENT_NAME}-impersonate",
                agent_namespace,
                namespace,
            )
        )
    return out


def objects(agent_namespace: str, access: Access) -> list[JsonObject]:
    """Service account, roles and bindings of the agent, and the roles for people."""
    own_rules = [
        _rule([API_GROUP], ["artifactsyncs", "trustpolicies"], _READ),
        _rule([API_GROUP], ["artifactsyncs"], ["patch", "update"]),  # finalizer, ApplySet labels
        _rule(
            [API_GROUP],
            ["artifactsyncs/status", "trustpolicies/status", "artifactsyncs/finalizers"],
            ["patch", "update"],
        ),
        _rule(["", "events.k8s.io"], ["events"], ["create", "patch"]),
    ]
    bookkeeping = [
        _rule([""], ["configmaps"], ["get", "list", "watch", "create", "update", "patch", "delete"]),
        _rule([""], ["secrets"], _READ),  # public keys of policies
        _rule(["coordination.k8s.io"], ["leases"], ["create"]),  # a right to create can't be bound to a name
        _rule(["coordination.k8s.io"], ["leases"], ["get", "watch", "update"], [AGENT_NAME]),
    ]
    people = [
        _named("ClusterRole", "ocisync-policy-admin", rules=[_rule([API_GROUP], ["trustpolicies"], ["*"])]),
        _named(
            "ClusterRole",
            "ocisync-sync-editor",
            labels={
                "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                "rbac.authorization.k8s.io/aggregate-to-edit": "true",
            },
            rules=[
                _rule([API_GROUP], ["artifactsyncs"], ["get", "list", "watch", "create", "update", "patch", "delete"])
            ],
        ),
        _named(
            "ClusterRole",
            "ocisync-viewer",
            labels={"rbac.authorization.k8s.io/aggregate-to-view": "true"},
            rules=[_rule([API_GROUP], ["artifactsyncs", "artifactsyncs/status"], _READ)],
        ),
    ]
    agent = [
        _named("ServiceAccount", AGENT_NAME, agent_namespace),
        _named("ClusterRole", AGENT_NAME, rules=own_rules),
        _binding("ClusterRoleBinding", AGENT_NAME, "ClusterRole", AGENT_NAME, agent_namespace),
        _named("ClusterRole", f"{AGENT_NAME}-reader", rules=_read_rules(access)),
        _binding("ClusterRoleBinding", f"{AGENT_NAME}-reader", "ClusterRole", f"{AGENT_NAME}-reader", agent_namespace),
        _named("Role", AGENT_NAME, agent_namespace, rules=bookkeeping),
        _binding("RoleBinding", AGENT_NAME, "Role", AGENT_NAME, agent_namespace, agent_namespace),
        *_impersonation(access, agent_namespace),
    ]
    if access.cluster_admin:
        agent.append(
            _binding(
                "ClusterRoleBinding", f"{AGENT_NAME}-cluster-admin", "ClusterRole", "cluster-admin", agent_namespace
            )
        )
    return [*agent, *people]
