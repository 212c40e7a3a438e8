"""Whose rights writes have, outages, and how fast it is: on a real API server."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ocisync.cluster.apply import Action
from ocisync.cluster.client import Cluster, connect
from ocisync.model.errors import Unavailable
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL
from tests.support.controlplane import ControlPlane
from tests.support.engine import EngineDriver, actions, driver, failure_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

OBJECTS = 1_000


def post(kube: Cluster, path: str, body: object) -> None:
    data = json.dumps(body).encode()
    response = kube.request("POST", path, body=data, content_type="application/json")
    assert response.status == 201, response.body


def allow_config_maps(engine: EngineDriver, verbs: tuple[str, ...]) -> None:
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]}
    binding = {
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": engine.namespace}],
    }
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{engine.namespace}"
    post(engine.kube, f"{root}/roles", role)
    post(engine.kube, f"{root}/rolebindings", binding)
    deployer = f"system:serviceaccount:{engine.namespace}:deployer"
    path = engine.path("ConfigMap", "there-is-none")
    eventually(lambda: engine.own.request("GET", path, as_user=deployer).status == 404, what="the deployer's rights")


def test_writes_have_the_rights_of_the_syncs_service_account_and_a_refusal_names_it(real_engine: EngineDriver) -> None:
    engine = real_engine
    engine.target = replace(engine.target, service_account="deployer")
    allow_config_maps(engine, ("get", "create", "patch"))
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    report = engine.sync(engine.config_map("a"), service)
    assert actions(report)["a"] is Action.CREATED
    failure = failure_of(report, "web")
    assert failure.startswith("Forbidden Forbidden: ")
    for part in ("patch", "services", f"system:serviceaccount:{engine.namespace}:deployer"):
        assert part in failure
    assert engine.live("Service", "web") is None


def test_a_deletion_has_the_rights_of_the_syncs_service_account_too(real_engine: EngineDriver) -> None:
    engine = real_engine
    engine.target = replace(engine.target, service_account="deployer")
    allow_config_maps(engine, ("get", "create", "patch"))
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    report = engine.sync(engine.config_map("a"))
    assert failure_of(report, "b").startswith("Forbidden ")
    assert engine.live("ConfigMap", "b") is not None
    assert engine.owned() == ["a", "b"]


def test_a_webhook_that_does_not_answer_is_named_and_said_to_be_ours(real_engine: EngineDriver) -> None:
    engine = real_engine
    name = f"{engine.target.sync_name}.example.com"
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": f"v.{name}",
                "clientConfig": {"url": "https://127.0.0.1:1/nobody"},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": engine.namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }
        ],
    }
    try:
        assert engine.sync(webhook, engine.config_map("a")).all_applied
        report = eventually(lambda: _failing(engine, webhook), what="the webhook is called")
        assert f'Transient WebhookUnavailable: failed calling webhook "v.{name}"' in report
        assert "see to that webhook: it is in this artifact" in report
    finally:
        engine.delete("ValidatingWebhookConfiguration", name, "admissionregistration.k8s.io", "")


def _failing(engine: EngineDriver, webhook: JsonObject) -> str:
    return failure_of(engine.sync(webhook, engine.config_map("a", x=secrets.token_hex(4))), "a")


def test_a_thousand_objects_land_and_a_second_pass_writes_none_of_them(real_engine: EngineDriver) -> None:
    engine = real_engine
    objects = [engine.config_map(f"cm-{number:04d}", number=str(number), text="x" * 50) for number in range(OBJECTS)]
    for expected in (Action.CREATED, Action.UNCHANGED):
        wall, cpu = time.perf_counter(), time.process_time()
        report = engine.sync(*objects)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"\n{OBJECTS} ConfigMaps {expected}: {wall:.2f} s, {OBJECTS / wall:.0f}/s, {cpu:.2f} s CPU")
        assert report.failures == ()
        if expected is Action.CREATED:
            assert report.counts == {Action.CREATED: OBJECTS}
            before = _versions(engine)
    assert _versions(engine) == before
    assert len(engine.owned()) == OBJECTS


def test_an_outage_ends_the_pass_early_and_the_next_pass_converges(control_plane: ControlPlane, tmp_path: Path) -> None:
    with driver(control_plane.kubeconfig, installed=tmp_path) as engine:
        engine.sync(engine.config_map("first"))
        objects = [engine.config_map(f"cm-{number}") for number in range(60)]
        patient = engine.agent
        engine.agent = connect(str(engine.kubeconfig), user_agent="ocisync/test", sleep=lambda _: False)
        control_plane.stop_apiserver()
        try:
            with pytest.raises(Unavailable) as gone:
                engine.sync(engine.config_map("first"), *objects)
            assert engine.own.host in gone.value.message
        finally:
            engine.own.close()
            engine.agent = patient
            control_plane.start_apiserver()
        assert engine.sync(engine.config_map("first"), *objects).all_applied
        assert len(engine.owned()) == 61


def _versions(engine: EngineDriver) -> dict[str, str]:
    ours = (("labelSelector", f"{PART_OF_LABEL}={engine.target.sync_id}"),)  # controllers put theirs there at any time
    response = engine.kube.request("GET", engine.path("ConfigMap", ""), query=ours)
    items = json.loads(response.body)["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


def test_the_end_of_a_sync_waits_for_objects_that_cannot_be_looked_at(real_engine: EngineDriver) -> None:
    """An aggregated API whose server is down says nothing about what it holds."""
    group = f"silent-{real_engine.namespace}.example"
    service: JsonObject = {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group, "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "insecureSkipTLSVerify": True, "service": {"namespace": real_engine.namespace, "name": "nobody"},
        },
    }  # fmt: skip

    def silent() -> bool:
        real_engine.discovery.refresh()
        return real_engine.discovery.is_silent(group)

    path = f"/apis/apiregistration.k8s.io/v1/apiservices/v1.{group}"
    real_engine.sync(real_engine.config_map("a"))
    store = real_engine.engine().inventory(real_engine.target)
    store.add([ObjectId(group, "Thing", real_engine.namespace, "x")])
    try:
        post(real_engine.kube, "/apis/apiregistration.k8s.io/v1/apiservices", service)
        eventually(silent, what="the group is known and silent")
        report = real_engine.engine().delete_all(real_engine.target, store)
        assert [one.name for one in report.ending] == ["x"]
        assert real_engine.live("ConfigMap", "a") is None
        assert real_engine.engine().inventory(real_engine.target).exists
    finally:
        real_engine.kube.request("DELETE", path)
