"""The course of one pass: what it tries, when it ends early, and when what it left undone is tried again.

A pass after a start or under another spec tries everything. Every other one tries what has changed: an object whose
content is the one applied last, and that the watches have shown untouched since, costs no request. One that continues
an earlier pass over the same artifact also waits until what failed is due (`retries`), unless a person asked for it.
Between two waves the health of the first is asked, if the spec has `wait`; a pass never sits waiting for it: it ends,
and a change of health wakes the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ocisync.cluster.apply import Action
from ocisync.cluster.engine import ApplyReport
from ocisync.cluster.execute import Conduct
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Desired, Prepared
from ocisync.flows.memory import Enforced
from ocisync.flows.offer import offer
from ocisync.flows.retries import SLOWEST_S, Retry, next_due, noted, postponed
from ocisync.flows.situation import Situation
from ocisync.kit.backoff import jittered
from ocisync.model.errors import OcisyncError
from ocisync.model.resource import ObjectId
from ocisync.model.spec import SelectorKind

SCHEMA_LOOK_S: Final = SLOWEST_S
_FIRST_SCHEMA_LOOK_S: Final = 30.0


class Course:
    """For one pass over one digest."""

    def __init__(self, situation: Situation, digest: str) -> None:
        last = situation.memory.enforced
        if last is not None and last.generation != situation.spec.generation:
            last = None
        self._s = situation
        self._last = last
        self._continues = last is not None and last.facts.digest == digest and not situation.asked
        self._wanted: Mapping[ObjectId, Desired] = {}
        self._retries: Mapping[ObjectId, Retry] = last.retries if last is not None and self._continues else {}

    def conduct(self, prepared: Prepared) -> Conduct:
        """What the engine is told."""
        self._release(prepared)
        self._wanted = {one.id: one for one in prepared.desired}
        return Conduct(
            postponed=postponed(self._retries, self._s.ports.clock.monotonic()),
            settled=self._settled,
            gate=self._gate if self._s.spec.waits else None,
            superseded=self._superseded,
        )

    def note(self, enforced: Enforced, prepared: Prepared, report: ApplyReport) -> None:
        """Remember what is left to do, and when."""
        now = self._s.ports.clock.monotonic()
        tried = report.results
        if report.superseded:
            tried = tuple(item for item in tried if item.failure is None or item.failure.reason != "Stopped")
        enforced.retries = noted(self._retries, tried, now=now, interval_s=self._s.spec.retry_interval_s)
        enforced.unsettled = frozenset(item.id for item in report.results if item.failure is not None)
        if report.gated:
            waiting = {item.id for item in report.results if item.action is Action.SKIPPED}
            enforced.gate = frozenset(one.id for one in prepared.desired if one.id not in waiting)
        if any(math.isinf(retry.due) for retry in enforced.retries.values()):
            enforced.schemas = self._s.ports.engine.schemas()

    def _settled(self, object_id: ObjectId) -> Applied | None:
        if self._last is None or object_id in self._last.unsettled:
            return None
        wanted = self._wanted[object_id]
        if wanted.left and not self._continues:
            return None  # what others hold of it by now decides what is applied
        return self._s.ports.tracker.untouched(self._s.target.sync_id, wanted)

    def _gate(self, so_far: frozenset[ObjectId]) -> str:
        return unhealthy(self._s, so_far)

    def _superseded(self) -> bool:
        """Whether the spec is another one, a person asks, or (when a poll is due) the tag leads elsewhere."""
        if self._s.ports.superseded(self._s.spec):
            return True
        memory, source, now = self._s.memory, self._s.spec.source, self._s.ports.clock.monotonic()
        if source.kind is SelectorKind.DIGEST or now < memory.poll_at:
            return False
        memory.poll_at = now + jittered(source.interval_s, self._s.ports.rng)
        try:
            found = offer(self._s.open(), source)
        except OcisyncError:
            return False
        moved = memory.offered is not None and found.digest != memory.offered.digest
        if moved:
            memory.poll_at = 0.0  # so that the next pass sees it, too
        return moved

    def _release(self, prepared: Prepared) -> None:
        """What was refused for good is tried once more when the server's schema of its kind is another one."""
        last = self._last
        if last is None or not self._continues or not last.schemas:
            return
        found = self._s.ports.engine.schemas()
        moved = {one.id for one in prepared.desired if _moved(last.schemas, found, one.gvk.api_version)}
        self._retries = {
            id_: replace(retry, due=0.0) if math.isinf(retry.due) and id_ in moved else retry
            for id_, retry in self._retries.items()
        }


def unhealthy(situation: Situation, ids: frozenset[ObjectId]) -> str:
    """What of these objects is not healthy yet, in words; empty if all are."""
    rollup = situation.ports.tracker.unfinished(situation.target.sync_id, ids)
    return "" if rollup.healthy else rollup.message()


def is_due(situation: Situation, enforced: Enforced) -> bool:
    """Whether an artifact that is not complete has anything to be done now."""
    now = situation.now
    if situation.asked:
        return True
    if enforced.gate:
        return not unhealthy(situation, enforced.gate) or next_due(enforced.retries) <= now
    if now < enforced.retry_at:
        return False
    if not enforced.retries or not math.isinf(next_due(enforced.retries)):
        return True
    # All that is left was refused for good: nothing but another schema helps.
    found = situation.ports.engine.schemas()
    if any(_moved(enforced.schemas, found, name) for name in {*enforced.schemas, *found}):
        return True
    enforced.retry_at = now + jittered(SCHEMA_LOOK_S, situation.ports.rng)
    return False


def retry_pause_s(enforced: Enforced, now: float) -> float:
    """How long until the first object is tried again, or the schemas are looked at."""
    due = next_due(enforced.retries)
    if math.isinf(due):
        return SCHEMA_LOOK_S if enforced.attempts > 1 else _FIRST_SCHEMA_LOOK_S
    return max(0.1, due - now)


def _moved(before: Mapping[str, str], now: Mapping[str, str], api_version: str) -> bool:
    return bool(now) and before.get(api_version) != now.get(api_version)
