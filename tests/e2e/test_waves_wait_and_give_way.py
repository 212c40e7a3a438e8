"""Waves that wait for health, and passes that only wait: neither keeps a newer revision from coming at once."""

from __future__ import annotations

from typing import Any

from tests.support.agent import AgentProcess, Tenant, config_map, deployment
from tests.support.cluster import ApiError
from tests.support.waiting import eventually

RBAC = "/apis/rbac.authorization.k8s.io/v1"


def in_wave(item: dict[str, Any], wave: int) -> dict[str, Any]:
    item["metadata"].setdefault("annotations", {})["ocisync.dev/wave"] = str(wave)
    return item


def nowhere(item: dict[str, Any]) -> dict[str, Any]:
    item["spec"]["template"]["spec"]["nodeSelector"] = {"no-such": "node"}
    return item


def exists(tenant: Tenant, name: str) -> bool:
    try:
        return bool(tenant.value(name, "a"))
    except ApiError as error:
        assert error.status == 404
        return False


def test_with_wait_a_wave_begins_when_the_one_before_is_healthy_and_a_newer_revision_does_not_wait_for_it(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    tenant.push({"a.yaml": nowhere(deployment("web")), "b.yaml": in_wave(config_map("second", a="1"), 1)})
    tenant.write_sync(wait={"timeout": "1h"})
    waiting = tenant.wait_condition("Ready", "Unknown", "Progressing")
    eventually(lambda: "Deployment.apps" in tenant.condition("Ready")["message"], what="the reason is told")
    assert waiting
    tenant.ask()
    assert not exists(tenant, "second"), "wave 0 is not healthy"
    # Its first wave is healthy once its pods run: the second begins then, woken by the watch.
    good = tenant.push({"a.yaml": deployment("web"), "b.yaml": in_wave(config_map("second", a="2"), 1)})
    tenant.wait_ready(good.descriptor.digest)
    assert tenant.value("second", "a") == "2"


def test_without_wait_a_wave_begins_when_the_one_before_is_applied(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.push({"a.yaml": nowhere(deployment("web")), "b.yaml": in_wave(config_map("second", a="1"), 1)})
    tenant.write_sync()
    eventually(lambda: exists(tenant, "second"), what="the second wave")
    tenant.push({"a.yaml": deployment("web"), "b.yaml": in_wave(config_map("second", a="1"), 1)})
    tenant.wait_ready()


def test_a_pass_that_only_waits_for_a_kind_gives_way_to_a_newer_revision_at_once(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    group = f"{tenant.namespace}.example.com"
    may_define(tenant, group)
    lacking = {"apiVersion": "nobody.example.com/v1", "kind": "Gadget", "metadata": {"name": "lacking"}}
    early = widget(group, colour="red")  # a field that the definition, written in this very pass, never gets
    tenant.push({"d.yaml": definition(group), "w.yaml": early, "x.yaml": lacking, "c.yaml": config_map("c", a="1")})
    tenant.write_sync()
    try:
        eventually(lambda: exists(tenant, "c"), what="the first revision")
        good = tenant.push(
            {"d.yaml": definition(group), "w.yaml": widget(group, size=1), "c.yaml": config_map("c", a="2")}
        )
        tenant.wait_ready(good.descriptor.digest)
        said = [str(entry) for entry in shared_agent.logs(sync=f"{tenant.namespace}/{tenant.name}")]
        assert any("ended early: something newer is to be applied" in line for line in said), said
    finally:
        tenant.cluster.api("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}")
        tenant.cluster.api("DELETE", f"{RBAC}/clusterrolebindings/{tenant.namespace}")
        tenant.cluster.api("DELETE", f"{RBAC}/clusterroles/{tenant.namespace}")


def may_define(tenant: Tenant, group: str) -> None:
    rules = [
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"]},
        {"apiGroups": [group], "resources": ["*"], "verbs": ["*"]},
    ]
    tenant.cluster.api("POST", f"{RBAC}/clusterroles", {"metadata": {"name": tenant.namespace}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": tenant.account, "namespace": tenant.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": tenant.namespace}
    binding = {"metadata": {"name": tenant.namespace}, "roleRef": role, "subjects": [subject]}
    tenant.cluster.api("POST", f"{RBAC}/clusterrolebindings", binding)


def definition(group: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}", "annotations": {"ocisync.dev/prune": "disabled"}},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def widget(group: str, **spec: object) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}
