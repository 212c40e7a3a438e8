"""After a start, what our last apply left is found out without writing anything: for drift that is only reported."""

from __future__ import annotations

from ocisync.cluster.drift import Verdict, judge
from ocisync.cluster.memory import Applied, applied_of
from ocisync.cluster.normalise import Desired
from ocisync.model.resource import JsonObject
from tests.support.engine import EngineDriver, manifest


def wanted(engine: EngineDriver, obj: JsonObject) -> Desired:
    """The object as a pass would apply it."""
    return engine.engine().prepare([manifest(obj)], engine.target).desired[0]


def stands(engine: EngineDriver, obj: JsonObject, uid: str = "") -> Applied:
    """What is found out."""
    found = engine.engine().standing(wanted(engine, obj), engine.target, uid)
    assert found is not None
    return found


def verdict(engine: EngineDriver, found: Applied, live: JsonObject) -> Verdict:
    """What a watch would make of the object as it is."""
    return judge(found, "ADDED", live, sync_id=engine.target.sync_id).verdict


def test_an_object_as_it_was_applied_is_remembered_as_it_is(engine: EngineDriver) -> None:
    obj = engine.config_map("settings", colour="blue")
    engine.sync(obj)
    before = engine.must("ConfigMap", "settings")
    found = stands(engine, obj, before["metadata"]["uid"])
    assert found == applied_of(before)
    assert engine.must("ConfigMap", "settings") == before
    assert verdict(engine, found, before) is Verdict.IGNORE


def test_what_others_changed_or_removed_is_found_by_the_watch_and_not_put_back(engine: EngineDriver) -> None:
    obj = engine.config_map("settings", colour="blue", size="large")
    engine.sync(obj)
    uid = engine.must("ConfigMap", "settings")["metadata"]["uid"]
    for change in ({"data": {"colour": "red"}}, {"data": {"size": None}}):
        engine.write_as("by-hand", "ConfigMap", "settings", change)
        live = engine.must("ConfigMap", "settings")
        assert verdict(engine, stands(engine, obj, uid), live) is Verdict.DRIFT
        assert engine.must("ConfigMap", "settings") == live


def test_a_successor_and_a_deleted_object_are_known_as_such(engine: EngineDriver) -> None:
    obj = engine.config_map("settings", colour="blue")
    engine.sync(obj)
    uid = engine.must("ConfigMap", "settings")["metadata"]["uid"]
    engine.delete("ConfigMap", "settings")
    gone = stands(engine, obj, uid)
    assert (gone.uid, gone.resource_version) == (uid, 0)
    assert engine.live("ConfigMap", "settings") is None
    engine.create_as("by-hand", obj)
    live = engine.must("ConfigMap", "settings")
    assert verdict(engine, stands(engine, obj, uid), live) is Verdict.REPLACED
    assert engine.must("ConfigMap", "settings") == live


def test_what_the_server_refuses_cannot_be_found_out(engine: EngineDriver) -> None:
    obj = engine.config_map("settings", colour="blue")
    engine.sync(obj)
    bad = {**obj, "data": {"colour": 7}}
    assert engine.engine().standing(wanted(engine, bad), engine.target) is None
