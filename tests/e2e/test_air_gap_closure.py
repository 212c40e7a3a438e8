"""Releases cross an air gap with everything that belongs to them, and run there: nothing lost, nothing taken on trust.

Both real registries are the near and the far side in turn. The far side of the file is a network namespace in which
there is no route but loopback: the registry, cosign, the control plane and the agent in it have the file and nothing
else. OCISYNC_HEAVY=1 takes a hundred releases with thirty images instead of a sample.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocisync.cli.app import run
from ocisync.model.image import parse_image
from tests.support import airgap, requirements
from tests.support.airgap import Releases
from tests.support.closures import everything
from tests.support.cosign import Cosign
from tests.support.process import clean_environment
from tests.support.registries import Registry

HEAVY = os.environ.get("OCISYNC_HEAVY") == "1"
ARTIFACTS, IMAGES = (100, 30) if HEAVY else (4, 2)
DIRECTIONS = [("distribution", "olareg"), ("olareg", "distribution")]
CHECKOUT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(3600 if HEAVY else 900)


@dataclass(frozen=True, slots=True)
class Near:
    """A filled near side, and the kind of registry on the far side."""

    releases: Releases
    far: Registry
    kind: str


@pytest.fixture(scope="module", params=DIRECTIONS, ids="-to-".join)
def near(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Near]:
    here, there = (request.getfixturevalue(name) for name in request.param)
    directory = tmp_path_factory.mktemp("near")
    yield Near(
        airgap.publish(here.host, f"near-{secrets.token_hex(4)}", directory, ARTIFACTS, IMAGES), there, request.param[1]
    )


def mirrored(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    code = run(["mirror", *arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_a_copy_has_every_digest_and_satisfies_cosign(
    near: Near, cosign: Cosign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    releases, host = near.releases, f"{near.far.host}/far-{secrets.token_hex(4)}"
    rules = airgap.write_policy(tmp_path / "p.yaml", airgap.policy(releases.repository, releases.key("release.pub")))
    flags = ("--tag", "*", "--images", "--images-to", host, *releases.images_from, "--image-path", airgap.ENGINE_PATH)
    arguments = ("copy", releases.repository, f"{host}/shop", *flags, "--policy", rules, "-o", "json", "-q")
    answer = mirrored(capsys, *arguments)
    assert answer["failed"] == [] and answer["notes"] == []
    here, there = everything(releases.repository), everything(f"{host}/shop")
    assert there == here
    assert len(set(releases.digests.values())) == ARTIFACTS and set(releases.digests.values()) <= set(there.manifests)
    for image in releases.images:
        name = parse_image(image).repository
        assert everything(f"{host}/{name}") == everything(airgap.cached(releases.cache, image)), image
    again = mirrored(capsys, *arguments)
    assert set(again["moved"].values()) == {0}
    key = releases.key("release.pub")
    assert airgap.cosign_verdicts(cosign, f"{host}/shop", releases.digests.values(), key) == []


def test_a_file_is_all_that_the_far_side_needs(near: Near, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    releases, file = near.releases, tmp_path / "releases.tar"
    saved = mirrored(
        capsys, "save", releases.repository, "--tag", "*", "--images", *releases.images_from, "--image-path",
        airgap.ENGINE_PATH, "--sign-key", releases.key("sender.key"), "-o", str(file), "--summary", "json", "-q",
    )  # fmt: skip
    assert saved["signed"]
    # A control plane takes its time; a sample starts one for the far side that has no referrers API.
    found = inside(near, file, tmp_path, agent=HEAVY or near.kind == "distribution")
    loaded, host = found["loaded"], found["host"]
    assert (found["interfaces"], found["routes"]) == (["lo"], [])
    assert (loaded["datagrams"], loaded["without route"]) == (0, 0)
    assert (loaded["refused"], loaded["failed"]) == ([], [])
    assert loaded["verified"] == 2 * ARTIFACTS + 1  # by version, by commit, and by the moving tag
    assert set(loaded["again"].values()) == {0}
    assert loaded["names"] == {
        "images": [{"from": name, "to": f"{host}/{name}"} for name in sorted(hosts(releases))],
        "imagePaths": [airgap.ENGINE_PATH],
        "remap": [{"signed": releases.repository, "here": f"{host}/site/shop"}],
    }
    sources = {parse_image(image).repository: airgap.cached(releases.cache, image) for image in releases.images}
    assert set(loaded["repositories"]) == {releases.repository, *sources}
    for name, there in loaded["repositories"].items():
        here = everything(sources.get(name, name))
        assert there["tags"] == here.tags, name
        assert there["manifests"] == sorted(here.manifests), name
        assert {digest: frozenset(others) for digest, others in there["referrers"].items()} == here.referrers, name
        assert there["blobs"] == sorted(here.blobs), name
    assert found["cosign"] == []
    if "agent" in found:
        ran = found["agent"]
        assert (ran["applied"], ran["signers"]) == (releases.production, ["release-key"])
        assert ran["objects"]["objects"] == ran["objects"]["ready"] == IMAGES + 2
        behind = {image: image.partition("/")[2] if image.startswith("quay.io") else "" for image in releases.images}
        wanted = [
            f"{host}/quay.io/{rest}" if rest else f"{host}/docker.io/library/{image}" for image, rest in behind.items()
        ]
        assert ran["images"] == sorted(wanted)
        assert ran["engine"] == wanted[0]
        assert ran["unreachable"] == []


def hosts(releases: Releases) -> set[str]:
    return {parse_image(image).host for image in releases.images}


def inside(near: Near, file: Path, directory: Path, *, agent: bool) -> dict[str, Any]:
    """What happened in the namespace."""
    unshare = requirements.require_tool("unshare", "util-linux")
    config = {
        "directory": str(directory),
        "file": str(file),
        "registry": near.kind,
        "binary": str(requirements.require(near.kind)),
        "cosign": str(requirements.require("cosign")),
        "kwok": str(requirements.require("kwok")) if agent else "",
        "agent": agent,
        "patience": 300.0,
        "sender": near.releases.key("sender.pub"),
        "key": near.releases.key("release.pub"),
        "signing key": near.releases.key("release.key"),
        "digests": list(near.releases.digests.values()),
        "production": near.releases.production,
    }
    path, home = directory / "config.json", directory / "home"
    path.write_text(json.dumps(config))
    home.mkdir()
    namespace = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    given = {name: os.environ[name] for name in ("OCISYNC_TEST_CACHE", "OCISYNC_REQUIRE_REAL") if name in os.environ}
    environment = clean_environment(home, PYTHONPATH=str(CHECKOUT), PYTHONDONTWRITEBYTECODE="1", **given)
    done = subprocess.run(
        [str(unshare), *namespace, sys.executable, "-m", "tests.support.airgapinside", str(path)],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=1800 if HEAVY else 800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
