"""An API server that keeps connections open and answers nothing: worse than one that is gone."""

from __future__ import annotations

import time

from tests.support.agent import AgentProcess, Tenant, config_map, deployment
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

FROZEN_S = 15.0


def test_a_frozen_api_server_is_survived_in_the_middle_of_an_apply(
    agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    many = [config_map(f"part-{number:03d}", version="1") for number in range(150)]
    tenant.push({"a.yaml": [deployment("web"), *many]})
    tenant.write_sync()
    tenant.wait_ready()
    changed = [config_map(f"part-{number:03d}", version="2") for number in range(100)]
    pushed = tenant.push({"a.yaml": [deployment("web", replicas=3), *changed]})
    tenant.wait_value("part-000", "version", "2")
    control_plane.freeze_apiserver()
    try:
        until = time.monotonic() + FROZEN_S
        eventually(lambda: time.monotonic() > until, timeout_s=FROZEN_S + 1, what="the server hangs")
    finally:
        control_plane.thaw_apiserver()
    eventually(
        lambda: tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["status"]["availableReplicas"] == 3,
        what="the control plane itself works again",
    )
    tenant.wait_ready(pushed.descriptor.digest)
    path = f"/api/v1/namespaces/{tenant.namespace}/configmaps?labelSelector=applyset.kubernetes.io/part-of"
    found = tenant.cluster.api("GET", path)["items"]
    assert {item["data"]["version"] for item in found} == {"2"}
    assert len(found) == 100
    tenant.cluster.kubectl("delete", "configmap/part-007", "-n", tenant.namespace)
    eventually(
        lambda: tenant.cluster.get("configmap", "part-007", namespace=tenant.namespace), what="watches still see drift"
    )
    assert agent.server.running
