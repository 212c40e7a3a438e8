"""From a key to a pass, from its outcome to status, Events, log lines, metrics and the next run.

A worker takes a key, reads the sync as the watch shows it, runs one pass and tells its outcome: in this order, and
nowhere else. What is remembered of a sync lives here, by uid: a sync that was deleted and created again starts anew.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace
from typing import Any

from ocisync.agent.events import Note, Subject
from ocisync.agent.finalizer import Finalizers
from ocisync.agent.heap import give_back
from ocisync.agent.metrics import Metrics
from ocisync.agent.queue import WorkQueue
from ocisync.agent.status import StatusWriter, next_status, recorded
from ocisync.agent.syncs import Seen, SyncTable
from ocisync.agent.trust import TrustBoard
from ocisync.cluster.health_checks import compiled
from ocisync.cluster.normalise import applyset_id
from ocisync.flows.memory import Memory, Ports
from ocisync.flows.outcome import Done, Facts, Failed, Outcome, Reason, Stalled, Waiting
from ocisync.flows.reconcile import reconcile
from ocisync.flows.refusal import failed_rule, refusal_text
from ocisync.flows.situation import NotYet
from ocisync.flows.teardown import tear_down
from ocisync.kit.backoff import jittered
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.artifact import VerdictReason
from ocisync.model.clock import Clock
from ocisync.model.errors import Interrupted, InvalidInput, LeaseLost, OcisyncError
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_VERSION, FINALIZER, SYNC_KIND, SelectorKind, SyncSpec, parse_sync

_LOG = logger("sync")

POLICIES_KEY = "@policies"
_UNSIGNED_QUIET_S = 60.0  # CI pushes first and signs a moment later: no alarm for that
_SECONDS = re.compile(r"\b[0-9]+ s\b")
_DIGEST_LOOK_S = 600.0
_STATUS_RETRY_S = 2.0
_RETRY_BASE_S, _RETRY_CAP_S = 5.0, 300.0
_LEASE_LOOK_S = 2.0
_LEAST_POLL_S = 1.0  # while the turn of the first pass is awaited
_BIG_PASS = 500  # objects; after such a pass its garbage is given back at once


@dataclass(slots=True)
class State:
    """What is kept of one sync between passes.

    Attributes:
        status: as the server holds it, as far as we know.
        version: resourceVersion of the object when `status` was read or written.
        told: what Events said last: a repetition is no news.
        unsigned_since: when an unsigned digest was met first, by the monotonic clock.
    """

    uid: str
    memory: Memory = field(default_factory=Memory)
    status: JsonObject = field(default_factory=dict)
    version: int = 0
    told: tuple[str, ...] = ()
    unsigned_since: float | None = None
    failures: int = 0
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """What workers share."""

    queue: WorkQueue
    syncs: SyncTable
    trust: TrustBoard
    statuses: StatusWriter
    finalizers: Finalizers
    metrics: Metrics
    record: Any  # Callable[[Note], None]; a plain attribute, as dataclass fields bind no functions
    forget: Any  # Callable[[str], None]: told of each sync that is gone
    clock: Clock
    rng: random.Random
    stop: StopToken


class Workshop:
    """Runs passes; one `serve` per worker thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ports: Ports | None = None
        self._states: dict[str, State] = {}
        self._by_id: dict[str, str] = {}

    def connect(self, ports: Ports) -> None:
        """Give the passes their world; `progress` of the ports is ours."""
        self._ports = replace(ports, progress=self._progress)

    def serve(self, *, last: bool = True) -> None:
        """Work until the queue is closed. Not `last`: never on a first pass after a start that changes nothing."""
        while (key := self._desk.queue.wait(last=last)) is not None:
            try:
                self._work(key)
            finally:
                self._desk.queue.done(key)

    def key_of(self, sync_id: str) -> str:
        """The sync with this ApplySet id; empty if it is not known."""
        return self._by_id.get(sync_id, "")

    def subject_of(self, sync_id: str) -> tuple[str, Subject] | None:
        """Key and Event subject of a sync by its ApplySet id."""
        key = self._by_id.get(sync_id)
        state = self._states.get(key or "")
        if key is None or state is None:
            return None
        namespace, _, name = key.partition("/")
        return key, Subject(API_VERSION, SYNC_KIND, namespace, name, state.uid)

    def wake_all(self) -> None:
        """Every sync may be judged differently now."""
        for key in self._desk.syncs.keys():  # noqa: SIM118 - not a dictionary
            self._desk.queue.add(key)
        self._desk.queue.add(POLICIES_KEY)

    def _work(self, key: str) -> None:
        if key == POLICIES_KEY:
            try:
                self._desk.trust.write_statuses()
            except OcisyncError as error:
                _LOG.warning("policy statuses not written", error=error)
                self._desk.queue.add(key, after_s=_RETRY_BASE_S)
            return
        seen = self._desk.syncs.get(key)
        if seen is None:
            self._gone(key)
            return
        state = self._state(key, seen)
        started = self._desk.clock.monotonic()
        try:
            self._pass(key, seen, state)
        except NotYet:
            self._desk.queue.line_up(key)
            self._desk.queue.add(key, after_s=max(_LEAST_POLL_S, state.memory.poll_at - started))
            return
        except LeaseLost as error:
            # No fault of the sync: if the lease comes back, so does its turn.
            _LOG.info("a pass was stopped", sync=key, text=error.message)
            self._desk.queue.add(key, after_s=_LEASE_LOOK_S)
            return
        except Interrupted:
            return
        except OcisyncError as error:
            self._retry(key, state, error)
        except Exception as error:  # noqa: BLE001 - a defect met by one sync must not stop all others
            _LOG.error("a pass ended with a defect", sync=key, error=error)
            self._retry(key, state, error)
        self._desk.metrics.observe("ocisync_reconcile_seconds", self._desk.clock.monotonic() - started, sync=key)

    def _retry(self, key: str, state: State, error: Exception) -> None:
        state.failures += 1
        pause = min(_RETRY_BASE_S * 2.0 ** min(state.failures - 1, 8), _RETRY_CAP_S)
        _LOG.warning("a pass could not be finished", sync=key, error=error, again_in_s=round(pause))
        self._desk.metrics.count("ocisync_reconcile_total", sync=key, outcome="Error")
        self._desk.queue.add(key, after_s=jittered(pause, self._desk.rng, 0.2))

    def _pass(self, key: str, seen: Seen, state: State) -> None:
        ports = self._ports
        if ports is None:
            raise AssertionError("serve before connect")
        try:
            spec = parse_sync(seen.obj)
            compiled(spec.checks)
        except InvalidInput as error:
            self._invalid(key, seen, state, error)
            return
        self._by_id[applyset_id(spec.name, spec.namespace)] = key
        if spec.deleting:
            self._tear_down(spec, seen, state, ports)
            return
        if not spec.suspend and not ports.paused():
            self._desk.finalizers.ensure(spec, seen.obj)
        started = self._desk.clock.monotonic()
        outcome = reconcile(spec, state.memory, ports, recorded(state.status))
        state.failures = 0
        self._tell(spec, state, outcome)
        self._schedule(key, spec, state, outcome, started)
        unpacked, state.memory.unpacked = state.memory.unpacked, 0
        if unpacked >= _BIG_PASS:  # whatever became of them: a plan that is held makes as much garbage
            give_back()

    def _invalid(self, key: str, seen: Seen, state: State, error: InvalidInput) -> None:
        """A spec that can't be read: what was applied before stays, and nothing else is done."""
        metadata = seen.obj.get("metadata") or {}
        minimal = _unreadable(metadata)
        if metadata.get("deletionTimestamp"):
            _LOG.warning("an invalid sync is deleted: its objects are left running", sync=key, error=error)
            self._desk.finalizers.remove(minimal, seen.obj)
            return
        known = recorded(state.status)  # what failed stays in quarantine whatever the spec says
        objects = state.memory.enforced.objects if state.memory.enforced else 0
        facts = Facts(objects=objects, quarantine=known.quarantine, rollback=known.rollback)
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        self._tell(minimal, state, Stalled(Reason.INVALID_SPEC, text, facts))

    def _tear_down(self, spec: SyncSpec, seen: Seen, state: State, ports: Ports) -> None:
        if FINALIZER not in ((seen.obj.get("metadata") or {}).get("finalizers") or ()):
            ports.tracker.forget_sync(applyset_id(spec.name, spec.namespace))
            ports.watch()
            return
        outcome = tear_down(spec, state.memory, ports, account_exists=self._desk.finalizers.account_exists)
        if not isinstance(outcome, Done):
            self._tell(spec, state, outcome)
            self._desk.queue.add(spec.key, after_s=outcome.after_s)
            return
        _LOG.info("sync ended", sync=spec.key, result=outcome.message)
        self._desk.record(Note(spec.key, _subject(spec), "Deleted", outcome.message))
        self._desk.finalizers.remove(spec, seen.obj)

    def _gone(self, key: str) -> None:
        state = self._states.pop(key, None)
        namespace, _, name = key.partition("/")
        sync_id = applyset_id(name, namespace)
        if self._by_id.pop(sync_id, None) is not None and self._ports is not None:
            self._ports.tracker.forget_sync(sync_id)
            self._ports.pods.forget(sync_id)
            self._ports.watch()
        if state is not None:
            _LOG.info("sync is gone", sync=key)
        self._desk.metrics.forget(key)
        self._desk.forget(key)

    def _state(self, key: str, seen: Seen) -> State:
        uid = str((seen.obj.get("metadata") or {}).get("uid") or "")
        state = self._states.get(key)
        if state is None or state.uid != uid:
            # After a restart, a sync that was ready and still is is no news.
            state = self._states[key] = State(uid, ready=seen.ready)
        if seen.version > state.version:
            state.status, state.version = dict(seen.obj.get("status") or {}), seen.version
        return state

    # --- Telling ----------------------------------------------------------------------------------------------------

    def _progress(self, spec: SyncSpec, outcome: Outcome) -> None:
        state = self._states.get(spec.key)
        if state is not None:
            self._write(spec, state, outcome)
            _LOG.info("applying", sync=spec.key, **_names(outcome.facts), text=outcome.message)

    def _tell(self, spec: SyncSpec, state: State, outcome: Outcome) -> None:
        self._write(spec, state, outcome)
        self._news(spec, state, outcome)
        facts, metrics, key = outcome.facts, self._desk.metrics, spec.key
        state.ready = isinstance(outcome, Done)
        metrics.count("ocisync_reconcile_total", sync=key, outcome=type(outcome).__name__)
        metrics.gauge("ocisync_ready", int(state.ready), sync=key)
        if facts.verdict is not None:
            metrics.gauge("ocisync_verified", int(facts.verdict.allowed), sync=key)
            metrics.gauge("ocisync_distrusted", int(facts.verdict.distrusted), sync=key)
        metrics.gauge("ocisync_suspended", int(spec.suspend), sync=key)
        metrics.gauge("ocisync_quarantined", int(facts.quarantine is not None), sync=key)
        metrics.gauge("ocisync_objects", facts.objects, sync=key)
        metrics.gauge("ocisync_objects_ready", facts.health.ready, sync=key)
        if facts.changes is not None:
            for action in ("created", "configured", "recreated", "deleted", "failed"):
                amount = getattr(facts.changes, action)
                if amount:
                    metrics.count("ocisync_applied_total", amount, sync=key, action=action)

    def _write(self, spec: SyncSpec, state: State, outcome: Outcome) -> None:
        after = next_status(state.status, outcome, spec, self._desk.clock.now())
        written = self._desk.statuses.write(spec, state.status, after)
        if written.changed:
            state.status, state.version = written.status, max(state.version, written.version)

    def _news(self, spec: SyncSpec, state: State, outcome: Outcome) -> None:
        """One log line and one Event for each change of state, and none for anything else."""
        facts = outcome.facts
        if facts.changes is not None and (facts.newly_applied or facts.changes.wrote):
            name = facts.attempted.revision or facts.attempted.digest if facts.attempted else ""
            _LOG.info("applied", sync=spec.key, **_names(facts), changes=str(facts.changes), objects=facts.objects)
            self._desk.record(Note(spec.key, _subject(spec), "Applied", f"applied {name}: {facts.changes}"))
        digest = facts.attempted.digest if facts.attempted else ""
        news = "" if isinstance(outcome, Waiting) else _SECONDS.sub("", outcome.message)  # an age moves on by itself
        said = (type(outcome).__name__, outcome.reason, digest, news)
        if said == state.told or self._too_early(state, outcome):
            return
        before, state.told = state.told, said
        line: dict[str, object] = {
            "sync": spec.key, "reason": outcome.reason, **_names(facts), "text": outcome.message
        }  # fmt: skip
        text, verdict = outcome.message, facts.verdict
        if verdict is not None and not verdict.allowed and outcome.reason == verdict.reason.value:
            line |= {"rule": failed_rule(verdict), "signers": verdict.found, "fix": verdict.hint}
            text = refusal_text(verdict, digest)
            self._desk.metrics.count("ocisync_refused_total", sync=spec.key, reason=verdict.reason.value)
        match outcome:
            case Done():
                if before[:3] != said[:3]:
                    _LOG.info("ready", **line)
                    if not state.ready:
                        self._desk.record(Note(spec.key, _subject(spec), "Ready", outcome.message))
            case Waiting():
                _LOG.info("waiting", **line)
            case Stalled() if outcome.reason in {Reason.SUSPENDED, Reason.PAUSED}:
                _LOG.info("suspended", **line)
                self._desk.record(Note(spec.key, _subject(spec), outcome.reason, outcome.message))
            case Stalled():
                _LOG.warning("stalled", **line)
                self._desk.record(Note(spec.key, _subject(spec), outcome.reason, text, warning=True))
            case Failed():
                _LOG.warning("failed, tried again", **line)
                self._desk.record(Note(spec.key, _subject(spec), outcome.reason, outcome.message, warning=True))

    def _too_early(self, state: State, outcome: Outcome) -> bool:
        """Whether a digest may still get its signature or attestation, so that nobody needs to be alarmed."""
        now = self._desk.clock.monotonic()
        if outcome.reason not in (VerdictReason.UNSIGNED.value, VerdictReason.NO_ATTESTATION.value):
            state.unsigned_since = None
            return False
        if state.unsigned_since is None:
            state.unsigned_since = now
        return now - state.unsigned_since < _UNSIGNED_QUIET_S

    def _schedule(self, key: str, spec: SyncSpec, state: State, outcome: Outcome, started: float) -> None:
        if outcome.reason in {Reason.SUSPENDED, Reason.PAUSED}:
            return
        now = self._desk.clock.monotonic()
        if spec.source.kind is SelectorKind.DIGEST:
            pauses = [jittered(_DIGEST_LOOK_S, self._desk.rng)]
        elif state.memory.poll_at <= started:
            # The pass ended before the registry's turn: a dependency, or no policy. What ends that wakes us.
            pauses = [jittered(spec.source.interval_s, self._desk.rng)]
        else:
            pauses = [max(0.05, state.memory.poll_at - now)]
        after = 0.0 if isinstance(outcome, Done) else outcome.after_s
        if after > 0:
            pauses.append(after)
        enforced = state.memory.enforced
        if enforced is not None and not enforced.complete:
            pauses.append(max(0.05, enforced.retry_at - now))
        if enforced is not None and enforced.judge_at > now:  # a past one was not reached by this pass
            pauses.append(max(0.05, enforced.judge_at - now))
        self._desk.queue.add(key, after_s=min(pauses))


def _subject(spec: SyncSpec) -> Subject:
    return Subject(API_VERSION, SYNC_KIND, spec.namespace, spec.name, spec.uid)


def _names(facts: Facts) -> dict[str, str]:
    artifact = facts.attempted or facts.applied
    return {"digest": artifact.digest, "revision": artifact.revision} if artifact else {}


def _unreadable(metadata: JsonObject) -> SyncSpec:
    """Just enough of a spec to write the status of a sync whose own can't be read."""
    stand_in: JsonObject = {
        "metadata": metadata,
        "spec": {"source": {"repository": "invalid.invalid/spec", "tag": "none"}},
    }
    return parse_sync(stand_in)
