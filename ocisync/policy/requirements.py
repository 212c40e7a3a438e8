"""What one signature must satisfy, alone, to count under one policy.

The checks run in a fixed order and stop at the first that fails; how far a signature came is how near it was, and
that is what a person is told: "signed by ci, but for repository X" helps, "no valid signature" does not.

    signer → format → content → timestamp → log → repository → tag → annotations → expiry → sequence → age

"Content" is exact predicate type and exactly one subject that is our digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from ocisync.model.artifact import VerdictReason
from ocisync.model.descriptor import (
    CLAIM_EXPIRES,
    CLAIM_REPOSITORY,
    CLAIM_SEQUENCE,
    CLAIM_SIGNED,
    CLAIM_TAGS,
    SIGN_PREDICATE,
)
from ocisync.model.errors import UsageError
from ocisync.model.evidence import Evidence
from ocisync.model.ref import parse_reference
from ocisync.model.spec import SelectorKind
from ocisync.model.values import dataclass
from ocisync.policy.rules import Authority, RepositoryClaim, TagClaim, TrustRules, canonical_repository

_CLOCKS = "compare the clocks of the signer and of this machine: date -u"
# Never the command that would perform the rollback.
_FORWARD = "publish a newer commit with ocisync push, or list the digest under rollback.allow of the policy"
# Names of the checks of one signature, in order.
SIGNATURE_RULES = (
    "signer", "format", "content", "timestamp", "log", "repository", "tag", "annotations", "expiry", "sequence", "age",
)  # fmt: skip
AHEAD_S = 3_600  # a sequence further ahead of our clock is not believed: it would lock out every honest one
_UNIX_SECONDS = re.compile(r"(?:0|[1-9][0-9]{0,14})\Z")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged.

    Attributes:
        repository: `host/path` that the artifact was fetched from.
        tag: the tag that led to it; empty for a digest source.
        kind: how it was chosen: semver sources always need a signed tag, digest sources are exempt from the sequence
            rule.
        revision: what the manifest itself states; only deny lists look at it.
    """

    repository: str
    digest: str
    kind: SelectorKind
    tag: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything besides the signature: the same for all signatures of one judgement."""

    rules: TrustRules
    subject: Subject
    now: datetime
    watermark: int
    denied_keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """One rule applied to one signature. An empty `problem` is a pass; `message` says what was found.

    Problems are worded to follow "signed by NAME, but …". A `hint` replaces the usual one, to sign again.
    """

    rule: str
    reason: VerdictReason
    problem: str
    message: str = ""
    hint: str = ""


def checks(evidence: Evidence, context: Context) -> Iterator[Check]:
    """All checks in order. The caller stops at the first problem; later checks may rely on earlier ones."""
    yield _signer(evidence, context)
    yield _format(evidence, context)
    yield _content(evidence, context)
    yield _timestamp(evidence, context)
    yield _log(evidence, context)
    yield _repository(evidence, context)
    yield _tag(evidence, context)
    yield _annotations(evidence, context)
    yield _expiry(evidence, context)
    yield _sequence(evidence, context)
    yield _age(evidence, context)


def attestation_checks(evidence: Evidence, context: Context) -> Iterator[Check]:
    """What an attestation must satisfy like a signature: its maker, and the claims that it has.

    The caller has seen that it is one: about exactly our digest, of the wanted type.
    """
    yield _signer(evidence, context)
    yield _format(evidence, context)
    yield _timestamp(evidence, context)
    yield _log(evidence, context)
    yield _repository(evidence, context)
    yield _expiry(evidence, context)


def unix_seconds(text: str) -> int | None:
    """A claim that is a time; None if it is none."""
    return int(text) if _UNIX_SECONDS.match(text) else None


def believable_sequence(evidence: Evidence, now: datetime) -> int:
    """The signed sequence; 0 if there is none or it is not believed."""
    sequence = unix_seconds(evidence.claim(CLAIM_SEQUENCE)) or 0
    return sequence if sequence <= now.timestamp() + AHEAD_S else 0


def sequence_applies(context: Context) -> bool:
    """Whether age may be judged by sequence: not for digest sources, not for digests allowed by name until a moment."""
    subject = context.subject
    allowed = any(item.digest == subject.digest and context.now < item.until for item in context.rules.rollback.allow)
    return subject.kind is not SelectorKind.DIGEST and not allowed


def accepted_repositories(context: Context) -> tuple[str, ...]:
    """Names that a signature may claim: the repository itself and, through `remap`, the names that it mirrors."""
    here = canonical_repository(context.subject.repository)
    names = [here]
    for remap in context.rules.remap:
        if here == remap.here:
            names.append(remap.signed)
        elif here.startswith(remap.here + "/"):
            names.append(remap.signed + here.removeprefix(remap.here))
    return tuple(names)


def tag_mode(context: Context) -> TagClaim:
    """The tag rule in force for this kind of source."""
    if context.subject.kind is SelectorKind.DIGEST:
        return TagClaim.IGNORE  # no tag led here
    if context.subject.kind is SelectorKind.SEMVER:
        return TagClaim.REQUIRE
    return context.rules.tag_claim


def authorities_of(evidence: Evidence, rules: TrustRules) -> tuple[Authority, ...]:
    """The authorities of a policy that the maker of this signature is. One identity may be several."""
    if not evidence.signer:
        return ()
    if evidence.identity is None:
        return tuple(authority for authority in rules.authorities if authority.fingerprint == evidence.signer)
    return tuple(
        authority
        for authority in rules.authorities
        if authority.keyless is not None and not authority.keyless.mismatch(evidence.identity)
    )


def counted_for(evidence: Evidence, rules: TrustRules) -> tuple[Authority, ...]:
    """The authorities that a signature counts for once all checks passed: each by what its own trusted root proved."""
    return tuple(
        authority
        for authority in authorities_of(evidence, rules)
        if not rules.require_timestamp or _is_timestamped(evidence, authority)
    )


def _is_timestamped(evidence: Evidence, authority: Authority) -> bool:
    if evidence.identity is None or authority.keyless is None:
        return False
    proof = evidence.identity.proof(authority.keyless.root)
    return proof is not None and proof.timestamped


def _signer(evidence: Evidence, context: Context) -> Check:
    rule = "signer"
    if not evidence.signer:
        if evidence.problem:
            return Check(rule, VerdictReason.BAD_SIGNATURE, evidence.problem)
        return Check(rule, VerdictReason.UNKNOWN_SIGNER, _stranger(evidence))
    if evidence.signer in context.denied_keys:
        return Check(rule, VerdictReason.DENIED, f"made by the denied key {evidence.signer}")
    names = [authority.name for authority in authorities_of(evidence, context.rules)]
    if not names:
        return Check(rule, VerdictReason.UNKNOWN_SIGNER, _no_authority(evidence, context.rules))
    made = " and ".join(map(repr, names))
    if evidence.identity is not None:
        made += f": {evidence.identity.subject}, says {evidence.identity.issuer}"
    return Check(rule, VerdictReason.UNKNOWN_SIGNER, "", f"made by authority {made}")


def _stranger(evidence: Evidence) -> str:
    if evidence.certified:
        return "made with a certificate, and no authority of the policy is keyless"
    hinted = f" (it names the key {evidence.key_hint})" if evidence.key_hint else ""
    return f"made by a key that no authority of the policy has{hinted}"


def _no_authority(evidence: Evidence, rules: TrustRules) -> str:
    identity = evidence.identity
    if identity is None:
        return f"made by the key {evidence.signer}, which is no authority of the policy"
    wanted = [
        f"{authority.name!r} wants {authority.keyless.mismatch(identity)}"
        for authority in rules.authorities
        if authority.keyless is not None
    ]
    return f"made by {identity.subject} (says {identity.issuer}), but authority {'; '.join(wanted[:4])}"


def _timestamp(evidence: Evidence, context: Context) -> Check:
    rule, reason = "timestamp", VerdictReason.NO_TIMESTAMP
    if not context.rules.require_timestamp:
        return Check(rule, reason, "", "no timestamp is required")
    if not counted_for(evidence, context.rules):
        return Check(rule, reason, "without a timestamp of an authority that the trusted root names")
    return Check(rule, reason, "", "with the timestamp of a trusted authority")


def _log(evidence: Evidence, context: Context) -> Check:
    rule, reason = "log", VerdictReason.NOT_LOGGED
    if not context.rules.require_log:
        return Check(rule, reason, "", "no transparency log is required")
    if evidence.identity is None:  # an identity is accepted by a trusted root only with a log entry
        return Check(rule, reason, "made with a key: no transparency log is proven")
    return Check(rule, reason, "", "included in a trusted transparency log")


def _format(evidence: Evidence, context: Context) -> Check:
    accepted = ", ".join(context.rules.formats)
    if evidence.format not in context.rules.formats:
        problem = f"in format {evidence.format}; the policy accepts {accepted}"
        return Check("format", VerdictReason.UNSIGNED, problem)
    return Check("format", VerdictReason.UNSIGNED, "", f"in format {evidence.format}")


def _content(evidence: Evidence, context: Context) -> Check:
    digest = context.subject.digest
    if evidence.subject and evidence.subject != digest:
        problem = f"for the digest {evidence.subject}, not for {digest}"
        return Check("content", VerdictReason.WRONG_SUBJECT, problem)
    if evidence.problem:
        return Check("content", VerdictReason.BAD_SIGNATURE, evidence.problem)
    if evidence.predicate_type != SIGN_PREDICATE or not evidence.subject:
        return Check("content", VerdictReason.BAD_SIGNATURE, "not a signature of an artifact")
    return Check("content", VerdictReason.BAD_SIGNATURE, "", "for exactly this digest")


def _repository(evidence: Evidence, context: Context) -> Check:
    rule, reason = "repository", VerdictReason.WRONG_REPOSITORY
    accepted = accepted_repositories(context)
    here = context.subject.repository
    claim = evidence.claim(CLAIM_REPOSITORY)
    named = claim or _repository_of(evidence.docker_reference)
    if not named:
        if context.rules.repository_claim is RepositoryClaim.REQUIRE:
            problem = f"for no particular repository (no claim {CLAIM_REPOSITORY}); the policy wants one for {here}"
            return Check(rule, reason, problem)
        return Check(rule, reason, "", "for no particular repository, which the policy permits")
    if canonical_repository(named) not in accepted:
        return Check(rule, reason, f"for the repository {named[:300]}, not for {here}")
    return Check(rule, reason, "", f"for the repository {named}")


def _repository_of(docker_reference: str) -> str:
    if not docker_reference:
        return ""
    try:
        return parse_reference(docker_reference).repository
    except UsageError:
        return docker_reference  # names something, but nothing that equals a repository


def _tag(evidence: Evidence, context: Context) -> Check:
    rule, reason, mode = "tag", VerdictReason.WRONG_TAG, tag_mode(context)
    if mode is TagClaim.IGNORE:
        return Check(rule, reason, "", "the tag does not matter here")
    claim, tag = evidence.claim(CLAIM_TAGS), context.subject.tag
    if not claim:
        if mode is TagClaim.REQUIRE:
            problem = f"for no particular tag (no claim {CLAIM_TAGS}); the policy wants one for {tag!r}"
            return Check(rule, reason, problem)
        return Check(rule, reason, "", "for no particular tag, which the policy permits")
    if tag not in claim.split():
        return Check(rule, reason, f"for the tags {claim[:300]!r}, not for {tag!r}")
    return Check(rule, reason, "", f"for the tag {tag!r}")


def _annotations(evidence: Evidence, context: Context) -> Check:
    rule, reason = "annotations", VerdictReason.ANNOTATION_MISMATCH
    claims = dict(evidence.claims)
    for name, wanted in context.rules.annotations:
        found = claims.get(name)
        if found != wanted:
            stated = "is not signed" if found is None else f"is {found[:100]!r}"
            return Check(rule, reason, f"its annotation {name!r} {stated}; the policy wants {wanted!r}")
    return Check(rule, reason, "", f"{len(context.rules.annotations)} required annotations are signed")


def _expiry(evidence: Evidence, context: Context) -> Check:
    rule, reason, claim = "expiry", VerdictReason.EXPIRED, evidence.claim(CLAIM_EXPIRES)
    if not claim:
        return Check(rule, reason, "", "without an end")
    expires = unix_seconds(claim)
    if expires is None:
        return Check(rule, reason, f"with an end that is no unix time: {claim[:40]!r}")
    late = context.now.timestamp() - expires
    if late >= 0:
        return Check(rule, reason, f"expired {late:.0f} s ago")
    return Check(rule, reason, "", f"valid for {-late:.0f} s more")


def _sequence(evidence: Evidence, context: Context) -> Check:
    rule, reason, claim = "sequence", VerdictReason.ROLLED_BACK, evidence.claim(CLAIM_SEQUENCE)
    if not sequence_applies(context):
        return Check(rule, reason, "", "the sequence does not matter: chosen by digest, or allowed by name")
    sequence = unix_seconds(claim) if claim else 0
    if sequence is None:
        return Check(rule, reason, f"with a sequence that is no unix time: {claim[:40]!r}")
    if sequence > context.now.timestamp() + AHEAD_S:
        problem = f"with sequence {sequence}, more than an hour ahead of the clock"
        return Check(rule, reason, problem, hint=_CLOCKS)
    floor = context.rules.rollback.floor
    lowest = max(context.watermark, floor)
    if sequence < lowest:
        stated = f"with sequence {sequence}" if claim else f"without a sequence (no claim {CLAIM_SEQUENCE})"
        why = "was already accepted here" if context.watermark >= floor else "is the policy's floor"
        return Check(rule, reason, f"{stated}; {lowest} {why}", hint=_FORWARD)
    return Check(rule, reason, "", f"with sequence {sequence}, at least {lowest}")


def _age(evidence: Evidence, context: Context) -> Check:
    rule, reason, limit = "age", VerdictReason.TOO_OLD, context.rules.rollback.max_age_s
    if not limit:
        return Check(rule, reason, "", "any age is accepted")
    signed = unix_seconds(evidence.claim(CLAIM_SIGNED))
    if signed is None:
        return Check(rule, reason, f"without a time of signing (no claim {CLAIM_SIGNED}); the policy limits the age")
    age = context.now.timestamp() - signed
    if age > limit:
        return Check(rule, reason, f"{age:.0f} s old; the policy accepts {limit:.0f} s")
    if age < -AHEAD_S:
        return Check(rule, reason, "more than an hour ahead of the clock", hint=_CLOCKS)
    return Check(rule, reason, "", f"{age:.0f} s old, at most {limit:.0f} s")
