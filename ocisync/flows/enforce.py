"""Make a cluster equal to one judged artifact: parse, plan, make the way durable, write, say what is left to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from ocisync.cluster.apply import Action
from ocisync.cluster.engine import ApplyReport
from ocisync.cluster.inventory import InventoryStore
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import ApplyMode, Desired, Prepared, Rejected
from ocisync.cluster.outcome import ApiFailure, ErrorClass, failed
from ocisync.cluster.plan import Plan
from ocisync.flows.content import Content
from ocisync.flows.course import Course, retry_pause_s
from ocisync.flows.localcopy import Saved
from ocisync.flows.memory import Enforced
from ocisync.flows.outcome import Changes, Failed, ObjectFailure, Outcome, Reason, Stalled, Waiting
from ocisync.flows.rejudge import REJUDGE_S, next_look_s, proven
from ocisync.flows.situation import End, Situation, settings_of
from ocisync.kit.backoff import jittered
from ocisync.manifests.imagemap import rewrite
from ocisync.manifests.parse import parse_tree
from ocisync.manifests.select import under
from ocisync.model.errors import InvalidInput
from ocisync.model.limits import DRIFT_RECORD_ENTRIES, STATUS_MESSAGE_BYTES
from ocisync.model.resource import ObjectId
from ocisync.model.spec import DriftMode, SelectorKind

_RETRY_CAP_S = 600.0
_JUDGE_AGAIN_S = 0.1
_ENDING_LOOK_S = 3.0
_AT_ONCE_S = 0.05
_GATE_LOOK_S = 30.0  # a change of health wakes the sync before
_NAMED = 3  # objects named in a message


class Enforcer:
    """Enforces for one pass."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation

    def enforce(self, content: Content) -> Outcome:
        """Plan, write, and remember the new state of things.

        Raises:
            End: the artifact is bad or its plan is held; nothing was written.
            Unavailable, ClusterRefused: the API server.
        """
        facts, ports = content.facts, self._s.ports
        prepared = self._prepared(content)
        settings = replace(settings_of(self._s.spec, facts.digest), gentle=self._s.resuming(facts.digest))
        ports.tracker.begin_pass(self._s.target.sync_id)
        try:
            # Read after corrections have ended: they note new uids in the same inventory.
            store = ports.engine.inventory(self._s.target)
            plan = ports.engine.plan(prepared, self._s.target, store, settings)
            if plan.held:
                raise self._held(content, plan)
            ports.stop.check()
            self._still_trusted(content)
            self._accept(content)
            self._s.rules("")  # not before: until here, what was distrusted must not be corrected
            self._announce(content, plan)
            bodies = {one.id: one for one in prepared.desired}

            def applied(object_id: ObjectId, answer: Applied) -> None:
                ports.tracker.applied(self._s.target.sync_id, bodies[object_id], answer)

            course = Course(self._s, facts.digest)
            resumed = self._resumed(content)
            conduct = course.conduct(prepared)
            if resumed and self._s.spec.drift is not DriftMode.CORRECT:
                conduct = replace(conduct, settled=self._standing(bodies, store))
            report = ports.engine.execute(
                plan, prepared, self._s.target, store, settings,
                on_applied=applied, on_deleting=lambda ids: ports.tracker.forget(self._s.target.sync_id, ids),
                previous=lambda id_: ports.tracker.remembered(self._s.target.sync_id, id_),
                conduct=conduct,
            )  # fmt: skip
            if resumed:
                wrote = {Action.CREATED: True, Action.CONFIGURED: False}
                changed = [(item.id, wrote[item.action]) for item in report.results if item.action in wrote]
                ports.tracker.found_changed(self._s.target.sync_id, dict(changed[:DRIFT_RECORD_ENTRIES]))
            self._forget(prepared, plan, report)
        finally:
            ports.tracker.end_pass(self._s.target.sync_id)
            ports.watch()
        return self._written(content, prepared, report, course)

    def _resumed(self, content: Content) -> bool:
        """Whether all of this was applied already, by the agent before us: whatever differs now is drift."""
        recorded = self._s.recorded
        again = content.facts.digest == recorded.applied and self._s.spec.generation == recorded.generation
        return again and self._s.memory.enforced is None

    def _standing(
        self, bodies: Mapping[ObjectId, Desired], store: InventoryStore
    ) -> Callable[[ObjectId], Applied | None]:
        """Find out what the last apply left without writing anything: drift is reported only, also after a start."""
        ports, target = self._s.ports, self._s.target

        def settled(object_id: ObjectId) -> Applied | None:
            entry, wanted = store.entries.get(object_id), bodies[object_id]
            if entry is None or wanted.options.apply is not ApplyMode.OVERRIDE:
                return None
            found = ports.engine.standing(wanted, target, entry.uid)
            if found is not None:
                ports.tracker.applied(target.sync_id, wanted, found)
            return found

        return settled

    def _prepared(self, content: Content) -> Prepared:
        """Parse, select, normalise; what an older sync owns is left out."""
        facts = content.facts
        try:
            objects = under(parse_tree(content.fetched.files), self._s.spec.path)
        except InvalidInput as error:
            failures = tuple(
                ObjectFailure("", f"{item.file}:{item.line}", ErrorClass.PERMANENT.value, _short(item.message))
                for item in error.findings
            )
            known = self._s.facts(verdict=content.verified.verdict, attempted=facts, failures=failures)
            raise self._s.remember(facts.digest, Stalled(Reason.BAD_ARTIFACT, error.message, known)) from None
        self._s.memory.unpacked += len(objects)
        if self._s.spec.path and not objects:
            known = self._s.facts(verdict=content.verified.verdict, attempted=facts)
            message = f"spec.path {self._s.spec.path!r}: the artifact has no manifests there"
            raise self._s.remember(facts.digest, Stalled(Reason.BAD_ARTIFACT, message, known))
        if self._s.memory.enforced is None:
            self._s.rules("")
        objects = rewrite(objects, self._s.spec.images, content.fetched.files).objects
        prepared = self._s.ports.engine.prepare(objects, self._s.target)
        # What the artifact adopts is for the engine to judge, by the label that the object has.
        wanted = [one.id for one in prepared.desired if not one.options.adopt]
        claimed = self._s.ports.tracker.claim(self._s.target.sync_id, wanted)
        if not claimed:
            return prepared
        conflicts = tuple(
            Rejected(one.id, one.place, _owned_by(owner), one.options, one.defines)
            for one in prepared.desired
            if (owner := claimed.get(one.id)) is not None
        )
        desired = tuple(one for one in prepared.desired if one.id not in claimed)
        return replace(prepared, desired=desired, rejected=(*prepared.rejected, *conflicts))

    def _still_trusted(self, content: Content) -> None:
        """Nothing is written by a judgement older than the policies in force: getting here may have taken long."""
        if self._s.ports.trust().version != self._s.trust.version:
            known = self._s.facts(verdict=content.verified.verdict, attempted=content.facts)
            message = "policies, keys or roots have moved meanwhile: it is judged again"
            raise End(Waiting(Reason.PROGRESSING, message, _JUDGE_AGAIN_S, known))

    def _held(self, content: Content, plan: Plan) -> End:
        facts = content.facts
        failures = tuple(
            ObjectFailure(str(loss.id), "", "Held", f"would be deleted{' and created anew' if loss.recreated else ''}")
            for loss in plan.losses
        )
        verdict = content.verified.verdict
        known = self._s.facts(verdict=verdict, attempted=facts, plan_hash=plan.hash, failures=failures)
        command = f"ocisync approve {self._s.spec.name} --namespace {self._s.spec.namespace}"
        message = f"{plan.held}; nothing of {facts.revision or facts.digest} is applied until: {command}"
        return self._s.remember(facts.digest, Stalled(Reason.APPROVAL_REQUIRED, message, known))

    def _accept(self, content: Content) -> None:
        """Durable before the first write: the local copy, then the watermark."""
        manifest, facts = content.verified.manifest, content.facts
        saved = Saved(
            repository=self._s.repository,
            selector=self._s.spec.source.watermark_key,
            media_type=manifest.descriptor.media_type,
            manifest=manifest.raw,
            config=content.fetched.config,
            layer=content.fetched.layer,
            evidence=content.judgement.evidence,
            tag=content.request.tag,
        )
        self._s.ports.copies.save(self._s.spec.key, saved)
        # What is run again was accepted when it came, and the tag leads elsewhere.
        if self._s.spec.source.kind is not SelectorKind.DIGEST and not self._s.own(facts.digest):
            mark = self._s.mark(content.request, facts.digest, content.verified.verdict)
            self._s.ports.watermarks.accept(self._s.spec, mark)

    def _announce(self, content: Content, plan: Plan) -> None:
        """Say that something new is being applied; a full pass over what was applied before is no news."""
        facts = content.facts
        if facts.digest == self._s.status_digest and self._s.memory.enforced is None:
            return
        message = f"applying {len(plan.applies)} objects of {facts.revision or facts.digest}"
        known = self._s.facts(verdict=content.verified.verdict, attempted=facts)
        self._s.ports.progress(self._s.spec, Waiting(Reason.PROGRESSING, message, 0.0, known))

    def _forget(self, prepared: Prepared, plan: Plan, report: ApplyReport) -> None:
        """Stop keeping what the artifact no longer has, but for what could not be pruned yet."""
        mine = (one.id for one in prepared.desired if one.options.apply is ApplyMode.OVERRIDE)
        kept = {*mine, *(one.id for one in prepared.rejected)}
        if report.prune_deferred:
            kept |= {one.id for one in plan.prunes}
        sync_id = self._s.target.sync_id
        self._s.ports.tracker.forget(sync_id, self._s.ports.tracker.owned(sync_id) - kept)

    def _written(self, content: Content, prepared: Prepared, report: ApplyReport, course: Course) -> Outcome:
        """Remember the new state of things; the pass ends with what is left to do."""
        facts, memory = content.facts, self._s.memory
        before = memory.enforced
        again = before is not None and before.facts.digest == facts.digest and not before.complete
        problem_free = report.all_applied and not report.prune_held and not report.ending and not report.failures
        look_s = next_look_s(self._s.trust.set, content.judgement, self._s.repository, self._s.ports.clock.now())
        enforced = memory.enforced = Enforced(
            facts=facts,
            own=self._s.own(facts.digest),
            manifest=content.verified.manifest,
            evidence=proven(content.judgement),
            verdict=content.verified.verdict,
            request=content.request,
            selector=memory.selector,
            generation=self._s.spec.generation,
            trust_version=self._s.trust.version,
            judge_at=self._s.now + jittered(look_s, self._s.ports.rng, 0.1 if look_s >= REJUDGE_S else 0.0),
            complete=problem_free,
            failures=_failures(report),
            objects=report.owned,
            applied_at=self._s.ports.clock.monotonic(),
            attempts=(before.attempts + 1 if again and before is not None else 1),
        )
        course.note(enforced, prepared, report)
        newly = report.all_applied and (memory.applied is None or memory.applied.digest != facts.digest)
        if report.all_applied:
            memory.applied = facts
        if memory.offered is not None and memory.offered.digest == facts.digest:
            memory.offered = facts
            memory.refusal = None
        if before is None or (before.facts.digest, before.generation) != (facts.digest, enforced.generation):
            memory.unhealthy_since = memory.failed_since = None  # else asking again and again would never time out
        changes = _changes(report)
        if not problem_free:
            enforced.problem = self._incomplete(report, enforced)
            enforced.retry_at = enforced.applied_at + getattr(enforced.problem, "after_s", 0.0)
            return replace(enforced.problem, facts=self._s.facts(attempted=facts, changes=changes, newly=newly))
        outcome = self._s.settled()
        return replace(outcome, facts=self._s.facts(attempted=facts, changes=changes, newly=newly))

    def _incomplete(self, report: ApplyReport, enforced: Enforced) -> Outcome:
        """What is missing, in words, and when it is tried again."""
        if report.superseded:
            text = "ended early: something newer is to be applied"
            return Waiting(Reason.PROGRESSING, text, _AT_ONCE_S, self._s.facts(attempted=enforced.facts))
        if enforced.gate:
            return Waiting(Reason.PROGRESSING, report.gated, _GATE_LOOK_S, self._s.facts(attempted=enforced.facts))
        pause = min(self._s.spec.retry_interval_s * 2.0 ** min(enforced.attempts - 1, 8), _RETRY_CAP_S)
        facts = self._s.facts(attempted=enforced.facts)
        if report.failures:
            tried = [item for item in report.failures if item.action is not Action.SKIPPED] or report.failures
            classes = {item.failure.error_class for item in tried if item.failure}
            pause = retry_pause_s(enforced, self._s.ports.clock.monotonic())
            text = _failure_text(report)
            if report.prune_deferred:
                text += "; what the artifact no longer has is kept until everything is applied"
            reason = Reason.PRUNE_DEFERRED if report.prune_deferred else Reason.APPLY_FAILED
            if classes <= {ErrorClass.PERMANENT, ErrorClass.IMMUTABLE, ErrorClass.CONFLICT}:
                return Stalled(reason, text, facts, pause)
            return Failed(reason, text, facts, pause)
        if report.ending:
            text = f"waits for the end of {_names(report.ending)}: a finalizer holds them"
            return Waiting(Reason.PROGRESSING, text, min(_ENDING_LOOK_S * enforced.attempts, 60.0), facts)
        held = report.prune_held[0]
        return Stalled(Reason.PRUNE_HELD, f"{held.id}: {held.message}", facts, pause)


def _owned_by(owner: str) -> ApiFailure:
    advice = "take it out of one of the two, or annotate it with ocisync.dev/adopt: <id of that sync>"
    return failed(ErrorClass.CONFLICT, "OwnedByOther", f"belongs to sync {owner}; {advice}")


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
