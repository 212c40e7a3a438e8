"""The structured merge: paths, comparison, merge, removal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.sandbox import fields
from ocisync.sandbox.shapes import Shape, builtin_shapes, crd_shape

DEPLOYMENT = builtin_shapes()["apps/v1/Deployment"]
CONTAINERS = DEPLOYMENT.fields["spec"].fields["template"].fields["spec"].fields["containers"]


def test_fields_v1_round_trips_and_marks_items_that_hold_more() -> None:
    paths = frozenset({("f:a",), ("f:a", "f:b"), ("f:c", 'k:{"name":"x"}')})
    encoded = fields.encode(paths)
    assert encoded == {"f:a": {".": {}, "f:b": {}}, "f:c": {'k:{"name":"x"}': {}}}
    assert fields.decode(encoded) == paths


@pytest.mark.parametrize("bad", [{"a": {}}, {"f:a": 1}, {"f:a": {"x:y": {}}}, {"f:a": None}])
def test_malformed_fields_v1_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fieldsV1"):
        fields.decode(bad)


def test_paths_are_shown_as_the_server_shows_them() -> None:
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name")
    assert fields.display(path) == '.spec.ports[port=80,protocol="TCP"].name'
    assert fields.display(("f:finalizers", 'v:"a/b"')) == '.finalizers[="a/b"]'


def test_a_port_without_protocol_has_the_default_in_its_key() -> None:
    ports = CONTAINERS.element.fields["ports"] if CONTAINERS.element else CONTAINERS
    assert fields.item_element(ports, {"containerPort": 80}) == 'k:{"containerPort":80,"protocol":"TCP"}'


@pytest.mark.parametrize("item", [None, "text", {}], ids=["null", "scalar", "no key"])
def test_an_item_without_its_key_is_refused(item: Any) -> None:
    with pytest.raises(fields.TypedError):
        fields.item_element(CONTAINERS, item)


def test_selectors_are_owned_whole() -> None:
    value = {"spec": {"selector": {"matchLabels": {"a": "b"}}}}
    assert fields.field_set(DEPLOYMENT, value) == {("f:spec", "f:selector")}


def test_live_only_items_keep_their_place_and_applied_order_wins() -> None:
    live = [{"name": "side", "image": "s"}, {"name": "b", "image": "1"}, {"name": "a", "image": "1"}]
    config = [{"name": "a", "image": "2"}, {"name": "b"}]
    merged = fields.merge(CONTAINERS, live, config)
    assert [item["name"] for item in merged] == ["side", "a", "b"]
    assert merged[1:] == [{"name": "a", "image": "2"}, {"name": "b", "image": "1"}]


def test_an_unchanged_merge_is_the_live_value_itself() -> None:
    live = {"spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "1"}]}}}}
    config = {"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}
    assert fields.merge(DEPLOYMENT, live, config) is live


def test_removal_leaves_no_empty_shells_of_what_it_emptied() -> None:
    value = {"spec": {"replicas": 1, "strategy": {"type": "Recreate"}}}
    assert fields.remove(DEPLOYMENT, value, [("f:spec", "f:strategy")]) == {"spec": {"replicas": 1}}


def test_true_is_not_one() -> None:
    assert not fields.same(True, 1)
    assert fields.same(1, 1.0)


def test_every_mistake_of_an_applied_value_is_listed_with_its_path() -> None:
    container = {"name": "a", "imag": "x"}
    spec = {"replicas": "3", "template": {"spec": {"containers": [container, {"name": "a"}]}}}
    assert fields.typed_errors(DEPLOYMENT, {"spec": spec}) == [
        ".spec.replicas: expected numeric (int or float), got string",
        '.spec.template.spec.containers[name="a"].imag: field not declared in schema',
        '.spec.template.spec.containers: duplicate entries for key [name="a"]',
    ]


# -- properties over a small schema that has every kind of node -----------------------------------------

SHAPE: Shape = crd_shape(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "number": {"type": "integer"},
                    "words": {"type": "object", "additionalProperties": {"type": "string"}},
                    "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {}, "b": {}}},
                    "plain": {"type": "array", "items": {"type": "string"}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "parts": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
                        },
                    },
                },
            }
        },
    }
)
few = settings(max_examples=50, deadline=None)  # deadline: the machine may be busy
words = st.sampled_from("abc")
parts = st.lists(
    st.fixed_dictionaries({"name": words}, optional={"value": words}), unique_by=lambda item: item["name"], max_size=3
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "number": st.integers(0, 3),
        "words": st.dictionaries(words, words, max_size=3),
        "whole": st.dictionaries(st.sampled_from("ab"), words, max_size=2),
        "plain": st.lists(words, max_size=2),
        "tags": st.lists(words, unique=True, max_size=3),
        "parts": parts,
    },
)
values = st.fixed_dictionaries({"spec": specs})


@few
@given(values)
def test_the_paths_of_a_value_survive_the_wire(value: dict[str, Any]) -> None:
    paths = frozenset(fields.field_set(SHAPE, value))
    assert fields.decode(fields.encode(paths)) == paths


@few
@given(values, values)
def test_merging_again_changes_nothing(live: dict[str, Any], config: dict[str, Any]) -> None:
    merged = fields.merge(SHAPE, live, config)
    assert fields.merge(SHAPE, merged, config) is merged


@few
@given(values, values)
def test_a_merged_value_holds_all_paths_of_both(live: dict[str, Any], config: dict[str, Any]) -> None:
    merged = fields.field_set(SHAPE, fields.merge(SHAPE, live, config))
    for path in fields.field_set(SHAPE, live) | fields.field_set(SHAPE, config):
        # An empty map of one value may be a filled one in the other: then its contents stand for it.
        empty = len(path) <= 2
        assert empty or path in merged or any(other[: len(path)] == path for other in merged)


@few
@given(values, values)
def test_nothing_changed_means_nothing_in_the_comparison(old: dict[str, Any], new: dict[str, Any]) -> None:
    change = fields.compare(SHAPE, old, new)
    assert (not (change.added or change.modified or change.removed)) == (old == new or _same_sets(old, new))
    assert not change.added & change.removed
    assert not change.added & change.modified
    assert not change.modified & change.removed


def _same_sets(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two values differ only in the order of keyed items, which nobody owns."""

    def ordered(value: dict[str, Any]) -> dict[str, Any]:
        spec = dict(value["spec"])
        if "tags" in spec:
            spec["tags"] = sorted(spec["tags"])
        if "parts" in spec:
            spec["parts"] = sorted(spec["parts"], key=lambda item: str(item["name"]))
        return spec

    return ordered(old) == ordered(new)


@few
@given(values)
def test_removing_all_paths_removes_every_leaf(value: dict[str, Any]) -> None:
    every = fields.field_set(SHAPE, value)
    left = fields.remove(SHAPE, value, fields.with_named_fields(SHAPE, every)) or {}
    assert not fields.field_set(SHAPE, left) & {path for path in every if len(path) > 2}
