"""The demo's controllers: they make workloads live, so that health, drift and deletion look as on a cluster.

One thread, level-triggered: each change adds keys, each key is reconciled from what is stored. Namespaces get their
`default` ServiceAccount and `kube-root-ca.crt`; Services get Endpoints and EndpointSlices that **inherit the Service's
labels**; PVCs become Bound; PodDisruptionBudgets count; pods are placed on the one node and become Ready (Jobs' pods
Succeeded); workloads: `workloads.py`. An image from the host `*.invalid` can never be pulled: its pods stay Pending
with `ImagePullBackOff`, which makes failing rollouts easy to show.

Lacks: scheduling, real containers, probes, HPA, CronJob runs, PersistentVolumes, load balancers, Ingress addresses.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from ocisync.sandbox.apierrors import ApiError
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.selectors import matches_selector
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import DELETED, Event, Stored, TableKey
from ocisync.sandbox.successors import MERGE_PATCH, NAMESPACES
from ocisync.sandbox.worker import Worker
from ocisync.sandbox.workloads import MANAGER, Workloads, ready
from ocisync.sandbox.writes import Options, Writer

NODE: Final = "sandbox-node"
KUBELET: Final = "kubelet"
READY_AFTER_S: Final = 0.02  # how long a pod takes to start; enough to be seen starting
PODS: Final = ("", "pods")
SERVICES: Final = ("", "services")
CLAIMS: Final = ("", "persistentvolumeclaims")
BUDGETS: Final = ("policy", "poddisruptionbudgets")


class Controllers:
    """All controllers of one API server, on one worker."""

    def __init__(self, writer: Writer, *, enabled: bool) -> None:
        """Listen to the store if enabled; nothing is done until `start`."""
        self._writer = writer
        self._store = writer.store
        self._enabled = enabled
        self._workloads = Workloads(writer)
        self._addresses = 0
        self.worker = Worker("sandbox-controllers", self._handle)
        if enabled:
            self._store.listeners.append(self._listen)

    def start(self) -> None:
        """Start the thread."""
        if self._enabled:
            self.worker.start()

    def stop(self) -> None:
        """Stop the thread."""
        self.worker.stop()

    def clear(self) -> None:
        """Forget what waits."""
        self.worker.clear()

    def seed(self) -> None:
        """Make what a new cluster has: one Ready node."""
        if not self._enabled:
            return
        node = {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}}}
        nodes = self._resource(("", "nodes"))
        stored = self._writer.create(nodes, "", node, Options(KUBELET)).stored
        size = {"cpu": "64", "memory": "256Gi", "pods": "10000"}
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the sandbox is ready"}
        status = {"capacity": size, "allocatable": size, "conditions": [condition]}
        self._writer.set_status(nodes, stored, status, KUBELET)

    def _resource(self, table: TableKey) -> Resource:
        found = self._writer.catalog.of_table(table)
        assert found is not None  # noqa: S101 - built-in kinds are always served
        return found

    # -- what happened (under the store's lock) ---------------------------------------------------

    def _listen(self, table: TableKey, event: Event) -> None:
        metadata = event.new.value["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if table == PODS:
            self._pod_moved(event, namespace, name)
        elif event.kind != DELETED and (table in (NAMESPACES, CLAIMS, BUDGETS, SERVICES) or table in Workloads.TABLES):
            self.worker.add((table, namespace, name))
        if table in Workloads.TABLES or table == PODS:
            for owner in metadata.get("ownerReferences") or ():
                resource = self._writer.catalog.of_kind(owner["apiVersion"], owner["kind"])
                if resource is not None and owner.get("controller"):
                    self.worker.add((resource.table, namespace, owner["name"]))
        if event.kind == DELETED and table in (("", "configmaps"), ("", "serviceaccounts")):
            self.worker.add((NAMESPACES, "", namespace))

    def _pod_moved(self, event: Event, namespace: str, name: str) -> None:
        if event.kind != DELETED and (event.new.value.get("status") or {}).get("phase") == "Pending":
            self.worker.add((PODS, namespace, name), READY_AFTER_S)
        for table in (SERVICES, BUDGETS):
            for key, stored in self._store.table(table).objects.items():
                selector = (stored.value.get("spec") or {}).get("selector") or {}
                wanted = selector if table == BUDGETS else {"matchLabels": selector}
                if key[0] == namespace and selector and matches_selector(wanted, event.new.labels):
                    self.worker.add((table, *key))

    # -- what to do -------------------------------------------------------------------------------

    def _handle(self, key: Hashable) -> None:
        assert isinstance(key, tuple)  # noqa: S101 - only _listen adds keys
        table, namespace, name = key
        stored = self._store.table(table).objects.get((namespace, name))
        if stored is None or stored.value["metadata"].get("deletionTimestamp"):
            return
        try:
            if table == NAMESPACES:
                self._furnish(name)
            elif table == PODS:
                self._run_pod(stored)
            elif table == SERVICES:
                self._publish(stored)
            elif table == CLAIMS:
                self._bind(stored)
            elif table == BUDGETS:
                self._budget(stored)
            else:
                self._workloads.reconcile(table, stored)
        except ApiError as error:
            if error.reason == "Conflict":  # written meanwhile: look again
                self.worker.add(key)

    def _furnish(self, namespace: str) -> None:
        wanted: tuple[tuple[TableKey, Json], ...] = (
            (("", "serviceaccounts"), {"metadata": {"name": "default"}}),
            (
                ("", "configmaps"),
                {
                    "metadata": {
                        "name": "kube-root-ca.crt",
                        "annotations": {
                            "kubernetes.io/description": "Contains a CA bundle that can be used to verify the "
                            "kube-apiserver when using internal endpoints such as the internal service IP or "
                            "kubernetes.default.svc. No other usage is guaranteed across distributions of "
                            "Kubernetes clusters."
                        },
                    },
                    "data": {"ca.crt": "the sandbox has no certificate authority\n"},
                },
            ),
        )
        for table, value in wanted:
            if (namespace, value["metadata"]["name"]) not in self._store.table(table).objects:
                self._writer.create(self._resource(table), namespace, value, Options(MANAGER))

    def _run_pod(self, stored: Stored) -> None:
        """Place a pod and let its containers run."""
        pods = self._resource(PODS)
        metadata, spec = stored.value["metadata"], stored.value["spec"]
        if (stored.value.get("status") or {}).get("phase") != "Pending":
            return
        if not spec.get("nodeName"):
            patch = {"spec": {"nodeName": NODE}}
            options = Options("kube-scheduler", validation="Ignore")
            outcome = self._writer.patch(pods, metadata["namespace"], metadata["name"], MERGE_PATCH, patch, options)
            stored = outcome.stored
        self._addresses += 1
        address = f"10.244.{self._addresses >> 8 & 255}.{self._addresses & 255}"
        status = self._workloads.pod_status(stored.value, self._writer.now(), address)
        self._writer.set_status(pods, stored, status, KUBELET)

    def _pods_of(self, namespace: str, selector: Json) -> list[Stored]:
        pods = self._store.table(PODS).objects
        with self._store.lock:
            found = [
                stored
                for key, stored in pods.items()
                if key[0] == namespace and matches_selector(selector, stored.labels)
            ]
        return [stored for stored in found if not stored.value["metadata"].get("deletionTimestamp")]

    # -- services ---------------------------------------------------------------------------------

    def _publish(self, service: Stored) -> None:
        """Keep the Endpoints and the EndpointSlice of a Service; both carry the Service's own labels."""
        metadata, spec = service.value["metadata"], service.value["spec"]
        selector = spec.get("selector")
        if not selector:
            return
        pods = sorted(
            (pod for pod in self._pods_of(metadata["namespace"], {"matchLabels": selector}) if ready(pod.value)),
            key=lambda pod: str(pod.value["metadata"]["name"]),
        )
        labels = metadata.get("labels") or {}
        self._keep(("", "endpoints"), service, metadata["name"], self._endpoints(labels, spec, pods))
        name = f"{metadata['name']}-{metadata['uid'][:5]}"
        self._keep(("discovery.k8s.io", "endpointslices"), service, name, self._slice(service, spec, pods))

    def _endpoints(self, labels: Json, spec: Json, pods: list[Stored]) -> Json:
        addresses = [{**self._target(pod), "ip": pod.value["status"]["podIP"], "nodeName": NODE} for pod in pods]
        ports = [self._port(port) for port in spec.get("ports") or ()]
        subsets = [{"addresses": addresses, "ports": ports}] if addresses else None
        own = {**labels, "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
        return {"metadata": {"labels": own}} | ({"subsets": subsets} if subsets else {})

    def _slice(self, service: Stored, spec: Json, pods: list[Stored]) -> Json:
        metadata = service.value["metadata"]
        own = {
            **(metadata.get("labels") or {}),
            "kubernetes.io/service-name": metadata["name"],
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        owner = {
            "apiVersion": "v1",
            "kind": "Service",
            "name": metadata["name"],
            "uid": service.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        endpoints = [
            {
                **self._target(pod),
                "addresses": [pod.value["status"]["podIP"]],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": NODE,
            }
            for pod in pods
        ]
        return {
            "metadata": {"labels": own, "ownerReferences": [owner]},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [self._port(port) for port in spec.get("ports") or ()],
        }

    def _target(self, pod: Stored) -> Json:
        metadata = pod.value["metadata"]
        reference = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": pod.uid}
        return {"targetRef": reference}

    def _port(self, port: Json) -> Json:
        number = port.get("targetPort")
        made = {"port": number if isinstance(number, int) else port["port"], "protocol": port.get("protocol", "TCP")}
        return made | ({"name": port["name"]} if port.get("name") else {})

    def _keep(self, table: TableKey, service: Stored, name: str, value: Json) -> None:
        """Create or replace an object that a Service stands for."""
        namespace = service.value["metadata"]["namespace"]
        resource = self._resource(table)
        value["metadata"] |= {"name": name, "namespace": namespace}
        current = self._store.table(table).objects.get((namespace, name))
        if current is None:
            self._writer.create(resource, namespace, value, Options(MANAGER))
        else:
            self._writer.replace(resource, namespace, name, value, Options(MANAGER, validation="Ignore"))

    # -- the rest ---------------------------------------------------------------------------------

    def _bind(self, claim: Stored) -> None:
        claims = self._resource(CLAIMS)
        metadata, spec = claim.value["metadata"], claim.value["spec"]
        if (claim.value.get("status") or {}).get("phase") == "Bound":
            return
        if not spec.get("volumeName"):
            patch = {"spec": {"volumeName": f"pvc-{claim.uid}"}}
            options = Options(MANAGER, validation="Ignore")
            outcome = self._writer.patch(claims, metadata["namespace"], metadata["name"], MERGE_PATCH, patch, options)
            claim = outcome.stored
        size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "1Gi")
        status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": {"storage": size}}
        self._writer.set_status(claims, claim, status, MANAGER)

    def _budget(self, budget: Stored) -> None:
        metadata, spec = budget.value["metadata"], budget.value["spec"]
        pods = self._pods_of(metadata["namespace"], spec.get("selector") or {})
        healthy = sum(1 for pod in pods if ready(pod.value))
        if "maxUnavailable" in spec:
            wanted = len(pods) - _share(spec["maxUnavailable"], len(pods))
        else:
            wanted = _share(spec.get("minAvailable", 1), len(pods))
        allowed = max(healthy - wanted, 0)
        enough = allowed > 0
        condition = {
            "type": "DisruptionAllowed",
            "status": "True" if enough else "False",
            "reason": "SufficientPods" if enough else "InsufficientPods",
            "message": "",
            "observedGeneration": metadata["generation"],
            "lastTransitionTime": metadata["creationTimestamp"],
        }
        status = {
            "observedGeneration": metadata["generation"],
            "expectedPods": len(pods),
            "currentHealthy": healthy,
            "desiredHealthy": max(wanted, 0),
            "disruptionsAllowed": allowed,
            "conditions": [condition],
        }
        self._writer.set_status(self._resource(BUDGETS), budget, status, MANAGER)


def _share(amount: Json, total: int) -> int:
    """Read an int-or-percentage; percentages are rounded up."""
    if isinstance(amount, int):
        return amount
    return -(-int(str(amount).rstrip("%")) * total // 100)
