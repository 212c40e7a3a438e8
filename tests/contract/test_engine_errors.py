"""What a real API server answers, and the class that it is given: the rows that no everyday fault shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ocisync.cluster.client import JSON
from tests.contract.test_engine_access import allow_config_maps
from tests.contract.test_engine_apply import crd, widget
from tests.support.engine import LIMITED, EngineDriver, failure_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.real


def test_a_body_beyond_the_servers_limit_is_permanent_and_wants_to_be_split(real_engine: EngineDriver) -> None:
    report = real_engine.sync(real_engine.config_map("huge", text="x" * 3_300_000))
    failure = failure_of(report, "huge")
    assert failure.startswith("Permanent RequestEntityTooLarge: "), failure
    assert failure.endswith("; split it up")


def test_an_object_beyond_the_limit_of_etcd_is_permanent_and_wants_to_be_split(real_engine: EngineDriver) -> None:
    engine = real_engine
    group = f"{engine.target.sync_name}.example.com"
    definition = crd(group)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["text"] = {"type": "string"}
    try:
        report = engine.sync(definition, widget(group, text="x" * 2_000_000), engine.config_map("fine"))
        failure = failure_of(report, "first")
        assert failure.startswith("Permanent "), failure
        assert "too large" in failure and failure.endswith("; split it up")
        assert [result.id.name for result in report.failures] == ["first"]
    finally:
        engine.delete("CustomResourceDefinition", f"widgets.{group}", "apiextensions.k8s.io", "")


def test_a_quota_is_forbidden_with_its_numbers_and_not_with_an_account(real_engine: EngineDriver) -> None:
    engine = real_engine
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
    engine.create_as("someone", {**quota, "spec": {"hard": {"services": "0"}}})
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    services, probe = engine.path("Service", ""), json.dumps(service).encode()

    def counted() -> bool:
        """Whether a controller has counted for the quota, and admission has seen that: it refuses before that, too."""
        answer = engine.kube.request("POST", services, query=(("dryRun", "All"),), body=probe, content_type=JSON)
        return b"exceeded quota" in answer.body

    eventually(counted, what="the quota is in force")
    assert failure_of(engine.sync(service), "web") == (
        'Forbidden Forbidden: services "web" is forbidden: exceeded quota: small, requested: services=1, '
        "used: services=0, limited: services=0; raise the quota or ask for less"
    )


def test_a_missing_right_names_account_verb_resource_and_place(real_engine: EngineDriver) -> None:
    engine = real_engine
    engine.target = replace(engine.target, service_account=LIMITED)
    allow_config_maps(engine, ("get",))
    account = f"system:serviceaccount:{engine.namespace}:{LIMITED}"
    assert failure_of(engine.sync(engine.config_map("a")), "a") == (
        f"Forbidden Forbidden: {account} cannot patch configmaps in namespace {engine.namespace}; "
        "grant it to that account with a Role or ClusterRole"
    )
