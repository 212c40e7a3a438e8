"""What other tools push is a valid source: read, compared, verified and unpacked like an artifact of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.compat.conftest import OBJECT, tree
from tests.support.cosign import Cosign
from tests.support.gitopstools import Flux
from tests.support.gitrepo import GitRepo
from tests.support.ocitools import Imgpkg, Oras, Skopeo

# The tools are asked for by name, at run time.
pytestmark = pytest.mark.real

REVISION = "main@sha1:" + "a" * 40


@pytest.fixture
def directory(repo: GitRepo, files: dict[str, bytes]) -> Path:
    return repo.path / "deploy"


Made = Callable[[str], str]


@pytest.fixture(params=["flux", "imgpkg image", "imgpkg bundle"])
def made(request: pytest.FixtureRequest, directory: Path, files: dict[str, bytes], repository: str) -> tuple[str, str]:
    """An artifact that another tool pushed under 1.0.0: which tool, and the digest."""
    name = f"{repository}:1.0.0"
    if request.param == "flux":
        flux: Flux = request.getfixturevalue("flux")
        return "flux", flux.push(directory, name, REVISION)
    imgpkg: Imgpkg = request.getfixturevalue("imgpkg")
    if request.param == "imgpkg image":
        said = imgpkg.run("push", "-i", name, "-f", directory, "--json")
    else:
        lock = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: []\n"
        (directory / ".imgpkg").mkdir()
        (directory / ".imgpkg" / "images.yml").write_text(lock)
        files[".imgpkg/images.yml"] = lock.encode()
        said = imgpkg.run("push", "-b", name, "-f", directory, "--json")
    return "imgpkg", "sha256:" + said.partition("@sha256:")[2][:64]


def test_its_files_are_those_that_were_pushed(
    made: tuple[str, str], files: dict[str, bytes], cli: Cli, repository: str, tmp_path: Path
) -> None:
    ran = cli("pull", f"{repository}:1.0.0", "-d", str(tmp_path / "out"))
    assert ran.exit_code == 0, ran.err
    assert tree(tmp_path / "out") == files


def test_it_equals_the_directory_it_was_made_of(
    made: tuple[str, str], directory: Path, cli: Cli, repository: str
) -> None:
    ran = cli("diff", f"{repository}:1.0.0", str(directory), "--no-git", "-o", "json")
    assert ran.exit_code == 0, ran.out + ran.err
    assert json.loads(ran.out)["from"]["digest"] == made[1]


def test_inspect_says_what_it_is(made: tuple[str, str], cli: Cli, repository: str) -> None:
    ran = cli("inspect", f"{repository}:1.0.0", "-o", "json")
    assert ran.exit_code == 0, ran.err
    seen = json.loads(ran.out)
    assert seen["digest"] == made[1]
    assert seen["revision"] == (REVISION if made[0] == "flux" else "")
    assert cli("inspect", f"{repository}:1.0.0").exit_code == 0


@pytest.mark.parametrize("registry", ["distribution"], indirect=True)
def test_a_signature_of_cosign_on_it_verifies(made: tuple[str, str], cosign: Cosign, cli: Cli, repository: str) -> None:
    key = cosign.generate_key_pair()
    assert cli("verify", f"{repository}:1.0.0", "--key", str(key.public)).exit_code == 4
    cosign.sign(f"{repository}@{made[1]}", key)
    ran = cli("verify", f"{repository}:1.0.0", "--key", str(key.public))
    assert ran.exit_code == 0, ran.err


@pytest.mark.parametrize("registry", ["olareg"], indirect=True)
def test_our_own_signature_on_it_verifies_with_cosign(
    made: tuple[str, str], cosign: Cosign, cli: Cli, repository: str, tmp_path: Path
) -> None:
    assert cli("keys", "generate", "k").exit_code == 0
    # imgpkg writes no time of creation: the signature's own time orders it.
    order = () if made[0] == "flux" else ("--rollback",)
    ran = cli("sign", f"{repository}@{made[1]}", "--sign-key", "k.key", "--tag", "1.0.0", *order)
    assert ran.exit_code == 0, ran.err
    cosign.verify(f"{repository}@{made[1]}", Path("k.pub").absolute())
    assert cli("verify", f"{repository}:1.0.0", "--key", "k.pub").exit_code == 0


def test_it_gets_another_tag_with_a_signature_of_ours(
    made: tuple[str, str], cli: Cli, repository: str, oras: Oras
) -> None:
    assert cli("keys", "generate", "k").exit_code == 0
    order = () if made[0] == "flux" else ("--rollback",)
    signed = cli("sign", f"{repository}@{made[1]}", "--sign-key", "k.key", "--tag", "production", *order)
    assert signed.exit_code == 0, signed.err
    ran = cli("tag", f"{repository}@{made[1]}", "production")
    assert ran.exit_code == 0, ran.err
    seen = oras.json("manifest", "fetch", "--plain-http", "--descriptor", f"{repository}:production")
    assert seen["digest"] == made[1]
    assert cli("verify", f"{repository}:production", "--key", "k.pub").exit_code == 0


def test_what_skopeo_converted_from_docker_to_oci_is_read(
    imgpkg: Imgpkg, skopeo: Skopeo, directory: Path, files: dict[str, bytes], cli: Cli, repository: str, tmp_path: Path
) -> None:
    imgpkg.run("push", "-i", f"{repository}:1.0.0", "-f", directory)
    skopeo.copy(f"docker://{repository}:1.0.0", f"docker://{repository}:2.0.0", "--format", "oci")
    ran = cli("pull", f"{repository}:2.0.0", "-d", str(tmp_path / "out"))
    assert ran.exit_code == 0, ran.err
    assert tree(tmp_path / "out") == files


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--artifact-type", "application/x", "a.yaml:application/yaml"), "config type"),
        (("--config", "c.json:application/vnd.oci.image.config.v1+json", "a.yaml", "b.yaml"), "exactly one layer"),
        (("--config", "c.json:application/vnd.oci.image.config.v1+json", "a.yaml:text/yaml"), "layer type"),
    ],
    ids=["artifact of files", "two layers", "a layer that is no tar"],
)
def test_what_is_no_tree_of_files_is_refused_with_the_reason(
    flags: tuple[str, ...], words: str, oras: Oras, cli: Cli, repository: str
) -> None:
    for name in ("a.yaml", "b.yaml"):
        (oras.directory / name).write_text(OBJECT % name[0])
    (oras.directory / "c.json").write_text("{}")
    oras.run("push", "--plain-http", f"{repository}:1.0.0", *flags)
    ran = cli("pull", f"{repository}:1.0.0", "-d", "out")
    assert ran.exit_code == 4
    assert words in ran.err


def test_a_changed_kustomization_is_a_difference_between_artifacts_of_flux(
    flux: Flux, directory: Path, cli: Cli, repository: str
) -> None:
    for tag, prefix in (("1.0.0", "a-"), ("2.0.0", "b-")):
        (directory / "kustomization.yaml").write_text(f"resources: [app.yaml]\nnamePrefix: {prefix}\n")
        flux.push(directory, f"{repository}:{tag}", REVISION)
    ran = cli("diff", f"{repository}:1.0.0", f"{repository}:2.0.0", "-o", "name")
    assert (ran.exit_code, ran.out) == (3, "file kustomization.yaml\n")
