"""An object moves from one sync to another without an end in between."""

from __future__ import annotations

from ocisync.cluster.normalise import applyset_id
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.waiting import eventually


def test_a_younger_sync_adopts_an_object_and_keeps_it(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": [config_map("moved", owner="older"), config_map("stays", a="1")]})
    tenant.write_sync()
    tenant.wait_ready()
    uid = tenant.cluster.get("configmap", "moved", namespace=tenant.namespace)["metadata"]["uid"]
    younger = tenant.beside("younger")
    moved = config_map("moved", owner="younger")
    moved["metadata"]["annotations"] = {"ocisync.dev/adopt": applyset_id(tenant.name, tenant.namespace)}
    younger.push({"all.yaml": moved})
    younger.write_sync()
    younger.wait_ready()
    younger.wait_value("moved", "owner", "younger")
    pushed = tenant.push({"all.yaml": config_map("stays", a="2")})
    tenant.wait_ready(pushed.descriptor.digest)
    after = tenant.cluster.get("configmap", "moved", namespace=tenant.namespace)
    assert (after["metadata"]["uid"], after["data"]) == (uid, {"owner": "younger"})
    patch = '{"data":{"owner":"nobody"}}'
    tenant.cluster.kubectl("patch", "configmap", "moved", "-n", tenant.namespace, "-p", patch)
    younger.wait_value("moved", "owner", "younger")
    eventually(lambda: len(shared_agent.logs("modified outside GitOps", sync=f"{younger.namespace}/younger")) == 1)
