"""Fields as people write them, found in objects and in what managers own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.cluster.fieldexpr import Hold, Steps, find, hold_of, parse_field, path_of, steps_of, value_at
from ocisync.cluster.fields import ManagerEntry, render
from ocisync.model.errors import UsageError

NAME = "app.kubernetes.io/name"
WEB: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {NAME: "web"}, "managedFields": [{"manager": "x"}]},
    "spec": {
        "replicas": 3,
        "template": {
            "spec": {
                "containers": [
                    {"name": "app", "image": "i:1", "ports": [{"containerPort": 80}, {"containerPort": 81}]},
                    {"name": "mesh", "image": "m:1", "args": ["--a", "--b"]},
                ]
            }
        },
    },
}
IMAGE: Steps = ("spec", "template", "spec", "containers", 0, "image")
PORT: Steps = ("spec", "template", "spec", "containers", 0, "ports", 1)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (".spec.replicas", ("spec", "replicas")),
        ("spec.replicas", ("spec", "replicas")),
        ("{.spec.replicas}", ("spec", "replicas")),
        ("/spec/replicas", ("spec", "replicas")),
        ("replicas", ("spec", "replicas")),
        ("/spec/template/spec/containers/0/image", IMAGE),
        ("/spec/template/spec/containers/app/image", IMAGE),
        ("spec.template.spec.containers[0].image", IMAGE),
        ("spec.template.spec.containers[name=app].image", IMAGE),
        ("containers[name=app].image", IMAGE),
        ('containers[name="app"].image', IMAGE),
        ("containers['app'].image", IMAGE),
        ("containers[?(@.name=app)].image", IMAGE),
        ("ports[containerPort=81]", PORT),
        (f"metadata.labels[{NAME}]", ("metadata", "labels", NAME)),
        (f'metadata.labels["{NAME}"]', ("metadata", "labels", NAME)),
        (f"metadata.labels.{NAME}", ("metadata", "labels", NAME)),
        (r"metadata.labels.app\.kubernetes\.io/name", ("metadata", "labels", NAME)),
        ("/metadata/labels/app.kubernetes.io~1name", ("metadata", "labels", NAME)),
        ("containers[name=mesh].args[1]", ("spec", "template", "spec", "containers", 1, "args", 1)),
        ("containers[name=mesh].args[--b]", ("spec", "template", "spec", "containers", 1, "args", 1)),
    ],
)
def test_a_field_is_found_however_it_is_written(text: str, steps: Steps) -> None:
    assert find(WEB, parse_field(text)) == (steps,)


def test_a_path_from_the_top_wins_over_equal_ends() -> None:
    obj = {"image": "top", "spec": {"image": "below"}}
    assert find(obj, parse_field("image")) == (("image",),)


def test_an_end_that_fits_several_fields_finds_them_all() -> None:
    assert len(find(WEB, parse_field("image"))) == 2


@pytest.mark.parametrize("text", ["spec.nothing", "containers[name=none].image", "containers[7]", "/spec/9", "manager"])
def test_what_is_not_there_is_not_found(text: str) -> None:
    assert find(WEB, parse_field(text)) == ()


@pytest.mark.parametrize("text", ["", ".", "a[", "a]", "a[b", "spec.", "x" * 2000, "a[=]", "{}"])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_field(text)


def entry(fields: dict[str, Any], manager: str = "x") -> ManagerEntry:
    return ManagerEntry(manager, "Update", "apps/v1", "", "", fields)


PORTS: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {
    ".": {}, "f:ports": {'k:{"containerPort":81,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}}}}}}}  # fmt: skip


def test_items_are_named_by_the_keys_that_managers_use() -> None:
    assert render(path_of(WEB, IMAGE)) == 'spec.template.spec.containers[name="app"].image'
    assert render(path_of(WEB, PORT, [entry(PORTS)])).endswith('.ports[containerPort=81,protocol="TCP"]')
    assert render(path_of(WEB, PORT)).endswith(".ports[1]")


def test_a_field_is_found_again_in_another_order() -> None:
    other = json.loads(json.dumps(WEB))
    other["spec"]["template"]["spec"]["containers"].reverse()
    found = steps_of(other, path_of(WEB, IMAGE))
    assert found is not None and found[4] == 1 and value_at(other, found) == "i:1"
    del other["spec"]["template"]["spec"]["containers"][1]
    assert steps_of(other, path_of(WEB, IMAGE)) is None


def test_a_manager_holds_a_field_itself_or_what_is_around_it_or_something_in_it() -> None:
    path = path_of(WEB, PORT, [entry(PORTS)])
    assert hold_of(entry(PORTS), path) is Hold.EXACT
    assert hold_of(entry({"f:spec": {"f:template": {}}}), path) is Hold.AROUND
    assert hold_of(entry(PORTS), ("f:spec", "f:template")) is Hold.WITHIN
    assert hold_of(entry({"f:spec": {"f:replicas": {}}}), path) is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=15,
)


@given(st.text(max_size=40), _VALUES)
def test_no_text_and_no_object_raises_anything_else(text: str, value: Any) -> None:
    try:
        steps = parse_field(text)
    except UsageError:
        return
    for found in find({"spec": value}, steps):
        assert steps_of({"spec": value}, path_of({"spec": value}, found)) is not None


@given(_VALUES)
def test_every_value_is_found_by_its_pointer(value: Any) -> None:
    obj = {"spec": value}

    def walk(node: Any, steps: Steps) -> None:
        if steps:
            pointer = "/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in steps)
            found = find(obj, parse_field(pointer))
            assert found and (len(found) > 1 or value_at(obj, found[0]) == node or "" in steps or _odd(steps))
        children: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, below in children:
            walk(below, (*steps, key))

    walk(obj, ())


def _odd(steps: Steps) -> bool:
    """Keys with dots may mean two things; then the shorter key wins."""
    return any(isinstance(step, str) and "." in step for step in steps)
