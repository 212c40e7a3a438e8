"""The record of drift: what one more report makes of it, whatever is in it already."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.cluster.drift import Action, Attribution, DriftKind, DriftReport, FieldChange, TimeSource
from ocisync.cluster.driftrecord import Entry, entry_of, fold, is_open, object_of, read_lines, write_lines
from ocisync.model.limits import DRIFT_RECORD_BYTES, DRIFT_RECORD_ENTRIES
from ocisync.model.resource import ObjectId
from ocisync.model.spec import DriftMode

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BY = Attribution("kubectl", "Update", "scale", "2026-11-23T12:00:00Z", TimeSource.SEEN)


def report(
    name: str = "web",
    action: Action = Action.CORRECTED,
    kind: DriftKind = DriftKind.MODIFIED,
    *,
    after_s: float = 0.0,
    new: str = "10",
    path: str = "spec.replicas",
    manager: str = "kubectl",
) -> Entry:
    at = T0 + timedelta(seconds=after_s)
    done = at + timedelta(seconds=0.25) if action is Action.CORRECTED else None
    one = DriftReport(
        kind, "id", ObjectId("apps", "Deployment", "shop", name), (FieldChange(path, "3", new, manager),),
        replace(BY, manager=manager), action, f"{name} was scaled", DriftMode.CORRECT, "web.yaml:1", at, done,
        0.25 if done else None,
    )  # fmt: skip
    return entry_of(one)


def history(*entries: Entry) -> list[Entry]:
    found: list[Entry] = []
    for entry in entries:
        found = fold(found, entry)
    return found


def test_an_entry_has_object_fields_manager_times_mode_and_outcome() -> None:
    entry = report()
    assert object_of(entry) == ObjectId("apps", "Deployment", "shop", "web")
    assert entry["fields"] == [{"path": "spec.replicas", "old": "3", "new": "10", "manager": "kubectl"}]
    assert (entry["manager"], entry["subresource"], entry["changedAt"]) == ("kubectl", "scale", BY.time)
    assert (entry["seenAt"], entry["correctedAt"]) == ("2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00.250Z")
    assert (entry["latencySeconds"], entry["mode"], entry["place"]) == (0.25, "Correct", "web.yaml:1")
    assert "message" not in entry and not is_open(entry)


def test_credentials_in_values_do_not_get_in() -> None:
    entry = report(new="https://robot:hunter2@registry.example/")
    assert "hunter2" not in json.dumps(entry)


@pytest.mark.parametrize("action", [Action.REPORTED, Action.FAILED, Action.DELAYED])
def test_what_is_not_corrected_is_open_until_it_is_over(action: Action) -> None:
    found = history(report(action=action))
    assert is_open(found[0]) and found[0]["message"]
    ended = fold(found, report(action=Action.ENDED, after_s=60))
    assert len(ended) == 1 and not is_open(ended[0]) and ended[0]["endedAt"] == "2026-11-23T12:01:00.000Z"


def test_a_correction_that_failed_at_first_is_one_entry() -> None:
    found = history(report(action=Action.FAILED), report(after_s=4))
    assert len(found) == 1
    assert found[0]["action"] == "Corrected" and found[0]["correctedAt"] == "2026-11-23T12:00:04.250Z"
    assert found[0]["message"]  # why it failed at first


def test_the_end_of_foreign_fields_leaves_other_drift_open() -> None:
    sidecar = report(action=Action.REPORTED, kind=DriftKind.UNMANAGED, path="spec.hostNetwork")
    found = history(report(action=Action.REPORTED), sidecar)
    found = fold(found, report(action=Action.ENDED, kind=DriftKind.UNMANAGED))
    assert [is_open(entry) for entry in found] == [True, False]
    found = fold(history(report(action=Action.REPORTED), sidecar), report(action=Action.ENDED))
    assert [is_open(entry) for entry in found] == [False, True]


def test_what_is_known_and_still_so_is_not_said_twice() -> None:
    assert len(history(report(action=Action.REPORTED), report(action=Action.REPORTED, after_s=30))) == 1
    found = history(report(action=Action.REPORTED), report(action=Action.REPORTED, new="11", after_s=9))
    assert [is_open(entry) for entry in found] == [False, True] and found[0]["followed"]


def test_a_fight_over_one_object_is_counted_and_does_not_push_out_the_others() -> None:
    found = history(report("calm"), *(report(after_s=n) for n in range(100)))
    assert [entry["object"]["name"] for entry in found] == ["calm", "web", "web", "web"]
    assert found[-1]["count"] == 98
    assert found[-1]["firstSeenAt"] == "2026-11-23T12:00:02.000Z"
    assert found[-1]["seenAt"] == "2026-11-23T12:01:39.000Z"


def test_equal_changes_hours_apart_stay_apart() -> None:
    assert len(history(*(report(after_s=3600 * n) for n in range(10)))) == 10


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 400), st.sampled_from(list(Action))), max_size=25))
def test_a_record_is_bounded_whatever_happens_and_reads_back_equal(steps: list[tuple[int, int, Action]]) -> None:
    found: list[Entry] = []
    for number, (name, size, action) in enumerate(steps):
        before = [dict(entry) for entry in found]
        after = fold(found, report(f"web-{name}", action, after_s=number * 400, path=f"spec.{'x' * size}"))
        assert [dict(entry) for entry in found] == before
        found = after
    text = write_lines(found)
    assert len(text.encode()) <= DRIFT_RECORD_BYTES and len(found) <= DRIFT_RECORD_ENTRIES
    assert read_lines(text) == found


def test_the_oldest_entries_go_first() -> None:
    found = history(*(report(f"web-{n}", path="spec." + "x" * 190) for n in range(300)))
    assert found[-1]["object"]["name"] == "web-299" and len(found) <= DRIFT_RECORD_ENTRIES
    assert len(write_lines(found).encode()) <= DRIFT_RECORD_BYTES


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.one_of(st.text(max_size=60), _JSON.map(json.dumps)), max_size=8), _JSON, _JSON)
def test_whatever_stands_in_a_record_is_survived(lines: list[str], fields: Any, about: Any) -> None:
    odd = {"object": {"group": about}, "fields": [fields, {"path": about}], "action": fields, "count": about}
    found = read_lines("\n".join([*lines, json.dumps(odd)]))
    for entry in found:
        is_open(entry), object_of(entry)
    assert fold(found, report())[-1]["action"] == "Corrected"
