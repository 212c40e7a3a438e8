"""Whose an object is, and whose its fields are: on the sandbox and on a real API server."""

from __future__ import annotations

from ocisync.cluster.apply import Action
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PART_OF_LABEL
from tests.contract.test_engine_apply import deployment
from tests.support.engine import EngineDriver, actions, failure_of


def test_what_hands_made_is_adopted_and_what_git_drops_of_it_later_goes(engine: EngineDriver) -> None:
    engine.create_as("kubectl-create", engine.config_map("a", ours="1", extra="theirs"))
    assert engine.sync(engine.config_map("a", ours="2", more="1")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"ours": "2", "more": "1", "extra": "theirs"}
    assert sorted(engine.managers("ConfigMap", "a")) == [("kubectl-create", "Update"), ("ocisync", "Apply")]
    assert engine.sync(engine.config_map("a", more="1")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"more": "1", "extra": "theirs"}


def test_what_hands_wrote_with_the_value_of_git_is_let_go_of_too(engine: EngineDriver) -> None:
    engine.create_as("kubectl-create", engine.config_map("a", same="1"))
    assert engine.sync(engine.config_map("a", same="1")).failures == ()
    assert engine.managers("ConfigMap", "a") == [("ocisync", "Apply")]
    engine.sync(engine.config_map("a", other="1"))
    assert engine.must("ConfigMap", "a")["data"] == {"other": "1"}


def test_residue_is_removed_once_and_a_second_pass_writes_nothing(engine: EngineDriver) -> None:
    engine.create_as("kubectl-client-side-apply", engine.config_map("a", x="1"))
    engine.sync(engine.config_map("a", x="1"))
    version = engine.must("ConfigMap", "a")["metadata"]["resourceVersion"]
    engine.sync(engine.config_map("a", x="1"))
    assert engine.must("ConfigMap", "a")["metadata"]["resourceVersion"] == version


def test_annotations_on_a_live_object_never_switch_reconciliation_off(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1"), deployment("web"))
    off: JsonObject = {"ocisync.dev/apply": "Ignore", "ocisync.dev/wave": "9", "ocisync.dev/force": "enabled"}
    off |= {"ocisync.dev/depends-on": "/ConfigMap/nowhere/nothing", "kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    engine.write_as("someone", "ConfigMap", "a", {"metadata": {"annotations": off}, "data": {"x": "theirs"}})
    engine.write_as("someone", "Deployment", "web", {"metadata": {"annotations": off}}, "apps")
    assert engine.sync(engine.config_map("a", x="2"), deployment("web")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"x": "2"}
    moved = deployment("web")
    moved["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    moved["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    report = engine.sync(engine.config_map("a", x="2"), moved)
    assert failure_of(report, "web").startswith("Immutable "), "force is not taken from the live object"


def test_first_contact_changes_nothing_that_exists_before_its_owner_is_known(engine: EngineDriver) -> None:
    theirs = engine.config_map("a", x="theirs")
    theirs["metadata"]["labels"] = {PART_OF_LABEL: "applyset-of-another-tool-v1"}
    before = engine.apply_as("kubectl", theirs)["metadata"]["resourceVersion"]
    report = engine.sync(engine.config_map("a", x="ours"), force=True)
    assert failure_of(report, "a").startswith("Conflict OwnedByOther: belongs to another sync (applyset-of-another")
    assert engine.must("ConfigMap", "a")["metadata"]["resourceVersion"] == before
    assert engine.owned() == ["a"], "written ahead, without a uid: never deleted"
    assert engine.sync(engine.config_map("b")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"x": "theirs"}


def test_an_object_that_is_only_to_be_there_is_not_taken_from_whoever_made_it(engine: EngineDriver) -> None:
    engine.create_as("helm", engine.config_map("a", x="theirs"))
    once = engine.config_map("a", x="ours")
    once["metadata"]["annotations"] = {"ocisync.dev/apply": "IfNotPresent"}
    assert actions(engine.sync(once)) == {"a": Action.SKIPPED}
    assert engine.must("ConfigMap", "a")["data"] == {"x": "theirs"}
    assert engine.managers("ConfigMap", "a") == [("helm", "Update")]


def test_a_conflict_names_each_manager_with_its_fields_and_how_to_take_them(engine: EngineDriver) -> None:
    engine.apply_as("helm", engine.config_map("a", x="1", y="1"))
    engine.write_as("operator", "ConfigMap", "a", {"data": {"z": "1"}})
    report = engine.sync(engine.config_map("a", x="2", y="2", z="2"))
    assert failure_of(report, "a") == (
        "Conflict ManagedByOther: data.x, data.y managed by 'helm'; data.z managed by 'operator'; "
        "spec.force or the annotation ocisync.dev/force: enabled takes it"
    )


def test_a_successor_made_by_hand_is_adopted_as_on_first_contact(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1"))
    engine.delete("ConfigMap", "a")
    engine.create_as("kubectl-create", engine.config_map("a", x="by hand"))
    report = engine.sync(engine.config_map("a", x="1"))
    assert report.failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"x": "1"}
    assert engine.managers("ConfigMap", "a") == [("ocisync", "Apply")]
