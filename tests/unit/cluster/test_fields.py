"""Field ownership: paths in and out of fieldsV1."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.cluster.fields import (
    MISSING,
    Path,
    fields_of,
    holders,
    lookup,
    lookup_index,
    lost_paths,
    matches_pointer,
    owned_paths,
    parse_managed_fields,
    render,
    topmost,
    without,
)
from tests.unit.cluster.objects import IMAGE, REPLICAS, WEB, entry, live, ours

names = st.text(min_size=1, max_size=8)
segments = st.one_of(
    names.map(lambda text: f"f:{text}"),
    st.dictionaries(names, st.one_of(st.integers(), names), min_size=1, max_size=2).map(
        lambda keys: "k:" + json.dumps(keys, sort_keys=True, separators=(",", ":"))
    ),
    st.one_of(st.integers(), names).map(lambda value: "v:" + json.dumps(value)),
    st.integers(min_value=0, max_value=99).map(lambda index: f"i:{index}"),
)
paths: st.SearchStrategy[Path] = st.lists(segments, min_size=1, max_size=5).map(tuple)
path_sets = st.frozensets(paths, max_size=8)
json_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(path_sets)
def test_fields_made_of_paths_own_exactly_these_paths(wanted: frozenset[Path]) -> None:
    assert owned_paths(fields_of(wanted)) == wanted


@settings(deadline=None, max_examples=60)
@given(path_sets, path_sets)
def test_lost_paths_are_the_topmost_of_the_difference(before: frozenset[Path], after: frozenset[Path]) -> None:
    lost = lost_paths(before, after)
    gone = before - after
    assert set(lost) <= gone
    assert all(any(path[: len(top)] == top for top in lost) for path in gone)
    assert list(lost) == sorted(lost)
    assert topmost(lost) == lost


@settings(deadline=None, max_examples=60)
@given(json_values)
def test_no_shape_of_managed_fields_raises(value: object) -> None:
    for obj in (
        {"metadata": {"managedFields": value}},
        {"metadata": {"managedFields": [{"manager": value, "fieldsV1": value}]}},
        {"metadata": value},
    ):
        for found in parse_managed_fields(obj):
            assert all(render(path) is not None for path in found.paths())


@settings(deadline=None, max_examples=60)
@given(paths, json_values)
def test_no_path_raises_on_any_object(path: Path, value: object) -> None:
    lookup(value, path)
    matches_pointer(path, "/spec/0/*", value)
    assert render(path) != ""


@settings(deadline=None, max_examples=60)
@given(st.integers(min_value=65, max_value=2000))
def test_depth_is_bounded(depth: int) -> None:
    node: dict[str, object] = {}
    for _ in range(depth):
        node = {"f:a": node}
    assert all(len(path) <= 64 for path in owned_paths(node))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (REPLICAS, "spec.replicas"),
        (IMAGE, 'spec.containers[name="web"].image'),
        (("f:metadata", "f:labels", "f:app.kubernetes.io/name"), 'metadata.labels["app.kubernetes.io/name"]'),
        (("f:spec", "f:ports", 'k:{"containerPort":80,"protocol":"TCP"}'),
         'spec.ports[containerPort=80,protocol="TCP"]'),
        (("f:metadata", "f:finalizers", 'v:"test/hold"'), 'metadata.finalizers["test/hold"]'),
        (("f:data", "i:3"), "data[3]"),
    ],
)  # fmt: skip
def test_paths_are_shown_as_people_write_them(path: Path, text: str) -> None:
    assert render(path) == text


def test_a_list_item_is_found_although_the_server_defaulted_one_of_its_keys() -> None:
    obj = {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}
    assert lookup(obj, ("f:ports", 'k:{"port":80,"protocol":"TCP"}')) == {"port": 80}
    assert lookup(obj, ("f:ports", 'k:{"port":80,"protocol":"UDP"}'))["protocol"] == "UDP"
    assert lookup(obj, ("f:ports", 'k:{"port":81,"protocol":"TCP"}')) is MISSING
    assert lookup_index(obj["ports"], 'k:{"port":80,"protocol":"UDP"}') == 1


def test_the_holder_of_a_path_is_whoever_has_exactly_it() -> None:
    entries = parse_managed_fields(
        live(ours(), entry("kubectl", REPLICAS, subresource="scale", time=""), entry("other", IMAGE))
    )
    assert [e.manager for e in holders(entries, REPLICAS)] == ["kubectl"]
    assert [e.manager for e in holders(entries, IMAGE)] == ["other"]


def test_an_atomic_value_above_or_fields_below_count_as_holding() -> None:
    entries = parse_managed_fields(live(entry("whole", ("f:spec",)), entry("below", (*IMAGE, "f:tag"))))
    assert [e.manager for e in holders(entries, IMAGE)] == ["below"]
    assert [e.manager for e in holders(entries, REPLICAS)] == ["whole"]


@pytest.mark.parametrize(
    ("pointer", "matches"),
    [
        ("/spec/replicas", False),
        ("/spec/containers", True),
        ("/spec/containers/web/image", True),
        ("/spec/containers/*/image", True),
        ("/spec/containers/1/image", True),
        ("/spec/containers/0/image", False),
        ("/spec/containers/web/image/tag", False),
        ("/", True),
    ],
)
def test_pointers_name_list_items_by_key_index_or_star(pointer: str, matches: bool) -> None:
    desired = {"spec": {"containers": [{"name": "side"}, {"name": "web"}]}}
    assert matches_pointer(IMAGE, pointer, desired) is matches


def test_pointers_unescape_slashes() -> None:
    assert matches_pointer(("f:data", "f:a/b~c"), "/data/a~1b~0c")


def test_values_can_be_left_out_without_touching_the_original() -> None:
    obj = {"spec": {"replicas": 3, "containers": [{"name": "web", "image": "x"}, {"name": "two"}]}}
    assert without(obj, [REPLICAS, WEB]) == {"spec": {"containers": [{"name": "two"}]}}
    assert obj["spec"]["replicas"] == 3
