"""Every object that the syncs of this process own: what it should be, what our last apply left, how healthy it is.

The tracker is told of applies by reconcile passes (`begin_pass`, `applied`, `end_pass`) and of changes by the watches
(it is their handler). It decides with `drift`, and queues what must be done; `run_due` does it: looks, corrections and
no-op applies, through the callbacks in `Effects`, never with the lock held. Any number of threads may call `run_due`.

 - While a pass runs, an object that it has not applied yet is left to it: events are judged after its answer.
   `begin_pass` waits for corrections under way, so that an old desired state is never written over a new one.
 - Nothing is written for a paused sync or in a terminating namespace. What was seen meanwhile is checked afterwards.
 - An object may be claimed by one sync only; the older one wins.
 - The table is rebuilt by a full pass at start: nothing is stored.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ocisync.cluster import findings
from ocisync.cluster.buckets import TokenBucket
from ocisync.cluster.correction import Counters, Effects, Limits, SyncRules
from ocisync.cluster.corrector import Corrector, Job, Result, compare, mark
from ocisync.cluster.drift import (
    Action,
    DriftReport,
    FieldChange,
    Judgement,
    Verdict,
    judge,
)
from ocisync.cluster.health import CURRENT, NOT_FOUND, Health, Rollup, health, needs_object, progressing, rollup
from ocisync.cluster.memory import NO_GENERATION, Applied, Seen, applied_of, seen_of, version_of
from ocisync.cluster.normalise import ApplyMode, Desired
from ocisync.cluster.records import NOT_SEEN, Activity, Early, Record, Task, decoded
from ocisync.cluster.tasks import TaskQueue
from ocisync.cluster.watch import GroupKind
from ocisync.kit.stop import StopToken
from ocisync.model.clock import Clock
from ocisync.model.resource import JsonObject, ObjectId, labels_of
from ocisync.model.spec import PART_OF_LABEL, DriftMode

_BUSY_S = 120.0  # longer than a correction with all its retries
_IDLE_S = 1.0  # how long `serve` sleeps at most
_NOT_SHOWN = Seen("", 0, NO_GENERATION, b"", "", b"", ())
_NEWS = {Verdict.LOOK: Task.LOOK, Verdict.SUSPECT: Task.CHECK}


class Tracker:
    """The table. Thread-safe; its clock is passed in."""

    def __init__(self, clock: Clock, effects: Effects, limits: Limits | None = None) -> None:
        self.counters = Counters()
        self._clock = clock
        self._effects = effects
        self._limits = limits or Limits()
        self._lock = threading.Condition()
        self._syncs: dict[str, SyncRules] = {}
        self._table: dict[ObjectId, Record] = {}
        self._tasks = TaskQueue(clock, self._limits)
        self._passes: dict[str, int] = {}  # syncs in a pass, by the number of the pass
        self._pass_numbers = itertools.count(1)
        self._dirty: dict[str, set[ObjectId]] = {}
        self._early: dict[ObjectId, Early] = {}  # shown by a watch before the answer to the apply that made them
        self._rounds: dict[GroupKind, int] = {}
        self._synced: set[GroupKind] = set()
        self._problems: dict[GroupKind, str] = {}
        self._ending: set[str] = set()  # namespaces of ours that are being deleted
        self._global = TokenBucket(self._limits.global_burst, 1 / self._limits.global_per_s, clock.monotonic())
        self._swept = self._started = clock.monotonic()
        self._corrector = Corrector(effects, self.counters)
        self._reports: list[DriftReport] = []
        self._changed: set[str] = set()

    # --- Syncs and passes -------------------------------------------------------------------------------------------

    def set_sync(self, rules: SyncRules) -> None:
        """Add a sync or change its rules. When a pause ends, what was touched meanwhile is checked."""
        with self._lock:
            before = self._syncs.get(rules.sync_id)
            self._syncs[rules.sync_id] = rules
            if before is not None and before.paused and not rules.paused:
                for object_id in self._dirty.pop(rules.sync_id, ()):
                    self._schedule(object_id, Task.LOOK)

    def forget_sync(self, sync_id: str) -> None:
        """Forget a sync with everything it owns."""
        with self._lock:
            self._syncs.pop(sync_id, None)
            self._passes.pop(sync_id, None)
            self._dirty.pop(sync_id, None)
            for object_id in [i for i, record in self._table.items() if record.sync_id == sync_id]:
                self._drop(object_id)

    def claim(self, sync_id: str, ids: Iterable[ObjectId]) -> dict[ObjectId, str]:
        """Which of these objects belong to another, older sync of this process, by that sync's name.

        Those of its own that carry a stranger's label now, by the stranger's id.
        """
        refused: dict[ObjectId, str] = {}
        with self._lock:
            asking = self._syncs.get(sync_id)
            for object_id in ids:
                record = self._table.get(object_id)
                mine = record is not None and record.sync_id == sync_id
                other = "" if record is None else record.claimant if mine else record.sync_id
                owner = self._syncs.get(other)
                if owner is None:
                    if mine and other:
                        refused[object_id] = other
                # Who may take it still has to: until its apply succeeds, the present owner keeps it.
                elif not (asking is not None and asking.older_than(owner)):
                    refused[object_id] = owner.name
        return refused

    def begin_pass(self, sync_id: str, timeout_s: float = _BUSY_S) -> None:
        """A reconcile pass begins to apply: until `applied` or `end_pass`, each object is left to it."""
        with self._lock:
            self._passes[sync_id] = next(self._pass_numbers)
            self._lock.wait_for(lambda: not self._writing(sync_id), timeout_s)

    def applied(self, sync_id: str, desired: Desired, applied: Applied) -> None:
        """The answer to an apply of a pass (or the first one): what is judged from now on.

        What is only to be created if it is not there belongs to anybody from then on.
        """
        if desired.options.apply is not ApplyMode.OVERRIDE:
            return
        with self._lock:
            self._put(sync_id, desired, applied)
        self._flush()

    def end_pass(self, sync_id: str) -> None:
        """The pass is over: what it did not apply is judged by what was seen meanwhile."""
        with self._lock:
            self._passes.pop(sync_id, None)
            if not self._passes:
                self._early.clear()
            for object_id in self._tasks.deferring():
                record = self._table.get(object_id)
                if record is not None and record.sync_id == sync_id:
                    self._release(object_id, record)
            self._lock.notify_all()
        self._flush()

    def forget(self, sync_id: str, ids: Iterable[ObjectId]) -> None:
        """Stop owning objects: called before they are pruned, so that nobody recreates them."""
        wanted = tuple(ids)
        with self._lock:
            for object_id in wanted:
                record = self._table.get(object_id)
                if record is not None and record.sync_id == sync_id:
                    self._drop(object_id)
            self._lock.wait_for(lambda: not self._tasks.busy(wanted), _BUSY_S)

    # --- What can be asked ------------------------------------------------------------------------------------------

    def kinds(self) -> frozenset[GroupKind]:
        """The kinds of all owned objects: what must be watched."""
        with self._lock:
            return frozenset(GroupKind(i.group, i.kind) for i in self._table)

    def unsynced(self) -> frozenset[GroupKind]:
        """Kinds whose watch has not shown everything yet."""
        with self._lock:
            return frozenset(GroupKind(i.group, i.kind) for i in self._table) - self._synced

    def problems(self) -> Mapping[GroupKind, str]:
        """Watches that do not run, and why."""
        with self._lock:
            return dict(self._problems)

    def owned(self, sync_id: str) -> frozenset[ObjectId]:
        """The objects of a sync."""
        with self._lock:
            return frozenset(i for i, record in self._table.items() if record.sync_id == sync_id)

    def remembered(self, sync_id: str, object_id: ObjectId) -> Applied | None:
        """What our last apply left, for a pass to compare with."""
        with self._lock:
            record = self._table.get(object_id)
            return record.applied if record is not None and record.sync_id == sync_id else None

    def seen(self, object_id: ObjectId) -> int:
        """The newest resourceVersion that a watch has shown of an object; 0 if it has shown none."""
        with self._lock:
            record = self._table.get(object_id)
            return record.version if record is not None else 0

    def idle(self) -> bool:
        """Whether nothing waits to be done and nothing is being done."""
        with self._lock:
            return self._tasks.idle()

    def health(self, sync_id: str) -> Rollup:
        """The health of a sync. An object counts only once it was seen as our last apply left it, or later."""
        states: list[tuple[ObjectId, Health]] = []
        plain = 0  # asked for in every pass, so objects of kinds without a health are only counted
        with self._lock:
            for object_id, record in self._table.items():
                if record.sync_id != sync_id:
                    continue
                if record.health is CURRENT and not record.whole:
                    plain += 1
                else:
                    states.append((object_id, self._health_of(object_id, record)))
        return rollup(states, plain=plain)

    # --- The watches' handler ---------------------------------------------------------------------------------------

    def started(self, kind: GroupKind) -> None:
        """A watch lists anew."""
        with self._lock:
            self._rounds[kind] = self._rounds.get(kind, 0) + 1
            self._synced.discard(kind)

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One object as a watch shows it."""
        metadata = obj.get("metadata") or {}
        object_id = ObjectId(
            kind.group, kind.kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        )
        with self._lock:
            self.counters.events += 1
            record = self._table.get(object_id)
            if record is None:
                if labels_of(obj).get(PART_OF_LABEL, "") in self._passes:
                    self._early[object_id] = Early.of(event_type, obj)
                return
            # A new list is never older than an apply that was answered before it began, unless time itself went back.
            listed = kind not in self._synced and record.shown < self._rounds.get(kind, 0)
            rolled_back = listed and version_of(obj) < record.applied.resource_version
            record.shown = self._rounds.get(kind, 0)
            self._note(object_id, record, event_type, obj)
            if rolled_back:
                self._act(object_id, record, Judgement(Verdict.SUSPECT), None)
            if self._held(object_id, record):
                self._tasks.of(object_id).deferred = (event_type, replace(seen_of(obj), entries=()))
            else:
                self._judge(object_id, record, event_type, obj)
        self._flush()

    def synced(self, kind: GroupKind) -> None:
        """A list is complete: what it did not show is looked for."""
        with self._lock:
            current = self._rounds.get(kind, 0)
            self._synced.add(kind)
            for object_id, record in self._table.items():
                if (object_id.group, object_id.kind) == (kind.group, kind.kind):
                    self._changed.add(record.sync_id)
                    if record.shown < current:
                        self._missing(object_id, record)
        self._flush()

    def problem(self, kind: GroupKind, message: str) -> None:
        """A watch does not run (or runs again, with an empty message)."""
        with self._lock:
            if self._problems.get(kind, "") == message:
                return
            if message:
                self._problems[kind] = message
            else:
                self._problems.pop(kind, None)
            owners = {r.sync_id for i, r in self._table.items() if (i.group, i.kind) == (kind.group, kind.kind)}
            self._changed |= owners
        self._effects.blind(kind, message)
        self._flush()

    # --- Doing what is due ------------------------------------------------------------------------------------------

    def run_due(self) -> float:
        """Do everything that is due; returns the seconds until the next task (at most the sweep interval)."""
        while True:
            with self._lock:
                now = self._clock.monotonic()
                if now - self._swept >= self._limits.sweep_s:
                    self._sweep(now)
                job = self._take(now)
                pause = self._until_next(now)
            self._flush()
            if job is None:
                return pause
            result = Result(retry=True)
            try:
                result = self._corrector.perform(job)
            finally:
                with self._lock:
                    self._settle(job, result)
                    self._lock.notify_all()
                self._flush()

    def serve(self, stop: StopToken) -> None:
        """Run until stopped; for a thread of its own (several may serve)."""
        while not stop.stopped:
            pause = self.run_due()
            with self._lock:
                if self._until_next(self._clock.monotonic()) > 0:
                    self._lock.wait(min(pause, _IDLE_S))

    # --- Inside, with the lock held ---------------------------------------------------------------------------------

    def _put(self, sync_id: str, desired: Desired, applied: Applied) -> None:
        object_id = desired.id
        record = self._table.get(object_id)
        if record is None or record.sync_id != sync_id:
            slot = zlib.crc32(object_id.key().encode()) % max(1, int(self._limits.audit_s))
            whole = needs_object(object_id.group, object_id.kind)
            record = self._table[object_id] = Record(sync_id, desired, applied, slot, whole=whole)
            early = self._early.pop(object_id, None)
            if early is not None:
                record.version = record.health_version = early.seen.resource_version
                record.health = early.health if whole else CURRENT
                self._tasks.of(object_id).deferred = (early.event_type, early.seen)
        else:
            activity = self._tasks.get(object_id)
            if activity is not None and activity.task is not Task.NONE and not activity.busy:
                if activity.task is Task.CORRECT and (activity.changes or activity.changes is None):
                    # The pass was faster than the correction that waited; the drift is still news.
                    job = self._job(record, activity)
                    if job is not None:
                        self.counters.drifts += 1
                        self._reports.append(self._corrector.report(job, activity.changes or (), Action.CORRECTED))
                activity.task = Task.NONE
            record.desired = desired
            record.applied = applied
        record.shown = self._rounds.get(GroupKind(object_id.group, object_id.kind), 0)
        record.passed = self._passes.get(sync_id, 0)
        record.told = b""
        record.claimant = ""
        self._release(object_id, record)

    def _health_of(self, object_id: ObjectId, record: Record) -> Health:
        state = record.current_health()
        problem = self._problems.get(GroupKind(object_id.group, object_id.kind), "")
        return progressing(f"its status is not known: {problem}") if state is NOT_SEEN and problem else state

    def _drop(self, object_id: ObjectId) -> None:
        self._table.pop(object_id, None)
        self._tasks.drop(object_id)

    def _writing(self, sync_id: str) -> bool:
        """Whether a task of this sync is being done."""
        records = (self._table.get(i) for i in self._tasks.busy_ids())
        return any(record is not None and record.sync_id == sync_id for record in records)

    def _held(self, object_id: ObjectId, record: Record) -> bool:
        """Whether a write of ours is (or may be) under way, so that nothing can be judged yet."""
        number = self._passes.get(record.sync_id)
        return self._tasks.busy([object_id]) or (number is not None and record.passed != number)

    def _note(self, object_id: ObjectId, record: Record, event_type: str, obj: JsonObject) -> None:
        """Remember what needs no judgement: versions, health, terminating namespaces."""
        version = version_of(obj)
        gone = event_type == "DELETED"
        if version >= record.version:
            label = "" if gone else labels_of(obj).get(PART_OF_LABEL, "")
            record.claimant = "" if label == record.sync_id else label
        record.version = max(record.version, version)
        if object_id.kind == "Namespace" and not object_id.group:
            if not gone and (obj.get("metadata") or {}).get("deletionTimestamp"):
                self._ending.add(object_id.name)
            else:
                self._ending.discard(object_id.name)
        state = NOT_FOUND if gone else CURRENT
        if record.whole and not gone:
            state = health(obj)
        expected = record.applied.resource_version
        if state != record.health or record.health_version < expected <= version:
            self._changed.add(record.sync_id)
        record.health = state
        record.health_version = max(record.health_version, version)

    def _missing(self, object_id: ObjectId, record: Record) -> None:
        record.health = NOT_FOUND
        if self._held(object_id, record):
            self._tasks.of(object_id).deferred = ("DELETED", _NOT_SHOWN)
        else:
            self._act(object_id, record, Judgement(Verdict.LOOK), None)

    def _judge(self, object_id: ObjectId, record: Record, event_type: str, obj: JsonObject) -> None:
        rules = self._syncs.get(record.sync_id)
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
            self._tasks.of(object_id).deletion = _deleted_at(obj)
        if judgement.seen is not None:
            self._tell(findings.unmanaged(record, rules, judgement.seen, self._clock.now()))
        self._act(object_id, record, judgement, obj)

    def _act(self, object_id: ObjectId, record: Record, judgement: Judgement, obj: Mapping[str, object] | None) -> None:
        """Turn a judgement into a task."""
        rules = self._syncs.get(record.sync_id)
        if rules is None:
            return
        if judgement.released and obj is not None and judgement.verdict is Verdict.IGNORE:
            # The new ownership is as it should be: it is the state that later events are compared with.
            record.applied = applied_of(obj)
        verdict = judgement.verdict
        if verdict in {Verdict.IGNORE, Verdict.TERMINATING} or rules.mode is DriftMode.IGNORE:
            return
        if rules.paused:
            self._dirty.setdefault(record.sync_id, set()).add(object_id)
            return
        if verdict is Verdict.CLAIMED:
            self._claimed(object_id, record, rules, judgement)
            return
        task = _NEWS.get(verdict, Task.CORRECT)
        activity = self._tasks.of(object_id)
        if activity.task > task and task is Task.CHECK:
            return
        activity.judgement = judgement
        activity.seen_at = self._clock.now()
        activity.changes = _changes(record, judgement, obj)
        activity.audit = False
        self._schedule(object_id, task)

    def _claimed(self, object_id: ObjectId, record: Record, rules: SyncRules, judgement: Judgement) -> None:
        other = self._syncs.get(judgement.claimant)
        if other is not None and other.sync_id in self._passes:
            # It may be adopting the object right now: then its answer says so.
            self._schedule(object_id, Task.LOOK, self._limits.retry_s)
            return
        if other is not None and rules.older_than(other):
            # A younger sync of this process: its claim is refused there, and the object is ours.
            activity = self._tasks.of(object_id)
            activity.judgement = replace(judgement, verdict=Verdict.DRIFT)
            activity.seen_at = self._clock.now()
            activity.changes = None
            self._schedule(object_id, Task.CORRECT)
            return
        claim = mark(judgement.claimant)
        if record.told == claim:
            return
        record.told = claim
        self.counters.drifts += 1
        self._tell(findings.claimed(object_id, rules, other, judgement, self._clock.now()))

    def _tell(self, report: DriftReport | None) -> None:
        if report is not None:
            self._reports.append(report)

    def _release(self, object_id: ObjectId, record: Record) -> None:
        """Judge what came while a write was under way. Full evidence was not kept: anything unclear is looked at."""
        activity = self._tasks.get(object_id)
        if activity is None or activity.deferred is None or self._held(object_id, record):
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
        self._act(object_id, record, Judgement(Verdict.LOOK), None)

    def _schedule(self, object_id: ObjectId, task: Task, delay_s: float = 0.0) -> None:
        self._tasks.schedule(object_id, task, delay_s)
        self._lock.notify_all()

    def _take(self, now: float) -> Job | None:
        """The next task that may run now; its object is busy from here on."""
        while (object_id := self._tasks.pop(now)) is not None:
            activity, record = self._tasks.of(object_id), self._table.get(object_id)
            if record is None:
                continue
            if self._held(object_id, record):
                self._schedule(object_id, activity.task, self._limits.retry_s)
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
        rules = self._syncs.get(record.sync_id)
        if rules is None:
            return None
        return Job(
            task=activity.task,
            rules=rules,
            desired=record.desired,
            applied=record.applied,
            judgement=activity.judgement,
            changes=activity.changes,
            seen_at=activity.seen_at or self._clock.now(),
            deletion=activity.deletion,
            audit=activity.audit,
            told=record.told,
            failures=activity.failures,
        )

    def _settle(self, job: Job, result: Result) -> None:
        """Write down what came of a job."""
        object_id = job.object_id
        activity, record = self._tasks.get(object_id), self._table.get(object_id)
        if activity is not None:
            activity.busy = False
        if result.report is not None:
            self._reports.append(result.report)
        if activity is None or record is None or record.sync_id != job.rules.sync_id:
            return
        if result.applied is not None:
            record.applied = result.applied
            record.shown = self._rounds.get(GroupKind(object_id.group, object_id.kind), 0)
            activity.failures = 0
            activity.deletion = ""
            if activity.fights and job.task is Task.CORRECT:
                # Someone keeps on changing it: every further correction waits twice as long.
                activity.fights += 1
                activity.hold_until = self._clock.monotonic() + self._fight_delay(activity)
        if job.task is not Task.LOOK:
            record.told = result.told
        if result.judgement is not None:
            activity.failures = 0
            self._act(object_id, record, result.judgement, result.obj)
        elif result.retry:
            delay = min(self._limits.retry_s * 2 ** min(activity.failures, 20), self._limits.retry_cap_s)
            activity.failures += 1
            activity.hold_until = self._clock.monotonic() + max(delay, result.retry_after_s)
            self._schedule(object_id, job.task, delay)
        self._release(object_id, record)

    def _fight_delay(self, activity: Activity) -> float:
        return float(min(self._limits.object_every_s * 2 ** min(activity.fights, 20), self._limits.fight_cap_s))

    def _flush(self) -> None:
        """Tell the outside what there is to tell, without the lock."""
        with self._lock:
            reports, self._reports = self._reports, []
            changed, self._changed = self._changed, set()
        for report in reports:
            self._effects.report(report)
        for sync_id in sorted(changed):
            self._effects.changed(sync_id)

    def _limit(self, object_id: ObjectId, record: Record, activity: Activity, now: float) -> bool:
        """Put a task off when tokens are used up, a pause began or its namespace ends."""
        rules = self._syncs.get(record.sync_id)
        if rules is None or rules.paused:
            self._dirty.setdefault(record.sync_id, set()).add(object_id)
            activity.task = Task.NONE
            return True
        if rules.mode is DriftMode.IGNORE:
            activity.task = Task.NONE
            return True
        if activity.task is Task.LOOK:
            return False
        anew = activity.judgement is not None and activity.judgement.verdict in {Verdict.DELETED, Verdict.REPLACED}
        if object_id.namespace in self._ending or (anew and record.sync_id in self._passes):
            # A new uid goes to the inventory, where a pass must be alone.
            self._schedule(object_id, activity.task, self._limits.retry_s)
            return True
        if not self._global.take(now):
            self._schedule(object_id, activity.task, self._global.wait_s(now))
            return True
        if activity.audit or rules.mode is DriftMode.WARN:
            return False
        if activity.task is Task.CHECK:
            if not activity.checks.take(now):
                self._schedule(object_id, activity.task, activity.checks.wait_s(now))
                return True
            return False
        if not activity.corrections.take(now):
            activity.fights += 1
            activity.hold_until = now + max(self._fight_delay(activity), activity.corrections.wait_s(now))
            job = self._job(record, activity)
            if activity.fights == 1 and job is not None:
                self._reports.append(self._corrector.fight(job, activity.hold_until - now))
            self._schedule(object_id, activity.task)
            return True
        return False

    def _until_next(self, now: float) -> float:
        return self._tasks.wait_s(now, max(0.0, self._swept + self._limits.sweep_s - now))

    def _sweep(self, now: float) -> None:
        """Forget quiet activity, and start the audits whose turn has come."""
        span = max(1, int(self._limits.audit_s))
        first, last = int(self._swept - self._started), int(now - self._started)
        self._swept = now
        self._tasks.forget_quiet(now)
        elapsed = min(last - first, span)
        for object_id, record in self._table.items():
            rules = self._syncs.get(record.sync_id)
            if rules is None or rules.paused or rules.mode is not DriftMode.CORRECT:
                continue
            if (record.slot - first) % span < elapsed:
                activity = self._tasks.of(object_id)
                if activity.task is Task.NONE and not activity.busy:
                    activity.audit = True
                    activity.judgement = None
                    activity.changes = ()
                    self._schedule(object_id, Task.CHECK)


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
