"""promote and sign --keyless on a private Sigstore, and what is asked for before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli
from tests.support import oidc
from tests.support.gitrepo import GitRepo
from tests.support.privatesigstore import PrivateSigstore
from tests.support.registries import Registry

WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"


def test_a_workflow_promotes_what_a_workflow_has_signed(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, private_sigstore: PrivateSigstore, tmp_path: Path
) -> None:
    repository = f"{sandbox_registry.host}/cli/keyless-promotion"
    token = tmp_path / "token"
    token.write_text(private_sigstore.github_token())
    keyless = ["--keyless", "--trust-config", str(private_sigstore.trust_config_file), "--identity-token", str(token)]
    root = ["--certificate-oidc-issuer", oidc.GITHUB, "--trusted-root", str(private_sigstore.trusted_root_file)]
    who = ["--certificate-identity", WORKFLOW, *root]
    stranger = ["--certificate-identity", "https://github.com/acme/other", *root]
    assert cli("push", str(repo.path / "deploy"), f"oci://{repository}:1.4.0", *keyless).exit_code == 0

    assert cli("promote", f"oci://{repository}:1.4.0", "production", *keyless, *stranger).exit_code in (2, 4)
    assert cli("inspect", f"oci://{repository}:production").exit_code == 5
    promoted = cli("promote", f"oci://{repository}:1.4.0", "production", *keyless, *who, "-o", "json")
    assert promoted.exit_code == 0, promoted.err
    answer = json.loads(promoted.out)
    assert [item["identity"] for item in answer["signatures"]] == [WORKFLOW]
    assert cli("verify", f"oci://{repository}:production", *who).exit_code == 0
    assert cli("pull", f"oci://{repository}:production", "-d", "files", *who).exit_code == 0

    refreshed = cli("sign", f"oci://{repository}@{answer['digest']}", "--refresh", *keyless, "-o", "json")
    assert refreshed.exit_code == 0, refreshed.err
    assert set(json.loads(refreshed.out)["tags"]) >= {"1.4.0", "production"}
    legacy = cli("promote", f"oci://{repository}:1.4.0", "x", *keyless, "--legacy-signature")
    assert (legacy.exit_code, "--keyless excludes" in legacy.err) == (2, True)
