"""Watches on a real API server that goes away, comes back, or falls silent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ocisync.cluster.drift import Action, DriftKind
from ocisync.model.resource import ObjectId
from tests.contract.test_drift_scenarios import CONFIG_MAP, DEPLOYMENT, replicas, settled
from tests.support.controlplane import ControlPlane
from tests.support.keeper import Keeper, keeping
from tests.support.waiting import eventually


@pytest.fixture
def keeper(control_plane: ControlPlane) -> Iterator[Keeper]:
    with control_plane.namespace("outage") as namespace, keeping(control_plane.kubeconfig, namespace) as started:
        yield started


def test_drift_is_healed_after_the_api_server_was_away(keeper: Keeper, control_plane: ControlPlane) -> None:
    keeper.apply(DEPLOYMENT.format(name="web"))
    keeper.apply(CONFIG_MAP.format(name="settings"))
    web = ObjectId("apps", "Deployment", keeper.namespace, "web")
    eventually(lambda: settled(keeper, web), what="the object is at rest")

    control_plane.stop_apiserver()
    try:
        eventually(lambda: keeper.tracker.problems() != {}, what="the watches notice")
    finally:
        control_plane.start_apiserver()
    control_plane.kubectl("-n", keeper.namespace, "scale", "deployment/web", "--replicas=7")
    control_plane.kubectl("-n", keeper.namespace, "delete", "configmap/settings")

    # What fails while the server is coming up is reported, too, and tried again.
    eventually(lambda: _corrected(keeper, "web"), what="the scale is corrected")
    eventually(lambda: _corrected(keeper, "settings"), what="the deletion is corrected")
    live = keeper.live(web)
    assert live is not None
    assert replicas(live) == 3
    assert keeper.reported("settings")[0].kind is DriftKind.DELETED
    eventually(lambda: keeper.tracker.problems() == {}, what="the watches run again")


def _corrected(keeper: Keeper, name: str) -> bool:
    return any(report.action is Action.CORRECTED for report in keeper.reported(name))


def test_what_happened_while_nobody_watched_is_found_by_the_next_list(
    keeper: Keeper, control_plane: ControlPlane
) -> None:
    keeper.apply(DEPLOYMENT.format(name="web") + "---" + CONFIG_MAP.format(name="settings"), watch=False)
    control_plane.kubectl("-n", keeper.namespace, "scale", "deployment/web", "--replicas=7")
    control_plane.kubectl("-n", keeper.namespace, "delete", "configmap/settings")
    keeper.watches.ensure(keeper.tracker.kinds())
    eventually(lambda: len(keeper.reports) == 2, what="both changes are reported")
    assert {(r.object.name, r.kind) for r in keeper.reports} == {
        ("web", DriftKind.MODIFIED),
        ("settings", DriftKind.DELETED),
    }
