"""How often drift is corrected, suspects are checked and all is audited, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ocisync.cluster.correction import CorrectionReason, Limits
from ocisync.cluster.drift import Action, DriftKind
from ocisync.model.resource import JsonObject, ObjectId
from tests.support.cluster import Cluster
from tests.support.keeper import UNAUDITED, Keeper, PlayedClock, keeping_installed
from tests.support.waiting import eventually

MERGE = "application/merge-patch+json"
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{colour: blue}}\n"
GLOBAL = replace(UNAUDITED, global_burst=3, global_per_s=0.5)
DAY_S = 12
SHORT_DAY = Limits(audit_s=DAY_S, sweep_s=1.0)


class Bench:
    """A keeper that does what is due when it is told to, and others who change what it owns."""

    def __init__(self, cluster: Cluster, keeper: Keeper, clock: PlayedClock) -> None:
        self.cluster, self.keeper, self.clock = cluster, keeper, clock
        self._notes = 0

    def owns(self, *names: str) -> list[ObjectId]:
        """Apply ConfigMaps and wait until the watch has shown them."""
        made = self.keeper.apply("---\n".join(CONFIG_MAP.format(name=name) for name in names))
        eventually(lambda: not self.keeper.tracker.unsynced(), what="the watches have shown everything")
        ids = [desired.id for desired in made]
        for object_id in ids:
            self._shown(object_id, self.live(object_id))
        self.after(0.0)
        assert self.keeper.corrections == []
        return ids

    def live(self, object_id: ObjectId) -> JsonObject:
        live = self.keeper.live(object_id)
        assert live is not None
        return live

    def paint(self, object_id: ObjectId, manager: str = "stubborn") -> None:
        """Drift."""
        self._patch(object_id, {"data": {"colour": "red"}}, manager)

    def note(self, object_id: ObjectId) -> str:
        """What makes a suspect: something that is not ours has moved, on a kind without generations; its version."""
        self._notes += 1
        noted = {"metadata": {"annotations": {f"controller.example/seen-{self._notes}": "yes"}}}
        return str(self._patch(object_id, noted, "some-controller")["metadata"]["resourceVersion"])

    def after(self, seconds: float) -> None:
        """Let time pass, then do what is due."""
        self.clock.seconds += seconds
        self.keeper.tracker.run_due()

    def asked(self, *ids: ObjectId) -> list[CorrectionReason]:
        """The applies so far, of all objects or of some."""
        return [one.reason for one in self.keeper.corrections if not ids or one.desired.id in ids]

    def colours(self, ids: Sequence[ObjectId]) -> set[str]:
        return {self.live(object_id)["data"]["colour"] for object_id in ids}

    def _patch(self, object_id: ObjectId, change: JsonObject, manager: str) -> JsonObject:
        path = self.keeper.discovery.resource("", "ConfigMap").path(object_id.namespace, object_id.name)
        answer = self.cluster.api("PATCH", f"{path}?fieldManager={manager}", change, content_type=MERGE)
        self._shown(object_id, answer)
        return answer

    def _shown(self, object_id: ObjectId, live: JsonObject) -> None:
        version = int(live["metadata"]["resourceVersion"])
        eventually(lambda: self.keeper.tracker.seen(object_id) >= version, what=f"the watch has shown {object_id}")


@pytest.fixture
def bench(apiserver: Cluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """On each server, with the agent's limits or those of the test."""
    limits = getattr(request, "param", UNAUDITED)
    clock = PlayedClock()
    installed = tmp_path if request.node.callspec.params["apiserver"] == "real" else None
    with keeping_installed(
        apiserver.kubeconfig, "limits", installed, limits=limits, clock=clock, serve=False
    ) as keeper:
        yield Bench(apiserver, keeper, clock)


def test_a_suspect_is_checked_six_times_at_once_and_then_once_in_ten_seconds(bench: Bench) -> None:
    suspect, neighbour = bench.owns("suspect", "neighbour")
    for number in range(6):
        bench.note(suspect)
        bench.after(0.0)
        assert bench.asked() == [CorrectionReason.SUSPECT] * (number + 1)
    version = bench.note(suspect)
    bench.note(neighbour)
    bench.after(0.0)
    assert len(bench.asked(suspect)) == 6
    assert bench.asked(neighbour) == [CorrectionReason.SUSPECT], "each object has tokens of its own"
    bench.after(9.9)
    assert len(bench.asked(suspect)) == 6
    bench.after(0.1)
    assert len(bench.asked(suspect)) == 7 and bench.keeper.tracker.idle()
    assert bench.live(suspect)["metadata"]["resourceVersion"] == version, "checks of what is clean write nothing"
    for _ in range(3):  # one check answers for all that happened until then
        bench.note(suspect)
        bench.after(0.0)
    assert len(bench.asked(suspect)) == 7
    bench.after(10.0)
    assert len(bench.asked(suspect)) == 8 and bench.keeper.tracker.idle()
    assert bench.keeper.reports == []


def test_an_object_is_corrected_six_times_at_once_and_then_ever_more_slowly(bench: Bench) -> None:
    fought, neighbour = bench.owns("fought", "neighbour")
    for number in range(6):
        bench.paint(fought)
        bench.after(0.0)
        assert bench.asked() == [CorrectionReason.DRIFT] * (number + 1)
    bench.paint(fought)
    bench.paint(neighbour, "somebody")
    bench.after(0.0)
    assert len(bench.asked(fought)) == 6 and bench.colours([fought]) == {"red"}
    assert bench.asked(neighbour) == [CorrectionReason.DRIFT], "each object has tokens of its own"
    (fight,) = [report for report in bench.keeper.reports if report.kind is DriftKind.FIGHT]
    assert (fight.object, fight.action, fight.attribution.manager) == (fought, Action.DELAYED, "stubborn")
    assert fight.paths == "data.colour"
    for corrections, pause in ((7, 20.0), (8, 40.0), (9, 80.0)):
        bench.after(pause - 0.1)
        assert len(bench.asked(fought)) == corrections - 1
        bench.after(0.1)
        assert len(bench.asked(fought)) == corrections and bench.colours([fought]) == {"blue"}
        bench.paint(fought)
    assert len([report for report in bench.keeper.reports if report.kind is DriftKind.FIGHT]) == 1


@pytest.mark.parametrize("bench", [GLOBAL], indirect=True, ids=["3-at-once-then-1-in-2-s"])
def test_corrections_and_checks_of_all_objects_together_are_limited(bench: Bench) -> None:
    painted = bench.owns(*(f"painted-{number}" for number in range(4)))
    noted = bench.owns(*(f"noted-{number}" for number in range(4)))
    for object_id in painted:
        bench.paint(object_id)
    for object_id in noted:
        bench.note(object_id)
    bench.after(0.0)
    for done in range(3, 8):
        assert len(bench.asked()) == done
        bench.after(1.9)
        assert len(bench.asked()) == done
        bench.after(0.1)
    assert sorted(bench.asked(*painted)) == [CorrectionReason.DRIFT] * 4
    assert sorted(bench.asked(*noted)) == [CorrectionReason.SUSPECT] * 4
    assert bench.keeper.tracker.idle() and bench.colours(painted) == {"blue"}
    assert {report.object for report in bench.keeper.reports} == set(painted)


@pytest.mark.parametrize("bench", [SHORT_DAY], indirect=True, ids=["a-day-of-12-s"])
def test_each_object_gets_one_no_op_apply_a_day_spread_evenly(bench: Bench) -> None:
    ids = bench.owns(*(f"audited-{number}" for number in range(8)))
    before = {one: bench.live(one)["metadata"]["resourceVersion"] for one in ids}
    days = []
    for _ in range(2):
        today: list[tuple[int, ObjectId]] = []
        for second in range(DAY_S):
            done = len(bench.keeper.corrections)
            bench.after(1.0)
            today += [(second, one.desired.id) for one in bench.keeper.corrections[done:]]
        days.append(sorted(today, key=str))
        assert sorted(one.name for _, one in today) == sorted(one.name for one in ids), "each once"
    assert days[0] == days[1], "each has its place in the day"
    assert set(bench.asked()) == {CorrectionReason.AUDIT}
    assert {one: bench.live(one)["metadata"]["resourceVersion"] for one in ids} == before
    assert bench.keeper.reports == []
