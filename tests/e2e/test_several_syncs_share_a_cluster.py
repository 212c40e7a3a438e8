"""Syncs that meet: dependencies, claims on one object, health that one of them waits for."""

from __future__ import annotations

from typing import Any

from tests.support.agent import AgentProcess, Tenant, config_map, deployment
from tests.support.waiting import eventually


def test_a_sync_waits_for_the_sync_that_it_depends_on(shared_agent: AgentProcess, tenant: Tenant) -> None:
    base = tenant.beside("base")
    tenant.push({"all.yaml": config_map("app", a="1")})
    tenant.write_sync(dependsOn=[{"name": "base"}])
    waiting = tenant.wait_condition("Ready", "Unknown", "DependencyNotReady")
    assert "/base: it does not exist" in waiting["message"]
    base.push({"all.yaml": config_map("ground", a="1")})
    base.write_sync()
    base.wait_ready()
    tenant.wait_ready()


def test_of_two_syncs_that_claim_an_object_the_older_wins(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": config_map("shared", owner="older")})
    tenant.write_sync()
    tenant.wait_ready()
    younger = tenant.beside("younger")
    younger.push({"all.yaml": [config_map("shared", owner="younger"), config_map("own", a="1")]})
    younger.write_sync()
    found = younger.wait_condition("Ready", "False", "ApplyFailed")
    assert f"belongs to sync {tenant.namespace}/{tenant.name}" in found["message"]
    younger.wait_value("own", "a", "1")
    tenant.wait_value("shared", "owner", "older")
    tenant.wait_ready()


def test_a_newer_artifact_does_not_wait_for_the_health_of_an_older_one(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    tenant.push({"web.yaml": _nowhere(deployment("web"))})
    tenant.write_sync(wait={"timeout": "3s"})
    waiting = tenant.wait_condition("Healthy", "Unknown", "Progressing")
    assert "Deployment.apps" in waiting["message"]
    tenant.wait_condition("Ready", "False", "HealthCheckTimedOut")
    good = tenant.push({"web.yaml": deployment("web")})
    tenant.wait_ready(good.descriptor.digest)


def test_wait_returns_only_when_everything_is_healthy(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"web.yaml": deployment("web", replicas=5)})
    tenant.write_sync()
    tenant.cluster.kubectl(
        "wait", "--for=condition=Ready", f"artifactsync/{tenant.name}", "-n", tenant.namespace, "--timeout=120s"
    )
    assert tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["status"]["availableReplicas"] == 5
    kinds = {item["reason"] for item in tenant.events(kind="ArtifactSync")}
    assert eventually(lambda: {"Applied", "Ready"} <= ({i["reason"] for i in tenant.events()} | kinds))


def _nowhere(item: dict[str, Any]) -> dict[str, Any]:
    item["spec"]["template"]["spec"]["nodeSelector"] = {"no-such": "node"}
    return item
