"""The first sync: from nothing to Ready, and then silence."""

from __future__ import annotations

from tests.support.agent import USER_AGENT, AgentProcess, Tenant, config_map, deployment, service
from tests.support.controlplane import ControlPlane
from tests.support.registries import Registry
from tests.support.waiting import eventually


def test_a_signed_artifact_becomes_ready(agent: AgentProcess, tenant: Tenant) -> None:
    pushed = tenant.push(
        {"web.yaml": [deployment("web"), service("web")], "settings.yaml": config_map("settings", a="1")}
    )
    tenant.write_sync()
    status = tenant.wait_ready(pushed.descriptor.digest)
    assert status["inventory"] == {"objects": 3, "ready": 3}
    assert tenant.condition("Verified")["status"] == "True"
    live = tenant.cluster.get("deployment", "web", namespace=tenant.namespace)
    assert live["status"]["availableReplicas"] == 2


def test_thirty_idle_polls_write_nothing_and_read_no_object(
    agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane, distribution: Registry
) -> None:
    tenant.push({"web.yaml": [deployment("web"), service("web")], "settings.yaml": config_map("settings", a="1")})
    tenant.write_sync()
    tenant.wait_ready()
    eventually(lambda: len(agent.logs("ready")) == 1, what="the agent has settled")
    # The API server writes its audit line after its answer: let one poll pass before counting begins.
    ready = _heads(distribution, tenant)
    eventually(lambda: _heads(distribution, tenant) > ready, what="a poll after Ready", interval_s=0.2)
    before = tenant.cluster.get("artifactsync", tenant.name, namespace=tenant.namespace)
    heads = _heads(distribution, tenant)
    mark = control_plane.audit.mark()
    eventually(lambda: _heads(distribution, tenant) >= heads + 30, timeout_s=60, what="30 polls", interval_s=0.5)
    asked = control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
    assert {line for line in asked if not line.startswith("watch ")} == set(), asked
    after = tenant.cluster.get("artifactsync", tenant.name, namespace=tenant.namespace)
    assert after == before


def _heads(registry: Registry, tenant: Tenant) -> int:
    """How often the registry was asked what the tag is."""
    path = tenant.registry.repository.partition("/")[2]
    return registry.process.log.read_text().count(f'"HEAD /v2/{path}/manifests/{tenant.tag} ')


def test_a_new_revision_writes_only_the_objects_that_differ(
    control_plane: ControlPlane, shared_agent: AgentProcess, tenant: Tenant
) -> None:
    objects = {f"{number:02}.yaml": config_map(f"m{number:02}", k="1") for number in range(20)}
    tenant.push(objects)
    tenant.write_sync()
    tenant.wait_ready()
    mark = control_plane.audit.mark()
    moved = {"moved.yaml": objects.pop("07.yaml")}  # the same content in another file
    built = tenant.push({**objects, **moved, "03.yaml": config_map("m03", k="2")})
    tenant.wait_ready(built.descriptor.digest)
    tenant.wait_value("m03", "k", "2")
    written = control_plane.audit.events(since=mark, verb="patch", namespace=tenant.namespace, resource="configmaps")
    assert [event.name for event in written] == ["m03"]
    tenant.edit("m07", k="by hand")
    tenant.wait_value("m07", "k", "1")
