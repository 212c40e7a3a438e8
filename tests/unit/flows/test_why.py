"""Where a value comes from, decided from an object, its sync and what was applied. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.cluster.fieldexpr import find, parse_field
from ocisync.cluster.normalise import applyset_id
from ocisync.flows.why import Known, explain, owner_of
from ocisync.flows.whyanswer import Answer, Content, Origin, Owner
from ocisync.model.resource import JsonObject
from ocisync.model.spec import parse_sync
from ocisync.model.tree import TreeFile

ID = applyset_id("shop", "apps")
T0, T1 = "2026-11-23T12:00:00Z", "2026-11-23T12:05:00Z"
WEB = b"""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  paused: false
  template: {spec: {containers: [{name: app, image: "registry.example/web:1"}]}}
"""
CONTAINER = 'k:{"name":"app"}'
OURS: JsonObject = {
    "f:metadata": {"f:labels": {"f:applyset.kubernetes.io/part-of": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:paused": {},
        "f:template": {"f:spec": {"f:containers": {CONTAINER: {".": {}, "f:name": {}, "f:image": {}}}}},
    },
}


def entry(manager: str, fields: JsonObject, operation: str = "Update", **more: str) -> JsonObject:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": T1, "fieldsV1": fields, **more}


def live(*entries: JsonObject, ours: JsonObject | None = OURS, **spec: Any) -> JsonObject:
    image = spec.pop("image", "registry.example/web:1")
    kept = [entry("ocisync", ours, "Apply", time=T0)] if ours is not None else []
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u1",
            "labels": {"applyset.kubernetes.io/part-of": ID}, "managedFields": [*kept, *entries],
        },
        "spec": {
            "replicas": 3, "paused": False,
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}}, **spec,
        },
    }  # fmt: skip


def asked(obj: JsonObject, field: str, status: JsonObject | None = None, content: bool = True, **spec: Any) -> Answer:
    sync = {
        "metadata": {"name": "shop", "namespace": "apps"},
        "spec": {
            "source": {"repository": "registry.example/shop", "tag": "x"},
            "target": {"namespace": "shop", "serviceAccountName": "deployer"}, **spec,
        },
    }  # fmt: skip
    owner = Owner("apps/shop", ID, status or {"applied": {"digest": "sha256:1"}}, parse_sync(sync))
    files = (TreeFile("deploy/web.yaml", WEB),)
    known = Known(obj, owner, Content("r", "sha256:1", "main@sha1:a", "", ("ci",), False, files) if content else None)
    (steps,) = find(obj, parse_field(field))
    return explain(known, steps)


SCALE = entry("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, subresource="scale", time="")
WITHOUT_REPLICAS = {**OURS, "f:spec": {k: v for k, v in OURS["f:spec"].items() if k != "f:replicas"}}


def test_a_value_of_git_has_its_place_and_whoever_else_set_the_same() -> None:
    answer = asked(live(entry("other", {"f:spec": {"f:replicas": {}}})), ".spec.replicas")
    assert answer.origin is Origin.GIT and answer.applied_at == T0
    assert answer.written is not None and answer.written.place == "deploy/web.yaml:5:3"
    assert answer.text == ("3, from Git: deploy/web.yaml:5:3", f"other at {T1} set the same value")


def test_what_the_sync_leaves_to_others_is_said_so() -> None:
    scaled = asked(live(SCALE, ours=WITHOUT_REPLICAS, replicas=7), ".spec.replicas")
    assert scaled.origin is Origin.DIFFERS
    assert "at a time that Kubernetes did not record" in scaled.text[0]
    assert scaled.text[1] == "an autoscaler sets it, so it is left alone"
    rule = {"target": {"group": "apps", "kind": "Deployment"}, "paths": ["/spec/paused"]}
    paused = asked(live(entry("ops", {"f:spec": {"f:paused": {}}}), paused=True), ".spec.paused", ignore=[rule])
    assert paused.text[1] == "spec.ignore of the sync leaves this field to others"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "drift.mode is Correct"),
        ({"drift": {"mode": "Warn"}}, "drift.mode is Warn"),
        ({"drift": {"mode": "Ignore"}}, "drift.mode is Ignore"),
        ({"suspend": True}, "the sync is suspended"),
    ],
)
def test_why_a_difference_is_not_put_back(spec: JsonObject, words: str) -> None:
    answer = asked(
        live(entry("kubectl", {"f:spec": {"f:replicas": {}}}), ours=WITHOUT_REPLICAS, replicas=9),
        ".spec.replicas",
        **spec,
    )
    assert answer.text[0] == f"Git says 3 at deploy/web.yaml:5:3, but the object has 9, set by kubectl at {T1}"
    assert answer.text[1].startswith(words)


def test_a_newer_artifact_that_is_not_applied_completely_may_have_set_it() -> None:
    status = {"applied": {"digest": "sha256:1"}, "lastAttempted": {"digest": "sha256:2", "revision": "main@sha1:b"}}
    answer = asked(live(replicas=5), ".spec.replicas", status)
    assert answer.text[1] == "ocisync set it itself, from main@sha1:b, of which not everything is applied yet"


@pytest.mark.parametrize(
    ("obj", "field", "origin"),
    [
        (live(minReadySeconds=0), ".spec.minReadySeconds", Origin.DEFAULT),
        (
            live(entry("mesh", {"f:spec": {"f:strategy": {}}}), strategy={"type": "x"}),
            ".spec.strategy.type",
            Origin.OTHER,
        ),
        (
            live(entry("ocisync", {"f:spec": {"f:strategy": {}}}), strategy={"type": "x"}),
            ".spec.strategy",
            Origin.ADMISSION,
        ),
        (live(), ".metadata.uid", Origin.SERVER),
        (live(), ".metadata.namespace", Origin.TARGET),
        (live(), "metadata.labels[applyset.kubernetes.io/part-of]", Origin.MEMBERSHIP),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_other_origin_is_told_apart(obj: JsonObject, field: str, origin: Origin) -> None:
    assert asked(obj, field).origin is origin


def test_status_is_reported_by_its_controller() -> None:
    status = entry("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status")
    obj = {**live(status), "status": {"replicas": 3}}
    answer = asked(obj, ".status.replicas")
    assert answer.origin is Origin.STATUS and "reported by kube-controller-manager (status)" in answer.text[0]


def test_images_that_the_sync_renames_are_traced_to_what_git_says() -> None:
    obj = live(image="mirror.local/web:1")
    answer = asked(obj, "containers[name=app].image", images=[{"from": "registry.example", "to": "mirror.local"}])
    assert answer.origin is Origin.REWRITTEN and answer.written is not None
    assert answer.written.value == "registry.example/web:1"
    assert answer.text[0].endswith("says registry.example/web:1")


def test_without_the_artifact_nothing_is_said_of_git() -> None:
    answer = asked(live(), ".spec.replicas", content=False)
    assert answer.origin is Origin.UNKNOWN and answer.written is None


def test_the_label_alone_makes_no_owner() -> None:
    sync = {"metadata": {"name": "shop", "namespace": "apps"}}
    assert owner_of(live(), [sync]) is sync
    assert owner_of(live(ours=None), [sync]) is None
    assert owner_of(live(), []) is None


def test_the_whole_object_lists_every_field_that_differs_and_who_holds_it() -> None:
    obj = live(entry("kubectl", {"f:spec": {"f:replicas": {}}}), ours=WITHOUT_REPLICAS, replicas=9)
    sync = parse_sync({"metadata": {"name": "shop", "namespace": "apps"}, "spec": {
        "source": {"repository": "registry.example/shop", "tag": "x"}, "target": {"namespace": "shop"}}})  # fmt: skip
    owner = Owner("apps/shop", ID, {"applied": {"digest": "sha256:1"}}, sync)
    content = Content("r", "sha256:1", "", "", (), False, (TreeFile("deploy/web.yaml", WEB),))
    answer = explain(Known(obj, owner, content), None)
    assert answer.differing == (f"spec.replicas: Git 3, now 9, set by kubectl at {T1}",)
    assert answer.text == ("applied by sync apps/shop from deploy/web.yaml:1",)
