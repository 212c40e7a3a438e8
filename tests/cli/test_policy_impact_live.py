"""`ocisync policy impact` with syncs and Secrets of a cluster and evidence of a registry. Neither is changed."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from ocisync.kit import yamlio
from ocisync.model.errors import ExitCode
from tests.cli.conftest import Cli
from tests.support.cluster import Cluster
from tests.support.registries import Registry
from tests.support.signedrepository import SignedRepository
from tests.support.trust import signer

GROUP = "/apis/ocisync.dev/v1alpha1"
PAST = {"sequence": "1700000000", "signed": "1700000000"}


class Site:
    """A namespace with syncs, a namespace with the agent's Secrets, and a repository."""

    def __init__(self, cluster: Cluster, repository: str) -> None:
        self.cluster = cluster
        self.repo = SignedRepository(repository)
        self.namespace, self.agent = (f"{name}-{secrets.token_hex(4)}" for name in ("impact", "agent"))
        for name in (self.namespace, self.agent):
            cluster.api(
                "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )

    def runs(self, name: str, *by: str) -> str:
        """A sync whose status says that it runs an artifact of its own, signed by these."""
        built = self.repo.push({"app.yaml": f"kind: ConfigMap\n# {name}\n"}, name)
        for one in by:
            self.repo.sign(built.descriptor, signer(one), self.repo.claims(tags=name, **PAST))
        path = f"{GROUP}/namespaces/{self.namespace}/artifactsyncs"
        made = self.cluster.api(
            "POST",
            path,
            {
                "apiVersion": "ocisync.dev/v1alpha1",
                "kind": "ArtifactSync",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"source": {"repository": self.repo.repository, "tag": name}},
            },
        )
        status = {"applied": {"digest": built.descriptor.digest}}
        self.cluster.api("PUT", f"{path}/{name}/status", {**made, "status": status})
        return built.descriptor.digest

    def key(self, name: str) -> dict[str, Any]:
        """An authority whose key is in a Secret of the agent's namespace."""
        data = {"cosign.pub": base64.b64encode(signer(name).public.pem.encode()).decode()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-pub"}, "data": data}
        self.cluster.api("POST", f"/api/v1/namespaces/{self.agent}/secrets", secret)
        return {"name": name, "key": {"secretRef": {"name": f"{name}-pub"}}}

    def flags(self) -> tuple[str, ...]:
        return "--kubeconfig", str(self.cluster.kubeconfig), "--agent-namespace", self.agent, "-o", "json"


@pytest.fixture
def site(sandbox_cluster: Cluster, sandbox_registry: Registry, cli: Cli, tmp_path: Path) -> Site:
    applied = cli("install", "--crds-only", "--apply", "--kubeconfig", str(sandbox_cluster.kubeconfig), "-q")
    assert applied.exit_code == 0, applied.err
    made = Site(sandbox_cluster, f"{sandbox_registry.host}/impact/{secrets.token_hex(6)}")
    policy = made.repo.policy(authorities=[made.key("ci"), made.key("release")])
    (tmp_path / "policy.yaml").write_text(yamlio.dump(policy))
    return made


def _changes(site: Site, out: str) -> dict[str, str]:
    """By name, of this test's namespace: the cluster is shared."""
    found = json.loads(out)["artifacts"]
    mine = f"{site.namespace}/"
    return {one["name"].removeprefix(mine): one["change"] for one in found if one["name"].startswith(mine)}


def test_the_syncs_of_a_cluster_are_judged_by_what_their_registry_holds(cli: Cli, site: Site, tmp_path: Path) -> None:
    site.runs("one", "ci")
    site.runs("two", "ci", "release")
    saved = str(tmp_path / "evidence.json")
    ran = cli("policy", "impact", "policy.yaml", "--without-authority", "ci", "--save-evidence", saved, *site.flags())
    assert ran.exit_code == ExitCode.DIFFERENCES, ran.err
    assert _changes(site, ran.out) == {"one": "Loses", "two": "Keeps"}
    again = cli("policy", "impact", "policy.yaml", "--without-authority", "ci", "--evidence", saved, *site.flags())
    assert _changes(site, again.out) == _changes(site, ran.out)


def test_a_tag_can_be_asked_for_instead(cli: Cli, site: Site) -> None:
    digest = site.runs("one", "ci")
    reference = f"oci://{site.repo.repository}:one"
    fingerprint = signer("ci").fingerprint
    ran = cli("policy", "impact", "policy.yaml", "--without-key", fingerprint, "--reference", reference, *site.flags())
    assert ran.exit_code == ExitCode.DIFFERENCES, ran.err
    assert [one["digest"] for one in json.loads(ran.out)["artifacts"]] == [digest]


def test_a_digest_that_is_gone_is_unknown(cli: Cli, site: Site) -> None:
    reference = f"{site.repo.repository}@sha256:{'1' * 64}"
    ran = cli("policy", "impact", "policy.yaml", "--without-authority", "ci", "--reference", reference, *site.flags())
    assert (ran.exit_code, json.loads(ran.out)["unknown"]) == (ExitCode.FAILED, 1), ran.err


def test_a_secret_that_may_not_be_read_is_told_and_trusts_nobody(cli: Cli, site: Site) -> None:
    flags = ("--kubeconfig", str(site.cluster.kubeconfig), "--agent-namespace", "nowhere", "-o", "json")
    ran = cli("policy", "impact", "policy.yaml", "--deny-key", signer("ci").fingerprint, *flags)
    assert "Secret 'ci-pub' does not exist in the agent's namespace" in ran.err
