"""One sync as it stands during a pass: what is wanted, what is remembered, what time it is, and how to say it.

The steps of a pass share one `Situation`. It makes no decision about what to apply; it opens the registry once, builds
requests, keeps a refusal, and turns what is known into `Facts` and outcomes.
"""

from __future__ import annotations

from dataclasses import replace

from ocisync.cluster.correction import SyncRules
from ocisync.cluster.engine import Settings
from ocisync.cluster.guard import Guard
from ocisync.cluster.health import HealthStatus
from ocisync.cluster.health_checks import compiled
from ocisync.cluster.normalise import Target, applyset_id
from ocisync.flows.localcopy import Saved
from ocisync.flows.memory import Mark, Memory, Ports, Refusal
from ocisync.flows.offer import leads_to
from ocisync.flows.outcome import (
    ArtifactFacts,
    Changes,
    Done,
    Facts,
    Failed,
    HealthFacts,
    ObjectFailure,
    Outcome,
    Reason,
    Recorded,
    Stalled,
    Waiting,
)
from ocisync.flows.verify import Request
from ocisync.kit.backoff import jittered
from ocisync.model.artifact import Verdict
from ocisync.model.errors import AccessDenied, NotFound, OcisyncError
from ocisync.model.spec import SelectorKind, SyncSpec
from ocisync.oci.store import Store

FAILED_SURELY_S = 5.0  # a failure that lasts so long is one; a crash loop has crashed twice before it is called so
REFUSED_RETRY_S, REFUSED_RETRY_CAP_S = 10.0, 300.0
_STALE_POLLS, _STALE_LEAST_S, _STALE_MOST_S = 5, 60.0, 600.0


class End(Exception):  # carries an outcome out of the steps
    """The pass is over."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class NotYet(Exception):
    """What is left to do is the first pass over what is applied already, and its turn has not come."""


def target_of(spec: SyncSpec) -> Target:
    """For whom the sync's objects are applied."""
    return Target(
        sync_id=applyset_id(spec.name, spec.namespace),
        sync_name=spec.name,
        sync_namespace=spec.namespace,
        sync_uid=spec.uid,
        service_account=spec.service_account,
        namespace=spec.target_namespace,
        ignore=spec.ignore,
    )


def settings_of(spec: SyncSpec, digest: str) -> Settings:
    """How the engine is to apply the sync's artifact, in passes and in previews of them."""
    return Settings(
        digest=digest,
        prune=spec.prune,
        force=spec.force,
        guard=Guard(spec.max_prune, spec.protect),
        approved=spec.approved,
    )


def rules_of(spec: SyncSpec, paused: str) -> SyncRules:
    """How the tracker keeps the sync's objects."""
    return SyncRules(
        sync_id=applyset_id(spec.name, spec.namespace),
        name=spec.key,
        created_at=spec.created_at,
        mode=spec.drift,
        unowned=spec.unowned,
        paused=paused,
        health=compiled(spec.checks),
    )


class Situation:
    """Made anew for each pass; whatever outlives it is in `Memory`.

    Attributes:
        recorded: what the sync's status says of the time before.
        asked: a person asked, or the spec is another one: whatever waits for its time is looked at now.
    """

    def __init__(self, spec: SyncSpec, memory: Memory, ports: Ports, recorded: Recorded) -> None:
        self.spec = spec
        self.memory = memory
        self.ports = ports
        self.recorded = recorded
        self.target = target_of(spec)
        self.repository = spec.source.reference.repository
        self.trust = ports.trust()
        self.now = ports.clock.monotonic()
        self.asked = memory.requested != spec.requested_at or memory.generation != spec.generation
        self._store: Store | None = None
        if memory.selector != spec.source.watermark_key:
            # What the registry said about another source says nothing about this one.
            memory.offered = memory.refusal = memory.source_failed_at = None
            if memory.selector:
                memory.quarantine = None
            memory.selector, memory.poll_at = spec.source.watermark_key, 0.0
        if not memory.restored:
            memory.quarantine, memory.rollback, memory.restored = recorded.quarantine, recorded.rollback, True

    def close(self) -> None:
        """Let the registry go, and remember what was acted on."""
        if self._store is not None:
            self._store.close()
        self.memory.generation, self.memory.requested = self.spec.generation, self.spec.requested_at

    def open(self) -> Store:
        """The sync's repository."""
        if self._store is None:
            self._store = self.ports.open_store(self.spec)
        return self._store

    @property
    def status_digest(self) -> str:
        """What the sync's status says was applied."""
        return self.recorded.applied

    def resuming(self, digest: str) -> bool:
        """Whether enforcing this digest only takes up again what ran before this process began: nobody waits for it."""
        return self.memory.enforced is None and digest == self.recorded.applied

    @property
    def wanted(self) -> ArtifactFacts | None:
        """What is to run: what the registry offers, or what runs instead while that is in quarantine."""
        offered, quarantine = self.memory.offered, self.memory.quarantine
        if quarantine is not None and (offered is None or offered.digest == quarantine.digest):
            return quarantine.to
        return offered

    def own(self, digest: str) -> bool:
        """Whether a digest is run again because this sync has run it before: then it may be older than the watermark.

        That it has, the agent's own record says, which tenants can't write.
        """
        quarantine, enforced = self.memory.quarantine, self.memory.enforced
        offered = self.memory.offered
        if offered is not None and offered.digest == digest:
            return False  # a person or the rule above may go back, not whoever moves a tag
        returned = quarantine is not None and quarantine.to.digest == digest
        kept = enforced is not None and enforced.own and enforced.facts.digest == digest
        found_again = enforced is None and digest == self.recorded.applied  # after a start
        return (returned or kept or found_again) and digest in self.ports.watermarks.read(self.spec).accepted

    def saved(self, name: str = "") -> Saved | None:
        """The local copy, not judged yet; or the one of another name."""
        return self.ports.copies.load(name or self.spec.key, self.repository, self.spec.source.watermark_key)

    def request(self, *, digest: str = "", watermark: int | None = None, tag: str = "") -> Request:
        """What to verify: this source, as it was accepted before. `tag`: the version that led to it, if known."""
        source = self.spec.source
        if source.kind is SelectorKind.DIGEST:
            return Request(self.repository, source.kind, digest=digest or source.selector)
        mark = self.ports.watermarks.read(self.spec) if watermark is None else Mark(watermark)
        if digest and watermark is None and self.own(digest):
            mark = Mark()
        tag = source.selector if source.kind is SelectorKind.TAG else tag or self._version_of(digest)
        return Request(
            self.repository,
            source.kind,
            tag=tag,
            digest=digest,
            accepted_digest=mark.led_by(source.kind, tag),
            watermark=mark.sequence,
        )

    def mark(self, request: Request, digest: str, verdict: Verdict) -> Mark:
        """What is remembered of an accepted artifact."""
        tag = request.tag if request.kind is SelectorKind.SEMVER else ""
        return Mark(verdict.sequence, digest, tag=tag)

    def _version_of(self, digest: str) -> str:
        """The version that led to a digest; empty if nobody remembers, and then no signature is for it."""
        memory = self.memory
        enforced = memory.enforced.facts if memory.enforced is not None else None
        returned = memory.quarantine.to if memory.quarantine is not None else None
        known = (memory.offered, enforced, returned, *(past.artifact for past in self.recorded.history))
        tags = (one.tag for one in known if one is not None and one.digest == digest)
        return next((tag for tag in tags if leads_to(self.spec.source, tag)), "")

    def rules(self, paused: str) -> None:
        """Tell the tracker how to keep the objects, and why it may not write."""
        again = self.ports.tracker.set_sync(rules_of(self.spec, paused))
        if again:
            self.ports.relist(again)

    def source_failed(self, error: OcisyncError) -> None:
        """Note it, and when to ask again: sooner than the interval, never in a busy loop."""
        memory = self.memory
        memory.source_problem, memory.source_reason = error.message, error.reason
        memory.source_failed_at = self.now if memory.source_failed_at is None else memory.source_failed_at
        memory.source_attempts += 1
        pause = min(2.0 ** min(memory.source_attempts, 6), max(self.spec.source.interval_s, 5.0))
        memory.poll_at = self.now + jittered(pause, self.ports.rng, 0.2)

    def remember(self, digest: str, outcome: Stalled) -> End:
        """How the pass ends; look again after a while, and at once when anything that the refusal rests on moves."""
        before = self.memory.refusal
        attempts = before.attempts + 1 if before is not None and before.digest == digest else 1
        pause = min(REFUSED_RETRY_S * 2.0 ** min(attempts - 1, 10), REFUSED_RETRY_CAP_S)
        pause = jittered(pause, self.ports.rng)
        outcome = replace(outcome, after_s=pause)
        self.memory.refusal = Refusal(
            digest=digest,
            generation=self.spec.generation,
            trust_version=self.trust.version,
            approved=self.spec.approved,
            outcome=outcome,
            attempts=attempts,
            retry_at=self.now + pause,
        )
        return End(outcome)

    def settled(self) -> Outcome:
        """Everything is written: is it healthy?"""
        memory, enforced = self.memory, self.memory.enforced
        if enforced is None:
            raise AssertionError("settled without anything enforced")
        facts = self.facts()
        # While a wave waits for the health of the one before, that health decides, as it does at the end.
        before = self.ports.tracker.unfinished(self.target.sync_id, enforced.gate)
        waits = facts.health.healthy is False or not before.healthy
        if enforced.problem is not None and not (enforced.gate and waits):
            return replace(enforced.problem, facts=facts)
        if not waits:
            memory.unhealthy_since = memory.failed_since = None
            self._keep_good(enforced.facts.digest)
            name = enforced.facts.revision or enforced.facts.digest
            return Done(f"applied {name}: {facts.health.message}", facts)
        return self._unhealthy(facts, before.message() if facts.health.healthy else facts.health.message)

    def _unhealthy(self, facts: Facts, message: str) -> Outcome:
        """Not healthy yet, surely failed, or out of time."""
        memory, now = self.memory, self.ports.clock.monotonic()
        memory.unhealthy_since = now if memory.unhealthy_since is None else memory.unhealthy_since
        left = self.spec.wait_timeout_s - (now - memory.unhealthy_since)
        if left <= 0:
            timeout = f"not healthy after {self.spec.wait_timeout_s:.0f} s: {message}"
            return Failed(Reason.HEALTH_TIMEOUT, timeout, facts, self.spec.retry_interval_s)
        if facts.health.failed:
            memory.failed_since = now if memory.failed_since is None else memory.failed_since
            doubt_s = FAILED_SURELY_S - (now - memory.failed_since)
            if doubt_s <= 0:
                return Failed(Reason.HEALTH_FAILED, message, facts, self.spec.retry_interval_s)
            return Waiting(Reason.PROGRESSING, message, min(left, doubt_s), facts)
        memory.failed_since = None
        pods_s = self.ports.pods.due_s(self.target.sync_id)
        return Waiting(Reason.PROGRESSING, message, left if pods_s is None else min(left, pods_s), facts)

    def _keep_good(self, digest: str) -> None:
        """The first time that an artifact is healthy, its content is kept to return to."""
        if self.memory.good != digest:
            self.memory.good = digest
            self.ports.copies.keep_good(self.spec.key)

    def facts(
        self,
        *,
        verdict: Verdict | None = None,
        attempted: ArtifactFacts | None = None,
        failures: tuple[ObjectFailure, ...] = (),
        plan_hash: str = "",
        changes: Changes | None = None,
        newly: bool = False,
    ) -> Facts:
        """Everything known; what is not given is that of the enforced artifact."""
        memory, enforced = self.memory, self.memory.enforced
        return Facts(
            source=memory.offered,
            applied=memory.applied,
            attempted=attempted or (enforced.facts if enforced else None),
            verdict=verdict or (enforced.verdict if enforced else None),
            health=self._health(),
            failures=failures or (enforced.failures if enforced else ()),
            objects=enforced.objects if enforced else 0,
            source_problem=memory.source_problem,
            source_reason=memory.source_reason,
            source_stale=self._stale(),
            plan_hash=plan_hash,
            newly_applied=newly,
            changes=changes,
            quarantine=memory.quarantine,
            rollback=memory.rollback,
        )

    def _health(self) -> HealthFacts:
        if self.memory.enforced is None:
            return HealthFacts()
        rollup = self.ports.tracker.health(self.target.sync_id)
        rollup = rollup.explained(self.ports.pods.attend(self.target.sync_id, rollup.waiting))
        return HealthFacts(
            healthy=rollup.healthy,
            failed=rollup.status is HealthStatus.FAILED,
            message=rollup.message(),
            ready=rollup.current,
            total=rollup.total,
        )

    def _stale(self) -> bool:
        """Whether someone should know that the registry gives nothing: at once when it says no, else after a while."""
        memory = self.memory
        if memory.source_failed_at is None:
            return False
        if memory.source_reason in {NotFound.default_reason, AccessDenied.default_reason}:
            return True
        limit = min(max(_STALE_POLLS * self.spec.source.interval_s, _STALE_LEAST_S), _STALE_MOST_S)
        return self.now - memory.source_failed_at >= limit


def sentence(verdict: Verdict) -> str:
    """A verdict for people: what, and what to do about it."""
    return f"{verdict.message}; {verdict.hint}" if verdict.hint else verdict.message
