"""What a refusal must tell whoever has to act: which rule said no, who had signed, and what would make it yes.

`sha256:… is refused (rule signer): no signature counts: …; found: …; sign it with the key of ci: cosign sign …`
"""

from __future__ import annotations

from collections.abc import Iterable

from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.evidence import Evidence
from ocisync.policy.requirements import authorities_of
from ocisync.policy.select import Selection

_NAMED, _NAME_CHARS = 3, 150  # signers in one message
_TEXT_CHARS = 1_000  # an Event holds 1,024, and the command at the end must be whole
_RULES = {
    VerdictReason.NO_POLICY: "match",
    VerdictReason.INVALID_POLICY: "policy",
    VerdictReason.DENIED: "deny",
    VerdictReason.UNSIGNED: "signature",
    VerdictReason.BELOW_THRESHOLD: "threshold",
    VerdictReason.EVIDENCE_TRUNCATED: "budget",
    VerdictReason.TAG_MUTATED: "immutable tag",
    VerdictReason.BAD_ARTIFACT: "artifact",
}


def failed_rule(verdict: Verdict) -> str:
    """The rule that decided: that of the nearest miss, in the words of `verify --explain`; empty if it is allowed."""
    if verdict.allowed:
        return ""
    for step in verdict.steps:
        if not step.passed and step.message and verdict.message.endswith(step.message):
            return step.rule
    return _RULES.get(verdict.reason, "signature")


def signers_found(examined: Iterable[Evidence], selection: Selection) -> tuple[str, ...]:
    """Who made the signatures that were found, as far as it is proven; what is not says so."""
    names: dict[str, None] = {}
    for evidence in examined:
        names.setdefault(_name(evidence, selection)[:_NAME_CHARS])
    found = tuple(names)
    return found if len(found) <= _NAMED else (*found[:_NAMED], f"{len(found) - _NAMED} more")


def refusal_text(verdict: Verdict, digest: str) -> str:
    """The refusal as one paragraph, for Events."""
    what = f"{digest} is refused" if digest else "nothing is accepted"
    said = f"{what} (rule {failed_rule(verdict)}): {verdict.message}"
    found = f"; found: {', '.join(verdict.found)}" if verdict.found else ""
    fix = f"; {verdict.hint}" if verdict.hint else ""
    return said + found + fix if len(said + found + fix) <= _TEXT_CHARS else said + fix


def _name(evidence: Evidence, selection: Selection) -> str:
    if evidence.signer:
        names = sorted({item.name for rules in selection.rules for item in authorities_of(evidence, rules)})
        return f"{' or '.join(names)} ({evidence.signer})" if names else evidence.signer
    if evidence.certified:
        return "a certificate that no trusted root in force proves"
    return f"an unknown key that calls itself {evidence.key_hint}" if evidence.key_hint else "an unknown key"
