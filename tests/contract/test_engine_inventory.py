"""The inventory: written ahead, rebuilt when lost, and right again after a kill at any step."""

from __future__ import annotations

import contextlib
import json

import pytest

from ocisync.cluster.apply import Action
from ocisync.cluster.inventory import EntryState, InventoryStore
from ocisync.cluster.memory import Applied
from ocisync.kit.stop import StopToken
from ocisync.model.errors import ClusterRefused
from ocisync.model.resource import ObjectId
from tests.support.engine import EngineDriver, Killed, actions

STEPS = ("claim", "add", "record", "remove")


class Killer:
    """Kills the pass at the n-th time that a step is about to be written."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.struck = False

    def __call__(self, step: str) -> None:
        if step == self.step:
            self.struck = True
            raise Killed(step)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_before_any_inventory_write_neither_orphans_nor_deletes_wrongly(engine: EngineDriver, step: str) -> None:
    engine.sync(engine.config_map("stays"), engine.config_map("goes"))
    engine.create_as("kubectl-create", engine.config_map("stranger"))
    killer = Killer(step)
    wanted = (engine.config_map("stays", x="2"), engine.config_map("comes"))
    with pytest.raises(Killed):
        engine.sync(*wanted, digest="sha256:two", hook=killer)
    assert killer.struck
    engine.sync(*wanted, digest="sha256:two")
    assert engine.owned() == ["comes", "stays"]
    assert engine.live("ConfigMap", "goes") is None
    assert engine.must("ConfigMap", "stays")["data"] == {"x": "2"}
    assert engine.live("ConfigMap", "comes") is not None
    assert engine.live("ConfigMap", "stranger") is not None


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_and_then_another_revision_deletes_what_the_killed_pass_made(engine: EngineDriver, step: str) -> None:
    engine.sync(engine.config_map("stays"), engine.config_map("goes"))
    with pytest.raises(Killed):
        engine.sync(engine.config_map("stays"), engine.config_map("brief"), digest="sha256:two", hook=Killer(step))
    engine.sync(engine.config_map("stays"), digest="sha256:three")
    assert engine.live("ConfigMap", "brief") is None
    assert engine.live("ConfigMap", "goes") is None
    assert engine.owned() == ["stays"]


def test_a_kill_in_the_middle_of_the_apply_orphans_nothing(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("stays"))
    many = [engine.config_map(f"m{number}") for number in range(40)]
    landed: list[str] = []

    def strike(id_: ObjectId, _: Applied) -> None:
        if id_.name != "stays":
            landed.append(id_.name)
        if len(landed) >= 20:  # not `==`: other threads append, too
            raise Killed

    with pytest.raises(Killed):
        engine.sync(engine.config_map("stays"), *many, digest="sha256:two", on_applied=strike)
    alive = [obj for obj in many if engine.live("ConfigMap", obj["metadata"]["name"])]
    assert len(alive) >= 20
    report = engine.sync(engine.config_map("stays"), digest="sha256:three")
    assert (report.held, report.failures) == ("", ())
    assert [obj for obj in many if engine.live("ConfigMap", obj["metadata"]["name"])] == []
    assert engine.owned() == ["stays"]


def test_an_object_that_a_killed_pass_made_anew_under_another_uid_is_still_ours(engine: EngineDriver) -> None:
    """Its old uid is taken out of the inventory before it is made: the kill comes before the new one is noted."""
    engine.sync(engine.config_map("stays"), engine.config_map("b"))
    engine.delete("ConfigMap", "b")
    with pytest.raises(Killed):
        engine.sync(engine.config_map("stays"), engine.config_map("b"), hook=Killer("record"))
    assert engine.live("ConfigMap", "b") is not None
    engine.sync(engine.config_map("stays"), digest="sha256:two")
    assert engine.live("ConfigMap", "b") is None
    assert engine.owned() == ["stays"]


def test_objects_that_vanished_together_are_written_ahead_together_and_made_only_after_that(
    engine: EngineDriver,
) -> None:
    many = [engine.config_map(f"m{number:02}") for number in range(30)]
    engine.sync(*many)
    for number in range(30):
        engine.delete("ConfigMap", f"m{number:02}")
    steps: list[str] = []

    def refuse(step: str) -> None:
        steps.append(step)
        if step == "renounce":
            raise ClusterRefused("no")

    report = engine.sync(*many, hook=refuse)
    assert {result.failure.reason for result in report.failures if result.failure} == {"NotWrittenAhead"}
    assert [number for number in range(30) if engine.live("ConfigMap", f"m{number:02}")] == []
    steps.clear()
    assert engine.sync(*many, hook=steps.append).all_applied
    assert 1 <= steps.count("renounce") < 30


def test_a_member_with_another_uid_is_unproven_until_an_artifact_has_named_it(engine: EngineDriver) -> None:
    """As after a restore of a backup: label and Apply entry are ours, and it is not the object that we applied."""
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    store = engine.engine().inventory(engine.target)
    store.record({ObjectId("", "ConfigMap", engine.namespace, "b"): "the-uid-before-the-restore"})
    report = engine.sync(engine.config_map("a"))
    assert [(kept.id.name, kept.reason) for kept in report.kept] == [("b", "Unproven")]
    assert engine.live("ConfigMap", "b") is not None
    assert engine.owned() == ["a", "b"]
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    assert actions(engine.sync(engine.config_map("a")))["b"] is Action.DELETED


def test_a_stopped_pass_skips_the_rest_and_the_next_one_finishes(engine: EngineDriver) -> None:
    many = [engine.config_map(f"m{number}") for number in range(40)]
    report = engine.sync(*many, on_applied=lambda *_: engine.stop.stop())
    assert not report.all_applied
    assert report.counts[Action.SKIPPED] > 0
    engine.stop = StopToken()
    assert engine.sync(*many).all_applied
    assert len(engine.owned()) == 40


def test_an_entry_written_ahead_of_an_object_that_never_came_is_dropped_not_deleted(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"))
    store = engine.engine().inventory(engine.target)
    store.add(
        [ObjectId("", "ConfigMap", engine.namespace, "foreign"), ObjectId("", "ConfigMap", engine.namespace, "none")]
    )
    engine.create_as("kubectl-create", engine.config_map("foreign"))
    engine.sync(engine.config_map("a"))
    assert engine.live("ConfigMap", "foreign") is not None
    assert engine.owned() == ["a"]


def test_two_passes_on_one_inventory_cannot_both_write(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"))
    one, two = engine.engine().inventory(engine.target), engine.engine().inventory(engine.target)
    one.add([ObjectId("", "ConfigMap", engine.namespace, "one")])
    with pytest.raises(ClusterRefused) as refusal:
        two.add([ObjectId("", "ConfigMap", engine.namespace, "two")])
    assert refusal.value.reason == "InventoryConflict"


def test_when_the_inventory_cannot_be_written_nothing_is_applied(engine: EngineDriver) -> None:
    engine.agent_namespace = "there-is-no-such-namespace"
    with pytest.raises(ClusterRefused):
        engine.sync(engine.config_map("a"))
    assert engine.live("ConfigMap", "a") is None


def test_large_inventories_are_split_grow_and_lose_nothing(engine: EngineDriver) -> None:
    def store() -> InventoryStore:
        made = InventoryStore(
            engine.own, engine.agent_namespace, sync_namespace="x", sync_name="large", shard_bytes=2_000
        )
        made.load()
        return made

    ids = [ObjectId("apps", "Deployment", "some-namespace", f"name-{number:04d}") for number in range(300)]
    first = store()
    first.add(ids[:5])
    first.record({id_: f"uid-{id_.name}" for id_ in ids[:5]})
    second = store()
    second.add(ids)
    assert set(store().entries) == set(ids)
    third = store()
    third.record({id_: f"uid-{id_.name}" for id_ in ids})
    fourth = store()
    assert {entry.uid for entry in fourth.entries.values()} == {f"uid-{id_.name}" for id_ in ids}
    assert all(entry.state is EntryState.APPLIED for entry in fourth.entries.values())
    fourth.remove(ids[:290])
    assert set(store().entries) == set(ids[290:])
    path = f"/api/v1/namespaces/{engine.agent_namespace}/configmaps"
    response = engine.kube.request("GET", path, query=(("labelSelector", "ocisync.dev/inventory"),))
    sizes = [len(item["data"].get("entries", "")) for item in json.loads(response.body)["items"]]
    assert len(sizes) > 10
    assert max(sizes) < 4_000
    store().destroy()
    assert not store().exists


def test_a_kill_while_shards_are_split_loses_nothing(engine: EngineDriver) -> None:
    ids = [ObjectId("", "ConfigMap", "some-namespace", f"name-{number:04d}") for number in range(200)]
    writes = 0

    def store(limit: int = 10**9) -> InventoryStore:
        def hook(step: str) -> None:
            nonlocal writes
            writes += step in ("reshard", "add")
            if writes > limit:
                raise Killed(step)

        made = InventoryStore(
            engine.own, engine.agent_namespace, sync_namespace="x", sync_name="split", shard_bytes=2_000, hook=hook
        )
        made.load()
        return made

    first = store()
    first.add(ids[:10])
    first.record({id_: "uid" for id_ in ids[:10]})
    for limit in (0, 1, 2, 3, 5, 8):
        writes = 0
        with contextlib.suppress(Killed):  # a later try has less left to write
            store(limit).add(ids)
        entries = store().entries
        assert set(ids[:10]) <= set(entries)
        assert all(entries[id_].uid == "uid" for id_ in ids[:10])
    store().add(ids)
    assert set(store().entries) == set(ids)


def test_a_lost_inventory_is_rebuilt_and_deletes_nothing_that_no_artifact_named(engine: EngineDriver) -> None:
    engine.with_parent()
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    parent = engine.must("ArtifactSync", engine.target.sync_name, "ocisync.dev")["metadata"]
    assert parent["labels"]["applyset.kubernetes.io/id"] == engine.target.sync_id
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert parent["annotations"]["applyset.kubernetes.io/tooling"] == "ocisync/v0.0.1"
    engine.engine().inventory(engine.target).destroy()
    report = engine.sync(engine.config_map("a"))
    assert [(kept.id.name, kept.reason) for kept in report.kept] == [("b", "Unproven")]
    assert engine.live("ConfigMap", "b") is not None
    assert engine.owned() == ["a", "b"]
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    assert actions(engine.sync(engine.config_map("a")))["b"] is Action.DELETED


def test_nothing_is_applied_for_a_sync_that_is_gone_and_nothing_is_written_down_for_it(engine: EngineDriver) -> None:
    engine.with_parent()
    engine.delete("ArtifactSync", engine.target.sync_name, "ocisync.dev")
    with pytest.raises(ClusterRefused) as refused:
        engine.sync(engine.config_map("a"))
    assert refused.value.reason == "SyncGone"
    assert engine.live("ConfigMap", "a") is None
    assert not engine.engine().inventory(engine.target).exists
