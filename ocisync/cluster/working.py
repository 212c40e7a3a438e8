"""Doing what is due: the half of the tracker that writes, within its limits. I/O happens without the lock.

Limits, in this order: nothing for a paused sync; nothing new in a terminating namespace, and no new uid while a pass
of the sync writes the inventory; a token of everybody's bucket; a token of the object's own bucket. An object that
used up its tokens is in a fight with somebody: it is named once, and each further correction waits twice as long.
"""

from __future__ import annotations

from dataclasses import replace

from ocisync.cluster.corrector import Corrector, Job, Result
from ocisync.cluster.drift import Action, DriftKind, DriftReport, Verdict
from ocisync.cluster.judging import Judging
from ocisync.cluster.kept import Kept
from ocisync.cluster.records import Activity, Record, Task
from ocisync.cluster.watch import GroupKind
from ocisync.model.resource import ObjectId
from ocisync.model.spec import DriftMode


class Working:
    """Does the tasks of one table."""

    def __init__(self, kept: Kept, judging: Judging) -> None:
        self._kept = kept
        self._judging = judging
        self._corrector = Corrector(kept.effects, kept.counters)
        self._swept = self._started = kept.clock.monotonic()

    def run_due(self) -> float:
        """Do everything that is due; returns the seconds until the next task (at most the sweep interval)."""
        kept = self._kept
        while True:
            with kept.lock:
                now = kept.clock.monotonic()
                if now - self._swept >= kept.limits.sweep_s:
                    self._sweep(now)
                job = self._take(now)
                pause = self.until_next(now)
            kept.flush()
            if job is None:
                return pause
            result = Result(retry=True)
            try:
                result = self._corrector.perform(job)
            finally:
                with kept.lock:
                    self._settle(job, result)
                    kept.lock.notify_all()
                kept.flush()

    def until_next(self, now: float) -> float:
        """Seconds until something is due."""
        return self._kept.tasks.wait_s(now, max(0.0, self._swept + self._kept.limits.sweep_s - now))

    def healed(self, record: Record, activity: Activity) -> None:
        """A pass was faster than the correction that waited; the drift is still news."""
        job = self._job(record, activity)
        if job is not None:
            self._kept.counters.drifts += 1
            self._kept.tell(self._timed(job, self._corrector.report(job, activity.changes or (), Action.CORRECTED)))

    def _take(self, now: float) -> Job | None:
        """The next task that may run now; its object is busy from here on."""
        kept = self._kept
        while (object_id := kept.tasks.pop(now)) is not None:
            activity, record = kept.tasks.of(object_id), kept.table.get(object_id)
            if record is None:
                continue
            if kept.held(object_id, record):
                kept.schedule(object_id, activity.task, kept.limits.retry_s)
                continue
            if self._limit(object_id, record, activity, now):
                continue
            job = self._job(record, activity)
            if job is not None:
                activity.busy = True
                activity.task = Task.NONE
                return job
        return None

    def _job(self, record: Record, activity: Activity) -> Job | None:
        rules = self._kept.syncs.get(record.sync_id)
        if rules is None:
            return None
        if activity.seen_at is None:
            activity.saw(self._kept.clock)
        return Job(
            task=activity.task,
            rules=rules,
            desired=record.desired,
            applied=record.applied,
            judgement=activity.judgement,
            changes=activity.changes,
            seen_at=activity.seen_at or self._kept.clock.now(),
            seen_s=activity.seen_s,
            deletion=activity.deletion,
            audit=activity.audit,
            told=record.told,
            failures=activity.failures,
        )

    def _settle(self, job: Job, result: Result) -> None:
        """Write down what came of a job."""
        kept, object_id = self._kept, job.object_id
        activity, record = kept.tasks.get(object_id), kept.table.get(object_id)
        if activity is not None:
            activity.busy = False
        if result.report is not None:
            kept.tell(self._timed(job, result.report))
        if activity is None or record is None or record.sync_id != job.rules.sync_id:
            return
        if result.applied is not None:
            record.applied = result.applied
            record.shown = kept.rounds.get(GroupKind(object_id.group, object_id.kind), 0)
            activity.failures = 0
            activity.deletion = ""
            if activity.fights and job.task is Task.CORRECT:
                # Someone keeps on changing it: every further correction waits twice as long.
                activity.fights += 1
                activity.hold_until = kept.clock.monotonic() + self._fight_delay(activity)
        if job.task is not Task.LOOK and not result.retry and result.judgement is None:
            self._said(record, result)
        if result.judgement is not None:
            activity.failures = 0
            self._judging.act(object_id, record, result.judgement, result.obj)
        elif result.retry:
            delay = min(kept.limits.retry_s * 2 ** min(activity.failures, 20), kept.limits.retry_cap_s)
            activity.failures += 1
            activity.hold_until = kept.clock.monotonic() + max(delay, result.retry_after_s)
            kept.schedule(object_id, job.task, delay)
        self._judging.release(object_id, record)

    def _said(self, record: Record, result: Result) -> None:
        """Keep what was told without being corrected; say so when it is over without our doing."""
        over = record.told and not result.told and result.report is None and not record.claimant
        record.told = result.told
        if over:
            self._judging.ended(record.desired.id, record, DriftKind.MODIFIED)

    def _timed(self, job: Job, report: DriftReport) -> DriftReport:
        """With the time of the correction, and how long it took from the moment the drift was seen."""
        if report.action is not Action.CORRECTED:
            return report
        clock = self._kept.clock
        return replace(report, done_at=clock.now(), latency_s=max(0.0, clock.monotonic() - job.seen_s))

    def _fight_delay(self, activity: Activity) -> float:
        limits = self._kept.limits
        return float(min(limits.object_every_s * 2 ** min(activity.fights, 20), limits.fight_cap_s))

    def _limit(self, object_id: ObjectId, record: Record, activity: Activity, now: float) -> bool:
        """Put a task off when tokens are used up, a pause began or its namespace ends."""
        kept = self._kept
        rules = kept.syncs.get(record.sync_id)
        if rules is None or rules.paused:
            kept.touched(object_id, record)
            activity.task = Task.NONE
            return True
        if rules.mode is DriftMode.IGNORE:
            activity.task = Task.NONE
            return True
        if activity.task is Task.LOOK:
            return False
        anew = activity.judgement is not None and activity.judgement.verdict in {Verdict.DELETED, Verdict.REPLACED}
        if object_id.namespace in kept.ending or (anew and record.sync_id in kept.passes):
            # A new uid goes to the inventory, where a pass must be alone.
            kept.schedule(object_id, activity.task, kept.limits.retry_s)
            return True
        if not kept.bucket.take(now):
            kept.schedule(object_id, activity.task, kept.bucket.wait_s(now))
            return True
        if activity.audit or rules.mode is DriftMode.WARN:
            return False
        if activity.task is Task.CHECK:
            if not activity.checks.take(now):
                kept.schedule(object_id, activity.task, activity.checks.wait_s(now))
                return True
            return False
        if not activity.corrections.take(now):
            activity.fights += 1
            activity.hold_until = now + max(self._fight_delay(activity), activity.corrections.wait_s(now))
            job = self._job(record, activity)
            if activity.fights == 1 and job is not None:
                kept.tell(self._corrector.fight(job, activity.hold_until - now))
            kept.schedule(object_id, activity.task)
            return True
        return False

    def _sweep(self, now: float) -> None:
        """Forget quiet activity, and start the audits whose turn has come."""
        kept = self._kept
        span = max(1, int(kept.limits.audit_s))
        first, last = int(self._swept - self._started), int(now - self._started)
        self._swept = now
        kept.tasks.forget_quiet(now)
        elapsed = min(last - first, span)
        for object_id, record in kept.table.items():
            rules = kept.syncs.get(record.sync_id)
            if rules is None or rules.paused or rules.mode is not DriftMode.CORRECT:
                continue
            if (record.slot - first) % span < elapsed:
                activity = kept.tasks.of(object_id)
                if activity.task is Task.NONE and not activity.busy:
                    activity.audit = True
                    activity.judgement = None
                    activity.changes = ()
                    activity.saw(kept.clock)
                    kept.schedule(object_id, Task.CHECK)
