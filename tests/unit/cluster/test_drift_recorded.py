"""The drift rule on objects that a real API server wrote, recorded around each scenario of the contract test."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tests
from ocisync.cluster.correction import CorrectionReason
from ocisync.cluster.corrector import compare
from ocisync.cluster.drift import DriftKind, Verdict, attribute, judge, judge_look, unmanaged_fields
from ocisync.cluster.fields import render
from ocisync.cluster.memory import applied_of, seen_of
from ocisync.model.resource import JsonObject, id_of
from tests.contract.test_drift_scenarios import SCENARIOS, Scenario

RECORDED: dict[str, JsonObject] = json.loads(
    (Path(tests.__file__).parent / "assets" / "managedfields" / "recorded.json").read_text()
)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def expected(scenario: Scenario) -> Verdict:
    special = {
        DriftKind.LABEL_REMOVED: Verdict.LABEL_REMOVED,
        DriftKind.CLAIMED: Verdict.CLAIMED,
        DriftKind.DELETED: Verdict.DELETED,
    }
    if scenario.kind in special:
        return special[scenario.kind]
    if scenario.asked == (CorrectionReason.DRIFT,):
        return Verdict.DRIFT
    return Verdict.SUSPECT if scenario.asked else Verdict.IGNORE


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_recorded_changes_are_judged_and_attributed_as_on_the_server(scenario: Scenario) -> None:
    recorded = RECORDED[scenario.name]
    sync, desired, after = recorded["sync"], recorded["desired"], recorded["after"]
    applied = applied_of(recorded["before"])
    looks = scenario.kind in {DriftKind.LABEL_REMOVED, DriftKind.DELETED}
    look = judge_look(applied, after, sync_id=sync)
    judgement = look if looks else judge(applied, "MODIFIED", after, sync_id=sync)
    assert judgement.verdict is expected(scenario)
    if scenario.kind is DriftKind.UNMANAGED:
        paths, by = unmanaged_fields(seen_of(after), applied.owned_paths())
        assert tuple(render(path) for path in paths) == scenario.fields
        assert [entry.manager for entry in by] == [scenario.manager]
    elif scenario.kind is not None:
        attribution = attribute(judgement, NOW)
        assert (attribution.manager, attribution.subresource) == (scenario.manager, scenario.subresource)
        assert attribution.time_source is scenario.time
    if scenario.kind is DriftKind.MODIFIED:
        changes = compare(desired, applied, judgement, after, id_of(desired))
        assert tuple(change.path for change in changes) == scenario.fields
        assert scenario.change in {("", ""), (changes[0].old, changes[0].new)}


def test_metadata_alone_is_judged_the_same_as_the_whole_object() -> None:
    for recorded in RECORDED.values():
        after = recorded["after"]
        if after is None:
            continue
        applied = applied_of(recorded["before"])
        partial = {"kind": "PartialObjectMetadata", "metadata": after["metadata"]}
        whole = judge(applied, "MODIFIED", after, sync_id=recorded["sync"])
        assert judge(applied, "MODIFIED", partial, sync_id=recorded["sync"]) == whole
