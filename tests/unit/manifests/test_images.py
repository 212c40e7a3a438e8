"""Image fields are found wherever a pod template is, and written without touching anything else."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.kit import yamlio
from ocisync.manifests.images import ImageUse, find_images, pod_images, with_images
from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.image import parse_image, parse_image_path
from ocisync.model.tree import TreeFile

POD = {
    "initContainers": [{"name": "i", "image": "init:1"}],
    "containers": [{"name": "a", "image": "a:1"}, {"name": "b"}],
    "ephemeralContainers": [{"name": "e", "image": "debug:1"}],
    "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "w", "emptyDir": {}}],
}
IMAGES = ["init:1", "a:1", "debug:1", "data:1"]
TEMPLATE = {"spec": {"template": {"spec": POD}}}


def tree(**files: str) -> tuple[TreeFile, ...]:
    return tuple(TreeFile(name.replace("__", ".").replace("_", "/"), text.encode()) for name, text in files.items())


def images(*files: TreeFile, paths: tuple[str, ...] = ()) -> list[tuple[str, int, str]]:
    found = find_images(files, [parse_image_path(path) for path in paths])
    return [(use.file, use.line, use.image) for use in found.uses]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("v1/Pod", {"spec": POD}),
        ("v1/PodTemplate", {"template": {"spec": POD}}),
        *((f"apps/v1/{kind}", TEMPLATE) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
        ("v1/ReplicationController", TEMPLATE),
        ("batch/v1/Job", TEMPLATE),
        ("batch/v1/CronJob", {"spec": {"jobTemplate": TEMPLATE}}),
        ("argoproj.io/v1alpha1/Rollout", TEMPLATE),
        ("serving.knative.dev/v1/Service", TEMPLATE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_workload_has_its_images_found(kind: str, body: dict[str, Any]) -> None:
    assert [value for _, value in pod_images(body)] == IMAGES
    version, _, name = kind.rpartition("/")
    text = yamlio.dump({"apiVersion": version, "kind": name, "metadata": {"name": "x"}, **body})
    assert [image for _, _, image in images(TreeFile("a.yaml", text.encode()))] == IMAGES


def test_lists_and_several_documents_keep_their_places() -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  spec:\n    containers: [{image: a:1}]\n"
        "- kind: Pod\n  spec:\n    containers:\n    - image: b:1\n---\n"
        "kind: Pod\nspec: {containers: [{image: c:1}]}\n"
    )
    assert images(TreeFile("a.yaml", text.encode())) == [
        ("a.yaml", 6, "a:1"),
        ("a.yaml", 10, "b:1"),
        ("a.yaml", 13, "c:1"),
    ]


def test_files_that_are_no_manifests_are_not_looked_into() -> None:
    pod = "kind: Pod\nspec: {containers: [{image: a:1}]}\n"
    assert images(*tree(notes__txt=pod, __hidden_a__yaml=pod, a__yml=pod)) == [("a.yml", 2, "a:1")]


def test_custom_kinds_have_the_fields_that_a_person_names() -> None:
    text = (
        "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nspec:\n  image: prom:1\n  sidecars:\n"
        "  - {image: one:1}\n  - {image: two:1}\n  parts: {a/b: {image: three:1}}\n"
    )
    name = "Prometheus.monitoring.coreos.com="
    file = TreeFile("p.yaml", text.encode())
    assert images(file) == []
    assert [image for *_, image in images(file, paths=(name + "/spec/image",))] == ["prom:1"]
    assert [image for *_, image in images(file, paths=(name + "/spec/sidecars/*/image",))] == ["one:1", "two:1"]
    assert [image for *_, image in images(file, paths=(name + "/spec/sidecars/1/image",))] == ["two:1"]
    assert [image for *_, image in images(file, paths=(name + "/spec/parts/a~1b/image",))] == ["three:1"]
    assert [image for *_, image in images(file, paths=(name + "/spec/parts/*/image",))] == ["three:1"]
    assert images(file, paths=("Prometheus=/spec/image",)) == [], "that is the group of the core"


def test_a_path_that_leads_to_no_string_or_to_nothing_is_told() -> None:
    file = TreeFile("p.yaml", b"apiVersion: x.example/v1\nkind: X\nspec:\n  image: {repository: a, tag: b}\n")
    leads, lost = parse_image_path("X.x.example=/spec/image"), parse_image_path("X.x.example=/spec/nope")
    found = find_images([file], [leads, lost])
    assert [str(item) for item in found.findings] == ["p.yaml:4:3: X.x.example=/spec/image leads to no string"]
    assert found.unused == (lost,)


@pytest.mark.parametrize("text", ["", "Kind", "Kind=", "Kind=spec", "Kind=/", "=/spec", "kind.group=/spec"])
def test_what_is_no_image_path_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="image path"):
        parse_image_path(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("acme/web:1", "docker.io/acme/web:1"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("ghcr.io/acme/web", "ghcr.io/acme/web:latest"),
        ("localhost/web:1", "localhost/web:1"),
        ("localhost:5000/web:1", "localhost:5000/web:1"),
        ("web:1@sha256:" + "a" * 64, "docker.io/library/web:1@sha256:" + "a" * 64),
        ("ghcr.io/web@sha256:" + "a" * 64, "ghcr.io/web@sha256:" + "a" * 64),
    ],
)
def test_images_mean_what_a_container_runtime_takes_them_for(text: str, expected: str) -> None:
    assert str(parse_image(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "${IMAGE}",
        "Web:1",
        "a b",
        "web:",
        "web@",
        "web@sha256:1",
        "web@sha512:" + "a" * 128,
        "http://x.example/web",
        "../web",
    ],
)
def test_what_no_runtime_takes_is_no_image(text: str) -> None:
    with pytest.raises(UsageError):
        parse_image(text)


# Writing ----------------------------------------------------------------------------------------------------------


def pinned(text: str, **new: str) -> str:
    file = TreeFile("a.yaml", text.encode())
    uses = find_images([file]).uses
    (out,) = with_images([file], uses, {f"{name}:1": value for name, value in new.items()})
    return out.data.decode()


def test_other_bytes_stay_as_they_are() -> None:
    text = "# c\r\nkind:  Pod\r\nspec: {containers: [ {image: 'a:1' , name: a}, {name: b, image: b:1} ]}  # d"
    assert pinned(text, a="a:1@x", b="a:2@x") == text.replace("a:1", "a:1@x").replace("b:1", "a:2@x")
    assert pinned(text) == text


def test_an_anchor_between_images_is_written_once() -> None:
    text = "kind: Pod\nspec:\n  containers:\n  - {name: a, image: &i a:1}\n  - {name: b, image: *i}\n"
    assert pinned(text, a="a:1@x") == text.replace("a:1", "a:1@x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind: Pod\nmetadata: {labels: {version: &i a:1}}\nspec: {containers: [{image: *i}]}\n", "shares its text"),
        ("kind: Pod\nspec:\n  containers:\n  - image: >-\n      a:1\n", "not written on one line"),
    ],
)
def test_what_cannot_be_changed_alone_is_a_finding_at_the_image(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        pinned(text, a="a:1@x")
    (finding,) = caught.value.findings
    assert (finding.file, finding.line > 1) == ("a.yaml", True)


def test_uses_of_unchanged_images_leave_the_file_alone() -> None:
    file = TreeFile("a.yaml", b"no: yaml: at all")
    use = ImageUse("a.yaml", 0, ("a",), "a:1", 1, 1)
    assert with_images([file], [use], {"a:1": "a:1"}) == (file,)
