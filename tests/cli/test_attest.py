"""push --provenance, attest, verify --attestation, as a user types them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Cli
from tests.support.gitrepo import GitRepo
from tests.support.registries import Registry


@pytest.fixture
def target(sandbox_registry: Registry) -> str:
    return f"{sandbox_registry.host}/cli/attest-{os.urandom(4).hex()}"


@pytest.fixture
def pushed(cli: Cli, repo: GitRepo, target: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """One push with provenance; its digest."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    assert cli("keys", "generate", "k").exit_code == 0
    repo.git("remote", "add", "origin", "git@github.com:acme/shop.git")
    ran = cli(*push(repo, target), "-o", "json")
    assert ran.exit_code == 0, ran.err
    answer = json.loads(ran.out)
    assert [item["predicateType"] for item in answer["attestations"]] == ["https://slsa.dev/provenance/v1"]
    return str(answer["digest"])


def push(repo: GitRepo, target: str) -> list[str]:
    return ["push", str(repo.path / "deploy"), f"oci://{target}:1.0.0", "--sign-key", "k.key", "--provenance"]


def policy_file(path: Path, target: str, **where: str) -> str:
    spec = {
        "match": [{"repository": target}],
        "authorities": [{"name": "ci", "key": {"pem": Path("k.pub").read_text()}}],
        "threshold": 1,
        "attestations": [
            {
                "predicateType": "https://slsa.dev/provenance/v1",
                "authorities": ["ci"],
                "where": [{"path": "/buildDefinition/resolvedDependencies/0/uri", **where}],
            }
        ],
    }
    path.write_text(
        json.dumps(
            {"apiVersion": "ocisync.dev/v1alpha1", "kind": "TrustPolicy", "metadata": {"name": "shop"}, "spec": spec}
        )
    )
    return str(path)


def test_provenance_is_verified_by_key_and_by_policy(
    cli: Cli, repo: GitRepo, target: str, pushed: str, tmp_path: Path
) -> None:
    reference = f"oci://{target}:1.0.0"
    assert cli("verify", reference, "--key", "k.pub", "--attestation", "slsaprovenance1").exit_code == 0
    good = policy_file(tmp_path / "good.json", target, glob="git+https://github.com/acme/shop@refs/heads/*")
    explained = cli("verify", reference, "--policy", good, "--explain")
    assert explained.exit_code == 0, explained.err
    assert "pass  where" in explained.out
    assert "attested by ci: https://slsa.dev/provenance/v1" in explained.out
    assert "FAIL" not in explained.out

    bad = policy_file(tmp_path / "bad.json", target, glob="git+https://github.com/acme/shop@refs/tags/*")
    refused = cli("verify", reference, "--policy", bad, "-o", "json")
    assert (refused.exit_code, json.loads(refused.out)["reason"]) == (4, "NoAttestation")
    assert "refs/heads/main" in refused.err
    missing = cli("verify", reference, "--key", "k.pub", "--attestation", "cyclonedx")
    assert (missing.exit_code, "ocisync attest" in missing.err) == (4, True)


def test_the_same_push_again_attests_nothing(cli: Cli, repo: GitRepo, target: str, pushed: str) -> None:
    again = json.loads(cli(*push(repo, target), "-o", "json").out)
    assert (again["unchanged"], again["digest"], len(again["attestations"])) == (True, pushed, 1)
    seen = json.loads(cli("inspect", f"oci://{target}:1.0.0", "-o", "json").out)
    kinds = [item["predicateType"] for item in seen["signatures"]]
    assert kinds.count("https://slsa.dev/provenance/v1") == 1
    assert "1 signature bundle, 1 attestation" in cli("inspect", f"oci://{target}:1.0.0").out


def test_anything_is_attested_and_asked_for(cli: Cli, target: str, pushed: str, tmp_path: Path) -> None:
    (tmp_path / "sbom.json").write_text('{"bomFormat": "CycloneDX"}')
    reference = f"oci://{target}@{pushed}"
    command = ["attest", reference, "--type", "cyclonedx", "--predicate", "sbom.json", "--sign-key", "k.key"]
    made = cli(*command, "-o", "json")
    assert made.exit_code == 0, made.err
    assert json.loads(made.out)["unchanged"] is False
    again = cli(*command)
    assert (again.exit_code, again.out.splitlines()[0].split()[0]) == (0, "unchanged")
    asked = ["--attestation", "cyclonedx", "--attestation", "https://slsa.dev/provenance/v1"]
    assert cli("verify", f"oci://{target}:1.0.0", "--key", "k.pub", *asked).exit_code == 0
    assert cli("keys", "generate", "other").exit_code == 0
    assert cli("verify", f"oci://{target}:1.0.0", "--key", "other.pub", *asked).exit_code == 4


def test_a_predicate_comes_from_standard_input(
    cli: Cli, target: str, pushed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"passed": true}')))
    kind = "https://acme.example/test/v1"
    ran = cli("attest", f"oci://{target}@{pushed}", "--type", kind, "--predicate", "-", "--sign-key", "k.key")
    assert ran.exit_code == 0, ran.err
    assert kind in ran.out


def test_mistakes_are_told_in_one_line(cli: Cli, repo: GitRepo, target: str, pushed: str, tmp_path: Path) -> None:
    Path("p.json").write_text("{}")
    Path("twice.json").write_text('{"a": 1, "a": 2}')
    digest = f"oci://{target}@{pushed}"
    signed = ["--sign-key", "k.key"]
    cases: list[tuple[list[str], int, str]] = [
        (["attest", digest, "--type", "custom", "--predicate", "p.json"], 2, "--sign-key"),
        (["attest", digest, "--type", "nothing", "--predicate", "p.json", *signed], 2, "no URI"),
        (
            ["attest", digest, "--type", "https://sigstore.dev/cosign/sign/v1", "--predicate", "p.json", *signed],
            2,
            "is the type of signatures",
        ),
        (["attest", digest, "--type", "custom", "--predicate", "none.json", *signed], 5, "none.json"),
        (["attest", digest, "--type", "custom", "--predicate", str(tmp_path), *signed], 1, "predicate"),
        (["attest", digest, "--type", "custom", "--predicate", "twice.json", *signed], 1, "duplicate key"),
        (["attest", f"oci://{target}:1.0.0", "--type", "custom", "--predicate", "p.json", *signed], 2, pushed),
        (["attest", f"oci://{target}@sha256:{'0' * 64}", "--type", "vuln", "--predicate", "p.json", *signed], 5, ""),
        (["verify", digest, "--key", "k.pub", "--attestation", "nothing"], 2, "no URI"),
        (["push", str(repo.path / "deploy"), f"oci://{target}:2.0.0", "--provenance"], 2, "--sign-key"),
    ]
    for arguments, code, told in cases:
        ran = cli(*arguments)
        assert (ran.exit_code, len(ran.errors)) == (code, 1), (arguments, ran.err)
        assert told in ran.err, (arguments, ran.err)
