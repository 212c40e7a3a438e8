"""A policy that asks for attestations, on a live agent: nothing is applied without, all of it once they are there."""

from __future__ import annotations

import json
from typing import Any

from ocisync.flows.attest import AttestRequest, attest
from ocisync.pack.artifact import BuiltArtifact
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.unit.flows.test_attest import CLOCK

SLSA = "https://slsa.dev/provenance/v1"
PATH = "/buildDefinition/resolvedDependencies/0/uri"


def requirement(glob: str) -> list[dict[str, Any]]:
    return [{"predicateType": SLSA, "authorities": ["release-key"], "where": [{"path": PATH, "glob": glob}]}]


def attest_source(tenant: Tenant, built: BuiltArtifact, uri: str) -> None:
    predicate = {"buildDefinition": {"resolvedDependencies": [{"uri": uri}]}}
    store, digest = tenant.registry.store, built.descriptor.digest
    attest(AttestRequest(store, digest, (tenant.key,), CLOCK, SLSA, predicate))


def test_a_signed_artifact_waits_for_its_provenance(shared_agent: AgentProcess, tenant: Tenant) -> None:
    tenant.write_policy(attestations=requirement("git+https://github.com/acme/shop@refs/tags/*"))
    good = tenant.build({"settings.yaml": config_map("settings", version="good")})
    tenant.registry.push(good)
    attest_source(tenant, good, "git+https://github.com/acme/shop@refs/tags/v1.0.0")
    tenant.push(good)
    tenant.write_sync()
    tenant.wait_ready(good.descriptor.digest)

    late = tenant.push({"settings.yaml": config_map("settings", version="late")})
    attest_source(tenant, late, "git+https://github.com/evil/shop@refs/tags/v1.1.0")
    refused = tenant.wait_condition("Verified", "False", "NoAttestation")
    assert SLSA in refused["message"]
    assert tenant.status()["applied"]["digest"] == good.descriptor.digest
    assert tenant.value("settings", "version") == "good"

    attest_source(tenant, late, "git+https://github.com/acme/shop@refs/tags/v1.1.0")
    tenant.wait_ready(late.descriptor.digest)
    tenant.wait_value("settings", "version", "late")

    # A policy that asks for more is held against what runs; drift of it is still corrected.
    tenant.write_policy(attestations=requirement("git+https://github.com/acme/shop@refs/heads/*"))
    tenant.wait_condition("Verified", "False", "NoAttestation")
    body = json.dumps({"data": {"version": "x"}})
    tenant.cluster.kubectl("patch", "configmap", "settings", "-n", tenant.namespace, "-p", body)
    tenant.wait_value("settings", "version", "late")
