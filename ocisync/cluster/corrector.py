"""Carry out one task of the tracker: look at an object, correct it, or prove by a no-op apply that it is clean.

`perform` does the I/O and returns what came of it; the tracker writes that into its table. Values for reports come from
the event that raised the task; if it held metadata only, one GET reads them before the correcting apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from ocisync.cluster.correction import (
    Corrected,
    Correction,
    CorrectionReason,
    CorrectionStatus,
    Counters,
    Effects,
    SyncRules,
)
from ocisync.cluster.drift import (
    Action,
    Attribution,
    DriftKind,
    DriftReport,
    FieldChange,
    Judgement,
    Verdict,
    attribute,
    describe,
    field_changes,
    judge_look,
    order_changes,
)
from ocisync.cluster.fields import render
from ocisync.cluster.memory import NO_GENERATION, Applied
from ocisync.cluster.normalise import Desired
from ocisync.cluster.records import Task, decoded
from ocisync.model.errors import Interrupted, OcisyncError
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import DriftMode

_KINDS: Final = {
    Verdict.DELETED: DriftKind.DELETED,
    Verdict.REPLACED: DriftKind.REPLACED,
    Verdict.LABEL_REMOVED: DriftKind.LABEL_REMOVED,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One task with all that it needs, taken from the table under the lock."""

    task: Task
    rules: SyncRules
    desired: Desired
    applied: Applied
    judgement: Judgement | None
    changes: tuple[FieldChange, ...] | None
    seen_at: datetime
    seen_s: float
    deletion: str
    audit: bool
    told: bytes
    failures: int

    @property
    def object_id(self) -> ObjectId:
        """Which object."""
        return self.desired.id


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a job.

    Attributes:
        applied: the object was applied: what to remember.
        judgement: something must be decided anew, with `obj` as it is now.
        retry: try the same task again, not before `retry_after_s`.
        told: digest of what was reported without being corrected.
    """

    applied: Applied | None = None
    judgement: Judgement | None = None
    obj: JsonObject | None = None
    report: DriftReport | None = None
    retry: bool = False
    retry_after_s: float = 0.0
    told: bytes = b""


def mark(text: str) -> bytes:
    """A short digest of something that was reported."""
    return blake2b(text.encode(), digest_size=8).digest()


def compare(
    desired: JsonObject, applied: Applied, judgement: Judgement, obj: Mapping[str, Any], object_id: ObjectId
) -> tuple[FieldChange, ...]:
    """The changed fields between the desired and a whole live object."""
    owned = applied.owned_paths()
    changes = field_changes(judgement, object_id, desired, obj, owned)
    if judgement.lost and not judgement.cleared:
        return changes
    return (*changes, *order_changes(desired, obj, owned))


class Corrector:
    """Does jobs; keeps nothing."""

    def __init__(self, effects: Effects, counters: Counters) -> None:
        self._effects = effects
        self._counters = counters

    def perform(self, job: Job) -> Result:
        """Do one job. Errors of the server or network become a retry."""
        try:
            if job.task is Task.LOOK:
                return self._look(job)
            if job.task is Task.CHECK:
                return self._check(job)
            return self._correct(job)
        except Interrupted:
            return Result(retry=True)  # the process stops or is no longer the one that may write: no news of the object
        except OcisyncError as error:
            if job.task is Task.LOOK or job.rules.mode is DriftMode.WARN:
                return Result(retry=True)  # it was only to be looked at
            return self._failed(job, Corrected(CorrectionStatus.FAILED, message=error.message), job.changes or ())

    def _look(self, job: Job) -> Result:
        obj = self._effects.read(job.object_id)
        return Result(judgement=self._judged(job, obj), obj=obj)

    def _judged(self, job: Job, obj: JsonObject | None) -> Judgement:
        ignored = job.desired.left
        desired = decoded(job.desired) if ignored else None
        return judge_look(job.applied, obj, sync_id=job.rules.sync_id, ignored=ignored, desired=desired)

    def _check(self, job: Job) -> Result:
        if job.rules.mode is DriftMode.WARN:
            return self._check_without_writing(job)
        outcome = self._apply(job, job.applied.uid, CorrectionReason.AUDIT if job.audit else CorrectionReason.SUSPECT)
        if outcome.applied is None:
            if job.audit:
                return Result()
            return self._failed(job, outcome, job.changes or ())
        if not _wrote(job, outcome.applied):
            return Result(applied=outcome.applied)
        self._counters.drifts += 1
        return Result(applied=outcome.applied, report=self.report(job, job.changes or (), Action.CORRECTED))

    def _check_without_writing(self, job: Job) -> Result:
        changes = job.changes
        if changes is None:
            obj = self._effects.read(job.object_id)
            if obj is None:
                return Result(judgement=Judgement(Verdict.DELETED))
            changes = compare(decoded(job.desired), job.applied, Judgement(Verdict.SUSPECT), obj, job.object_id)
        return self._told(job, changes) if changes else Result()

    def _correct(self, job: Job) -> Result:
        changes = job.changes
        if changes is None:
            obj = self._effects.read(job.object_id)
            fresh = self._judged(job, obj)
            if obj is None or fresh.verdict not in {Verdict.DRIFT, Verdict.LABEL_REMOVED, Verdict.CLAIMED}:
                if obj is None or fresh.verdict is not Verdict.IGNORE:
                    return Result(judgement=fresh, obj=obj)
                fresh = job.judgement or fresh
            if fresh.verdict is Verdict.CLAIMED:
                # Decided already: the claimant is a younger sync of this process.
                fresh = job.judgement or fresh
            changes = compare(decoded(job.desired), job.applied, fresh, obj, job.object_id)
            job = replace(job, judgement=fresh, changes=changes)
        if job.rules.mode is DriftMode.WARN:
            return Result() if self._silent(job, changes) else self._told(job, changes)
        verdict = job.judgement.verdict if job.judgement else Verdict.DRIFT
        uid, reason = job.applied.uid, CorrectionReason.DRIFT
        if verdict is Verdict.DELETED:
            uid, reason = "", CorrectionReason.RECREATE
        elif verdict is Verdict.REPLACED:
            uid = ""  # its successor is met for the first time: whose it is must be judged
        outcome = self._apply(job, uid, reason)
        if outcome.applied is None:
            return self._failed(job, outcome, changes)
        if self._silent(job, changes):
            self._counters.reowned += 1
            return Result(applied=outcome.applied)
        self._counters.drifts += 1
        return Result(applied=outcome.applied, report=self.report(job, changes, Action.CORRECTED))

    def _apply(self, job: Job, uid: str, reason: CorrectionReason) -> Corrected:
        desired = job.desired
        if job.judgement is not None and job.judgement.claimant:
            # The claimant is a younger sync of this process: the object is taken back from it.
            desired = replace(desired, options=replace(desired.options, adopt=job.judgement.claimant))
        if reason is CorrectionReason.AUDIT:
            self._counters.audits += 1
        elif reason is CorrectionReason.SUSPECT:
            self._counters.suspects += 1
        else:
            self._counters.corrections += 1
        return self._effects.correct(Correction(job.rules.sync_id, desired, uid, reason, job.applied))

    @staticmethod
    def _silent(job: Job, changes: tuple[FieldChange, ...]) -> bool:
        """Whether only ownership moved, and no value."""
        verdict = job.judgement.verdict if job.judgement else Verdict.DRIFT
        return verdict is Verdict.DRIFT and not changes

    def _told(self, job: Job, changes: tuple[FieldChange, ...]) -> Result:
        """Report without correcting, the same thing only once."""
        report = self.report(job, changes, Action.REPORTED)
        told = mark(f"{report.kind} {report.attribution.manager} {[(c.path, c.new) for c in changes]}")
        if told == job.told:
            return Result(told=told)
        self._counters.drifts += 1
        return Result(report=report, told=told)

    def _failed(self, job: Job, outcome: Corrected, changes: tuple[FieldChange, ...]) -> Result:
        self._counters.failures += 1
        report = None
        if job.failures == 0 and job.judgement is not None:
            report = self.report(job, changes, Action.FAILED, outcome.message)
        claimed = outcome.status is CorrectionStatus.CLAIMED
        return Result(report=report, retry=not claimed, retry_after_s=outcome.retry_after_s)

    def report(self, job: Job, changes: tuple[FieldChange, ...], action: Action, detail: str = "") -> DriftReport:
        """The report of a job's drift."""
        judgement = job.judgement or Judgement(Verdict.SUSPECT)
        kind = _KINDS.get(judgement.verdict, DriftKind.MODIFIED)
        by = attribute(judgement, job.seen_at, deletion=job.deletion if kind is DriftKind.DELETED else "")
        shown = changes
        if not shown and kind is DriftKind.MODIFIED:
            shown = tuple(FieldChange(render(path), "", "", "") for path in judgement.lost)
        text = describe(kind, job.object_id, changes, by)
        text += {
            Action.CORRECTED: "; corrected",
            Action.REPORTED: "; not corrected (drift.mode is Warn)",
            Action.FAILED: f"; correction failed: {detail}",
            Action.DELAYED: f"; {detail}",
        }[action]
        return _report(job, kind, shown, by, action, text)

    def fight(self, job: Job, delay_s: float) -> DriftReport:
        """The report of an object that someone changes as often as we correct it."""
        self._counters.fights += 1
        judgement = job.judgement or Judgement(Verdict.DRIFT)
        by: Attribution = attribute(judgement, job.seen_at)
        changes = job.changes or tuple(FieldChange(render(path), "", "", "") for path in judgement.lost)
        fields = ", ".join(change.path for change in changes) or "owned fields"
        text = describe(DriftKind.FIGHT, job.object_id, changes, by, detail=fields)
        text += f"; next correction in {delay_s:.0f} s"
        return _report(job, DriftKind.FIGHT, changes, by, Action.DELAYED, text)


def _report(
    job: Job, kind: DriftKind, fields: tuple[FieldChange, ...], by: Attribution, action: Action, text: str
) -> DriftReport:
    return DriftReport(
        kind=kind,
        sync_id=job.rules.sync_id,
        object=job.object_id,
        fields=fields,
        attribution=by,
        action=action,
        message=text,
        mode=job.rules.mode,
        place=job.desired.place,
        seen_at=job.seen_at,
    )


def _wrote(job: Job, answer: Applied) -> bool:
    """Whether a check changed the object: the server moves our entry's time only then, and a generation with it."""
    if answer.uid != job.applied.uid:
        return True
    if answer.resource_version == job.applied.resource_version:
        return False
    seen = job.judgement.seen if job.judgement else None
    if seen is not None and seen.resource_version == answer.resource_version:
        return False
    if answer.entry_time != job.applied.entry_time:
        return True
    return seen is not None and answer.generation != NO_GENERATION and answer.generation > seen.generation
