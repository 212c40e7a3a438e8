"""What happened while a watch was broken is found by what comes after, and judged by the same rules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocisync.cluster.client import Cluster as Connection
from ocisync.cluster.correction import CorrectionReason
from ocisync.cluster.drift import Action, DriftKind
from ocisync.model.resource import JsonObject, ObjectId
from tests.contract.test_drift_rules import CONFIG_MAP, DEPLOYMENT, Scene
from tests.support.cluster import Cluster
from tests.support.keeper import keeping_installed
from tests.support.waiting import eventually
from tests.support.watchline import WatchLine

LABEL = "applyset.kubernetes.io/part-of"
NAMES = ("painted", "deleted", "replaced", "stripped", "claimed", "noted", "untouched")


@pytest.fixture
def installed(apiserver: Cluster, request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the keeper gets an account of its own; the sandbox has none."""
    return tmp_path if request.node.callspec.params["apiserver"] == "real" else None


@contextlib.contextmanager
def watched_through(cluster: Cluster, installed: Path | None) -> Iterator[tuple[Scene, WatchLine]]:
    """A keeper on a server, and the line that it watches through."""
    lines: list[WatchLine] = []

    def through(connection: Connection) -> WatchLine:
        lines.append(WatchLine(connection))
        return lines[0]

    with keeping_installed(cluster.kubeconfig, "gap", installed, through=through) as keeper:
        yield Scene(cluster, keeper), lines[0]


def disturb(scene: Scene, ids: dict[str, ObjectId]) -> None:
    """Everything that others can do to objects, once each."""
    scene.paint(ids["painted"], "red", "by-hand")
    scene.cluster.api("DELETE", scene.path(ids["deleted"]))
    scene.cluster.api("DELETE", scene.path(ids["replaced"]))
    body: JsonObject = {"metadata": {"name": "replaced"}, "data": {"colour": "green"}}
    collection = scene.path(ids["replaced"]).rpartition("/")[0]
    scene.cluster.api("POST", f"{collection}?fieldManager=kubectl-create", body)
    scene.patch(ids["stripped"], {"metadata": {"labels": {LABEL: None}}})
    scene.patch(ids["claimed"], {"metadata": {"labels": {LABEL: "applyset-other-v1"}}}, "other-tool")
    scene.patch(ids["noted"], {"metadata": {"annotations": {"controller.example/seen": "yes"}}}, "some-controller")
    scene.patch(ids["scaled"], {"spec": {"replicas": 9}}, "by-hand")


@pytest.mark.parametrize("forgotten", [True, False], ids=["410-gone", "connection-lost"])
def test_what_changed_in_a_gap_of_the_watch_is_judged_by_the_same_rules(
    apiserver: Cluster, installed: Path | None, forgotten: bool
) -> None:
    with watched_through(apiserver, installed) as (scene, line):
        keeper = scene.keeper
        manifests = [*(CONFIG_MAP.format(name=name) for name in NAMES), DEPLOYMENT.format(name="scaled")]
        ids = {desired.id.name: desired.id for desired in keeper.apply("---\n".join(manifests))}
        eventually(lambda: not keeper.tracker.unsynced(), what="the watches have shown everything")
        for object_id in ids.values():
            scene.rest(object_id)
        assert (keeper.corrections, keeper.reports) == ([], [])
        line.cut()
        disturb(scene, ids)
        assert (keeper.corrections, keeper.reports) == ([], []), "nobody sees anything"
        line.mend(forgotten=forgotten)
        told = {name: scene.reported(ids[name])[0] for name in ids if name not in {"noted", "untouched"}}
        eventually(lambda: scene.asked(ids["noted"]) == [CorrectionReason.SUSPECT], what="the suspect is checked")
        for object_id in ids.values():
            scene.rest(object_id)
        assert {name: (report.kind, report.action) for name, report in told.items()} == {
            "painted": (DriftKind.MODIFIED, Action.CORRECTED),
            "deleted": (DriftKind.DELETED, Action.CORRECTED),
            "replaced": (DriftKind.REPLACED, Action.CORRECTED),
            "stripped": (DriftKind.LABEL_REMOVED, Action.CORRECTED),
            "claimed": (DriftKind.CLAIMED, Action.REPORTED),
            "scaled": (DriftKind.MODIFIED, Action.CORRECTED),
        }
        painted, scaled = told["painted"], told["scaled"]
        assert [(c.old, c.new, c.manager) for c in painted.fields] == [("blue", "red", "by-hand")]
        assert [(c.path, c.old, c.new, c.manager) for c in scaled.fields] == [("spec.replicas", "3", "9", "by-hand")]
        assert told["claimed"].attribution.manager == "other-tool"
        assert len(keeper.reports) == len(told) and scene.asked(ids["untouched"]) == scene.asked(ids["claimed"]) == []
        for name in NAMES:
            live = keeper.live(ids[name])
            assert live is not None and live["data"]["colour"] == "blue"
            owner = "applyset-other-v1" if name == "claimed" else keeper.sync_id
            assert live["metadata"]["labels"][LABEL] == owner
        assert line.begun["expired"] == (2 if forgotten else 0)
        assert bool(line.begun["listed"]) is forgotten and bool(line.begun["resumed"]) is not forgotten


def test_a_list_that_went_back_in_time_asks_for_a_full_pass_and_nothing_is_made_or_deleted_by_it(
    apiserver: Cluster, installed: Path | None
) -> None:
    with watched_through(apiserver, installed) as (scene, line):
        keeper = scene.keeper
        kept, anew = scene.owns(CONFIG_MAP, "kept"), scene.owns(CONFIG_MAP, "anew")
        collection = scene.path(kept).rpartition("/")[0]
        moment = int(apiserver.api("GET", collection)["metadata"]["resourceVersion"])
        # Later than that: a new revision, another uid, one object more. Of all that the backup knows nothing.
        keeper.apply(CONFIG_MAP.format(name="kept").replace("blue", "green"))
        apiserver.api("DELETE", scene.path(anew))
        assert [report.kind for report in scene.reported(anew)] == [DriftKind.DELETED]
        young = scene.owns(CONFIG_MAP, "young")
        before = {one: scene.rest(one)["metadata"] for one in (kept, anew, young)}
        done = len(keeper.corrections)
        assert not keeper.tracker.begins_anew(keeper.sync_id)
        line.cut()
        line.mend(forgotten=True, moment=moment)
        eventually(lambda: keeper.tracker.begins_anew(keeper.sync_id), what="the sync is told to begin anew")
        eventually(lambda: keeper.tracker.idle(kept) and len(keeper.corrections) > done, what="what it has is proven")
        for one, metadata in before.items():
            live = keeper.live(one)
            assert live is not None
            assert (live["metadata"]["uid"], live["metadata"]["resourceVersion"]) == (
                metadata["uid"],
                metadata["resourceVersion"],
            )
        assert {one.desired.id for one in keeper.corrections[done:]} <= {kept, anew}
        assert scene.asked(young) == [], "what such a list lacks is not missing"
