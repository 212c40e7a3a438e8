"""The lock makes an artifact a bundle of imgpkg, the same for the same images."""

from __future__ import annotations

import json

import pytest

from ocisync.kit.yamlio import parse_documents
from ocisync.manifests.parse import is_manifest
from ocisync.model.errors import InvalidInput
from ocisync.model.image import LOCK
from ocisync.model.tree import TreeFile
from ocisync.pack.artifact import build
from ocisync.pack.imageslock import BUNDLE_LABELS, IGNORE, LockedImage, images_lock, with_lock
from tests.support.artifacts import tree_of

WEB = LockedImage("r.example/web@sha256:" + "a" * 64, "r.example/web:1@sha256:" + "a" * 64)
API = LockedImage("r.example/api@sha256:" + "b" * 64, "r.example/api@sha256:" + "b" * 64)


def test_the_lock_is_what_imgpkg_reads() -> None:
    (document,) = parse_documents(images_lock([WEB]), "images.yml")
    assert document.value == {
        "apiVersion": "imgpkg.carvel.dev/v1alpha1",
        "kind": "ImagesLock",
        "images": [{"image": WEB.reference, "annotations": {"kbld.carvel.dev/id": WEB.text}}],
    }


def test_the_order_and_number_of_uses_do_not_matter() -> None:
    assert images_lock([WEB, API, WEB]) == images_lock([API, WEB])
    assert parse_documents(images_lock([]), "images.yml")[0].value["images"] == []


def test_the_lock_is_no_manifest_for_us_or_for_flux() -> None:
    files = {file.path: file.data for file in with_lock([TreeFile("a.yaml", b"a")], [WEB])}
    assert set(files) == {"a.yaml", LOCK, IGNORE}
    assert not is_manifest(LOCK)
    assert files[IGNORE] == b".imgpkg/\n"


@pytest.mark.parametrize(
    ("own", "expected"),
    [(b"*.md\n", b"*.md\n.imgpkg/\n"), (b"*.md", b"*.md\n.imgpkg/\n"), (b".imgpkg/\n*.md\n", b".imgpkg/\n*.md\n")],
)
def test_a_sourceignore_of_the_tree_is_kept(own: bytes, expected: bytes) -> None:
    files = {file.path: file.data for file in with_lock([TreeFile(IGNORE, own)], [])}
    assert files[IGNORE] == expected


@pytest.mark.parametrize("path", [".imgpkg/images.yml", "apps/.imgpkg/bundle.yml"])
def test_a_lock_of_the_tree_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match=path):
        with_lock([TreeFile(path, b"")], [])


def test_labels_go_into_the_config_and_nowhere_else() -> None:
    plain, bundle = build(tree_of({"a": "x"})), build(tree_of({"a": "x"}), labels=BUNDLE_LABELS)
    assert json.loads(bundle.config)["config"]["Labels"] == {
        **json.loads(plain.config)["config"]["Labels"],
        "dev.carvel.imgpkg.bundle": "true",
    }
    assert bundle.layer == plain.layer
    assert bundle.annotations == plain.annotations
