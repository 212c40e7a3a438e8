"""What the API server holds: objects by kind and name, one revision counter, and the history that watches read.

Stored values are never changed after they are stored; a write stores a new value that may share parts with the old one.
One lock guards all; each table has a condition on it that wakes its watchers.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ocisync.sandbox.ownership import Managers
from ocisync.sandbox.shapes import Json

HISTORY: Final = 20_000  # events kept per table; a watch from before gets 410
ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"

Key = tuple[str, str]  # namespace ("" for cluster-scoped), name
TableKey = tuple[str, str]  # group, plural
Place = tuple[TableKey, Key]


def dump(value: Json) -> bytes:
    """Write compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Stored:
    """One version of an object, with its decoded managers and lazily made bytes."""

    __slots__ = ("_meta", "_raw", "managers", "revision", "value")

    def __init__(self, value: Json, managers: Managers, revision: int) -> None:
        """Keep a value that nobody changes any more; `revision` is its resourceVersion."""
        self.value = value
        self.managers = managers
        self.revision = revision
        self._raw: bytes | None = None
        self._meta: bytes | None = None

    @property
    def labels(self) -> dict[str, str]:
        """The labels, possibly empty."""
        return self.value["metadata"].get("labels") or {}

    @property
    def uid(self) -> str:
        """The uid."""
        return str(self.value["metadata"]["uid"])

    def raw(self) -> bytes:
        """Return the whole object as JSON."""
        if self._raw is None:
            self._raw = dump(self.value)
        return self._raw

    def meta(self) -> bytes:
        """Return the object's `PartialObjectMetadata` as JSON."""
        if self._meta is None:
            self._meta = dump(partial(self.value))
        return self._meta


def partial(value: Json) -> Json:
    """Return the `PartialObjectMetadata` of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}


def owners_of(stored: Stored | None) -> list[str]:
    """Return the uids of an object's owners."""
    if stored is None:
        return []
    return [reference.get("uid", "") for reference in stored.value["metadata"].get("ownerReferences") or ()]


@dataclass(frozen=True, slots=True)
class Event:
    """One change, with the version before it, so that a selector can tell entering from leaving."""

    kind: str
    revision: int
    new: Stored
    old: Stored | None


@dataclass(slots=True)
class Table:
    """The objects of one kind and their recent history."""

    key: TableKey
    changed: threading.Condition
    objects: dict[Key, Stored] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    dropped: int = 0  # events no longer kept
    oldest: int = 0  # changes after this revision are all still known

    def position(self, revision: int) -> int | None:
        """Return the absolute position of the first event after `revision`; None when history does not reach back."""
        if revision < self.oldest:
            return None
        return self.dropped + bisect_right(self.events, revision, key=lambda event: event.revision)

    def append(self, event: Event) -> None:
        """Add an event and forget old ones."""
        self.events.append(event)
        if len(self.events) > HISTORY:
            half = HISTORY // 2
            self.oldest = self.events[half - 1].revision
            del self.events[:half]
            self.dropped += half

    def forget(self) -> None:
        """Forget all history, as a compaction does."""
        if self.events:
            self.oldest = self.events[-1].revision
            self.dropped += len(self.events)
            self.events.clear()


Listener = Callable[[TableKey, Event], None]


class Store:
    """All tables."""

    def __init__(self) -> None:
        """Start empty."""
        self.lock = threading.RLock()
        self.revision = 100
        self._tables: dict[TableKey, Table] = {}
        self.listeners: list[Listener] = []
        self.uids: set[str] = set()
        self.dependents: dict[str, set[Place]] = {}  # owner's uid -> who refers to it

    def table(self, key: TableKey) -> Table:
        """Return a table, making it when missing."""
        found = self._tables.get(key)
        if found is None:
            with self.lock:
                found = self._tables.setdefault(key, Table(key, threading.Condition(self.lock)))
        return found

    def tables(self) -> tuple[Table, ...]:
        """Return every table."""
        with self.lock:
            return tuple(self._tables.values())

    def drop_table(self, key: TableKey) -> None:
        """Forget a table's objects and end its history (its CRD is gone)."""
        table = self.table(key)
        with self.lock:
            table.objects.clear()
            table.forget()
            table.oldest = self.revision
            table.changed.notify_all()

    def commit(self, table: Table, key: Key, value: Json, managers: Managers) -> Stored:
        """Store a new version under the next revision; `value` must not be shared with anyone who changes it."""
        with self.lock:
            self.revision += 1
            value["metadata"]["resourceVersion"] = str(self.revision)
            stored = Stored(value, managers, self.revision)
            old = table.objects.get(key)
            table.objects[key] = stored
            self._publish(table, Event(ADDED if old is None else MODIFIED, self.revision, stored, old))
            return stored

    def erase(self, table: Table, key: Key) -> Stored:
        """Remove an object; returns its last state under the deletion's revision."""
        with self.lock:
            old = table.objects.pop(key)
            self.revision += 1
            value = dict(old.value)
            value["metadata"] = {**old.value["metadata"], "resourceVersion": str(self.revision)}
            last = Stored(value, old.managers, self.revision)
            self._publish(table, Event(DELETED, self.revision, last, old))
            return last

    def _publish(self, table: Table, event: Event) -> None:
        table.append(event)
        self._index(table.key, event)
        table.changed.notify_all()
        for listener in self.listeners:
            listener(table.key, event)

    def _index(self, table: TableKey, event: Event) -> None:
        metadata = event.new.value["metadata"]
        before = owners_of(event.old)
        after = owners_of(event.new) if event.kind != DELETED else []
        if before or after:
            place: Place = (table, (metadata.get("namespace", ""), metadata["name"]))
            for owner in before:
                self.dependents.get(owner, set()).discard(place)
            for owner in after:
                self.dependents.setdefault(owner, set()).add(place)
        if event.kind == DELETED:
            self.uids.discard(event.new.uid)
            if not self.dependents.get(event.new.uid, True):
                del self.dependents[event.new.uid]
        else:
            self.uids.add(event.new.uid)

    def owned(self, owner: str, table: TableKey) -> list[Stored]:
        """Return the objects of a table that refer to an owner."""
        with self.lock:
            places = [place for place in self.dependents.get(owner, ()) if place[0] == table]
            return [self._tables[table].objects[key] for _, key in places]

    def wake(self) -> None:
        """Wake every watcher, so that it notices that the server stops."""
        for table in self.tables():
            with self.lock:
                table.changed.notify_all()

    def clear(self) -> None:
        """Forget everything; the revision goes on, so that old watches see history gone."""
        with self.lock:
            self.revision += 1
            self.uids.clear()
            self.dependents.clear()
            for table in self._tables.values():
                table.objects.clear()
                table.forget()
                table.oldest = self.revision
                table.changed.notify_all()
