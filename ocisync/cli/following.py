"""One sync as it changes, by watch: a list, then one watch for as long as the server keeps it; nothing is polled."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import click

from ocisync.cli.syncs import Syncs
from ocisync.cluster.client import segment
from ocisync.model.errors import AccessDenied, InvalidInput, NotFound, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, parse_duration

_WATCH_S = 300
_GRACE_S = 5.0
_TROUBLE_PAUSE_S = 1.0
_LONGEST_S = 7 * 86_400.0


class Duration(click.ParamType):  # type: ignore[type-arg]  # no generic in older releases
    """Seconds, or a duration as Go writes it: `90`, `90s`, `10m`."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        try:
            seconds = float(value) if str(value).replace(".", "", 1).isdigit() else parse_duration(str(value), "it")
        except InvalidInput:
            self.fail(f"{value!r} is not a duration like 90, 90s, 10m or 1h30m", param, ctx)
        if not 0 < seconds <= _LONGEST_S:
            self.fail(f"{value!r} is not a duration between a moment and a week", param, ctx)
        return seconds


class Following:
    """Follows one sync until the caller has seen enough or the time is over.

    Args:
        monotonic, sleep: time, of the command.
    """

    def __init__(self, syncs: Syncs, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._syncs = syncs
        self._monotonic = monotonic
        self._sleep = sleep

    def states(self, namespace: str, name: str, timeout_s: float) -> Iterator[JsonObject | None]:
        """Each state of the sync, first the one of now; None once it was deleted. Ends when the time is over.

        Raises:
            NotFound, AccessDenied: at the first look.
        """
        deadline = self._monotonic() + timeout_s
        state, version = self._syncs.listed(namespace, name)
        if state is None:
            raise NotFound(f"there is no sync {namespace}/{name}", hint="ocisync status lists all syncs")
        yield state
        path = f"/apis/{API_GROUP}/v1alpha1/namespaces/{segment(namespace)}/artifactsyncs"
        while (left := deadline - self._monotonic()) > 0:
            began = self._monotonic()
            try:
                for event in self._events(path, name, version, left):
                    obj = event.get("object") or {}
                    kind = event.get("type")
                    version = str((obj.get("metadata") or {}).get("resourceVersion") or version)
                    if kind == "BOOKMARK":
                        continue
                    yield obj if kind != "DELETED" else None
                if self._monotonic() - began < _TROUBLE_PAUSE_S:
                    self._sleep(_TROUBLE_PAUSE_S)  # a server that ends each watch at once is not asked in a circle
            except Unavailable:
                if deadline - self._monotonic() <= 0:
                    return
                # The version may be too old, or the server away: look once more, then watch from there.
                self._sleep(_TROUBLE_PAUSE_S)
                try:
                    state, version = self._syncs.listed(namespace, name)
                except Unavailable:
                    continue
                yield state

    def _events(self, path: str, name: str, version: str, left_s: float) -> Iterator[JsonObject]:
        seconds = max(1, min(_WATCH_S, math.ceil(left_s)))
        query = [
            ("watch", "true"),
            ("fieldSelector", f"metadata.name={name}"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
            *([("resourceVersion", version)] if version else []),
        ]
        with self._syncs.cluster.stream(path, query=query, timeout_s=seconds + _GRACE_S) as (status, lines):
            if status in {401, 403}:
                raise AccessDenied("cannot watch syncs", hint="ask for the role ocisync-viewer")
            if status != 200:
                raise Unavailable(f"the watch of syncs was answered with HTTP {status}")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError as error:
                    raise Unavailable(f"the API server sent no JSON on a watch: {error}") from error
                if not isinstance(event, dict) or event.get("type") == "ERROR":
                    raise Unavailable("the watch of syncs was ended by the server")
                yield event
