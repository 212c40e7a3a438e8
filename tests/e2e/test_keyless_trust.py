"""Identities instead of keys, on a live agent: roots that come, change and go without a restart."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ocisync.pack.artifact import BuiltArtifact
from tests.support.agent import AgentProcess, Tenant, apply, config_map, place
from tests.support.minisigstore import GITHUB, MiniSigstore, Wish
from tests.support.waiting import eventually

SIGSTORE = MiniSigstore()
LIMIT_MIB = 100  # the agent's budget, with the library that verifies keyless signatures loaded; 75 is usual
RETIRED = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}


class KeylessTenant:
    """A tenant whose policy names a workflow, under a trusted root in the agent's namespace."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.root = f"root-{tenant.namespace}"

    def write_policy(self) -> None:
        rule = {
            "issuer": GITHUB,
            "subjectGlob": "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v*",
            "claims": {"sourceRepository": "https://github.com/acme/shop"},
            "trustedRootRef": {"name": self.root},
        }
        self.tenant.write_policy(authorities=[{"name": "release-workflow", "keyless": rule}])

    def write_root(self, kind: str, root: bytes) -> None:
        meta = {"name": self.root, "namespace": self.tenant.installation.namespace}
        value = root.decode() if kind == "ConfigMap" else base64.b64encode(root).decode()
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": meta,
            "data": {"trusted_root.json": value},
        }
        apply(self.tenant.cluster, [document])

    def remove_root(self, kind: str) -> None:
        self.tenant.cluster.api("DELETE", place(kind, self.tenant.installation.namespace, self.root))

    def push(self, version: str, wish: Wish | None = None) -> BuiltArtifact:
        """Publish as a workflow does: content, keyless signature, then the tag."""
        built = self.tenant.build({"settings.yaml": config_map("settings", version=version)})
        self.tenant.registry.push(built)
        moment = wish or Wish(signed_at=datetime.now(UTC) - timedelta(minutes=1))
        signature = SIGSTORE.sign(built.descriptor.digest, self.tenant.claims(), moment)
        self.tenant.registry.attach_bundle(built.descriptor, signature.payload)
        self.tenant.registry.push(built, self.tenant.tag)
        return built


@pytest.fixture
def keyless(tenant: Tenant) -> Iterator[KeylessTenant]:
    made = KeylessTenant(tenant)
    made.write_policy()
    yield made


# A test with an agent of its own goes first: the shared one, once it runs, would do the work, too.


def test_after_a_restart_the_kept_evidence_is_verified_again_from_its_bytes(
    agent: AgentProcess, keyless: KeylessTenant
) -> None:
    tenant = keyless.tenant
    keyless.write_root("Secret", SIGSTORE.root_bytes())
    good = keyless.push("1")
    tenant.write_sync()
    tenant.wait_ready(good.descriptor.digest)
    agent.kill()
    keyless.write_root("Secret", SIGSTORE.root_bytes(tlogs=RETIRED))
    agent.start()
    refused = tenant.wait_condition("Verified", "False", "BadSignature")
    assert "no transparency log of the trusted root was valid" in refused["message"]
    keyless.write_root("Secret", SIGSTORE.root_bytes())
    tenant.wait_ready(good.descriptor.digest)


def test_a_workflows_artifact_runs_and_a_root_that_changes_is_judged_by_at_once(
    shared_agent: AgentProcess, keyless: KeylessTenant
) -> None:
    tenant = keyless.tenant
    first = keyless.push("1")
    tenant.write_sync()
    refused = tenant.wait_condition("Verified", "False", "InvalidPolicy")
    assert "neither a Secret nor a ConfigMap" in refused["message"]

    keyless.write_root("ConfigMap", SIGSTORE.root_bytes())
    status = tenant.wait_ready(first.descriptor.digest)
    assert status["applied"]["signers"] == ["release-workflow"]

    # The certificate authority is retired: what it signs from then on proves nothing, and what runs is not new.
    keyless.write_root("ConfigMap", SIGSTORE.root_bytes(certificateAuthorities=RETIRED))
    refused = tenant.wait_condition("Verified", "False", "BadSignature")
    assert "no certificate authority of the trusted root was valid" in refused["message"]

    keyless.write_root("ConfigMap", SIGSTORE.root_bytes())
    second = keyless.push("2")
    tenant.wait_ready(second.descriptor.digest)
    shared_agent.assert_sound()
    eventually(lambda: shared_agent.rss_mib() < LIMIT_MIB, what=f"the agent is below {LIMIT_MIB} MiB")


def test_another_identity_and_another_sigstore_change_nothing(
    shared_agent: AgentProcess, keyless: KeylessTenant
) -> None:
    tenant = keyless.tenant
    keyless.write_root("Secret", SIGSTORE.root_bytes())
    good = keyless.push("1")
    tenant.write_sync()
    tenant.wait_ready(good.descriptor.digest)
    foreign = {"sourceRepository": "https://github.com/evil/shop"}
    keyless.push("evil", Wish(claims=foreign, signed_at=datetime.now(UTC) - timedelta(minutes=1)))
    refused = tenant.wait_condition("Verified", "False", "UnknownSigner")
    assert (
        "wants sourceRepository https://github.com/acme/shop, which is https://github.com/evil/shop"
        in refused["message"]
    )
    tenant.wait_value("settings", "version", "1")

    keyless.write_root("ConfigMap", SIGSTORE.root_bytes())
    both = tenant.wait_condition("Verified", "False", "InvalidPolicy")
    assert "a Secret and a ConfigMap of this name" in both["message"]
    keyless.remove_root("ConfigMap")
    tenant.wait_condition("Verified", "False", "UnknownSigner")
    last = keyless.push("2")
    tenant.wait_ready(last.descriptor.digest)
    shared_agent.assert_sound()
