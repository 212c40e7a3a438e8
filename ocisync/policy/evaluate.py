"""Judge: policies × evidence × time → one verdict.

Order: deny lists (every write must stop) → usable policies? → each policy in force, winner and floors, must be
satisfied by enough signatures, and by the attestations that it requires → mode. A policy is satisfied when `threshold`
different authorities each have a signature that satisfies everything alone; claims of different signatures are never
combined. The next watermark is the threshold-th highest sequence among them: fewer than `threshold` stolen keys can
neither roll back nor lock out.

More evidence never turns an allowed artifact into a refused one (deny lists aside), and its order does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from ocisync.model.artifact import Verdict, VerdictReason, VerdictStep
from ocisync.model.descriptor import CLAIM_REVISION
from ocisync.model.evidence import Evidence
from ocisync.model.values import dataclass
from ocisync.policy.attestations import judge_attestations
from ocisync.policy.counting import Vote, next_watermark, reached
from ocisync.policy.explain import signing_hint
from ocisync.policy.requirements import (
    SIGNATURE_RULES,
    Check,
    Context,
    Subject,
    authorities_of,
    believable_sequence,
    checks,
    counted_for,
)
from ocisync.policy.rules import Deny, Mode, TrustRules, commit_of
from ocisync.policy.select import Selection

__all__ = ["Subject", "judge", "named"]


@dataclass(frozen=True, slots=True)
class _Judged:
    """One signature under one policy: whose, how near it came, and the check that it failed (None: it counts)."""

    evidence: Evidence
    authorities: tuple[str, ...]
    rank: float
    failed: Check | None
    steps: tuple[VerdictStep, ...]


def judge(
    selection: Selection,
    evidence: Sequence[Evidence],
    subject: Subject,
    now: datetime,
    watermark: int,
    *,
    truncated: bool = False,
) -> Verdict:
    """Decide about one digest.

    Args:
        selection: the policies in force, their authorities' fingerprints filled in.
        evidence: every signature found, examined.
        subject: what is judged.
        now: aware time.
        watermark: the highest sequence accepted so far for this sync, repository and selector; 0 if none.
        truncated: not all evidence could be read within the budget; what is there may still be enough.
    """
    denied = _denied(selection.deny, subject, _trusted_only(evidence, selection.rules))
    if denied is not None:
        return replace(denied, hint=_good_digest(subject))
    if selection.problem:
        return Verdict(
            False,
            VerdictReason.INVALID_POLICY,
            selection.problem,
            hint="correct the policy, an invalid one refuses everything that it matches: ocisync policy check FILE",
        )
    if selection.policy is None:
        return Verdict(
            False,
            VerdictReason.NO_POLICY,
            f"no trust policy matches {subject.repository}; nothing is trusted by default",
            hint=f"ocisync policy init --repository {subject.repository} --key FILE.pub prints one",
        )
    denied_keys = frozenset(selection.deny.keys)
    verdict = _all(selection, evidence, subject, now, watermark, denied_keys, truncated)
    vouching = sorted({item.signer for item in evidence if item.signer in denied_keys and not item.problem})
    if not verdict.allowed and vouching:
        # Also when its signature would not count for another reason: expired or not, the content is the thief's.
        message = f"{subject.digest} is signed by the denied key {vouching[0]}, and not by enough others"
        hint = f"{_good_digest(subject)}; or have another authority sign it"
        return replace(verdict, reason=VerdictReason.DENIED, message=message, hint=hint, distrusted=True)
    return _apply_mode(verdict, selection)


def _all(
    selection: Selection,
    evidence: Sequence[Evidence],
    subject: Subject,
    now: datetime,
    watermark: int,
    denied_keys: frozenset[str],
    truncated: bool,
) -> Verdict:
    verdicts = [
        _one(Context(rules, subject, now, watermark, denied_keys), evidence, truncated) for rules in selection.rules
    ]
    several = len(verdicts) > 1
    steps = tuple(
        replace(step, subject=f"{step.subject} by policy {rules.name}")
        if several and step.rule in SIGNATURE_RULES
        else step
        for rules, verdict in zip(selection.rules, verdicts, strict=True)
        for step in verdict.steps
    )
    for verdict in verdicts:
        if not verdict.allowed:
            return replace(verdict, steps=steps)
    return replace(verdicts[0], steps=steps)


def _one(context: Context, evidence: Sequence[Evidence], truncated: bool) -> Verdict:
    rules = context.rules
    judged = [_judge_one(item, name, context) for item, name in named(evidence)]
    counted = [item for item in judged if item.failed is None]
    votes = [
        Vote(item.evidence.signer, authority, believable_sequence(item.evidence, context.now))
        for item in counted
        for authority in item.authorities
    ]
    authorities = reached(votes)
    enough = len(authorities) >= rules.threshold
    # Where signatures suffice, it explains nothing that an attestation is none.
    told = [item for item in judged if not enough or item.evidence.predicate is None]
    steps = tuple(step for item in told for step in item.steps)
    steps += (
        VerdictStep(
            f"policy {rules.name}",
            "threshold",
            enough,
            f"{len(authorities)} of {rules.threshold} required authorities signed"
            + (f": {', '.join(authorities)}" if authorities else ""),
        ),
    )
    attested = judge_attestations(evidence, context)
    steps += attested.steps
    if enough and attested.problem:
        reason, message = VerdictReason.NO_ATTESTATION, f"signed by {', '.join(authorities)}, but {attested.problem}"
        if truncated:
            reason, message = VerdictReason.EVIDENCE_TRUNCATED, f"{message}; there is more evidence than is read"
        return Verdict(False, reason, message, rules.name, authorities, steps=steps, hint=attested.hint)
    if enough:
        return Verdict(
            True,
            VerdictReason.VERIFIED,
            f"signed by {', '.join(authorities)}",
            policy=rules.name,
            signers=authorities,
            sequence=next_watermark(votes, rules.threshold),
            revision=_revision(counted, context.now),
            steps=steps,
        )
    nearest = max((item for item in judged if item.failed is not None), key=lambda item: item.rank, default=None)
    reason, message = _refusal(context, nearest, authorities, truncated)
    hint = _hint(reason, nearest, context, authorities)
    return Verdict(False, reason, message, policy=rules.name, signers=authorities, steps=steps, hint=hint)


def named(evidence: Sequence[Evidence]) -> tuple[tuple[Evidence, str], ...]:
    """Every piece of evidence with the name that its steps carry; several of one source are numbered."""
    names: list[str] = []
    found = sorted(evidence, key=_stable)
    for item in found:
        name = f"{item.format.value.lower()} signature {item.source[:19]}"
        same = sum(known == name or known.startswith(f"{name} #") for known in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return tuple(zip(found, names, strict=True))


def _judge_one(evidence: Evidence, name: str, context: Context) -> _Judged:
    rules = context.rules
    steps: list[VerdictStep] = []
    for rank, check in enumerate(checks(evidence, context)):
        passed = not check.problem
        steps.append(VerdictStep(name, check.rule, passed, check.message if passed else check.problem))
        if not passed:
            known = tuple(authority.name for authority in authorities_of(evidence, rules))
            return _Judged(evidence, known, _nearness(rank, evidence, rules), check, tuple(steps))
    counts = tuple(authority.name for authority in counted_for(evidence, rules))
    return _Judged(evidence, counts, float(len(steps)), None, tuple(steps))


def _nearness(rank: int, evidence: Evidence, rules: TrustRules) -> float:
    """Junk is further away than a sound signature of a stranger; a damaged one of our own is nearer than both."""
    if rank or evidence.signer or not evidence.problem:
        return float(rank)
    ours = {authority.fingerprint for authority in rules.authorities if authority.fingerprint}
    return 0.5 if evidence.key_hint in ours or evidence.certified else -1.0


def _refusal(
    context: Context, nearest: _Judged | None, authorities: Sequence[str], truncated: bool
) -> tuple[VerdictReason, str]:
    threshold, digest = context.rules.threshold, context.subject.digest
    detail = _detail(nearest)
    if truncated:
        message = f"there is more evidence for {digest} than is read, and not enough good evidence in what was read"
        return VerdictReason.EVIDENCE_TRUNCATED, f"{message}; {detail}" if detail else message
    if authorities:
        message = f"{len(authorities)} of {threshold} required authorities signed ({', '.join(authorities)})"
        return VerdictReason.BELOW_THRESHOLD, f"{message}; {detail}" if detail else message
    if nearest is None or nearest.failed is None:
        return VerdictReason.UNSIGNED, f"{digest} has no signature"
    return nearest.failed.reason, detail


def _detail(nearest: _Judged | None) -> str:
    """The nearest miss as a sentence."""
    if nearest is None or nearest.failed is None:
        return ""
    if nearest.authorities:
        return f"signed by {nearest.authorities[0]}, but {nearest.failed.problem}"
    return f"no signature counts: {nearest.failed.problem}"


def _hint(reason: VerdictReason, nearest: _Judged | None, context: Context, signed: Sequence[str]) -> str:
    if reason is VerdictReason.EVIDENCE_TRUNCATED:
        about = f"oci://{context.subject.repository}@{context.subject.digest}"
        return f"remove foreign referrers of the digest from the registry; ocisync inspect {about} lists what is there"
    if reason is VerdictReason.BELOW_THRESHOLD:
        return signing_hint(context, signed)
    if nearest is not None and nearest.failed is not None and nearest.failed.hint:
        return nearest.failed.hint
    return signing_hint(context)


def _good_digest(subject: Subject) -> str:
    if subject.tag:
        name = f"oci://{subject.repository}@sha256:GOOD"
        return f"go back to a good digest: ocisync tag {name} {subject.tag} --rollback --sign-key KEY"
    return "name a good digest in the sync's spec.source.digest, or push a corrected commit: ocisync push"


def _revision(counted: Sequence[_Judged], now: datetime) -> str:
    found = [
        (believable_sequence(item.evidence, now), item.evidence.claim(CLAIM_REVISION))
        for item in counted
        if item.evidence.claim(CLAIM_REVISION)
    ]
    return max(found)[1] if found else ""


def _apply_mode(verdict: Verdict, selection: Selection) -> Verdict:
    policy = selection.policy
    if verdict.allowed or policy is None or policy.mode is not Mode.WARN or selection.floors:
        return verdict
    message = f"allowed only because policy {policy.name!r} has mode Warn: {verdict.message}"
    return replace(verdict, allowed=True, message=message, sequence=0, revision="")


def _denied(deny: Deny, subject: Subject, trusted: Iterable[Evidence]) -> Verdict | None:
    if subject.digest in deny.digests:
        return _distrust(f"the digest {subject.digest} is on a deny list")
    stated = [subject.revision, *(item.claim(CLAIM_REVISION) for item in trusted if item.subject == subject.digest)]
    for revision in stated:
        if revision and any(_same_revision(revision, listed) for listed in deny.revisions):
            return _distrust(f"the revision {revision[:300]} is on a deny list")
    return None


def _trusted_only(evidence: Sequence[Evidence], rules: Sequence[TrustRules]) -> list[Evidence]:
    """Signatures of authorities: a stranger must not be able to stop writes by naming a denied revision."""
    return [item for item in evidence if not item.problem and any(authorities_of(item, policy) for policy in rules)]


def _same_revision(revision: str, listed: str) -> bool:
    if "@" in listed:
        return revision == listed
    return commit_of(revision) == commit_of(listed)


def _distrust(message: str) -> Verdict:
    step = VerdictStep("deny lists", "deny", False, message)
    return Verdict(False, VerdictReason.DENIED, message, steps=(step,), distrusted=True)


def _stable(evidence: Evidence) -> tuple[str, str, str, tuple[tuple[str, str], ...], str]:
    return evidence.source, evidence.format, evidence.signer, evidence.claims, evidence.problem
