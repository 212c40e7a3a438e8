"""Which of several agents works: the one that holds a Lease of the API server.

    standby ──acquired──▶ leader ──10 s without a renewal──▶ in doubt ──renewed, nobody came between──▶ leader
                             └──────────── another name in the Lease ──▶ lost: the process ends

The holder renews every two seconds, by compare-and-swap. A standby measures with its own clock how long the record has
stayed as it is, and takes over after the lease's whole duration: what machines think of the time of day is never
compared. A released lease, and one that bears our own name from an earlier life, are taken at once; one that was
deleted counts as held until its time is over.

Writes are fenced by `cluster.fence`, which closes long before others may begin. In doubt, nothing is written and
nothing is forgotten: a swap that succeeds proves that nobody else was here meanwhile. So an API server that is away
for a while costs no restart, and a process that slept through its lease ends without a write.

The record is also the surest witness of a restore of etcd: it is seldom older than two seconds, so that a version below
the one that we wrote or read shows that the cluster went back in time. A holder then tells `restored`, writes no more
and ends its term. A standby does not believe what such a record says of nobody or of itself: whoever held the lease
before the restore may still write for a moment, so it waits for the whole duration.

An identity must belong to one process at a time. Pods use name and uid: a container starts only after its predecessor
in the same pod has ended, so that a restart need not wait for itself.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ocisync.cluster.client import JSON, Cluster, Response, segment
from ocisync.cluster.fence import LEASE_S, WRITE_TIMEOUT_S, Fence, uptime
from ocisync.cluster.inventory import Term
from ocisync.kit.backoff import jittered
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.errors import LeaseLost, OcisyncError, Unavailable
from ocisync.model.resource import JsonObject

LEASE_NAME = "ocisync-agent"
_LOG = logger("lease")
_PERIOD_S = 2.0
_REQUEST_S = 3.0  # so that one silent try still leaves time for another before writes stop
_AGAIN_S = 0.2  # after a lost race
_RELEASE_TRIES = 3  # a moment of silence must not cost the next one a whole lease
_LONGEST_S = 60.0  # nobody waits longer than this for a holder, whatever its record says


class Role(StrEnum):
    """What this process is at present."""

    STANDBY = "standby"
    LEADER = "leader"
    DOUBT = "in doubt"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says; every change of it is a sign of life."""

    holder: str = ""
    duration_s: float = LEASE_S
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0

    @classmethod
    def of(cls, obj: JsonObject) -> Record:
        """Read a Lease; fields that make no sense count as absent."""
        raw = obj.get("spec")
        spec: dict[str, Any] = raw if isinstance(raw, dict) else {}
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        return cls(
            holder=str(spec.get("holderIdentity") or ""),
            duration_s=float(duration) if isinstance(duration, int) and duration > 0 else LEASE_S,
            acquired=str(spec.get("acquireTime") or ""),
            renewed=str(spec.get("renewTime") or ""),
            transitions=transitions if isinstance(transitions, int) and transitions >= 0 else 0,
        )

    def spec(self) -> JsonObject:
        """The Lease's spec."""
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": int(self.duration_s),
            "acquireTime": self.acquired,
            "renewTime": self.renewed,
            "leaseTransitions": self.transitions,
        }

    @property
    def patience_s(self) -> float:
        """How long the record must stay as it is before its holder counts as gone."""
        return min(max(self.duration_s, LEASE_S), _LONGEST_S)


class LeaseStore:
    """One Lease object, read and swapped; nothing is retried here and nothing is fenced.

    Args:
        cluster: a connection of its own, without a fence: the lease must be renewed while the fence is closed.
        request_s: how long one request may take.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, name: str = LEASE_NAME, *, request_s: float = _REQUEST_S
    ) -> None:
        self._request_s = request_s
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{segment(namespace)}/leases"

    def read(self) -> tuple[Record, str] | None:
        """The record and its version; None if there is no Lease.

        Raises:
            Unavailable: it can't be known.
        """
        answer = self._cluster.request("GET", f"{self._collection}/{self._name}", timeout_s=self._request_s)
        if answer.status == 404:
            return None
        return self._taken(answer)

    def swap(self, record: Record, version: str) -> tuple[Record, str] | None:
        """Write a record where that version is (empty: where nothing is); None if it is not there any more.

        Raises:
            Unavailable: it is not known whether it was written.
        """
        metadata = {"name": self._name, "namespace": self._namespace}
        if version:
            metadata["resourceVersion"] = version
        lease = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": record.spec()
        }  # fmt: skip
        path = f"{self._collection}/{self._name}" if version else self._collection
        answer = self._cluster.request(
            "PUT" if version else "POST",
            path,
            body=json.dumps(lease).encode(),
            content_type=JSON,
            timeout_s=self._request_s,
        )
        if answer.status in {404, 409}:
            return None
        return self._taken(answer)

    def watch(self, wake: Callable[[], None], stop: StopToken) -> None:
        """Call `wake` at each change, until the server ends the watch or `stop` is set."""
        query = (("watch", "true"), ("fieldSelector", f"metadata.name={self._name}"), ("timeoutSeconds", "300"))
        with self._cluster.stream(self._collection, query=query, stop=stop) as (status, lines):
            if status != 200:
                raise Unavailable(f"lease {self._namespace}/{self._name} can't be watched: HTTP {status}")
            for _ in lines:
                wake()

    def end_watch(self) -> None:
        """End it, whatever it waits for."""
        self._cluster.close_streams()

    def _taken(self, answer: Response) -> tuple[Record, str]:
        if answer.status >= 300:
            text = answer.body[:200].decode(errors="replace")
            raise Unavailable(
                f"lease {self._namespace}/{self._name}: HTTP {answer.status} {text}",
                hint="the agent's Role must allow leases in its own namespace; ocisync install prints it",
            )
        try:
            found = json.loads(answer.body)
            return Record.of(found), str(found["metadata"]["resourceVersion"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"lease {self._namespace}/{self._name}: unreadable answer: {error!r}") from error


def _unheard(evidence: str) -> None:
    """Nobody remembers anything."""


class Lease:
    """Gets the lease, keeps it, and lets it go. `step` is the whole of it; `run` repeats that.

    Args:
        store: the Lease object; any with the same three methods in tests.
        identity: our name in it.
        fence: what writes are asked by; told of each renewal.
        now: the time of day, for people who read the Lease.
        told: called with the new role and a sentence at each change of role, from the lease's thread.
        restored: called with what shows that the cluster went back in time, by a holder; it has to stop everything.
        clock: seconds that go on while the process is frozen.
    """

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        fence: Fence,
        *,
        now: Callable[[], datetime],
        rng: random.Random,
        told: Callable[[Role, str], None],
        clock: Callable[[], float] = uptime,
        restored: Callable[[str], None] = _unheard,
    ) -> None:
        self._restored = restored
        self._newest = 0  # version of the record
        self._doubtful = False  # it is from a backup
        self.identity = identity
        self._store = store
        self._fence = fence
        self._now = now
        self._rng = rng
        self._told = told
        self._clock = clock
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stop = StopToken()
        self._record = Record()
        self._version = ""
        self._observed_at = float("-inf")
        self.role = Role.STANDBY
        self.problem = "not read yet"

    # --- What others ask --------------------------------------------------------------------------------------------

    @property
    def holder(self) -> str:
        """Who holds the lease, as far as is known here."""
        return self._record.holder

    def term(self) -> Term | None:
        """The present term, for inventories; None as long as we never held the lease."""
        if self.role is Role.STANDBY:
            return None
        return Term(self.identity, self._record.transitions, self._lasts)

    def wait_held(self, stop: StopToken) -> None:
        """Return when we hold the lease, or `stop` is set."""
        with self._changed:
            while self.role is Role.STANDBY and not stop.stopped:
                self._changed.wait(0.5)

    # --- Threads ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Get and keep the lease until `release`.

        Raises:
            LeaseLost: another process holds it now.
        """
        while not self._stop.stopped:
            pause = self.step()
            if self.role is Role.LOST and not self._stop.stopped:
                after = "nothing more is written, and this agent ends; started again, it stands by"
                raise LeaseLost(f"{self.problem}: {after}")  # told by whoever ends the process
            self._wake.wait(pause)
            self._wake.clear()

    def listen(self) -> None:
        """While we wait for the lease, look again as soon as it changes: a released one is taken at once."""
        while not self._stop.stopped:
            if self.role is Role.STANDBY:
                with contextlib.suppress(OcisyncError):
                    self._store.watch(self._look, self._stop)
            self._stop.wait(_PERIOD_S)

    def release(self) -> None:
        """Stop, and let the next one begin at once if nothing of ours can be written any more."""
        self._stop.stop()
        self._wake.set()
        self._store.end_watch()
        self._fence.close("this agent is stopping")
        drained = self._fence.drain(WRITE_TIMEOUT_S)
        with self._changed:
            if self.role is not Role.LEADER or not drained:
                return
            self.role = Role.STANDBY
            moment = _micro_time(self._now())
            self._free(Record("", 1.0, moment, moment, self._record.transitions))

    def _free(self, record: Record) -> None:
        """Write that nobody holds it; a server that is silent for longer than these tries lets it run out."""
        version = self._version
        for _ in range(_RELEASE_TRIES):
            with contextlib.suppress(OcisyncError):
                if self._store.swap(record, version) is not None:
                    _LOG.info("lease released", identity=self.identity)
                    return
                found = self._store.read()
                if found is None or (found[0].holder, found[0].transitions) != (self.identity, record.transitions):
                    return  # somebody else's by now, or free: the answer to an earlier try was lost
                version = found[1]  # that to a renewal was

    def _look(self) -> None:
        if self.role is Role.STANDBY:
            self._wake.set()
        else:
            self._store.end_watch()

    # --- One step ---------------------------------------------------------------------------------------------------

    def step(self) -> float:
        """Do what is due; seconds until the next step."""
        with self._changed:
            if self._stop.stopped:
                return 0.0
            try:
                pause = self._keep() if self.role in (Role.LEADER, Role.DOUBT) else self._get()
                if self.role is not Role.LOST:
                    self.problem = ""
            except OcisyncError as error:
                if self.problem != error.message:
                    _LOG.warning(
                        "lease not renewed" if self.role is not Role.STANDBY else "lease not read", error=error
                    )
                self.problem = error.message
                pause = _PERIOD_S / 2
            if self.role is Role.LEADER and self._fence.expired:
                self._become(Role.DOUBT, "the lease could not be renewed for too long: nothing is written")
            self._changed.notify_all()
        return jittered(pause, self._rng)

    def _get(self) -> float:
        """As a standby: look whether the lease is free, and take it."""
        found = self._store.read()
        at = self._clock()
        if found is None:
            if self._version and at < self._observed_at + self._record.patience_s:
                return _PERIOD_S  # somebody deleted it, but its holder does not know yet
            return self._take(Record(), "")
        record, version = found
        fell = self._fell(version)
        if record != self._record or not self._version:
            self._observed_at, self._doubtful = at, fell
        self._record, self._version = record, version
        ours = record.holder in ("", self.identity) and not self._doubtful
        free = ours or at >= self._observed_at + record.patience_s
        return self._take(record, version) if free else _PERIOD_S

    def _take(self, before: Record, version: str) -> float:
        begun, moment = self._clock(), _micro_time(self._now())
        transitions = before.transitions + 1 if version else 0
        wanted = Record(self.identity, LEASE_S, moment, moment, transitions)
        taken = self._store.swap(wanted, version)
        if taken is None:
            return _AGAIN_S  # somebody was quicker
        self._record, self._version = taken
        self._fell(self._version)
        self._doubtful = False
        self._fence.renewed(begun)
        after = f"after {before.holder}" if before.holder else "it was free"
        self._become(Role.LEADER, f"{self.identity} holds the lease ({after})")
        return _PERIOD_S

    def _keep(self) -> float:
        """As the holder: renew by swapping exactly the record that we wrote."""
        begun = self._clock()
        wanted = Record(
            self.identity, LEASE_S, self._record.acquired, _micro_time(self._now()), self._record.transitions
        )
        kept = self._store.swap(wanted, self._version)
        if kept is None:
            return self._look_again()
        if self._fell(kept[1]):
            return self._end_of_time()
        self._record, self._version = kept
        self._fence.renewed(begun)
        if self.role is Role.DOUBT:
            self._become(Role.LEADER, "the lease is renewed, and nobody else had it meanwhile")
        return _PERIOD_S

    def _look_again(self) -> float:
        """The record is not as we wrote it: an answer of ours was lost, or somebody else holds the lease."""
        found = self._store.read()
        if found is None:  # deleted by somebody: it is ours until our time is over, and a new one keeps its count
            if self._fence.expired:
                self._lose("the lease was deleted and could not be renewed")
            self._version = ""
            return 0.0
        record = found[0]
        if self._fell(found[1]):
            return self._end_of_time()
        if (record.holder, record.transitions) != (self.identity, self._record.transitions):
            self._record = record
            self._lose(f"{record.holder or 'nobody'} holds the lease now")
            return 0.0
        self._record, self._version = found
        return 0.0

    def _fell(self, version: str) -> bool:
        """Note a version of the record; whether it is lower than one before."""
        number = int(version) if version.isascii() and version.isdigit() else 0
        before, self._newest = self._newest, number
        return 0 < number < before

    def _end_of_time(self) -> float:
        """The record is of an earlier time: so is everything in the cluster, and nothing that we remember holds."""
        self._restored("the lease is older than what was written to it")
        self._stop.stop()
        self._lose("etcd was restored from a backup")
        return 0.0

    def _lose(self, why: str) -> None:
        self._fence.close(why)
        self.role, self.problem = Role.LOST, why
        self._told(Role.LOST, why)

    def _become(self, role: Role, why: str) -> None:
        self.role = role
        log = _LOG.info if role is Role.LEADER else _LOG.warning
        log(f"lease: {role.value}", identity=self.identity, transitions=self._record.transitions, text=why)
        self._told(role, why)

    def _lasts(self) -> bool:
        """Ask whether the Lease still says what it said when this term began."""
        found = self._store.read()
        if found is None:
            return not self._fence.expired
        return (found[0].holder, found[0].transitions) == (self.identity, self._record.transitions)


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
