"""What a pass says that it changed, exactly: the server answers an apply that changed nothing like any other."""

from __future__ import annotations

from ocisync.cluster.apply import Action
from ocisync.cluster.memory import Applied
from ocisync.model.resource import JsonObject, ObjectId
from tests.contract.test_engine_apply import deployment
from tests.support.engine import EngineDriver, actions

NOTE: JsonObject = {"metadata": {"annotations": {"controller.example/seen": "yes"}}}


def after(obj: JsonObject, namespace: str, name: str) -> JsonObject:
    """The object, to be applied after a ConfigMap."""
    annotations = {"ocisync.dev/depends-on": f"/ConfigMap/{namespace}/{name}"}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def test_a_pass_right_after_a_restart_names_what_it_changed_and_nothing_else(engine: EngineDriver) -> None:
    objects = [engine.config_map("edited"), engine.config_map("kept"), engine.config_map("noted"), deployment("web")]
    engine.sync(*objects)
    engine.write_as("by-hand", "ConfigMap", "edited", {"data": {"key": "other"}})
    engine.write_as("controller", "ConfigMap", "noted", NOTE)
    second = actions(engine.sync(*objects))  # most likely within the second of the first one; nothing is remembered
    assert second == {
        "edited": Action.CONFIGURED,
        "kept": Action.UNCHANGED,
        "noted": Action.UNCHANGED,
        "web": Action.UNCHANGED,
    }
    assert engine.must("ConfigMap", "edited")["data"] == {"key": "value"}


def test_what_others_write_while_such_a_pass_runs_is_not_taken_for_its_own(engine: EngineDriver) -> None:
    behind = [after(engine.config_map(name), engine.namespace, "first") for name in ("edited", "kept", "noted")]
    objects = [engine.config_map("first"), *behind, after(deployment("web"), engine.namespace, "first")]
    engine.sync(*objects)

    def meanwhile(object_id: ObjectId, _: Applied) -> None:
        if object_id.name == "first":
            engine.write_as("by-hand", "ConfigMap", "edited", {"data": {"key": "other"}})
            engine.write_as("controller", "ConfigMap", "noted", NOTE)
            engine.write_as("controller", "Deployment", "web", NOTE, "apps")

    second = actions(engine.sync(*objects, on_applied=meanwhile))
    assert second == {
        "first": Action.UNCHANGED,
        "edited": Action.CONFIGURED,
        "kept": Action.UNCHANGED,
        "noted": Action.UNCHANGED,
        "web": Action.UNCHANGED,
    }
    assert engine.must("ConfigMap", "noted")["metadata"]["annotations"]["controller.example/seen"] == "yes"


def test_what_a_pass_takes_from_those_who_held_it_too_is_named_within_the_second(engine: EngineDriver) -> None:
    engine.create_as("operator", engine.config_map("a", key="one"))
    assert actions(engine.sync(engine.config_map("a", key="one"))) == {"a": Action.CONFIGURED}
    assert actions(engine.sync(engine.config_map("a", key="two"))) == {"a": Action.CONFIGURED}


def test_a_pass_that_remembers_the_last_one_tells_changes_within_the_same_second(engine: EngineDriver) -> None:
    def objects(image: str) -> list[JsonObject]:
        web = deployment("web")
        web["spec"]["template"]["spec"]["containers"][0]["image"] = image
        return [engine.config_map("edited"), engine.config_map("kept"), engine.config_map("noted"), web]

    known: dict[ObjectId, Applied] = {}

    def remember(object_id: ObjectId, applied: Applied) -> None:
        known[object_id] = applied

    engine.sync(*objects("x:1"), on_applied=remember)
    engine.write_as("by-hand", "ConfigMap", "edited", {"data": {"key": "other"}})
    engine.write_as("controller", "ConfigMap", "noted", NOTE)
    second = actions(engine.sync(*objects("x:1"), on_applied=remember, previous=dict(known).get))
    assert second == {
        "edited": Action.CONFIGURED,
        "kept": Action.UNCHANGED,
        "noted": Action.UNCHANGED,
        "web": Action.UNCHANGED,
    }
    third = actions(engine.sync(*objects("x:2"), previous=dict(known).get))
    assert third["web"] is Action.CONFIGURED
    assert {third[name] for name in ("edited", "kept", "noted")} == {Action.UNCHANGED}
