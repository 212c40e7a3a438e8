"""One pass over one sync: read the world, decide, write; one outcome.

    paused?        by an operator, everywhere: nothing is asked, nothing is written
    suspended?     the same, of this sync
    dependencies   other syncs that must be ready first
    trusted?       no policy matches: nobody is asked anything over the network
    accepted       after a start: what the local copy proves to have been accepted is no older than the watermark
    offered        what the registry offers now: one HEAD, and only when a poll is due
    quarantine     what is offered failed here, or a person wants an earlier one: that is what is wanted then
    rejudge        is what runs still trusted? (policy, keys or time have moved)
    anew           is the inventory lost, or did objects go back in time? then all is applied once, as after a restart
    unchanged      wanted = enforced and everything applied: not one request to the cluster
    advance        judge the wanted digest → content → plan → local copy → watermark → write → prune
    settle         Ready only when every object is healthy, as the watches see it
    go back        if it failed for good and `onFailure.rollback` is set

A refusal anywhere on the way forward leaves what runs alone: it stays enforced, drift included. After a restart that
means finding it again: in the verified local copy, else by the digest in the sync's status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ocisync.flows.content import Contents
from ocisync.flows.course import is_due
from ocisync.flows.enforce import Enforcer
from ocisync.flows.memory import Memory, Ports, Refusal
from ocisync.flows.offer import offer
from ocisync.flows.outcome import ArtifactFacts, Failed, Outcome, Quarantine, Reason, Recorded, Stalled, Waiting
from ocisync.flows.rejudge import Rejudgement
from ocisync.flows.rollback import Rollback
from ocisync.flows.situation import End, NotYet, Situation, sentence
from ocisync.flows.verify import NO_EVIDENCE, reverify
from ocisync.kit.backoff import jittered
from ocisync.model.errors import ClusterRefused, OcisyncError, Unavailable
from ocisync.model.spec import SelectorKind, SyncSpec

_RECOVER_S = 60.0
_DEPENDENCY_LOOK_S = 600.0


def reconcile(spec: SyncSpec, memory: Memory, ports: Ports, recorded: Recorded | None = None) -> Outcome:
    """Bring one sync as far as it can get now.

    Args:
        spec: what is wanted.
        memory: of this sync; changed in place.
        ports: the world.
        recorded: what the sync's status says of the time before, to find it again after a restart.

    Raises:
        Interrupted: the agent is stopping.
        NotYet: the turn of this sync's first pass has not come; nothing was written, and nothing is told.
    """
    return _Pass(Situation(spec, memory, ports, recorded or Recorded())).run()


class _Pass:
    """The steps; the first that ends the pass gives the outcome."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation
        self._contents = Contents(situation)
        self._enforcer = Enforcer(situation)
        self._rejudgement = Rejudgement(situation)
        self._rollback = Rollback(situation)

    def run(self) -> Outcome:
        """Run the steps."""
        memory = self._s.memory
        try:
            outcome = self._end_of(self._forward)
            quarantine = self._rollback.due(outcome)
            if quarantine is not None:
                outcome = self._go_back(quarantine)
            memory.cluster_attempts = 0
            return self._rollback.told(outcome)
        except (Unavailable, ClusterRefused) as error:
            memory.cluster_attempts += 1
            pause = min(2.0**memory.cluster_attempts, self._s.spec.retry_interval_s, 60.0)
            if isinstance(error, Unavailable) and error.retry_after_s:
                pause = max(pause, error.retry_after_s)
            reason = error.reason if error.reason == "InventoryConflict" else Reason.CLUSTER_FAILED
            return Failed(reason, error.message, self._s.facts(), jittered(pause, self._s.ports.rng, 0.2))
        finally:
            self._s.close()

    def _end_of(self, steps: Callable[[], None]) -> Outcome:
        try:
            steps()
        except End as end:
            return end.outcome
        raise AssertionError("every pass ends with an outcome")  # pragma: no cover

    def _forward(self) -> None:
        self._paused()
        self._suspended()
        self._dependencies()
        self._trusted()
        self._accepted()
        self._offered()
        asked_for = self._rollback.review()
        if asked_for is not None:
            self._s.ports.progress(self._s.spec, self._rollback.begun(asked_for))
        self._rejudgement.run()
        self._anew()
        self._unchanged()
        self._advance()

    def _go_back(self, quarantine: Quarantine) -> Outcome:
        """Durable first: after a kill the next start reads from the status that this was decided."""
        self._s.ports.progress(self._s.spec, self._rollback.begun(quarantine))
        memory = self._s.memory
        memory.quarantine, memory.refusal = quarantine, None
        memory.unhealthy_since = memory.failed_since = None
        return self._end_of(self._advance)

    # --- Before the registry ----------------------------------------------------------------------------------------

    def _paused(self) -> None:
        why = self._s.ports.paused()
        if why:
            self._s.rules("paused")
            raise End(Stalled(Reason.PAUSED, f"nothing is written in the whole cluster: {why}", self._s.facts()))

    def _suspended(self) -> None:
        spec = self._s.spec
        if spec.suspend:
            self._s.rules("suspended")
            by = f" by {spec.suspended_by}" if spec.suspended_by else ""
            reason = f": {spec.suspend_reason}" if spec.suspend_reason else ""
            text = f"suspended{by}{reason}; nothing is written until: ocisync resume {spec.name} -n {spec.namespace}"
            raise End(Stalled(Reason.SUSPENDED, text, self._s.facts()))

    def _dependencies(self) -> None:
        enforced = self._s.memory.enforced
        if enforced is None or enforced.generation != self._s.spec.generation:
            self._others_first()

    def _others_first(self) -> None:
        """What is new waits for other syncs; what runs already is kept as it is meanwhile."""
        spec = self._s.spec
        circle = self._s.ports.circle(spec.key) if spec.depends_on else ()
        if circle:
            self._rejudgement.run()
            message = f"spec.dependsOn goes in a circle: {' → '.join(circle)}; take one of them out"
            raise End(Stalled(Reason.DEPENDENCY_CYCLE, message, self._s.facts()))
        for namespace, name in spec.depends_on:
            problem = self._s.ports.dependency(namespace, name)
            if problem:
                message = f"waits for sync {namespace}/{name}: {problem}"
                self._recover()  # after a start: what ran before is kept as it is, whoever is waited for
                self._rejudgement.run()  # what runs may have lost trust meanwhile
                # Its readiness wakes us; this is only how often trust and policies are looked at meanwhile.
                raise End(Waiting(Reason.DEPENDENCY_NOT_READY, message, _DEPENDENCY_LOOK_S, self._s.facts()))

    def _trusted(self) -> None:
        """Without a matching policy nobody is asked anything; what runs stays, and its drift is corrected."""
        if self._s.trust.set.select(self._s.repository).policy is not None:
            return
        verdict = self._rejudgement.refuse()
        if verdict is None:
            request, now = self._s.request(watermark=0), self._s.ports.clock.now()
            verdict = reverify(b"", "", NO_EVIDENCE, self._s.trust.set, request, now=now).verdict
        raise End(Stalled(verdict.reason, sentence(verdict), self._s.facts(verdict=verdict)))

    def _accepted(self) -> None:
        """The watermark may be from a backup, and the local copy newer: then nothing older than that may come."""
        memory = self._s.memory
        if memory.enforced is None and not memory.copy_counts and self._s.spec.source.kind is not SelectorKind.DIGEST:
            self._contents.count_copy()
            memory.copy_counts = True

    def _offered(self) -> None:
        """Ask what the tag leads to now, if a poll is due."""
        memory, source = self._s.memory, self._s.spec.source
        if source.kind is SelectorKind.DIGEST:
            memory.offered = memory.offered or ArtifactFacts(digest=source.selector)
            return
        if self._s.now < memory.poll_at and not self._s.asked:
            return
        try:
            found = offer(self._s.open(), source)
        except OcisyncError as error:
            self._s.source_failed(error)
            return
        memory.poll_at = self._s.now + jittered(source.interval_s, self._s.ports.rng)
        memory.source_problem = memory.source_reason = ""
        memory.source_failed_at, memory.source_attempts = None, 0
        known = memory.offered
        same = known is not None and known.digest == found.digest
        memory.offered = replace(known, tag=found.tag) if known is not None and same else found

    # --- What runs --------------------------------------------------------------------------------------------------

    def _anew(self) -> None:
        """A sync of which nothing remembered holds any more gets one pass over everything, as after a restart."""
        memory = self._s.memory
        if self._s.ports.tracker.begins_anew(self._s.target.sync_id) and memory.enforced is not None:
            memory.enforced, memory.recover_at = None, 0.0

    def _unchanged(self) -> None:
        """The idle poll ends here."""
        memory, enforced, wanted = self._s.memory, self._s.memory.enforced, self._s.wanted
        if enforced is None or enforced.generation != self._s.spec.generation:
            return
        if wanted is None or wanted.digest == enforced.facts.digest:
            memory.refusal = None
            if not enforced.verdict.allowed:
                verdict = enforced.verdict
                pause = max(0.1, enforced.judge_at - self._s.now)
                raise End(Stalled(verdict.reason, sentence(verdict), self._s.facts(), pause))
            if enforced.complete or not is_due(self._s, enforced):
                raise End(self._s.settled())
            return
        refusal = memory.refusal
        if refusal is not None and self._still(refusal, wanted):
            said = refusal.outcome
            facts = self._s.facts(
                verdict=said.facts.verdict,
                attempted=said.facts.attempted,
                plan_hash=said.facts.plan_hash,
                failures=said.facts.failures,
            )
            raise End(replace(said, facts=facts, after_s=max(0.1, refusal.retry_at - self._s.now)))

    def _still(self, refusal: Refusal, wanted: ArtifactFacts) -> bool:
        return (
            refusal.digest == wanted.digest
            and refusal.generation == self._s.spec.generation
            and refusal.trust_version == self._s.trust.version
            and refusal.approved == self._s.spec.approved
            and self._s.now < refusal.retry_at
            and not self._s.asked
        )

    # --- Forward ----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take the wanted artifact; if it can't be used, make sure that the one before is enforced."""
        wanted, enforced = self._s.wanted, self._s.memory.enforced
        digest = wanted.digest if wanted is not None else self._s.status_digest
        if digest and self._s.resuming(digest) and not self._s.ports.turn(self._s.spec.key):
            raise NotYet
        if wanted is None:
            self._recover()
            raise End(self._without_source())
        if enforced is not None and enforced.facts.digest != wanted.digest and self._s.memory.quarantine is None:
            self._others_first()
        try:
            outcome = self._enforcer.enforce(self._contents.examined(wanted))
        except End as end:
            outcome = end.outcome
        finally:
            self._rejudgement.restrain()  # of whatever runs now
        if self._s.memory.enforced is None:
            self._recover()
            said = outcome.facts
            known = self._s.facts(
                verdict=said.verdict, attempted=said.attempted, plan_hash=said.plan_hash, failures=said.failures
            )
            outcome = replace(outcome, facts=known)
        raise End(outcome)

    def _recover(self) -> None:
        """Enforce again what was enforced before the process ended: so drift is corrected whatever comes next."""
        memory = self._s.memory
        if memory.enforced is not None or self._s.now < memory.recover_at:
            return
        memory.recover_at = self._s.now + jittered(_RECOVER_S, self._s.ports.rng)
        refusal = memory.refusal
        try:
            content = self._contents.known()
            if content is not None:
                self._enforcer.enforce(content)
        except End:
            pass
        except (Unavailable, ClusterRefused):
            memory.recover_at = 0.0
            raise
        finally:
            memory.refusal = refusal

    def _without_source(self) -> Outcome:
        memory = self._s.memory
        if memory.enforced is not None:
            return self._s.settled()
        reason = memory.source_reason or Reason.SOURCE_FAILED
        message = f"{memory.source_problem}; nothing is applied until the registry answers"
        return Failed(reason, message, self._s.facts(), max(0.5, memory.poll_at - self._s.now))
