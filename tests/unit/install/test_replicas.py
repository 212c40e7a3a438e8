"""What an installation says about several agents: the lease always, the rest only where there are several."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.agent.lease import LEASE_NAME
from ocisync.install.bundle import installation
from ocisync.install.rbac import AGENT_NAME, Access
from ocisync.install.workload import Workload


def written(replicas: int) -> dict[tuple[str, str], dict[str, Any]]:
    workload = Workload(image="registry.example/ocisync@sha256:" + "0" * 64, namespace="gitops", replicas=replicas)
    return {(item["kind"], item["metadata"]["name"]): item for item in installation(workload, Access())}


@pytest.mark.parametrize("replicas", [1, 3])
def test_every_installation_uses_the_lease_with_a_name_that_one_pod_has(replicas: int) -> None:
    deployment = written(replicas)["Deployment", AGENT_NAME]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert deployment["spec"]["replicas"] == replicas
    assert "--leader-elect" in container["args"]
    names = [item["name"] for item in container["env"]]
    identity = next(item for item in container["env"] if item["name"] == "OCISYNC_IDENTITY")
    assert identity["value"] == "$(POD_NAME)_$(POD_UID)"
    assert names.index("POD_UID") < names.index("OCISYNC_IDENTITY"), "variables are expanded in order"


def test_rights_to_leases_are_for_the_one_lease() -> None:
    rules = [rule for rule in written(1)["Role", AGENT_NAME]["rules"] if rule["resources"] == ["leases"]]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in rules] == [
        (["create"], None),
        (["get", "watch", "update"], [LEASE_NAME]),
    ]


def test_one_replica_is_stopped_before_its_successor_starts_and_several_roll() -> None:
    one, several = (written(count)["Deployment", AGENT_NAME]["spec"] for count in (1, 3))
    assert one["strategy"] == {"type": "Recreate"}
    assert "affinity" not in one["template"]["spec"]
    assert several["strategy"]["rollingUpdate"]["maxUnavailable"] == 1
    assert several["template"]["spec"]["affinity"]["podAntiAffinity"]


def test_several_replicas_have_a_disruption_budget() -> None:
    assert ("PodDisruptionBudget", AGENT_NAME) not in written(1)
    budget, deployment = (written(2)[kind, AGENT_NAME]["spec"] for kind in ("PodDisruptionBudget", "Deployment"))
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == deployment["selector"]
