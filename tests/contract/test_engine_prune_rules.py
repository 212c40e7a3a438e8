"""The rules of inventory and pruning that are about order, races and approvals, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from ocisync.cluster.apply import Action
from ocisync.cluster.client import connect
from ocisync.cluster.guard import Guard
from ocisync.cluster.inventory import INVENTORY_LABEL, Entry, InventoryStore
from ocisync.cluster.memory import Applied
from ocisync.install.crds import artifact_sync
from ocisync.model.errors import ClusterRefused
from ocisync.model.limits import INVENTORY_SHARD_BYTES
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL
from tests.support.cluster import Cluster
from tests.support.controlplane import ControlPlane
from tests.support.engine import EngineDriver, Killed, actions, failure_of
from tests.support.waiting import eventually

STRICT = Guard(max_prune="100%")  # any number, but no protected kind


def space(name: str) -> JsonObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def annotated(obj: JsonObject, **annotations: str) -> JsonObject:
    named = {f"ocisync.dev/{name}": value for name, value in annotations.items()}
    return {**obj, "metadata": {**obj["metadata"], "annotations": named}}


# --- The inventory ---------------------------------------------------------------------------------------------------


def test_a_pass_writes_additions_applies_notes_uids_deletes_and_removes_in_this_order(engine: EngineDriver) -> None:
    engine.sync(*[engine.config_map(f"old{number}") for number in range(5)])
    told: list[str] = []

    def applied(_id: ObjectId, _answer: Applied) -> None:
        assert engine.live("ConfigMap", "old0") is not None
        told.append("apply")

    def deleting(ids: tuple[ObjectId, ...]) -> None:
        told.append(f"delete {len(ids)}")

    wanted = [engine.config_map(f"new{number}") for number in range(5)]
    engine.sync(*wanted, digest="sha256:two", hook=told.append, on_applied=applied, on_deleting=deleting)
    assert told == ["claim", "add", *["apply"] * 5, "record", "delete 5", "remove"]


def test_an_addition_that_lost_the_race_applies_nothing(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"))

    def race(step: str) -> None:
        if step == "add":
            engine.engine().inventory(engine.target).add([ObjectId("", "ConfigMap", engine.namespace, "of-another")])

    with pytest.raises(ClusterRefused) as refusal:
        engine.sync(engine.config_map("a", x="2"), engine.config_map("b"), digest="sha256:two", hook=race)
    assert refusal.value.reason == "InventoryConflict"
    assert engine.live("ConfigMap", "b") is None
    assert engine.must("ConfigMap", "a")["data"] == {"key": "value"}


def test_an_object_is_written_down_without_uid_before_it_is_applied_and_with_it_after(engine: EngineDriver) -> None:
    seen: list[Entry] = []
    id_ = ObjectId("", "ConfigMap", engine.namespace, "a")

    def applied(_id: ObjectId, _answer: Applied) -> None:
        seen.append(engine.engine().inventory(engine.target).entries[id_])

    engine.sync(engine.config_map("a"), on_applied=applied)
    assert [entry.uid for entry in seen] == [""]
    uid = engine.must("ConfigMap", "a")["metadata"]["uid"]
    assert engine.engine().inventory(engine.target).entries[id_].uid == uid


def test_no_shard_is_larger_than_100_kilobytes_whatever_the_names(engine: EngineDriver) -> None:
    group, space_ = "a-rather-long-group-of-somebody.example.com", "n" * 63
    ids = [ObjectId(group, "SomewhatLongerKind", space_, f"{number:04}-{'x' * 200}") for number in range(2_000)]
    store = InventoryStore(engine.own, engine.agent_namespace, sync_namespace="x", sync_name="long")
    store.load()
    store.add(ids)
    store.record({id_: "00000000-0000-4000-8000-000000000000" for id_ in ids})
    query = (("labelSelector", INVENTORY_LABEL),)
    path = f"/api/v1/namespaces/{engine.agent_namespace}/configmaps"
    found = json.loads(engine.kube.request("GET", path, query=query).body)["items"]
    sizes = [len(item["data"].get("entries", "")) for item in found]
    assert sum(sizes) > 6 * INVENTORY_SHARD_BYTES
    assert max(sizes) <= INVENTORY_SHARD_BYTES


@pytest.mark.real
def test_the_account_of_a_sync_can_neither_read_nor_change_its_inventory(
    control_plane: ControlPlane, real_engine: EngineDriver
) -> None:
    engine = real_engine
    engine.sync(engine.config_map("a"))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer"}}
    engine.create_as("test", account)
    _allow_everything_in(control_plane, engine.namespace)
    theirs = connect(str(control_plane.kubeconfig_for(engine.namespace, "deployer")), user_agent="test")
    try:
        path = engine.path("ConfigMap", "a")
        eventually(lambda: theirs.request("GET", path).status == 200, what="the rights of the account")
        for method in ("GET", "DELETE"):
            path = f"/api/v1/namespaces/{engine.agent_namespace}/configmaps"
            assert theirs.request(method, path).status == 403
    finally:
        theirs.close()


def _allow_everything_in(cluster: Cluster, namespace: str) -> None:
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}
    binding = {
        "metadata": {"name": "deployer"}, "subjects": [subject],
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "admin"},
    }  # fmt: skip
    cluster.api("POST", f"/apis/{rbac}/v1/namespaces/{namespace}/rolebindings", binding)


# --- The ApplySet on the sync ----------------------------------------------------------------------------------------


def test_the_parent_names_kinds_and_namespaces_before_the_apply_and_exactly_those_left_after_it(
    engine: EngineDriver,
) -> None:
    engine.with_parent()
    name = f"{engine.namespace}-more"
    inside = engine.config_map("inside")
    inside["metadata"]["namespace"] = name
    account: JsonObject = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}}
    try:
        engine.sync(space(name), inside)
        assert _parent(engine) == ("ConfigMap,Namespace", name)
        with pytest.raises(Killed):
            engine.sync(account, hook=_kill_before("add"))
        assert engine.live("ServiceAccount", "worker") is None
        assert _parent(engine) == ("ConfigMap,Namespace,ServiceAccount", name)
        assert engine.sync(account).all_applied
        engine.delete("Namespace", name, namespace="")
        engine.sync(account, prune=True)
        assert _parent(engine)[0].split(",")[-1] == "ServiceAccount"
        assert "ConfigMap" not in _parent(engine)[0]
    finally:
        engine.delete("Namespace", name, namespace="")


def test_the_definition_of_syncs_says_that_they_are_parents_of_applysets() -> None:
    assert artifact_sync()["metadata"]["labels"]["applyset.kubernetes.io/is-parent-type"] == "true"


def _parent(engine: EngineDriver) -> tuple[str, str]:
    metadata = engine.must("ArtifactSync", engine.target.sync_name, "ocisync.dev")["metadata"]
    assert metadata["labels"]["applyset.kubernetes.io/id"] == engine.target.sync_id
    found = metadata["annotations"]
    assert found["applyset.kubernetes.io/tooling"].startswith("ocisync/v")
    return (
        found["applyset.kubernetes.io/contains-group-kinds"],
        found["applyset.kubernetes.io/additional-namespaces"],
    )


def _kill_before(step: str) -> Callable[[str], None]:
    def hook(now: str) -> None:
        if now == step:
            raise Killed(step)

    return hook


# --- Deleting, in the version that was judged ------------------------------------------------------------------------


def test_an_object_that_another_sync_claims_between_judgement_and_deletion_stays(engine: EngineDriver) -> None:
    theirs = engine.other().target.sync_id

    def claim(_ids: tuple[ObjectId, ...]) -> None:
        engine.write_as("other", "ConfigMap", "b", {"metadata": {"labels": {PART_OF_LABEL: theirs}}})

    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.sync(engine.config_map("a"), on_deleting=claim)
    assert engine.must("ConfigMap", "b")["metadata"]["labels"][PART_OF_LABEL] == theirs


def test_an_object_that_was_replaced_between_judgement_and_deletion_stays(engine: EngineDriver) -> None:
    def replaced(_ids: tuple[ObjectId, ...]) -> None:
        engine.delete("ConfigMap", "b")
        engine.create_as("kubectl-create", engine.config_map("b", x="by hand"))

    engine.sync(engine.config_map("a"), engine.config_map("b"))
    engine.sync(engine.config_map("a"), on_deleting=replaced)
    assert engine.must("ConfigMap", "b")["data"] == {"x": "by hand"}


def test_an_object_that_only_changed_between_judgement_and_deletion_is_judged_again_and_deleted(
    engine: EngineDriver,
) -> None:
    def edit(_ids: tuple[ObjectId, ...]) -> None:
        engine.write_as("kubectl-edit", "ConfigMap", "b", {"data": {"x": "1"}})

    engine.sync(engine.config_map("a"), engine.config_map("b"))
    assert actions(engine.sync(engine.config_map("a"), on_deleting=edit))["b"] is Action.DELETED
    assert engine.live("ConfigMap", "b") is None


def test_an_object_that_gets_prune_disabled_between_judgement_and_deletion_stays_ours(engine: EngineDriver) -> None:
    def protect(_ids: tuple[ObjectId, ...]) -> None:
        change = {"metadata": {"annotations": {"ocisync.dev/prune": "disabled"}}}
        engine.write_as("kubectl-annotate", "ConfigMap", "b", change)

    engine.sync(engine.config_map("a"), engine.config_map("b"))
    report = engine.sync(engine.config_map("a"), on_deleting=protect)
    assert failure_of(report, "b").startswith("Transient PruneDisabled")
    assert engine.live("ConfigMap", "b") is not None
    assert engine.owned() == ["a", "b"]


# --- Guard and approval ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["artifact", "hand"])
def test_prune_disabled_counts_from_the_artifact_and_from_the_live_object(engine: EngineDriver, by: str) -> None:
    b = engine.config_map("b")
    engine.sync(engine.config_map("a"), annotated(b, prune="disabled") if by == "artifact" else b)
    if by == "hand":
        change = {"metadata": {"annotations": {"ocisync.dev/prune": "disabled"}}}
        engine.write_as("kubectl-annotate", "ConfigMap", "b", change)
    assert [kept.reason for kept in engine.sync(engine.config_map("a")).kept] == ["PruneDisabled"]
    assert engine.live("ConfigMap", "b") is not None


@pytest.mark.parametrize("by", ["artifact", "hand"])
def test_protect_confirm_counts_from_the_artifact_and_from_the_live_object(engine: EngineDriver, by: str) -> None:
    b = engine.config_map("b")
    engine.sync(engine.config_map("a"), annotated(b, protect="confirm") if by == "artifact" else b)
    if by == "hand":
        change = {"metadata": {"annotations": {"ocisync.dev/protect": "confirm"}}}
        engine.write_as("kubectl-annotate", "ConfigMap", "b", change)
    held = engine.sync(engine.config_map("a"))
    assert held.held.startswith("it deletes protected objects: ConfigMap")
    assert engine.live("ConfigMap", "b") is not None
    assert engine.sync(engine.config_map("a"), approved=held.plan_hash).held == ""
    assert engine.live("ConfigMap", "b") is None


def test_protect_on_the_live_object_holds_its_replacement_too(engine: EngineDriver) -> None:
    fixed = {**engine.config_map("b", x="1"), "immutable": True}
    engine.sync(engine.config_map("a"), fixed)
    change = {"metadata": {"annotations": {"ocisync.dev/protect": "confirm"}}}
    engine.write_as("kubectl-annotate", "ConfigMap", "b", change)
    other = {**engine.config_map("b", x="2"), "immutable": True}
    held = engine.sync(engine.config_map("a"), other, force=True)
    assert held.held.startswith("it deletes protected objects: ConfigMap")
    assert engine.must("ConfigMap", "b")["data"] == {"x": "1"}
    assert actions(engine.sync(engine.config_map("a"), other, force=True, approved=held.plan_hash))["b"] is (
        Action.RECREATED
    )


def test_kinds_that_hold_other_things_are_protected_by_default(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-more"
    try:
        engine.sync(space(name), engine.config_map("a"), guard=STRICT)
        report = engine.sync(engine.config_map("a"), guard=STRICT)
        assert report.held == f"it deletes protected objects: Namespace {name}"
        assert engine.live("Namespace", name, namespace="") is not None
    finally:
        engine.delete("Namespace", name, namespace="")


def test_a_number_in_max_prune_is_meant_as_it_is(engine: EngineDriver) -> None:
    engine.sync(*[engine.config_map(f"m{number}") for number in range(4)])
    two_left = [engine.config_map("m0"), engine.config_map("m1")]
    assert engine.sync(*two_left, guard=Guard(max_prune="1")).held == (
        "it deletes 2 of 4 objects; guard.maxPrune allows 1 (1)"
    )
    assert engine.sync(*two_left, guard=Guard(max_prune="2")).held == ""
    assert engine.owned() == ["m0", "m1"]


def test_a_deletion_of_60_percent_is_held_and_done_once_approved(engine: EngineDriver) -> None:
    many = [engine.config_map(f"m{number:02}") for number in range(25)]
    engine.sync(*many)
    held = engine.sync(*many[:10], guard=Guard(), digest="sha256:two")
    assert held.held == "it deletes 15 of 25 objects; guard.maxPrune allows 13 (50%)"
    assert len(engine.owned()) == 25
    done = engine.sync(*many[:10], guard=Guard(), digest="sha256:two", approved=held.plan_hash)
    assert (done.held, done.counts[Action.DELETED]) == ("", 15)
    assert len(engine.owned()) == 10


def test_nothing_of_a_held_plan_is_done_and_a_newer_revision_plans_anew(engine: EngineDriver) -> None:
    few = Guard(max_prune="0")
    engine.sync(engine.config_map("a", x="1"), engine.config_map("b"))
    change = (engine.config_map("a", x="2"), engine.config_map("new"))
    assert engine.sync(*change, guard=few, digest="sha256:two").held
    assert engine.must("ConfigMap", "a")["data"] == {"x": "1"}
    assert engine.live("ConfigMap", "new") is None
    newer = (*change, engine.config_map("b"))
    assert engine.sync(*newer, guard=few, digest="sha256:three").held == ""
    assert engine.must("ConfigMap", "a")["data"] == {"x": "2"}
    assert engine.owned() == ["a", "b", "new"]


def test_an_approval_is_for_the_objects_that_were_seen_not_for_their_successors(engine: EngineDriver) -> None:
    """While a plan is held, what it would delete is still enforced: deleted by hand, it returns with another uid."""
    few = Guard(max_prune="0")
    both = (engine.config_map("a"), engine.config_map("b"))
    engine.sync(*both)
    first = engine.sync(engine.config_map("a"), guard=few, digest="sha256:two")
    engine.delete("ConfigMap", "b")
    engine.sync(*both)  # the drift is corrected
    second = engine.sync(engine.config_map("a"), guard=few, digest="sha256:two", approved=first.plan_hash)
    assert second.held
    assert second.plan_hash != first.plan_hash
    assert engine.live("ConfigMap", "b") is not None
    assert engine.sync(engine.config_map("a"), guard=few, digest="sha256:two", approved=second.plan_hash).held == ""
    assert engine.live("ConfigMap", "b") is None


def test_an_approval_of_one_sync_is_none_for_its_successor_of_the_same_name(engine: EngineDriver) -> None:
    few = Guard(max_prune="0")
    engine.sync(engine.config_map("a"), engine.config_map("b"))
    held = engine.sync(engine.config_map("a"), guard=few)
    engine.target = replace(engine.target, sync_uid="another-uid")
    assert engine.sync(engine.config_map("a"), guard=few, approved=held.plan_hash).held
