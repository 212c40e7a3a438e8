"""Are the attestations there that a policy requires?

An attestation counts for a requirement only if it alone satisfies everything: a sound signature over exactly one
subject, ours (examined before; without that there is no `predicate`); exactly the predicate type; made by one of the
named authorities; whatever the policy asks of every maker (timestamp, log); claims that it has; all conditions. What
one attestation lacks is never made up for by another.

Provenance signed without a key names its builder twice: in the certificate and in itself. They must be equal, unless
the policy's own conditions say which builder is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ocisync.model.artifact import VerdictReason, VerdictStep
from ocisync.model.evidence import Evidence
from ocisync.model.predicates import BUILDER_PATH, SLSA_PROVENANCE, builder_id
from ocisync.model.values import dataclass
from ocisync.policy.predicates import AttestationRule, Condition
from ocisync.policy.requirements import Check, Context, attestation_checks, counted_for
from ocisync.policy.rules import RepositoryClaim


@dataclass(frozen=True, slots=True)
class Attested:
    """What came of all requirements. `problem` is the first that nothing satisfies, as a sentence; empty if none."""

    steps: tuple[VerdictStep, ...] = ()
    problem: str = ""
    hint: str = ""


def judge_attestations(evidence: Sequence[Evidence], context: Context) -> Attested:
    """Hold the evidence against every requirement of the policy."""
    found = sorted((item for item in evidence if item.predicate is not None), key=lambda item: item.source)
    judged = [_judge_rule(rule, found, context) for rule in context.rules.attestations]
    failed = next((one for one in judged if one.problem), Attested())
    return Attested(tuple(step for one in judged for step in one.steps), failed.problem, failed.hint)


def _judge_rule(rule: AttestationRule, found: Sequence[Evidence], context: Context) -> Attested:
    steps: list[VerdictStep] = []
    nearest, nearest_problem = -1, ""
    makers: list[str] = []
    for item in found:
        if item.predicate_type != rule.predicate_type:
            continue
        name = f"attestation {item.source[:19]} ({rule.predicate_type})"
        for rank, check in enumerate(_checks(item, rule, context)):
            passed = not check.problem
            steps.append(VerdictStep(name, check.rule, passed, check.message if passed else check.problem))
            if not passed:
                if rank > nearest:
                    nearest, nearest_problem = rank, check.problem
                break
        else:
            makers += [one.name for one in counted_for(item, context.rules) if one.name in rule.authorities]
    who = " or ".join(rule.authorities)
    message = f"attested by {', '.join(sorted(set(makers)))}: {rule.predicate_type}"
    problem = ""
    if not makers:
        problem = f"no attestation {rule.predicate_type} by {who} counts"
        problem += f": the nearest is {nearest_problem}" if nearest_problem else ": none of that type was found"
    steps.append(VerdictStep(f"policy {context.rules.name}", "attestation", not problem, problem or message))
    return Attested(tuple(steps), problem, _hint(rule, context) if problem else "")


def _checks(item: Evidence, rule: AttestationRule, context: Context) -> Iterator[Check]:
    named = tuple(authority for authority in context.rules.authorities if authority.name in rule.authorities)
    # A claim that is there is checked, as everywhere; attestations need not have any.
    rules = replace(context.rules, authorities=named, repository_claim=RepositoryClaim.IF_PRESENT)
    yield from attestation_checks(item, replace(context, rules=rules))
    if rule.predicate_type == SLSA_PROVENANCE and item.identity is not None and not rule.names(BUILDER_PATH):
        yield _builder(item, item.identity.subject)
    for condition in rule.where:
        yield _condition(item, condition)


def _builder(item: Evidence, identity: str) -> Check:
    problem = Condition(BUILDER_PATH, equals=builder_id(identity)).mismatch(item.predicate or {})
    if problem:
        stated = problem.partition("; ")[0]
        problem = f"signed by {identity}, which is not the builder that it names: {stated}"
    return Check("builder", VerdictReason.NO_ATTESTATION, problem, "made by the builder that it names")


def _condition(item: Evidence, condition: Condition) -> Check:
    problem = condition.mismatch(item.predicate or {})
    message = f"{condition.path} is as the policy wants it"
    return Check("where", VerdictReason.NO_ATTESTATION, f"one in which {problem}" if problem else "", message)


def _hint(rule: AttestationRule, context: Context) -> str:
    subject = f"oci://{context.subject.repository}@{context.subject.digest}"
    if rule.predicate_type == SLSA_PROVENANCE:
        return "push with --provenance"
    return f"ocisync attest {subject} --type {rule.predicate_type} --predicate FILE --sign-key KEY"
