"""Whether an apply would change nothing, by the live object alone: yes only where nothing else can be."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ocisync.cluster.settled import is_settled
from ocisync.model.resource import JsonObject

LABEL = {"applyset.kubernetes.io/part-of": "us"}
DESIRED: JsonObject = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "n", "labels": LABEL},
    "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "x"}},
        "template": {"spec": {"containers": [{
            "name": "web", "image": "web:1", "args": ["a", "b"],
            "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resources": {"limits": {"cpu": "1"}},
        }]}},
    },
}  # fmt: skip
OWNED: JsonObject = {
    "f:metadata": {"f:labels": {"f:applyset.kubernetes.io/part-of": {}}},
    "f:spec": {
        "f:replicas": {}, "f:selector": {},
        "f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {
            ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
            "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
            "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}},
                      'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}}},
            "f:resources": {"f:limits": {"f:cpu": {}}},
        }}}},
    },
}  # fmt: skip


def entry(manager: str, fields: JsonObject, **more: str) -> JsonObject:
    return {"manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": fields, **more}


def live(**more: Any) -> JsonObject:
    made = copy.deepcopy(DESIRED)
    made["metadata"] |= {"uid": "u", "managedFields": [entry("ocisync", OWNED)], **more}
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["ports"][0]["protocol"] = "TCP"  # what the server adds by default
    container["terminationMessagePath"] = "/dev/termination-log"
    made["status"] = {"replicas": 2}
    return made


def test_an_object_that_is_as_it_was_applied_is_settled_whatever_the_server_added() -> None:
    assert is_settled(DESIRED, live(), "apps/v1")
    others = [entry("ocisync", OWNED), entry("kubelet", {"f:status": {"f:replicas": {}}}, subresource="status")]
    assert is_settled(DESIRED, live(managedFields=others), "apps/v1")


def _set(path: str, value: Any) -> JsonObject:
    changed = copy.deepcopy(DESIRED)
    *way, last = path.split("/")
    node: Any = changed
    for part in way:
        node = node[int(part)] if part.isdigit() else node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return changed


CONTAINER = "spec/template/spec/containers/0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec/replicas", 3),
        ("spec/replicas", 2.0),
        ("spec/replicas", True),
        ("spec/replicas", None),
        ("spec/paused", False),
        (f"{CONTAINER}/args", ["b", "a"]),
        (f"{CONTAINER}/args", ["a"]),
        (f"{CONTAINER}/resources/limits/cpu", "1000m"),
        (f"{CONTAINER}/env", [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]),
        (f"{CONTAINER}/env", [{"name": "A", "value": "1"}]),
        (f"{CONTAINER}/env", [{"name": "A", "value": "1"}, {"name": "A", "value": "1"}]),
        (f"{CONTAINER}/ports", [{"containerPort": 81}]),
        ("metadata/labels", {**LABEL, "more": "x"}),
        ("metadata/annotations", {}),
        ("spec/selector", {"matchLabels": {"app": "y"}}),
    ],
)
def test_a_manifest_that_says_anything_else_is_for_the_server_to_judge(path: str, value: Any) -> None:
    assert not is_settled(_set(path, value), live(), "apps/v1")


@pytest.mark.parametrize(
    "metadata",
    [
        {"managedFields": []},
        {"managedFields": None},
        {"managedFields": ["hostile", {"manager": "ocisync", "operation": "Apply", "fieldsV1": "x"}]},
        {"managedFields": [entry("ocisync", OWNED, subresource="status")]},
        {"managedFields": [{**entry("ocisync", OWNED), "operation": "Update"}]},
        {"managedFields": [entry("ocisync", OWNED), entry("before-first-apply", {})]},
        {"managedFields": [entry("ocisync", {**OWNED, "f:data": {}})]},
        {"managedFields": [entry("ocisync", {})]},
        {"deletionTimestamp": "2026-11-23T12:00:00Z"},
        {"labels": {"applyset.kubernetes.io/part-of": "them"}},
    ],
)
def test_an_object_that_we_do_not_own_as_it_is_wanted_is_not_settled(metadata: JsonObject) -> None:
    assert not is_settled(DESIRED, live(**metadata), "apps/v1")


def test_another_version_of_the_kind_is_not_settled() -> None:
    assert not is_settled(DESIRED, live(), "apps/v1beta1")


def test_a_map_that_was_applied_empty_and_filled_by_others_is_not_taken_for_one_value() -> None:
    desired = {"metadata": {"name": "x", "labels": LABEL}, "data": {"a": "1"}}
    ours = entry("ocisync", {"f:metadata": OWNED["f:metadata"], "f:data": {}})
    theirs = entry("editor", {"f:data": {"f:a": {}}})
    found: JsonObject = copy.deepcopy(desired)
    found["metadata"]["managedFields"] = [ours]
    assert is_settled(desired, found, "apps/v1")
    found["metadata"]["managedFields"] = [ours, theirs]
    assert not is_settled(desired, found, "apps/v1")
    ours["fieldsV1"]["f:data"] = {".": {}}
    found["metadata"]["managedFields"] = [ours]
    assert not is_settled(desired, found, "apps/v1")


def test_sets_are_compared_by_their_values() -> None:
    finalizers = ["a.example/x", "b.example/y"]
    desired: JsonObject = {"metadata": {"name": "x", "labels": LABEL, "finalizers": finalizers}}
    fields: JsonObject = {
        "f:labels": {"f:applyset.kubernetes.io/part-of": {}},
        "f:finalizers": {f'v:"{f}"': {} for f in finalizers},
    }
    found: JsonObject = copy.deepcopy(desired)
    found["metadata"]["managedFields"] = [entry("ocisync", {"f:metadata": fields})]
    assert is_settled(desired, found, "apps/v1")
    desired["metadata"]["finalizers"] = [finalizers[0], "c.example/z"]
    assert not is_settled(desired, found, "apps/v1")
