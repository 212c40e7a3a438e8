from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocisync.agent.status import merge_patch, next_status
from ocisync.flows.outcome import ArtifactFacts, Done, Facts, HealthFacts, ObjectFailure, Stalled, Waiting
from ocisync.model.spec import SyncSpec, parse_sync

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ONE = ArtifactFacts("production", "sha256:" + "1" * 64, "main@sha1:1", ("ci",))
TWO = ArtifactFacts("production", "sha256:" + "2" * 64, "main@sha1:2", ("ci",))


def spec(**annotations: str) -> SyncSpec:
    metadata = {"name": "shop", "namespace": "apps", "uid": "u", "generation": 3, "annotations": annotations}
    return parse_sync(
        {"metadata": metadata, "spec": {"source": {"repository": "registry.example/shop", "tag": "production"}}}
    )


def facts(artifact: ArtifactFacts = ONE, **more: Any) -> Facts:
    health = HealthFacts(healthy=True, message="ok", ready=2, total=2)
    return Facts(source=artifact, applied=artifact, attempted=artifact, health=health, objects=2, **more)


def test_an_idle_poll_leaves_the_status_as_it_is() -> None:
    first = next_status({"observedGeneration": -1}, Done("applied", facts()), spec(), NOW)
    later = next_status(first, Done("applied", facts()), spec(), NOW + timedelta(days=1))
    assert later == first
    assert merge_patch(first, later) == {}


def test_history_has_the_newest_first_and_at_most_ten() -> None:
    status: dict[str, Any] = {}
    for number in range(15):
        artifact = ArtifactFacts("production", f"sha256:{number:064}", f"main@sha1:{number}")
        status = next_status(status, Done("applied", facts(artifact)), spec(), NOW)
    assert [item["revision"] for item in status["history"]] == [f"main@sha1:{n}" for n in range(14, 4, -1)]


def test_an_artifact_that_becomes_healthy_later_turns_succeeded() -> None:
    waiting = next_status({}, Waiting("Progressing", "1 of 2", 5, facts()), spec(), NOW)
    assert waiting["history"][0]["outcome"] == "Applied"
    done = next_status(waiting, Done("applied", facts()), spec(), NOW)
    assert [item["outcome"] for item in done["history"]] == ["Succeeded"]


def test_a_refused_artifact_enters_neither_applied_nor_history() -> None:
    first = next_status({}, Done("applied", facts(ONE)), spec(), NOW)
    refused = Facts(source=TWO, applied=ONE, attempted=TWO)
    status = next_status(first, Stalled("Unsigned", "no signature", refused), spec(), NOW)
    assert status["applied"]["digest"] == ONE.digest
    assert status["lastAttempted"]["digest"] == TWO.digest
    assert len(status["history"]) == 1


def test_failures_are_cut_to_twenty_and_vanish_when_healed() -> None:
    failures = tuple(ObjectFailure(f"ConfigMap a/{n}", "a.yaml:1", "Permanent", "no") for n in range(30))
    broken = next_status({}, Stalled("ApplyFailed", "no", facts(failures=failures)), spec(), NOW)
    assert len(broken["failures"]) == 20
    healed = next_status(broken, Done("applied", facts()), spec(), NOW)
    assert merge_patch(broken, healed)["failures"] is None


def test_a_request_is_acknowledged() -> None:
    status = next_status({}, Done("applied", facts()), spec(**{"ocisync.dev/requestedAt": "now"}), NOW)
    assert status["lastHandledReconcileAt"] == "now"


KEYS = st.sampled_from("abc")
LEAVES = st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2)
OBJECTS = st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES, max_size=2)))


def apply(target: Any, patch: Any) -> Any:
    """RFC 7386, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_turns_one_status_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert apply(before, merge_patch(before, after)) == after
