"""What the parts of the tracker share: one lock, the table of owned objects, and what is to be told outside.

Everything here is used with `lock` held, but for `flush`, which takes it itself and tells without it.
"""

from __future__ import annotations

import itertools
import threading
import zlib

from ocisync.cluster.buckets import TokenBucket
from ocisync.cluster.correction import Counters, Effects, Limits, SyncRules
from ocisync.cluster.drift import DriftReport
from ocisync.cluster.health import health, needs_object
from ocisync.cluster.health_checks import HealthRule
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Desired
from ocisync.cluster.records import Early, Record, Task
from ocisync.cluster.tasks import TaskQueue
from ocisync.cluster.watch import GroupKind
from ocisync.model.clock import Clock
from ocisync.model.resource import ObjectId


class Kept:
    """The state of a tracker."""

    def __init__(self, clock: Clock, effects: Effects, limits: Limits) -> None:
        self.clock = clock
        self.effects = effects
        self.limits = limits
        self.counters = Counters()
        self.lock = threading.Condition()
        self.syncs: dict[str, SyncRules] = {}
        self.table: dict[ObjectId, Record] = {}
        self.tasks = TaskQueue(clock, limits)
        self.passes: dict[str, int] = {}  # syncs in a pass, by the number of the pass
        self.pass_numbers = itertools.count(1)
        self.dirty: dict[str, set[ObjectId]] = {}  # touched while nothing may be written
        self.early: dict[ObjectId, Early] = {}  # shown by a watch before the answer to the apply that made them
        self.rounds: dict[GroupKind, int] = {}
        self.synced: set[GroupKind] = set()
        self.problems: dict[GroupKind, str] = {}
        self.ending: set[str] = set()  # namespaces of ours that are being deleted
        self.bucket = TokenBucket(limits.global_burst, 1 / limits.global_per_s, clock.monotonic())
        self.anew: set[str] = set()  # syncs that have to be looked at from the beginning
        self.reports: list[DriftReport] = []
        self.changed: set[str] = set()
        self.telling = 0  # threads that tell the outside something just now

    def new_record(self, sync_id: str, desired: Desired, applied: Applied) -> Record:
        """Own one more object; its daily audit has its place in the day by its name."""
        object_id = desired.id
        slot = zlib.crc32(object_id.key().encode()) % max(1, int(self.limits.audit_s))
        whole = needs_object(object_id.group, object_id.kind)
        record = self.table[object_id] = Record(sync_id, desired, applied, slot, whole=whole)
        return record

    def health_rule(self, sync_id: str) -> HealthRule:
        """How the health of a sync's objects is told."""
        rules = self.syncs.get(sync_id)
        return health if rules is None else rules.health

    def drop(self, object_id: ObjectId) -> None:
        """Own it no longer."""
        self.table.pop(object_id, None)
        self.tasks.drop(object_id)

    def writing(self, sync_id: str) -> bool:
        """Whether a task of this sync is being done."""
        records = (self.table.get(i) for i in self.tasks.busy_ids())
        return any(record is not None and record.sync_id == sync_id for record in records)

    def held(self, object_id: ObjectId, record: Record) -> bool:
        """Whether a write of ours is (or may be) under way, so that nothing can be judged yet."""
        number = self.passes.get(record.sync_id)
        return self.tasks.busy([object_id]) or (number is not None and record.passed != number)

    def touched(self, object_id: ObjectId, record: Record) -> None:
        """Something happened to it while nothing may be written: it is looked at afterwards."""
        self.dirty.setdefault(record.sync_id, set()).add(object_id)

    def schedule(self, object_id: ObjectId, task: Task, delay_s: float = 0.0) -> None:
        """Let a task wait for its turn, and wake whoever does them."""
        self.tasks.schedule(object_id, task, delay_s)
        self.lock.notify_all()

    def tell(self, report: DriftReport | None) -> None:
        """Note a report; `flush` sends it."""
        if report is not None:
            self.reports.append(report)

    def all_told(self) -> bool:
        """Whether the outside knows everything that there was to tell."""
        return not (self.reports or self.changed or self.telling)

    def flush(self) -> None:
        """Tell the outside what there is to tell, without the lock."""
        if not (self.reports or self.changed):
            return  # whoever adds something comes here afterwards
        with self.lock:
            reports, self.reports = self.reports, []
            changed, self.changed = self.changed, set()
            self.telling += 1
        try:
            for report in reports:
                self.effects.report(report)
            for sync_id in sorted(changed):
                self.effects.changed(sync_id)
        finally:
            with self.lock:
                self.telling -= 1
