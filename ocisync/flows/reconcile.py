"""One pass over one sync: read the world, decide, write; one outcome.

    suspended?     nothing is asked, nothing is written
    dependencies   other syncs that must be ready first
    trusted?       no policy matches: nobody is asked anything over the network
    offered        what the registry offers now: one HEAD, and only when a poll is due
    rejudge        is what runs still trusted? (policy, keys or time have moved) decided from saved evidence
    unchanged      offered = enforced and everything applied: not one request to the cluster
    advance        judge the offered digest → content → plan → local copy → watermark → write → prune
    settle         Ready only when every object is healthy, as the watches see it

A refusal anywhere on the way forward leaves what runs alone: it stays enforced, drift included. After a restart that
means finding it again: in the verified local copy, else by the digest in the sync's status.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from ocisync.cluster.apply import Action
from ocisync.cluster.correction import SyncRules
from ocisync.cluster.engine import ApplyReport, Settings
from ocisync.cluster.guard import Guard
from ocisync.cluster.health import HealthStatus
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Prepared, Rejected, Target, applyset_id
from ocisync.cluster.outcome import ErrorClass, failed
from ocisync.cluster.plan import Plan
from ocisync.flows.fetch import Fetched, fetch
from ocisync.flows.localcopy import Saved
from ocisync.flows.memory import Enforced, Mark, Memory, Ports, Refusal
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
    Stalled,
    Waiting,
)
from ocisync.flows.verify import NO_EVIDENCE, Judgement, Request, examine_reference, require, reverify
from ocisync.kit.backoff import jittered
from ocisync.manifests.parse import parse_tree
from ocisync.manifests.select import under
from ocisync.model.artifact import Verdict, VerdictReason, Verified
from ocisync.model.descriptor import REVISION
from ocisync.model.errors import (
    AccessDenied,
    ClusterRefused,
    InvalidInput,
    NotFound,
    OcisyncError,
    Refused,
    Unavailable,
)
from ocisync.model.limits import STATUS_MESSAGE_BYTES
from ocisync.model.resource import ObjectId
from ocisync.model.spec import SelectorKind, SyncSpec
from ocisync.oci.store import Store
from ocisync.pack.untar import unpack
from ocisync.policy.rules import OnRevoked

_REJUDGE_S = 600.0  # signatures expire and age without any event
_REFUSED_RETRY_S = 10.0
_REFUSED_RETRY_CAP_S = 300.0
_RETRY_CAP_S = 600.0
_ENDING_LOOK_S = 3.0
_RECOVER_S = 60.0
_STALE_POLLS, _STALE_LEAST_S, _STALE_MOST_S = 5, 60.0, 600.0
_NAMED = 3  # failed objects named in a message


@dataclass(frozen=True, slots=True)
class _Content:
    """A judged artifact with its bytes."""

    verified: Verified
    request: Request
    judgement: Judgement
    fetched: Fetched

    @property
    def facts(self) -> ArtifactFacts:
        verdict, manifest = self.verified.verdict, self.verified.manifest
        revision = verdict.revision or manifest.annotations.get(REVISION, "")
        return ArtifactFacts(self.verified.tag, self.verified.digest, revision, verdict.signers)


class _End(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


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


def rules_of(spec: SyncSpec, paused: str) -> SyncRules:
    """How the tracker keeps the sync's objects."""
    return SyncRules(
        sync_id=applyset_id(spec.name, spec.namespace),
        name=spec.key,
        created_at=spec.created_at,
        mode=spec.drift,
        unowned=spec.unowned,
        paused=paused,
    )


def reconcile(spec: SyncSpec, memory: Memory, ports: Ports, *, status_digest: str = "") -> Outcome:
    """Bring one sync as far as it can get now.

    Args:
        spec: what is wanted.
        memory: of this sync; changed in place.
        ports: the world.
        status_digest: what the sync's status says was applied, to find it again after a restart.

    Raises:
        Interrupted: the agent is stopping.
    """
    return _Pass(spec, memory, ports, status_digest).run()


class _Pass:
    """The steps. Made anew for each pass; whatever outlives it is in `Memory`."""

    def __init__(self, spec: SyncSpec, memory: Memory, ports: Ports, status_digest: str) -> None:
        self._spec = spec
        self._memory = memory
        self._ports = ports
        self._status_digest = status_digest
        self._target = target_of(spec)
        self._repository = spec.source.reference.repository
        self._trust = ports.trust()
        self._now = ports.clock.monotonic()
        self._store: Store | None = None
        # A person asked, or the spec is another one: whatever waits for its time is looked at now.
        self._asked = memory.requested != spec.requested_at or memory.generation != spec.generation

    def run(self) -> Outcome:
        """Run the steps; the first that ends the pass gives the outcome."""
        memory = self._memory
        if memory.selector != self._spec.source.watermark_key:
            # What the registry said about another source says nothing about this one.
            memory.offered = memory.refusal = memory.source_failed_at = None
            memory.selector, memory.poll_at = self._spec.source.watermark_key, 0.0
        try:
            self._suspended()
            self._dependencies()
            self._trusted()
            self._offered()
            self._rejudge()
            self._unchanged()
            self._advance()
        except _End as end:
            memory.cluster_attempts = 0
            return end.outcome
        except (Unavailable, ClusterRefused) as error:
            memory.cluster_attempts += 1
            pause = min(2.0**memory.cluster_attempts, self._spec.retry_interval_s, 60.0)
            if isinstance(error, Unavailable) and error.retry_after_s:
                pause = max(pause, error.retry_after_s)
            reason = error.reason if error.reason == "InventoryConflict" else Reason.CLUSTER_FAILED
            return Failed(reason, error.message, self._facts(), jittered(pause, self._ports.rng, 0.2))
        finally:
            if self._store is not None:
                self._store.close()
            memory.generation, memory.requested = self._spec.generation, self._spec.requested_at
        raise AssertionError("every pass ends with an outcome")  # pragma: no cover

    # --- Before the registry ----------------------------------------------------------------------------------------

    def _suspended(self) -> None:
        if self._spec.suspend:
            self._rules("suspended")
            raise _End(Stalled(Reason.SUSPENDED, "spec.suspend is true: nothing is written", self._facts()))

    def _dependencies(self) -> None:
        enforced = self._memory.enforced
        if enforced is not None and enforced.generation == self._spec.generation:
            return  # only the first apply of a spec waits for others
        for namespace, name in self._spec.depends_on:
            problem = self._ports.dependency(namespace, name)
            if problem:
                message = f"waits for sync {namespace}/{name}: {problem}"
                pause = self._spec.retry_interval_s
                raise _End(Waiting(Reason.DEPENDENCY_NOT_READY, message, pause, self._facts()))

    def _trusted(self) -> None:
        """Without a matching policy nobody is asked anything; what runs stays, and its drift is corrected."""
        if self._trust.set.select(self._repository).policy is not None:
            return
        now, enforced = self._ports.clock.now(), self._memory.enforced
        request = self._request(digest=enforced.facts.digest if enforced else "", watermark=0)
        verdict = reverify(b"", "", NO_EVIDENCE, self._trust.set, request, now=now).verdict
        if enforced is not None:
            enforced.verdict, enforced.trust_version = verdict, self._trust.version
        self._rules(self._distrust(verdict))
        raise _End(Stalled(verdict.reason, sentence(verdict), self._facts(verdict=verdict)))

    def _offered(self) -> None:
        """Ask what the tag leads to now, if a poll is due."""
        memory, source = self._memory, self._spec.source
        if source.kind is SelectorKind.DIGEST:
            memory.offered = memory.offered or ArtifactFacts(digest=source.selector)
            return
        if self._now < memory.poll_at and not self._asked:
            return
        try:
            descriptor = self._open().resolve(source.selector)
        except OcisyncError as error:
            self._source_failed(error)
            return
        if descriptor is None:
            hint = "push it, or correct spec.source.tag"
            self._source_failed(NotFound(f"{self._repository} has no tag {source.selector!r}", hint=hint))
            return
        memory.poll_at = self._now + jittered(source.interval_s, self._ports.rng)
        memory.source_problem = memory.source_reason = ""
        memory.source_failed_at, memory.source_attempts = None, 0
        if memory.offered is None or memory.offered.digest != descriptor.digest:
            memory.offered = ArtifactFacts(tag=source.selector, digest=descriptor.digest)

    def _source_failed(self, error: OcisyncError) -> None:
        """Note it, and when to ask again: sooner than the interval, never in a busy loop."""
        memory = self._memory
        memory.source_problem, memory.source_reason = error.message, error.reason
        memory.source_failed_at = self._now if memory.source_failed_at is None else memory.source_failed_at
        memory.source_attempts += 1
        pause = min(2.0 ** min(memory.source_attempts, 6), max(self._spec.source.interval_s, 5.0))
        memory.poll_at = self._now + jittered(pause, self._ports.rng, 0.2)

    # --- What runs --------------------------------------------------------------------------------------------------

    def _rejudge(self) -> None:
        """Judge what runs again when policy, keys or enough time have moved. Decides who may still write."""
        enforced = self._memory.enforced
        if enforced is None:
            return
        moved = enforced.trust_version != self._trust.version
        stale = moved or self._now >= enforced.judge_at or (self._asked and not enforced.verdict.allowed)
        if stale and enforced.selector == self._memory.selector:
            verdict = self._judge_again(enforced)
            if verdict is not None:
                enforced.verdict = verdict
            enforced.trust_version = self._trust.version
            enforced.refusals = 0 if enforced.verdict.allowed or moved else enforced.refusals + 1
            pause = min(_REFUSED_RETRY_S * 2.0 ** min(enforced.refusals, 10), _REFUSED_RETRY_CAP_S)
            pause = _REJUDGE_S if enforced.verdict.allowed else pause
            enforced.judge_at = self._now + jittered(pause, self._ports.rng)
        self._rules(self._distrust(enforced.verdict))

    def _judge_again(self, enforced: Enforced) -> Verdict | None:
        """From the saved evidence; if that is not enough any more, from what the registry has now."""
        request = replace(enforced.request, watermark=self._ports.watermarks.read(self._spec).sequence)
        now = self._ports.clock.now()
        saved = self._saved()
        verdict: Verdict | None = None
        if saved is not None and saved.digest == enforced.facts.digest:
            verdict = reverify(
                saved.manifest, saved.media_type, saved.evidence, self._trust.set, request, now=now
            ).verdict
            if verdict.allowed or verdict.distrusted:
                return verdict
        if self._memory.source_problem:
            return verdict
        try:
            found = examine_reference(self._open(), self._trust.set, request, now=self._ports.clock.now())
        except OcisyncError:
            return verdict
        if found.verdict.allowed and saved is not None:
            self._ports.copies.save(self._spec.key, replace(saved, evidence=found.evidence))
        return found.verdict

    def _distrust(self, verdict: Verdict) -> str:
        """Why nothing may be written: explicit distrust always, evidence that is not enough any more if so chosen."""
        if verdict.allowed:
            return ""
        if verdict.distrusted:
            return "distrusted"
        policy = self._trust.set.select(self._repository).policy
        return "trust revoked" if policy is not None and policy.on_revoked is OnRevoked.SUSPEND else ""

    def _unchanged(self) -> None:
        """The idle poll ends here."""
        memory, enforced, offered = self._memory, self._memory.enforced, self._memory.offered
        if enforced is None or enforced.generation != self._spec.generation:
            return
        if offered is None or offered.digest == enforced.facts.digest:
            memory.refusal = None
            if not enforced.verdict.allowed:
                verdict = enforced.verdict
                pause = max(0.1, enforced.judge_at - self._now)
                raise _End(Stalled(verdict.reason, sentence(verdict), self._facts(), pause))
            if enforced.complete or (self._now < enforced.retry_at and not self._asked):
                raise _End(self._settled())
            return
        refusal = memory.refusal
        if refusal is not None and self._still(refusal, offered):
            said = refusal.outcome
            facts = self._facts(
                verdict=said.facts.verdict,
                attempted=said.facts.attempted,
                plan_hash=said.facts.plan_hash,
                failures=said.facts.failures,
            )
            raise _End(replace(said, facts=facts, after_s=max(0.1, refusal.retry_at - self._now)))

    def _still(self, refusal: Refusal, offered: ArtifactFacts) -> bool:
        return (
            refusal.digest == offered.digest
            and refusal.generation == self._spec.generation
            and refusal.trust_version == self._trust.version
            and refusal.approved == self._spec.approved
            and self._now < refusal.retry_at
            and not self._asked
        )

    # --- Forward ----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take the offered artifact; if it can't be used, make sure that the one before is enforced."""
        offered = self._memory.offered
        if offered is None:
            self._recover()
            raise _End(self._without_source())
        try:
            outcome = self._enforce(self._examined(offered))
        except _End as end:
            outcome = end.outcome
        if self._memory.enforced is None:
            self._recover()
            said = outcome.facts
            known = self._facts(
                verdict=said.verdict, attempted=said.attempted, plan_hash=said.plan_hash, failures=said.failures
            )
            outcome = replace(outcome, facts=known)
        raise _End(outcome)

    def _examined(self, offered: ArtifactFacts) -> _Content:
        """Judge the offered digest and get its bytes: the local copy's if it is the same, else the registry's."""
        request = self._request(digest=offered.digest)
        saved = self._saved()
        if saved is not None and saved.digest == offered.digest:
            content = self._from_copy(saved, request)
            if content is not None:
                return content
        try:
            judgement, content = self._from_registry(request)
        except Refused as error:
            judgement, content = Judgement(_bad_artifact(error)), None
        except (Unavailable, AccessDenied, NotFound) as error:
            self._source_failed(error)
            facts = self._facts(attempted=offered)
            raise _End(Failed(error.reason, error.message, facts, self._memory.poll_at - self._now)) from None
        if content is None:
            raise self._refused(offered, judgement)
        return content

    def _from_registry(self, request: Request) -> tuple[Judgement, _Content | None]:
        """Judge a digest by what the registry has; its bytes only if it is allowed."""
        store, now = self._open(), self._ports.clock.now()
        judgement = examine_reference(store, self._trust.set, request, now=now)
        if not judgement.verdict.allowed:
            return judgement, None
        verified = require(judgement, request)
        return judgement, _Content(verified, request, judgement, fetch(store, verified))

    def _from_copy(self, saved: Saved, request: Request) -> _Content | None:
        """The local copy, if it still proves itself."""
        now = self._ports.clock.now()
        judgement = reverify(saved.manifest, saved.media_type, saved.evidence, self._trust.set, request, now=now)
        if not judgement.verdict.allowed:
            return None
        verified = require(judgement, request)
        try:
            files = unpack(verified, saved.config, saved.layer)
        except Refused:
            return None
        return _Content(verified, request, judgement, Fetched(files, saved.config, saved.layer))

    def _refused(self, offered: ArtifactFacts, judgement: Judgement) -> _End:
        verdict = judgement.verdict
        attempted = offered
        if judgement.artifact is not None:
            revision = judgement.artifact.manifest.annotations.get(REVISION, "")
            attempted = replace(offered, revision=revision)
        facts = self._facts(verdict=verdict, attempted=attempted)
        return self._remember(offered.digest, Stalled(verdict.reason, sentence(verdict), facts))

    def _remember(self, digest: str, outcome: Stalled) -> _End:
        """How the pass ends; look again after a while, and at once when anything that the refusal rests on moves."""
        before = self._memory.refusal
        attempts = before.attempts + 1 if before is not None and before.digest == digest else 1
        pause = min(_REFUSED_RETRY_S * 2.0 ** min(attempts - 1, 10), _REFUSED_RETRY_CAP_S)
        pause = jittered(pause, self._ports.rng)
        outcome = replace(outcome, after_s=pause)
        self._memory.refusal = Refusal(
            digest=digest,
            generation=self._spec.generation,
            trust_version=self._trust.version,
            approved=self._spec.approved,
            outcome=outcome,
            attempts=attempts,
            retry_at=self._now + pause,
        )
        return _End(outcome)

    def _prepared(self, content: _Content) -> Prepared:
        """Parse, select, normalise; what an older sync owns is left out."""
        facts = content.facts
        try:
            objects = under(parse_tree(content.fetched.files), self._spec.path)
        except InvalidInput as error:
            failures = tuple(
                ObjectFailure("", f"{item.file}:{item.line}", ErrorClass.PERMANENT.value, _short(item.message))
                for item in error.findings
            )
            known = self._facts(verdict=content.verified.verdict, attempted=facts, failures=failures)
            raise self._remember(facts.digest, Stalled(Reason.BAD_ARTIFACT, error.message, known)) from None
        if self._spec.path and not objects:
            known = self._facts(verdict=content.verified.verdict, attempted=facts)
            message = f"spec.path {self._spec.path!r}: the artifact has no manifests there"
            raise self._remember(facts.digest, Stalled(Reason.BAD_ARTIFACT, message, known))
        self._rules("")
        prepared = self._ports.engine.prepare(objects, self._target)
        claimed = self._ports.tracker.claim(self._target.sync_id, [one.id for one in prepared.desired])
        if not claimed:
            return prepared
        conflicts = tuple(
            Rejected(one.id, one.place, failed(ErrorClass.CONFLICT, "OwnedByOther", f"belongs to sync {owner}"))
            for one in prepared.desired
            if (owner := claimed.get(one.id)) is not None
        )
        desired = tuple(one for one in prepared.desired if one.id not in claimed)
        return replace(prepared, desired=desired, rejected=(*prepared.rejected, *conflicts))

    def _enforce(self, content: _Content) -> Outcome:
        """Plan one judged artifact, make the way durable, write."""
        facts, ports = content.facts, self._ports
        prepared = self._prepared(content)
        settings = Settings(
            digest=facts.digest,
            prune=self._spec.prune,
            force=self._spec.force,
            guard=Guard(self._spec.max_prune, self._spec.protect),
            approved=self._spec.approved,
        )
        ports.tracker.begin_pass(self._target.sync_id)
        try:
            # Read after corrections have ended: they note new uids in the same inventory.
            store = ports.engine.inventory(self._target)
            plan = ports.engine.plan(prepared, self._target, store, settings)
            if plan.held:
                raise self._held(content, plan)
            ports.stop.check()
            self._accept(content)
            self._announce(content, plan)
            bodies = {one.id: one for one in prepared.desired}

            def applied(object_id: ObjectId, answer: Applied) -> None:
                ports.tracker.applied(self._target.sync_id, bodies[object_id], answer)

            report = ports.engine.execute(
                plan, prepared, self._target, store, settings,
                on_applied=applied, previous=lambda id_: ports.tracker.remembered(self._target.sync_id, id_),
            )  # fmt: skip
            self._forget(prepared, plan, report)
        finally:
            ports.tracker.end_pass(self._target.sync_id)
            ports.watch()
        return self._written(content, report)

    def _held(self, content: _Content, plan: Plan) -> _End:
        facts = content.facts
        failures = tuple(
            ObjectFailure(str(loss.id), "", "Held", f"would be deleted{' and created anew' if loss.recreated else ''}")
            for loss in plan.losses
        )
        verdict = content.verified.verdict
        known = self._facts(verdict=verdict, attempted=facts, plan_hash=plan.hash, failures=failures)
        command = f"ocisync approve {self._spec.name} --namespace {self._spec.namespace}"
        message = f"{plan.held}; nothing of {facts.revision or facts.digest} is applied until: {command}"
        return self._remember(facts.digest, Stalled(Reason.APPROVAL_REQUIRED, message, known))

    def _accept(self, content: _Content) -> None:
        """Durable before the first write: the local copy, then the watermark."""
        manifest, facts = content.verified.manifest, content.facts
        saved = Saved(
            repository=self._repository,
            selector=self._spec.source.watermark_key,
            media_type=manifest.descriptor.media_type,
            manifest=manifest.raw,
            config=content.fetched.config,
            layer=content.fetched.layer,
            evidence=content.judgement.evidence,
        )
        self._ports.copies.save(self._spec.key, saved)
        if self._spec.source.kind is not SelectorKind.DIGEST:
            self._ports.watermarks.accept(self._spec, Mark(content.verified.verdict.sequence, facts.digest))

    def _announce(self, content: _Content, plan: Plan) -> None:
        """Say that something new is being applied; a full pass over what was applied before is no news."""
        facts = content.facts
        if facts.digest == self._status_digest and self._memory.enforced is None:
            return
        message = f"applying {len(plan.applies)} objects of {facts.revision or facts.digest}"
        known = self._facts(verdict=content.verified.verdict, attempted=facts)
        self._ports.progress(self._spec, Waiting(Reason.PROGRESSING, message, 0.0, known))

    def _forget(self, prepared: Prepared, plan: Plan, report: ApplyReport) -> None:
        """Stop keeping what the artifact no longer has, but for what could not be pruned yet."""
        kept = {one.id for one in prepared.desired} | {one.id for one in prepared.rejected}
        if report.prune_deferred:
            kept |= {one.id for one in plan.prunes}
        sync_id = self._target.sync_id
        self._ports.tracker.forget(sync_id, self._ports.tracker.owned(sync_id) - kept)

    def _written(self, content: _Content, report: ApplyReport) -> Outcome:
        """Remember the new state of things; the pass ends with what is left to do."""
        facts, memory = content.facts, self._memory
        before = memory.enforced
        again = before is not None and before.facts.digest == facts.digest and not before.complete
        problem_free = report.all_applied and not report.prune_held and not report.ending and not report.failures
        enforced = memory.enforced = Enforced(
            facts=facts,
            verdict=content.verified.verdict,
            request=content.request,
            selector=memory.selector,
            generation=self._spec.generation,
            trust_version=self._trust.version,
            judge_at=self._now + jittered(_REJUDGE_S, self._ports.rng),
            complete=problem_free,
            failures=_failures(report),
            objects=report.owned,
            applied_at=self._ports.clock.monotonic(),
            attempts=(before.attempts + 1 if again and before is not None else 1),
        )
        newly = report.all_applied and (memory.applied is None or memory.applied.digest != facts.digest)
        if report.all_applied:
            memory.applied = facts
        if memory.offered is not None and memory.offered.digest == facts.digest:
            memory.offered = facts
            memory.refusal = None
        memory.unhealthy_since = None
        changes = _changes(report)
        if not problem_free:
            enforced.problem = self._incomplete(report, enforced)
            enforced.retry_at = enforced.applied_at + getattr(enforced.problem, "after_s", 0.0)
            return replace(enforced.problem, facts=self._facts(attempted=facts, changes=changes, newly=newly))
        outcome = self._settled()
        return replace(outcome, facts=self._facts(attempted=facts, changes=changes, newly=newly))

    def _incomplete(self, report: ApplyReport, enforced: Enforced) -> Outcome:
        """What is missing, in words, and when it is tried again."""
        pause = min(self._spec.retry_interval_s * 2.0 ** min(enforced.attempts - 1, 8), _RETRY_CAP_S)
        facts = self._facts(attempted=enforced.facts)
        if report.failures:
            classes = {item.failure.error_class for item in report.failures if item.failure}
            text = _failure_text(report)
            if report.prune_deferred:
                text += "; what the artifact no longer has is kept until everything is applied"
            reason = Reason.PRUNE_DEFERRED if report.prune_deferred else Reason.APPLY_FAILED
            if classes <= {ErrorClass.PERMANENT, ErrorClass.IMMUTABLE, ErrorClass.CONFLICT}:
                return Stalled(reason, text, facts, pause)
            if classes <= {ErrorClass.TRANSIENT, ErrorClass.WAITING}:
                pause = min(pause, 2.0 ** min(enforced.attempts, 8))
            return Failed(reason, text, facts, pause)
        if report.ending:
            text = f"waits for the end of {_names(report.ending)}: a finalizer holds them"
            return Waiting(Reason.PROGRESSING, text, min(_ENDING_LOOK_S * enforced.attempts, 60.0), facts)
        held = report.prune_held[0]
        return Stalled(Reason.PRUNE_HELD, f"{held.id}: {held.message}", facts, pause)

    # --- After a restart --------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Enforce again what was enforced before the process ended: so drift is corrected whatever comes next."""
        memory = self._memory
        if memory.enforced is not None or self._now < memory.recover_at:
            return
        memory.recover_at = self._now + jittered(_RECOVER_S, self._ports.rng)
        refusal = memory.refusal
        try:
            content = self._known_content()
            if content is not None:
                self._enforce(content)
        except _End:
            pass
        finally:
            memory.refusal = refusal

    def _known_content(self) -> _Content | None:
        saved = self._saved()
        if saved is not None:
            content = self._from_copy(saved, self._request(digest=saved.digest))
            if content is not None:
                return content
        offered = self._memory.offered
        digest = self._status_digest
        if not digest or self._memory.source_problem or (offered is not None and offered.digest == digest):
            return None
        try:
            return self._from_registry(self._request(digest=digest))[1]
        except OcisyncError:
            return None

    def _without_source(self) -> Outcome:
        memory = self._memory
        if memory.enforced is not None:
            return self._settled()
        reason = memory.source_reason or Reason.SOURCE_FAILED
        message = f"{memory.source_problem}; nothing is applied until the registry answers"
        return Failed(reason, message, self._facts(), max(0.5, memory.poll_at - self._now))

    # --- How it stands ----------------------------------------------------------------------------------------------

    def _settled(self) -> Outcome:
        """Everything is written: is it healthy?"""
        memory, enforced = self._memory, self._memory.enforced
        if enforced is None:
            raise AssertionError("settled without anything enforced")
        facts = self._facts()
        if enforced.problem is not None:
            return replace(enforced.problem, facts=facts)
        if facts.health.healthy:
            memory.unhealthy_since = None
            name = enforced.facts.revision or enforced.facts.digest
            return Done(f"applied {name}: {facts.health.message}", facts)
        now = self._ports.clock.monotonic()
        memory.unhealthy_since = now if memory.unhealthy_since is None else memory.unhealthy_since
        left = self._spec.wait_timeout_s - (now - memory.unhealthy_since)
        if left > 0:
            return Waiting(Reason.PROGRESSING, facts.health.message, left, facts)
        timeout = f"not healthy after {self._spec.wait_timeout_s:.0f} s: {facts.health.message}"
        return Failed(Reason.HEALTH_TIMEOUT, timeout, facts, self._spec.retry_interval_s)

    def _health(self) -> HealthFacts:
        if self._memory.enforced is None:
            return HealthFacts()
        rollup = self._ports.tracker.health(self._target.sync_id)
        return HealthFacts(
            healthy=rollup.healthy,
            failed=rollup.status is HealthStatus.FAILED,
            message=rollup.message(),
            ready=rollup.current,
            total=rollup.total,
        )

    def _facts(
        self,
        *,
        verdict: Verdict | None = None,
        attempted: ArtifactFacts | None = None,
        failures: tuple[ObjectFailure, ...] = (),
        plan_hash: str = "",
        changes: Changes | None = None,
        newly: bool = False,
    ) -> Facts:
        memory, enforced = self._memory, self._memory.enforced
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
        )

    def _stale(self) -> bool:
        """Whether someone should know that the registry gives nothing: at once when it says no, else after a while."""
        memory = self._memory
        if memory.source_failed_at is None:
            return False
        if memory.source_reason in {NotFound.default_reason, AccessDenied.default_reason}:
            return True
        limit = min(max(_STALE_POLLS * self._spec.source.interval_s, _STALE_LEAST_S), _STALE_MOST_S)
        return self._now - memory.source_failed_at >= limit

    # --- Small things -----------------------------------------------------------------------------------------------

    def _open(self) -> Store:
        if self._store is None:
            self._store = self._ports.open_store(self._spec)
        return self._store

    def _saved(self) -> Saved | None:
        return self._ports.copies.load(self._spec.key, self._repository, self._spec.source.watermark_key)

    def _request(self, *, digest: str = "", watermark: int | None = None) -> Request:
        source = self._spec.source
        if source.kind is SelectorKind.DIGEST:
            return Request(self._repository, source.kind, digest=digest or source.selector)
        mark = self._ports.watermarks.read(self._spec) if watermark is None else Mark(watermark)
        return Request(
            self._repository,
            source.kind,
            tag=source.selector,
            digest=digest,
            accepted_digest=mark.digest,
            watermark=mark.sequence,
        )

    def _rules(self, paused: str) -> None:
        self._ports.tracker.set_sync(rules_of(self._spec, paused))


def sentence(verdict: Verdict) -> str:
    """A verdict for people: what, and what to do about it."""
    return f"{verdict.message}; {verdict.hint}" if verdict.hint else verdict.message


def _bad_artifact(error: Refused) -> Verdict:
    return Verdict(False, VerdictReason.BAD_ARTIFACT, error.message, hint=error.hint)


def _changes(report: ApplyReport) -> Changes:
    counts = Counter(result.action for result in report.results)
    return Changes(**{action.value: counts[action] for action in Action})


def _failures(report: ApplyReport) -> tuple[ObjectFailure, ...]:
    return tuple(
        ObjectFailure(str(item.id), item.place, item.failure.error_class.value, item.failure.message)
        for item in sorted(report.failures, key=lambda item: (item.action is Action.SKIPPED, item.id))
        if item.failure is not None
    )


def _failure_text(report: ApplyReport) -> str:
    found = _failures(report)
    first = "; ".join(f"{item.object}: {item.message} ({item.place})" for item in found[:1])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{first}{more}"


def _names(ids: tuple[ObjectId, ...]) -> str:
    shown = ", ".join(str(id_) for id_ in ids[:_NAMED])
    return shown if len(ids) <= _NAMED else f"{shown} and {len(ids) - _NAMED} more"


def _short(text: str) -> str:
    return text.encode()[:STATUS_MESSAGE_BYTES].decode(errors="ignore")
