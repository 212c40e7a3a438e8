"""Renames that fail, deletions that need a person, specs that are wrong: what runs is not lost."""

from __future__ import annotations

import subprocess
import sys

from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.waiting import eventually


def test_a_rename_whose_new_half_fails_leaves_the_old_half_running(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": [config_map("old", a="1"), config_map("other", a="1")]})
    tenant.write_sync()
    tenant.wait_ready()
    broken = config_map("new", a="1")
    broken["metadata"]["labels"] = {"bad label!": "x"}
    tenant.push({"all.yaml": [broken, config_map("other", a="2")]})
    found = tenant.wait_condition("Ready", "False", "PruneDeferred")
    assert "ConfigMap" in found["message"] and "all.yaml:1" in found["message"]
    tenant.wait_value("other", "a", "2")
    tenant.wait_value("old", "a", "1")
    tenant.cluster.kubectl("patch", "configmap", "old", "-n", tenant.namespace, "-p", '{"data":{"a":"x"}}')
    tenant.wait_value("old", "a", "1")  # it still counts as ours, so its drift is healed
    good = tenant.push({"all.yaml": [config_map("new", a="1"), config_map("other", a="2")]})
    tenant.wait_ready(good.descriptor.digest)
    assert _names(tenant) == {"new", "other"}


def test_a_mass_deletion_waits_for_approval(shared_agent: AgentProcess, tenant: Tenant) -> None:
    before = tenant.push({"all.yaml": [config_map(f"c{n:02}", a="1") for n in range(20)]})
    tenant.write_sync()
    tenant.wait_ready(before.descriptor.digest)
    after = tenant.push({"all.yaml": [config_map("c00", a="2")]})
    held = tenant.wait_condition("Ready", "False", "ApprovalRequired")
    assert "19 of 20 objects" in held["message"]
    assert len(_names(tenant)) == 20
    assert tenant.status()["applied"]["digest"] == before.descriptor.digest
    first_plan = tenant.status()["planHash"]
    tenant.cluster.kubectl("delete", "configmap", "c05", "-n", tenant.namespace)
    eventually(lambda: len(_names(tenant)) == 20, what="the held artifact's predecessor is still enforced")
    # It has a new uid, and an approval is for exactly the objects that a person saw.
    eventually(lambda: first_plan != _plan(tenant) == _plan(tenant), what="the plan is made anew, with what is back")
    said = _ocisync(tenant, "approve", tenant.name, "-n", tenant.namespace, "--yes")
    assert "c19: would be deleted" in said
    tenant.wait_ready(after.descriptor.digest)
    assert _names(tenant) == {"c00"}


def test_bad_manifests_are_named_by_file_and_line(shared_agent: AgentProcess, tenant: Tenant) -> None:
    good = tenant.push({"all.yaml": config_map("settings", a="1")})
    tenant.write_sync()
    tenant.wait_ready(good.descriptor.digest)
    tenant.push({"all.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 1, a: 2}\n"})
    tenant.wait_condition("Ready", "False", "BadArtifact")
    assert tenant.status()["failures"][0]["place"] == "all.yaml:4"
    tenant.wait_value("settings", "a", "1")


def test_a_suspended_sync_is_left_alone_and_resumed(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": config_map("settings", a="1")})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.write_sync(suspend=True)
    tenant.wait_condition("Ready", "False", "Suspended")
    tenant.cluster.kubectl("patch", "configmap", "settings", "-n", tenant.namespace, "-p", '{"data":{"a":"x"}}')
    tenant.write_sync(suspend=False)
    tenant.wait_value("settings", "a", "1")
    said = _ocisync(tenant, "reconcile", tenant.name, "-n", tenant.namespace, "--wait")
    assert "Succeeded" in said
    table = _ocisync(tenant, "status", "-n", tenant.namespace)
    assert table.splitlines()[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "REVISION", "AGE"]
    assert "True" in table
    assert "signed by release-key" in _ocisync(tenant, "status", tenant.name, "-n", tenant.namespace)


def _plan(tenant: Tenant) -> str:
    """The hash of a plan that is made now."""
    tenant.ask()
    found: str = tenant.status()["planHash"]
    return found


def _names(tenant: Tenant) -> set[str]:
    items = tenant.cluster.get("configmaps", namespace=tenant.namespace)["items"]
    return {item["metadata"]["name"] for item in items} - {"kube-root-ca.crt"}


def _ocisync(tenant: Tenant, *arguments: str) -> str:
    command = [sys.executable, "-m", "ocisync", *arguments, "--kubeconfig", str(tenant.cluster.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
