"""Layouts between ocisync, oras and skopeo: each reads what the others wrote; with oras, referrers travel along."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ocisync.cli.app import run
from ocisync.model.ref import LayoutReference
from ocisync.oci.client import open_store
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.layout import LayoutStore, open_layout
from tests.support.gitrepo import GitRepo
from tests.support.images import quick
from tests.support.ocitools import Oras, Skopeo
from tests.support.registries import Registry

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\n"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit and a key."""
    place = tmp_path_factory.mktemp("interop")
    GitRepo(place / "repo").commit({"deploy/app.yaml": MANIFEST})
    assert run(["keys", "generate", str(place / "k")]) == 0
    return place


@pytest.fixture(params=["layout", "layout.tar"])
def layout(request: pytest.FixtureRequest, workplace: Path, tmp_path: Path, repository: str) -> Path:
    """A signed push to a layout that stands for `repository`."""
    path: Path = tmp_path / request.param
    ran(["push", workplace / "repo" / "deploy", f"oci-layout:{path}:1.0.0",
         "--sign-key", workplace / "k.key", "--as", repository])  # fmt: skip
    return path


@pytest.fixture
def folder(layout: Path, tmp_path: Path) -> Path:
    """The layout as a directory: a tar file is unpacked by somebody else's tar."""
    if layout.is_dir():
        return layout
    with tarfile.open(layout) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    return tmp_path / "unpacked"


@pytest.fixture
def store(layout: Path) -> Iterator[LayoutStore]:
    with open_layout(LayoutReference(str(layout))) as opened:
        yield opened


def ran(arguments: list[Any], code: int = 0) -> None:
    assert run([str(item) for item in arguments]) == code, arguments


def verified(place: str, repository: str, workplace: Path) -> None:
    named = ["--as", repository] if place.startswith("oci-layout:") else []
    ran(["verify", place, "--key", workplace / "k.pub", *named])


def test_skopeo_copies_our_layout_to_a_registry(
    folder: Path, store: LayoutStore, skopeo: Skopeo, repository: str
) -> None:
    assert skopeo.inspect(f"oci:{folder}:1.0.0", "--raw") == json.loads(store.manifest("1.0.0").raw)
    skopeo.copy(f"oci:{folder}:1.0.0", f"docker://{repository}:1.0.0")
    with open_store(repository, quick()) as there:
        assert there.manifest("1.0.0").raw == store.manifest("1.0.0").raw


def test_skopeo_copies_our_layout_to_another(layout: Path, store: LayoutStore, skopeo: Skopeo, tmp_path: Path) -> None:
    form = "oci" if layout.is_dir() else "oci-archive"
    skopeo.copy(f"{form}:{layout}:1.0.0", f"oci:{tmp_path / 'copy'}:again")
    with open_layout(LayoutReference(str(tmp_path / "copy"))) as copied:
        assert copied.manifest("again").raw == store.manifest("1.0.0").raw


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_we_read_what_skopeo_wrote(form: str, workplace: Path, skopeo: Skopeo, repository: str, tmp_path: Path) -> None:
    ran(["push", workplace / "repo" / "deploy", f"oci://{repository}:1.0.0", "--sign-key", workplace / "k.key"])
    target = tmp_path / ("out.tar" if form == "oci-archive" else "out")
    skopeo.copy(f"docker://{repository}:1.0.0", f"{form}:{target}:1.0.0")
    with open_layout(LayoutReference(str(target))) as copied, open_store(repository, quick()) as there:
        assert copied.manifest("1.0.0").raw == there.manifest("1.0.0").raw
        assert collect(copied, copied.manifest("1.0.0").descriptor.digest, budget=EvidenceBudget(monotonic)).items == ()
    ran(["pull", f"oci-layout:{target}:1.0.0", "-d", tmp_path / "files"])
    assert (tmp_path / "files" / "app.yaml").read_text() == MANIFEST
    ran(["verify", f"oci-layout:{target}:1.0.0", "--key", workplace / "k.pub", "--as", repository], code=4)


def test_oras_sees_our_tags_and_referrers(folder: Path, store: LayoutStore, oras: Oras) -> None:
    assert set(oras.run("repo", "tags", "--oci-layout", folder).split()) == set(store.tags())
    digest = store.manifest("1.0.0").descriptor.digest
    listed = oras.json("discover", "--oci-layout", f"{folder}:1.0.0", "--format", "json")
    ours = [item.digest for item in store.referrers(digest).descriptors]
    assert [item["digest"] for item in listed["referrers"]] == ours
    assert len(ours) == 1
    assert oras.json("manifest", "fetch", "--oci-layout", f"{folder}@{ours[0]}") == json.loads(
        store.manifest(ours[0]).raw
    )


def test_oras_copies_our_layout_with_its_signatures_to_a_registry(
    folder: Path, oras: Oras, repository: str, workplace: Path
) -> None:
    oras.run("copy", "-r", "--from-oci-layout", "--to-plain-http", f"{folder}:1.0.0", f"{repository}:1.0.0")
    verified(f"oci://{repository}:1.0.0", repository, workplace)


def test_we_verify_what_oras_copied_into_a_layout(workplace: Path, oras: Oras, repository: str, tmp_path: Path) -> None:
    ran(["push", workplace / "repo" / "deploy", f"oci://{repository}:1.0.0", "--sign-key", workplace / "k.key"])
    oras.run("copy", "-r", "--from-plain-http", "--to-oci-layout", f"{repository}:1.0.0", f"{tmp_path / 'out'}:1.0.0")
    verified(f"oci-layout:{tmp_path / 'out'}:1.0.0", repository, workplace)


def test_oras_and_ocisync_write_to_one_layout_in_turn(
    folder: Path, oras: Oras, repository: str, workplace: Path
) -> None:
    (oras.directory / "sbom.json").write_text("{}")
    kind = ("--artifact-type", "application/x.sbom")
    oras.run("attach", "--oci-layout", f"{folder}:1.0.0", *kind, "sbom.json:text/json")
    ran(["tag", f"oci-layout:{folder}:1.0.0", "production", "--sign-key", workplace / "k.key", "--as", repository])
    oras.run("tag", "--oci-layout", f"{folder}:1.0.0", "by-oras")
    verified(f"oci-layout:{folder}:production", repository, workplace)
    with open_layout(LayoutReference(str(folder))) as opened:
        digest = opened.manifest("by-oras").descriptor.digest
        assert opened.manifest("production").descriptor.digest == digest
        kinds = sorted(item.artifact_type for item in opened.referrers(digest).descriptors)
    assert kinds.count("application/x.sbom") == 1
    assert len(kinds) == 3
    listed = oras.json("discover", "--oci-layout", f"{folder}:production", "--format", "json")
    assert len(listed["referrers"]) == 3


def test_a_registry_and_a_layout_hold_the_same_bytes(
    layout: Path, store: LayoutStore, repository: str, workplace: Path, registry: Registry
) -> None:
    assert registry.host in repository
    ran(["push", workplace / "repo" / "deploy", f"oci://{repository}:1.0.0"])
    with open_store(repository, quick()) as there:
        assert there.manifest("1.0.0").raw == store.manifest("1.0.0").raw
    assert layout.exists()
