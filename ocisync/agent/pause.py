"""The brake for incidents: while a ConfigMap named `ocisync-pause` is in the agent's namespace, no object is written.

`ocisync pause` makes it, with who and why; `kubectl create configmap ocisync-pause` is as good. Its existence is what
counts: a pause whose reason cannot be read is a pause. The agent asks before each write that it makes on behalf of a
sync, so one that is under way ends with the request that is running; its own bookkeeping (statuses, Events, the lease)
goes on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from ocisync.cluster.client import Cluster, segment
from ocisync.cluster.watch import GroupKind, WatchHandler
from ocisync.kit.log import logger
from ocisync.model.errors import OcisyncError
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PAUSE_NAME

_LOG = logger("pause")
_WORDS_CHARS = 300


def pause_path(namespace: str) -> str:
    """Where the pause is, if there is one."""
    return f"/api/v1/namespaces/{segment(namespace)}/configmaps/{PAUSE_NAME}"


def pause_text(found: JsonObject) -> str:
    """The words of a pause, from its ConfigMap."""
    data = found.get("data")
    words = data if isinstance(data, dict) else {}
    by, since, reason = (str(words.get(key) or "") for key in ("by", "since", "reason"))
    text = "paused" + (f" by {by}" if by else "") + (f" since {since}" if since else "")
    return f"{text}: {reason}"[:_WORDS_CHARS] if reason else text[:_WORDS_CHARS]


class PauseBoard:
    """Stands before the handler that the same watch has; thread-safe.

    Args:
        inner: told of everything, too.
        moved: called when a pause began or ended, outside of the lock.
    """

    def __init__(self, cluster: Cluster, namespace: str, inner: WatchHandler, moved: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._path = pause_path(namespace)
        self._inner = inner
        self._moved = moved
        self._lock = threading.Lock()
        self._version = ""
        self._shown = False
        self._text = ""

    def text(self) -> str:
        """Why nothing may be written; empty if it may."""
        return self._text

    def started(self, kind: GroupKind) -> None:
        """A list begins: it may show no pause any more."""
        self._shown = False
        self._inner.started(kind)

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One ConfigMap as it is now."""
        metadata = obj.get("metadata") or {}
        if metadata.get("name") == PAUSE_NAME:
            if event_type == "DELETED":
                self._end()
            else:
                self._shown = True
                self._begin(str(metadata.get("resourceVersion") or "?"))
        self._inner.event(kind, event_type, obj)

    def synced(self, kind: GroupKind) -> None:
        """A list is complete."""
        if not self._shown:
            self._end()
        self._inner.synced(kind)

    def problem(self, kind: GroupKind, message: str) -> None:
        """The watch does not run: what is known holds."""
        self._inner.problem(kind, message)

    def _begin(self, version: str) -> None:
        with self._lock:
            if version == self._version:
                return
            self._version = version
            self._text = self._text or "paused"  # before anything is asked: nothing leaves from here on
        text = self._read()
        with self._lock:
            if self._version != version:
                return
            self._text = text
        _LOG.warning("nothing is written any more", text=text)
        self._moved(text)

    def _end(self) -> None:
        with self._lock:
            if not self._version:
                return
            self._version = self._text = ""
        _LOG.warning("the pause is over")
        self._moved("")

    def _read(self) -> str:
        """The watch shows metadata only."""
        try:
            answer = self._cluster.request("GET", self._path)
            found = json.loads(answer.body) if answer.status == 200 else {}
        except (OcisyncError, ValueError):
            return "paused"
        return pause_text(found) if isinstance(found, dict) else "paused"
