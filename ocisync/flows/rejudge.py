"""Judge what runs again, and decide who may still write.

    kept      at once, when policies, keys or roots have moved: the evidence that was kept, verified again from its
              bytes. Nobody is asked, so distrust acts whatever the registry does.
    looked    every ten minutes, when a signature expires or ages, and while it is not allowed (with growing pauses):
              what the registry has by now, joined to what was kept. Late and refreshed signatures are found without a
              new digest; what the registry lost still counts.

Two grades of lost trust: evidence that is not enough any more stops what is new (`onRevoked` decides about
corrections); a deny list stops every write. A policy that breaks while a deny list is in force does not lift it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ocisync.flows.localcopy import Saved
from ocisync.flows.memory import Enforced
from ocisync.flows.situation import REFUSED_RETRY_CAP_S, REFUSED_RETRY_S, Situation
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Judgement, Request, examine_reference, reverify
from ocisync.kit.backoff import jittered
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.errors import OcisyncError
from ocisync.model.evidence import EvidenceSet, RawSignature
from ocisync.model.limits import EVIDENCE_BYTES, EVIDENCE_MANIFESTS, MIB
from ocisync.model.spec import SelectorKind
from ocisync.policy.ageing import next_change_s
from ocisync.policy.rules import OnRevoked

REJUDGE_S = 600.0  # how long a signature that was added, or lost, may stay unseen
_PAST_S = 1.0  # looked at when the moment is over, not when it comes
_IN_MEMORY_BYTES = MIB  # for each sync; a signature is one to ten KiB


class Rejudgement:
    """For one pass."""

    def __init__(self, situation: Situation) -> None:
        self._s = situation

    def run(self) -> None:
        """Judge again if it is due, and tell the tracker whether it may write."""
        enforced = self._s.memory.enforced
        if enforced is None:
            return
        moved = enforced.trust_version != self._s.trust.version
        due = self._s.now >= enforced.judge_at or self._s.asked
        if moved or due:
            judgement = self._kept(enforced)
            self._hold(enforced, judgement.verdict)
            self.restrain()  # before anyone is asked: an answer may take its time
            if (due or not judgement.verdict.allowed) and self._same_source(enforced):
                judgement = self._looked(enforced, judgement)
                self._hold(enforced, judgement.verdict)
            enforced.trust_version = self._s.trust.version
            self._appoint(enforced, judgement, moved=moved)
        self.restrain()

    def refuse(self) -> Verdict | None:
        """No usable policy is about the sync's repository: the verdict on what runs, if it is from there."""
        enforced = self._s.memory.enforced
        if enforced is None:
            self._s.rules("")
            return None
        self._hold(enforced, self._kept(enforced).verdict)
        enforced.trust_version = self._s.trust.version
        self.restrain()
        return enforced.verdict if self._same_source(enforced) else None

    def restrain(self) -> None:
        """Tell the tracker why it may not write: explicit distrust always, too little evidence if so chosen."""
        enforced = self._s.memory.enforced
        if enforced is None:
            return
        verdict, paused = enforced.verdict, ""
        if verdict.distrusted:
            paused = "distrusted"
        elif not verdict.allowed:
            policy = self._s.trust.set.select(enforced.request.repository).policy
            paused = "trust revoked" if policy is not None and policy.on_revoked is OnRevoked.SUSPEND else ""
        self._s.rules(paused)

    def _same_source(self, enforced: Enforced) -> bool:
        return enforced.selector == self._s.memory.selector

    def _hold(self, enforced: Enforced, verdict: Verdict) -> None:
        if enforced.verdict.distrusted and verdict.reason is VerdictReason.INVALID_POLICY:
            verdict = replace(verdict, distrusted=True)
        enforced.verdict = verdict
        if verdict.allowed and enforced.facts.signers != verdict.signers:
            applied = self._s.memory.applied
            if applied is not None and applied.digest == enforced.facts.digest:
                self._s.memory.applied = replace(applied, signers=verdict.signers)
            enforced.facts = replace(enforced.facts, signers=verdict.signers)

    def _request(self, enforced: Enforced) -> Request:
        if not self._same_source(enforced) or enforced.request.kind is SelectorKind.DIGEST:
            return replace(enforced.request, digest=enforced.facts.digest)
        if enforced.own and self._s.own(enforced.facts.digest):
            return replace(enforced.request, digest=enforced.facts.digest, watermark=0)
        mark = self._s.ports.watermarks.read(self._s.spec)
        return replace(enforced.request, digest=enforced.facts.digest, watermark=mark.sequence)

    def _saved(self, enforced: Enforced) -> Saved | None:
        saved = self._s.saved() if self._same_source(enforced) else None
        return saved if saved is not None and saved.digest == enforced.facts.digest else None

    def _judged(self, enforced: Enforced, evidence: EvidenceSet) -> Judgement:
        manifest, now = enforced.manifest, self._s.ports.clock.now()
        media_type, request = manifest.descriptor.media_type, self._request(enforced)
        return reverify(manifest.raw, media_type, evidence, self._s.trust.set, request, now=now)

    def _kept(self, enforced: Enforced) -> Judgement:
        """By the copy's evidence, which is all that was found; without a copy by what known signers had signed."""
        saved = self._saved(enforced)
        return self._judged(enforced, saved.evidence if saved is not None else enforced.evidence)

    def _looked(self, enforced: Enforced, kept: Judgement) -> Judgement:
        """By what the registry has now and what was kept; what is allowed is kept from then on."""
        if self._s.memory.source_problem:
            return kept
        now = self._s.ports.clock.now()
        try:
            found = examine_reference(self._s.open(), self._s.trust.set, self._request(enforced), now=now)
        except OcisyncError:
            return kept
        if found.artifact is None:
            return kept
        judgement = self._judged(enforced, joined(found.evidence, proven(kept)))
        if judgement.verdict.allowed:
            self._keep(enforced, judgement)
        return judgement

    def _keep(self, enforced: Enforced, judgement: Judgement) -> None:
        """The copy gets the evidence, the watermark its sequence."""
        spec, memory, verdict = self._s.spec, self._s.memory, judgement.verdict
        saved = self._saved(enforced)
        if saved is not None and saved.evidence != judgement.evidence:
            self._s.ports.copies.save(spec.key, replace(saved, evidence=judgement.evidence))
        enforced.evidence = proven(judgement)
        # Only while the tag leads here: a late signature of an older artifact must not shut out the one offered.
        offered = memory.offered is not None and memory.offered.digest == enforced.facts.digest
        if offered and enforced.request.kind is not SelectorKind.DIGEST:
            self._s.ports.watermarks.accept(spec, self._s.mark(enforced.request, enforced.facts.digest, verdict))

    def _appoint(self, enforced: Enforced, judgement: Judgement, *, moved: bool) -> None:
        """When to judge next."""
        rng = self._s.ports.rng
        enforced.refusals = 0 if enforced.verdict.allowed or moved else enforced.refusals + 1
        if enforced.verdict.allowed:
            pause = next_look_s(self._s.trust.set, judgement, enforced.request.repository, self._s.ports.clock.now())
        else:
            pause = min(REFUSED_RETRY_S * 2.0 ** min(enforced.refusals, 10), REFUSED_RETRY_CAP_S)
        enforced.judge_at = self._s.now + (jittered(pause, rng) if pause >= REFUSED_RETRY_S else pause)


def next_look_s(trust: TrustSet, judgement: Judgement, repository: str, now: datetime) -> float:
    """Seconds until what is allowed is judged again."""
    digest = judgement.artifact.manifest.descriptor.digest if judgement.artifact else ""
    change = next_change_s(trust.select(repository), judgement.examined, digest, now)
    return REJUDGE_S if change is None else min(REJUDGE_S, change + _PAST_S)


def proven(judgement: Judgement) -> EvidenceSet:
    """The signatures that known signers made, in bounded size: what is worth keeping when all else is lost."""
    items: list[RawSignature] = []
    left = _IN_MEMORY_BYTES
    for raw, examined in zip(judgement.evidence.items, judgement.examined, strict=False):
        if examined.signer and len(raw.payload) <= left:
            left -= len(raw.payload)
            items.append(raw)
    return EvidenceSet(tuple(items), judgement.evidence.truncated)


def joined(found: EvidenceSet, kept: EvidenceSet) -> EvidenceSet:
    """What was kept, and what was found besides, as far as the budget for evidence goes.

    What was kept goes first: whoever fills the registry with junk must not push out what was proven before.
    """
    items: list[RawSignature] = []
    left, truncated = EVIDENCE_BYTES, found.truncated
    for item in (*kept.items, *found.items):
        if item in items:
            continue
        if len(items) < EVIDENCE_MANIFESTS and len(item.payload) <= left:
            left -= len(item.payload)
            items.append(item)
        else:
            truncated = True
    return replace(found, items=tuple(items), truncated=truncated)
