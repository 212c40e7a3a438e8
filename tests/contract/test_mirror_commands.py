"""`mirror sync` and `mirror map`: files run again and again, tags pruned on request, names for the far side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.kit import yamlio
from ocisync.model.errors import NotFound
from ocisync.oci.client import open_store
from ocisync.sandbox import faults
from ocisync.sandbox.registry import Registry as Sandbox
from ocisync.signing.keys import Signer, generate
from tests.support.artifacts import artifact
from tests.support.closures import POD, everything, push_platforms, push_signed
from tests.support.images import EMPTY, described, image, push_image, quick
from tests.support.verifying import tagged

SET = """apiVersion: ocisync.dev/v1alpha1
kind: MirrorSet
metadata: {{name: site}}
spec:
  destination: {to}
  images: true
  repositories:
  - source: {source}/shop
    tags: [production]
    newest: 2
  - source: {source}/infra
    semver: "^1"
"""
LOCK = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: [{{image: {image}}}]\n"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return generate()


@pytest.fixture
def source() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


@pytest.fixture
def destination() -> Iterator[Sandbox]:
    with Sandbox(referrers=False) as started:
        yield started


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """The JSON of a mirror command that succeeds."""
    capsys.readouterr()
    ended = run(["mirror", *arguments, "-o", "json", "-q"])
    out, err = capsys.readouterr()
    assert ended == 0, err
    found: dict[str, object] = json.loads(out)
    return found


def filled(source: Sandbox, destination: Sandbox, signer: Signer, directory: Path) -> Path:
    """Two repositories and an image at the source, and a file that selects of them."""
    with open_store(f"{source.address}/web", quick()) as store:
        push_platforms(store, "web", "2.0.0", signer)
    with open_store(f"{source.address}/shop", quick()) as store:
        for number in range(4):
            tags = ("production",) if number == 1 else ()
            push_signed(store, number, signer, (f"{source.address}/web:2.0.0",), *tags)
    with open_store(f"{source.address}/infra", quick()) as store:
        push_signed(store, 9, signer)
    file = directory / "set.yaml"
    file.write_text(SET.format(source=source.address, to=f"{destination.address}/m"))
    return file


def tags_of(repository: str) -> list[str]:
    """The tags that people set."""
    with open_store(repository, quick()) as store:
        return sorted(tag for tag in store.tags() if not tag.startswith("sha256-"))


def test_a_sync_makes_the_destination_hold_what_the_file_selects_and_then_rests(
    source: Sandbox, destination: Sandbox, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = filled(source, destination, signer, tmp_path)
    planned = answer(capsys, "sync", str(file), "--dry-run")
    assert planned["changes"] is True
    with pytest.raises(NotFound):
        tags_of(f"{destination.address}/m/shop")
    answer(capsys, "sync", str(file))
    shop, web = f"{destination.address}/m/shop", f"{destination.address}/m/{source.address.replace(':', '-')}/web"
    assert tags_of(shop) == ["1.2.0", "1.3.0", "production"]
    assert tags_of(f"{destination.address}/m/infra") == ["1.9.0"]
    assert everything(web) == everything(f"{source.address}/web")
    again = answer(capsys, "sync", str(file), "--prune-tags")
    assert set(again["moved"].values()) == {0}  # type: ignore[attr-defined]
    assert again["prunedTags"] == []


def test_tags_that_are_not_selected_any_more_go_only_on_request(
    source: Sandbox, destination: Sandbox, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = filled(source, destination, signer, tmp_path)
    answer(capsys, "sync", str(file))
    with open_store(f"{source.address}/shop", quick()) as store:
        push_signed(store, 4, signer)
    shop = f"{destination.address}/m/shop"
    answer(capsys, "sync", str(file))
    assert tags_of(shop) == ["1.2.0", "1.3.0", "1.4.0", "production"]
    pruned = answer(capsys, "sync", str(file), "--prune-tags")
    assert pruned["prunedTags"] == [f"{shop}:1.2.0"]
    assert tags_of(shop) == ["1.3.0", "1.4.0", "production"]


def test_nothing_is_pruned_after_a_failure(
    source: Sandbox, destination: Sandbox, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = filled(source, destination, signer, tmp_path)
    answer(capsys, "sync", str(file))
    with open_store(f"{source.address}/shop", quick()) as store:
        digest = push_signed(store, 4, signer)
        layer = json.loads(store.manifest(digest).raw)["layers"][0]["digest"]
    source.faults.add(f"/blobs/{layer}", method="GET", count=None, action=faults.Status(404))
    text = file.read_text().replace("  images: true\n", "")
    file.write_text(text)
    assert run(["mirror", "sync", str(file), "--prune-tags", "-q"]) == 5
    assert "1.2.0" in tags_of(f"{destination.address}/m/shop")


def test_an_image_that_fails_keeps_the_artifacts_tag_back(
    source: Sandbox, destination: Sandbox, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = filled(source, destination, signer, tmp_path)
    with open_store(f"{source.address}/web", quick()) as store:
        index = json.loads(store.manifest("2.0.0").raw)
        platform = json.loads(store.manifest(index["manifests"][1]["digest"]).raw)
    layer = platform["layers"][0]["digest"]
    source.faults.add(f"/blobs/{layer}", method="GET", count=None, action=faults.Status(404))
    assert run(["mirror", "sync", str(file), "-q"]) == 5
    assert tagged(f"{destination.address}/m/shop", "1.3.0") == ""
    assert tagged(f"{destination.address}/m/infra", "1.9.0") != ""


def test_a_map_says_how_images_and_signed_names_change(
    source: Sandbox, destination: Sandbox, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(source, destination, signer, tmp_path)
    host = source.address
    arguments = ("map", f"{host}/shop:production", f"{destination.address}/m/shop")
    found = answer(capsys, *arguments)
    assert found == {
        "images": [{"from": host, "to": f"{destination.address}/{host.replace(':', '-')}"}],
        "remap": [{"signed": f"{host}/shop", "here": f"{destination.address}/m/shop"}],
    }
    assert run(["mirror", *arguments]) == 0
    text = capsys.readouterr().out
    assert {"images": found["images"]}.items() <= {
        key: value
        for document in text.split("# TrustPolicy, spec.repositoryClaim:\n")
        for key, value in yamlio.parse_documents(document.encode(), "map.yaml")[0].value.items()
    }.items()


def test_a_map_of_a_file_is_that_of_the_copy(
    source: Sandbox, destination: Sandbox, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(source, destination, signer, tmp_path)
    file, to = str(tmp_path / "shop.tar"), f"{destination.address}/m/shop"
    assert run(["mirror", "save", f"{source.address}/shop:production", "--images", "-o", file, "-q"]) == 0
    path = ("--image-path", "Thing.x.example=/spec/picture")
    found = answer(capsys, "map", file, to, *path)
    assert found == answer(capsys, "map", f"{source.address}/shop:production", to, *path)
    assert found["imagePaths"] == ["Thing.x.example=/spec/picture"]
    elsewhere = answer(capsys, "map", file, to, "--map", f"{source.address}/web={destination.address}/w")
    assert elsewhere["images"] == [{"from": f"{source.address}/web", "to": f"{destination.address}/w"}]
    assert run(["mirror", "map", f"{source.address}/shop:production", to, "--map", "a.example=b.example"]) == 2
    capsys.readouterr()
    assert run(["mirror", "map", str(tmp_path / "none.tar"), to]) == 5
    assert "no file" in capsys.readouterr().err


def test_images_of_custom_resources_and_of_locks_come_along(
    source: Sandbox, destination: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(f"{source.address}/one", quick()) as store:
        push_image(store, "1.0.0", b"one")
    with open_store(f"{source.address}/two", quick()) as store:
        two = push_image(store, "1.0.0", b"two")
    picture = f"spec: {{picture: {source.address}/one:1.0.0}}"
    custom = f"apiVersion: x.example/v1\nkind: Thing\nmetadata: {{name: a}}\n{picture}\n"
    pod = POD.format(number=1, containers="  - {name: c}")
    lock = LOCK.format(image=f"{source.address}/two@{two.digest}")
    built = artifact({"a.yaml": custom, ".imgpkg/images.yml": lock, "p.yaml": pod})
    with open_store(f"{source.address}/shop", quick()) as store:
        store.put_blob(built.layer_descriptor, built.layer)
        store.put_blob(built.config_descriptor, built.config)
        store.put_manifest(built.manifest, built.descriptor.media_type, "1.0.0")
    path = ("--image-path", "Thing.x.example=/spec/picture")
    answer(capsys, "copy", f"{source.address}/shop:1.0.0", f"{destination.address}/shop", "--images", *path)
    below = f"{destination.address}/{source.address.replace(':', '-')}"
    assert tagged(f"{below}/one", "1.0.0")
    assert tagged(f"{below}/two", two.digest) == two.digest


def test_a_blob_that_the_registry_has_elsewhere_is_linked(
    source: Sandbox, capsys: pytest.CaptureFixture[str], signer: Signer
) -> None:
    with open_store(f"{source.address}/shop", quick()) as store:
        push_signed(store, 1, signer)
    found = answer(capsys, "copy", f"{source.address}/shop:1.1.0", f"{source.address}/other:stable")
    moved = found["moved"]
    assert isinstance(moved, dict)
    assert (moved["blobs"], moved["linkedBlobs"] > 0) == (0, True)
    assert tagged(f"{source.address}/other", "stable")


def test_a_bundle_that_imgpkg_copied_keeps_its_images_beside_it(
    source: Sandbox, destination: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(f"{source.address}/bundle", quick()) as store:
        inner = push_image(store, "x", b"an image of the bundle")
        lock = LOCK.format(image=f"gone.example/web@{inner.digest}")
        built = artifact({".imgpkg/images.yml": lock})
        store.put_blob(built.layer_descriptor, built.layer)
        store.put_blob(built.config_descriptor, built.config)
        store.put_manifest(built.manifest, built.descriptor.media_type, "1.0.0")
        locations = described(b"locations")
        store.put_blob(locations, b"locations")
        store.put_blob(EMPTY, b"{}")
        tag = built.descriptor.digest.replace(":", "-") + ".image-locations.imgpkg"
        store.put_manifest(image(locations), "application/vnd.oci.image.manifest.v1+json", tag)
    to = f"{destination.address}/bundle"
    answer(capsys, "copy", f"{source.address}/bundle:1.0.0", to, "--images")
    assert tagged(to, inner.digest) == inner.digest
    assert tagged(to, tag)
