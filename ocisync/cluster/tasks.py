"""What waits to be done for objects, by the time at which it may be done. Not thread-safe: its owner locks."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable

from ocisync.cluster.correction import Limits
from ocisync.cluster.records import Activity, Task
from ocisync.model.clock import Clock
from ocisync.model.resource import ObjectId


class TaskQueue:
    """One task at most for each object. Activities exist only while something happens to their objects."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._activity: dict[ObjectId, Activity] = {}
        self._heap: list[tuple[float, int, ObjectId]] = []
        self._order = itertools.count()

    def get(self, object_id: ObjectId) -> Activity | None:
        """The activity of an object, if there is any."""
        return self._activity.get(object_id)

    def of(self, object_id: ObjectId) -> Activity:
        """The activity of an object, begun if need be."""
        activity = self._activity.get(object_id)
        if activity is None:
            activity = self._activity[object_id] = Activity(self._limits, self._clock.monotonic())
        return activity

    def busy(self, ids: Iterable[ObjectId]) -> bool:
        """Whether a task of any of these objects is being done."""
        return any((activity := self._activity.get(i)) is not None and activity.busy for i in ids)

    def busy_ids(self) -> tuple[ObjectId, ...]:
        """The objects whose tasks are being done."""
        return tuple(i for i, activity in self._activity.items() if activity.busy)

    def deferring(self) -> tuple[ObjectId, ...]:
        """The objects with an event that waits to be judged."""
        return tuple(i for i, activity in self._activity.items() if activity.deferred is not None)

    def idle(self, object_id: ObjectId | None = None) -> bool:
        """Whether nothing waits and nothing is being done, for one object or for all."""
        activities = self._activity.values() if object_id is None else [self.get(object_id)]
        return not any(a is not None and (a.busy or a.task is not Task.NONE) for a in activities)

    def schedule(self, object_id: ObjectId, task: Task, delay_s: float = 0.0) -> None:
        """Let a task wait for its turn; it replaces the one that waited."""
        activity = self.of(object_id)
        activity.task = task
        # A look is only a GET: it does not wait for the end of a backoff.
        held = 0.0 if task is Task.LOOK else activity.hold_until
        activity.due = max(self._clock.monotonic() + delay_s, held)
        heapq.heappush(self._heap, (activity.due, next(self._order), object_id))

    def pop(self, now: float) -> ObjectId | None:
        """The next object whose task is due and that is not busy; it leaves the queue."""
        while self._heap and self._heap[0][0] <= now:
            due, _, object_id = heapq.heappop(self._heap)
            activity = self._activity.get(object_id)
            if activity is None or activity.task is Task.NONE or activity.due != due or activity.busy:
                continue  # replaced, dropped, or settled (and scheduled anew if need be) when the busy one ends
            return object_id
        return None

    def wait_s(self, now: float, at_most: float) -> float:
        """Seconds until the next task."""
        return min(at_most, max(0.0, self._heap[0][0] - now)) if self._heap else at_most

    def drop(self, object_id: ObjectId) -> None:
        """Forget an object, unless its task is being done."""
        activity = self._activity.get(object_id)
        if activity is not None and not activity.busy:
            del self._activity[object_id]

    def forget_quiet(self, now: float) -> None:
        """Forget all that has come to rest."""
        for object_id in [i for i, a in self._activity.items() if a.idle(now, self._limits.quiet_s)]:
            del self._activity[object_id]
