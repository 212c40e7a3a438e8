"""Deleting a sync deletes what it owns or leaves it running, as its spec says."""

from __future__ import annotations

from tests.support.agent import AgentProcess, Tenant, config_map, service
from tests.support.waiting import eventually


def test_deletion_prunes_by_default(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": [config_map("settings", a="1"), service("web")]})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.cluster.apply('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"foreign"}}', "-n", tenant.namespace)
    tenant.cluster.kubectl("delete", "artifactsync", tenant.name, "-n", tenant.namespace, "--timeout=120s")
    assert _left(tenant) == {"foreign"}
    assert _bookkeeping(tenant) == ["watermark"]


def test_deletion_orphans_if_told_so(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": [config_map("settings", a="1"), service("web")]})
    tenant.write_sync(deletionPolicy="Orphan")
    tenant.wait_ready()
    tenant.cluster.kubectl("delete", "artifactsync", tenant.name, "-n", tenant.namespace, "--timeout=120s")
    assert _left(tenant) == {"settings", "web"}


def test_a_deleted_account_lets_the_sync_go_and_names_the_orphans(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": config_map("settings", a="1")})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.cluster.kubectl("delete", "serviceaccount,rolebinding", tenant.account, "-n", tenant.namespace)
    eventually(lambda: not tenant.may("delete", "configmaps"), what="the API server knows that nobody has its rights")
    tenant.cluster.kubectl("delete", "artifactsync", tenant.name, "-n", tenant.namespace, "--timeout=120s")
    assert _left(tenant) == {"settings"}
    told = eventually(lambda: tenant.events(reason="Deleted"), what="an Event names the orphans")
    assert "left behind" in told[0]["message"] and "ConfigMap" in told[0]["message"]


def _left(tenant: Tenant) -> set[str]:
    items = tenant.cluster.get("configmaps,services", namespace=tenant.namespace)["items"]
    return {item["metadata"]["name"] for item in items} - {"kube-root-ca.crt"}


def _bookkeeping(tenant: Tenant) -> list[str]:
    items = tenant.cluster.get("configmaps", namespace=tenant.installation.namespace)["items"]
    mine = [item for item in items if f"{tenant.namespace}/{tenant.name}" in str(item)]
    return [item["metadata"]["labels"].get("app.kubernetes.io/component", "inventory") for item in mine]
