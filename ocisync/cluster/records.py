"""The tracker's memory: a lean record for each owned object, and more only while something happens to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from ocisync.cluster.buckets import TokenBucket
from ocisync.cluster.correction import Limits
from ocisync.cluster.drift import FieldChange, Judgement
from ocisync.cluster.health import CURRENT, NOT_FOUND, Health, progressing
from ocisync.cluster.health_checks import HealthRule
from ocisync.cluster.memory import Applied, Seen, seen_of
from ocisync.cluster.normalise import Desired
from ocisync.model.clock import Clock
from ocisync.model.resource import JsonObject

NOT_SEEN = progressing("waiting for its first status")


def decoded(desired: Desired) -> JsonObject:
    """The desired object."""
    value: JsonObject = json.loads(desired.payload())
    return value


class Task(IntEnum):
    """What is to be done for an object."""

    NONE = 0
    CHECK = 1  # one no-op apply
    LOOK = 2  # one GET, then judge
    CORRECT = 3


@dataclass(frozen=True, slots=True)
class Early:
    """What a watch showed of an object before it was known here, judged by `rule`; `sync_id` is whose label it has."""

    sync_id: str
    event_type: str
    seen: Seen
    health: Health
    rule: HealthRule

    @classmethod
    def of(cls, sync_id: str, event_type: str, obj: JsonObject, rule: HealthRule) -> Early:
        """Keep the little that will be needed."""
        state = NOT_FOUND if event_type == "DELETED" else rule(obj)
        return cls(sync_id, event_type, replace(seen_of(obj), entries=()), state, rule)


class Record:
    """One owned object at rest.

    `shown` is the watch round that showed it last, `version` the newest resourceVersion seen, `passed` the pass that
    applied it last, `claimant` whose label it carries if not ours; `foreign` and `told` are digests of what was
    reported already.
    """

    __slots__ = (
        "applied",
        "claimant",
        "desired",
        "foreign",
        "health",
        "health_version",
        "passed",
        "shown",
        "slot",
        "sync_id",
        "told",
        "version",
        "whole",
    )

    def __init__(self, sync_id: str, desired: Desired, applied: Applied, slot: int, *, whole: bool) -> None:
        self.sync_id = sync_id
        self.desired = desired
        self.applied = applied
        self.slot = slot
        self.foreign = b""
        self.claimant = ""
        self.told = b""
        self.passed = 0
        self.shown = 0
        self.version = 0
        self.whole = whole
        self.health: Health = NOT_SEEN if whole else CURRENT
        self.health_version = 0

    def current_health(self) -> Health:
        """The health; what was seen before our last apply does not count."""
        if self.whole and self.health_version < self.applied.resource_version:
            return NOT_SEEN
        return self.health


class Activity:
    """What happens to one object: the task that waits, its evidence, and how often this has happened lately."""

    __slots__ = (
        "audit",
        "busy",
        "changes",
        "checks",
        "corrections",
        "deferred",
        "deletion",
        "due",
        "failures",
        "fights",
        "hold_until",
        "judgement",
        "seen_at",
        "seen_s",
        "task",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.corrections = TokenBucket(limits.object_burst, limits.object_every_s, now)
        self.checks = TokenBucket(limits.object_burst, limits.object_every_s, now)
        self.task = Task.NONE
        self.due = 0.0
        self.hold_until = 0.0
        self.busy = False
        self.audit = False
        self.fights = 0
        self.failures = 0
        self.judgement: Judgement | None = None
        self.changes: tuple[FieldChange, ...] | None = None
        self.deletion = ""
        self.seen_at: datetime | None = None
        self.seen_s = now
        self.deferred: tuple[str, Seen] | None = None

    def saw(self, clock: Clock) -> None:
        """What waits was seen now."""
        self.seen_at, self.seen_s = clock.now(), clock.monotonic()

    def idle(self, now: float, quiet_s: float) -> bool:
        """Whether it can be forgotten."""
        return (
            self.task is Task.NONE
            and not self.busy
            and self.deferred is None
            and now > self.hold_until + quiet_s
            and self.corrections.full(now)
            and self.checks.full(now)
        )
