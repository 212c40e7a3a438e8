"""Verify: the only place where an `Unverified` artifact becomes a `Verified` one.

Steps, in order; the first that fails decides:
1. Choose the policies. No usable one: refused, and nobody was asked anything over the network.
2. Resolve the tag once. From here on everything is read by that digest.
3. An immutable (SemVer) tag that led elsewhere before: refused.
4. Read the manifest by digest, check its shape.
5. Collect evidence within the budget, examine it, judge it.

`examine_reference` and `reverify` return a `Judgement` with everything that was seen, for explanations and for keeping
evidence; `require` turns an allowing one into a `Verified` or raises. `verify` is both. What decides is the same pure
call in every case, so nothing previews differently from what it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from ocisync.flows.refusal import signers_found
from ocisync.flows.trust import TrustSet
from ocisync.model.artifact import ArtifactManifest, Unverified, Verdict, VerdictReason, VerdictStep, Verified
from ocisync.model.descriptor import REVISION, Descriptor
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import NotFound, OcisyncError, Refused
from ocisync.model.evidence import Evidence, EvidenceSet
from ocisync.model.ref import is_semver_tag
from ocisync.model.spec import SelectorKind
from ocisync.model.values import dataclass
from ocisync.oci.evidence import EvidenceBudget
from ocisync.oci.evidence import collect as collect_evidence
from ocisync.oci.store import Store
from ocisync.pack.artifact import parse_manifest
from ocisync.policy.evaluate import Subject, judge
from ocisync.signing.check import examine

NO_EVIDENCE = EvidenceSet(())
_PUBLISH = "publish it again: ocisync push PATH oci://HOST/REPOSITORY:TAG"


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify.

    Attributes:
        repository: `host/path`; the store must be of this repository.
        kind: how the artifact was chosen. A tag of a tag source, the chosen tag of a semver source.
        tag: empty for digest sources.
        digest: for digest sources; for tags, what the caller has resolved already (then it is not resolved again).
        accepted_digest: what this tag led to when it was accepted before; matters for immutable tags.
        watermark: the highest sequence accepted for this sync, repository and selector.
    """

    repository: str
    kind: SelectorKind
    tag: str = ""
    digest: str = ""
    accepted_digest: str = ""
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what it was based on. `artifact` is None when it was refused before its manifest was read."""

    verdict: Verdict
    artifact: Unverified | None = None
    evidence: EvidenceSet = NO_EVIDENCE
    examined: tuple[Evidence, ...] = ()


class VerificationRefused(Refused):
    """The artifact may not be used. `verdict` says why, in steps."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message, hint=verdict.hint, reason=verdict.reason.value)
        self.verdict = verdict


Collector = Callable[[Store, str], EvidenceSet]


def collect_within_limits(store: Store, digest: str) -> EvidenceSet:
    """The usual collector: the project's limits, and real seconds."""
    return collect_evidence(store, digest, budget=EvidenceBudget(time.monotonic))


def verify(
    store: Store, trust: TrustSet, request: Request, *, now: datetime, collect: Collector = collect_within_limits
) -> Verified:
    """Verify what a tag or digest leads to.

    Args:
        store: of the request's repository.
        trust: policies or keys.
        request: what to verify.
        now: aware time, for the rules.
        collect: reads the evidence for a digest, within a budget.

    Raises:
        VerificationRefused: with the verdict.
        NotFound: no such tag or digest.
        Unavailable, AccessDenied: the registry did not answer; says nothing about trust.
    """
    return require(examine_reference(store, trust, request, now=now, collect=collect), request)


def examine_reference(
    store: Store, trust: TrustSet, request: Request, *, now: datetime, collect: Collector = collect_within_limits
) -> Judgement:
    """Resolve, read, collect and judge. A refusal is a result here, not an error.

    Raises:
        NotFound, Unavailable, AccessDenied: as `verify`.
    """
    if store.repository != request.repository:
        raise ValueError(f"the store is of {store.repository}, the request of {request.repository}")
    if not trust.select(request.repository).matched:
        # Also for broken policies: whoever may create syncs must not make us dial hosts that no policy names.
        return Judgement(_judge((), trust, request, request.digest, now))
    descriptor = _resolve(store, request)
    mutated = _mutated(request, descriptor.digest)
    if mutated is not None:
        return Judgement(mutated)
    try:
        manifest = store.manifest(descriptor.digest)
    except Refused as error:
        return Judgement(_bad_artifact(error))
    return _judge_manifest(
        manifest.raw, manifest.descriptor, trust, request, now, lambda: collect(store, descriptor.digest)
    )


def reverify(
    manifest: bytes, media_type: str, evidence: EvidenceSet, trust: TrustSet, request: Request, *, now: datetime
) -> Judgement:
    """Judge again from saved bytes: at start, offline, or when policy or time changed.

    The digest is computed from the bytes; one in `request` must agree. Without bytes, it says what policies say of the
    repository alone.
    """
    if not manifest and not trust.select(request.repository).matched:
        return Judgement(_judge((), trust, request, request.digest, now))
    descriptor = Descriptor(media_type, sha256_digest(manifest), len(manifest))
    if request.digest and request.digest != descriptor.digest:
        message = f"the saved manifest is {descriptor.digest}, not {request.digest}"
        return Judgement(Verdict(False, VerdictReason.BAD_ARTIFACT, message, hint=_PUBLISH))
    mutated = _mutated(request, descriptor.digest)
    if mutated is not None:
        return Judgement(mutated)
    return _judge_manifest(manifest, descriptor, trust, request, now, lambda: evidence)


def require(judgement: Judgement, request: Request) -> Verified:
    """The artifact of an allowing judgement.

    Raises:
        VerificationRefused: if it does not allow.
    """
    verdict, artifact = judgement.verdict, judgement.artifact
    if not verdict.allowed or artifact is None:
        name = f"{request.repository}:{request.tag}" if request.tag else request.repository
        raise VerificationRefused(f"{name} is refused: {verdict.message}", verdict)
    return Verified(artifact.repository, artifact.tag, artifact.manifest, verdict)


def _resolve(store: Store, request: Request) -> Descriptor:
    reference = request.digest or request.tag
    if is_digest(request.digest):
        # The manifest is read by this digest; a HEAD before would only cost a request.
        return Descriptor("", request.digest, 0)
    descriptor = store.resolve(reference)
    if descriptor is None:
        raise NotFound(
            f"{request.repository} has no tag {reference!r}",
            hint=f"push it first: ocisync push PATH oci://{request.repository}:{request.tag}",
        )
    return descriptor


def _mutated(request: Request, digest: str) -> Verdict | None:
    before = request.accepted_digest
    if not before or before == digest or not is_semver_tag(request.tag):
        return None
    return Verdict(
        False,
        VerdictReason.TAG_MUTATED,
        f"the immutable tag {request.tag!r} led to {before} before and leads to {digest} now",
        hint=f"publish the new content under a new version: ocisync push PATH oci://{request.repository}:VERSION",
    )


def _bad_artifact(error: OcisyncError) -> Verdict:
    return Verdict(False, VerdictReason.BAD_ARTIFACT, error.message, hint=error.hint or _PUBLISH)


def _judge_manifest(
    raw: bytes,
    descriptor: Descriptor,
    trust: TrustSet,
    request: Request,
    now: datetime,
    evidence_of: Callable[[], EvidenceSet],
) -> Judgement:
    try:
        manifest = parse_manifest(raw, descriptor)
    except OcisyncError as error:
        return Judgement(_bad_artifact(error))
    evidence = evidence_of()
    keys, roots = trust.keys_for(request.repository), trust.roots_for(request.repository)
    examined = tuple(examine(item, keys, descriptor.digest, roots) for item in evidence.items)
    verdict = _judge(examined, trust, request, descriptor.digest, now, manifest, truncated=evidence.truncated)
    found = signers_found(examined, trust.select(request.repository))
    verdict = replace(_with_problems(verdict, evidence.problems), found=found)
    return Judgement(verdict, Unverified(request.repository, request.tag, manifest), evidence, examined)


def _with_problems(verdict: Verdict, problems: tuple[str, ...]) -> Verdict:
    """What could not be read belongs into the explanation, and into the message when nothing else was found."""
    if not problems:
        return verdict
    steps = tuple(VerdictStep("evidence", "read", False, problem) for problem in problems)
    message = verdict.message
    if verdict.reason is VerdictReason.UNSIGNED:
        message += f" ({len(problems)} could not be used; first: {problems[0]})"
    return replace(verdict, steps=steps + verdict.steps, message=message)


def _judge(
    examined: tuple[Evidence, ...],
    trust: TrustSet,
    request: Request,
    digest: str,
    now: datetime,
    manifest: ArtifactManifest | None = None,
    *,
    truncated: bool = False,
) -> Verdict:
    revision = manifest.annotations.get(REVISION, "") if manifest else ""
    subject = Subject(request.repository, digest, request.kind, request.tag, revision)
    return judge(trust.select(request.repository), examined, subject, now, request.watermark, truncated=truncated)
