"""Kubernetes Events, in moderation: equal ones are counted instead of repeated, and every sync has a budget.

A note is queued and sent by one thread, so no reconcile ever waits for it. A note that equals an earlier one of the
last ten minutes raises that Event's count. A sync that has a lot to say is cut to a burst and then one a minute; what
was not sent is counted in the metrics and named in the next Event of that sync.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from ocisync.agent.metrics import Metrics
from ocisync.cluster.buckets import TokenBucket
from ocisync.cluster.client import JSON, MERGE_PATCH, Cluster, segment
from ocisync.kit.log import logger, redact
from ocisync.kit.stop import StopToken
from ocisync.model.clock import Clock, format_rfc3339
from ocisync.model.errors import OcisyncError
from ocisync.model.resource import JsonObject

_LOG = logger("events")
_COMPONENT = "ocisync"
_QUEUE = 1_000
_REMEMBERED = 2_000
_SERIES_S = 600.0
_BURST = 30
_EVERY_S = 60.0
_MESSAGE_CHARS = 1_024  # the API's own limit
_DEFAULT_NAMESPACE = "default"  # where Events on cluster-scoped objects live


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One Event to be. `sync` is the key whose budget it is charged to."""

    sync: str
    subject: Subject
    reason: str
    message: str
    warning: bool = False


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: float


class EventRecorder:
    """Takes notes from any thread; `run` sends them."""

    def __init__(self, cluster: Cluster, clock: Clock, metrics: Metrics, *, host: str = "") -> None:
        self._cluster = cluster
        self._clock = clock
        self._metrics = metrics
        self._host = host
        self._notes: queue.Queue[Note | None] = queue.Queue(_QUEUE)
        self._series: OrderedDict[Note, _Series] = OrderedDict()
        self._budgets: dict[str, TokenBucket] = {}
        self._lost: dict[str, int] = {}
        self._lock = threading.Lock()

    def record(self, note: Note) -> None:
        """Queue a note; a full queue drops it."""
        try:
            self._notes.put_nowait(note)
        except queue.Full:
            self._drop(note)

    def run(self, stop: StopToken) -> None:
        """Send notes until stopped, then what is still queued."""
        while True:
            try:
                note = self._notes.get(timeout=0.5)
            except queue.Empty:
                if stop.stopped:
                    return
                continue
            if note is not None:
                self.send(note)

    def wake(self) -> None:
        """Let `run` notice a stop at once."""
        with contextlib.suppress(queue.Full):
            self._notes.put_nowait(None)

    def send(self, note: Note) -> None:
        """Write one Event, or raise the count of an equal one."""
        now = self._clock.monotonic()
        known = self._series.get(note)
        if known is not None and now - known.last > _SERIES_S:
            del self._series[note]
            known = None
        if not self._budget(note.sync, now).take(now):
            self._drop(note)
            return
        try:
            if known is None or not self._again(note, known, now):
                self._create(note, now)
        except OcisyncError as error:
            _LOG.warning("event not written", reason=note.reason, error=error)
            self._drop(note)

    def _create(self, note: Note, now: float) -> None:
        moment = self._clock.now()
        name = _event_name(note.subject, moment)
        lost = self._lost.pop(note.sync, 0)
        answer = self._cluster.request(
            "POST",
            f"/api/v1/namespaces/{segment(_namespace(note.subject))}/events",
            body=json.dumps(event_body(note, name, moment, self._host, lost)).encode(),
            content_type=JSON,
        )
        if answer.status >= 300:
            # Most often the namespace is being deleted. Not worth more than a line.
            _LOG.debug("event not accepted", status=answer.status, reason=note.reason)
            self._drop(note)
            return
        self._series[note] = _Series(name, 1, now)
        while len(self._series) > _REMEMBERED:
            self._series.popitem(last=False)

    def _again(self, note: Note, known: _Series, now: float) -> bool:
        patch = {"count": known.count + 1, "lastTimestamp": format_rfc3339(self._clock.now())}
        answer = self._cluster.request(
            "PATCH",
            f"/api/v1/namespaces/{segment(_namespace(note.subject))}/events/{segment(known.name)}",
            body=json.dumps(patch).encode(),
            content_type=MERGE_PATCH,
        )
        if answer.status >= 300:
            self._series.pop(note, None)
            return False
        known.count += 1
        known.last = now
        self._series.move_to_end(note)
        return True

    def _budget(self, sync: str, now: float) -> TokenBucket:
        bucket = self._budgets.get(sync)
        if bucket is None:
            if len(self._budgets) > _REMEMBERED:
                self._budgets.clear()
            bucket = self._budgets[sync] = TokenBucket(_BURST, _EVERY_S, now)
        return bucket

    def _drop(self, note: Note) -> None:
        with self._lock:
            self._lost[note.sync] = self._lost.get(note.sync, 0) + 1
        self._metrics.count("ocisync_events_dropped_total")


def event_body(note: Note, name: str, now: datetime, host: str, lost: int = 0) -> JsonObject:
    """The Event object."""
    subject = note.subject
    message = redact(note.message)
    if lost:
        message = f"{message} ({lost} earlier messages were not sent)"
    if len(message) > _MESSAGE_CHARS:
        message = message[: _MESSAGE_CHARS - 1] + "…"
    reference: JsonObject = {"apiVersion": subject.api_version, "kind": subject.kind, "name": subject.name}
    if subject.namespace:
        reference["namespace"] = subject.namespace
    if subject.uid:
        reference["uid"] = subject.uid
    moment = format_rfc3339(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": _namespace(subject)},
        "involvedObject": reference,
        "reason": note.reason,
        "message": message,
        "type": "Warning" if note.warning else "Normal",
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": _COMPONENT, **({"host": host} if host else {})},
        "reportingComponent": _COMPONENT,
        "reportingInstance": host or _COMPONENT,
    }


def _namespace(subject: Subject) -> str:
    return subject.namespace or _DEFAULT_NAMESPACE


def _event_name(subject: Subject, now: datetime) -> str:
    # As client-go names them: the object and the time in nanoseconds.
    return f"{subject.name[:230]}.{int(now.timestamp() * 1_000_000) * 1000:x}"
