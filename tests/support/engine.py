"""The write engine on a cluster, as a test drives it: one call for each pass, objects as dictionaries."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ocisync.cluster.apply import Action
from ocisync.cluster.client import APPLY_PATCH, JSON, MERGE_PATCH, Cluster, connect
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.engine import ApplyReport, Engine, Settings
from ocisync.cluster.guard import Guard
from ocisync.cluster.inventory import Term
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Target, applyset_id
from ocisync.install import rbac
from ocisync.install.crds import artifact_sync
from ocisync.install.rbac import AGENT_NAME, Access
from ocisync.kit.stop import StopToken
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId, gvk_of, id_of
from tests.support.cluster import Cluster as AdminCluster
from tests.support.cluster import write_kubeconfig
from tests.support.waiting import eventually

GENEROUS = Guard(max_prune="100%", protect=())
OWNER = "owner"  # the service account that an installed engine acts as: it may do anything, the agent itself may not
LIMITED = "deployer"  # another one, without any right but those that a test gives it


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and go on."""


@dataclass
class EngineDriver:
    """A sync of its own in a namespace of its own, and the engine that serves it.

    `agent` is the engine's connection where it runs as it is installed, and `kubeconfig` says how to make another one
    of these; everybody else's requests go over `kube`.
    """

    kube: Cluster
    namespace: str
    agent_namespace: str
    stop: StopToken = field(default_factory=StopToken)
    target: Target = field(init=False)
    term: Callable[[], Term | None] | None = None
    agent: Cluster | None = None
    kubeconfig: Path = Path()

    def __post_init__(self) -> None:
        name = f"sync-{secrets.token_hex(3)}"
        account = OWNER if self.agent is not None else ""
        self.target = Target(applyset_id(name, self.namespace), name, self.namespace, "", account)  # see `with_parent`
        self.discovery = Discovery(self.own)

    @property
    def own(self) -> Cluster:
        """The connection of what is under test: the installed agent's, or `kube` where nobody is installed."""
        return self.agent or self.kube

    def engine(self, hook: Callable[[str], None] | None = None) -> Engine:
        return Engine(
            self.own,
            self.discovery,
            agent_namespace=self.agent_namespace,
            holder="test",
            version="0.0.1",
            stop=self.stop,
            hook=hook,
            term=self.term,
        )

    def sync(
        self,
        *objects: JsonObject,
        digest: str = "sha256:one",
        hook: Callable[[str], None] | None = None,
        on_applied: Callable[[ObjectId, Applied], None] | None = None,
        on_deleting: Callable[[tuple[ObjectId, ...]], None] | None = None,
        previous: Callable[[ObjectId], Applied | None] | None = None,
        **settings: Any,
    ) -> ApplyReport:
        """One full pass over these objects."""
        engine = self.engine(hook)
        chosen = replace(Settings(digest=digest, guard=GENEROUS), **settings)
        prepared = engine.prepare([manifest(obj) for obj in objects], self.target)
        store = engine.inventory(self.target)
        plan = engine.plan(prepared, self.target, store, chosen)
        return engine.execute(
            plan, prepared, self.target, store, chosen,
            on_applied=on_applied, on_deleting=on_deleting, previous=previous,
        )  # fmt: skip

    def owned(self) -> list[str]:
        """Names in the inventory, as the cluster has it."""
        return sorted(id_.name for id_ in self.engine().inventory(self.target).entries)

    def other(self) -> EngineDriver:
        """Another sync in the same namespaces."""
        return EngineDriver(
            self.kube, self.namespace, self.agent_namespace, agent=self.agent, kubeconfig=self.kubeconfig
        )

    def with_parent(self) -> None:
        """Give the sync its `ArtifactSync`, with the definition that installations have."""
        definition = artifact_sync()
        name = definition["metadata"]["name"]
        self._checked(
            "PATCH",
            self.path("CustomResourceDefinition", name, "apiextensions.k8s.io", ""),
            definition,
            APPLY_PATCH,
            (("fieldManager", "install"), ("force", "true")),
        )
        eventually(lambda: self.discovery.find("ocisync.dev", "ArtifactSync") is not None, what="the definition")
        sync = {
            "apiVersion": "ocisync.dev/v1alpha1", "kind": "ArtifactSync", "metadata": {"name": self.target.sync_name},
            "spec": {"source": {"repository": "localhost/test", "tag": "x"}},
        }  # fmt: skip
        uid = str(self.create_as("test", sync)["metadata"]["uid"])
        self.target = replace(self.target, sync_uid=uid)

    def config_map(self, name: str, **data: str) -> JsonObject:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data or {"key": "value"}}

    def path(self, kind: str, name: str, group: str = "", namespace: str | None = None) -> str:
        resource = self.discovery.resource(group, kind)
        return resource.path(self.namespace if namespace is None else namespace, name)

    def live(self, kind: str, name: str, group: str = "", namespace: str | None = None) -> JsonObject | None:
        """The object as the cluster has it; None if it does not."""
        response = self.kube.request("GET", self.path(kind, name, group, namespace))
        if response.status == 404:
            return None
        found: JsonObject = json.loads(response.body)
        assert response.status == 200, found
        return found

    def must(self, kind: str, name: str, group: str = "", namespace: str | None = None) -> JsonObject:
        found = self.live(kind, name, group, namespace)
        assert found is not None, f"{kind} {name} is missing"
        return found

    def write_as(self, manager: str, kind: str, name: str, change: JsonObject, group: str = "") -> JsonObject:
        """A merge patch by another field manager."""
        return self._checked("PATCH", self.path(kind, name, group), change, MERGE_PATCH, (("fieldManager", manager),))

    def create_as(self, manager: str, obj: JsonObject) -> JsonObject:
        """A create (operation Update in managedFields) by another field manager."""
        path = self.path(str(obj["kind"]), "", gvk_of(obj).group)
        return self._checked("POST", path, obj, JSON, (("fieldManager", manager),))

    def apply_as(self, manager: str, obj: JsonObject) -> JsonObject:
        """A forced server-side apply by another field manager."""
        path = self.path(str(obj["kind"]), str(obj["metadata"]["name"]), gvk_of(obj).group)
        return self._checked("PATCH", path, obj, APPLY_PATCH, (("fieldManager", manager), ("force", "true")))

    def delete(self, kind: str, name: str, group: str = "", namespace: str | None = None) -> None:
        response = self.kube.request("DELETE", self.path(kind, name, group, namespace))
        assert response.status in (200, 202, 404), response.body

    def managers(self, kind: str, name: str, group: str = "") -> list[tuple[str, str]]:
        entries = self.must(kind, name, group)["metadata"].get("managedFields") or []
        return [(entry["manager"], entry["operation"]) for entry in entries]

    def _checked(
        self, method: str, path: str, body: JsonObject, content_type: str, query: tuple[tuple[str, str], ...]
    ) -> JsonObject:
        data = json.dumps(body).encode()
        response = self.kube.request(method, path, query=query, body=data, content_type=content_type)
        answer: JsonObject = json.loads(response.body)
        assert response.status < 300, answer
        return answer


def manifest(obj: Mapping[str, Any]) -> ManifestObject:
    """An object as the manifests stage hands it over."""
    return ManifestObject(id_of(obj), gvk_of(obj), dict(obj), "test.yaml", 1)


def actions(report: ApplyReport) -> dict[str, Action]:
    """Name → action."""
    return {result.id.name: result.action for result in report.results}


def failure_of(report: ApplyReport, name: str) -> str:
    """`Class Reason: message` of an object's failure; empty if it has none."""
    for result in report.results:
        if result.id.name == name and result.failure is not None:
            return f"{result.failure.error_class} {result.failure.reason}: {result.failure.message}"
    return ""


@contextlib.contextmanager
def driver(kubeconfig: Path, prefix: str = "engine", *, installed: Path | None = None) -> Iterator[EngineDriver]:
    """A driver with two fresh namespaces on a cluster.

    `installed`: a directory for its kubeconfig; the engine then is the installed ServiceAccount and impersonates.
    """
    kube = connect(str(kubeconfig), user_agent="ocisync/test")
    names = [f"{prefix}-{secrets.token_hex(4)}" for _ in range(2)]
    agent, path = None, kubeconfig
    try:
        kube.request("GET", "/version")  # a connection: one that comes late is tried again for a read only
        for name in names:
            body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).encode()
            response = kube.request("POST", "/api/v1/namespaces", body=body, content_type=JSON)
            assert response.status == 201, response.body
        if installed is not None:
            path = _install(kube, kubeconfig, names[0], names[1], installed)
            agent = connect(str(path), user_agent="ocisync/test")
            _await_rights(agent, names[0])
        yield EngineDriver(kube, names[0], names[1], agent=agent, kubeconfig=path)
    finally:
        for name in names:
            kube.request("DELETE", f"/api/v1/namespaces/{name}")
        if agent is not None:
            agent.close()
            for binding in (AGENT_NAME, _READER, OWNER):
                kube.request("DELETE", f"{_RBAC}/clusterrolebindings/{binding}-{names[1]}")
        kube.close()


_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_READER = f"{AGENT_NAME}-reader"
_PLURALS = {"Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles"}


def _install(kube: Cluster, kubeconfig: Path, namespace: str, agent_namespace: str, directory: Path) -> Path:
    """The agent's account and rights as `ocisync install` writes them; a kubeconfig that is it."""
    access = Access(impersonate=(f"{namespace}/{OWNER}", f"{namespace}/{LIMITED}"))
    for item in rbac.objects(agent_namespace, access):
        kind, metadata = item["kind"], dict(item["metadata"])
        if kind == "ClusterRoleBinding":
            continue  # one for each test, below: the name is the installation's
        home = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        plural = "serviceaccounts" if kind == "ServiceAccount" else _PLURALS[kind]
        _put(kube, f"{'/api/v1' if kind == 'ServiceAccount' else _RBAC}{home}/{plural}/{metadata['name']}", item)
    account: JsonObject = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OWNER}}
    _put(kube, f"/api/v1/namespaces/{namespace}/serviceaccounts/{OWNER}", account)
    for binding, role, account_name, home in (
        (AGENT_NAME, AGENT_NAME, AGENT_NAME, agent_namespace),
        (_READER, _READER, AGENT_NAME, agent_namespace),
        (OWNER, "cluster-admin", OWNER, namespace),
    ):
        body: JsonObject = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{binding}-{agent_namespace}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account_name, "namespace": home}],
        }  # fmt: skip
        _put(kube, f"{_RBAC}/clusterrolebindings/{body['metadata']['name']}", body)
    path = f"/api/v1/namespaces/{agent_namespace}/serviceaccounts/{AGENT_NAME}/token"
    request = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}).encode()
    answer = kube.request("POST", path, body=request, content_type=JSON)
    assert answer.status == 201, answer.body
    admin = AdminCluster(kubeconfig, directory)
    user = {"token": json.loads(answer.body)["status"]["token"]}
    return write_kubeconfig(
        directory / f"kubeconfig-{agent_namespace}", admin.server, admin.authority, user, agent_namespace
    )


def _await_rights(agent: Cluster, namespace: str) -> None:
    """Wait until the API server's access control has seen what `_install` wrote: its caches come a little later.

    It sees objects of a kind in the order in which they were written, and these two need the last of each kind.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = f"system:serviceaccount:{namespace}:{OWNER}"
    eventually(lambda: agent.request("GET", path).status == 200, what="the agent's rights")
    eventually(lambda: agent.request("GET", path, as_user=owner).status == 200, what="the right to impersonate")


def _put(kube: Cluster, path: str, body: JsonObject) -> None:
    query = (("fieldManager", "install"), ("force", "true"))
    response = kube.request("PATCH", path, query=query, body=json.dumps(body).encode(), content_type=APPLY_PATCH)
    assert response.status < 300, response.body
