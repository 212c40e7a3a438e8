"""Things that go away and come back: the agent recovers alone, and drift made meanwhile is corrected."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.agent import AgentProcess, Installation, Tenant, config_map, running, service
from tests.support.controlplane import ControlPlane
from tests.support.registries import Registry
from tests.support.waiting import eventually

OUTAGE_S = 20.0


def test_drift_is_corrected_while_the_registry_is_down_and_new_content_comes_after(
    agent: AgentProcess, tenant: Tenant, distribution: Registry
) -> None:
    tenant.push({"settings.yaml": config_map("settings", version="1")})
    tenant.write_sync()
    tenant.wait_ready()
    distribution.stop()
    try:
        until = time.monotonic() + OUTAGE_S
        _edit(tenant, "by-hand")
        tenant.wait_value("settings", "version", "1")
        eventually(lambda: time.monotonic() > until, timeout_s=OUTAGE_S + 1, what="the outage lasts")
        assert tenant.condition("Ready")["status"] == "True"
    finally:
        distribution.start()
    pushed = tenant.push({"settings.yaml": config_map("settings", version="2")})
    tenant.wait_ready(pushed.descriptor.digest)
    tenant.wait_value("settings", "version", "2")


def test_a_restart_without_registry_enforces_the_verified_local_copy(
    installation: Installation, tenant: Tenant, distribution: Registry, tmp_path: Path
) -> None:
    agent = installation.agent(tmp_path / "agent")
    with running(agent):
        tenant.push({"settings.yaml": config_map("settings", version="1")})
        tenant.write_sync()
        tenant.wait_ready()
    _edit(tenant, "while-away")
    distribution.stop()
    try:
        with running(agent):
            tenant.wait_value("settings", "version", "1")
            _edit(tenant, "again")
            tenant.wait_value("settings", "version", "1")
    finally:
        distribution.start()


def test_without_registry_and_without_local_copy_nothing_is_harmed(
    installation: Installation, tenant: Tenant, distribution: Registry, tmp_path: Path
) -> None:
    with running(installation.agent(tmp_path / "first")):
        pushed = tenant.push({"settings.yaml": config_map("settings", version="1")})
        tenant.write_sync()
        tenant.wait_ready()
    distribution.stop()
    try:
        with running(installation.agent(tmp_path / "second")) as fresh:
            eventually(lambda: fresh.logs("failed, tried again"), what="it says what is missing")
            assert tenant.condition("Ready")["status"] == "False"
            tenant.wait_value("settings", "version", "1")
            distribution.start()
            tenant.wait_ready(pushed.descriptor.digest)
    finally:
        if not distribution.process.running:
            distribution.start()


def test_an_outage_of_the_api_server_is_survived(
    agent: AgentProcess, tenant: Tenant, control_plane: ControlPlane
) -> None:
    tenant.push({"all.yaml": [service("web"), config_map("settings", version="1")]})
    tenant.write_sync()
    tenant.wait_ready()
    control_plane.stop_apiserver()
    try:
        until = time.monotonic() + OUTAGE_S
        eventually(lambda: time.monotonic() > until, timeout_s=OUTAGE_S + 1, what="the outage lasts")
    finally:
        control_plane.start_apiserver()
    _edit(tenant, "right-after")
    tenant.wait_value("settings", "version", "1")
    pushed = tenant.push({"all.yaml": [service("web"), config_map("settings", version="2")]})
    tenant.wait_ready(pushed.descriptor.digest)
    assert agent.server.running


def _edit(tenant: Tenant, value: str) -> None:
    patch = f'{{"data":{{"version":"{value}"}}}}'
    tenant.cluster.kubectl("patch", "configmap", "settings", "-n", tenant.namespace, "-p", patch)
