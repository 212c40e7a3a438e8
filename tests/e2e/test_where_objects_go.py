"""`spec.path` and `spec.target`: which objects of an artifact a sync applies, where, and as whom."""

from __future__ import annotations

from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.controlplane import ControlPlane


def test_a_sync_applies_one_directory_to_its_target_namespace_as_its_service_account(
    shared_agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    mark = control_plane.audit.mark()
    tenant.push(
        {
            "clusters/eu/app.yaml": config_map("ours", a="eu"),
            "clusters/eu-2/app.yaml": config_map("beside", a="eu-2"),
            "clusters/us/app.yaml": config_map("theirs", a="us"),
        }
    )
    tenant.write_sync(path="./clusters/eu/", retryInterval="7s")
    tenant.wait_ready()
    assert tenant.value("ours", "a") == "eu"
    written = control_plane.audit.events(since=mark, verb="patch", namespace=tenant.namespace, resource="configmaps")
    assert {event.name for event in written if "ocisync" in event.user_agent} == {"ours"}
    assert tenant.status()["inventory"]["objects"] == 1
    tenant.write_sync(path="clusters/nowhere")
    found = tenant.wait_condition("Ready", "False", "BadArtifact")
    assert "'clusters/nowhere': the artifact has no manifests there" in found["message"]
    assert tenant.value("ours", "a") == "eu"
