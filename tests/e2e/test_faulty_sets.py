"""Sets in which many objects are faulty: each fault ends in its class and says what to do; all else is applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.admission import AdmissionServer
from tests.support.agent import AgentProcess, Tenant, config_map, deployment, service, wait_untouched
from tests.support.cluster import ApiError
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

GOLDEN = Path(__file__).parent / "golden" / "faulty_set.txt"
NOBODY = "https://127.0.0.1:1/nobody"
MERGE = "application/merge-patch+json"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
REFUSED_FOR_GOOD = ("bad-field", "bad-type", "bad-value", "web", "frozen", "big", "ring-a")


@pytest.fixture
def faults(tenant: Tenant, tmp_path: Path) -> Iterator[AdmissionServer]:
    """Whatever makes objects fail that is not in the artifact: webhooks, a quota, a namespace that cannot end."""
    space, cluster = tenant.namespace, tenant.cluster
    may = [
        {"apiGroups": [""], "resources": ["configmaps", "services"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"]},
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]},
    ]
    tenant.prepare(rules=may)
    cluster.api("POST", f"{RBAC}/clusterroles", {"metadata": {"name": space}, "rules": may})
    subject = {"kind": "ServiceAccount", "name": tenant.account, "namespace": space}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": space}
    binding = {"metadata": {"name": space}, "roleRef": role, "subjects": [subject]}
    cluster.api("POST", f"{RBAC}/clusterrolebindings", binding)
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"services": "0"}}}
    cluster.api("POST", f"/api/v1/namespaces/{space}/resourcequotas", quota)
    eventually(lambda: counted(tenant), what="the quota is in force")
    ending = f"/api/v1/namespaces/{space}-ending"
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": f"{space}-ending"}})
    held = {"metadata": {"name": "held", "finalizers": ["example.com/held"]}}
    cluster.api("POST", f"{ending}/configmaps", held)
    cluster.api("DELETE", ending)
    with AdmissionServer(tmp_path) as server:
        yield server
    for path in (f"{HOOKS}/{space}", f"{HOOKS}/{space}-own", f"{RBAC}/clusterroles/{space}"):
        with_absence(tenant, path)
    with_absence(tenant, f"{RBAC}/clusterrolebindings/{space}")
    cluster.api("PATCH", f"{ending}/configmaps/held", {"metadata": {"finalizers": None}}, content_type=MERGE)


def counted(tenant: Tenant) -> bool:
    """Whether a controller has counted for the quota, and admission has seen that: it refuses before that, too."""
    try:
        tenant.cluster.api("POST", f"/api/v1/namespaces/{tenant.namespace}/services?dryRun=All", service("probe"))
    except ApiError as error:
        return "exceeded quota" in str(error)
    return False


def with_absence(tenant: Tenant, path: str) -> None:
    """Delete what may not be there."""
    try:
        tenant.cluster.api("DELETE", path)
    except ApiError as error:
        if error.status != 404:
            raise


def own_webhook(tenant: Tenant, server: AdmissionServer) -> dict[str, Any]:
    hook = server.hook("own.example.com", NOBODY, namespace=tenant.namespace, label="own")
    return server.configuration(f"{tenant.namespace}-own", hook)


def others_webhooks(tenant: Tenant, server: AdmissionServer) -> None:
    """Webhooks of somebody else; returns once the API server calls them."""
    space = tenant.namespace
    hooks = [
        server.hook("team.example.com", server.url("/deny"), namespace=space, label="denied"),
        server.hook("down.example.com", NOBODY, namespace=space, label="down"),
    ]
    tenant.cluster.api("POST", HOOKS, server.configuration(space, *hooks))
    for label in ("denied", "down", "own"):
        probe = {"metadata": {"name": f"probe-{label}", "labels": {"fault": label}}}
        path = f"/api/v1/namespaces/{space}/configmaps?dryRun=All"

        def refused(probe: dict[str, Any] = probe, path: str = path) -> bool:
            try:
                tenant.cluster.api("POST", path, probe)
            except ApiError as error:
                return error.status in (403, 500)
            return False

        eventually(refused, what=f"the webhook for {label} is called")


def marked(name: str, fault: str) -> dict[str, Any]:
    item = config_map(name, a="1")
    item["metadata"]["labels"] = {"fault": fault}
    return item


def needing(name: str, other: str) -> dict[str, Any]:
    item = config_map(name, a="1")
    item["metadata"]["annotations"] = {"ocisync.dev/depends-on": other}
    return item


def frozen(value: str) -> dict[str, Any]:
    return {**config_map("frozen", a=value), "immutable": True}


def faulty(tenant: Tenant) -> list[dict[str, Any]]:
    space = tenant.namespace
    moved = deployment("web")
    moved["spec"]["selector"]["matchLabels"] = {"app": "other"}
    moved["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    lost, late = config_map("lost", a="1"), config_map("too-late", a="1")
    lost["metadata"]["namespace"], late["metadata"]["namespace"] = "nowhere", f"{space}-ending"
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
    container = {"name": "c", "image": "registry.example/job:1"}
    job["spec"] = {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    wrong_type, wrong_value = deployment("bad-type"), deployment("bad-value", replicas=-1)
    wrong_type["spec"]["replicas"] = "two"
    return [
        {"apiVersion": "nobody.example.com/v1", "kind": "Widget", "metadata": {"name": "no-definition"}},
        {"apiVersion": "apps/v7", "kind": "Deployment", "metadata": {"name": "no-version"}},
        {**config_map("bad-field"), "dta": {"a": "1"}},
        wrong_type, wrong_value, moved, frozen("2"),
        marked("denied", "denied"), marked("down", "down"), marked("own-down", "own"),
        service("too-many"), lost, late,
        config_map("big", text="x" * 1_500_000),
        needing("ring-a", f"/ConfigMap/{space}/ring-b"), needing("ring-b", f"/ConfigMap/{space}/ring-a"),
        needing("needs-nothing", f"/ConfigMap/{space}/nothing"), needing("behind", f"/ConfigMap/{space}/big"),
        job,
    ]  # fmt: skip


def told(tenant: Tenant) -> str:
    """The failures of the status, one line each."""
    rows = [
        f"{item['class']}: {item['object']} ({item['place']})\n    {item['message']}\n"
        for item in sorted(tenant.status().get("failures") or (), key=lambda item: str(item["object"]))
    ]
    return "".join(rows).replace(tenant.namespace, "NAMESPACE")


def test_every_fault_ends_in_its_class_with_advice_all_else_is_applied_and_nothing_is_pruned(
    shared_agent: AgentProcess,
    tenant: Tenant,
    faults: AdmissionServer,
    control_plane: ControlPlane,
    update_golden: bool,
) -> None:
    before = [config_map("fine", a="1"), config_map("dropped", a="1"), deployment("web"), frozen("1")]
    sound = {"all.yaml": before, "webhook.yaml": own_webhook(tenant, faults)}
    tenant.push(sound)
    tenant.write_sync()
    tenant.wait_ready()
    wait_untouched(control_plane, tenant, sound)
    others_webhooks(tenant, faults)

    fine = [config_map("fine", a="2"), config_map("new", a="1")]
    objects = {f"faulty/{number:02}.yaml": item for number, item in enumerate(faulty(tenant))}
    tenant.push({**objects, "fine.yaml": fine, "webhook.yaml": own_webhook(tenant, faults)})
    tenant.wait_condition("Ready", "False", "PruneDeferred")
    text = eventually(lambda: told(tenant) if len(tenant.status().get("failures") or ()) >= len(objects) else "")
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert tenant.value("fine", "a") == "2"
    assert tenant.value("new", "a") == "1"
    assert tenant.value("dropped", "a") == "1", "nothing is pruned while anything fails"
    assert tenant.value("frozen", "a") == "1"

    mark = control_plane.audit.mark()

    def tried(name: str) -> int:
        events = control_plane.audit.events(since=mark, verb="patch", namespace=tenant.namespace, name=name)
        return sum("ocisync" in event.user_agent for event in events)

    eventually(lambda: tried("down") >= 2 and tried("denied") >= 1, what="what may pass is tried again")
    eventually(lambda: tried("denied") + 2 <= tried("down"), what="what others must allow is tried more slowly")
    assert {name: tried(name) for name in REFUSED_FOR_GOOD} == dict.fromkeys(REFUSED_FOR_GOOD, 0)
    assert (tried("fine"), tried("new")) == (0, 0), "what was applied and watched since is not asked for again"

    good = tenant.push({"fine.yaml": fine, "web.yaml": [deployment("web"), frozen("1")]})
    tenant.wait_ready(good.descriptor.digest)
    assert eventually(lambda: "dropped" not in names(tenant), what="the prune that had waited")


def names(tenant: Tenant) -> set[str]:
    items = tenant.cluster.api("GET", f"/api/v1/namespaces/{tenant.namespace}/configmaps")["items"]
    return {item["metadata"]["name"] for item in items}
