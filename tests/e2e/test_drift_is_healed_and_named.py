"""Changes made outside GitOps: healed at once, told once, and what is not ours is left alone."""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.support.agent import USER_AGENT, AgentProcess, Tenant, config_map, deployment, service
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually


def test_scaling_by_hand_is_healed_and_told_once(agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"web.yaml": [deployment("web", replicas=2), service("web")]})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.cluster.kubectl("scale", "deployment/web", "--replicas=10", "-n", tenant.namespace)
    started = time.monotonic()
    eventually(lambda: _replicas(tenant) == 2, what="replicas are 2 again", interval_s=0.05)
    sys.stderr.write(f"\nscale healed within {time.monotonic() - started:.2f} s (kubectl polls included)\n")
    lines = eventually(lambda: agent.logs("modified outside GitOps"), what="the drift is logged")
    line = lines[0]
    assert (line["kind"], line["name"], line["field"]) == ("Deployment.apps", "web", "spec.replicas")
    assert (line["manager"], line["subresource"]) == ("kubectl", "scale")
    assert line["fields"][0]["old"] == "2" and line["fields"][0]["new"] == "10"
    assert line["time"] and line["time_source"] == "Seen"  # the scale subresource records no time
    told = eventually(lambda: tenant.events(reason="DriftCorrected", kind="Deployment"), what="the Event is there")
    assert len(told) == 1 and told[0]["count"] == 1
    assert "modified outside GitOps: spec.replicas 2 → 10 by kubectl (scale)" in told[0]["message"]
    told = eventually(lambda: tenant.events(reason="DriftCorrected", kind="ArtifactSync"), what="the sync has one, too")
    assert len(told) == 1
    tenant.wait_ready()
    assert len(agent.logs("modified outside GitOps")) == 1


def test_a_deleted_object_of_ours_returns(agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"web.yaml": [deployment("web"), config_map("settings", a="1")]})
    tenant.write_sync()
    tenant.wait_ready()
    before = tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["metadata"]["uid"]
    tenant.cluster.kubectl("delete", "deployment/web", "configmap/settings", "-n", tenant.namespace)
    again = eventually(lambda: tenant.cluster.get("deployment", "web", namespace=tenant.namespace), what="it is back")
    assert again["metadata"]["uid"] != before
    eventually(lambda: tenant.cluster.get("configmap", "settings", namespace=tenant.namespace), what="both are back")
    eventually(lambda: len(agent.logs("deleted outside GitOps")) == 2, what="both are told")
    # Created anew means a new uid; the next artifact must still be able to prune it.
    tenant.push({"settings.yaml": config_map("settings", a="1")})
    eventually(lambda: "web" not in _names(tenant, "deployments"), what="the new Deployment is pruned")
    tenant.wait_ready()


def test_a_deleted_pod_is_left_to_its_controller(
    agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    tenant.push({"web.yaml": deployment("web")})
    tenant.write_sync()
    tenant.wait_ready()
    eventually(lambda: agent.logs("ready"), what="the agent has settled")
    pods = _names(tenant, "pods")
    mark = control_plane.audit.mark()
    tenant.cluster.kubectl("delete", "pod", sorted(pods)[0], "-n", tenant.namespace, "--wait=false")
    eventually(lambda: len(_names(tenant, "pods") - pods) == 1, what="its ReplicaSet has made another")
    tenant.wait_ready()
    asked = control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
    # The Deployment is unavailable for a moment, which the sync's status and Events say; nothing else may be written.
    # If that takes longer than a moment, the agent looks for the reason: in its pods, found by its ReplicaSets.
    said = ("watch ", "list replicasets", "patch artifactsyncs", "create events", "patch events")
    assert {line for line in asked if not line.startswith(said)} == set(), asked
    assert not agent.logs("modified outside GitOps")


def test_endpoints_that_inherit_our_label_are_never_touched(
    agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    tenant.push({"web.yaml": [deployment("web"), service("web")]})
    tenant.write_sync()
    tenant.wait_ready()
    label = "applyset.kubernetes.io/part-of"
    inherited = eventually(
        lambda: tenant.cluster.get("endpointslices,endpoints", "-l", label, namespace=tenant.namespace)["items"],
        what="slices carry the Service's label",
    )
    assert inherited
    mark = control_plane.audit.mark()
    tenant.push({"web.yaml": deployment("web")})
    eventually(lambda: "web" not in _names(tenant, "services"), what="the Service is pruned")
    tenant.wait_ready()
    for resource in ("endpoints", "endpointslices"):
        writes = [
            event
            for event in control_plane.audit.events(since=mark, user_agent=USER_AGENT, resource=resource)
            if event.verb not in {"get", "list", "watch"}
        ]
        assert writes == []


def _replicas(tenant: Tenant) -> int:
    live: dict[str, Any] = tenant.cluster.get("deployment", "web", namespace=tenant.namespace)
    replicas: int = live["spec"]["replicas"]
    return replicas


def _names(tenant: Tenant, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in tenant.cluster.get(kind, namespace=tenant.namespace)["items"]}
