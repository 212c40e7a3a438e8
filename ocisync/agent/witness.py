"""Notices that the cluster has gone back in time: that etcd was restored from a backup while the agent ran.

Versions of one object only rise, and a complete list is never older than what was shown before it was asked for. So an
object that a list shows with a lower version than before, of the same uid, proves a restore, whatever the numbers of
the cluster as a whole say: those may have passed the old ones already, and a restore may even raise them.

Stands before the handler of a watch over objects that the agent writes itself: its syncs, and the ConfigMaps with its
inventories and records, one of which is written whenever anything else is. Once a restore is noticed nothing more is
passed on: whatever is remembered is of a time that never was, and must not be mixed with what is true now.
"""

from __future__ import annotations

from collections.abc import Callable

from ocisync.cluster.memory import version_of
from ocisync.cluster.watch import GroupKind, WatchHandler
from ocisync.model.resource import JsonObject


class Witness:
    """The handler of one watch; all calls come from its thread.

    Args:
        inner: told of everything as long as time goes forward.
        restored: told once, with the object whose version fell.
    """

    def __init__(self, inner: WatchHandler, restored: Callable[[str], None]) -> None:
        self._inner = inner
        self._restored = restored
        self._known: dict[str, tuple[str, int]] = {}
        self._listed: set[str] | None = None
        self._over = False

    def started(self, kind: GroupKind) -> None:
        """A list is asked for."""
        self._listed = set()
        if not self._over:
            self._inner.started(kind)

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One object as it is now."""
        metadata = obj.get("metadata") or {}
        name = f"{metadata.get('namespace') or ''}/{metadata.get('name')}"
        uid, version = str(metadata.get("uid") or ""), version_of(obj)
        before = self._known.get(name)
        if self._listed is not None and before is not None and before[0] == uid and version < before[1]:
            self.found(f"{kind} {name} is of version {version} again, after {before[1]}")
        if event_type == "DELETED":
            self._known.pop(name, None)
        else:
            self._known[name] = uid, version
            if self._listed is not None:
                self._listed.add(name)
        if not self._over:
            self._inner.event(kind, event_type, obj)

    def synced(self, kind: GroupKind) -> None:
        """A list is complete."""
        if self._listed is not None:
            self._known = {name: known for name, known in self._known.items() if name in self._listed}
        self._listed = None
        if not self._over:
            self._inner.synced(kind)

    def problem(self, kind: GroupKind, message: str) -> None:
        """The watch does not run, or runs again."""
        self._inner.problem(kind, message)

    def found(self, evidence: str) -> None:
        """Time went back, by this evidence or another one of the same watch."""
        if not self._over:
            self._over = True
            self._restored(evidence)
