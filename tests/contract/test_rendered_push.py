"""`push --render` with the real kustomize and helm: the same artifact wherever it is made, nothing unsaid."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.model.descriptor import CLAIM_RENDER
from tests.compat.images import fetched
from tests.support.gitrepo import GitRepo
from tests.support.ocitools import Helm, Kustomize
from tests.support.registries import Registry
from tests.support.waiting import eventually

APP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: registry.example/web:1.0}]}
"""
PLAIN = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}}\nstringData: {password: %s}\n"
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    "values.yaml": "replicas: 1\n",
    "crds/c.yaml": (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: cs.x.example}\n"
        "spec: {group: x.example, scope: Namespaced, names: {kind: C, plural: cs}, versions: [{name: v1, served: true,"
        " storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n"
    ),
    "templates/config.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n"
        "  namespace: {{ .Release.Namespace }}\ndata:\n  replicas: {{ .Values.replicas | quote }}\n"
        "  kube: {{ .Capabilities.KubeVersion.Version }}\n"
        "  home: {{ .Files.Get \"notes.txt\" | quote }}\n"
    ),
    "templates/clean.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: clean\n  annotations: {helm.sh/hook: \"pre-delete\"}\n"
    ),
    "templates/setup.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: setup\n  annotations: {helm.sh/hook: pre-install}\n"
    ),
    "templates/tests/t.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: t\n  annotations: {helm.sh/hook: test}\n"
    ),
}  # fmt: skip
TREE = {
    "deploy/base/kustomization.yaml": "resources: [app.yaml]\n",
    "deploy/base/app.yaml": APP,
    "deploy/overlays/prod/kustomization.yaml": "resources: [../../base]\nnamespace: prod\n",
    "deploy/overlays/stage/kustomization.yaml": "resources: [../../base]\nnamespace: stage\n",
    "deploy/plain/a.yaml": PLAIN,
    **{f"deploy/chart/{name}": text for name, text in CHART.items()},
}

Push = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tools(kustomize: Kustomize, helm: Helm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH with the real renderers first; temporary files go to a place that can be looked at."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "kustomize").symlink_to(kustomize.binary)
    (folder / "helm").symlink_to(helm.binary)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return folder


@pytest.fixture
def push(tools: Path, tmp_path: Path, sandbox_registry: Registry, capfd: pytest.CaptureFixture[str]) -> Push:
    """Push a directory of the repository to a repository of this test; nothing is left behind in any case."""

    def call(path: Path, *flags: str, to: str = "") -> tuple[int, str, str]:
        target = to or f"{sandbox_registry.host}/rendered/{tmp_path.name.replace('_', '-')}:1"
        capfd.readouterr()
        code = run(["push", str(path), f"oci://{target}", *flags])
        out, err = capfd.readouterr()
        assert list((tmp_path / "scratch").iterdir()) == []
        assert "Traceback" not in err
        assert str(tmp_path / "scratch") not in err
        return code, out, err

    return call


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "repo")
    made.commit(TREE)
    return made


def files_of(answer: str) -> dict[str, str]:
    document = json.loads(answer)
    image = fetched(document["repository"], document["digest"])
    layer = image.blobs[json.loads(image.manifest)["layers"][0]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        found = ((item.name, tar.extractfile(item)) for item in tar if item.isfile())
        return {name: data.read().decode() for name, data in found if data is not None}


def test_every_environment_of_a_commit_goes_into_one_signed_artifact_of_a_real_registry(
    push: Push, repo: GitRepo, registry: Registry, repository: str, tmp_path: Path
) -> None:
    key = tmp_path / "k"
    assert run(["keys", "generate", str(key)]) == 0
    flags = ("--render", "auto", "--sign-key", f"{key}.key", "-o", "json")
    code, out, err = push(repo.path / "deploy", *flags, to=f"{repository}:1.0.0")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["tools"] == ["kustomize@v5.8.2", "helm@v4.3.1"]
    files = files_of(out)
    assert set(files) == {
        "chart/manifests.yaml", "overlays/prod/manifests.yaml", "overlays/stage/manifests.yaml", "plain/a.yaml",
    }  # fmt: skip
    assert files["plain/a.yaml"] == PLAIN
    assert "namespace: prod" in files["overlays/prod/manifests.yaml"]
    assert "CustomResourceDefinition" in files["chart/manifests.yaml"]
    assert "kube: v1.34.0" in files["chart/manifests.yaml"]
    assert [name for name in ("setup", "clean", "t") if f"name: {name}\n" in files["chart/manifests.yaml"]] == ["setup"]
    assert "chart/templates/clean.yaml: a pre-delete hook: not published" in err
    assert "chart/templates/setup.yaml: a pre-install hook: published" in err
    assert run(["verify", f"oci://{repository}:1.0.0", "--key", f"{key}.pub", "-o", "json"]) == 0
    again = json.loads(push(repo.path / "deploy", *flags, to=f"{repository}:1.0.0")[1])
    assert (again["digest"], again["unchanged"]) == (answer["digest"], True)


def test_renderers_are_in_the_signed_claims_and_not_in_manifest_or_config(
    push: Push, repo: GitRepo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "generate", str(tmp_path / "k")]) == 0
    _, out, _ = push(
        repo.path / "deploy/overlays", "--render", "kustomize", "--sign-key", str(tmp_path / "k.key"), "-o", "json"
    )
    answer = json.loads(out)
    image = fetched(answer["repository"], answer["digest"])
    assert b"kustomize" not in image.manifest + json.dumps(image.config).encode()
    bundle = fetched(answer["repository"], answer["signatures"][0]["digest"])
    envelope = json.loads(next(data for data in bundle.blobs.values() if b"dsseEnvelope" in data))
    statement = json.loads(base64.b64decode(envelope["dsseEnvelope"]["payload"]))
    assert statement["subject"][0]["annotations"][CLAIM_RENDER] == "kustomize@v5.8.2"


def test_neither_clone_nor_environment_change_the_artifact(
    push: Push, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, _ = push(repo.path / "deploy", "--render", "auto", "--dry-run", "-o", "json")
    other = repo.clone(tmp_path / "elsewhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("HELM_NAMESPACE", "elsewhere")
    monkeypatch.setenv("HELM_KUBECONTEXT", "x")
    old = os.umask(0o077)
    try:
        _, second, _ = push(other.path / "deploy", "--render", "auto", "--dry-run", "-o", "json")
    finally:
        os.umask(old)
    assert json.loads(first)["contentDigest"] == json.loads(second)["contentDigest"]


def test_the_commit_is_rendered_and_not_the_work_tree(push: Push, repo: GitRepo) -> None:
    commit = repo.git("rev-parse", "HEAD")
    repo.commit({"deploy/overlays/prod/kustomization.yaml": "resources: [../../base]\nnamespace: later\n"})
    repo.write({"deploy/base/app.yaml": "not: committed\n"})
    code, out, err = push(repo.path / "deploy/overlays/prod", "--render", "auto", "--rev", commit, "-o", "json")
    assert code == 0, err
    assert "namespace: prod" in files_of(out)["manifests.yaml"]


def test_a_change_above_the_published_directory_counts_if_it_is_referred_to(push: Push, repo: GitRepo) -> None:
    repo.write({"deploy/base/app.yaml": APP + "# changed\n"})
    code, _, err = push(repo.path / "deploy/overlays/prod", "--render", "auto")
    assert code == 4
    assert "base/app.yaml" in err


def test_values_of_environments_make_one_release_each(push: Push, tmp_path: Path) -> None:
    chart = {name: text for name, text in CHART.items() if name.startswith(("Chart", "values", "templates/config"))}
    repo = GitRepo(tmp_path / "chart")
    repo.commit(
        {
            **chart,
            "envs/eu/values.yaml": "replicas: 2\n",
            "envs/us/values.yaml": "replicas: 3\n",
            "common.yaml": "x: 1\n",
        }
    )
    flags = ("--helm-values", "common.yaml", "--helm-release", "front", "--helm-namespace", "shops")
    code, out, err = push(repo.path, "--render", "helm", *flags, "-o", "json")
    assert code == 0, err
    files = files_of(out)
    assert set(files) == {"eu/manifests.yaml", "us/manifests.yaml"}
    assert 'replicas: "2"' in files["eu/manifests.yaml"]
    assert 'replicas: "3"' in files["us/manifests.yaml"]
    assert all("name: front\n  namespace: shops\n" in text for text in files.values())


REFUSED: dict[str, tuple[dict[str, str], str, str]] = {
    "a random password": (
        {**CHART, "templates/s.yaml": SECRET % "{{ randAlphaNum 12 }}"},
        "helm", "Chart.yaml: two runs of helm render different objects in templates/s.yaml (at 'stringData",
    ),
    "a missing dependency": (
        {**CHART, "Chart.yaml": CHART["Chart.yaml"] + "dependencies: [{name: db, version: 1.0.0, repository: ''}]\n"},
        "helm", "run `helm dependency build` and commit the chart's charts/",
    ),
    "a template that fails": (
        {**CHART, "templates/f.yaml": "a: 1\nb: {{ .Values.nope.deeper }}\n"}, "helm", "templates/f.yaml:2:",
    ),
    "values that are not there": ({**CHART}, "helm --helm-values no.yaml", "no.yaml: no such file with values"),
    "a remote base": (
        {"kustomization.yaml": "resources:\n- https://git.example/base?ref=v1\n"},
        "kustomize", "kustomization.yaml:2:3: 'https://git.example/base?ref=v1' is not in this commit",
    ),
    "a short remote base": (
        {"kustomization.yaml": "resources:\n- github.com/acme/base//deploy\n"},
        "kustomize", "kustomization.yaml:2:3: 'github.com/acme/base//deploy' is no file or directory of this commit",
    ),
    "a remote patch": (
        {"kustomization.yaml": "resources: [a.yaml]\npatches: [{path: 'http://x.example/p'}]\n", "a.yaml": PLAIN},
        "kustomize", "kustomization.yaml: kustomize: ",
    ),
    "a chart in a kustomization": (
        {"kustomization.yaml": "helmCharts: [{name: x, repo: https://x.example}]\n"},
        "kustomize", "kustomization.yaml:1:1: helmCharts: kustomize would fetch and run helm",
    ),
    "an exec function": (
        {
            "kustomization.yaml": "resources: [a.yaml]\ntransformers: [t.yaml]\n", "a.yaml": PLAIN,
            "t.yaml": (
                "apiVersion: x.example/v1\nkind: T\nmetadata:\n  name: t\n  annotations:\n"
                "    config.kubernetes.io/function: |\n      exec: {path: /bin/touch}\n"
            ),
        },
        "kustomize", "kustomization.yaml: kustomize: ",
    ),
    "a file above the root": (
        {"kustomization.yaml": "configMapGenerator: [{name: x, files: [../../etc/passwd]}]\n"},
        "kustomize", "kustomization.yaml: kustomize: ",
    ),
    "two tools for one directory": (
        {**CHART, "kustomization.yaml": "resources: []\n"},
        "auto", "name the tool with --render kustomize or --render helm",
    ),
    "nothing to render": ({"a.yaml": PLAIN}, "kustomize", "nothing to render: no kustomization.yaml here or below"),
    "a secret in rendered output": (
        {**CHART, "templates/s.yaml": SECRET % "hunter2"},
        "helm", "(rendered from templates/s.yaml)",
    ),
    "no flag at all": ({"kustomization.yaml": "resources: []\n"}, "none", "push it with --render auto"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "flags", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_rendered_is_refused_with_the_reason(
    files: dict[str, str], flags: str, message: str, push: Push, tmp_path: Path
) -> None:
    repo = GitRepo(tmp_path / "refused")
    repo.commit(files)
    code, out, err = push(repo.path, "--render", *flags.split())
    assert (code, out) == (1, "")
    assert message in err
    assert "hunter2" not in err


def test_all_environments_are_complained_about_together(push: Push, repo: GitRepo) -> None:
    for name in ("prod", "stage"):
        repo.commit({f"deploy/overlays/{name}/kustomization.yaml": "resources: [../../base]\nnope: 1\n"})
    code, _, err = push(repo.path / "deploy", "--render", "auto")
    assert code == 1
    assert all(f"overlays/{name}/kustomization.yaml: kustomize: " in err for name in ("prod", "stage"))


def test_environment_variables_of_the_caller_do_not_get_into_manifests(
    push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_TOKEN", "hunter2")
    repo = GitRepo(tmp_path / "envs")
    generator = "configMapGenerator: [{name: x, literals: [a=b], envs: [vars]}]\n"
    repo.commit({"kustomization.yaml": generator, "vars": "CI_TOKEN\n"})
    code, out, _ = push(repo.path, "--render", "kustomize", "-o", "json")
    assert code != 0 or "hunter2" not in "".join(files_of(out).values())


@pytest.mark.parametrize(("files", "program"), [({"kustomization.yaml": ""}, "kustomize"), (CHART, "helm")])
def test_a_missing_program_is_named_with_where_to_get_it(
    files: dict[str, str], program: str, push: Push, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = GitRepo(tmp_path / "missing")
    repo.commit(files)
    (tools / program).unlink()
    (tools / "git").symlink_to("/usr/bin/git")
    monkeypatch.setenv("PATH", str(tools))
    code, _, err = push(repo.path, "--render", "auto")
    assert code == 1
    assert f"{program} is not on PATH" in err
    assert f"next:  install {program}" in err


def test_a_clock_in_a_template_is_a_warning(push: Push, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "clock")
    text = PLAIN + 'data:\n  at: {{ now | date "2006" | quote }}\n'
    repo.commit({"Chart.yaml": CHART["Chart.yaml"], "templates/a.yaml": text})
    code, _, err = push(repo.path, "--render", "helm", "--dry-run")
    assert code == 0, err
    assert "templates/a.yaml:5: uses the time of rendering" in err


def test_a_killed_push_leaves_no_renderer_and_no_files_behind(tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "slow")
    repo.commit({"kustomization.yaml": "{}"})
    tool = tmp_path / "kustomize"
    tool.write_text(f"#!/bin/sh\n[ $1 = version ] && echo v5.0.0 && exit\necho $$ > {tmp_path}/pid\nsleep 300\n")
    tool.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started = tmp_path / "pid"
    arguments = ["push", str(repo.path), "oci://127.0.0.1:9/x:1", "--render", "kustomize"]
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "ocisync", *arguments]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as pushing:
        eventually(lambda: started.exists() and started.read_text(), timeout_s=120, what="a renderer")
        pushing.terminate()
        _, err = pushing.communicate(timeout=120)
    assert pushing.returncode == 130, err
    eventually(lambda: not is_running(int(started.read_text())), timeout_s=60, what="the renderer's end")
    assert list(scratch.iterdir()) == []


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_validate_renders_the_work_tree_and_names_files_as_the_user_does(
    tools: Path, repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo.path)
    assert run(["validate", "deploy", "--render", "auto"]) == 0
    secret = (SECRET % "hunter2").replace("{{ .Release.Name }}", "s")
    repo.write({"deploy/base/app.yaml": secret, "deploy/chart/values.yaml": "a: ["})
    capfd.readouterr()
    assert run(["validate", "deploy/overlays/prod", "deploy/chart", "--render", "auto"]) == 1
    out, err = capfd.readouterr()
    assert re.search(
        r"^deploy/overlays/prod/manifests\.yaml:\d+:3: error: Secret prod/s: plain value", out, re.MULTILINE
    )
    assert "(rendered from deploy/overlays/prod/kustomization.yaml)" in out
    assert "deploy/chart/Chart.yaml: error: helm: " in out
    assert "hunter2" not in out + err
    assert run(["validate", "deploy/base/app.yaml", "--render", "auto"]) == 2
