"""Suspending one sync, pausing all, waiting for a digest, and syncs that wait for each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.test_failed_revisions_go_back import Ran, ocisync, typed
from tests.support.agent import USER_AGENT, AgentProcess, Installation, Tenant, config_map, place, running
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually


def pause(tenant: Tenant, *arguments: str) -> Ran:
    """`ocisync pause`; it has no --namespace of its own."""
    return typed(tenant, "pause", *arguments, "--agent-namespace", tenant.installation.namespace)


def test_while_paused_nothing_is_written_in_the_cluster_not_even_by_deletions(
    installation: Installation, tenant: Tenant, tmp_path: Path, control_plane: ControlPlane
) -> None:
    other = tenant.beside("other")
    for one, name in ((tenant, "app"), (other, "else")):
        one.push({"all.yaml": config_map(name, a="1")})
        one.write_sync()
    assert pause(tenant).returncode == 0
    with running(installation.agent(tmp_path / "agent")):
        tenant.wait_condition("Ready", "False", "Paused")  # it holds from the first moment of an agent
        assert "app" not in _names(tenant)
        assert pause(tenant, "--resume").returncode == 0
        tenant.wait_ready()
        other.wait_ready()
        braked = pause(tenant, "--reason", "incident 4711")
        assert braked.returncode == 0, braked.stderr
        for one in (tenant, other):
            found = one.wait_condition("Ready", "False", "Paused")
            assert "incident 4711" in found["message"] and "since" in found["message"]
        mark = control_plane.audit.mark()
        tenant.edit("app", a="by hand")
        tenant.push({"all.yaml": config_map("app", a="2")})
        tenant.cluster.api("DELETE", place("ArtifactSync", other.namespace, other.name))
        tenant.ask()
        again = pause(tenant)
        assert again.returncode == 0 and "already paused" in again.stderr and "incident 4711" in again.stderr
        writes = [
            event for event in control_plane.audit.events(since=mark, user_agent=USER_AGENT)
            if event.verb in {"create", "update", "patch", "delete"} and event.resource == "configmaps"
            and event.namespace == tenant.namespace
        ]  # fmt: skip
        assert not writes
        assert tenant.value("app", "a") == "by hand"
        assert tenant.value("else", "a") == "1"
        assert pause(tenant, "--resume").returncode == 0
        tenant.wait_value("app", "a", "2")
        tenant.wait_ready()
        eventually(lambda: not [item for item in _names(tenant) if item == "else"], what="the deletion goes on")
        assert "nothing was paused" in pause(tenant, "--resume").stderr


def test_a_suspended_sync_says_who_did_it_and_why(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"all.yaml": config_map("app", a="1")})
    tenant.write_sync()
    tenant.wait_ready()
    done = ocisync(tenant, "suspend", tenant.name, "--reason", "a migration by hand")
    assert done.returncode == 0, done.stderr
    found = tenant.wait_condition("Ready", "False", "Suspended")
    who = tenant.cluster.api("GET", place("ArtifactSync", tenant.namespace, tenant.name))["metadata"]["annotations"]
    assert who["ocisync.dev/suspended-by"]
    assert f"suspended by {who['ocisync.dev/suspended-by']}: a migration by hand" in found["message"]
    waited = ocisync(tenant, "wait", tenant.name, "--timeout", "30s")
    assert waited.returncode == 1 and "a migration by hand" in waited.stderr
    tenant.edit("app", a="by hand")
    assert ocisync(tenant, "resume", tenant.name).returncode == 0
    tenant.wait_value("app", "a", "1")
    assert ocisync(tenant, "wait", tenant.name, "--timeout", "120s").returncode == 0


def test_ci_waits_for_its_digest_by_one_list_and_one_watch(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    first = tenant.push({"all.yaml": config_map("app", a="1")})
    tenant.write_sync()
    tenant.wait_ready(first.descriptor.digest)
    mark = control_plane.audit.mark()
    second = tenant.build({"all.yaml": config_map("app", a="2")})
    waiting = subprocess.Popen(
        _command(tenant, "wait", tenant.name, "--digest", second.descriptor.digest, "--timeout", "120s"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    tenant.push(second)
    _, said = waiting.communicate(timeout=180)
    assert waiting.returncode == 0, said
    assert tenant.status()["applied"]["digest"] == second.descriptor.digest
    asked = [
        event.verb for event in control_plane.audit.events(since=mark, resource="artifactsyncs")
        if f"/{tenant.name}" in event.uri or "fieldSelector" in event.uri
        if event.user_agent.startswith("ocisync/") and event.verb in {"get", "list", "watch"}
    ]  # fmt: skip
    assert sorted(asked) in (["list", "watch"], ["list"])  # the watch is logged when its end was noticed
    before = ocisync(tenant, "wait", tenant.name, "--digest", first.descriptor.digest, "--timeout", "30s")
    assert before.returncode == 0 and "came after it" in before.stderr
    late = ocisync(tenant, "wait", tenant.name, "--digest", "sha256:" + "0" * 64, "--timeout", "1s")
    assert late.returncode == 7 and "the registry offers" in late.stderr


def test_a_new_revision_waits_for_what_its_sync_depends_on_and_is_woken_not_polled(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    base = tenant.beside("base")
    base.push({"all.yaml": config_map("ground", a="1")})
    base.write_sync()
    base.wait_ready()
    tenant.push({"all.yaml": config_map("app", a="1")})
    tenant.write_sync(dependsOn=[{"name": "base"}])
    tenant.wait_ready()
    base.push({"all.yaml": {**config_map("ground", a="2"), "spec": {}}})
    base.wait_condition("Ready", "False", "ApplyFailed")
    tenant.push({"all.yaml": config_map("app", a="2")})
    found = tenant.wait_condition("Ready", "Unknown", "DependencyNotReady")
    assert f"waits for sync {base.namespace}/base: it is not ready" in found["message"]
    mark = control_plane.audit.mark()
    tenant.edit("app", a="by hand")
    tenant.wait_value("app", "a", "1")  # what runs is healed meanwhile
    base.push({"all.yaml": config_map("ground", a="3")})
    tenant.wait_value("app", "a", "2")
    tenant.wait_ready()
    asked = control_plane.audit.events(since=mark, user_agent=USER_AGENT, resource="artifactsyncs")
    read = [event.uri for event in asked if event.verb in {"get", "list"}]
    assert len(read) == len(set(read)) <= 2  # each pass that applies reads the labels of its own sync


def test_syncs_that_depend_on_each_other_in_a_circle_say_so(shared_agent: AgentProcess, tenant: Tenant) -> None:
    other = tenant.beside("other")
    tenant.write_sync(dependsOn=[{"name": "other"}])
    other.write_sync(dependsOn=[{"name": tenant.name}])
    for one, way in ((tenant, [tenant, other, tenant]), (other, [other, tenant, other])):
        found = one.wait_condition("Stalled", "True", "DependencyCycle")
        assert " → ".join(f"{step.namespace}/{step.name}" for step in way) in found["message"]
    tenant.push({"all.yaml": config_map("app", a="1")})
    other.push({"all.yaml": config_map("else", a="1")})
    other.write_sync()
    other.wait_ready()
    tenant.wait_ready()


def _command(tenant: Tenant, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "ocisync", *arguments, "--namespace", tenant.namespace,
        "--kubeconfig", str(tenant.cluster.kubeconfig),
    ]  # fmt: skip


def _names(tenant: Tenant) -> set[str]:
    items: list[dict[str, Any]] = tenant.cluster.api("GET", place("ConfigMap", tenant.namespace))["items"]
    return {item["metadata"]["name"] for item in items}
