"""What `push -o …` answers is the same object whatever the flags: CI scripts read it."""

from __future__ import annotations

import json

import pytest

from ocisync.kit import yamlio
from ocisync.model.digest import is_digest
from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry

FIELDS = ["reference", "repository", "tags", "digest", "contentDigest", "revision", "unchanged", "signatures"]
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\n"


@pytest.fixture
def target(sandbox_registry: Registry, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())
    return f"{sandbox_registry.host}/answers/{'-'.join(filter(None, name.split('-')))[-60:].strip('-')}"


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--dry-run",),
        ("--if-changed",),
        ("--force-tag",),
        ("--legacy-signature",),
        ("--profile", "flux"),
        ("-a", "team=shop", "--claim", "team=shop", "--expires", "720h"),
        ("--no-git", "--revision", "build-7"),
        ("-q",),
        ("-vv",),
    ],
    ids=" ".join,
)
def test_the_answer_has_exactly_the_promised_fields(
    flags: tuple[str, ...], cli: Cli, repo: GitRepo, target: str
) -> None:
    is_signed = flags not in {("-q",), ("-vv",)}
    assert cli("keys", "generate", "k").exit_code == 0
    key = ("--sign-key", "k.key") if is_signed else ()
    ran = cli(
        "push", str(repo.path / "deploy"), f"oci://{target}:1.0.0", f"oci://{target}:dev", *key, *flags, "-o", "json"
    )
    assert ran.exit_code == 0, ran.err
    answer = json.loads(ran.out)
    assert list(answer) == FIELDS
    assert is_digest(answer["digest"])
    assert is_digest(answer["contentDigest"])
    assert answer["reference"] == f"{target}@{answer['digest']}"
    assert answer["repository"] == target
    assert answer["tags"][:2] == ["1.0.0", "dev"]
    assert answer["unchanged"] is False
    made = is_signed and "--dry-run" not in flags
    assert [item["format"] for item in answer["signatures"]] == (
        [] if not made else ["Bundle", "Legacy"] if "--legacy-signature" in flags else ["Bundle"]
    )
    assert all(set(item) == {"key", "format", "digest"} for item in answer["signatures"])


def test_every_form_tells_of_the_same_artifact(cli: Cli, repo: GitRepo, target: str) -> None:
    push = ("push", str(repo.path / "deploy"), f"oci://{target}:dev")
    first = json.loads(cli(*push, "-o", "json").out)
    (document,) = yamlio.parse_documents(cli(*push, "-o", "yaml").out.encode(), "out")
    assert document.value == first | {"unchanged": True}
    assert cli(*push, "-o", "name").out == first["reference"] + "\n"
    text = cli(*push).out
    assert text.startswith(f"unchanged  {first['reference']}\n")
    assert first["revision"] in text


def test_an_if_changed_push_answers_with_what_is_there(cli: Cli, repo: GitRepo, target: str) -> None:
    push = ("push", str(repo.path / "deploy"), f"oci://{target}:dev", "--if-changed", "-o", "json")
    first = json.loads(cli(*push).out)
    repo.commit({"elsewhere.txt": "not packed"}, at="2026-03-01T13:00:00Z")
    again = cli(*push)
    assert json.loads(again.out) == first | {"unchanged": True, "tags": ["dev"]}
    assert "has equal content and is kept" in again.err


def test_an_error_leaves_stdout_empty(cli: Cli, repo: GitRepo, target: str) -> None:
    repo.commit({"deploy/bad.yaml": "a: [\n"})
    ran = cli("push", str(repo.path / "deploy"), f"oci://{target}:dev", "-o", "json")
    assert (ran.exit_code, ran.out) == (1, "")
