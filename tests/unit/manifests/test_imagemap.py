"""Objects get the site's names of images in every image field, and nothing else of them changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ocisync.manifests.imagemap import rewrite
from ocisync.model.image import ImageMap, parse_image_map
from ocisync.model.resource import JsonObject, ManifestObject, gvk_of, id_of
from ocisync.model.tree import TreeFile

POD = {
    "initContainers": [{"name": "i", "image": "init:1"}],
    "containers": [{"name": "a", "image": "a:1"}, {"name": "b"}, {"name": "c", "image": "ghcr.io/left/alone:1"}],
    "ephemeralContainers": [{"name": "e", "image": "debug:1"}],
    "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "w", "emptyDir": {}}],
}
TEMPLATE = {"spec": {"template": {"spec": POD}}}
HERE = "mirror.local/docker.io/library"


def images(*paths: str) -> ImageMap:
    return parse_image_map([("docker.io", "mirror.local/docker.io"), ("quay.io", "mirror.local/quay.io")], paths)


def made(api: str, kind: str, **body: Any) -> ManifestObject:
    obj: JsonObject = {"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, **copy.deepcopy(body)}
    return ManifestObject(id_of(obj), gvk_of(obj), obj, "a.yaml", 3)


@pytest.mark.parametrize(
    ("api", "kind", "body"),
    [
        ("v1", "Pod", {"spec": POD}),
        ("v1", "PodTemplate", {"template": {"spec": POD}}),
        *(("apps/v1", kind, TEMPLATE) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
        ("v1", "ReplicationController", TEMPLATE),
        ("batch/v1", "Job", TEMPLATE),
        ("batch/v1", "CronJob", {"spec": {"jobTemplate": TEMPLATE}}),
        ("argoproj.io/v1alpha1", "Rollout", TEMPLATE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_workload_is_rewritten_and_the_artifact_is_left_as_it_was(
    api: str, kind: str, body: dict[str, Any]
) -> None:
    obj = made(api, kind, **body)
    before = copy.deepcopy(obj.body)
    found = rewrite([obj], images())
    assert [(one.old, one.new) for one in found.changes] == [
        (f"{name}:1", f"{HERE}/{name}:1") for name in ("init", "a", "debug", "data")
    ]
    assert obj.body == before
    text = repr(found.objects[0].body)
    for one in found.changes:
        text = text.replace(repr(one.new), repr(one.old))
    assert text == repr(before)
    assert (found.objects[0].id, found.objects[0].place) == (obj.id, obj.place)


def test_custom_resources_are_rewritten_where_a_path_leads() -> None:
    body = {"spec": {"image": "quay.io/p/p:v1", "sidecars": [{"img": "quay.io/s:1"}, {"img": "quay.io/s:2"}], "x": "a"}}
    objs = [made("monitoring.coreos.com/v1", "Prometheus", **body), made("other.example/v1", "Prometheus", **body)]
    paths = ("Prometheus.monitoring.coreos.com=/spec/image", "Prometheus.monitoring.coreos.com=/spec/sidecars/*/img")
    found = rewrite(objs, images(*paths))
    spec = found.objects[0].body["spec"]
    assert spec["image"] == "mirror.local/quay.io/p/p:v1"
    assert [one["img"] for one in spec["sidecars"]] == ["mirror.local/quay.io/s:1", "mirror.local/quay.io/s:2"]
    assert found.objects[1] is objs[1]
    assert [one.path for one in found.changes] == [
        ("spec", "image"), ("spec", "sidecars", 0, "img"), ("spec", "sidecars", 1, "img")
    ]  # fmt: skip
    assert found.notes == ()


def test_paths_that_lead_nowhere_or_to_no_text_are_told() -> None:
    paths = ("Prometheus.monitoring.coreos.com=/spec/image", "Thanos.monitoring.coreos.com=/spec/image")
    found = rewrite([made("monitoring.coreos.com/v1", "Prometheus", spec={"image": {"a": 1}})], images(*paths))
    assert len(found.notes) == 2
    assert "leads to no text in Prometheus.monitoring.coreos.com x (a.yaml:3)" in found.notes[0]
    assert "Thanos" in found.notes[1]


def test_a_field_that_two_rules_lead_to_changes_once() -> None:
    obj = made("apps/v1", "Deployment", **TEMPLATE)
    found = rewrite([obj], images("Deployment.apps=/spec/template/spec/containers/*/image"))
    assert [one.new for one in found.changes].count(f"{HERE}/a:1") == 1


def test_objects_without_images_are_passed_on_as_they_are() -> None:
    objs = (made("v1", "ConfigMap", data={"image": "nginx"}), made("v1", "Pod", spec={"containers": None}))
    found = rewrite(objs, images())
    assert all(one is two for one, two in zip(found.objects, objs, strict=True))
    assert rewrite(objs, ImageMap()).objects == objs


LOCK = """apiVersion: imgpkg.carvel.dev/v1alpha1
kind: ImagesLock
images:
- {image: "index.docker.io/library/a@sha256:%(d)s", annotations: {kbld.carvel.dev/id: "a:1"}}
- {image: "ghcr.io/left/alone@sha256:%(d)s", annotations: {kbld.carvel.dev/id: "ghcr.io/left/alone:1"}}
"""


def test_what_the_artifacts_lock_pins_is_moved_with_its_digest() -> None:
    digest = "d" * 64
    lock = TreeFile(".imgpkg/images.yml", (LOCK % {"d": digest}).encode())
    found = rewrite([made("v1", "Pod", spec=POD)], images(), [lock])
    new = {one.old: one.new for one in found.changes}
    assert new["a:1"] == f"{HERE}/a:1@sha256:{digest}"
    assert new["init:1"] == f"{HERE}/init:1"
    assert found.objects[0].body["spec"]["containers"][2]["image"] == "ghcr.io/left/alone:1"  # no entry is about it
    broken = rewrite([made("v1", "Pod", spec=POD)], images(), [TreeFile(".imgpkg/images.yml", b"kind: [")])
    assert [one.new for one in broken.changes][1] == f"{HERE}/a:1"
    assert broken.notes
