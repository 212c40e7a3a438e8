"""`ocisync drift --watch`: entries of the record as they come, told by a watch of the records."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from ocisync.cli import output
from ocisync.cli.drifttext import lines
from ocisync.cluster.driftrecord import COMPONENT
from ocisync.cluster.watch import GroupKind, KindWatch
from ocisync.flows.drifthistory import Drifted, Wanted
from ocisync.kit.stop import StopToken
from ocisync.model.errors import ExitCode
from ocisync.model.resource import JsonObject

if TYPE_CHECKING:
    from ocisync.cli.drift import Reader


def follow(reader: Reader, wanted: Wanted, form: str, *, with_sync: bool) -> int:
    """Show what is there, then what comes, told by a watch of the records."""
    path = reader.records.collection
    reader.records.all()  # says at once if it may not be read
    stop = StopToken()
    news = _News(reader, wanted, form, stop, with_sync=with_sync)
    KindWatch(
        reader.cluster,
        GroupKind("", "ConfigMap"),
        lambda: path,
        news,
        stop,
        full=True,
        rng=random.Random(),  # noqa: S311 - jitter
        selector=f"app.kubernetes.io/component={COMPONENT}",
    ).run()
    return int(ExitCode.OK)


class _News:
    """The watch's handler: shows each state of each entry once."""

    def __init__(self, reader: Reader, wanted: Wanted, form: str, stop: StopToken, *, with_sync: bool) -> None:
        self._reader, self._wanted, self._form, self._with_sync = reader, wanted, form, with_sync
        self._stop = stop
        self._shown: dict[str, set[str]] = {}

    def started(self, kind: GroupKind) -> None:
        """The list begins."""

    def synced(self, kind: GroupKind) -> None:
        """The list is complete."""

    def problem(self, kind: GroupKind, message: str) -> None:
        """The watch does not run, or runs again."""
        if message:
            output.warning_text(f"nothing can be seen at the moment: {message}")

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """A record changed."""
        sync, entries = self._reader.records.of(obj)
        if event_type == "DELETED" or not self._reader.asks_for(sync):
            return
        before, now = self._shown.get(sync, set()), set()
        for one in (Drifted(sync, entry) for entry in entries):
            line = json.dumps(one.as_json(), ensure_ascii=False)
            now.add(line)
            if line in before or not self._wanted.fits(one):
                continue
            for shown in [line] if self._form == "json" else lines(one, with_sync=self._with_sync):
                if not output.write(shown):
                    self._stop.stop()  # nobody reads it any more
                    return
        self._shown[sync] = now
