"""keys → push → inspect → verify on a registry, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocisync.kit import yamlio
from tests.cli.conftest import Cli, Ran
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry


@pytest.fixture
def target(sandbox_registry: Registry, request: pytest.FixtureRequest) -> str:
    """A repository of this test alone."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")
    return f"{sandbox_registry.host}/cli/{name.replace('--', '-')[:60].strip('-')}"


@pytest.fixture
def pushed(cli: Cli, repo: GitRepo, target: str) -> Ran:
    """One signed push to `target`:1.0.0."""
    assert cli("keys", "generate", "k").exit_code == 0
    ran = cli("push", str(repo.path / "deploy"), f"oci://{target}:1.0.0", "--sign-key", "k.key", "-o", "json")
    assert ran.exit_code == 0, ran.err
    return ran


def test_push_answers_with_the_promised_json(pushed: Ran, target: str, repo: GitRepo) -> None:
    answer = json.loads(pushed.out)
    assert set(answer) == {
        "reference", "repository", "tags", "digest", "contentDigest", "revision", "unchanged", "signatures",
    }  # fmt: skip
    commit = repo.git("rev-parse", "HEAD")
    assert answer["repository"] == target
    assert answer["reference"] == f"{target}@{answer['digest']}"
    assert set(answer["tags"]) == {"1.0.0", f"sha-{commit[:12]}"}
    assert answer["revision"] == f"main@sha1:{commit}"
    assert answer["unchanged"] is False
    assert len(answer["signatures"]) == 1


def test_the_same_commit_again_is_unchanged(pushed: Ran, cli: Cli, repo: GitRepo, target: str) -> None:
    again = cli("push", str(repo.path / "deploy"), f"oci://{target}:1.0.0", "--sign-key", "k.key", "-o", "json")
    assert again.exit_code == 0
    assert json.loads(again.out)["unchanged"] is True
    assert json.loads(again.out)["digest"] == json.loads(pushed.out)["digest"]


def test_a_version_tag_is_not_moved_to_other_content(pushed: Ran, cli: Cli, repo: GitRepo, target: str) -> None:
    repo.commit({"deploy/more.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more, namespace: shop}\n"})
    ran = cli("push", str(repo.path / "deploy"), f"oci://{target}:1.0.0", "--sign-key", "k.key")
    assert ran.exit_code == 4, ran.err
    assert "1.0.0" in ran.errors[0]
    assert "--force-tag" in ran.err


@pytest.mark.parametrize("form", ["text", "json", "yaml", "name"])
def test_inspect_speaks_every_form(form: str, pushed: Ran, cli: Cli, target: str) -> None:
    digest = json.loads(pushed.out)["digest"]
    ran = cli("inspect", f"{target}:1.0.0", "-o", form)
    assert ran.exit_code == 0, ran.err
    if form == "json":
        assert json.loads(ran.out)["digest"] == digest
    elif form == "yaml":
        assert yamlio.parse_documents(ran.out.encode(), "out")[0].value["digest"] == digest
    elif form == "name":
        assert ran.out == f"{target}@{digest}\n"
    else:
        assert digest in ran.out
        assert "1 signature bundle" in ran.out


def test_verify_accepts_the_key_that_signed_and_refuses_another(pushed: Ran, cli: Cli, target: str) -> None:
    assert cli("keys", "generate", "other").exit_code == 0
    good = cli("verify", f"{target}:1.0.0", "--key", "k.pub", "-o", "json")
    assert good.exit_code == 0, good.err
    assert json.loads(good.out)["allowed"] is True
    bad = cli("verify", f"{target}:1.0.0", "--key", "other.pub", "-o", "json")
    assert bad.exit_code == 4
    assert json.loads(bad.out)["reason"] == "UnknownSigner"
    assert len(bad.errors) == 1


def test_verify_with_a_policy_explains_each_step(pushed: Ran, cli: Cli, target: str, tmp_path: Path) -> None:
    pem = (tmp_path / "k.pub").read_text().replace("\n", "\n        ")
    host = target.partition("/")[0]
    (tmp_path / "policy.yaml").write_text(
        "apiVersion: ocisync.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {name: p}\nspec:\n"
        f'  match: [{{repository: "{host}/cli/*"}}]\n  threshold: 1\n'
        f"  authorities:\n  - name: ci\n    key:\n      pem: |\n        {pem}\n"
    )
    ran = cli("verify", f"{target}:1.0.0", "--policy", "policy.yaml", "--explain")
    assert ran.exit_code == 0, ran.err
    assert "allowed: Verified (policy p)" in ran.out
    (tmp_path / "typo.yaml").write_text((tmp_path / "policy.yaml").read_text().replace("threshold", "treshold"))
    refused = cli("verify", f"{target}:1.0.0", "--policy", "typo.yaml")
    assert refused.exit_code == 4
    assert "treshold" in refused.err


def test_a_policy_for_another_repository_refuses_without_asking_anyone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        "apiVersion: ocisync.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {name: p}\nspec:\n"
        '  match: [{repository: "other.example/*"}]\n  threshold: 1\n  authorities: [{name: a, key: {pem: x}}]\n'
    )
    ran = cli("verify", "registry.invalid/shop:1", "--policy", "policy.yaml", "-o", "json")
    assert ran.exit_code == 4
    assert json.loads(ran.out)["reason"] == "NoPolicy"


def test_an_unsigned_artifact_is_refused_and_the_push_says_so(cli: Cli, repo: GitRepo, target: str) -> None:
    pushed = cli("push", str(repo.path / "deploy"), f"oci://{target}:dev")
    assert pushed.exit_code == 0
    assert "not signed" in pushed.err
    assert cli("keys", "generate", "k").exit_code == 0
    ran = cli("verify", f"{target}:dev", "--key", "k.pub")
    assert ran.exit_code == 4
    assert "no signature" in ran.errors[0]


def test_a_tag_that_does_not_exist_is_exit_code_5(cli: Cli, target: str) -> None:
    ran = cli("inspect", f"{target}:nothing")
    assert ran.exit_code == 5
    assert "nothing" in ran.errors[0]


def test_what_only_a_warning_policy_lets_pass_is_not_called_verified(pushed: Ran, cli: Cli, target: str) -> None:
    assert cli("keys", "generate", "other").exit_code == 0
    policy = {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": "trial"},
        "spec": {
            "match": [{"repository": target}],
            "authorities": [{"name": "other", "key": {"pem": Path("other.pub").read_text()}}],
            "threshold": 1,
            "mode": "Warn",
        },
    }
    Path("policy.yaml").write_text(yamlio.dump(policy))
    ran = cli("verify", f"{target}:1.0.0", "--policy", "policy.yaml")
    assert ran.exit_code == 0, ran.err
    assert ran.out.startswith("NOT verified  ")
    assert "mode Warn" in ran.out
