"""The answer to `ocisync why` in sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ocisync.cluster.fields import MISSING, Path
from ocisync.cluster.values import ABSENT, shown
from ocisync.flows.whyanswer import Answer, Holder, Origin, Owner
from ocisync.model.spec import FIELD_MANAGER


def sentences(answer: Answer, now: str, desired: Any, path: Path, left: str) -> list[str]:
    """The answer for a field.

    Args:
        answer: all but its text.
        now: the value as it may be shown.
        desired: what our apply asks for.
        path: the field.
        left: why a difference is left alone; empty if it is not.
    """
    written, owner = answer.written, answer.owner
    place = written.place if written else ""
    who = who_of(answer.holders)
    match answer.origin:
        case Origin.GIT:
            said = [f"{now}, from Git: {place}"]
            others = who_of([h for h in answer.holders if h.manager != FIELD_MANAGER])
            return [*said, f"{others} set the same value"] if others else said
        case Origin.REWRITTEN:
            old = shown(written.value if written else MISSING, answer.object, path)
            return [f"{now}, from Git: {place} says {old}", "rewritten by spec.images of the sync"]
        case Origin.DIFFERS:
            wanted = shown(desired, answer.object, path)
            where = f" at {place}" if place else ""
            now = "the object does not have it" if now == ABSENT else f"the object has {now}"
            said = [
                f"Git says {wanted}{where}, but {now}" + (f", set by {who}" if who else "; who removed it is unknown")
            ]
            return [*said, left or _incomplete(answer) or _mode(owner)]
        case Origin.TARGET:
            does = (
                "the set's own" if owner and owner.once else "the sync's spec.target.namespace (or its own namespace)"
            )
            return [f"{now}: Git names no namespace; {does} does"]
        case Origin.MEMBERSHIP:
            return [f"{now}: the label by which {owner.title if owner else ''} knows its objects; ocisync adds it"]
        case Origin.ADMISSION:
            return [f"{now}, not from Git: added to ocisync's own request by an admission webhook or policy"]
        case Origin.STATUS:
            return [f"{now}: status, reported by {who}"]
        case Origin.SERVER:
            return [f"{now}: set by the API server"]
        case Origin.DEFAULT:
            return [
                f"{now}, not from Git: no manager holds it, so it is a default of the API server or came from admission"
            ]
        case Origin.OTHER:
            return [f"{now}, not from Git: set by {who}"]
        case Origin.ABSENT:
            return ["neither Git nor the object has it"]
        case _:
            return [f"{now}: set by {who or 'an apply of ours'}; whether Git says so now could not be read"]


def _incomplete(answer: Answer) -> str:
    """Whether the value may come from a newer artifact of which not everything is applied."""
    owner = answer.owner
    attempted = owner.artifact("lastAttempted") if owner else {}
    ours = any(holder.manager == FIELD_MANAGER and holder.operation == "Apply" for holder in answer.holders)
    if not ours or owner is None or attempted.get("digest") in {None, owner.artifact().get("digest")}:
        return ""
    name = attempted.get("revision") or attempted.get("digest")
    return f"ocisync set it itself, from {name}, of which not everything is applied yet"


def _mode(owner: Owner | None) -> str:
    spec = owner.spec if owner else None
    if owner is not None and owner.once is not None:
        return "no agent looks after it: it is put back when the set is applied again"
    if spec is None:
        return ""
    if spec.suspend:
        return "the sync is suspended: it is not corrected"
    return {
        "Correct": "drift.mode is Correct: it is about to be put back, or ocisync drift says what stands against it",
        "Warn": "drift.mode is Warn: it is reported and left",
        "Ignore": "drift.mode is Ignore: it is left",
    }[spec.drift.value]


def who_of(holders: Sequence[Holder]) -> str:
    """`kubectl (scale) at a time …, helm at 2026-…`; empty for nobody."""
    parts = []
    for holder in holders:
        how = f" ({holder.subresource})" if holder.subresource else ""
        when = f" at {holder.time}" if holder.time else " at a time that Kubernetes did not record"
        parts.append(f"{holder.manager}{how}{when}")
    return ", ".join(dict.fromkeys(parts))
