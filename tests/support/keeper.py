"""The keeping half of the agent on a real API server: tracker, watches and corrections, without artifacts."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ocisync.cluster.apply import Applier
from ocisync.cluster.client import Cluster, connect
from ocisync.cluster.correction import Corrected, Correction, Effects, Limits, SyncRules, corrected
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.drift import DriftReport
from ocisync.cluster.health import needs_object
from ocisync.cluster.normalise import Desired, Target, applyset_id, prepare
from ocisync.cluster.tracker import Tracker
from ocisync.cluster.watch import WatchGroup, WatchSource
from ocisync.kit.stop import StopToken
from ocisync.model.clock import Clock
from ocisync.model.errors import Unavailable
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId, gvk_of, id_of
from ocisync.model.spec import DriftMode
from tests.support.engine import driver

# Without the sweep that begins the daily audits: whose turn it is, and when, depends on the name of the namespace.
UNAUDITED = Limits(sweep_s=1e9)


def _nothing(correction: Correction) -> None:
    """Nobody does anything."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class PlayedClock(SystemClock):
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Keeper:
    """Applies objects for one sync and keeps them, recording every report and correction."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        user_agent: str,
        limits: Limits | None = None,
        clock: Clock | None = None,
        through: Callable[[Cluster], WatchSource] | None = None,
        account: str = "",
    ) -> None:
        self.namespace = namespace
        self.sync_id = applyset_id("shop", namespace)
        self.rules = SyncRules(self.sync_id, f"{namespace}/shop", "2026-01-01T00:00:00Z")
        self.reports: list[DriftReport] = []
        self.corrections: list[Correction] = []
        self.crashes: list[BaseException] = []
        # Called around each correction: what others do just then.
        self.before: Callable[[Correction], None] = _nothing
        self.after: Callable[[Correction], None] = _nothing
        self.cluster: Cluster = connect(str(kubeconfig), user_agent=user_agent)
        self.discovery = Discovery(self.cluster)
        self.target = Target(self.sync_id, "shop", namespace, "", account, namespace=namespace)
        self.applier = Applier(self.cluster, self.discovery, self.target, sleep=StopToken().wait)
        self.tracker = Tracker(
            clock or SystemClock(),
            Effects(self._read, self._correct, self.reports.append, lambda sync_id: None),
            limits or UNAUDITED,
        )
        self.watches = WatchGroup(
            through(self.cluster) if through is not None else self.cluster,
            lambda kind: self.discovery.resource(kind.group, kind.kind).path(),
            self.tracker,
            full=lambda kind: needs_object(kind.group, kind.kind),
            rng=random.Random(7),
            on_crash=self.crashes.append,
            on_rollback=self.tracker.went_back,
        )
        self._stop = StopToken()
        self._thread = threading.Thread(target=self.tracker.serve, args=(self._stop,), daemon=True)

    def start(self, *, mode: DriftMode = DriftMode.CORRECT, serve: bool = True) -> None:
        """Take up the sync and start to keep it; without `serve` whoever wants something done calls `run_due`."""
        self.rules = replace(self.rules, mode=mode)
        self.tracker.set_sync(self.rules)
        if serve:
            self._thread.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The sync is suspended for a block."""
        self.tracker.set_sync(replace(self.rules, paused="suspended"))
        try:
            yield
        finally:
            self.tracker.set_sync(self.rules)

    def stop(self) -> None:
        """End threads and connections."""
        self._stop.stop()
        self.cluster.close_streams()
        self.watches.stop(10.0)
        if self._thread.ident is not None:
            self._thread.join(10.0)
        self.cluster.close()
        assert not self.crashes

    def apply(self, manifests: str, *, watch: bool = True) -> tuple[Desired, ...]:
        """One pass over all documents; then watch their kinds."""
        documents: Sequence[JsonObject] = [doc for doc in yaml.safe_load_all(manifests) if doc]
        objects = tuple(ManifestObject(id_of(d), gvk_of(d), d, "test.yaml", 1) for d in documents)
        prepared = prepare(objects, self.target, self._namespaced)
        assert prepared.complete, prepared
        self.tracker.begin_pass(self.sync_id)
        for desired in prepared.desired:
            result = self.applier.apply_one(desired, known=False)
            assert result.applied is not None, result.failure
            self.tracker.applied(self.sync_id, desired, result.applied)
        self.tracker.end_pass(self.sync_id)
        if watch:
            self.watches.ensure(self.tracker.kinds())
        return prepared.desired

    def reported(self, name: str = "") -> list[DriftReport]:
        """The reports about one object (or all)."""
        return [report for report in self.reports if name in {"", report.object.name}]

    def live(self, object_id: ObjectId) -> JsonObject | None:
        """The object as it is now."""
        return self._read(object_id)

    def _namespaced(self, group: str, kind: str) -> bool | None:
        resource = self.discovery.find(group, kind)
        return resource.namespaced if resource else None

    def _read(self, object_id: ObjectId) -> JsonObject | None:
        resource = self.discovery.resource(object_id.group, object_id.kind)
        answer = self.cluster.request("GET", resource.path(object_id.namespace, object_id.name))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Unavailable(f"GET {object_id} answered {answer.status}")
        value: JsonObject = json.loads(answer.body)
        return value

    def _correct(self, correction: Correction) -> Corrected:
        self.corrections.append(correction)
        self.before(correction)
        result = self.applier.apply_one(
            correction.desired, known=bool(correction.uid), uid=correction.uid, previous=correction.previous
        )
        self.after(correction)
        return corrected(result)


@contextlib.contextmanager
def keeping(
    kubeconfig: Path,
    namespace: str,
    *,
    mode: DriftMode = DriftMode.CORRECT,
    user_agent: str = "ocisync-keeper",
    limits: Limits | None = None,
    clock: Clock | None = None,
    through: Callable[[Cluster], WatchSource] | None = None,
    serve: bool = True,
    account: str = "",
) -> Iterator[Keeper]:
    """A started keeper for a block; what it applies it applies as `account` of its namespace, if one is given."""
    keeper = Keeper(kubeconfig, namespace, user_agent, limits, clock, through, account)
    keeper.start(mode=mode, serve=serve)
    try:
        yield keeper
    finally:
        keeper.stop()


@contextlib.contextmanager
def keeping_installed(kubeconfig: Path, prefix: str, installed: Path | None, **options: Any) -> Iterator[Keeper]:
    """A started keeper in a namespace of its own.

    `installed`: a directory; the keeper then is the installed ServiceAccount and impersonates.
    """
    with driver(kubeconfig, prefix, installed=installed) as home:
        account = home.target.service_account
        with keeping(home.kubeconfig, home.namespace, account=account, **options) as keeper:
            yield keeper


def field(obj: dict[str, Any] | None, *path: str | int) -> Any:
    """A value inside an object; None if any part is missing."""
    value: Any = obj
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
