"""The composition root: builds every part of the agent once, connects them, runs them until they are to stop.

    main thread            signals (`process`), supervision
    http                   /healthz /readyz /metrics
    lease, lease-watch     only with a lease: gets and keeps it; nothing below starts before it is held
    events, drift-record   send Kubernetes Events, keep the record of drift
    watch-*                syncs, policies, Secrets of the agent's namespace; one per owned kind, shared by all syncs
    drift-0 … drift-1      looks at, and corrects, what the watches found
    worker-0 … worker-N    passes over syncs; each starts 16 more while it applies
    worker-free            the same, but no first passes after a start that change nothing

Start: http → lease → events → watches of syncs and policies → drift → workers. Stop: the reverse; running requests are
finished, nothing new is begun, and the lease is let go after the last write. A standby holds nothing but its look at
the lease; it begins like an agent that has just started, with a full pass.

When etcd was restored from a backup, whatever an agent remembers is of a time that never was: it stops, and `process`
begins another one. Only what does not depend on the cluster's time survives: verified content, and what was accepted.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ocisync import __version__
from ocisync.agent.corrections import Corrections
from ocisync.agent.driftlog import DriftLog
from ocisync.agent.events import EventRecorder, Note, Subject
from ocisync.agent.finalizer import Finalizers
from ocisync.agent.http import HttpServer
from ocisync.agent.lease import LEASE_NAME, Lease, LeaseStore, Role
from ocisync.agent.metrics import Metrics
from ocisync.agent.pause import PauseBoard
from ocisync.agent.queue import WorkQueue
from ocisync.agent.registries import Registries
from ocisync.agent.reports import Reporter
from ocisync.agent.status import StatusWriter
from ocisync.agent.supervisor import Group, Supervisor
from ocisync.agent.syncs import SYNCS, SYNCS_PATH, SyncTable
from ocisync.agent.trust import CONFIG_MAPS, POLICIES, POLICIES_PATH, SECRETS, TrustBoard
from ocisync.agent.watermark import ConfigMapWatermarks
from ocisync.agent.witness import Witness
from ocisync.agent.worker import Desk, Workshop
from ocisync.cluster.client import Cluster
from ocisync.cluster.correction import Effects
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.driftrecord import DriftRecords
from ocisync.cluster.engine import Engine
from ocisync.cluster.health import needs_object
from ocisync.cluster.normalise import Target
from ocisync.cluster.pods import PodScouts
from ocisync.cluster.tracker import Tracker
from ocisync.cluster.watch import GroupKind, KindWatch, WatchGroup, WatchHandler
from ocisync.flows.localcopy import LocalCopies
from ocisync.flows.memory import Mark, Ports
from ocisync.flows.outcome import Outcome
from ocisync.flows.situation import target_of
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.errors import InvalidInput, OcisyncError
from ocisync.model.resource import ObjectId
from ocisync.model.spec import PAUSE_NAME, SyncSpec, parse_sync

_LOG = logger("agent")

_DRIFT_THREADS = 2
_HEALTH_PAUSE_S = 0.3  # changes of health come in swarms
DRAIN_S = 25.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose.

    Attributes:
        cache_dir: None: no local copy on disk.
        http_address: empty: no HTTP.
        identity: our name in the lease, for one process at a time; empty: the host's name.
    """

    namespace: str
    cache_dir: Path | None
    http_address: str
    workers: int = 4
    environ: Mapping[str, str] | None = None
    identity: str = ""


@dataclass(slots=True)
class Survivors:
    """What outlives a restore of etcd: true of any cluster at any time.

    Attributes:
        marks: what was accepted, for `ConfigMapWatermarks`.
        restores: how many there were.
    """

    copies: LocalCopies
    marks: Mapping[tuple[str, str], Mark] = field(default_factory=dict)
    restores: int = 0


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """Aware UTC wall-clock time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()


class Agent:
    """All parts of one agent.

    With `lease_cluster`, a connection for the lease alone, it works only while it holds the lease; writes of `cluster`
    must be fenced then.

    Attributes:
        restored: it ended because the cluster went back in time.
    """

    def __init__(
        self,
        cluster: Cluster,
        options: Options,
        stop: StopToken,
        lease_cluster: Cluster | None,
        survivors: Survivors,
    ) -> None:
        self.restored = False
        self._survivors = survivors
        self._watermarks = ConfigMapWatermarks(cluster, options.namespace, survivors.marks)
        self._cluster = cluster
        self._options = options
        self._stop = stop
        self._clock = SystemClock()
        self._rng = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._host = options.identity or socket.gethostname()
        self.metrics = Metrics()
        self._lease = self._lease_of(lease_cluster) if lease_cluster is not None else None
        self._queue = WorkQueue()
        self._discovery = Discovery(cluster)
        self._engine = Engine(
            cluster,
            self._discovery,
            agent_namespace=options.namespace,
            holder=self._host,
            version=__version__,
            stop=stop,
            term=self._lease.term if self._lease is not None else None,
        )
        self._events = EventRecorder(cluster, self._clock, self.metrics, host=self._host)
        self._syncs = SyncTable(self._queue.add)
        self._trust = TrustBoard(cluster, options.namespace, self._policies_moved, self._clock, self.metrics)
        self._pause = PauseBoard(cluster, options.namespace, self._trust, self._pause_moved)
        cluster.hold = self._pause.text
        self._drift_log = DriftLog(DriftRecords(cluster, options.namespace), self._clock, self.metrics)
        self._workshop = Workshop(self._desk())
        corrections = Corrections(
            cluster, self._discovery, self._engine, self._target_by_id, lambda sync_id: self._tracker.unlisted(sync_id)
        )
        reporter = Reporter(
            self._events.record, self.metrics, self._workshop.subject_of, self._object_subject, self._drift_log.add
        )
        effects = Effects(
            read=corrections.read,
            correct=corrections.correct,
            report=reporter.report,
            changed=self._health_moved,
            blind=_blind,
        )
        self._tracker = Tracker(self._clock, effects)
        self._supervisor = Supervisor(self._groups(), stop)
        self._watches = WatchGroup(
            cluster,
            lambda kind: self._discovery.resource(kind.group, kind.kind).path(),
            self._tracker,
            full=lambda kind: needs_object(kind.group, kind.kind),
            rng=self._rng,
            on_crash=lambda error: self._supervisor.crashed("watch", error),
            on_rollback=self._tracker.went_back,
        )
        self._pods = PodScouts(
            cluster,
            self._clock,
            random.Random(self._rng.random()),  # noqa: S311 - jitter
            self._health_moved,
            lambda error: self._supervisor.crashed("pods", error),
        )
        self._workshop.connect(self._ports())
        self.metrics.before_render(self._gauges)

    def run(self) -> int:
        """Run until stopped; 0 after a stop that was asked for."""
        _LOG.info(
            "agent starts",
            version=__version__,
            api_server=self._cluster.host,
            namespace=self._options.namespace,
            cache=str(self._options.cache_dir or "none"),
            http=self._options.http_address or "off",
        )
        code = self._supervisor.run()
        self._survivors.marks = self._watermarks.known()
        self._survivors.restores += self.restored
        if self.restored and self._supervisor.stuck:
            code = code or 1  # a thread of the old life must not go on beside the new one
        _LOG.info("agent ended", exit_code=code)
        return code

    # --- Parts ------------------------------------------------------------------------------------------------------

    def _lease_of(self, cluster: Cluster) -> Lease:
        fence = self._cluster.fence
        if fence is None:
            raise AssertionError("an agent with a lease needs fenced writes")
        return Lease(
            LeaseStore(cluster, self._options.namespace),
            self._host,
            fence,
            now=self._clock.now,
            rng=random.Random(self._rng.random()),  # noqa: S311 - jitter
            told=self._role_changed,
            restored=self._went_back,
        )

    def _desk(self) -> Desk:
        return Desk(
            queue=self._queue,
            syncs=self._syncs,
            trust=self._trust,
            statuses=StatusWriter(self._cluster),
            finalizers=Finalizers(self._cluster),
            metrics=self.metrics,
            record=self._events.record,
            forget=self._drift_log.forget,
            clock=self._clock,
            rng=self._rng,
            stop=self._stop,
        )

    def _ports(self) -> Ports:
        registries = Registries(self._cluster, self._stop, self._options.environ or {})
        return Ports(
            open_store=registries.open,
            trust=self._trust.current,
            dependency=self._syncs.dependency,
            circle=self._syncs.circle,
            relist=lambda kinds: self._watches.again(kinds),
            pods=self._pods,
            paused=self._pause.text,
            engine=self._engine,
            tracker=self._tracker,
            watch=lambda: self._watches.ensure(self._tracker.kinds()),
            progress=_no_progress,
            copies=self._survivors.copies,
            watermarks=self._watermarks,
            clock=self._clock,
            rng=self._rng,
            stop=self._stop,
            superseded=self._syncs.superseded,
            turn=self._queue.turn,
        )

    def _groups(self) -> list[Group]:
        groups: list[Group] = []
        if self._options.http_address:
            pages = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics_page}
            server = HttpServer(self._options.http_address, pages)
            _LOG.debug("http", port=server.port)
            groups.append(Group("http", [("http", server.run)], stop=server.stop))
        if self._lease is not None:
            lease, loops = self._lease, [("lease", self._lease.run), ("lease-watch", self._lease.listen)]
            groups.append(Group("lease", loops, stop=lease.release))
            groups.append(Group("leader", start=lambda: lease.wait_held(self._stop)))
        events_stop = StopToken()
        groups.append(
            Group(
                "events",
                [
                    ("events", lambda: self._events.run(events_stop)),
                    ("drift-record", lambda: self._drift_log.run(events_stop)),
                ],
                stop=_all(events_stop.stop, self._events.wake, self._drift_log.wake),
            )
        )
        watched: list[tuple[GroupKind, str, WatchHandler, bool]] = [
            (SYNCS, SYNCS_PATH, self._syncs, True),
            (POLICIES, POLICIES_PATH, self._trust, True),
            (SECRETS, self._trust.secrets_path, self._trust, False),
            (CONFIG_MAPS, self._trust.config_maps_path, self._pause, False),
        ]
        loops = [
            (f"watch-{kind}", self._own_watch(kind, path, handler, full=full)) for kind, path, handler, full in watched
        ]
        groups.append(Group("watches", loops, stop=self._stop_watches, grace_s=3.0))
        drift = [(f"drift-{n}", lambda: self._tracker.serve(self._stop)) for n in range(_DRIFT_THREADS)]
        groups.append(Group("drift", drift, grace_s=5.0))
        workers: list[tuple[str, Callable[[], None]]] = [
            (f"worker-{n}", self._work) for n in range(self._options.workers)
        ]
        # Whatever the first passes after a start take, a new revision finds somebody free.
        workers.append(("worker-free", lambda: self._work(last=False)))
        groups.append(Group("workers", workers, stop=self._queue.close, grace_s=DRAIN_S - 10.0))
        return groups

    def _own_watch(self, kind: GroupKind, path: str, handler: WatchHandler, *, full: bool) -> Callable[[], None]:
        witness = Witness(handler, self._went_back)
        watch = KindWatch(
            self._cluster,
            kind,
            lambda: path,
            witness,
            self._stop,
            full=full,
            rng=random.Random(self._rng.random()),  # noqa: S311 - jitter
            selector="",
            on_rollback=lambda kind: witness.found(f"the list of {kind} is older than what was shown before"),
            resumes=False,
        )
        return watch.run

    def _work(self, *, last: bool = True) -> None:
        """A worker: nothing is judged or written before syncs and policies were seen completely."""
        while not (self._syncs.listed.is_set() and self._trust.listed):
            if self._stop.wait(0.05):
                return
        self._workshop.serve(last=last)

    def _stop_watches(self) -> None:
        self._pods.stop()
        self._cluster.close_streams()
        self._watches.stop(2.0)

    # --- Callbacks --------------------------------------------------------------------------------------------------

    def _went_back(self, evidence: str) -> None:
        """The cluster went back in time."""
        if not self._stop.stopped:
            self.restored = True
            _LOG.warning("etcd was restored from a backup: the agent begins anew", evidence=evidence)
            self._stop.stop()

    def _policies_moved(self) -> None:
        self._workshop.wake_all()

    def _health_moved(self, sync_id: str) -> None:
        key = self._workshop.key_of(sync_id)
        if key:
            self._queue.add(key, after_s=_HEALTH_PAUSE_S)

    def _pause_moved(self, text: str) -> None:
        self.metrics.gauge("ocisync_paused", int(bool(text)))
        place = Subject("v1", "ConfigMap", self._options.namespace, PAUSE_NAME)
        said = f"nothing is written in the whole cluster: {text}" if text else "writes go on"
        self._events.record(Note("@pause", place, "Paused" if text else "Resumed", said, warning=bool(text)))
        self._workshop.wake_all()

    def _target_by_id(self, sync_id: str) -> tuple[Target, bool] | None:
        seen = self._syncs.get(self._workshop.key_of(sync_id))
        if seen is None:
            return None
        try:
            spec = parse_sync(seen.obj)
        except InvalidInput:
            return None
        return target_of(spec), spec.force

    def _object_subject(self, sync_id: str, object_id: ObjectId) -> Subject:
        applied = self._tracker.remembered(sync_id, object_id)
        version = object_id.group
        with contextlib.suppress(OcisyncError):  # an Event with a vague reference is better than none
            version = self._discovery.resource(object_id.group, object_id.kind).api_version
        return Subject(version, object_id.kind, object_id.namespace, object_id.name, applied.uid if applied else "")

    def _role_changed(self, role: Role, why: str) -> None:
        self.metrics.gauge("ocisync_leader", int(role is Role.LEADER))
        if role is Role.LEADER:
            lease = Subject("coordination.k8s.io/v1", "Lease", self._options.namespace, LEASE_NAME)
            self._events.record(Note("@lease", lease, "LeaderElection", why))

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def _healthz(self) -> tuple[int, str]:
        return (503, "stopping\n") if self._stop.stopped else (200, "ok\n")

    def _readyz(self) -> tuple[int, str]:
        lease = self._lease
        if lease is not None and lease.role is Role.STANDBY and not lease.problem:
            # As controllers do: a standby that sees the lease is as ready as it can be, or no rollout would ever end.
            return 200, f"standby: {lease.holder or 'nobody'} holds the lease\n"
        unheld = f"lease: {lease.problem or lease.role}" if lease is not None and lease.role is not Role.LEADER else ""
        missing = [
            text
            for text, good in (
                (unheld, not unheld),
                (f"syncs: {self._syncs.trouble}", not self._syncs.trouble),
                (f"policies: {self._trust.trouble or 'not listed yet'}", self._trust.listed),
            )
            if not good
        ]
        return (503, "; ".join(missing) + "\n") if missing else (200, "ok\n")

    def _metrics_page(self) -> tuple[int, str]:
        return 200, self.metrics.render()

    def _gauges(self) -> None:
        self.metrics.gauge("ocisync_queue_depth", self._queue.depth())
        self.metrics.gauge("ocisync_api_throttled_total", self._cluster.pace.refused)
        self.metrics.gauge("ocisync_restores_total", self._survivors.restores)
        self.metrics.gauge("ocisync_watches", len(self._watches.kinds()))
        self.metrics.gauge("ocisync_pod_watches", self._pods.count)
        self.metrics.gauge("ocisync_watch_problems", len(self._tracker.problems()))
        counters = self._tracker.counters
        self.metrics.gauge("ocisync_drift_checks_total", counters.suspects, reason="Suspect")
        self.metrics.gauge("ocisync_drift_checks_total", counters.audits, reason="Audit")
        self.metrics.gauge("ocisync_drift_reowned_total", counters.reowned)


def _all(*calls: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        for one in calls:
            one()

    return call


def _blind(kind: GroupKind, message: str) -> None:
    if message:
        _LOG.warning("drift of a kind cannot be seen", kind=str(kind), problem=message)
    else:
        _LOG.info("drift of a kind is seen again", kind=str(kind))


def _no_progress(spec: SyncSpec, outcome: Outcome) -> None:
    """Replaced by the workshop."""
