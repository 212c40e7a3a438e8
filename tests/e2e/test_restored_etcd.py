"""etcd is restored from a backup under a running agent: what is remembered is of a time that never was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.agent import Installation, Tenant, config_map, running
from tests.support.controlplane import ControlPlane, Programs
from tests.support.registries import Registry
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy  # takes a control plane of its own


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane that is this test's to turn back."""
    made = ControlPlane(replace(Programs.find(), scheduler=None), tmp_path / "plane")
    made.start()
    yield made
    made.stop()


def test_after_a_restore_of_etcd_the_cluster_is_the_last_revision_again_and_nothing_pruned_stays(
    plane: ControlPlane, distribution: Registry, tmp_path: Path
) -> None:
    installation = Installation(plane, tmp_path / "installation")
    namespace = plane.new_namespace("restored")
    tenant = Tenant(installation, namespace, f"{distribution.host}/restored/{namespace}")
    tenant.prepare()
    first = tenant.push({"all.yaml": [config_map("stays", v="1"), config_map("same"), config_map("goes")]})
    tenant.write_sync(guard={"maxPrune": "100%"})
    with running(installation.agent(tmp_path / "agent")) as agent:
        tenant.wait_ready(first.descriptor.digest)
        _turn_off(plane)
        shutil.copytree(plane.directory / "etcd", tmp_path / "backup")
        _turn_on(plane)
        second = tenant.push({"all.yaml": [config_map("stays", v="2"), config_map("same"), config_map("comes")]})
        tenant.wait_ready(second.descriptor.digest, timeout_s=120.0)
        assert _names(plane, namespace) == {"stays", "same", "comes"}
        _turn_off(plane)
        shutil.rmtree(plane.directory / "etcd")
        shutil.copytree(tmp_path / "backup", plane.directory / "etcd")
        _turn_on(plane)
        assert _names(plane, namespace) >= {"goes"}
        eventually(
            lambda: _names(plane, namespace) == {"stays", "same", "comes"}, timeout_s=180.0,
            what="what was pruned is pruned again",
        )  # fmt: skip
        tenant.wait_value("stays", "v", "2")
        assert agent.server.running


def _turn_off(plane: ControlPlane) -> None:
    plane.stop_apiserver()
    plane.etcd.stop()


def _turn_on(plane: ControlPlane) -> None:
    plane.etcd.start()
    plane.start_apiserver()


def _names(plane: ControlPlane, namespace: str) -> set[str]:
    items = plane.api("GET", f"/api/v1/namespaces/{namespace}/configmaps")["items"]
    return {item["metadata"]["name"] for item in items} - {"kube-root-ca.crt"}
