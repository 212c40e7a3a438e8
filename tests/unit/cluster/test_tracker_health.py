"""Health as the tracker keeps it: by the sync's own rule, seen anew when that changes, and what waves wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ocisync.cluster.health import HealthStatus
from ocisync.cluster.health_checks import compiled
from ocisync.cluster.memory import applied_of
from ocisync.cluster.normalise import Desired
from ocisync.cluster.watch import GroupKind
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import HealthCheck
from tests.unit.cluster.objects import SYNC, desired, live, ours
from tests.unit.cluster.test_tracker import KIND, RULES, WEB, World

ANY_REPLICA = compiled((HealthCheck("spec.wait.checks[0]", "apps", "Deployment", "status.replicas > 0", ""),))
JOBS = GroupKind("batch", "Job")
MIGRATION = ObjectId("batch", "Job", "shop", "migration")


def shown(version: int = 11, **status: Any) -> JsonObject:
    return {**live(ours(), version=version), "status": {"observedGeneration": 10, **status}}


def job(version: int, **status: Any) -> JsonObject:
    made = {**live(ours(), version=version, name="migration"), "apiVersion": "batch/v1", "kind": "Job", "spec": {}}
    return {**made, "status": status}


def of_job() -> Desired:
    return replace(desired(), id=MIGRATION)


def test_a_syncs_own_rule_tells_the_health_of_its_objects() -> None:
    world = World()
    world.tracker.set_sync(replace(RULES, health=ANY_REPLICA))
    world.owns()
    world.event(shown(replicas=1))
    assert world.tracker.health(SYNC).healthy
    world.event(shown(12, replicas=0))
    assert "spec.wait.checks[0].current is false" in world.tracker.health(SYNC).message()


def test_with_another_rule_what_was_seen_before_counts_no_more_until_it_is_shown_again() -> None:
    world = World()
    world.owns()
    world.event(shown(replicas=1))
    assert not world.tracker.health(SYNC).healthy
    assert world.tracker.set_sync(replace(RULES, health=ANY_REPLICA)) == {KIND}
    assert "waiting for its first status" in world.tracker.health(SYNC).message()
    world.event(shown(replicas=1), "ADDED")
    assert world.tracker.health(SYNC).healthy
    assert world.tracker.set_sync(replace(RULES, health=ANY_REPLICA)) == frozenset()


def test_a_job_that_runs_is_healthy_and_what_comes_after_it_waits_for_its_end() -> None:
    world = World()
    world.tracker.applied(SYNC, of_job(), applied_of(job(10)))
    world.event(job(11, startTime="t"), kind=JOBS)
    assert world.tracker.health(SYNC).healthy
    before = world.tracker.unfinished(SYNC, [MIGRATION])
    assert before.status is HealthStatus.IN_PROGRESS and "0 of 1 pods of the job succeeded" in before.message()
    ended = {"startTime": "t", "conditions": [{"type": "Complete", "status": "True"}]}
    world.event(job(12, **ended), kind=JOBS)
    assert world.tracker.unfinished(SYNC, [MIGRATION]).healthy


def test_what_is_not_there_is_not_waited_for() -> None:
    assert World().tracker.unfinished(SYNC, [WEB]).healthy
