"""An agent that may not see everything still reconciles, and says what it cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ocisync.install import bundle
from ocisync.install.rbac import AGENT_NAME, Access
from ocisync.install.workload import Workload
from tests.support.agent import AgentProcess, Installation, Tenant, apply, config_map, may, running
from tests.support.waiting import eventually


def _roles(installation: Installation, access: Access) -> None:
    objects = bundle.installation(
        Workload(image="registry.example/ocisync:test", namespace=installation.namespace), access
    )
    apply(installation.cluster, [item for item in objects if item["kind"] == "ClusterRole"])


@pytest.fixture
def blind_agent(installation: Installation, tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent whose role has no right to read Secrets outside its own namespace."""
    _roles(installation, Access(read_secrets=False))
    account = f"system:serviceaccount:{installation.namespace}:{AGENT_NAME}"
    watches_secrets = partial(may, installation.cluster, account, "watch", "secrets")
    eventually(lambda: not watches_secrets(), what="the API server knows of the lesser rights")
    try:
        with running(installation.agent(tmp_path / "agent")) as started:
            yield started
    finally:
        _roles(installation, Access())
        eventually(watches_secrets, what="the API server knows of the rights")


def test_without_the_right_to_watch_secrets_all_is_applied_pruned_and_the_blindness_is_said(
    blind_agent: AgentProcess, tenant: Tenant
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "data": {"p": "aHVudGVyMg=="}}
    tenant.push({"a.yaml": [secret, config_map("settings", a="1")]})
    tenant.write_sync()
    tenant.wait_ready()
    (line,) = eventually(lambda: blind_agent.logs("drift of a kind cannot be seen"), what="it is said")
    assert line["kind"] == "Secret"
    assert "403" in line["problem"]
    tenant.push({"a.yaml": [{**secret, "data": {"p": "bmV3"}}, config_map("settings", a="2")]})
    tenant.wait_value("settings", "a", "2")
    tenant.wait_ready()
    assert tenant.cluster.get("secret", "login", namespace=tenant.namespace)["data"] == {"p": "bmV3"}
    tenant.push({"a.yaml": config_map("settings", a="3")})
    tenant.wait_value("settings", "a", "3")
    path = f"/api/v1/namespaces/{tenant.namespace}/secrets"
    eventually(lambda: "login" not in [item["metadata"]["name"] for item in tenant.cluster.api("GET", path)["items"]])
    assert "hunter2" not in str(blind_agent.logs())
