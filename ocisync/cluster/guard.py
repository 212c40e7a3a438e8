"""When a plan needs a person's yes before anything of it is done. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from ocisync.model.resource import ObjectId
from ocisync.model.spec import DEFAULT_PROTECTED

_NEVER_BELOW = 5  # objects: a percentage of a small sync would stop every change
_NAMED = 3  # objects named in a message


@dataclass(frozen=True, slots=True)
class Guard:
    """`spec.guard`: `max_prune` is a number or a percentage of the inventory; `protect` are kinds (`Kind.group`)."""

    max_prune: str = "50%"
    protect: tuple[str, ...] = DEFAULT_PROTECTED


@dataclass(frozen=True, slots=True)
class Loss:
    """One object that a plan deletes for good, or deletes and creates anew."""

    id: ObjectId
    uid: str
    recreated: bool = False
    confirm: bool = False  # annotated `ocisync.dev/protect: confirm`


def allowance(guard: Guard, owned: int) -> int:
    """How many of `owned` objects one plan may delete unasked.

    A number counts as it is. A percentage is rounded up and never below 5 objects, but 0 % is none.
    """
    text = guard.max_prune.strip()
    if text.endswith("%"):
        percent = int(text[:-1])
        return max(_NEVER_BELOW, math.ceil(owned * percent / 100)) if percent else 0
    return int(text)


def plan_hash(sync_uid: str, digest: str, losses: Iterable[Loss]) -> str:
    """What an approval is given for: this sync, this artifact, exactly these deletions and recreations."""
    lines = sorted(["recreate" if loss.recreated else "delete", loss.id.key(), loss.uid] for loss in losses)
    document = json.dumps({"sync": sync_uid, "digest": digest, "losses": lines}, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def hold(guard: Guard, losses: tuple[Loss, ...], *, owned: int, desired: int) -> str:
    """Why the plan must wait for an approval; empty if it need not."""
    if not losses:
        return ""
    if desired == 0:
        return f"the artifact is empty: it would delete all {len(losses)} objects"
    protected = [loss for loss in losses if loss.confirm or loss.id.group_kind in guard.protect]
    if protected:
        return f"it deletes protected objects: {_named(protected)}"
    limit = allowance(guard, owned)
    if len(losses) > limit:
        return f"it deletes {len(losses)} of {owned} objects; guard.maxPrune allows {limit} ({guard.max_prune})"
    return ""


def _named(losses: list[Loss]) -> str:
    shown = ", ".join(str(loss.id) for loss in losses[:_NAMED])
    return shown if len(losses) <= _NAMED else f"{shown} and {len(losses) - _NAMED} more"
