"""Say why: steps as text or JSON, and the command that would make a refused artifact acceptable."""

from __future__ import annotations

import shlex

from ocisync.kit.plaintext import plain
from ocisync.model.artifact import Verdict
from ocisync.model.descriptor import CLAIM_REPOSITORY, CLAIM_SEQUENCE, CLAIM_SIGNED, CLAIM_TAGS
from ocisync.model.evidence import SignatureFormat
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


def as_json(verdict: Verdict) -> JsonObject:
    """The verdict as plain JSON values; field names are an API."""
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
        "steps": [
            {"subject": step.subject, "rule": step.rule, "passed": step.passed, "message": step.message}
            for step in verdict.steps
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


def signing_hint(context: Context) -> str:
    """The plain cosign command that makes such a signature. KEY stands for the private key of an authority."""
    words = ["cosign", "sign", "--yes"]
    if not context.rules.keyless_only:
        words += ["--key", "KEY", "--use-signing-config=false", "--tlog-upload=false"]
    if SignatureFormat.BUNDLE not in context.rules.formats:
        words.append("--new-bundle-format=false")
    for name, value in required_claims(context).items():
        words += ["-a", f"{name}={value}"]
    words.append(f"{context.subject.repository}@{context.subject.digest}")
    names = " or ".join(authority.name for authority in context.rules.authorities)
    if context.rules.keyless_only:
        return f"sign it as {names}: {shlex.join(words)}"
    return f"sign it with the key of {names}: {shlex.join(words)}"
