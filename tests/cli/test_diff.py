"""`ocisync diff` as a user types it, on a registry."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.kit import yamlio
from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.ocitools import Kustomize
from tests.support.registries import Registry

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "registry.example/web:1.0.0", ports: [{containerPort: 80}]}
      - {name: log, image: "registry.example/log:1.0.0"}
"""
SETTINGS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data:
  a.conf: |
    one
    two
"""
OLD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: old, namespace: shop}\n"
NEW = OLD.replace("old", "new")
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\ndata: {password: %s}\n"


@pytest.fixture
def target(sandbox_registry: Registry, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")
    return f"{sandbox_registry.host}/diff/{name.replace('--', '-')[:60].strip('-')}"


@pytest.fixture
def versions(cli: Cli, repo: GitRepo, target: str) -> str:
    """Two versions in the registry, 1.0.0 and 2.0.0; the second is also what the repository holds."""
    repo.commit({"deploy/web.yaml": WEB, "deploy/settings.yaml": SETTINGS, "deploy/old.yaml": OLD, "deploy/NOTES": "1"})
    assert cli("push", str(repo.path / "deploy"), f"{target}:1.0.0").exit_code == 0
    (repo.path / "deploy/old.yaml").unlink()
    changed = WEB.replace("web:1.0.0", "web:2.0.0").replace("replicas: 1", "replicas: 3").replace("# ", "")
    repo.commit(
        {
            "deploy/web.yaml": "# Comments are no difference.\n" + changed,
            "deploy/settings.yaml": SETTINGS.replace("two", "2"),
            "deploy/new.yaml": NEW,
            "deploy/NOTES": "2",
        }
    )
    assert cli("push", str(repo.path / "deploy"), f"{target}:2.0.0").exit_code == 0
    return target


def test_the_text_names_objects_and_fields(cli: Cli, versions: str, golden: Callable[[str, str], None]) -> None:
    ran = cli("diff", f"oci://{versions}:1.0.0", f"{versions}:2.0.0")
    assert ran.exit_code == 3, ran.err
    lines = [line for line in ran.out.splitlines() if not line.startswith(("---", "+++"))]
    golden("diff.txt", "\n".join(lines).strip() + "\n")
    assert "not verified" in ran.err


def test_the_json_names_them_too(cli: Cli, versions: str) -> None:
    ran = cli("diff", f"{versions}:1.0.0", f"{versions}:2.0.0", "-o", "json")
    answer = json.loads(ran.out)
    assert ran.exit_code == 3
    assert answer["equal"] is False
    assert answer["summary"] == {"added": 1, "removed": 1, "changed": 2, "files": 1}
    assert answer["from"]["digest"].startswith("sha256:")
    assert answer["files"] == [{"action": "Changed", "path": "NOTES"}]
    (web,) = [item for item in answer["objects"] if item["name"] == "web"]
    assert web["fields"] == [
        {"path": "/spec/replicas", "action": "Changed", "from": 1, "to": 3},
        {
            "path": "/spec/template/spec/containers[name=web]/image",
            "action": "Changed",
            "from": "registry.example/web:1.0.0",
            "to": "registry.example/web:2.0.0",
        },
    ]
    assert (
        yamlio.parse_documents(cli("diff", f"{versions}:1.0.0", f"{versions}:2.0.0", "-o", "yaml").out.encode(), "out")[
            0
        ].value
        == answer
    )


def test_names_alone_are_one_for_each_line(cli: Cli, versions: str) -> None:
    ran = cli("diff", f"{versions}:1.0.0", f"{versions}:2.0.0", "-o", "name")
    assert ran.out.splitlines() == [
        "ConfigMap shop/new", "ConfigMap shop/old", "ConfigMap shop/settings", "Deployment.apps shop/web", "file NOTES",
    ]  # fmt: skip


def test_the_pushed_directory_is_equal_to_its_artifact(cli: Cli, versions: str, repo: GitRepo) -> None:
    ran = cli("diff", f"{versions}:2.0.0", str(repo.path / "deploy"), "-q")
    assert (ran.exit_code, ran.err) == (0, "")
    assert ran.out.endswith("equal\n")
    older = cli("diff", f"{versions}:1.0.0", str(repo.path / "deploy"), "--rev", "HEAD~1", "-o", "name")
    assert (older.exit_code, older.out) == (0, "")


def test_uncommitted_changes_are_seen_only_when_asked_for(cli: Cli, versions: str, repo: GitRepo) -> None:
    repo.write({"deploy/web.yaml": WEB})
    arguments = ("diff", f"{versions}:2.0.0", str(repo.path / "deploy"), "-o", "name")
    refused = cli(*arguments)
    assert refused.exit_code == 4
    assert "--allow-dirty" in refused.err
    ran = cli(*arguments, "--allow-dirty")
    assert (ran.exit_code, ran.out) == (3, "Deployment.apps shop/web\n")


def test_two_directories_are_compared_without_git(cli: Cli, tmp_path: Path) -> None:
    for name, text in (("a", OLD), ("b", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text(text)
    ran = cli("diff", "a", "b", "--no-git", "-o", "name")
    assert (ran.exit_code, ran.out) == (3, "ConfigMap shop/new\nConfigMap shop/old\n")
    assert ran.err == ""


def test_only_a_part_is_compared(cli: Cli, tmp_path: Path) -> None:
    for name, text in (("a", OLD), ("b", NEW)):
        for place in ("eu", "us"):
            (tmp_path / name / place).mkdir(parents=True)
        (tmp_path / name / "eu/x.yaml").write_text(text)
        (tmp_path / name / "us/x.yaml").write_text(OLD)
    assert cli("diff", "a", "b", "--no-git", "--path", "us").exit_code == 0
    assert cli("diff", "a", "b", "--no-git", "--path", "eu").exit_code == 3
    missing = cli("diff", "a", "b", "--no-git", "--path", "ap")
    assert missing.exit_code == 5
    assert "neither side has files below ap" in missing.err


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_no_value_of_a_secret_is_shown(form: str, cli: Cli, tmp_path: Path) -> None:
    values = [base64.b64encode(f"hunter{number}".encode()).decode() for number in (1, 2)]
    annotated = OLD.replace(
        "namespace: shop", 'namespace: shop, annotations: {kubectl.kubernetes.io/last-applied-configuration: "%s"}'
    )
    for name, value in zip("ab", values, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.yaml").write_text(SECRET % value + f"stringData: {{token: t{value}}}\n")
        (tmp_path / name / "c.yaml").write_text(annotated % value)
    (tmp_path / "b" / "t.yaml").write_text(SECRET.replace("name: s", "name: t") % values[0])
    ran = cli("diff", "a", "b", "--no-git", "-o", form)
    assert ran.exit_code == 3
    assert "/data/password" in ran.out
    assert "/stringData/token" in ran.out
    assert not any(value in ran.out + ran.err for value in (*values, "hunter1", "hunter2"))
    assert ran.out.count("(hidden)") == 6


def test_a_trailing_newline_is_a_difference_that_can_be_seen(cli: Cli, tmp_path: Path) -> None:
    for name, sign in (("a", "|"), ("b", "|-")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text(SETTINGS.replace("|", sign))
    ran = cli("diff", "a", "b", "--no-git")
    assert ran.exit_code == 3
    assert r'/data/a.conf: "one\ntwo\n" → "one\ntwo"' in ran.out


def test_a_trusted_key_is_demanded_of_both_artifacts(cli: Cli, repo: GitRepo, target: str) -> None:
    assert cli("keys", "generate", "k").exit_code == 0
    assert cli("push", str(repo.path / "deploy"), f"{target}:1.0.0", "--sign-key", "k.key").exit_code == 0
    signed = cli("diff", f"{target}:1.0.0", str(repo.path / "deploy"), "--key", "k.pub", "-o", "json")
    assert signed.exit_code == 0, signed.err
    assert json.loads(signed.out)["from"]["verified"] is True
    assert "not verified" not in signed.err
    assert cli("keys", "generate", "other").exit_code == 0
    assert cli("diff", f"{target}:1.0.0", str(repo.path / "deploy"), "--key", "other.pub").exit_code == 4


def test_control_characters_of_foreign_text_do_nothing(cli: Cli, tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "\\e[31mred\\a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text(OLD + f'data: {{k: "{text}"}}\n')
    ran = cli("diff", "a", "b", "--no-git")
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("./nowhere", "."), 5, "no directory ./nowhere"),
        (("registry.example/shop", "."), 2, "neither a tag nor a digest"),
        (("-", "-"), 2, "both sides are stdin"),
        (("nonsense", "."), 2, "no repository"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: tuple[str, str], code: int, words: str, cli: Cli) -> None:
    ran = cli("diff", *arguments, "--no-git")
    assert ran.exit_code == code
    assert words in ran.err


def test_a_tag_that_does_not_exist_is_not_found(cli: Cli, target: str) -> None:
    assert cli("diff", f"{target}:9.9.9", ".", "--no-git").exit_code == 5


def test_findings_of_both_sides_come_together(cli: Cli, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.yaml").write_text("a: {")
    ran = cli("diff", "a", "b", "--no-git")
    assert ran.exit_code == 1
    assert "(in a)" in ran.err
    assert "(in b)" in ran.err


def test_manifests_on_stdin_are_a_side(
    versions: str, repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import io
    import sys

    text = "---\n".join(path.read_text() for path in sorted((repo.path / "deploy").glob("*.yaml")))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(["diff", f"{versions}:2.0.0", "-", "-o", "name"]) == 3
    assert capfd.readouterr().out == "file NOTES\n"


def test_a_layout_is_a_side(cli: Cli, versions: str, repo: GitRepo) -> None:
    assert cli("push", str(repo.path / "deploy"), "oci-layout:files:2.0.0").exit_code == 0
    assert cli("diff", "oci-layout:files:2.0.0", f"{versions}:2.0.0").exit_code == 0
    assert cli("diff", f"{versions}:1.0.0", "oci-layout:files:2.0.0").exit_code == 3


def test_a_rendered_overlay_is_a_side(
    kustomize: Kustomize, cli: Cli, repo: GitRepo, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(kustomize.binary.parent), prepend=os.pathsep)
    repo.commit({"over/app.yaml": OLD, "over/kustomization.yaml": "resources: [app.yaml]\nnamePrefix: a-\n"})
    arguments = (str(repo.path / "over"), "--render", "kustomize")
    assert cli("push", arguments[0], f"{target}:1.0.0", *arguments[1:]).exit_code == 0
    assert cli("diff", f"{target}:1.0.0", *arguments).exit_code == 0
    repo.commit({"over/kustomization.yaml": "resources: [app.yaml]\nnamePrefix: b-\n"})
    ran = cli("diff", f"{target}:1.0.0", *arguments, "-o", "name")
    assert (ran.exit_code, ran.out) == (3, "ConfigMap shop/a-old\nConfigMap shop/b-old\n")
    unrendered = cli("diff", f"{target}:1.0.0", arguments[0])
    assert unrendered.exit_code == 1
    assert "--render" in unrendered.err


def test_texts_too_long_to_line_up_are_counted(cli: Cli, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        lines = "".join(f"    {name}{number}\n" for number in range(2_500))
        (tmp_path / name / "x.yaml").write_text(OLD + "data:\n  k: |\n" + lines)
    ran = cli("diff", "a", "b", "--no-git")
    assert ran.exit_code == 3
    assert "/data/k: 2500 lines → 2500 lines (-o json has them)" in ran.out
