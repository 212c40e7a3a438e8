"""The tools themselves read what `ocisync push` wrote, from three registries, and get the committed files."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.compat.conftest import Push, tree
from tests.support.gitopstools import ArgoCd, Flux
from tests.support.gitrepo import GitRepo
from tests.support.ocitools import Imgpkg, Oras, Skopeo, ToolError

# The tools are asked for by name, at run time.
pytestmark = pytest.mark.real


@pytest.mark.parametrize("profile", ["oci", "flux", "imgpkg"])
def test_flux_pulls_it_and_shows_its_revision(
    profile: str, flux: Flux, push: Push, files: dict[str, bytes], repo: GitRepo, repository: str, tmp_path: Path
) -> None:
    digest = push("1.0.0", "--profile", profile)
    assert flux.pull(f"{repository}:1.0.0", tmp_path / "out") == (digest, f"main@sha1:{repo.git('rev-parse', 'HEAD')}")
    assert tree(tmp_path / "out") == files


def test_argo_cd_extracts_it_by_version_tag_and_digest(
    argocd: ArgoCd, push: Push, files: dict[str, bytes], repository: str, tmp_path: Path
) -> None:
    digest = push("1.0.0")
    for number, revision in enumerate(("1.0.0", "^1.0.0", digest)):
        assert argocd.pull(repository, revision, tmp_path / str(number)) == digest
        assert tree(tmp_path / str(number)) == files


def test_argo_cd_refuses_the_flux_profile_as_documented(
    argocd: ArgoCd, push: Push, repository: str, tmp_path: Path
) -> None:
    push("1.0.0", "--profile", "flux")
    with pytest.raises(ToolError, match="not in the list of allowed media types"):
        argocd.pull(repository, "1.0.0", tmp_path / "out")


def test_skopeo_copies_the_flux_profile_but_takes_it_for_no_image_to_inspect(
    skopeo: Skopeo, push: Push, repository: str
) -> None:
    digest = push("1.0.0", "--profile", "flux")
    with pytest.raises(ToolError, match="unsupported image-specific operation"):
        skopeo.inspect(f"docker://{repository}:1.0.0")
    skopeo.copy(f"docker://{repository}:1.0.0", f"docker://{repository}:2.0.0", "--preserve-digests")
    raw = skopeo.run("inspect", "--tls-verify=false", "--raw", f"docker://{repository}:2.0.0")
    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == digest


def test_imgpkg_pulls_it_as_an_image(
    imgpkg: Imgpkg, push: Push, files: dict[str, bytes], repository: str, tmp_path: Path
) -> None:
    push("1.0.0")
    imgpkg.run("pull", "-i", f"{repository}:1.0.0", "-o", tmp_path / "out")
    assert tree(tmp_path / "out") == files


def test_oras_reads_manifest_layer_and_signatures(
    oras: Oras, cli: Cli, push: Push, files: dict[str, bytes], repository: str, tmp_path: Path
) -> None:
    assert cli("keys", "generate", str(tmp_path / "k")).exit_code == 0
    digest = push("1.0.0", "--sign-key", str(tmp_path / "k.key"))
    name = f"{repository}:1.0.0"
    assert oras.json("manifest", "fetch", "--plain-http", "--descriptor", name)["digest"] == digest
    manifest = oras.json("manifest", "fetch", "--plain-http", name)
    oras.run("blob", "fetch", "--plain-http", "-o", tmp_path / "l", f"{repository}@{manifest['layers'][0]['digest']}")
    with tarfile.open(tmp_path / "l") as layer:
        layer.extractall(tmp_path / "out", filter="data")
    assert tree(tmp_path / "out") == files
    found = oras.json("discover", "--plain-http", "--format", "json", name)
    assert [item["artifactType"] for item in found.get("referrers") or found["manifests"]] == [
        "application/vnd.dev.sigstore.bundle.v0.3+json"
    ]
    oras.run("pull", "--plain-http", "-o", tmp_path / "pulled", name)  # untitled layers stay in oras' cache


def test_skopeo_inspects_it_and_copies_it_unchanged(
    skopeo: Skopeo, oras: Oras, push: Push, repository: str, repo: GitRepo, tmp_path: Path
) -> None:
    digest = push("1.0.0")
    seen = skopeo.inspect(f"docker://{repository}:1.0.0")
    assert seen["Digest"] == digest
    assert seen["Labels"]["org.opencontainers.image.revision"] == f"main@sha1:{repo.git('rev-parse', 'HEAD')}"
    assert (seen["Architecture"], seen["Os"]) == ("amd64", "linux")
    skopeo.copy(f"docker://{repository}:1.0.0", f"docker://{repository}/copied:1.0.0")
    assert skopeo.inspect(f"docker://{repository}/copied:1.0.0")["Digest"] == digest
    skopeo.copy(f"docker://{repository}:1.0.0", f"oci:{tmp_path / 'layout'}:1.0.0")
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert [item["digest"] for item in index["manifests"]] == [digest]


def test_every_tool_reads_an_artifact_with_pinned_images(
    flux: Flux, argocd: ArgoCd, imgpkg: Imgpkg, push: Push, repo: GitRepo, repository: str, tmp_path: Path
) -> None:
    push("1.0.0")  # something for an image to be
    spec = f"spec: {{containers: [{{name: web, image: '{repository}:1.0.0'}}]}}\n"
    repo.commit({"deploy/pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n" + spec})
    digest = push("2.0.0", "--pin-images")
    assert flux.pull(f"{repository}:2.0.0", tmp_path / "flux")[0] == digest
    assert argocd.pull(repository, "2.0.0", tmp_path / "argocd") == digest
    imgpkg.pull_bundle(f"{repository}:2.0.0", tmp_path / "imgpkg")
    seen = tree(tmp_path / "flux")
    assert {".imgpkg/images.yml", ".sourceignore", "pod.yaml"} <= set(seen)
    assert b"@sha256:" in seen["pod.yaml"]
    assert tree(tmp_path / "argocd") == seen
    assert tree(tmp_path / "imgpkg") == seen
