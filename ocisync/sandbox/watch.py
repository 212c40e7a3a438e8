"""List and watch: selection, pages, streams, bookmarks, history that is gone.

A watch with a selector sees an object that begins to match as ADDED and one that ceases to match as DELETED, as it
was before. `sendInitialEvents=true&resourceVersionMatch=NotOlderThan` streams what is there and then a bookmark
annotated `k8s.io/initial-events-end`. A resourceVersion older than the kept history ends in an ERROR event with a 410
Status. Pages continue in name order from what is there at that moment, under the first page's resourceVersion. A list
at `resourceVersionMatch=Exact` shows what was there at that version, as far as history is kept.
"""

from __future__ import annotations

import base64
import json
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ocisync.sandbox import apierrors, views
from ocisync.sandbox.apierrors import ApiError, Cause
from ocisync.sandbox.httpserver import ConnectionLostError, Reply, Request
from ocisync.sandbox.kinds import Resource
from ocisync.sandbox.selectors import Test, parse_fields, parse_labels
from ocisync.sandbox.shapes import Json
from ocisync.sandbox.store import ADDED, DELETED, MODIFIED, Event, Key, Store, Stored, Table, dump

BOOKMARK_EVERY_S: Final = 60.0
PEEK_EVERY_S: Final = 1.0  # how soon a client that hung up is noticed while nothing happens
LONGEST_WATCH_S: Final = 3600.0
BATCH: Final = 200  # events written at once


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a table a client wants."""

    namespace: str  # "" = all
    labels: Test | None
    fields: Callable[[Json], bool] | None

    def matches(self, stored: Stored | None) -> bool:
        """Whether an object is selected."""
        if stored is None:
            return False
        if self.namespace and stored.value["metadata"].get("namespace") != self.namespace:
            return False
        if self.labels is not None and not self.labels(stored.labels):
            return False
        return self.fields is None or self.fields(stored.value)


def selection(resource: Resource, namespace: str, request: Request) -> Selection:
    """Read the selectors of a request."""
    labels = parse_labels(request.param("labelSelector"))
    fields = parse_fields(request.param("fieldSelector"), resource.selectable)
    return Selection(namespace, labels, fields)


def _revision(request: Request) -> int | None:
    text = request.param("resourceVersion")
    if text == "":
        return None
    if not text.isdigit():
        why = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        if request.flag("watch"):
            raise ApiError("", why)
        raise apierrors.bad_request(f"invalid resource version: {why}")
    return int(text)


# -- list -------------------------------------------------------------------------------------------


def list_objects(store: Store, table: Table, resource: Resource, namespace: str, request: Request) -> bytes:
    """Answer a list."""
    wanted = selection(resource, namespace, request)
    moment = _moment(request)
    limit = int(request.param("limit") or 0)
    start: tuple[str, str] | None = None
    with store.lock:
        revision, objects = (store.revision, table.objects) if moment is None else _as_of(store, table, moment)
        if request.param("continue"):
            revision, start = _read_token(request.param("continue"))
            if revision < table.oldest:
                raise apierrors.gone("The provided continue parameter is too old to display a consistent list result.")
        found = [
            (key, objects[key])
            for key in sorted(objects)
            if (start is None or key > start) and wanted.matches(objects[key])
        ]
    metadata: dict[str, Json] = {"resourceVersion": str(revision)}
    if resource.custom:
        metadata["continue"] = ""
    if limit and len(found) > limit:
        metadata["continue"] = _write_token(revision, found[limit - 1][0])
        if wanted.labels is None and wanted.fields is None:
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return views.list_body(resource, (stored for _, stored in found), request.header("accept"), metadata)


def _moment(request: Request) -> int | None:
    """The one version that a list asks for; None for what is there now."""
    revision = _revision(request)
    if request.param("resourceVersionMatch") != "Exact":
        return None
    if not revision:
        why = 'resourceVersionMatch "Exact" is forbidden without a resourceVersion other than "0"'
        causes = [apierrors.forbidden_value("resourceVersionMatch", why)]
        raise apierrors.invalid("meta.k8s.io", "ListOptions", "", causes)
    return revision


def _as_of(store: Store, table: Table, moment: int) -> tuple[int, dict[Key, Stored]]:
    """What a table held at a version: what it holds now, with all that came later taken back."""
    if moment > store.revision:
        raise ApiError("Timeout", f"Too large resource version: {moment}, current: {store.revision}", code=504)
    position = table.position(moment)
    if position is None:
        raise apierrors.gone(f"The provided resource version is too old: {moment} ({table.oldest})")
    objects = dict(table.objects)
    for event in reversed(table.events[position - table.dropped :]):
        metadata = event.new.value["metadata"]
        key = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        if event.old is None:
            objects.pop(key, None)
        else:
            objects[key] = event.old
    return moment, objects


def _write_token(revision: int, key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, *key]).encode()).decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        revision, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise apierrors.bad_request("continue key is not valid: malformed token") from None
    return int(revision), (str(namespace), str(name))


# -- watch ------------------------------------------------------------------------------------------


class Watch:
    """One open watch."""

    def __init__(
        self,
        store: Store,
        table: Table,
        resource: Resource,
        wanted: Selection,
        request: Request,
        running: Callable[[], bool],
    ) -> None:
        """Prepare a watch of `wanted`; it ends when `running` turns false."""
        self._store = store
        self._table = table
        self._resource = resource
        self._wanted = wanted
        self._request = request
        self._running = running
        self._accept = request.header("accept")
        self._write = views.view(resource, self._accept)
        self._bookmarks = request.flag("allowWatchBookmarks")

    def serve(self, reply: Reply) -> None:
        """Stream events until the client leaves, the time is up or the server stops."""
        initial, position = self._begin()
        timeout = float(self._request.param("timeoutSeconds") or LONGEST_WATCH_S)
        stream = reply.open_stream(200, {"Content-Type": "application/json"})
        for lines in initial:
            stream.write(lines)
        if position is None:
            stream.close()
            return
        end = time.monotonic() + min(timeout, LONGEST_WATCH_S)
        next_bookmark = time.monotonic() + BOOKMARK_EVERY_S
        while time.monotonic() < end and self._running():
            until = min(end, next_bookmark, time.monotonic() + PEEK_EVERY_S)
            events, revision = self._wait(position, until)
            if events is None:
                stream.write(self._expired(position))
                break
            position += len(events)
            lines = b"".join(line for event in events if (line := self._line(event)))
            if lines:
                stream.write(lines)
            elif not events and _hung_up(reply):
                return
            if self._bookmarks and time.monotonic() >= next_bookmark:
                next_bookmark = time.monotonic() + BOOKMARK_EVERY_S
                stream.write(views.bookmark(self._resource, revision, self._accept, initial_end=False))
        stream.close()

    def _begin(self) -> tuple[Iterator[bytes], int | None]:
        """Return what to send first, and the position of the first event to send after it (None: history is gone)."""
        asked = _revision(self._request)
        initial = self._request.param("sendInitialEvents") not in ("", "false")
        self._check_options()
        with self._store.lock:
            revision = self._store.revision
            if initial or not asked:
                position = self._table.dropped + len(self._table.events)
                objects = [self._table.objects[key] for key in sorted(self._table.objects)]
                if self._request.param("sendInitialEvents") == "false":
                    objects = []
                chosen = [stored for stored in objects if self._wanted.matches(stored)]
                return self._first(chosen, revision, end_mark=initial and self._bookmarks), position
            found = self._table.position(asked)
        if found is None:
            text = f"too old resource version: {asked} ({self._table.oldest})"
            return iter([views.event_line("ERROR", dump(apierrors.gone(text).status()))]), None
        return iter(()), found

    def _check_options(self) -> None:
        match = self._request.param("resourceVersionMatch")
        causes: list[Cause] = []
        if self._request.query.get("sendInitialEvents") and match != "NotOlderThan":
            why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            causes.append(apierrors.forbidden_value("resourceVersionMatch", why))
        if match and not self._request.query.get("sendInitialEvents"):
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            causes.append(apierrors.forbidden_value("resourceVersionMatch", why))
        if causes:
            raise apierrors.invalid("meta.k8s.io", "ListOptions", "", causes)

    def _first(self, objects: list[Stored], revision: int, *, end_mark: bool) -> Iterator[bytes]:
        for start in range(0, len(objects), BATCH):
            yield b"".join(views.event_line(ADDED, self._write(stored)) for stored in objects[start : start + BATCH])
        if end_mark:
            yield views.bookmark(self._resource, revision, self._accept, initial_end=True)

    def _wait(self, position: int, until: float) -> tuple[list[Event] | None, int]:
        """Wait for events from `position` on; None when they are no longer kept."""
        with self._store.lock:
            while self._running():
                if position < self._table.dropped:
                    return None, self._store.revision
                events = self._table.events[position - self._table.dropped :][:BATCH]
                pause = until - time.monotonic()
                if events or pause <= 0:
                    return events, self._store.revision
                self._table.changed.wait(pause)
        return [], self._store.revision

    def _line(self, event: Event) -> bytes:
        was, now = self._wanted.matches(event.old), self._wanted.matches(event.new)
        if event.kind == DELETED:
            return views.event_line(DELETED, self._write(event.new)) if was else b""
        if now:
            return views.event_line(MODIFIED if was else ADDED, self._write(event.new))
        if was and event.old is not None:
            # The object as the client last knew it, under the revision at which it left the selection.
            value = {**event.old.value, "metadata": {**event.old.value["metadata"]}}
            value["metadata"]["resourceVersion"] = str(event.revision)
            return views.event_line(DELETED, self._write(Stored(value, event.old.managers, event.revision)))
        return b""

    def _expired(self, position: int) -> bytes:
        text = f"too old resource version: history before {self._table.oldest} is gone (position {position})"
        return views.event_line("ERROR", dump(apierrors.gone(text).status()))


def _hung_up(reply: Reply) -> bool:
    """Whether the client closed its side of an otherwise silent connection."""
    try:
        readable, _, _ = select.select([reply.sock], [], [], 0)
        return bool(readable) and reply.sock.recv(1, 0x2) == b""  # MSG_PEEK
    except (OSError, ValueError):
        raise ConnectionLostError("client gone") from None
