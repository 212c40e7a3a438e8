"""Pinning: every image once, everything or nothing, the same result for the same answers."""

from __future__ import annotations

import threading
from collections import Counter
from typing import cast

import pytest

from ocisync.flows.images import PinnedImage, PinOptions, pin_images
from ocisync.model.descriptor import OCI_INDEX, Descriptor
from ocisync.model.errors import AccessDenied, InvalidInput, OcisyncError, Unavailable
from ocisync.model.image import LOCK, parse_image_path
from ocisync.model.ref import Reference
from ocisync.oci.store import Store
from ocisync.pack.imageslock import IGNORE
from tests.support.artifacts import tree_of

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: %s}\n"


class Images:
    """Registries that know some images; counts what they are asked."""

    def __init__(self, known: dict[str, str | OcisyncError]) -> None:
        self.known = known
        self.asked: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.closed = 0
        self._lock = threading.Lock()

    def open(self, image: Reference) -> Store:
        with self._lock:
            self.opened[image.repository] += 1
        return cast("Store", _Repository(self, image.repository))

    def pin(self, *paths: str, **files: str) -> tuple[dict[str, str], tuple[PinnedImage, ...], tuple[str, ...]]:
        tree = tree_of({name.replace("_", "."): text for name, text in files.items()})
        done = pin_images(tree, PinOptions(self.open, tuple(parse_image_path(path) for path in paths)))
        return {file.path: file.data.decode() for file in done.tree.files}, done.images, done.notes


class _Repository:
    def __init__(self, images: Images, name: str) -> None:
        self._images, self._name = images, name

    def resolve(self, tag: str) -> Descriptor | None:
        self._images.asked[f"{self._name}:{tag}"] += 1
        answer = self._images.known.get(f"{self._name}:{tag}")
        if isinstance(answer, OcisyncError):
            raise answer
        return Descriptor(OCI_INDEX, answer, 10) if answer else None

    def close(self) -> None:
        self._images.closed += 1


def test_tags_get_their_digest_behind_them_and_the_lock_names_all_images() -> None:
    registry = Images({"docker.io/library/web:1": A, "r.example/api:2": B})
    done = f"r.example/done@{A}"
    files, images, notes = registry.pin(a_yaml=POD % "web:1", b_yaml=POD % "r.example/api:2", c_yaml=POD % done)
    assert files["a.yaml"] == POD % f"web:1@{A}"
    assert files["b.yaml"] == POD % f"r.example/api:2@{B}"
    assert files["c.yaml"] == POD % done, "what is pinned stays"
    assert [image.reference for image in images] == [f"r.example/api@{B}", done, f"index.docker.io/library/web@{A}"]
    assert all(image.reference in files[LOCK] and image.text in files[LOCK] for image in images)
    assert (files[IGNORE], notes) == (".imgpkg/\n", ())
    assert set(registry.asked) == {"docker.io/library/web:1", "r.example/api:2"}


def test_each_image_is_asked_for_once_and_each_repository_opened_once() -> None:
    registry = Images({"docker.io/library/web:1": A, "docker.io/library/web:2": B})
    names = ["web:1", "docker.io/web:1", "web:2", "web:1"]
    files, _, _ = registry.pin(**{f"p{index}_yaml": POD % name for index, name in enumerate(names)})
    assert files["p1.yaml"] == POD % f"docker.io/web:1@{A}"
    assert set(registry.asked.values()) == set(registry.opened.values()) == {1}
    assert registry.closed == 1


def test_an_image_without_a_tag_is_latest_and_keeps_its_name() -> None:
    files, _, _ = Images({"docker.io/library/web:latest": A}).pin(a_yaml=POD % "web")
    assert files["a.yaml"] == POD % f"web@{A}"


def test_all_that_is_missing_is_told_at_every_place() -> None:
    registry = Images({"docker.io/library/web:1": A, "r.example/down:1": Unavailable("no answer")})
    with pytest.raises(InvalidInput) as caught:
        registry.pin(
            a_yaml=POD % "web:1" + "---\n" + POD % "gone:1", b_yaml=POD % "gone:1", c_yaml=POD % "r.example/down:1",
            d_yaml=POD % "$(IMAGE)",
        )  # fmt: skip
    assert [str(finding).partition(" (")[0] for finding in caught.value.findings] == [
        "a.yaml:13:15: image 'gone:1' does not exist",
        "b.yaml:6:15: image 'gone:1' does not exist",
        "c.yaml:6:15: image 'r.example/down:1' cannot be resolved: no answer",
        "d.yaml:6:15: '$(IMAGE)' is no image reference: it cannot be pinned",
    ]


@pytest.mark.parametrize("error", [AccessDenied("log in"), Unavailable("no answer")])
def test_what_only_a_registry_stands_against_has_the_exit_code_of_that(error: OcisyncError) -> None:
    with pytest.raises(type(error)):
        Images({"docker.io/library/web:1": error}).pin(a_yaml=POD % "web:1")


def test_a_path_that_leads_nowhere_is_a_note() -> None:
    _, _, (note,) = Images({}).pin("X.x.example=/spec/image", a_yaml="kind: Pod\n")
    assert "X.x.example=/spec/image leads to nothing" in note


def test_the_same_answers_give_the_same_tree() -> None:
    known: dict[str, str | OcisyncError] = {f"docker.io/library/i{index}:1": A for index in range(20)}
    manifests = {f"p{index}_yaml": POD % f"i{index}:1" for index in range(20)}
    assert Images(known).pin(**manifests) == Images(known).pin(**dict(reversed(manifests.items())))
