"""`push --pin-images` against registries, and what the real imgpkg makes of the result."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from ocisync.cli.app import run
from ocisync.manifests.parse import parse_tree
from ocisync.model.descriptor import OCI_INDEX, Descriptor
from ocisync.model.tree import TreeFile
from ocisync.oci.client import open_store
from tests.support.gitrepo import GitRepo
from tests.support.httpservers import LoopbackServer
from tests.support.images import index, push_image, quick
from tests.support.ocitools import Imgpkg
from tests.support.registries import Registry

DEPLOYMENT = """\
# not a byte of this file changes but at the images
apiVersion: apps/v1
kind: Deployment
metadata: { name: web,   namespace: shop }
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
      - {name: init, image: '%(host)s/images/tools:1.0'}   # quoted
      containers:
      - name: web
        image: %(host)s/images/web:1.0
"""
CUSTOM = """\
apiVersion: monitoring.example/v1
kind: Probe
metadata: {name: probe, namespace: shop}
spec: {runner: {image: "%(host)s/images/tools:1.0"}}
"""
PATH = "Probe.monitoring.example=/spec/runner/image"


@pytest.fixture
def images(registry: Registry) -> dict[str, Descriptor]:
    """An image, and one for several platforms."""
    with open_store(f"{registry.host}/images/web", quick()) as web:
        one = push_image(web, "1.0", b"web")
    with open_store(f"{registry.host}/images/tools", quick()) as tools:
        inner = push_image(tools, "amd64", b"tools")
        raw = index(inner.as_dict())
        tools.put_manifest(raw, OCI_INDEX, "1.0")
        several = tools.resolve("1.0")
    assert several is not None
    return {"web": one, "tools": several}


@pytest.fixture
def files(registry: Registry, tmp_path: Path) -> GitRepo:
    repo = GitRepo(tmp_path / "repo")
    names = {"host": registry.host}
    repo.commit({"apps/web.yaml": DEPLOYMENT % names, "apps/probe.yaml": CUSTOM % names})
    return repo


def push(repo: GitRepo, repository: str, capfd: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    capfd.readouterr()
    code = run(["push", str(repo.path), f"oci://{repository}:1.0.0", "-o", "json", *flags])
    out, err = capfd.readouterr()
    assert code == 0, err
    answer: dict[str, object] = json.loads(out)
    return answer


def test_only_image_fields_change_and_imgpkg_takes_the_artifact_for_a_bundle(
    registry: Registry,
    repository: str,
    images: dict[str, Descriptor],
    files: GitRepo,
    imgpkg: Imgpkg,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    answer = push(files, repository, capfd, "--pin-images", "--image-path", PATH)
    again = push(files, repository, capfd, "--pin-images", "--image-path", PATH)
    assert (again["digest"], again["unchanged"]) == (answer["digest"], True)

    imgpkg.pull_bundle(f"{repository}@{answer['digest']}", tmp_path / "pulled")
    pulled = tmp_path / "pulled"
    names = {"host": registry.host}
    web, tools = f"{registry.host}/images/web:1.0", f"{registry.host}/images/tools:1.0"
    pinned = {web: f"{web}@{images['web'].digest}", tools: f"{tools}@{images['tools'].digest}"}
    for path, text in {"apps/web.yaml": DEPLOYMENT % names, "apps/probe.yaml": CUSTOM % names}.items():
        for old, new in pinned.items():
            text = text.replace(old, new)
        assert (pulled / path).read_text() == text
    everything = [path for path in pulled.rglob("*") if path.is_file()]
    objects = parse_tree([TreeFile(str(path.relative_to(pulled)), path.read_bytes()) for path in everything])
    assert sorted(item.gvk.kind for item in objects) == ["Deployment", "Probe"], "the lock is nothing to be applied"
    assert sorted(item["pinned"] for item in answer["images"]) == sorted(pinned.values())  # type: ignore[attr-defined]


def test_imgpkg_carries_the_artifact_and_its_images_to_another_registry(
    registry: Registry,
    repository: str,
    images: dict[str, Descriptor],
    files: GitRepo,
    imgpkg: Imgpkg,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    answer = push(files, repository, capfd, "--pin-images", "--image-path", PATH, "--profile", "imgpkg")
    tar = tmp_path / "bundle.tar"
    imgpkg.copy_to_tar(f"{repository}@{answer['digest']}", tar)
    imgpkg.run("copy", "--tar", tar, "--to-repo", f"{registry.host}/far/side")
    with open_store(f"{registry.host}/far/side", quick()) as far:
        assert all(far.resolve(image.digest) is not None for image in images.values())
        assert far.resolve(str(answer["digest"])) is not None
    assert run(["inspect", f"oci://{registry.host}/far/side@{answer['digest']}"]) == 0


def test_an_image_that_does_not_exist_stops_the_push_with_every_place(
    repository: str, images: dict[str, Descriptor], files: GitRepo, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (files.path / "apps/web.yaml").read_text()
    files.commit({"apps/more.yaml": text.replace("web:1.0", "web:9.9").replace("name: web,", "name: more,")})
    code = run(["push", str(files.path), f"oci://{repository}:1.0.0", "--pin-images", "-o", "json"])
    _, err = capfd.readouterr()
    assert code == 1
    assert "apps/more.yaml:14:9: image" in err
    assert "web:9.9' does not exist" in err
    with open_store(repository, quick()) as store:
        assert store.resolve("1.0.0") is None


class _Curious(BaseHTTPRequestHandler):
    """A registry that asks everybody for a login, and remembers what it gets."""

    seen: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="curious"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, format: str, *args: object) -> None:
        return


def test_the_login_of_the_target_is_for_no_registry_of_an_image(
    sandbox_registry: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = LoopbackServer(("127.0.0.1", 0), _Curious)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        repo = GitRepo(tmp_path / "repo")
        names = {"host": f"127.0.0.1:{server.server_port}"}
        repo.commit({"web.yaml": DEPLOYMENT % names})
        target = f"oci://{sandbox_registry.host}/curious/x:1"
        code = run(["push", str(repo.path), target, "--pin-images", "--creds", "me:hunter2"])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert code == 6, capfd.readouterr().err
    assert _Curious.seen
    assert set(_Curious.seen) == {""}
