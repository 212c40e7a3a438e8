"""The first sync: from nothing to Ready, and then silence."""

from __future__ import annotations

from tests.support.agent import (
    USER_AGENT,
    AgentProcess,
    Tenant,
    audited_soon,
    config_map,
    deployment,
    place,
    service,
    wait_untouched,
)
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
    settings, web = _unaudited(tenant, "settings"), _unaudited(tenant, "web")
    tenant.push({"web.yaml": [deployment(web), service(web)], "settings.yaml": config_map(settings, a="1")})
    start = control_plane.audit.mark()
    tenant.write_sync()
    tenant.wait_ready()
    eventually(lambda: agent.logs("ready"), what="the agent has settled")
    eventually(lambda: _all_told(control_plane, tenant, start), what="what it still had to tell is written")
    ready = _heads(distribution, tenant)
    eventually(lambda: _heads(distribution, tenant) > ready, what="a poll after Ready", interval_s=0.2)
    before = tenant.cluster.get("artifactsync", tenant.name, namespace=tenant.namespace)
    heads = _heads(distribution, tenant)
    mark = control_plane.audit.mark()
    eventually(lambda: _heads(distribution, tenant) >= heads + 30, what="30 polls", interval_s=0.5)
    asked = control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
    assert {line for line in asked if not line.startswith("watch ")} == set(), asked
    after = tenant.cluster.get("artifactsync", tenant.name, namespace=tenant.namespace)
    assert after == before


def _heads(registry: Registry, tenant: Tenant) -> int:
    """How often the registry was asked what the tag is."""
    path = tenant.registry.repository.partition("/")[2]
    return registry.process.log.read_text(errors="replace").count(f'"HEAD /v2/{path}/manifests/{tenant.tag} ')


def _all_told(control_plane: ControlPlane, tenant: Tenant, since: int) -> bool:
    """Whether the Events of a first sync and the state of its policy are written: threads of their own do that."""
    asked = control_plane.audit.events(since=since, user_agent=USER_AGENT)
    events = [one for one in asked if (one.verb, one.resource, one.namespace) == ("create", "events", tenant.namespace)]
    policy = tenant.cluster.api("GET", place("TrustPolicy", "", tenant.policy_name))
    return len(events) >= 2 and (policy.get("status") or {}).get("observedGeneration") == 1  # Applied, Ready


def _unaudited(tenant: Tenant, prefix: str) -> str:
    """A name under which neither a ConfigMap nor a Deployment with its Service is audited while a test runs."""
    kinds = (("ConfigMap", ""), ("Service", ""), ("Deployment", "apps"))
    names = (f"{prefix}{number}" for number in range(100))
    return next(name for name in names if not any(audited_soon(tenant.namespace, name, *kind) for kind in kinds))


def test_a_new_revision_writes_only_the_objects_that_differ(
    control_plane: ControlPlane, shared_agent: AgentProcess, tenant: Tenant
) -> None:
    names = [_unaudited(tenant, f"m{number:02}-") for number in range(20)]
    objects = {f"{number:02}.yaml": config_map(name, k="1") for number, name in enumerate(names)}
    tenant.push(objects)
    tenant.write_sync()
    tenant.wait_ready()
    wait_untouched(control_plane, tenant, objects)
    mark = control_plane.audit.mark()
    moved = {"moved.yaml": objects.pop("07.yaml")}  # the same content in another file
    built = tenant.push({**objects, **moved, "03.yaml": config_map(names[3], k="2")})
    tenant.wait_ready(built.descriptor.digest)
    tenant.wait_value(names[3], "k", "2")
    written = control_plane.audit.events(since=mark, verb="patch", namespace=tenant.namespace, resource="configmaps")
    assert [event.name for event in written] == [names[3]]
    tenant.edit(names[7], k="by hand")
    tenant.wait_value(names[7], "k", "1")
