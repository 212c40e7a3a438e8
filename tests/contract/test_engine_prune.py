"""Deleting: only what is proven ours, only after everything was applied, never more than the guard allows."""

from __future__ import annotations

from ocisync.cluster.apply import Action
from ocisync.cluster.guard import Guard
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PART_OF_LABEL
from tests.support.engine import EngineDriver, actions, failure_of
from tests.support.waiting import eventually


def test_an_object_that_git_dropped_is_deleted_and_forgotten(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    report = engine.sync(engine.config_map("a"))
    assert actions(report)["b"] is Action.DELETED
    assert engine.live("ConfigMap", "b") is None
    assert engine.owned() == ["a"]


def test_nothing_is_deleted_while_an_object_of_the_revision_fails(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("old-name", x="1"))
    broken = {**engine.config_map("new-name"), "unknown": 1}
    report = engine.sync(broken)
    assert report.prune_deferred
    assert engine.live("ConfigMap", "old-name") is not None
    assert engine.sync(engine.config_map("new-name")).all_applied
    assert engine.live("ConfigMap", "old-name") is None


def test_without_prune_objects_and_their_entries_stay(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    report = engine.sync(engine.config_map("a"), prune=False)
    assert [kept.reason for kept in report.kept] == ["PruneOff"]
    assert engine.live("ConfigMap", "b") is not None
    engine.sync(engine.config_map("a"))
    assert engine.live("ConfigMap", "b") is None


def test_an_annotation_on_the_live_object_keeps_it(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.write_as("kubectl-edit", "ConfigMap", "b", {"metadata": {"annotations": {"ocisync.dev/prune": "disabled"}}})
    report = engine.sync(engine.config_map("a"))
    assert [kept.reason for kept in report.kept] == ["PruneDisabled"]
    assert engine.live("ConfigMap", "b") is not None


def test_what_only_inherited_our_label_is_never_touched(engine: EngineDriver) -> None:
    service: JsonObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
    }
    endpoints: JsonObject = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "by-hand", "labels": {PART_OF_LABEL: engine.target.sync_id}},
        "subsets": [],
    }
    engine.sync(service, engine.config_map("a"))
    engine.create_as("endpoint-controller", endpoints)
    version = engine.must("Endpoints", "by-hand")["metadata"]["resourceVersion"]
    engine.sync(engine.config_map("a"))
    assert engine.live("Service", "web") is None
    assert engine.must("Endpoints", "by-hand")["metadata"]["resourceVersion"] == version
    assert engine.owned() == ["a"]


def test_a_successor_with_another_uid_is_not_deleted(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.delete("ConfigMap", "b")
    labelled = engine.config_map("b", x="by hand")
    labelled["metadata"]["labels"] = {PART_OF_LABEL: engine.target.sync_id}
    engine.create_as("kubectl-create", labelled)
    engine.sync(engine.config_map("a"))
    assert engine.must("ConfigMap", "b")["data"] == {"x": "by hand"}
    assert engine.owned() == ["a"]


def test_an_object_whose_label_was_stripped_is_still_ours_by_uid(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.write_as("kubectl-label", "ConfigMap", "b", {"metadata": {"labels": {PART_OF_LABEL: None}}})
    engine.sync(engine.config_map("a"))
    assert engine.live("ConfigMap", "b") is None


def test_an_object_that_another_sync_labelled_is_not_deleted(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    other = engine.other().target.sync_id
    engine.write_as("kubectl-label", "ConfigMap", "b", {"metadata": {"labels": {PART_OF_LABEL: other}}})
    engine.sync(engine.config_map("a"))
    assert engine.live("ConfigMap", "b") is not None


def test_a_large_deletion_is_held_whole_until_exactly_it_is_approved(engine: EngineDriver) -> None:
    many = [engine.config_map(f"m{number}") for number in range(8)]
    engine.sync(*many)
    guard = Guard(max_prune="50%")
    report = engine.sync(engine.config_map("new"), guard=guard)
    assert report.held == "it deletes 8 of 8 objects; guard.maxPrune allows 5 (50%)"
    assert engine.live("ConfigMap", "new") is None
    assert len(engine.owned()) == 8
    other = engine.sync(engine.config_map("new"), guard=guard, digest="sha256:other", approved=report.plan_hash)
    assert other.held
    assert engine.sync(engine.config_map("new"), guard=guard, approved=report.plan_hash).held == ""
    assert engine.owned() == ["new"]


def test_an_empty_artifact_is_held(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"))
    assert engine.sync().held == "the artifact is empty: it would delete all 1 objects"
    assert engine.live("ConfigMap", "a") is not None


def test_protected_objects_are_held(engine: EngineDriver) -> None:
    precious = engine.config_map("precious")
    precious["metadata"]["annotations"] = {"ocisync.dev/protect": "confirm"}
    engine.sync(precious, engine.config_map("a"))
    assert engine.sync(engine.config_map("a")).held.startswith("it deletes protected objects: ConfigMap")
    assert engine.live("ConfigMap", "precious") is not None


def test_a_namespace_with_foreign_objects_stays_and_the_rest_is_deleted(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-more"
    space: JsonObject = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    inside = engine.config_map("inside")
    inside["metadata"]["namespace"] = name
    engine.sync(space, inside, engine.config_map("a"))
    try:
        stranger = engine.config_map("stranger")
        stranger["metadata"]["namespace"] = name
        path = engine.path("ConfigMap", "", namespace=name)
        body = b'{"metadata":{"name":"stranger"}}'
        assert engine.kube.request("POST", path, body=body, content_type="application/json").status == 201
        report = engine.sync(engine.config_map("a"))
        assert [kept.id.name for kept in report.prune_held] == [name]
        assert "ConfigMap/stranger" in report.prune_held[0].message
        assert engine.live("ConfigMap", "inside", namespace=name) is None
        engine.delete("ConfigMap", "stranger", namespace=name)
        assert engine.sync(engine.config_map("a")).kept == ()
        eventually(lambda: engine.live("Namespace", name, namespace="") is None)
        engine.sync(engine.config_map("a"))
        assert engine.owned() == ["a"]
    finally:
        engine.delete("Namespace", name, namespace="")


def test_a_namespace_whose_members_git_still_has_stays(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-more"
    space: JsonObject = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    inside = engine.config_map("inside")
    inside["metadata"]["namespace"] = name
    engine.sync(space, inside)
    try:
        report = engine.sync(inside)
        assert [kept.id.name for kept in report.prune_held] == [name]
        assert engine.live("ConfigMap", "inside", namespace=name) is not None
    finally:
        engine.delete("Namespace", name, namespace="")


def test_a_definition_with_foreign_resources_stays(engine: EngineDriver) -> None:
    group = f"{engine.target.sync_name}.example.com"
    definition: JsonObject = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    try:
        engine.sync(definition, engine.config_map("a"))
        gadget: JsonObject = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "theirs"}}
        engine.create_as("kubectl-create", gadget)
        report = engine.sync(engine.config_map("a"))
        assert "Gadget/theirs" in report.prune_held[0].message
        ours: JsonObject = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "ours"}}
        kept = engine.sync(engine.config_map("a"), ours).prune_held
        assert f"Gadget.{group} {engine.namespace}/ours" in kept[0].message
        engine.delete("Gadget", "theirs", group)
        assert engine.sync(engine.config_map("a")).kept == ()
    finally:
        engine.delete("CustomResourceDefinition", f"gadgets.{group}", "apiextensions.k8s.io", "")


def test_a_finalizer_delays_only_its_own_object(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.write_as("kubectl-edit", "ConfigMap", "b", {"metadata": {"finalizers": ["example.com/wait"]}})
    report = engine.sync(engine.config_map("a", x="1"))
    assert [id_.name for id_ in report.ending] == ["b"]
    assert report.failures == ()
    assert engine.owned() == ["a", "b"]
    again = engine.sync(engine.config_map("a", x="2"))
    assert ([id_.name for id_ in again.ending], actions(again)) == (["b"], {"a": Action.CONFIGURED})
    engine.write_as("kubectl-edit", "ConfigMap", "b", {"metadata": {"finalizers": None}})
    assert engine.sync(engine.config_map("a", x="2")).ending == ()
    assert engine.owned() == ["a"]


def test_an_object_under_a_new_name_of_its_kind_is_not_deleted_under_the_old(engine: EngineDriver) -> None:
    event: JsonObject = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Namespace", "name": engine.namespace, "namespace": engine.namespace},
        "reason": "Test",
        "type": "Normal",
    }
    engine.sync(event, engine.config_map("a"))
    uid = engine.must("Event", "e")["metadata"]["uid"]
    moved: JsonObject = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "regarding": {"kind": "Namespace", "name": engine.namespace, "namespace": engine.namespace},
        "reason": "Test",
        "type": "Normal",
    }
    report = engine.sync(moved, engine.config_map("a"))
    assert report.failures == (), failure_of(report, "e")
    assert engine.must("Event", "e")["metadata"]["uid"] == uid


def test_the_end_of_a_sync_deletes_what_it_owns_and_its_inventory(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.create_as("kubectl-create", engine.config_map("stranger"))
    store = engine.engine().inventory(engine.target)
    report = engine.engine().delete_all(engine.target, store)
    assert actions(report) == {"a": Action.DELETED, "b": Action.DELETED}
    assert engine.live("ConfigMap", "a") is None
    assert engine.live("ConfigMap", "stranger") is not None
    assert not engine.engine().inventory(engine.target).exists


def test_the_end_of_a_sync_can_leave_everything_running_for_the_next_owner(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1"))
    store = engine.engine().inventory(engine.target)
    engine.engine().delete_all(engine.target, store, orphan=True)
    assert engine.must("ConfigMap", "a")["data"] == {"x": "1"}
    assert engine.other().sync(engine.config_map("a", x="2")).failures == ()
