"""When and how the record of drift is written: at once, then in batches, never at rest, nothing lost on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ocisync.agent.driftlog import DriftLog
from ocisync.agent.metrics import Metrics
from ocisync.cluster.drift import Action, Attribution, DriftKind, DriftReport, FieldChange, TimeSource
from ocisync.cluster.driftrecord import DriftRecords, record_name
from ocisync.kit.stop import StopToken
from ocisync.model.errors import AccessDenied
from ocisync.model.resource import ObjectId
from tests.unit.agent.fakes import FakeClock, FakeCluster

BY = Attribution("kubectl", "Update", "", "2026-11-23T12:00:00Z", TimeSource.ENTRY)


def report(name: str = "web", action: Action = Action.CORRECTED) -> DriftReport:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    change = FieldChange("spec.replicas", "3", "10", "kubectl")
    about = ObjectId("apps", "Deployment", "shop", name)
    return DriftReport(DriftKind.MODIFIED, "id", about, (change,), BY, action, "", seen_at=now)


class Shelf:
    """ConfigMaps of the agent's namespace, with versions."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.version = 0
        self.refuse = 0
        self.race = False
        self.cluster = FakeCluster(self._answer)
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.records = DriftRecords(self.cluster, "system")
        self.log = DriftLog(self.records, self.clock, self.metrics)

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuse:
            return self.refuse, {"message": "no"}
        name = body["metadata"]["name"] if body else path.rpartition("/")[2]
        if method == "DELETE":
            return (200, {}) if self.kept.pop(name, None) else (404, {})
        if method == "GET":
            return (200, self.kept[name]) if name in self.kept else (404, {})
        if self.race:
            self.race = False
            self._store(name, {**body, "data": {"drift": ""}})
        found = self.kept.get(name)
        if method == "POST" and found:
            return 409, {}
        if method == "PUT" and (
            not found or found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]
        ):
            return 409, {}
        return 200, self._store(name, body)

    def _store(self, name: str, body: Any) -> Any:
        self.version += 1
        self.kept[name] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.kept[name]

    def names(self, sync: str = "apps/shop") -> list[str]:
        return [entry["object"]["name"] for entry in self.records.read(sync).entries]

    def asked(self) -> list[str]:
        found = [method for method, _, _ in self.cluster.asked]
        self.cluster.asked.clear()
        return found


def test_the_first_entry_is_written_at_once_and_further_ones_together() -> None:
    shelf = Shelf()
    shelf.log.add("apps/shop", report("a"))
    shelf.log.write_due()
    assert shelf.asked() == ["GET", "POST"]
    shelf.log.add("apps/shop", report("b"))
    shelf.log.add("apps/shop", report("c"))
    shelf.log.write_due()
    assert shelf.asked() == []  # five seconds have not passed
    shelf.clock.passed += 5
    shelf.log.write_due()
    assert shelf.asked() == ["GET", "PUT"]
    assert shelf.names() == ["a", "b", "c"]


def test_at_rest_nothing_is_asked() -> None:
    shelf = Shelf()
    shelf.log.add("apps/shop", report())
    shelf.log.write_due()
    shelf.asked()
    shelf.clock.passed += 3600
    shelf.log.write_due()
    assert shelf.asked() == []


def test_what_another_wrote_meanwhile_is_kept() -> None:
    shelf = Shelf()
    shelf.log.add("apps/shop", report("a"))
    shelf.race = True
    shelf.log.write_due()
    assert shelf.asked() == ["GET", "POST", "GET", "PUT"]
    assert shelf.names() == ["a"]


def test_an_agent_that_starts_adds_to_the_record_of_the_one_before() -> None:
    shelf = Shelf()
    shelf.log.add("apps/shop", report("a"))
    shelf.log.write_due()
    successor = DriftLog(shelf.records, shelf.clock, shelf.metrics)
    successor.add("apps/shop", report("b"))
    successor.write_due()
    assert shelf.names() == ["a", "b"]


@pytest.mark.parametrize("status", [403, 500])
def test_what_cannot_be_written_waits_and_is_tried_less_and_less_often(status: int) -> None:
    shelf = Shelf()
    shelf.refuse = status
    for name in ("a", "b"):
        shelf.log.add("apps/shop", report(name))
    shelf.log.write_due()
    tries = 0
    for _ in range(120):
        shelf.clock.passed += 1
        shelf.log.write_due()
        tries += len(shelf.asked())
    assert 3 <= tries <= 6
    shelf.refuse = 0
    shelf.clock.passed += 60
    shelf.log.write_due()
    assert shelf.names() == ["a", "b"]


def test_of_too_many_the_oldest_go_and_are_counted() -> None:
    shelf = Shelf()
    shelf.refuse = 500
    for number in range(503):
        shelf.log.add("apps/shop", report(f"web-{number}"))
    shelf.refuse = 0
    shelf.log.write_due()
    assert shelf.names()[-1] == "web-502"
    assert "ocisync_drift_record_dropped_total 3" in shelf.metrics.render()


def test_open_drift_is_a_gauge() -> None:
    shelf = Shelf()
    shelf.log.add("apps/shop", report("a", Action.REPORTED))
    shelf.log.write_due()
    assert 'ocisync_drift_open{sync="apps/shop"} 1' in shelf.metrics.render()
    shelf.log.add("apps/shop", report("a", Action.ENDED))
    shelf.log.write_due(hurry=True)
    assert 'ocisync_drift_open{sync="apps/shop"} 0' in shelf.metrics.render()


def test_the_record_of_a_sync_that_is_gone_goes() -> None:
    shelf = Shelf()
    for sync in ("apps/shop", "apps/other"):
        shelf.log.add(sync, report())
    shelf.log.write_due()
    shelf.log.forget("apps/shop")
    shelf.log.write_due()
    assert set(shelf.kept) == {record_name("apps/other")}


def test_a_stop_writes_what_still_waits() -> None:
    shelf = Shelf()
    stop = StopToken()
    shelf.log.add("apps/shop", report("a"))
    shelf.log.write_due()
    shelf.log.add("apps/shop", report("b"))
    stop.stop()
    shelf.log.wake()
    shelf.log.run(stop)
    assert shelf.names() == ["a", "b"]


def test_a_damaged_record_is_begun_anew() -> None:
    shelf = Shelf()
    shelf.log.add("apps/shop", report("a"))
    shelf.log.write_due()
    shelf.kept[record_name("apps/shop")]["data"] = {"drift": "{nonsense\n[]\n{}"}
    shelf.log.add("apps/shop", report("b"))
    shelf.log.write_due(hurry=True)
    assert shelf.names() == ["b"]


def test_whoever_may_not_read_the_record_is_told_so() -> None:
    shelf = Shelf()
    shelf.refuse = 403
    with pytest.raises(AccessDenied, match="drift record in system"):
        shelf.records.read("apps/shop")


def test_a_correction_is_in_the_histogram_with_its_class_of_manager() -> None:
    from tests.unit.agent.test_reports import told

    _, metrics = told(replace(report(), latency_s=0.2))
    text = metrics.render()
    assert 'ocisync_drift_correction_seconds_bucket{sync="apps/shop",le="0.1"} 0' in text
    assert 'ocisync_drift_correction_seconds_bucket{sync="apps/shop",le="0.25"} 1' in text
    assert 'ocisync_drift_correction_seconds_bucket{sync="apps/shop",le="+Inf"} 1' in text
    assert 'manager_class="kubectl"' in text
