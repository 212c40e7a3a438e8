from __future__ import annotations

from typing import Any

import pytest

from ocisync.agent.syncs import SYNCS, SyncTable


def sync(name: str = "shop", *, generation: int = 1, version: int = 1, ready: str = "", **more: Any) -> dict[str, Any]:
    annotations = more.pop("annotations", {})
    metadata = {
        "name": name, "namespace": "apps", "uid": f"u-{name}", "generation": generation,
        "resourceVersion": str(version), "annotations": annotations, "managedFields": [{"big": "x"}],
        **more.pop("metadata", {}),
    }  # fmt: skip
    conditions = [{"type": "Ready", "status": ready, "observedGeneration": generation}] if ready else []
    return {"metadata": metadata, "spec": more, "status": {"conditions": conditions}}


def table() -> tuple[SyncTable, list[str]]:
    woken: list[str] = []
    return SyncTable(woken.append), woken


def test_a_new_sync_asks_for_a_pass_and_its_own_status_does_not() -> None:
    syncs, woken = table()
    syncs.event(SYNCS, "ADDED", sync())
    syncs.event(SYNCS, "MODIFIED", sync(version=2, ready="True"))
    assert woken == ["apps/shop"]


def test_spec_annotations_and_deletion_ask_for_a_pass() -> None:
    syncs, woken = table()
    syncs.event(SYNCS, "ADDED", sync())
    syncs.event(SYNCS, "MODIFIED", sync(generation=2))
    syncs.event(SYNCS, "MODIFIED", sync(generation=2, annotations={"ocisync.dev/requestedAt": "1"}))
    syncs.event(SYNCS, "MODIFIED", sync(generation=2, annotations={"other": "1", "ocisync.dev/requestedAt": "1"}))
    syncs.event(SYNCS, "MODIFIED", sync(generation=3, metadata={"deletionTimestamp": "now"}))
    assert len(woken) == 4


def test_a_sync_created_again_under_the_same_name_asks_for_a_pass() -> None:
    syncs, woken = table()
    syncs.event(SYNCS, "ADDED", sync())
    syncs.event(SYNCS, "MODIFIED", sync(metadata={"uid": "another"}))
    assert len(woken) == 2


def test_dependents_are_woken_when_a_sync_becomes_ready() -> None:
    syncs, woken = table()
    syncs.event(SYNCS, "ADDED", sync("app", dependsOn=[{"name": "base"}]))
    syncs.event(SYNCS, "ADDED", sync("base"))
    woken.clear()
    assert syncs.dependency("apps", "base") == "it is not ready"
    syncs.event(SYNCS, "MODIFIED", sync("base", version=2, ready="True"))
    assert woken == ["apps/app"]
    assert syncs.dependency("apps", "base") == ""
    assert syncs.dependency("apps", "none") == "it does not exist"


def test_ready_for_an_older_spec_is_not_ready() -> None:
    syncs, _ = table()
    old = sync("base", generation=1, ready="True")
    old["metadata"]["generation"] = 2
    syncs.event(SYNCS, "ADDED", old)
    assert syncs.dependency("apps", "base") == "it is not ready"


def test_what_a_new_list_does_not_show_is_gone() -> None:
    syncs, woken = table()
    assert not syncs.listed.is_set()
    syncs.started(SYNCS)
    syncs.event(SYNCS, "ADDED", sync("a"))
    syncs.event(SYNCS, "ADDED", sync("b"))
    syncs.synced(SYNCS)
    assert syncs.listed.is_set() and syncs.trouble == ""
    woken.clear()
    syncs.started(SYNCS)
    syncs.event(SYNCS, "ADDED", sync("a"))
    syncs.synced(SYNCS)
    assert woken == ["apps/b"]
    assert syncs.keys() == ("apps/a",)


def test_a_deleted_sync_is_told_and_forgotten() -> None:
    syncs, woken = table()
    syncs.event(SYNCS, "ADDED", sync())
    syncs.event(SYNCS, "DELETED", sync())
    assert woken == ["apps/shop", "apps/shop"] and syncs.get("apps/shop") is None


def test_managed_fields_are_not_kept() -> None:
    syncs, _ = table()
    syncs.event(SYNCS, "ADDED", sync())
    seen = syncs.get("apps/shop")
    assert seen is not None and "managedFields" not in seen.obj["metadata"]


def depends(name: str, *others: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "apps", "uid": name, "generation": 1}
    names = [dict(zip(("namespace", "name"), other.split("/"), strict=True)) if "/" in other else {"name": other}
             for other in others]  # fmt: skip
    return {"metadata": metadata, "spec": {"dependsOn": names}}


def test_a_circle_is_named_step_by_step_and_only_to_those_in_it() -> None:
    known = SyncTable(lambda _: None)
    for obj in (depends("a", "b"), depends("b", "x", "apps/c"), depends("c", "a"), depends("x"), depends("y", "a")):
        known.event(SYNCS, "ADDED", obj)
    assert known.circle("apps/a") == ("apps/a", "apps/b", "apps/c", "apps/a")
    assert known.circle("apps/c") == ("apps/c", "apps/a", "apps/b", "apps/c")
    assert known.circle("apps/y") == known.circle("apps/x") == known.circle("apps/none") == ()
    known.event(SYNCS, "ADDED", depends("self", "self"))
    assert known.circle("apps/self") == ("apps/self", "apps/self")


def test_the_end_of_a_sync_and_a_change_of_its_spec_wake_those_that_depend_on_it() -> None:
    woken: list[str] = []
    known = SyncTable(woken.append)
    known.event(SYNCS, "ADDED", depends("a", "b"))
    known.event(SYNCS, "ADDED", depends("b", "a"))
    woken.clear()
    changed = depends("b")
    changed["metadata"]["generation"] = 2
    known.event(SYNCS, "MODIFIED", changed)
    assert sorted(woken) == ["apps/a", "apps/b"]
    woken.clear()
    known.event(SYNCS, "DELETED", changed)
    assert sorted(woken) == ["apps/a", "apps/b"]


@pytest.mark.parametrize("name", ["ocisync.dev/rollback", "ocisync.dev/retry", "ocisync.dev/requestedAt"])
def test_what_a_person_asks_for_by_annotation_wakes_its_sync(name: str) -> None:
    woken: list[str] = []
    known = SyncTable(woken.append)
    known.event(SYNCS, "ADDED", depends("a"))
    woken.clear()
    asked = depends("a")
    asked["metadata"]["annotations"] = {name: "x"}
    known.event(SYNCS, "MODIFIED", asked)
    assert "apps/a" in woken
