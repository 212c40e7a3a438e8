"""What others do to objects, definitions and inventories behind our back: on the sandbox and on a real API server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ocisync.cluster.apply import Action
from ocisync.cluster.client import JSON, MERGE_PATCH
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.inventory import INVENTORY_LABEL
from ocisync.model.errors import ClusterRefused
from ocisync.model.resource import JsonObject, ObjectId
from tests.contract.test_engine_apply import crd, widget
from tests.support.engine import EngineDriver, Killed, actions, failure_of, manifest
from tests.support.waiting import eventually


def test_whoever_keeps_objects_is_told_before_anything_is_deleted(engine: EngineDriver) -> None:
    told: list[tuple[ObjectId, ...]] = []

    def deleting(ids: tuple[ObjectId, ...]) -> None:
        assert engine.live("ConfigMap", "b") is not None
        told.append(ids)

    def killed(step: str) -> None:
        if step == "remove":
            raise Killed

    engine.sync(engine.config_map("a"), engine.config_map("b"))
    with pytest.raises(Killed):
        engine.sync(engine.config_map("a"), hook=killed, on_deleting=deleting)
    assert [id_.name for ids in told for id_ in ids] == ["b"]
    assert engine.live("ConfigMap", "b") is None


def test_a_correction_does_not_force_the_successor_that_another_program_made(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1"))
    engine.delete("ConfigMap", "a")
    engine.apply_as("helm", engine.config_map("a", x="theirs"))
    (desired,) = engine.engine().prepare([manifest(engine.config_map("a", x="1"))], engine.target).desired
    result = engine.engine().apply_one(desired, engine.target)
    assert result.failure is not None
    assert result.failure.reason == "ManagedByOther"
    assert engine.must("ConfigMap", "a")["data"] == {"x": "theirs"}


def test_a_sync_that_its_own_artifact_brings_is_never_pruned_and_can_end(engine: EngineDriver) -> None:
    engine.with_parent()
    own: JsonObject = {
        "apiVersion": "ocisync.dev/v1alpha1", "kind": "ArtifactSync", "metadata": {"name": engine.target.sync_name},
        "spec": {"source": {"repository": "localhost/test", "tag": "x"}},
    }  # fmt: skip
    assert engine.sync(own, engine.config_map("a")).failures == ()
    report = engine.sync(engine.config_map("a"))
    assert [(kept.id.name, kept.reason) for kept in report.kept] == [(engine.target.sync_name, "Self")]
    path = engine.path("ArtifactSync", engine.target.sync_name, "ocisync.dev")
    try:
        held = b'{"metadata":{"finalizers":["ocisync.dev/finalizer"]}}'
        engine.kube.request("PATCH", path, body=held, content_type=MERGE_PATCH)
        engine.kube.request("DELETE", path)
        ended = engine.engine().delete_all(engine.target, engine.engine().inventory(engine.target))
        assert ended.ending == ()
        assert engine.live("ConfigMap", "a") is None
    finally:
        engine.kube.request("PATCH", path, body=b'{"metadata":{"finalizers":null}}', content_type=MERGE_PATCH)


def test_a_namespace_that_holds_the_sync_itself_is_not_waited_for_when_the_sync_ends(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-own"
    space: JsonObject = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    inside = engine.config_map("self")  # stands for the sync: only the uid tells
    inside["metadata"]["namespace"] = name
    engine.sync(space, inside)
    try:
        uid = engine.must("ConfigMap", "self", namespace=name)["metadata"]["uid"]
        engine.target = replace(engine.target, sync_uid=uid)
        ended = engine.engine().delete_all(engine.target, engine.engine().inventory(engine.target))
        assert ended.ending == ()
        assert sorted(kept.reason for kept in ended.kept) == ["PruneHeld", "Self"]
    finally:
        engine.delete("Namespace", name, namespace="")


def _served_version(engine: EngineDriver, group: str) -> str:
    """As the server tells it now; the engine goes by what it asked for before."""
    resource = Discovery(engine.kube).find(group, "Widget")
    return resource.version if resource is not None else ""


def test_a_resource_whose_definition_moved_to_another_version_is_still_found_and_deleted(engine: EngineDriver) -> None:
    group = f"{engine.target.sync_name}.example.com"
    definition = crd(group)
    name = definition["metadata"]["name"]
    try:
        engine.create_as("someone", definition)
        eventually(lambda: engine.discovery.find(group, "Widget") is not None, what="the definition is served")
        assert engine.sync(widget(group), engine.config_map("a")).failures == ()
        schema = definition["spec"]["versions"][0]["schema"]
        versions = [
            {"name": "v1", "served": False, "storage": False, "schema": schema},
            {"name": "v2", "served": True, "storage": True, "schema": schema},
        ]
        path = engine.path("CustomResourceDefinition", name, "apiextensions.k8s.io", "")
        change = json.dumps({"spec": {"versions": versions}}).encode()
        assert engine.kube.request("PATCH", path, body=change, content_type=MERGE_PATCH).status == 200
        old = f"/apis/{group}/v1/namespaces/{engine.namespace}/widgets/first"
        new = f"/apis/{group}/v2/namespaces/{engine.namespace}/widgets/first"
        eventually(lambda: engine.kube.request("GET", new).status == 200, what="the new version")
        eventually(lambda: engine.kube.request("GET", old).status == 404, what="the end of the old version")
        eventually(lambda: _served_version(engine, group) == "v2", what="discovery tells of it")
        report = engine.sync(engine.config_map("a"))
        assert actions(report)["first"] is Action.DELETED
        eventually(lambda: engine.kube.request("GET", new).status == 404, what="its end")
    finally:
        engine.delete("CustomResourceDefinition", name, "apiextensions.k8s.io", "")


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("-odd", {"format": "1", "entries": ""}),
        ("-99999999", {"format": "1", "entries": ""}),
        ("", {"format": "1", "transitions": "many"}),
        ("-000", {"format": "1", "entries": "nonsense\n"}),
        ("-000", {"format": "7"}),
    ],
)
def test_a_hand_edited_inventory_is_one_clear_error_and_nothing_is_written(
    engine: EngineDriver, suffix: str, data: dict[str, str]
) -> None:
    engine.sync(engine.config_map("a"))
    maps = f"/api/v1/namespaces/{engine.agent_namespace}/configmaps"
    listed = json.loads(engine.kube.request("GET", maps, query=(("labelSelector", INVENTORY_LABEL),)).body)["items"]
    header = next(item for item in listed if "transitions" in item["data"])
    name = header["metadata"]["name"] + suffix
    body: JsonObject = {
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": name, "labels": header["metadata"]["labels"]},
    }  # fmt: skip
    engine.kube.request("DELETE", f"{maps}/{name}")
    assert engine.kube.request("POST", maps, body=json.dumps(body).encode(), content_type=JSON).status == 201
    with pytest.raises(ClusterRefused) as caught:
        engine.sync(engine.config_map("b"))
    assert name in caught.value.message
    assert caught.value.hint
    assert engine.live("ConfigMap", "b") is None


def test_what_admission_says_of_a_secret_is_not_quoted(real_engine: EngineDriver) -> None:
    engine = real_engine
    policy = f"no-{engine.target.sync_name}"
    rule: JsonObject = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": policy},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}
            ]},
            "validations": [{
                "expression": "!has(object.data) || !('p' in object.data)", "reason": "Forbidden",
                "messageExpression": "'weak password: ' + string(object.data['p'])",
            }],
        },
    }  # fmt: skip
    binding: JsonObject = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": policy},
        "spec": {
            "policyName": policy, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": engine.namespace}}},
        },
    }  # fmt: skip
    group = "admissionregistration.k8s.io"
    try:
        for obj in (rule, binding):
            path = engine.path(str(obj["kind"]), "", group, "")
            answer = engine.kube.request("POST", path, body=json.dumps(obj).encode(), content_type=JSON)
            assert answer.status == 201, answer.body
        number = iter(range(1000))

        def refused() -> str:
            name = f"s{next(number)}"
            secret: JsonObject = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
            return failure_of(engine.sync({**secret, "stringData": {"p": "hunter2"}}, digest=name), name)

        eventually(lambda: "denied" in refused(), what="the policy is in force")
        text = refused()
        assert "hunter2" not in text
        assert "aHVudGVyMg" not in text
    finally:
        engine.delete("ValidatingAdmissionPolicyBinding", policy, group, "")
        engine.delete("ValidatingAdmissionPolicy", policy, group, "")


def test_what_was_written_under_our_own_name_is_no_other_program(engine: EngineDriver) -> None:
    engine.create_as("ocisync", engine.config_map("a", x="by an admission webhook in our request"))
    assert engine.sync(engine.config_map("a", x="1")).failures == ()
    engine.write_as("ocisync", "ConfigMap", "a", {"data": {"x": "again"}})
    assert engine.sync(engine.config_map("a", x="1")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"x": "1"}


def test_a_definition_that_was_deleted_returns_with_its_resources(engine: EngineDriver) -> None:
    group = f"{engine.target.sync_name}.example.com"
    definition = crd(group)
    name = definition["metadata"]["name"]
    try:
        assert engine.sync(definition, widget(group)).failures == ()
        engine.delete("CustomResourceDefinition", name, "apiextensions.k8s.io", "")
        gone = engine.path("CustomResourceDefinition", name, "apiextensions.k8s.io", "")
        eventually(lambda: engine.kube.request("GET", gone).status == 404, what="its end")
        assert engine.sync(definition, widget(group)).failures == ()
        assert engine.must("Widget", "first", group)["spec"] == {"size": 1}
    finally:
        engine.delete("CustomResourceDefinition", name, "apiextensions.k8s.io", "")


def test_a_deleted_inventory_shard_orphans_nothing_that_git_still_has(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    maps = f"/api/v1/namespaces/{engine.agent_namespace}/configmaps"
    listed = json.loads(engine.kube.request("GET", maps, query=(("labelSelector", INVENTORY_LABEL),)).body)["items"]
    for item in listed:
        if "entries" in item["data"]:
            engine.kube.request("DELETE", f"{maps}/{item['metadata']['name']}")
    assert engine.sync(engine.config_map("a"), engine.config_map("b")).failures == ()
    assert actions(engine.sync(engine.config_map("a")))["b"] is Action.DELETED


def test_odd_metadata_is_refused_object_by_object(engine: EngineDriver) -> None:
    labels, annotated = engine.config_map("labels"), engine.config_map("annotated")
    labels["metadata"]["labels"] = ["a", "b"]
    annotated["metadata"]["annotations"] = {"ocisync.dev/wave": 1}
    hostile = engine.config_map("hostile")
    hostile["metadata"]["labels"] = {"x": "a b\n{{}}", "applyset.kubernetes.io/part-of": "applyset-theirs-v1"}
    report = engine.sync(labels, annotated, hostile, engine.config_map("good"))
    assert actions(report)["good"] is Action.CREATED
    assert {r.id.name for r in report.failures} == {"labels", "annotated", "hostile"}
    assert all("Traceback" not in failure_of(report, name) for name in ("labels", "annotated", "hostile"))
