"""What a preview says of a pass, on the sandbox and on a real API server: the pass then does exactly that."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from ocisync.cluster.changes import Verb
from ocisync.cluster.guard import Guard
from ocisync.model.resource import JsonObject
from ocisync.model.spec import IgnoreRule
from tests.support.engine import EngineDriver
from tests.support.previews import NoDryRuns, fields_of, look, previewed_sync, reported

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def test_a_preview_of_new_objects_creates_them_and_writes_nothing(engine: EngineDriver) -> None:
    objects = [engine.config_map("a"), engine.config_map("b")]
    assert look(engine, *objects).verbs == {"a": "create", "b": "create"}
    assert engine.live("ConfigMap", "a") is None
    looked, report = previewed_sync(engine, *objects)
    assert looked.announced == reported(report)
    again = look(engine, *objects)
    assert again.verbs == {"a": "unchanged", "b": "unchanged"} and not again.preview.differs


def test_a_changed_value_is_shown_with_its_old_and_its_new_one(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", key="one", gone="x"))
    looked, report = previewed_sync(engine, engine.config_map("a", key="two", more="y"))
    assert looked.verbs == {"a": "configure"}
    assert fields_of(looked.of("a")) == {
        "/data/key": ("one", "two"),
        "/data/gone": ("x", None),
        "/data/more": (None, "y"),
    }
    assert looked.announced == reported(report)


def test_drift_is_shown_as_what_the_correction_changes_and_whom_it_takes_it_from(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", key="one"))
    engine.write_as("editor", "ConfigMap", "a", {"data": {"key": "edited", "own": "stays"}})
    looked, report = previewed_sync(engine, engine.config_map("a", key="one"))
    change = looked.of("a")
    assert fields_of(change) == {"/data/key": ("edited", "one")}
    assert [(take.manager, take.fields) for take in change.takes] == [("editor", ("data.key",))]
    assert looked.announced == reported(report)
    assert engine.must("ConfigMap", "a")["data"] == {"key": "one", "own": "stays"}


def test_an_unchanged_sync_is_previewed_with_one_list_for_each_kind_and_no_dry_run(engine: EngineDriver) -> None:
    objects = [engine.config_map(f"c{number}", key=str(number)) for number in range(40)]
    engine.sync(*objects)
    looked = look(engine, *objects)
    assert set(looked.verbs.values()) == {"unchanged"}
    assert len(looked.sent) == 2, looked.sent  # the inventory, and one list
    engine.write_as("editor", "ConfigMap", "c7", {"data": {"key": "edited"}})
    looked = look(engine, *objects)
    dry = [path for method, path, is_dry in looked.sent if is_dry]
    assert {path.rpartition("/")[2] for path in dry} == {"c7"}
    assert looked.of("c7").verb is Verb.CONFIGURE and len(looked.sent) <= 5


def test_a_first_sync_names_what_it_would_take_over_and_from_whom(engine: EngineDriver) -> None:
    engine.create_as("kubectl-create", engine.config_map("free", key="theirs"))
    looked, report = previewed_sync(engine, engine.config_map("free", key="ours"))
    change = looked.of("free")
    assert change.verb is Verb.ADOPT
    assert [take.manager for take in change.takes] == ["kubectl-create"] and "data.key" in change.takes[0].fields
    assert fields_of(change)["/data/key"] == ("theirs", "ours")
    assert looked.announced == reported(report)


def test_what_kubectl_apply_wrote_and_git_lacks_is_shown_as_removed_and_is_removed(
    engine: EngineDriver,
) -> None:
    written = engine.config_map("app", key="one", old="goes")
    written["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(written)}
    engine.create_as("kubectl-client-side-apply", written)
    looked, report = previewed_sync(engine, engine.config_map("app", key="one"))
    change = looked.of("app")
    assert change.verb is Verb.ADOPT and fields_of(change)["/data/old"] == ("goes", None)
    assert [take.manager for take in change.takes] == ["kubectl-client-side-apply"]
    assert looked.announced == reported(report)
    assert engine.must("ConfigMap", "app")["data"] == {"key": "one"}


def test_a_conflict_names_the_manager_and_the_pass_meets_it_too(engine: EngineDriver) -> None:
    engine.create_as("operator", engine.config_map("taken", key="theirs"))
    looked, report = previewed_sync(engine, engine.config_map("taken", key="ours"), engine.config_map("free"))
    change = looked.of("taken")
    assert change.verb is Verb.CONFLICT and "operator" in change.message
    assert looked.of("free").verb is Verb.CREATE
    assert looked.announced == reported(report)


def test_an_object_of_another_sync_is_a_conflict_that_names_its_owner(engine: EngineDriver) -> None:
    other = engine.other()
    other.sync(other.config_map("a", key="theirs"))
    looked, report = previewed_sync(engine, engine.config_map("a", key="ours"))
    change = looked.of("a")
    assert change.verb is Verb.CONFLICT and other.target.sync_id in change.message
    assert looked.announced == reported(report)


def test_deletions_are_previewed_held_and_hashed_as_the_pass_does(engine: EngineDriver) -> None:
    objects = [engine.config_map(f"c{number}") for number in range(8)]
    engine.sync(*objects)
    strict = Guard(max_prune="1")
    looked = look(engine, *objects[:2], guard=strict)
    assert looked.preview.counts() == {"unchanged": 2, "prune": 6}
    assert "deletes 6 of 8" in looked.preview.held
    held = engine.sync(*objects[:2], guard=strict)
    assert held.held and held.plan_hash == looked.preview.hash
    approved: dict[str, Any] = {"guard": strict, "approved": looked.preview.hash}
    assert not look(engine, *objects[:2], **approved).preview.held
    looked, report = previewed_sync(engine, *objects[:2], **approved)
    assert looked.announced == reported(report)
    assert not look(engine, *objects[:2]).preview.differs


def test_deletions_are_deferred_in_the_preview_when_an_object_cannot_be_applied(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("old"))
    broken = engine.config_map("broken")
    broken["data"] = {"key": {"not": "text"}}
    looked, report = previewed_sync(engine, broken)
    assert looked.preview.deferred and looked.of("old").verb is Verb.PRUNE
    assert looked.of("broken").verb is Verb.REFUSED
    assert report.prune_deferred and looked.announced == reported(report)


def test_what_stays_although_the_artifact_drops_it_is_orphaned_with_the_reason(engine: EngineDriver) -> None:
    kept = engine.config_map("kept")
    kept["metadata"]["annotations"] = {"ocisync.dev/prune": "disabled"}
    engine.sync(kept, engine.config_map("off"), engine.config_map("stays"))
    looked = look(engine, engine.config_map("stays"))
    assert looked.of("kept").verb is Verb.ORPHAN and looked.of("kept").reason == "PruneDisabled"
    looked = look(engine, engine.config_map("stays"), prune=False)
    assert looked.of("off").verb is Verb.ORPHAN and looked.of("off").reason == "PruneOff"
    assert not looked.preview.differs


def test_what_an_object_that_fails_blocks_is_blocked_in_the_preview(engine: EngineDriver) -> None:
    bad = engine.config_map("bad")
    bad["data"] = {"key": {"not": "text"}}
    after = engine.config_map("after")
    after["metadata"]["annotations"] = {"ocisync.dev/depends-on": f"/ConfigMap/{engine.namespace}/bad"}
    looked, report = previewed_sync(engine, bad, after, engine.config_map("free"))
    assert looked.verbs == {"bad": "refused", "after": "blocked", "free": "create"}
    assert looked.announced == reported(report)


def test_annotations_that_hand_an_object_over_to_others_are_previewed_as_skipped(engine: EngineDriver) -> None:
    engine.create_as("somebody", engine.config_map("present"))
    absent, present, ignored = (engine.config_map(name) for name in ("absent", "present", "ignored"))
    for obj, mode in ((absent, "IfNotPresent"), (present, "IfNotPresent"), (ignored, "Ignore")):
        obj["metadata"]["annotations"] = {"ocisync.dev/apply": mode}
    looked, report = previewed_sync(engine, absent, present, ignored)
    assert looked.verbs == {"absent": "create", "present": "skip", "ignored": "skip"}
    assert looked.announced == reported(report)


def test_an_object_handed_over_by_another_sync_is_previewed_as_taken_over(engine: EngineDriver) -> None:
    other = engine.other()
    other.sync(other.config_map("a", key="one"))
    wanted = engine.config_map("a", key="two")
    wanted["metadata"]["annotations"] = {"ocisync.dev/adopt": other.target.sync_id}
    looked, report = previewed_sync(engine, wanted)
    assert looked.of("a").verb is Verb.ADOPT and fields_of(looked.of("a"))["/data/key"] == ("one", "two")
    assert looked.announced == reported(report)
    assert not look(engine, wanted).preview.differs


def test_fields_that_are_left_to_others_are_no_change(engine: EngineDriver) -> None:
    rule = IgnoreRule("", "ConfigMap", "", "", ("/data/theirs",))
    engine.target = replace(engine.target, ignore=(rule,))
    wanted = engine.config_map("a", ours="1", theirs="1")
    engine.sync(wanted)
    engine.write_as("controller", "ConfigMap", "a", {"data": {"theirs": "9"}})
    looked, report = previewed_sync(engine, engine.config_map("a", ours="2", theirs="1"))
    assert fields_of(looked.of("a")) == {"/data/ours": ("1", "2")}
    assert looked.announced == reported(report)
    assert not look(engine, engine.config_map("a", ours="2", theirs="1")).preview.differs
    assert engine.must("ConfigMap", "a")["data"] == {"ours": "2", "theirs": "9"}


def test_where_dry_runs_are_refused_the_plan_says_so_and_goes_by_what_exists(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("there", key="one"), engine.config_map("same"))
    wanted = [engine.config_map("there", key="two"), engine.config_map("same"), engine.config_map("new")]
    looked = look(engine, *wanted, through=NoDryRuns)
    assert looked.verbs == {"there": "configure", "same": "unchanged", "new": "create"}
    assert {looked.of(name).reason for name in ("there", "new")} == {"NoDryRun"}


def secret(name: str, **data: str) -> JsonObject:
    return {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }  # fmt: skip


def test_values_of_secrets_appear_nowhere_in_a_preview(engine: EngineDriver) -> None:
    words = ["hunter2", "swordfish", "opensesame"]
    written = secret("s", password=words[0])
    written["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(written)}
    engine.create_as("kubectl-client-side-apply", written)
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": words[1]}}
    looked, report = previewed_sync(engine, plain)
    change = looked.of("s")
    assert fields_of(change)["/data/password"] == ("(hidden)", "(hidden)")
    engine.write_as("editor", "Secret", "s", {"stringData": {"password": words[2]}})
    told = repr(looked.preview) + repr(look(engine, plain).preview)
    for word in words:
        assert word not in told and base64.b64encode(word.encode()).decode() not in told
    assert looked.announced == reported(report)


def definition(engine: EngineDriver, **properties: JsonObject) -> JsonObject:
    group = f"{engine.namespace}.example"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }  # fmt: skip


def thing(engine: EngineDriver, **spec: object) -> JsonObject:
    api_version = f"{engine.namespace}.example/v1"
    return {"apiVersion": api_version, "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


def test_a_custom_resource_is_planned_behind_the_definition_that_comes_with_it(engine: EngineDriver) -> None:
    text = {"type": "string"}
    try:
        first = [definition(engine, size=text), thing(engine, size="s")]
        looked, report = previewed_sync(engine, *first)
        assert looked.verbs == {f"things.{engine.namespace}.example": "create", "t": "create"}
        after = looked.of("t").after
        assert after is not None and after.kind == "CustomResourceDefinition"
        assert looked.announced == reported(report)
        assert not look(engine, *first).preview.differs
        # A field that only the new definition knows: the server refuses it as yet.
        second = [definition(engine, size=text, colour=text), thing(engine, size="s", colour="red")]
        looked, report = previewed_sync(engine, *second)
        assert looked.of("t").verb is Verb.CONFIGURE and looked.of("t").after is not None
        assert looked.announced == reported(report)
        assert not look(engine, *second).preview.differs
    finally:
        engine.delete("CustomResourceDefinition", f"things.{engine.namespace}.example", "apiextensions.k8s.io", "")


def test_what_lives_in_a_namespace_of_the_artifact_is_planned_behind_it(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-in"
    inside = engine.config_map("inside")
    inside["metadata"]["namespace"] = name
    try:
        looked, report = previewed_sync(
            engine, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, inside
        )
        assert looked.verbs == {name: "create", "inside": "create"}
        assert looked.of("inside").after == looked.of(name).id
        assert looked.announced == reported(report)
    finally:
        engine.delete("Namespace", name, namespace="")


def test_an_unknown_kind_waits_and_its_place_is_named(engine: EngineDriver) -> None:
    looked, report = previewed_sync(
        engine, {"apiVersion": "nobody.example/v1", "kind": "Thing", "metadata": {"name": "x"}}
    )
    change = looked.of("x")
    assert change.verb is Verb.WAIT and change.place == "test.yaml:1" and "does not know Thing" in change.message
    assert looked.announced == reported(report)


@pytest.mark.parametrize("force", [False, True])
def test_an_immutable_change_is_refused_or_with_force_a_recreation(engine: EngineDriver, force: bool) -> None:
    engine.sync({**engine.config_map("fixed", key="one"), "immutable": True})
    looked, report = previewed_sync(engine, {**engine.config_map("fixed", key="two"), "immutable": True}, force=force)
    change = looked.of("fixed")
    assert change.verb is (Verb.RECREATE if force else Verb.REFUSED) and "immutable" in change.message
    assert looked.announced == reported(report)
    assert engine.must("ConfigMap", "fixed")["data"] == {"key": "two" if force else "one"}
