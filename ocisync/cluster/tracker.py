"""Every object that the syncs of this process own: what it should be, what our last apply left, how healthy it is.

The tracker is told of applies by reconcile passes (`begin_pass`, `applied`, `end_pass`) and of changes by the watches
(it is their handler). `judging` decides and queues what must be done; `working` does it when `run_due` is called:
looks, corrections and no-op applies, through the callbacks in `Effects`, never with the lock held. Any number of
threads may call `run_due`. Both work on one table (`kept`).

 - While a pass runs, an object that it has not applied yet is left to it: events are judged after its answer.
   `begin_pass` waits for corrections under way, so that an old desired state is never written over a new one.
 - Nothing is written for a paused sync or in a terminating namespace. What was seen meanwhile is checked afterwards.
 - An object may be claimed by one sync only; the older one wins.
 - The table is rebuilt by a full pass at start: nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ocisync.cluster import findings
from ocisync.cluster.correction import Counters, Effects, Limits, SyncRules
from ocisync.cluster.drift import Judgement, Verdict
from ocisync.cluster.health import CURRENT, NOT_FOUND, Health, Rollup, is_running, progressing, rollup
from ocisync.cluster.judging import Judging
from ocisync.cluster.kept import Kept
from ocisync.cluster.memory import Applied, seen_of, version_of
from ocisync.cluster.normalise import ApplyMode, Desired
from ocisync.cluster.ownership import applied_by_us
from ocisync.cluster.records import NOT_SEEN, Early, Record, Task
from ocisync.cluster.watch import GroupKind
from ocisync.cluster.working import Working
from ocisync.kit.stop import StopToken
from ocisync.model.clock import Clock
from ocisync.model.resource import JsonObject, ObjectId, labels_of
from ocisync.model.spec import PART_OF_LABEL

_BUSY_S = 120.0  # longer than a correction with all its retries
_IDLE_S = 1.0  # how long `serve` sleeps at most


class Tracker:
    """The table. Thread-safe; its clock is passed in."""

    def __init__(self, clock: Clock, effects: Effects, limits: Limits | None = None) -> None:
        self._kept = Kept(clock, effects, limits or Limits())
        self._judging = Judging(self._kept)
        self._working = Working(self._kept, self._judging)

    @property
    def counters(self) -> Counters:
        """Totals since the start."""
        return self._kept.counters

    # --- Syncs and passes -------------------------------------------------------------------------------------------

    def set_sync(self, rules: SyncRules) -> frozenset[GroupKind]:
        """Add a sync or change its rules. When a pause ends, what was touched meanwhile is checked.

        Returns:
            Kinds whose objects must be seen once more, as their health is told by another rule from now on.
        """
        again: set[GroupKind] = set()
        with self._kept.lock:
            before = self._kept.syncs.get(rules.sync_id)
            self._kept.syncs[rules.sync_id] = rules
            if before is not None and before.paused and not rules.paused:
                for object_id in self._kept.dirty.pop(rules.sync_id, ()):
                    self._kept.schedule(object_id, Task.LOOK)
            if before is not None and before.health is not rules.health:
                for object_id, record in self._kept.table.items():
                    if record.sync_id == rules.sync_id and record.whole:
                        record.health, record.health_version = NOT_SEEN, 0
                        again.add(GroupKind(object_id.group, object_id.kind))
            for object_id, early in [*self._kept.early.items()]:
                if early.sync_id == rules.sync_id and early.rule is not rules.health:
                    del self._kept.early[object_id]
                    again.add(GroupKind(object_id.group, object_id.kind))
        return frozenset(again)

    def forget_sync(self, sync_id: str) -> None:
        """Forget a sync with everything it owns."""
        with self._kept.lock:
            self._kept.syncs.pop(sync_id, None)
            self._kept.passes.pop(sync_id, None)
            self._kept.dirty.pop(sync_id, None)
            for object_id in [i for i, early in self._kept.early.items() if early.sync_id == sync_id]:
                del self._kept.early[object_id]
            for object_id in [i for i, record in self._kept.table.items() if record.sync_id == sync_id]:
                self._kept.drop(object_id)

    def claim(self, sync_id: str, ids: Iterable[ObjectId]) -> dict[ObjectId, str]:
        """Which of these objects belong to another, older sync of this process, by that sync's name.

        Those of its own that carry a stranger's label now, by the stranger's id.
        """
        refused: dict[ObjectId, str] = {}
        with self._kept.lock:
            asking = self._kept.syncs.get(sync_id)
            for object_id in ids:
                record = self._kept.table.get(object_id)
                mine = record is not None and record.sync_id == sync_id
                other = "" if record is None else record.claimant if mine else record.sync_id
                owner = self._kept.syncs.get(other)
                if owner is None:
                    if mine and other:
                        refused[object_id] = other
                # Who may take it still has to: until its apply succeeds, the present owner keeps it. Times of creation
                # have whole seconds; of two syncs of one second the present owner is the older one.
                elif not (asking is not None and asking.created_at < owner.created_at):
                    refused[object_id] = owner.name
        return refused

    def begin_pass(self, sync_id: str, timeout_s: float = _BUSY_S) -> None:
        """A reconcile pass begins to apply: until `applied` or `end_pass`, each object is left to it."""
        with self._kept.lock:
            self._kept.passes[sync_id] = next(self._kept.pass_numbers)
            self._kept.lock.wait_for(lambda: not self._kept.writing(sync_id), timeout_s)

    def applied(self, sync_id: str, desired: Desired, applied: Applied) -> None:
        """The answer to an apply of a pass (or the first one): what is judged from now on.

        What is only to be created if it is not there belongs to anybody from then on.
        """
        if desired.options.apply is not ApplyMode.OVERRIDE:
            return
        with self._kept.lock:
            self._put(sync_id, desired, applied)
        self._kept.flush()

    def found_changed(self, sync_id: str, created: Mapping[ObjectId, bool]) -> None:
        """The first pass over what was applied before has written these objects (true: anew): that was drift, too."""
        with self._kept.lock:
            rules = self._kept.syncs.get(sync_id)
            for object_id, anew in created.items():
                record = self._kept.table.get(object_id)
                if rules is None or record is None or record.sync_id != sync_id:
                    continue
                self._kept.counters.drifts += 1
                place, now = record.desired.place, self._kept.clock.now()
                self._kept.tell(findings.away(object_id, rules, place, now, created=anew))
        self._kept.flush()

    def end_pass(self, sync_id: str) -> None:
        """The pass is over: what it did not apply is judged by what was seen meanwhile."""
        with self._kept.lock:
            self._kept.passes.pop(sync_id, None)
            for object_id, early in [*self._kept.early.items()]:
                if early.sync_id == sync_id and early.event_type == "DELETED":
                    del self._kept.early[object_id]
            for object_id in self._kept.tasks.deferring():
                record = self._kept.table.get(object_id)
                if record is not None and record.sync_id == sync_id:
                    self._judging.release(object_id, record)
            self._kept.lock.notify_all()
        self._kept.flush()

    def forget(self, sync_id: str, ids: Iterable[ObjectId]) -> None:
        """Stop owning objects: called before they are pruned, so that nobody recreates them."""
        wanted = tuple(ids)
        with self._kept.lock:
            for object_id in wanted:
                record = self._kept.table.get(object_id)
                if record is not None and record.sync_id == sync_id:
                    self._judging.all_ended(object_id, record)
                    self._kept.drop(object_id)
            self._kept.lock.wait_for(lambda: not self._kept.tasks.busy(wanted), _BUSY_S)

    # --- What can be asked ------------------------------------------------------------------------------------------

    def kinds(self) -> frozenset[GroupKind]:
        """The kinds of all owned objects: what must be watched."""
        with self._kept.lock:
            return frozenset(GroupKind(i.group, i.kind) for i in self._kept.table)

    def unsynced(self) -> frozenset[GroupKind]:
        """Kinds whose watch has not shown everything yet."""
        with self._kept.lock:
            return frozenset(GroupKind(i.group, i.kind) for i in self._kept.table) - self._kept.synced

    def problems(self) -> Mapping[GroupKind, str]:
        """Watches that do not run, and why."""
        with self._kept.lock:
            return dict(self._kept.problems)

    def owned(self, sync_id: str) -> frozenset[ObjectId]:
        """The objects of a sync."""
        with self._kept.lock:
            return frozenset(i for i, record in self._kept.table.items() if record.sync_id == sync_id)

    def remembered(self, sync_id: str, object_id: ObjectId) -> Applied | None:
        """What our last apply left, for a pass to compare with."""
        with self._kept.lock:
            record = self._kept.table.get(object_id)
            return record.applied if record is not None and record.sync_id == sync_id else None

    def untouched(self, sync_id: str, wanted: Desired) -> Applied | None:
        """What our last apply left, if nothing about the object has changed since: neither what is wanted nor it.

        That is, if it was watched ever since and nothing waits to be done about it. Its place is that of `wanted` from
        then on.
        """
        object_id = wanted.id
        kind = GroupKind(object_id.group, object_id.kind)
        with self._kept.lock:
            record = self._kept.table.get(object_id)
            if record is None or record.sync_id != sync_id or record.claimant or record.health is NOT_FOUND:
                return None
            if not wanted.says_the_same(record.desired):
                return None
            if kind not in self._kept.synced or self._kept.problems.get(kind):
                return None
            activity = self._kept.tasks.get(object_id)
            at_rest = activity is None or (activity.task is Task.NONE and not activity.busy and not activity.deferred)
            if not at_rest or object_id in self._kept.dirty.get(sync_id, ()):
                return None
            record.desired = wanted.or_known(record.desired)
            return record.applied

    def seen(self, object_id: ObjectId) -> int:
        """The newest resourceVersion that a watch has shown of an object; 0 if it has shown none."""
        with self._kept.lock:
            record = self._kept.table.get(object_id)
            return record.version if record is not None else 0

    def idle(self, object_id: ObjectId | None = None) -> bool:
        """Whether nothing waits to be done, nothing is being done, for one object or for all, and all was told."""
        with self._kept.lock:
            return self._kept.all_told() and self._kept.tasks.idle(object_id)

    def health(self, sync_id: str) -> Rollup:
        """The health of a sync. An object counts only once it was seen as our last apply left it, or later."""
        states: list[tuple[ObjectId, Health]] = []
        plain = 0  # asked for in every pass, so objects of kinds without a health are only counted
        with self._kept.lock:
            for object_id, record in self._kept.table.items():
                if record.sync_id != sync_id:
                    continue
                if record.health is CURRENT and not record.whole:
                    plain += 1
                else:
                    states.append((object_id, self._health_of(object_id, record)))
        return rollup(states, plain=plain)

    def unfinished(self, sync_id: str, ids: Iterable[ObjectId]) -> Rollup:
        """The health of some objects, for what comes after them: a job that runs is healthy, and has not finished."""
        states = []
        with self._kept.lock:
            for object_id in ids:
                record = self._kept.table.get(object_id)
                if record is not None and record.sync_id == sync_id:
                    state = self._health_of(object_id, record)
                    states.append((object_id, progressing(state.message) if is_running(state) else state))
        return rollup(states)

    # --- The watches' handler ---------------------------------------------------------------------------------------

    def started(self, kind: GroupKind) -> None:
        """A watch lists anew."""
        with self._kept.lock:
            self._kept.rounds[kind] = self._kept.rounds.get(kind, 0) + 1
            self._kept.synced.discard(kind)

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One object as a watch shows it."""
        metadata = obj.get("metadata") or {}
        object_id = ObjectId(
            kind.group, kind.kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
        )
        with self._kept.lock:
            self.counters.events += 1
            record = self._kept.table.get(object_id)
            if record is None:
                self._shown_early(object_id, event_type, obj)
                return
            object_id = record.desired.id  # the one that is kept anyway
            # A new list is never older than an apply that was answered before it began, unless time itself went back.
            listed = kind not in self._kept.synced and record.shown < self._kept.rounds.get(kind, 0)
            rolled_back = listed and version_of(obj) < record.applied.resource_version
            record.shown = self._kept.rounds.get(kind, 0)
            self._judging.note(object_id, record, event_type, obj)
            if rolled_back:
                self._anew(record.sync_id)
                self._judging.act(object_id, record, Judgement(Verdict.SUSPECT), None)
            if self._kept.held(object_id, record):
                self._kept.tasks.of(object_id).deferred = (event_type, replace(seen_of(obj), entries=()))
            else:
                self._judging.judge(object_id, record, event_type, obj)
        self._kept.flush()

    def unlisted(self, sync_id: str) -> None:
        """The inventory of a sync lacks what is kept for it here: it was lost, or is of an earlier time."""
        with self._kept.lock:
            self._anew(sync_id)
        self._kept.flush()

    def went_back(self, kind: GroupKind) -> None:
        """What keeps the objects of a kind went back in time: whoever owns any of them begins anew.

        That may be a part of the cluster, as behind an aggregated API; that all of it did is for others to notice.
        """
        with self._kept.lock:
            for object_id, record in self._kept.table.items():
                if (object_id.group, object_id.kind) == (kind.group, kind.kind):
                    self._anew(record.sync_id)
        self._kept.flush()

    def begins_anew(self, sync_id: str) -> bool:
        """Whether a sync needs a full pass since this was asked last: nothing remembered of it holds."""
        with self._kept.lock:
            anew = sync_id in self._kept.anew
            self._kept.anew.discard(sync_id)
            return anew

    def synced(self, kind: GroupKind) -> None:
        """A list is complete: what it did not show is looked for."""
        with self._kept.lock:
            current = self._kept.rounds.get(kind, 0)
            self._kept.synced.add(kind)
            for object_id, record in self._kept.table.items():
                if (object_id.group, object_id.kind) == (kind.group, kind.kind):
                    self._kept.changed.add(record.sync_id)
                    if record.shown < current:
                        self._judging.missing(object_id, record)
        self._kept.flush()

    def problem(self, kind: GroupKind, message: str) -> None:
        """A watch does not run (or runs again, with an empty message)."""
        with self._kept.lock:
            if self._kept.problems.get(kind, "") == message:
                return
            if message:
                self._kept.problems[kind] = message
            else:
                self._kept.problems.pop(kind, None)
            owners = {r.sync_id for i, r in self._kept.table.items() if (i.group, i.kind) == (kind.group, kind.kind)}
            self._kept.changed |= owners
        self._kept.effects.blind(kind, message)
        self._kept.flush()

    # --- Doing what is due ------------------------------------------------------------------------------------------

    def run_due(self) -> float:
        """Do everything that is due; returns the seconds until the next task (at most the sweep interval)."""
        return self._working.run_due()

    def serve(self, stop: StopToken) -> None:
        """Run until stopped; for a thread of its own (several may serve)."""
        while not stop.stopped:
            pause = self.run_due()
            with self._kept.lock:
                if self._working.until_next(self._kept.clock.monotonic()) > 0:
                    self._kept.lock.wait(min(pause, _IDLE_S))

    # --- Inside, with the lock held ---------------------------------------------------------------------------------

    def _anew(self, sync_id: str) -> None:
        self._kept.anew.add(sync_id)
        self._kept.changed.add(sync_id)

    def _shown_early(self, object_id: ObjectId, event_type: str, obj: JsonObject) -> None:
        """Keep what is shown of an object that a pass has yet to own: one that is as it should be is not shown twice.

        So it was before a restart, when the kind is watched for another sync already, or for one that was just made.
        """
        claimed_by = labels_of(obj).get(PART_OF_LABEL, "")
        if claimed_by in self._kept.passes or (event_type != "DELETED" and claimed_by and applied_by_us(obj)):
            rule = self._kept.health_rule(claimed_by)
            self._kept.early[object_id] = Early.of(claimed_by, event_type, obj, rule)
        else:
            self._kept.early.pop(object_id, None)

    def _put(self, sync_id: str, desired: Desired, applied: Applied) -> None:
        kept, object_id = self._kept, desired.id
        record = kept.table.get(object_id)
        if record is None or record.sync_id != sync_id:
            record = kept.new_record(sync_id, desired, applied)
            early = kept.early.pop(object_id, None)
            if early is not None and early.sync_id == sync_id:
                record.version = record.health_version = early.seen.resource_version
                record.health = early.health if record.whole else CURRENT
                kept.tasks.of(object_id).deferred = (early.event_type, early.seen)
        else:
            activity = kept.tasks.get(object_id)
            if activity is not None and activity.task is not Task.NONE and not activity.busy:
                if activity.task is Task.CORRECT and (activity.changes or activity.changes is None):
                    self._working.healed(record, activity)
                    record.told = b""  # that report says what became of it
                activity.task = Task.NONE
            self._judging.told_ended(object_id, record)
            record.desired = desired.or_known(record.desired)
            if record.applied != applied:
                record.applied = applied
        record.shown = kept.rounds.get(GroupKind(object_id.group, object_id.kind), 0)
        record.passed = kept.passes.get(sync_id, 0)
        record.told = b""
        record.claimant = ""
        self._judging.release(object_id, record)

    def _health_of(self, object_id: ObjectId, record: Record) -> Health:
        state = record.current_health()
        problem = self._kept.problems.get(GroupKind(object_id.group, object_id.kind), "")
        return progressing(f"its status is not known: {problem}") if state is NOT_SEEN and problem else state
