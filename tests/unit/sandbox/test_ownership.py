"""The table of managers: what each move does to it."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.sandbox import ownership
from ocisync.sandbox.ownership import APPLY, UPDATE, ConflictsError, ManagerKey, Managers, Owned
from ocisync.sandbox.shapes import builtin_shapes
from tests.unit.sandbox.test_fields import SHAPE, few, values

MAP = builtin_shapes()["v1/ConfigMap"]
US = ManagerKey("ocisync", APPLY)
THEY = ManagerKey("other", APPLY)
EDITOR = ManagerKey("editor", UPDATE, "v1")


def apply(live: Any, config: Any, managers: Managers, key: ManagerKey = US, *, force: bool = True) -> ownership.Applied:
    return ownership.applied(SHAPE, live, config, managers, key, "v1", "now", force=force)


def paths(managers: Managers, key: ManagerKey) -> frozenset[tuple[str, ...]]:
    return managers[key].paths if key in managers else frozenset()


def test_managed_fields_round_trip_in_the_servers_order() -> None:
    managers: Managers = {
        ManagerKey("kubectl", UPDATE, "v1", "scale"): Owned(frozenset({("f:spec", "f:replicas")}), "v1"),
        US: Owned(frozenset({("f:data", "f:x")}), "v1", "2026-01-01T00:00:00Z"),
    }
    entries = ownership.encode_managers(managers)
    assert [entry["manager"] for entry in entries] == ["ocisync", "kubectl"]
    assert "time" not in entries[1]
    assert entries[1]["subresource"] == "scale"
    assert ownership.decode_managers(entries) == managers


@pytest.mark.parametrize(
    "entry",
    [
        {"manager": "x", "operation": "Steal", "apiVersion": "v1", "fieldsType": "FieldsV1"},
        {"manager": "x", "operation": "Apply", "fieldsType": "FieldsV1"},
        {"manager": "x", "operation": "Apply", "apiVersion": "v1"},
    ],
    ids=["operation", "version", "type"],
)
def test_malformed_entries_are_refused(entry: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"operation|apiVersion|fieldsType"):
        ownership.decode_managers([entry])


def test_identity_fields_belong_to_nobody() -> None:
    value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b", "labels": {"l": "m"}}}
    made = ownership.applied(MAP, {}, value, {}, US, "v1", "now", force=False)
    assert paths(made.managers, US) == {("f:metadata", "f:labels", "f:l")}


def test_an_untracked_object_stays_untracked_until_an_apply() -> None:
    old, new = {"data": {"x": "1"}}, {"data": {"x": "2"}}
    assert ownership.tracked_update(MAP, old, new, {}, EDITOR, "v1", "now", exists=True) == {}
    assert set(ownership.tracked_update(MAP, {}, new, {}, EDITOR, "v1", "now", exists=False)) == {EDITOR}


def test_old_update_managers_are_merged_into_ancient_changes() -> None:
    managers: Managers = {}
    value: dict[str, Any] = {"data": {}}
    for number in range(13):
        new = {"data": {**value["data"], f"k{number:02}": "v"}}
        key = ManagerKey(f"m{number:02}", UPDATE, "v1")
        managers = ownership.updated(MAP, value, new, managers, key, "v1", f"2026-01-01T00:00:{number:02}Z")
        value = new
    assert len(managers) == ownership.MAX_UPDATE_MANAGERS
    ancient = managers[ManagerKey(ownership.ANCIENT, UPDATE, "v1")]
    assert {("f:data", "f:k00"), ("f:data", "f:k01"), ("f:data", "f:k02")} <= ancient.paths


def test_the_conflict_names_every_holder_and_field() -> None:
    live = {"spec": {"number": 1, "words": {"a": "a"}}}
    held = apply({}, live, {}).managers
    with pytest.raises(ConflictsError) as caught:
        apply(live, {"spec": {"number": 2, "words": {"a": "b"}}}, held, THEY, force=False)
    assert [cause["field"] for cause in caught.value.causes()] == [".spec.number", ".spec.words.a"]
    assert caught.value.message().startswith('Apply failed with 2 conflicts: conflicts with "ocisync":')


@few
@given(values, values)
def test_the_same_apply_again_changes_nothing(live: dict[str, Any], config: dict[str, Any]) -> None:
    first = apply(live, config, {})
    again = apply(first.merged, config, first.managers)
    assert not again.changed
    assert {key: owned.paths for key, owned in again.managers.items()} == {
        key: owned.paths for key, owned in first.managers.items()
    }


@few
@given(values, values)
def test_a_forced_apply_owns_all_it_applies_and_holds_its_values(live: dict[str, Any], config: dict[str, Any]) -> None:
    result = apply(live, config, apply({}, live, {}, THEY).managers)
    again = apply(result.merged, config, result.managers, force=False)
    assert not again.changed


@few
@given(values, values)
def test_two_appliers_of_different_values_never_both_own_a_leaf(first: dict[str, Any], second: dict[str, Any]) -> None:
    ours = apply({}, first, {})
    theirs = apply(ours.merged, second, ours.managers, THEY)
    for path in paths(theirs.managers, US) & paths(theirs.managers, THEY):
        assert _at(first, path) == _at(second, path) or isinstance(_at(second, path), dict | list)


@few
@given(values, values)
def test_what_one_applier_drops_and_nobody_else_owns_is_gone(first: dict[str, Any], second: dict[str, Any]) -> None:
    ours = apply({}, first, {})
    changed = apply(ours.merged, second, ours.managers)
    assert _cleaned(changed.merged) == _cleaned(second)


@few
@given(values, values)
def test_nothing_given_is_changed_in_place(live: dict[str, Any], config: dict[str, Any]) -> None:
    before = copy.deepcopy((live, config))
    apply(live, config, apply({}, live, {}, THEY).managers)
    assert (live, config) == before


@few
@given(values, values)
def test_an_update_leaves_each_changed_path_with_its_writer_only(old: dict[str, Any], new: dict[str, Any]) -> None:
    held = apply({}, old, {}).managers
    table = ownership.updated(SHAPE, old, new, held, EDITOR, "v1", "later")
    assert not paths(table, US) & paths(table, EDITOR)


@few
@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_keyed_items_is_the_last_appliers(names: list[str]) -> None:
    live = {"spec": {"parts": [{"name": name} for name in "abc"]}}
    config = {"spec": {"parts": [{"name": name} for name in names]}}
    merged = apply(live, config, {}).merged
    assert [part["name"] for part in merged["spec"]["parts"]] == names


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for element in path:
        if element.startswith("f:"):
            value = value.get(element[2:]) if isinstance(value, dict) else None
        elif element.startswith("k:"):
            name = element.partition('"name":"')[2].partition('"')[0]
            value = next((item for item in value or () if item["name"] == name), None)
        else:
            return element
    return value


def _cleaned(value: Any) -> Any:
    """Drop empty maps and lists, and the order of keyed items: no field that anybody owns."""
    if isinstance(value, dict):
        made = {key: _cleaned(item) for key, item in value.items()}
        return {key: item for key, item in made.items() if item not in ({}, [], None)}
    if isinstance(value, list):
        return sorted((_cleaned(item) for item in value), key=partial(json.dumps, sort_keys=True))
    return value
