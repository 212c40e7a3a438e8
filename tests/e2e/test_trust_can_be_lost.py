"""Policies and keys that go away, deny lists, and what each means for what runs."""

from __future__ import annotations

from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.waiting import eventually


def test_without_policy_nothing_new_comes_but_drift_is_corrected(shared_agent: AgentProcess, tenant: Tenant) -> None:
    pushed = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready(pushed.descriptor.digest)
    tenant.cluster.kubectl("delete", "trustpolicy", tenant.policy_name)
    tenant.wait_condition("Verified", "False", "NoPolicy")
    _edit(tenant, "by-hand")
    tenant.wait_value("settings", "version", "1")
    tenant.push({"settings.yaml": config_map("settings", version="2")})
    tenant.write_policy()
    tenant.wait_value("settings", "version", "2")
    tenant.wait_ready()


def test_a_removed_key_makes_the_policy_invalid_and_says_so(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.cluster.kubectl("delete", "secret", tenant.policy_name, "-n", tenant.installation.namespace)
    refused = tenant.wait_condition("Verified", "False", "InvalidPolicy")
    assert tenant.policy_name in refused["message"]

    def rejected() -> bool:
        status = tenant.cluster.get("trustpolicy", tenant.policy_name).get("status") or {}
        return any(item["type"] == "Accepted" and item["status"] == "False" for item in status.get("conditions") or ())

    eventually(rejected, what="the policy's own status says it")
    _edit(tenant, "by-hand")
    tenant.wait_value("settings", "version", "1")


def test_a_denied_digest_stops_every_write_until_a_good_one_comes(shared_agent: AgentProcess, tenant: Tenant) -> None:
    pushed = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.write_policy(deny={"digests": [pushed.descriptor.digest]})
    tenant.wait_condition("Verified", "False", "Denied")
    _edit(tenant, "by-hand")
    good = tenant.push({"settings.yaml": config_map("settings", other="x")})
    tenant.wait_ready(good.descriptor.digest)
    live = tenant.cluster.get("configmap", "settings", namespace=tenant.namespace)
    # Nobody corrected the edit; the good artifact then took the field over to remove it.
    assert live["data"].get("version") in (None, "by-hand")
    assert live["data"]["other"] == "x"


def test_a_version_tag_that_moves_is_refused_even_after_the_sync_was_created_anew(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    tenant.tag = "1.4.0"
    first = tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready(first.descriptor.digest)
    tenant.push({"settings.yaml": config_map("settings", version="2")})
    refused = tenant.wait_condition("Verified", "False", "TagMutated")
    assert first.descriptor.digest in refused["message"]
    tenant.wait_value("settings", "version", "1")
    tenant.cluster.kubectl("delete", "artifactsync", tenant.name, "-n", tenant.namespace, "--timeout=120s")
    tenant.write_sync()
    tenant.wait_condition("Verified", "False", "TagMutated")


def test_a_rollback_is_refused_even_after_the_sync_was_created_anew(shared_agent: AgentProcess, tenant: Tenant) -> None:
    old = tenant.push({"settings.yaml": config_map("settings", version="1")})
    new = tenant.push({"settings.yaml": config_map("settings", version="2")})
    tenant.write_sync()
    tenant.wait_ready(new.descriptor.digest)
    tenant.cluster.kubectl("delete", "artifactsync", tenant.name, "-n", tenant.namespace, "--timeout=120s")
    tenant.registry.push(old, tenant.tag)
    tenant.write_sync()
    tenant.wait_condition("Verified", "False", "RolledBack")
    absent = tenant.cluster.kubectl("get", "configmap", "settings", "-n", tenant.namespace, "--ignore-not-found")
    assert absent == ""


def _edit(tenant: Tenant, value: str) -> None:
    patch = f'{{"data":{{"version":"{value}"}}}}'
    tenant.cluster.kubectl("patch", "configmap", "settings", "-n", tenant.namespace, "-p", patch)
