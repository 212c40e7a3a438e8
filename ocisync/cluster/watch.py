"""One watch for each kind, shared by all syncs: initial list, events, resume, and anew when that is needed.

The selector asks for the *existence* of the `part-of` label, so objects claimed by someone else stay in sight. A list
comes as a stream (`sendInitialEvents`), with a paged list for servers that cannot do that; either way one object is
decoded at a time and nothing is kept here. Kinds without a health rule are watched as metadata only.

What the handler is told, in this order for each round: `started`, then `event` for every object and change; `synced`
once all objects that exist were shown. An object that was not shown between `started` and `synced` is gone. `started`
comes before the list is asked for: whatever was answered before it, the list knows. A resumed watch has no gap and
starts no round. Dead connections end after `_SILENCE_S`: bookmarks come once a minute.

A server may take up a watch from a version that it has yet to reach, and stays silent until then: so it is after etcd
was restored from a backup. A watch that must notice that does not resume after a break (`resumes`).
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from ocisync.cluster.client import JSON, PARTIAL_METADATA, Response
from ocisync.kit.backoff import delays
from ocisync.kit.stop import StopToken
from ocisync.model.errors import OcisyncError, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PART_OF_LABEL

_PARTIAL_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_INITIAL_END: Final = "k8s.io/initial-events-end"
_SILENCE_S: Final = 90.0
_SESSION_S: Final = 300  # the server ends a watch after this; spread by ± 20 %
_PAGE: Final = 500
_BACKOFF_BASE_S: Final = 0.2
_BACKOFF_CAP_S: Final = 5.0  # after an outage drift stays unseen for as long as the last pause
_FORBIDDEN_PAUSE_S: Final = 30.0  # rights do not come by asking,
_FORBIDDEN_SOON: Final = 4  # but an API server that has just started knows none for a moment
_RETRY_AFTER_CAP_S: Final = 60.0
_GONE: Final = frozenset({410, 504})  # 504: "Too large resource version", after a restore of etcd


@dataclass(frozen=True, slots=True, order=True)
class GroupKind:
    """A kind in its group; versions do not matter to ownership."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class WatchHandler(Protocol):
    """Who is told. Called on the watch's own thread, one call at a time for each kind; must be quick."""

    def started(self, kind: GroupKind) -> None:
        """A new round: every existing object follows."""

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One object as it is now: ADDED, MODIFIED or DELETED."""

    def synced(self, kind: GroupKind) -> None:
        """All that exists has been shown."""

    def problem(self, kind: GroupKind, message: str) -> None:
        """The watch does not run and is retried; an empty message says that it runs again."""


class WatchSource(Protocol):
    """The part of `client.Cluster` that a watch needs."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        accept: str = JSON,
    ) -> Response:
        """One request, whole answer."""

    def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        accept: str = JSON,
        timeout_s: float = ...,
        stop: StopToken | None = None,
    ) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """Status and lines of a watch."""


class _Restart(Exception):
    """The resourceVersion is too old (or from a future that was rolled back): list again."""


class _Refused(Exception):
    """The server answered with an error status."""

    def __init__(self, status: int, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class KindWatch:
    """The loop for one kind.

    Args:
        path: finds the collection's path anew for each connection (a CRD may change its versions).
        full: whole objects instead of metadata.
        sleep: waits; true to give up. A stop token's `wait`.
        selector: of labels; empty for all objects.
        on_rollback: told when a complete list is older than what was shown before: etcd was restored from a backup.
        resumes: false to list anew whenever a connection broke, or could not be made.
    """

    def __init__(
        self,
        source: WatchSource,
        kind: GroupKind,
        path: Callable[[], str],
        handler: WatchHandler,
        stop: StopToken,
        *,
        full: bool,
        rng: random.Random,
        sleep: Callable[[float], bool] | None = None,
        selector: str = PART_OF_LABEL,
        on_rollback: Callable[[GroupKind], None] | None = None,
        resumes: bool = True,
    ) -> None:
        self.kind = kind
        self._resumes = resumes
        self._on_rollback = on_rollback
        self._newest = 0
        self._forbidden = 0
        self._selector = selector
        self._source = source
        self._path = path
        self._handler = handler
        self._stop = stop
        self._full = full
        self._rng = rng
        self._sleep = sleep or stop.wait
        self._version = ""  # where to resume; empty: list first
        self._streaming_list = True
        self._progress = False
        self._troubled = False

    def run(self) -> None:
        """Watch until stopped. Never raises for anything that a server or a network can do."""
        pauses = delays(_BACKOFF_BASE_S, _BACKOFF_CAP_S, self._rng)
        while not self._stop.stopped:
            self._progress = False
            least = 0.0
            try:
                self._session()
            except _Restart:
                self._version = ""
            except _Refused as refused:
                least = min(refused.retry_after_s, _RETRY_AFTER_CAP_S)
                if refused.status == 403:
                    self._forbidden += 1
                    least = max(least, _FORBIDDEN_PAUSE_S if self._forbidden > _FORBIDDEN_SOON else 0.0)
                self._trouble(str(refused))
                self._broken()
            except OcisyncError as error:
                self._broken()
                # Silence and broken connections are everyday for long requests: only news if nothing came at all.
                if not self._progress:
                    self._trouble(error.message)
            if self._progress:
                pauses = delays(_BACKOFF_BASE_S, _BACKOFF_CAP_S, self._rng)
            if self._sleep(max(least, next(pauses))):
                return

    def _session(self) -> None:
        """One connection: resume where the last one ended, or list and watch from there."""
        path = self._path()
        if self._version:
            self._watch(path, [("resourceVersion", self._version)], listing=False)
        elif self._streaming_list:
            self._handler.started(self.kind)
            try:
                self._watch(
                    path,
                    [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")],
                    listing=True,
                )
            except _Refused as refused:
                if refused.status not in {400, 422}:
                    raise
                # An API server without streaming lists refuses the parameter.
                self._streaming_list = False
                self._progress = True
        else:
            self._list(path)

    def _watch(self, path: str, extra: list[tuple[str, str]], *, listing: bool) -> None:
        seconds = int(_SESSION_S * (0.8 + 0.4 * self._rng.random()))
        query = [
            ("watch", "true"),
            ("labelSelector", self._selector),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
            *extra,
        ]
        accept = JSON if self._full else PARTIAL_METADATA
        with self._source.stream(path, query=query, accept=accept, timeout_s=_SILENCE_S, stop=self._stop) as (
            status,
            lines,
        ):
            if status != 200:
                self._refuse(status, b"".join(lines))
            self._fine()
            for line in lines:
                listing = self._line(line, listing=listing)
                if self._stop.stopped:
                    return

    def _line(self, line: bytes, *, listing: bool) -> bool:
        """Handle one event; returns whether the initial list is still coming."""
        event = _decode(line)
        event_type, obj = str(event.get("type") or ""), event.get("object")
        if not isinstance(obj, dict):
            raise Unavailable(f"watch of {self.kind}: an event without an object")
        if event_type == "ERROR":
            code = obj.get("code")
            self._refuse(code if isinstance(code, int) else 500, line)
        self._progress = True
        metadata: dict[str, Any] = obj.get("metadata") or {}
        if event_type != "BOOKMARK":
            self._handler.event(self.kind, event_type, obj)
        if listing:
            # Until the end mark the versions are in no order, and none may be resumed from.
            if event_type != "BOOKMARK" or (metadata.get("annotations") or {}).get(_INITIAL_END) != "true":
                return True
            self._check_time(metadata)
            self._handler.synced(self.kind)
        version = str(metadata.get("resourceVersion") or "")
        self._version = version or self._version
        self._newest = max(self._newest, _number(version))
        return False

    def _check_time(self, metadata: Mapping[str, Any]) -> None:
        """Tell if a complete list is of a time before what was shown already, instead of what it lacks."""
        version, newest = _number(metadata.get("resourceVersion")), self._newest
        self._newest = version
        if 0 < version < newest and self._on_rollback is not None:
            self._on_rollback(self.kind)
            raise _Restart

    def _list(self, path: str) -> None:
        """The paged list of servers without streaming lists; leaves the version to watch from."""
        accept = JSON if self._full else _PARTIAL_LIST
        token = ""
        self._handler.started(self.kind)
        while True:
            query = [("labelSelector", self._selector), ("limit", str(_PAGE))]
            if token:
                query.append(("continue", token))
            answer = self._source.request("GET", path, query=query, accept=accept)
            if answer.status != 200:
                self._refuse(answer.status, answer.body, answer.headers.get("retry-after", ""))
            page = _decode(answer.body)
            # Items of a list leave out what the list says once.
            common = {
                "apiVersion": page.get("apiVersion"),
                "kind": str(page.get("kind") or "").removesuffix("List"),
            }
            for item in page.get("items") or ():
                if isinstance(item, dict):
                    self._handler.event(self.kind, "ADDED", {**common, **item})
            metadata: dict[str, Any] = page.get("metadata") or {}
            token = str(metadata.get("continue") or "")
            if not token or self._stop.stopped:
                break
        if self._stop.stopped:
            return
        self._check_time(metadata)
        self._handler.synced(self.kind)
        self._version = str(metadata.get("resourceVersion") or "")
        self._progress = True
        self._fine()

    def _refuse(self, status: int, body: bytes, retry_after: str = "") -> NoReturn:
        if status in _GONE:
            raise _Restart
        try:
            answer = _decode(body)
            status_object = answer.get("object") if answer.get("type") == "ERROR" else answer
            message = str(status_object.get("message") or "") if isinstance(status_object, dict) else ""
        except Unavailable:
            message = body[:200].decode(errors="replace")
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        raise _Refused(status, f"watch of {self.kind} answered {status}: {message or 'no message'}", seconds)

    def _broken(self) -> None:
        if not self._resumes:
            self._version = ""

    def _trouble(self, message: str) -> None:
        self._troubled = True
        self._handler.problem(self.kind, message)

    def _fine(self) -> None:
        self._forbidden = 0
        if self._troubled:
            self._troubled = False
            self._handler.problem(self.kind, "")


def _number(version: object) -> int:
    text = str(version or "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _decode(data: bytes) -> JsonObject:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Unavailable(f"the API server sent no JSON on a watch: {error}") from error
    if not isinstance(value, dict):
        raise Unavailable("the API server sent JSON that is no object on a watch")
    return value


class WatchGroup:
    """A thread for each watched kind.

    Args:
        locate: the collection's path for a kind, over all namespaces; raises `OcisyncError` while it is unknown.
        full: whether a kind is watched with whole objects.
        on_crash: told when a thread dies of a defect; the process should end.
        on_rollback: as for `KindWatch`.
    """

    def __init__(
        self,
        source: WatchSource,
        locate: Callable[[GroupKind], str],
        handler: WatchHandler,
        *,
        full: Callable[[GroupKind], bool],
        rng: random.Random,
        on_crash: Callable[[BaseException], None],
        on_rollback: Callable[[GroupKind], None] | None = None,
    ) -> None:
        self._on_rollback = on_rollback
        self._source = source
        self._locate = locate
        self._handler = handler
        self._full = full
        self._rng = rng
        self._on_crash = on_crash
        self._lock = threading.Lock()
        self._running: dict[GroupKind, tuple[StopToken, threading.Thread]] = {}
        self._stopped = False

    def ensure(self, kinds: frozenset[GroupKind]) -> None:
        """Watch exactly these kinds. A watch that is no longer wanted ends with its next event or bookmark."""
        with self._lock:
            if self._stopped:
                return
            for kind in [kind for kind in self._running if kind not in kinds]:
                self._running.pop(kind)[0].stop()
            for kind in sorted(kinds - self._running.keys()):
                self._running[kind] = self._start(kind)

    def again(self, kinds: frozenset[GroupKind]) -> None:
        """Show all objects of these kinds once more, those that are watched."""
        with self._lock:
            for kind in sorted(kinds & self._running.keys()):
                self._running.pop(kind)[0].stop()
                self._running[kind] = self._start(kind)

    def kinds(self) -> frozenset[GroupKind]:
        """What is watched now."""
        with self._lock:
            return frozenset(self._running)

    def stop(self, timeout_s: float) -> None:
        """End all watches; the caller has closed the streams, so threads end at once."""
        with self._lock:
            self._stopped = True
            running = list(self._running.values())
            self._running.clear()
        for token, _ in running:
            token.stop()
        for _, thread in running:
            thread.join(timeout_s)

    def _start(self, kind: GroupKind) -> tuple[StopToken, threading.Thread]:
        token = StopToken()
        watch = KindWatch(
            self._source,
            kind,
            lambda: self._locate(kind),
            self._handler,
            token,
            full=self._full(kind),
            rng=random.Random(self._rng.random()),  # noqa: S311 - jitter
            on_rollback=self._on_rollback,
        )
        thread = threading.Thread(target=self._guard, args=(watch,), name=f"watch-{kind}", daemon=True)
        thread.start()
        return token, thread

    def _guard(self, watch: KindWatch) -> None:
        try:
            watch.run()
        except BaseException as error:  # noqa: BLE001 - a dead watch would hide drift for ever: the process must end
            self._on_crash(error)
