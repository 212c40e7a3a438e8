"""Fields left to others, on values alone. The same on servers: tests/contract/test_engine_leave.py."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from ocisync.cluster.fields import Path
from ocisync.cluster.leave import ignored_pointers, yielded
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL, IgnoreRule
from tests.unit.cluster.objects import IMAGE, OURS, REPLICAS, SPEC, SYNC, WEB, entry, live, ours

LABELLED: JsonObject = {"metadata": {"name": "web", "labels": {PART_OF_LABEL: SYNC}}, **copy.deepcopy(SPEC)}
SCALE = ("/spec/replicas",)


def without_ours(*paths: Path) -> JsonObject:
    return ours(*(p for p in OURS if p not in paths))


def test_ignore_rules_select_objects_by_their_parts() -> None:
    rules = (
        IgnoreRule("apps", "Deployment", "", "", ("/spec/replicas",)),
        IgnoreRule("", "", "", "web", ("/a",)),
        IgnoreRule("", "ConfigMap", "", "", ("/data",)),
        IgnoreRule("apps", "Deployment", "other", "", ("/b",)),
    )
    assert ignored_pointers(rules, ObjectId("apps", "Deployment", "shop", "web")) == ("/spec/replicas", "/a")


def test_what_another_manager_holds_is_left_out() -> None:
    now = live(without_ours(REPLICAS), entry("scaler", REPLICAS), spec={**SPEC["spec"], "replicas": 7})
    assert "replicas" not in yielded(LABELLED, now, SCALE)["spec"]
    assert yielded(LABELLED, now, ()) is LABELLED


def test_what_only_we_own_keeps_its_live_value() -> None:
    now = live(ours(), spec={**SPEC["spec"], "replicas": 7})
    assert yielded(LABELLED, now, SCALE)["spec"]["replicas"] == 7


def test_what_nobody_owns_keeps_its_live_value() -> None:
    now = live(without_ours(REPLICAS), spec={**SPEC["spec"], "replicas": 0})
    assert yielded(LABELLED, now, SCALE)["spec"]["replicas"] == 0


def test_what_git_dropped_and_only_we_own_is_not_reset() -> None:
    wanted = copy.deepcopy(LABELLED)
    del wanted["spec"]["replicas"]
    now = live(ours(), spec={**SPEC["spec"], "replicas": 7})
    assert yielded(wanted, now, SCALE)["spec"]["replicas"] == 7


def test_what_others_removed_stays_removed() -> None:
    spec = {key: value for key, value in SPEC["spec"].items() if key != "replicas"}
    assert "replicas" not in yielded(LABELLED, live(without_ours(REPLICAS), spec=spec), SCALE)["spec"]


def test_replicas_of_an_autoscaler_need_no_rule() -> None:
    held = entry("kube-controller-manager", REPLICAS, subresource="scale", time="")
    now = live(without_ours(REPLICAS), held, spec={**SPEC["spec"], "replicas": 7})
    assert "replicas" not in yielded(LABELLED, now, ())["spec"]


def test_one_field_of_a_list_item_is_left_and_the_item_stays() -> None:
    containers = [{"name": "web", "image": "web:9"}]
    now = live(without_ours(IMAGE), entry("updater", IMAGE), spec={**SPEC["spec"], "containers": containers})
    assert yielded(LABELLED, now, ("/spec/containers/*/image",))["spec"]["containers"] == [{"name": "web"}]


def test_a_whole_list_item_is_left_once_another_manager_holds_all_of_it() -> None:
    name = (*WEB, "f:name")
    now = live(without_ours(WEB, IMAGE, name), entry("updater", WEB, IMAGE, name), spec=copy.deepcopy(SPEC["spec"]))
    assert yielded(LABELLED, now, ("/spec/containers/web",))["spec"]["containers"] == []


def test_a_new_list_item_is_created_with_the_fields_that_are_left_later() -> None:
    wanted = copy.deepcopy(LABELLED)
    wanted["spec"]["containers"].append({"name": "side", "image": "side:1"})
    found = yielded(wanted, live(ours(), spec=copy.deepcopy(SPEC["spec"])), ("/spec/containers/*/image",))
    assert found["spec"]["containers"][1] == {"name": "side", "image": "side:1"}


@given(st.lists(st.sampled_from(["/", "/metadata", "/spec", "/metadata/labels", "/*", "/*/*", "", "//", "/spec/x"])))
def test_no_rule_gives_up_which_object_it_is_and_that_it_is_ours(pointers: list[str]) -> None:
    now = live(entry("other", *OURS), spec={})
    found = yielded(LABELLED, now, tuple(pointers))
    assert found["metadata"]["name"] == "web"
    assert found["metadata"]["labels"][PART_OF_LABEL] == SYNC
