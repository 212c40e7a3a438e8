"""push --keyless --provenance and attest --keyless on a private Sigstore; and the real cosign agrees, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.signing.bundle import parse
from tests.cli.conftest import Cli
from tests.support import oidc
from tests.support.cosign import Cosign, CosignError
from tests.support.gitrepo import GitRepo
from tests.support.privatesigstore import PrivateSigstore
from tests.support.signedrepository import SignedRepository
from tests.unit.source.test_environment import GITHUB

WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"
SLSA = "https://slsa.dev/provenance/v1"


@pytest.fixture
def on_github(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of a GitHub job for the tag v1.4.0; its commit."""
    commit = repo.git("rev-parse", "HEAD")
    for name, value in {**GITHUB, "GITHUB_SHA": commit, "GITHUB_REF_NAME": "v1.4.0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITEA_ACTIONS", "FORGEJO_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return commit


def policy_file(path: Path, repository: str, *conditions: dict[str, str]) -> str:
    keyless = {"issuer": oidc.GITHUB, "subject": WORKFLOW, "trustedRootRef": {"name": "any"}}
    spec = {
        "match": [{"repository": repository}],
        "authorities": [{"name": "ci", "keyless": keyless}],
        "threshold": 1,
        "requireTimestamp": True,
        "requireTransparencyLog": True,
        "attestations": [{"predicateType": SLSA, "authorities": ["ci"], "where": list(conditions)}],
    }
    document = {"apiVersion": "ocisync.dev/v1alpha1", "kind": "TrustPolicy", "metadata": {"name": "shop"}, "spec": spec}
    path.write_text(json.dumps(document))
    return str(path)


def predicates(repository: str, digest: str) -> list[dict[str, Any]]:
    store = SignedRepository(repository).store
    found = collect(store, digest, budget=EvidenceBudget(lambda: 0.0)).items
    statements = [json.loads(parse(raw.payload).payload) for raw in found]
    return [item["predicate"] for item in statements if item["predicateType"] == SLSA]


def test_keyless_provenance_is_bound_to_the_workflow_and_accepted_by_cosign(
    cli: Cli,
    repo: GitRepo,
    repository: str,
    private_sigstore: PrivateSigstore,
    cosign: Cosign,
    on_github: str,
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text(private_sigstore.github_token(commit=on_github))
    signing = ["--keyless", "--trust-config", str(private_sigstore.trust_config_file), "--identity-token", str(token)]
    push = ["push", str(repo.path / "deploy"), f"oci://{repository}:1.4.0", *signing, "--provenance", "-o", "json"]
    ran = cli(*push)
    assert ran.exit_code == 0, ran.err
    digest = json.loads(ran.out)["digest"]
    (said,) = predicates(repository, digest)
    assert said["runDetails"]["builder"]["id"] == WORKFLOW
    assert said["runDetails"]["metadata"]["ocisync_buildLevel"] == "2"
    again = json.loads(cli(*push).out)
    assert (again["unchanged"], len(predicates(repository, digest))) == (True, 1)

    root = str(private_sigstore.trusted_root_file)
    from_tag = {
        "path": "/buildDefinition/resolvedDependencies/0/uri",
        "glob": "git+https://github.com/acme/shop@refs/tags/*",
    }
    level = {"path": "/runDetails/metadata/ocisync_buildLevel", "equals": "2"}
    good = policy_file(tmp_path / "good.json", repository, from_tag, level)
    verified = cli("verify", f"oci://{repository}:1.4.0", "--policy", good, "--trusted-root", root, "--explain")
    assert verified.exit_code == 0, verified.out + verified.err
    assert "made by the builder that it names" in verified.out
    other = policy_file(tmp_path / "other.json", repository, {**level, "equals": "3"})
    refused = cli("verify", f"oci://{repository}:1.4.0", "--policy", other, "--trusted-root", root)
    assert (refused.exit_code, "ocisync_buildLevel is '2'" in refused.err) == (4, True)

    who = ["--certificate-identity", WORKFLOW, "--certificate-oidc-issuer", oidc.GITHUB]
    name = f"{repository}@{digest}"
    out = cosign.run("verify-attestation", "--trusted-root", root, *who, "--type", "slsaprovenance1", name)
    assert '"payload"' in out
    with pytest.raises(CosignError):
        cosign.run("verify-attestation", "--trusted-root", root, *who, "--type", "cyclonedx", name)

    (tmp_path / "sbom.json").write_text('{"bomFormat": "CycloneDX"}')
    attest = ["attest", f"oci://{name}", "--type", "cyclonedx", "--predicate", "sbom.json", *signing]
    assert cli(*attest).exit_code == 0
    cosign.run("verify-attestation", "--trusted-root", root, *who, "--type", "cyclonedx", name)
    asked = ["--attestation", "cyclonedx", "--attestation", "slsaprovenance1"]
    assert cli("verify", f"oci://{name}", *who, "--trusted-root", root, *asked).exit_code == 0


def test_what_cosign_attests_keyless_satisfies_a_policy(
    cli: Cli, repository: str, private_sigstore: PrivateSigstore, cosign: Cosign, tmp_path: Path
) -> None:
    signed = SignedRepository(repository)
    built = signed.push({"app.yaml": "kind: ConfigMap\n"}, "production")
    name = f"{repository}@{built.descriptor.digest}"
    claims = signed.claims(sequence="1", signed="1")
    cosign.sign_keyless(name, private_sigstore, private_sigstore.github_token(), annotations=claims)
    policy = policy_file(tmp_path / "policy.json", repository)
    verify = ["verify", f"oci://{repository}:production", "--policy", policy]
    verify += ["--trusted-root", str(private_sigstore.trusted_root_file), "-o", "json"]
    predicate = tmp_path / "predicate.json"
    for builder, code in (("https://elsewhere.example", 4), (WORKFLOW, 0)):
        predicate.write_text(json.dumps({
            "buildDefinition": {"buildType": "https://b.example", "externalParameters": {}},
            "runDetails": {"builder": {"id": builder}},
        }))  # fmt: skip
        cosign.attest_keyless(name, private_sigstore, private_sigstore.github_token(), predicate, "slsaprovenance1")
        ran = cli(*verify)
        assert (ran.exit_code, json.loads(ran.out)["allowed"]) == (code, code == 0), ran.err
