"""Objects and fields that differ: complete, minimal where lists have keys, and the same from both sides."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.manifests.difference import Action, FieldChange, Item, Step, compare, fields, pointer, same
from ocisync.model.resource import JsonObject, ManifestObject, gvk_of, id_of


def made(body: JsonObject, changes: Iterable[FieldChange]) -> JsonObject:
    """The object after the changes, made one after the other."""
    root: list[Any] = [copy.deepcopy(body)]
    for change in changes:
        holder: Any = root
        steps: tuple[Step, ...] = (0, *change.path)
        for step in steps[:-1]:
            holder = holder[position(holder, step)]
        last = steps[-1]
        if change.action is Action.REMOVED:
            del holder[position(holder, last)]
        elif change.action is Action.REORDERED:
            items = holder[position(holder, last)]
            items[:] = [items[position(items, key)] for key in change.new]
        elif change.action is Action.ADDED and isinstance(last, Item):
            holder.append(copy.deepcopy(change.new))
        else:
            holder[position(holder, last)] = copy.deepcopy(change.new)
    result: JsonObject = root[0]
    return result


def position(holder: Any, step: Step) -> Hashable:
    if not isinstance(step, Item):
        return step
    wanted = [(name, type(value), value) for name, value in step.key]
    for index, item in enumerate(holder):
        values = [(name, item.get(name, "TCP" if name == "protocol" else None)) for name, _ in step.key]
        if [(name, type(value), value) for name, value in values] == wanted:
            return index
    raise LookupError(str(step))


names = st.sampled_from(["name", "ports", "containers", "protocol", "port", "containerPort", "a", "b/c", "~"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, 1.0, 1.5, -0.0])
    | st.sampled_from(["", "a", "1", "TCP"])
)
items = st.fixed_dictionaries({"name": st.sampled_from(["x", "y", "z", 1])}, optional={"port": scalars, "a": scalars})
ports = st.fixed_dictionaries({"port": st.integers(80, 82)}, optional={"protocol": st.sampled_from(["TCP", "UDP"])})
values = st.recursive(
    scalars | st.lists(items, max_size=4) | st.lists(ports, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
bodies = st.dictionaries(names, values, max_size=5)


@given(bodies, bodies)
def test_making_all_changes_gives_the_second_object(old: JsonObject, new: JsonObject) -> None:
    assert same(made(old, fields(old, new)), new)


@given(bodies)
def test_an_object_does_not_differ_from_itself(body: JsonObject) -> None:
    assert fields(body, copy.deepcopy(body)) == ()


@given(bodies, bodies)
def test_both_directions_tell_of_the_same_fields(old: JsonObject, new: JsonObject) -> None:
    turned = {Action.ADDED: Action.REMOVED, Action.REMOVED: Action.ADDED}

    def told(changes: Iterable[FieldChange]) -> set[tuple[str, str, str]]:
        return {
            (pointer(change.path), repr(change.old), repr(change.new))
            for change in changes
            if change.action is not Action.REORDERED
        }

    there, back = fields(old, new), fields(new, old)
    assert told(there) == {(path, after, before) for path, before, after in told(back)}
    assert sorted(str(c.action) for c in there if c.action in turned) == sorted(
        str(turned[c.action]) for c in back if c.action in turned
    )


def deployment(**container: Any) -> JsonObject:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "template": {"spec": {"containers": [{"name": "web", **container}, {"name": "log", "image": "log:1"}]}}
        },
    }


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"replicas": 1}, {"replicas": 2}, ["Changed /replicas"]),
        ({"on": True}, {"on": 1}, ["Changed /on"]),
        ({"n": 1}, {"n": 1.0}, ["Changed /n"]),
        ({"a": None}, {}, ["Removed /a"]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, ["Changed /a~1b/~0"]),
        ({"args": ["a", "b"]}, {"args": ["a", "c"]}, ["Changed /args/1"]),
        ({"args": ["a"]}, {"args": ["a", "c"]}, ["Changed /args"]),
        ({"env": [{"name": "A"}, {"name": "B"}]}, {"env": [{"name": "B"}, {"name": "A"}]}, ["Reordered /env"]),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "A"}, {"name": "B"}]}, ["Added /env[name=B]"]),
        (
            {"env": [{"name": "A"}, {"name": "B"}]},
            {"env": [{"name": "C"}, {"name": "B", "value": "x"}]},
            ["Removed /env[name=A]", "Added /env[name=B]/value", "Added /env[name=C]", "Reordered /env"],
        ),
        (
            {"ports": [{"containerPort": 80}]},
            {"ports": [{"containerPort": 80, "protocol": "TCP"}]},
            ["Added /ports[containerPort=80,protocol=TCP]/protocol"],
        ),
        (
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"ports": [{"port": 53, "protocol": "UDP"}]},
            ["Removed /ports[port=53,protocol=TCP]"],
        ),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b", "readOnly": True}]},
            ["Added /volumeMounts[mountPath=/b]/readOnly"],
        ),
        ({"env": [{"name": "A"}, {"name": "A"}]}, {"env": [{"name": "A"}, {"name": "B"}]}, ["Changed /env/1/name"]),
    ],
)  # fmt: skip
def test_fields_are_told_as_a_person_would(old: JsonObject, new: JsonObject, told: list[str]) -> None:
    assert [str(change) for change in fields(old, new)] == told


def test_the_image_of_one_container_is_one_change() -> None:
    (change,) = fields(deployment(image="web:1"), deployment(image="web:2"))
    assert pointer(change.path) == "/spec/template/spec/containers[name=web]/image"
    assert (change.old, change.new) == ("web:1", "web:2")


def manifest(name: str, file: str = "a.yaml", version: str = "v1", **data: str) -> ManifestObject:
    body: JsonObject = {
        "apiVersion": version, "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data,
    }  # fmt: skip
    return ManifestObject(id_of(body), gvk_of(body), body, file, 1)


def told(old: list[ManifestObject], new: list[ManifestObject]) -> list[str]:
    return [f"{change.action} {change.object.id.name} {change.object.file}" for change in compare(old, new)]


def test_objects_are_added_removed_and_changed() -> None:
    old = [manifest("gone"), manifest("same"), manifest("other", k="1")]
    new = [manifest("other", k="2"), manifest("same"), manifest("new")]
    assert told(old, new) == ["Removed gone a.yaml", "Added new a.yaml", "Changed other a.yaml"]


def test_an_object_in_another_file_is_the_same_object() -> None:
    assert told([manifest("a", "a.yaml")], [manifest("a", "b/c.yaml")]) == []


def test_another_version_of_the_api_is_a_field_that_changed() -> None:
    (change,) = compare([manifest("a")], [manifest("a", version="v2")])
    assert [str(field) for field in change.fields] == ["Changed /apiVersion"]


def test_the_same_object_in_several_directories_is_matched_by_file() -> None:
    old = [manifest("a", "eu/a.yaml", k="1"), manifest("a", "us/a.yaml", k="1")]
    new = [manifest("a", "us/a.yaml", k="2"), manifest("a", "eu/a.yaml", k="1"), manifest("a", "ap/a.yaml")]
    assert told(old, new) == ["Added a ap/a.yaml", "Changed a us/a.yaml"]


objects = st.lists(
    st.builds(manifest, st.sampled_from("abc"), st.sampled_from(["x.yaml", "y.yaml"]), k=st.sampled_from("12")),
    max_size=6,
)


@given(objects, objects)
def test_sets_differ_the_same_way_from_both_sides(old: list[ManifestObject], new: list[ManifestObject]) -> None:
    turned = {Action.ADDED: Action.REMOVED, Action.REMOVED: Action.ADDED, Action.CHANGED: Action.CHANGED}
    there, back = compare(old, new), compare(new, old)
    assert sorted(str(change.action) for change in there) == sorted(str(turned[change.action]) for change in back)
    assert compare(old, old) == ()
