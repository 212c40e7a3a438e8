"""Workloads come to life: the sandbox's controllers as the real ones with simulated nodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.contract.rawapi import MERGE, RawApi, owned
from tests.support.waiting import eventually


def labels(name: str) -> dict[str, str]:
    return {"app": name}


def template(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.example/app:1", "ports": [{"containerPort": 80}]}
    return {"metadata": {"labels": labels(name)}, "spec": {"containers": [container], **spec}}


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    made = {"replicas": 2, "selector": {"matchLabels": labels(name)}, "template": template(name), **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": made}


@pytest.fixture
def apps(home: str) -> str:
    return f"/apis/apps/v1/namespaces/{home}"


def available(raw: RawApi, path: str, replicas: int) -> dict[str, Any]:
    def settled() -> dict[str, Any] | None:
        live = raw.get(path).ok()
        status = live["status"]
        counts = (status.get("availableReplicas", 0), status.get("updatedReplicas", 0), status.get("replicas", 0))
        fresh = status.get("observedGeneration") == live["metadata"]["generation"]
        return live if fresh and counts == (replicas,) * 3 else None

    found = eventually(settled, what=f"{path} with {replicas} replicas")
    assert found is not None
    return found


def pods(raw: RawApi, home: str, name: str) -> list[dict[str, Any]]:
    found = raw.get(f"/api/v1/namespaces/{home}/pods", query={"labelSelector": f"app={name}"}).ok()["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def has_pods(raw: RawApi, home: str, name: str, count: int) -> bool:
    return len(pods(raw, home, name)) == count


def test_a_deployment_becomes_available(raw: RawApi, apps: str, home: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    live = available(raw, f"{apps}/deployments/web", 2)
    conditions = {item["type"]: (item["status"], item["reason"]) for item in live["status"]["conditions"]}
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable")
    assert conditions["Progressing"] == ("True", "NewReplicaSetAvailable")
    sets = raw.get(f"{apps}/replicasets", query={"labelSelector": "app=web"}).ok()["items"]
    assert [item["metadata"]["ownerReferences"][0]["kind"] for item in sets] == ["Deployment"]
    assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods(raw, home, "web")} == {"ReplicaSet"}


def test_no_apply_is_disturbed_by_what_controllers_write(raw: RawApi, apps: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    live = available(raw, f"{apps}/deployments/web", 2)
    again = raw.apply(f"{apps}/deployments/web", deployment())
    assert again.status == 200
    assert owned(again.ok())["ocisync/Apply"] == owned(live)["ocisync/Apply"]


def test_scaling_changes_the_number_of_pods(raw: RawApi, apps: str, home: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    available(raw, f"{apps}/deployments/web", 2)
    for replicas in (4, 1):
        body = {"spec": {"replicas": replicas}}
        raw.request("PATCH", f"{apps}/deployments/web/scale", body, content_type=MERGE).ok()
        available(raw, f"{apps}/deployments/web", replicas)
        eventually(partial(has_pods, raw, home, "web", replicas))


def test_a_deleted_pod_is_replaced(raw: RawApi, apps: str, home: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    available(raw, f"{apps}/deployments/web", 2)
    victim = pods(raw, home, "web")[0]["metadata"]
    raw.request("DELETE", f"/api/v1/namespaces/{home}/pods/{victim['name']}").ok()

    def replaced() -> bool:
        uids = {pod["metadata"]["uid"] for pod in pods(raw, home, "web")}
        return len(uids) == 2 and victim["uid"] not in uids

    eventually(replaced)
    available(raw, f"{apps}/deployments/web", 2)


def test_a_new_image_rolls_out(raw: RawApi, apps: str, home: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    available(raw, f"{apps}/deployments/web", 2)
    changed = deployment()
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/app:2"
    raw.apply(f"{apps}/deployments/web", changed)
    live = available(raw, f"{apps}/deployments/web", 2)
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    eventually(
        lambda: {pod["spec"]["containers"][0]["image"] for pod in pods(raw, home, "web")} == {"registry.example/app:2"}
    )


def test_an_image_that_cannot_be_pulled_never_becomes_available(raw: RawApi, apps: str, home: str) -> None:
    bad = deployment()
    bad["spec"]["template"]["metadata"]["annotations"] = {"tests.ocisync.dev/fate": "ImagePullBackOff"}
    raw.apply(f"{apps}/deployments/web", bad)

    def waiting() -> set[str]:
        statuses = [pod["status"]["containerStatuses"][0] for pod in pods(raw, home, "web")]
        return {status["state"]["waiting"]["reason"] for status in statuses}

    eventually(lambda: waiting() == {"ImagePullBackOff"})

    def told() -> dict[str, Any] | None:
        status: dict[str, Any] = raw.get(f"{apps}/deployments/web").ok()["status"]
        return status if status.get("unavailableReplicas") == 2 else None

    status = eventually(told, what="the Deployment's status tells of its pods")
    assert status is not None
    assert status.get("availableReplicas", 0) == 0


def test_a_removed_deployment_takes_its_pods_along(raw: RawApi, apps: str, home: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    available(raw, f"{apps}/deployments/web", 2)
    raw.request("DELETE", f"{apps}/deployments/web").ok()
    eventually(lambda: not pods(raw, home, "web"))


def test_a_stateful_set_brings_up_its_pods_in_order(raw: RawApi, apps: str, home: str) -> None:
    spec = {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": labels("db")}, "template": template("db")}
    body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec}
    raw.apply(f"{apps}/statefulsets/db", body)
    available(raw, f"{apps}/statefulsets/db", 2)
    assert sorted(pod["metadata"]["name"] for pod in pods(raw, home, "db")) == ["db-0", "db-1"]
    status = raw.get(f"{apps}/statefulsets/db").ok()["status"]
    assert status["currentRevision"] == status["updateRevision"]


def test_a_daemon_set_runs_on_every_node(raw: RawApi, apps: str) -> None:
    spec = {"selector": {"matchLabels": labels("log")}, "template": template("log")}
    raw.apply(
        f"{apps}/daemonsets/log",
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "log"}, "spec": spec},
    )

    def ready() -> bool:
        status = raw.get(f"{apps}/daemonsets/log").ok()["status"]
        wanted: int = status["desiredNumberScheduled"]
        return wanted > 0 and status["numberReady"] == wanted == status.get("numberAvailable")

    eventually(ready)


def test_a_job_completes(raw: RawApi, home: str) -> None:
    path = f"/apis/batch/v1/namespaces/{home}/jobs/once"
    spec = {"template": template("once", restartPolicy="Never")}
    raw.apply(path, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": spec})

    def complete() -> bool:
        status = raw.get(path).ok()["status"]
        return ("Complete", "True") in {(item["type"], item["status"]) for item in status.get("conditions", ())}

    eventually(complete)
    assert raw.get(path).ok()["status"]["succeeded"] == 1


def test_endpoints_inherit_the_labels_of_their_service(raw: RawApi, apps: str, home: str) -> None:
    raw.apply(f"{apps}/deployments/web", deployment())
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"applyset.kubernetes.io/part-of": "applyset-test"}},
        "spec": {"selector": labels("web"), "ports": [{"port": 80}]},
    }
    raw.apply(f"/api/v1/namespaces/{home}/services/web", service)

    def endpoints() -> list[dict[str, Any]]:
        endpoints = raw.get(f"/api/v1/namespaces/{home}/endpoints/web").ok()
        assert len(endpoints["subsets"][0]["addresses"]) == 2
        query = {"labelSelector": "kubernetes.io/service-name=web"}
        slices = raw.get(f"/apis/discovery.k8s.io/v1/namespaces/{home}/endpointslices", query=query).ok()["items"]
        assert len(slices[0]["endpoints"]) == 2
        return [endpoints, slices[0]]

    for inherited in eventually(endpoints):
        assert inherited["metadata"]["labels"]["applyset.kubernetes.io/part-of"] == "applyset-test"
        assert set(owned(inherited)) == {"kube-controller-manager/Update"}
