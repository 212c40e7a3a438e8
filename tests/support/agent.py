"""The agent as its users run it: a subprocess with the installed ServiceAccount, against a real API server.

`Installation` puts CRDs, RBAC and a signing key into a cluster once; `Tenant` is one sync with its own namespace,
policy and repository; `AgentProcess` is the agent itself: logs, kill, restart.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import re
import secrets
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ocisync.cluster.correction import Limits
from ocisync.install import bundle
from ocisync.install.rbac import AGENT_NAME, Access
from ocisync.install.workload import Workload
from ocisync.model.resource import ObjectId
from ocisync.pack.artifact import BuiltArtifact, build
from ocisync.signing.keys import Signer
from tests.support.artifacts import tree_of
from tests.support.cluster import ApiError, Cluster
from tests.support.controlplane import ControlPlane
from tests.support.process import Server, clean_environment
from tests.support.signedrepository import SignedRepository
from tests.support.trust import signer
from tests.support.waiting import eventually

USER_AGENT = "ocisync-agent"
_IMAGE = "registry.example/ocisync@sha256:" + "0" * 64


_PLACES = {
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Secret": ("/api/v1", "secrets"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Event": ("/api/v1", "events"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "ArtifactSync": ("/apis/ocisync.dev/v1alpha1", "artifactsyncs"),
    "TrustPolicy": ("/apis/ocisync.dev/v1alpha1", "trustpolicies"),
}


def place(kind: str, namespace: str = "", name: str = "") -> str:
    """The URL path of an object or collection of the kinds used here."""
    prefix, plural = _PLACES[kind]
    within = f"{prefix}/namespaces/{namespace}" if namespace else prefix
    return f"{within}/{plural}/{name}" if name else f"{within}/{plural}"


def apply(cluster: Cluster, objects: Iterable[Mapping[str, Any]]) -> None:
    """Server-side apply without kubectl, which costs half a second of processor time each time it starts."""
    for item in objects:
        metadata = item["metadata"]
        path = place(item["kind"], metadata.get("namespace", ""), metadata["name"])
        query = "?fieldManager=tests&force=true&fieldValidation=Strict"
        cluster.api("PATCH", path + query, item, content_type="application/apply-patch+yaml")


def may(
    cluster: Cluster, user: str, verb: str, resource: str, *, group: str = "", namespace: str = "", name: str = ""
) -> bool:
    """Whether the API server would let somebody do this now; without a name, to every object."""
    asked = {"verb": verb, "resource": resource, "group": group, "namespace": namespace, "name": name}
    review = {"spec": {"user": user, "resourceAttributes": asked}}
    answer = cluster.api("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def audited_soon(namespace: str, name: str, kind: str = "ConfigMap", group: str = "") -> bool:
    """Whether an agent's daily audit of an object comes in its first hour: a write that no count may be held against.

    An object's place in the day is a hash of its name.
    """
    key = ObjectId(group, kind, namespace, name).key()
    return zlib.crc32(key.encode()) % int(Limits().audit_s) < 3600


class AgentProcess:
    """One `ocisync agent`. Restarting it keeps the cache directory."""

    def __init__(
        self, kubeconfig: Path, namespace: str, directory: Path, *, extra: Sequence[str] = (), home: Path | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.cache = directory / "cache"
        command = [
            sys.executable, "-m", "ocisync", "agent", "--kubeconfig", str(kubeconfig), "--namespace", namespace,
            "--cache-dir", str(self.cache), "--http-address", "off", "--log-level", "debug", *extra,
        ]  # fmt: skip
        environment = clean_environment(home or directory, PYTHONPATH=str(Path(__file__).parents[2]))
        self.server = Server("agent", command, directory, environment)

    def start(self) -> None:
        """Start it; does not wait."""
        self.server.start()

    def stop(self) -> None:
        """SIGTERM, and check that it ended well."""
        if self.server.running:
            self.server.stop(grace_s=30.0)

    def kill(self) -> None:
        """kill -9."""
        self.server.kill()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing at all until `thaw`, as on a machine that sleeps."""
        self.server.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.server.thaw()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.server.pid

    def rss_mib(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self._python_pid()}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found.group(1)) / 1024

    def _python_pid(self) -> int:
        # The leash is replaced by the command or is its parent: take the youngest of the two.
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else self.pid

    def logs(self, message: str = "", **fields: str) -> list[dict[str, Any]]:
        """Its log lines so far, those with this message and these fields."""
        found = []
        for line in self._lines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a traceback, or the last line in the making
            wanted = isinstance(entry, dict) and (not message or entry.get("message") == message)
            if wanted and all(str(entry.get(key)) == value for key, value in fields.items()):
                found.append(entry)
        return found

    def assert_sound(self) -> None:
        """It runs, and no part of it met a defect."""
        defects = [line for line in self._lines() if "Traceback" in line or "with a defect" in line]
        assert not defects, defects[:3]

    def _lines(self) -> list[str]:
        if not self.server.log.exists():
            return []
        # Whoever reads while it writes may see a part of a character.
        return self.server.log.read_text(errors="replace").splitlines()


class Installation:
    """CRDs and RBAC in a cluster, and the agent's kubeconfig."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.namespace = cluster.new_namespace("ocisync-system")
        objects = bundle.installation(Workload(image=_IMAGE, namespace=self.namespace), Access())
        wanted = [item for item in objects if item["kind"] not in {"Deployment", "Namespace"}]
        apply(cluster, wanted)
        for plural in ("artifactsyncs", "trustpolicies"):
            eventually(partial(cluster.api, "GET", f"/apis/ocisync.dev/v1alpha1/{plural}"), what=f"{plural} are served")
        self.kubeconfig = cluster.kubeconfig_for(self.namespace, AGENT_NAME)

    def agent(self, directory: Path, *, extra: Sequence[str] = (), home: Path | None = None) -> AgentProcess:
        """An agent that is not started yet."""
        return AgentProcess(self.kubeconfig, self.namespace, directory, extra=extra, home=home)

    def impersonation(self, namespaced_account: str) -> list[dict[str, Any]]:
        """What lets the agent act as one service account, as `--impersonate` writes it."""
        objects = bundle.installation(
            Workload(image=_IMAGE, namespace=self.namespace), Access(impersonate=(namespaced_account,))
        )
        namespace = namespaced_account.partition("/")[0]
        return [item for item in objects if item["metadata"].get("namespace") == namespace]

    def remove(self) -> None:
        """Take the bookkeeping namespace away; definitions stay."""
        self.cluster.delete_namespace(self.namespace)


class Tenant:
    """One sync: a namespace with an account of full rights in it, a policy, a repository, artifacts."""

    def __init__(
        self,
        installation: Installation,
        namespace: str,
        repository: str,
        *,
        name: str = "shop",
        tag: str = "production",
        store_directory: Path = Path(),
    ) -> None:
        self.installation = installation
        self.cluster = installation.cluster
        self.namespace = namespace
        self.name = name
        self.tag = tag
        self.store_directory = store_directory
        self.account = "deployer"
        self.registry = SignedRepository(repository)
        self.key: Signer = signer("ci")
        self.policy_name = f"policy-{namespace}"
        self._sequence = int(datetime.now(UTC).timestamp()) - 86_400

    def prepare(self, *, rules: Iterable[Mapping[str, Any]] = ()) -> None:
        """The account with rights, the agent's right to act as it, the key and the policy."""
        role_rules = list(rules) or [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        subject = {"kind": "ServiceAccount", "name": self.account, "namespace": self.namespace}
        meta = {"name": self.account, "namespace": self.namespace}
        rbac = "rbac.authorization.k8s.io"
        rbac_version = f"{rbac}/v1"
        role = {"apiVersion": rbac_version, "kind": "Role", "metadata": meta, "rules": role_rules}
        binding = {
            "apiVersion": rbac_version, "kind": "RoleBinding", "metadata": meta, "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": self.account},
        }  # fmt: skip
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
        agents = self.installation.impersonation(f"{self.namespace}/{self.account}")
        apply(self.cluster, [account, role, binding, *agents, *self._policy()])
        first = role_rules[0]
        allowed = partial(self.may, first["verbs"][0], first["resources"][0], group=first["apiGroups"][0])
        eventually(allowed, what="the API server knows the account's rights")

    def may(self, verb: str, resource: str, *, group: str = "") -> bool:
        """Whether the account has a right: the API server takes note of roles a moment after they were written."""
        account = f"system:serviceaccount:{self.namespace}:{self.account}"
        return may(self.cluster, account, verb, resource, group=group, namespace=self.namespace)

    def write_policy(self, **spec: Any) -> None:
        """Key and policy; keyword arguments replace fields of the policy's spec."""
        apply(self.cluster, self._policy(**spec))

    def _policy(self, **spec: Any) -> list[dict[str, Any]]:
        secret = {
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": self.policy_name, "namespace": self.installation.namespace},
            "data": {"cosign.pub": base64.b64encode(self.key.public.pem.encode()).decode()},
        }  # fmt: skip
        policy = {
            "apiVersion": "ocisync.dev/v1alpha1",
            "kind": "TrustPolicy",
            "metadata": {"name": self.policy_name},
            "spec": {
                "match": [{"repository": name} for name in (self.registry.repository, f"{self.registry.repository}/*")],
                "authorities": [{"name": "release-key", "key": {"secretRef": {"name": self.policy_name}}}],
                "threshold": 1,
                **spec,
            },
        }
        return [secret, policy]

    def beside(self, name: str) -> Tenant:
        """Another sync of this tenant, with a repository of its own below this one's."""
        other = copy.copy(self)
        other.name, other.registry = name, SignedRepository(f"{self.registry.repository}/{name}")
        return other

    def write_sync(self, **spec: Any) -> None:
        """The sync; keyword arguments replace fields of its spec."""
        sync = {
            "apiVersion": "ocisync.dev/v1alpha1",
            "kind": "ArtifactSync",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "source": {"repository": self.registry.repository, "tag": self.tag, "interval": "1s"},
                "target": {"namespace": self.namespace, "serviceAccountName": self.account},
                "retryInterval": "2s",
                **spec,
            },
        }
        apply(self.cluster, [sync])

    def remove(self) -> None:
        """Take the sync away without its agent, and the policy."""
        with contextlib.suppress(ApiError):
            self.cluster.api("DELETE", place("TrustPolicy", "", self.policy_name))
        for item in self.cluster.api("GET", place("ArtifactSync", self.namespace))["items"]:
            path = place("ArtifactSync", self.namespace, item["metadata"]["name"])
            with contextlib.suppress(ApiError):
                self.cluster.api("DELETE", path)
                patch = {"metadata": {"finalizers": None}}
                self.cluster.api("PATCH", path, patch, content_type="application/merge-patch+json")

    def build(self, objects: Mapping[str, Any]) -> BuiltArtifact:
        """An artifact of files; values that are no text are written as YAML."""
        files = {path: item if isinstance(item, str | bytes) else _yaml(_many(item)) for path, item in objects.items()}
        return build(tree_of(files, commit=secrets.token_hex(20), at=datetime.now(UTC)))

    def push(self, objects: Mapping[str, Any] | BuiltArtifact, *, tag: str = "", sign: bool = True) -> BuiltArtifact:
        """Publish and sign as `ocisync push` does: content, signature, then the tag."""
        built = objects if isinstance(objects, BuiltArtifact) else self.build(objects)
        self.registry.push(built)
        if sign:
            self.registry.sign(built.descriptor, self.key, self.claims(tag=tag))
        self.registry.push(built, tag or self.tag)
        return built

    def claims(self, *, tag: str = "", **changes: str) -> dict[str, str]:
        """Honest claims with a sequence above all before."""
        self._sequence += 1
        return self.registry.claims(
            **{"tags": tag or self.tag, "sequence": str(self._sequence), "signed": str(self._sequence), **changes}
        )

    def status(self) -> dict[str, Any]:
        """The status of the sync."""
        found = self.cluster.api("GET", place("ArtifactSync", self.namespace, self.name))
        status: dict[str, Any] = found.get("status") or {}
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        """One condition; empty if there is none."""
        for item in self.status().get("conditions") or ():
            if item["type"] == kind:
                found: dict[str, Any] = item
                return found
        return {}

    def wait_ready(self, digest: str = "", timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait until the sync is Ready (with this digest); its status."""

        def ready() -> dict[str, Any]:
            status = self.status()
            good = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ())
            assert good, _short(status)
            assert not digest or status["applied"]["digest"] == digest, _short(status)
            return status

        return eventually(ready, timeout_s=timeout_s, what=f"{self.namespace}/{self.name} is Ready", interval_s=0.2)

    def wait_condition(self, kind: str, status: str, reason: str = "", timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait for a condition; returns it."""

        def matches() -> dict[str, Any]:
            found = self.condition(kind)
            assert found.get("status") == status, _short(self.status())
            assert not reason or found["reason"] == reason, _short(self.status())
            return found

        return eventually(matches, timeout_s=timeout_s, what=f"{kind}={status} {reason}", interval_s=0.2)

    def wait_value(self, config_map_name: str, key: str, value: str, timeout_s: float = 120.0) -> None:
        """Wait until a ConfigMap holds a value."""

        def holds() -> bool:
            live = self.cluster.api("GET", place("ConfigMap", self.namespace, config_map_name))
            return bool(live["data"].get(key) == value)

        eventually(holds, timeout_s=timeout_s, what=f"{config_map_name}.{key} is {value}", interval_s=0.1)

    def corrupt(self, digest: str) -> None:
        """Flip a byte of a blob where the registry keeps it."""
        hexadecimal = digest.removeprefix("sha256:")
        found = [
            path
            for path in self.store_directory.rglob("*")
            if path.is_file() and hexadecimal in str(path) and path.name != "link"
        ]
        assert found, digest
        for path in found:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))

    def ask(self, *names: str) -> None:
        """Ask for a pass over these syncs (this one unless named) and wait for its end."""
        for name in names or (self.name,):
            path, moment = place("ArtifactSync", self.namespace, name), secrets.token_hex(8)
            patch = {"metadata": {"annotations": {"ocisync.dev/requestedAt": moment}}}
            self.cluster.api("PATCH", path, patch, content_type="application/merge-patch+json")

            def handled(path: str = path, moment: str = moment) -> bool:
                status = self.cluster.api("GET", path).get("status") or {}
                return bool(status.get("lastHandledReconcileAt") == moment)

            eventually(handled, what=f"a pass over {self.namespace}/{name} ends")

    def polls(self) -> int:
        """How often the registry was asked where the tag leads."""
        path = self.registry.repository.partition("/")[2]
        return len(
            re.findall(rf'"HEAD /v2/{re.escape(path)}/manifests/{re.escape(self.tag)} HTTP', self.registry_log())
        )

    def edit(self, name: str, **data: str) -> None:
        """Change a ConfigMap by hand."""
        path = place("ConfigMap", self.namespace, name) + "?fieldManager=by-hand"
        self.cluster.api("PATCH", path, {"data": data}, content_type="application/merge-patch+json")

    def value(self, name: str, key: str) -> str:
        """What a ConfigMap holds; empty if it holds nothing."""
        found = self.cluster.api("GET", place("ConfigMap", self.namespace, name))
        return str((found.get("data") or {}).get(key, ""))

    def registry_log(self) -> str:
        """What the registry wrote."""
        return (self.store_directory / "distribution.log").read_text(errors="replace")

    def events(self, **fields: str) -> list[dict[str, Any]]:
        """Events of ours in the tenant's namespace; keyword arguments match `reason`, `kind`, `name`."""
        found = []
        for event in self.cluster.api("GET", place("Event", self.namespace))["items"]:
            flat = {
                "reason": event["reason"],
                "kind": event["involvedObject"]["kind"],
                "name": event["involvedObject"]["name"],
                "component": event.get("reportingComponent"),
            }
            if flat["component"] == "ocisync" and all(flat.get(key) == value for key, value in fields.items()):
                found.append(event)
        return found


def wait_untouched(plane: ControlPlane, tenant: Tenant, objects: Mapping[str, Any]) -> None:
    """Wait until another artifact of the same objects costs no write of a ConfigMap.

    The agent leaves out only what its watch shows as it was applied, and a watch may say long after the last object
    that this was all.
    """

    def nothing_written() -> bool:
        mark = plane.audit.mark()
        tenant.wait_ready(tenant.push(objects).descriptor.digest)
        return not plane.audit.count(since=mark, verb="patch", resource="configmaps", namespace=tenant.namespace)

    eventually(nothing_written, what="a pass finds everything as it was applied")


@contextmanager
def running(agent: AgentProcess) -> Iterator[AgentProcess]:
    """The agent, for a block; it must not meet a defect."""
    agent.start()
    try:
        yield agent
        agent.assert_sound()
    except BaseException:
        sys.stderr.write(agent.server.log_tail(60) + "\n")
        raise
    finally:
        agent.stop()


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, replicas: int = 2, image: str = "registry.example/web:1") -> dict[str, Any]:
    """A Deployment."""
    labels = {"app": name}
    container = {"name": "main", "image": image, "env": [{"name": "MODE", "value": "live"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def service(name: str) -> dict[str, Any]:
    """A Service for the Deployment of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def _many(item: Any) -> list[Any]:
    return item if isinstance(item, list) else [item]


def _yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    return yaml.safe_dump_all([dict(item) for item in objects], sort_keys=False)


def _short(status: Mapping[str, Any]) -> str:
    rows = [
        f"{item['type']}={item['status']} {item['reason']}: {item['message'][:300]}"
        for item in status.get("conditions") or ()
    ]
    failures = [f"{item.get('object')}: {item.get('message')}" for item in (status.get("failures") or ())[:3]]
    return " | ".join([*rows, *failures])
