"""Keeps the record of drift: takes reports from any thread at once, writes them from a thread of its own.

The first report of a sync is written immediately, further ones at most every five seconds together; at rest nothing is
written or read. A record that can't be written is tried again with growing pauses, while at most 500 entries of each
sync wait; what had to be dropped is counted in the metrics. No correction ever waits for any of this.
"""

from __future__ import annotations

import threading
from collections import deque

from ocisync.agent.metrics import Metrics
from ocisync.cluster.drift import DriftReport
from ocisync.cluster.driftrecord import DriftRecords, Entry, entry_of, fold, is_open
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.clock import Clock
from ocisync.model.errors import OcisyncError

_LOG = logger("drift")
_EVERY_S = 5.0
_RETRY_CAP_S = 60.0
_WAITING = 500
_ATTEMPTS = 4  # of one compare-and-swap


class _Sheet:
    """What waits for one sync's record. The record itself is not kept here: it is read when there is news."""

    __slots__ = ("due", "failures", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.due = 0.0
        self.failures = 0


class DriftLog:
    """The records of all syncs of one agent."""

    def __init__(self, records: DriftRecords, clock: Clock, metrics: Metrics) -> None:
        self._records = records
        self._clock = clock
        self._metrics = metrics
        self._changed = threading.Condition()
        self._sheets: dict[str, _Sheet] = {}
        self._gone: set[str] = set()
        self._stopping = False

    def add(self, sync: str, report: DriftReport) -> None:
        """Take a report; never waits."""
        entry = entry_of(report)
        with self._changed:
            sheet = self._sheets.setdefault(sync, _Sheet())
            if len(sheet.waiting) >= _WAITING:
                sheet.waiting.popleft()
                self._metrics.count("ocisync_drift_record_dropped_total")
            sheet.waiting.append(entry)
            self._gone.discard(sync)
            self._changed.notify_all()

    def forget(self, sync: str) -> None:
        """Delete the record of a sync that is gone."""
        with self._changed:
            self._sheets.pop(sync, None)
            self._gone.add(sync)
            self._changed.notify_all()

    def run(self, stop: StopToken) -> None:
        """Write until stopped, then once more what waits."""
        while not stop.stopped:
            self.write_due()
            with self._changed:
                pause = self._pause()
                if not self._stopping and (pause is None or pause > 0):
                    self._changed.wait(pause)
        self.write_due(hurry=True)

    def wake(self) -> None:
        """Let `run` notice a stop at once."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def write_due(self, *, hurry: bool = False) -> None:
        """Write what is due; with `hurry`, all that waits."""
        now = self._clock.monotonic()
        with self._changed:
            due = [sync for sync, sheet in self._sheets.items() if sheet.waiting and (hurry or sheet.due <= now)]
            gone, self._gone = self._gone, set()
        for sync in due:
            self._write(sync)
        for sync in gone:
            self._delete(sync)

    def _pause(self) -> float | None:
        """Seconds until something is due; None if nothing waits."""
        if self._gone:
            return 0.0
        waiting = [sheet.due for sheet in self._sheets.values() if sheet.waiting]
        return max(0.0, min(waiting) - self._clock.monotonic()) if waiting else None

    def _write(self, sync: str) -> None:
        with self._changed:
            sheet = self._sheets.get(sync)
            if sheet is None:
                return
            batch = tuple(sheet.waiting)
        try:
            entries = self._swap(sync, batch)
        except OcisyncError as error:
            self._later(sync, sheet, error)
            return
        with self._changed:
            for entry in batch:
                if sheet.waiting and sheet.waiting[0] is entry:  # older ones may have been dropped meanwhile
                    sheet.waiting.popleft()
            sheet.failures = 0
            sheet.due = self._clock.monotonic() + _EVERY_S
        self._metrics.gauge("ocisync_drift_open", sum(map(is_open, entries)), sync=sync)

    def _swap(self, sync: str, batch: tuple[Entry, ...]) -> list[Entry]:
        """Compare and swap; whoever wrote meanwhile is read and added to."""
        for _ in range(_ATTEMPTS):
            kept = self._records.read(sync)
            entries = list(kept.entries)
            for entry in batch:
                entries = fold(entries, entry)
            if tuple(entries) == kept.entries or self._records.write(sync, entries, kept.version):
                return entries
        raise OcisyncError(f"the drift record of {sync} keeps changing: is a second agent running?")

    def _later(self, sync: str, sheet: _Sheet, error: OcisyncError) -> None:
        pause = min(_EVERY_S * 2.0 ** min(sheet.failures, 10), _RETRY_CAP_S)
        with self._changed:
            sheet.failures += 1
            sheet.due = self._clock.monotonic() + pause
        if sheet.failures == 1:
            _LOG.warning("the record of drift was not written, tried again", sync=sync, error=error)

    def _delete(self, sync: str) -> None:
        try:
            self._records.delete(sync)
        except OcisyncError as error:
            _LOG.warning("the record of drift of a sync that is gone was not deleted", sync=sync, error=error)
