"""From what a watch shows to a task: the half of the tracker that decides. All of it runs with the lock held.

An object whose apply is under way is not judged; what was shown meanwhile is kept as digests, and anything unclear is
looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ocisync.cluster import findings
from ocisync.cluster.correction import SyncRules
from ocisync.cluster.corrector import compare, mark
from ocisync.cluster.drift import DriftKind, FieldChange, Judgement, Verdict, judge
from ocisync.cluster.health import CURRENT, NOT_FOUND
from ocisync.cluster.kept import Kept
from ocisync.cluster.memory import NO_GENERATION, Seen, applied_of, version_of
from ocisync.cluster.records import Record, Task, decoded
from ocisync.model.resource import JsonObject, ObjectId, labels_of
from ocisync.model.spec import PART_OF_LABEL, DriftMode

_NOT_SHOWN = Seen("", 0, NO_GENERATION, b"", "", b"", ())
_NEWS = {Verdict.LOOK: Task.LOOK, Verdict.SUSPECT: Task.CHECK}


class Judging:
    """Decides for one table."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def note(self, object_id: ObjectId, record: Record, event_type: str, obj: JsonObject) -> None:
        """Remember what needs no judgement: versions, claims, health, terminating namespaces."""
        version = version_of(obj)
        gone = event_type == "DELETED"
        if version >= record.version:
            label = "" if gone else labels_of(obj).get(PART_OF_LABEL, "")
            self._claimant(object_id, record, "" if label == record.sync_id else label)
        record.version = max(record.version, version)
        if object_id.kind == "Namespace" and not object_id.group:
            if not gone and (obj.get("metadata") or {}).get("deletionTimestamp"):
                self._kept.ending.add(object_id.name)
            else:
                self._kept.ending.discard(object_id.name)
        state = NOT_FOUND if gone else CURRENT
        if record.whole and not gone:
            state = self._kept.health_rule(record.sync_id)(obj)
        expected = record.applied.resource_version
        if state != record.health or record.health_version < expected <= version:
            self._kept.changed.add(record.sync_id)
        record.health = state
        record.health_version = max(record.health_version, version)

    def _claimant(self, object_id: ObjectId, record: Record, claimant: str) -> None:
        before, record.claimant = record.claimant, claimant
        if before and not claimant and record.told == mark(before):
            record.told = b""
            self.ended(object_id, record, DriftKind.CLAIMED)

    def ended(self, object_id: ObjectId, record: Record, kind: DriftKind) -> None:
        """What was reported and not corrected is over."""
        rules = self._kept.syncs.get(record.sync_id)
        if rules is not None:
            self._kept.tell(findings.ended(object_id, rules, kind, record.desired.place, self._kept.clock.now()))

    def told_ended(self, object_id: ObjectId, record: Record) -> None:
        """A pass has applied the object: whatever was told of it without being corrected is over."""
        if record.told:
            self.ended(object_id, record, DriftKind.CLAIMED if record.claimant else DriftKind.MODIFIED)

    def all_ended(self, object_id: ObjectId, record: Record) -> None:
        """The object is nobody's business any more."""
        self.told_ended(object_id, record)
        if record.foreign:
            self.ended(object_id, record, DriftKind.UNMANAGED)

    def missing(self, object_id: ObjectId, record: Record) -> None:
        """A complete list did not show it."""
        record.health = NOT_FOUND
        if self._kept.held(object_id, record):
            self._kept.tasks.of(object_id).deferred = ("DELETED", _NOT_SHOWN)
        else:
            self.act(object_id, record, Judgement(Verdict.LOOK), None)

    def judge(self, object_id: ObjectId, record: Record, event_type: str, obj: JsonObject) -> None:
        """One event of an object that nothing of ours is being done to."""
        rules = self._kept.syncs.get(record.sync_id)
        if rules is None:
            return
        ignored = record.desired.left
        judgement = judge(
            record.applied,
            event_type,
            obj,
            sync_id=record.sync_id,
            ignored=ignored,
            desired=decoded(record.desired) if ignored else None,
        )
        if event_type == "DELETED":
            self._kept.tasks.of(object_id).deletion = _deleted_at(obj)
        if judgement.seen is not None:
            before = record.foreign
            self._kept.tell(findings.unmanaged(record, rules, judgement.seen, self._kept.clock.now()))
            if before and not record.foreign:
                self.ended(object_id, record, DriftKind.UNMANAGED)
        self.act(object_id, record, judgement, obj)

    def act(self, object_id: ObjectId, record: Record, judgement: Judgement, obj: Mapping[str, object] | None) -> None:
        """Turn a judgement into a task."""
        rules = self._kept.syncs.get(record.sync_id)
        if rules is None:
            return
        if judgement.released and obj is not None and judgement.verdict is Verdict.IGNORE:
            # The new ownership is as it should be: it is the state that later events are compared with.
            record.applied = applied_of(obj)
        verdict = judgement.verdict
        if verdict in {Verdict.IGNORE, Verdict.TERMINATING} or rules.mode is DriftMode.IGNORE:
            return
        if rules.paused:
            self._kept.touched(object_id, record)
            return
        if verdict is Verdict.CLAIMED:
            self._claimed(object_id, record, rules, judgement)
            return
        task = _NEWS.get(verdict, Task.CORRECT)
        activity = self._kept.tasks.of(object_id)
        if activity.task > task and task is Task.CHECK:
            return
        activity.judgement = judgement
        activity.saw(self._kept.clock)
        activity.changes = _changes(record, judgement, obj)
        activity.audit = False
        self._kept.schedule(object_id, task)

    def _claimed(self, object_id: ObjectId, record: Record, rules: SyncRules, judgement: Judgement) -> None:
        kept = self._kept
        other = kept.syncs.get(judgement.claimant)
        if other is not None and other.sync_id in kept.passes:
            # It may be adopting the object right now: then its answer says so.
            kept.schedule(object_id, Task.LOOK, kept.limits.retry_s)
            return
        if other is not None and rules.older_than(other):
            # A younger sync of this process: its claim is refused there, and the object is ours.
            activity = kept.tasks.of(object_id)
            activity.judgement = replace(judgement, verdict=Verdict.DRIFT)
            activity.saw(kept.clock)
            activity.changes = None
            kept.schedule(object_id, Task.CORRECT)
            return
        claim = mark(judgement.claimant)
        if record.told == claim:
            return
        record.told = claim
        kept.counters.drifts += 1
        kept.tell(findings.claimed(record, rules, other, judgement, kept.clock.now()))

    def release(self, object_id: ObjectId, record: Record) -> None:
        """Judge what came while a write was under way. Full evidence was not kept: anything unclear is looked at."""
        activity = self._kept.tasks.get(object_id)
        if activity is None or activity.deferred is None or self._kept.held(object_id, record):
            return
        event_type, seen = activity.deferred
        activity.deferred = None
        applied = record.applied
        if event_type != "DELETED" and seen.uid == applied.uid:
            if seen.resource_version <= applied.resource_version:
                return
            moved = (seen.owned_digest, seen.entry_time, seen.generation, seen.others_digest) != (
                applied.owned_digest,
                applied.entry_time,
                applied.generation,
                applied.others_digest,
            )
            if not moved:
                return
        elif event_type == "DELETED" and seen.uid not in {"", applied.uid}:
            return  # the end of a predecessor
        self.act(object_id, record, Judgement(Verdict.LOOK), None)


def _changes(record: Record, judgement: Judgement, obj: Mapping[str, object] | None) -> tuple[FieldChange, ...] | None:
    """Old and new values, if the event holds them; None if the object must be read for that."""
    if judgement.verdict in {Verdict.DELETED, Verdict.REPLACED, Verdict.LOOK}:
        return ()
    if obj is None or obj.get("kind") == "PartialObjectMetadata":
        return None
    return compare(decoded(record.desired), record.applied, judgement, obj, record.desired.id)


def _deleted_at(obj: JsonObject) -> str:
    """When deletion was asked for, if the last state of the object says so; a grace period would move the time."""
    metadata = obj.get("metadata") or {}
    if metadata.get("deletionGracePeriodSeconds"):
        return ""
    return str(metadata.get("deletionTimestamp") or "")
