"""Bundles that the real imgpkg made cross to the other side, and the real imgpkg uses them there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocisync.cli.app import run
from ocisync.model.descriptor import Descriptor
from ocisync.oci.client import open_store
from ocisync.sandbox.registry import Registry as Sandbox
from tests.support.closures import everything
from tests.support.images import push_image, quick
from tests.support.ocitools import Imgpkg, ToolError
from tests.support.registries import Registry

DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "acme/web:1.0"}]
"""
TEMPLATE = "#@ load('@ytt:data', 'data')\nkind: #@ data.values.kind\n  nonsense: [\n"


@dataclass(frozen=True, slots=True)
class Bundles:
    """A bundle that lists another one, as it was pushed and as imgpkg copied it, and the images in them."""

    pushed: str
    copied: str
    digest: str
    inner: str
    web: Descriptor
    tools: Descriptor


def lock(*images: tuple[str, str]) -> str:
    entries = [{"image": image, "annotations": {"kbld.carvel.dev/id": text}} for image, text in images]
    return yaml.safe_dump({"apiVersion": "imgpkg.carvel.dev/v1alpha1", "kind": "ImagesLock", "images": entries})


def bundle(imgpkg: Imgpkg, directory: Path, reference: str, files: dict[str, str]) -> str:
    """Push a directory as a bundle; its digest."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    imgpkg.run("push", "-b", reference, "-f", directory)
    with open_store(reference.rpartition(":")[0], quick()) as store:
        found = store.resolve(reference.rpartition(":")[2])
    assert found is not None
    return found.digest


@pytest.fixture
def near() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


@pytest.fixture
def bundles(near: Sandbox, imgpkg: Imgpkg, tmp_path: Path) -> Bundles:
    host = near.address
    with open_store(f"{host}/acme/web", quick()) as store:
        web = push_image(store, "1.0", b"web")
    with open_store(f"{host}/acme/tools", quick()) as store:
        tools = push_image(store, "1.0", b"tools")
    tools_lock = lock((f"{host}/acme/tools@{tools.digest}", "acme/tools:1.0"))
    inner = bundle(imgpkg, tmp_path / "inner", f"{host}/acme/inner:1.0.0", {".imgpkg/images.yml": tools_lock})
    outer_lock = lock(
        (f"{host}/acme/web@{web.digest}", "acme/web:1.0"), (f"{host}/acme/inner@{inner}", f"{host}/acme/inner")
    )
    files = {".imgpkg/images.yml": outer_lock, "web.yaml": DEPLOYMENT, "values.yml": TEMPLATE}
    digest = bundle(imgpkg, tmp_path / "outer", f"{host}/acme/outer:1.0.0", files)
    imgpkg.run("copy", "-b", f"{host}/acme/outer:1.0.0", "--to-repo", f"{host}/shipped/outer")
    return Bundles(f"{host}/acme/outer", f"{host}/shipped/outer", digest, inner, web, tools)


def mirrored(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    code = run(["mirror", *arguments, "-q"])
    out, err = capsys.readouterr()
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def by_copy(capsys: pytest.CaptureFixture[str], source: str, to: str, _file: Path) -> None:
    answer = mirrored(capsys, "copy", source, to, "--images", "-o", "json")
    assert answer["failed"] == []


def by_file(capsys: pytest.CaptureFixture[str], source: str, to: str, file: Path) -> None:
    mirrored(capsys, "save", source, "--images", "-o", str(file), "--summary", "json")
    answer = mirrored(capsys, "load", str(file), to, "-o", "json")
    assert answer["failed"] == [] and answer["refused"] == [] and answer["moved"]["manifests"], answer


@pytest.mark.parametrize(("kind", "how"), [("distribution", by_copy), ("olareg", by_file)], ids=["copied", "in-a-file"])
def test_a_bundle_that_imgpkg_copied_crosses_with_the_bundles_in_it_and_imgpkg_uses_it_there(
    bundles: Bundles,
    near: Sandbox,
    imgpkg: Imgpkg,
    kind: str,
    how: Callable[..., None],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry: Registry = request.getfixturevalue(kind)
    far = f"{registry.host}/far/{bundles.digest[7:19]}/{how.__name__.replace('_', '-')}"
    how(capsys, f"{bundles.copied}@{bundles.digest}", far, tmp_path / "bundle.tar")
    assert everything(far).manifests.keys() == everything(bundles.copied).manifests.keys()
    near.stop()  # from here on there is only the far side
    reference = f"{far}@{bundles.digest}"
    imgpkg.run("pull", "-b", reference, "-o", tmp_path / "pulled", "--recursive")
    relocated = yaml.safe_load((tmp_path / "pulled/.imgpkg/images.yml").read_text())
    assert [one["image"] for one in relocated["images"]] == [
        f"{far}@{bundles.web.digest}", f"{far}@{bundles.inner}"
    ]  # fmt: skip
    assert (tmp_path / "pulled/web.yaml").read_text() == DEPLOYMENT
    described = yaml.safe_load(imgpkg.run("describe", "-b", reference, "-o", "yaml"))
    assert {bundles.web.digest, bundles.inner} <= described["content"]["images"].keys() | described["content"][
        "bundles"
    ].keys()
    assert bundles.tools.digest in str(described["content"]["bundles"][bundles.inner])
    imgpkg.copy_to_tar(reference, tmp_path / "again.tar")


def test_a_map_leads_from_the_texts_of_manifests_to_the_bundles_own_repository(
    bundles: Bundles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, to = f"{bundles.copied}@{bundles.digest}", "mirror.site.local/outer"
    file = str(tmp_path / "bundle.tar")
    mirrored(capsys, "save", source, "--images", "-o", file, "--summary", "json")
    found = mirrored(capsys, "map", source, to, "-o", "json")
    assert {"from": "docker.io/acme/web", "to": to} in found["images"]
    assert {one["to"] for one in found["images"]} == {to}
    assert mirrored(capsys, "map", file, to, "-o", "json") == found


def test_a_bundle_that_was_only_pushed_brings_the_images_of_all_its_locks(
    bundles: Bundles, distribution: Registry, imgpkg: Imgpkg, near: Sandbox, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    host = f"{distribution.host}/far-{bundles.digest[7:19]}"
    flags = ("--images", "--images-to", host, "-o", "json")
    answer = mirrored(capsys, "copy", f"{bundles.pushed}:1.0.0", f"{host}/outer", *flags)
    named = [one["destination"] for one in answer["artifacts"] if one["role"] == "Image"]
    below = f"{host}/{near.address.replace(':', '-')}/acme"
    assert sorted(named) == sorted([f"{below}/inner", f"{below}/tools", f"{host}/docker.io/acme/web"])
    assert any("values.yml" in note and "its images are those of" in note for note in answer["notes"])
    near.stop()
    imgpkg.pull_bundle(f"{host}/outer@{bundles.digest}", tmp_path / "pulled")
    assert (tmp_path / "pulled/web.yaml").read_text() == DEPLOYMENT
    with pytest.raises(ToolError):  # as after any other copy that is not imgpkg's: it looks beside the bundle
        imgpkg.run("describe", "-b", f"{host}/outer@{bundles.digest}", "-o", "yaml")
