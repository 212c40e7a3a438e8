"""Why something is not healthy, from pods and from the sync's own checks; and that none of it is polled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ocisync.cluster.health import HealthStatus, health
from ocisync.cluster.pods import QUIET_S
from tests.e2e.test_failed_revisions_go_back import failing, ocisync
from tests.support.agent import USER_AGENT, AgentProcess, Tenant, apply, config_map, deployment, place
from tests.support.cluster import ApiError
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

GROUP = "health.example.com"
GADGETS = f"/apis/{GROUP}/v1/namespaces"


def definition() -> dict[str, Any]:
    """A kind whose health nobody knows but its owner."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                 "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }  # fmt: skip


def gadget(name: str = "one") -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": {"size": 1}}


def say(tenant: Tenant, **status: Any) -> None:
    """What the owner of gadgets would write."""
    path = f"{GADGETS}/{tenant.namespace}/gadgets/one/status"
    tenant.cluster.api("PATCH", path, {"status": status}, content_type="application/merge-patch+json")


def check(**expressions: str) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Gadget", **expressions}


def test_a_crash_loop_is_told_at_once_with_pod_container_exit_code_and_last_words_and_without_polling(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    mark = control_plane.audit.mark()
    tenant.push({"web.yaml": [failing(), config_map("app", a="1")]})
    tenant.write_sync(wait={"timeout": "5m"})
    found = tenant.wait_condition("Ready", "False", "HealthCheckFailed")
    assert "pod web-" in found["message"]
    assert "container main: CrashLoopBackOff, exit code 3: no database at db:5432" in found["message"]
    assert tenant.condition("Healthy")["status"] == "False"
    waited = ocisync(tenant, "wait", tenant.name)
    assert waited.returncode == 1 and "CrashLoopBackOff" in waited.stderr
    fixed = tenant.push({"web.yaml": [deployment("web", replicas=1), config_map("app", a="1")]})
    tenant.wait_ready(fixed.descriptor.digest)
    # One list of the newest template's ReplicaSet and one watch of its pods, however long it took.
    here = control_plane.audit.events(since=mark, user_agent=USER_AGENT, namespace=tenant.namespace)
    assert sum(event.resource == "replicasets" for event in here) <= 5
    assert {event.verb for event in here if event.resource == "pods"} <= {"watch"}
    assert sum(event.resource == "pods" for event in here) <= 2


def test_a_healthy_rollout_reads_no_pods(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    mark = control_plane.audit.mark()
    tenant.push({"web.yaml": deployment("web", replicas=2)})
    tenant.write_sync()
    tenant.wait_ready()
    here = control_plane.audit.events(since=mark, user_agent=USER_AGENT, namespace=tenant.namespace)
    [applied] = [one for one in here if (one.verb, one.resource) == ("patch", "deployments")]
    # Not before it stood still for so long, which it does only where its controllers do.
    early = applied.received + timedelta(seconds=QUIET_S)
    assert not [one.uri for one in here if one.resource in {"pods", "replicasets"} and one.received < early]


def test_a_custom_resource_is_as_healthy_as_the_checks_of_its_sync_say(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    apply(tenant.cluster, [definition()])
    eventually(lambda: tenant.cluster.api("GET", f"{GADGETS}/{tenant.namespace}/gadgets"), what="gadgets are served")
    tenant.push({"all.yaml": gadget()})
    tenant.write_sync()
    tenant.wait_ready()  # a custom resource without a status is Current
    asks = {"timeout": "5m", "checks": [check(current="status.phase == 'Up'", failed="status.phase == 'Broken'")]}
    tenant.write_sync(wait=asks)
    unknown = "spec.wait.checks[0].current cannot be evaluated: there is no field"
    eventually(lambda: unknown in tenant.condition("Ready")["message"], what="the field is missed")
    say(tenant, phase="Starting")
    eventually(lambda: "is false: phase Starting" in tenant.condition("Ready")["message"])
    say(tenant, phase="Up")
    tenant.wait_ready()
    say(tenant, phase="Broken")
    found = tenant.wait_condition("Ready", "False", "HealthCheckFailed")
    assert "spec.wait.checks[0].failed is true: phase Broken" in found["message"]
    tenant.write_sync(wait={"checks": [check(current="status.phase ==")]})
    stalled = tenant.wait_condition("Stalled", "True", "InvalidSpec")
    assert "spec.wait.checks[0].current: line 1, column 16" in stalled["message"]
    for wrong in ({"apiVersion": "v1", "kind": "Secret", "current": "true"},):
        tenant.write_sync(wait={"checks": [wrong]})
        eventually(lambda: "without their content" in tenant.condition("Stalled")["message"])
    tenant.write_sync()
    tenant.wait_ready()


def migration(name: str, fate: str = "") -> dict[str, Any]:
    """A Job; without a fate its pod ends well at once."""
    container = {"name": "main", "image": "registry.example/migrate:1"}
    template: dict[str, Any] = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    if fate:
        template["metadata"] = {"annotations": {"tests.ocisync.dev/fate": fate}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}


def test_a_wave_waits_for_the_end_of_a_job_and_no_longer_than_the_time_out(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    second = {**config_map("app", a="1"), "metadata": {"name": "app", "annotations": {"ocisync.dev/wave": "1"}}}
    tenant.push({"all.yaml": [migration("first", "Pending"), second]})
    tenant.write_sync(wait={"timeout": "4s"})
    tenant.wait_condition("Ready", "False", "HealthCheckTimedOut")
    unfinished = "0 of 1 pods of the job succeeded"  # once its controller has seen it
    eventually(lambda: unfinished in tenant.condition("Ready")["message"], what="it is told what is awaited")
    maps = tenant.cluster.api("GET", place("ConfigMap", tenant.namespace))["items"]
    assert "app" not in {item["metadata"]["name"] for item in maps}
    good = tenant.push({"all.yaml": [migration("second"), second]})
    tenant.wait_ready(good.descriptor.digest)
    assert tenant.value("app", "a") == "1"


def test_a_new_sync_is_not_current_before_an_agent_saw_it(tenant: Tenant) -> None:
    tenant.write_sync()
    live = tenant.cluster.api("GET", place("ArtifactSync", tenant.namespace, tenant.name))
    assert live["status"] == {"observedGeneration": -1}
    assert health(live).status is HealthStatus.IN_PROGRESS


def test_a_check_without_an_expression_is_refused_by_the_api_server(tenant: Tenant) -> None:
    try:
        tenant.write_sync(wait={"checks": [{"apiVersion": "v1", "kind": "Pod"}]})
    except ApiError as error:
        assert error.status == 422
    else:
        raise AssertionError("the API server took it")
