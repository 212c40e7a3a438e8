"""Say why: steps as text or JSON, and the command that would make a refused artifact acceptable."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ocisync.kit.plaintext import plain
from ocisync.model.artifact import Verdict, VerdictStep
from ocisync.model.descriptor import CLAIM_REPOSITORY, CLAIM_SEQUENCE, CLAIM_SIGNED, CLAIM_TAGS
from ocisync.model.evidence import Evidence, SignatureFormat
from ocisync.model.resource import JsonObject
from ocisync.policy.requirements import Context, accepted_repositories, sequence_applies, tag_mode
from ocisync.policy.rules import RepositoryClaim, TagClaim


def render_text(verdict: Verdict) -> str:
    """Every step, one line each, then the verdict and what to do. Ends with a newline."""
    lines = []
    subject = ""
    for step in verdict.steps:
        if step.subject != subject:
            subject = step.subject
            lines.append(subject)
        lines.append(f"  {'pass' if step.passed else 'FAIL'}  {step.rule:<12} {step.message}")
    policy = f" (policy {verdict.policy})" if verdict.policy else ""
    lines.append(f"{'allowed' if verdict.allowed else 'refused'}: {verdict.reason}{policy}: {verdict.message}")
    if verdict.hint:
        lines.append(f"hint: {verdict.hint}")
    # What a signature claims must not begin a line of its own.
    return "".join(f"{plain(line)}\n" for line in lines)


def as_json(verdict: Verdict, evidence: Sequence[tuple[Evidence, str]] = ()) -> JsonObject:
    """The verdict as plain JSON values; field names are an API.

    Args:
        verdict: what came out.
        evidence: what it was judged by, each with the name of its steps: what each says, and how each rule ended.
    """
    return {
        "allowed": verdict.allowed,
        "reason": verdict.reason.value,
        "message": verdict.message,
        "policy": verdict.policy,
        "signers": list(verdict.signers),
        "sequence": verdict.sequence,
        "revision": verdict.revision,
        "distrusted": verdict.distrusted,
        "hint": verdict.hint,
        "evidence": [_evidence(item, name, verdict.steps) for item, name in evidence],
        "steps": [
            {"subject": step.subject, "rule": step.rule, "passed": step.passed, "message": step.message}
            for step in verdict.steps
        ],
    }


def _evidence(item: Evidence, name: str, steps: Sequence[VerdictStep]) -> JsonObject:
    """One piece of evidence: `rules` is empty where the verdict did not depend on it."""
    identity = item.identity
    own = [(step, step.subject.removeprefix(name)) for step in steps if step.subject.startswith(name)]
    rules = [(step, rest) for step, rest in own if not rest or rest.startswith(" by policy ")]
    return {
        "name": name,
        "source": item.source,
        "format": item.format.value,
        "signer": item.signer,
        "identity": {"issuer": identity.issuer, "subject": identity.subject} if identity is not None else None,
        "subject": item.subject,
        "predicateType": item.predicate_type,
        "claims": dict(item.claims),
        "problem": item.problem,
        "rules": [
            {
                "policy": rest.removeprefix(" by policy ") or None,
                "rule": step.rule,
                "passed": step.passed,
                "message": step.message,
            }
            for step, rest in rules
        ],
    }


def required_claims(context: Context) -> dict[str, str]:
    """The claims that a new signature must carry to count under a policy."""
    rules, subject, now = context.rules, context.subject, int(context.now.timestamp())
    claims: dict[str, str] = {}
    if rules.repository_claim is RepositoryClaim.REQUIRE:
        claims[CLAIM_REPOSITORY] = accepted_repositories(context)[0]
    if tag_mode(context) is TagClaim.REQUIRE:
        claims[CLAIM_TAGS] = subject.tag
    if sequence_applies(context) and max(context.watermark, rules.rollback.floor) > 0:
        claims[CLAIM_SEQUENCE] = str(now)
    if rules.rollback.max_age_s:
        claims[CLAIM_SIGNED] = str(now)
    claims.update(rules.annotations)
    return claims


def signing_hint(context: Context, signed: Sequence[str] = ()) -> str:
    """The plain cosign command that makes such a signature. KEY stands for the private key of an authority.

    Args:
        context: the policy, and what is to be signed.
        signed: authorities whose signatures count already; the others are asked.
    """
    words = ["cosign", "sign", "--yes"]
    if not context.rules.keyless_only:
        words += ["--key", "KEY", "--use-signing-config=false", "--tlog-upload=false"]
    if SignatureFormat.BUNDLE not in context.rules.formats:
        words.append("--new-bundle-format=false")
    for name, value in required_claims(context).items():
        words += ["-a", f"{name}={value}"]
    words.append(f"{context.subject.repository}@{context.subject.digest}")
    missing = [authority.name for authority in context.rules.authorities if authority.name not in signed]
    names = " or ".join(missing or [authority.name for authority in context.rules.authorities])
    if context.rules.keyless_only:
        return f"sign it as {names}: {shlex.join(words)}"
    return f"sign it with the key of {names}: {shlex.join(words)}"
