"""What the tracker is told and what it asks for: syncs, corrections and their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ocisync.cluster.apply import ObjectResult
from ocisync.cluster.drift import DriftReport
from ocisync.cluster.health import health
from ocisync.cluster.health_checks import HealthRule
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Desired
from ocisync.cluster.outcome import ErrorClass
from ocisync.cluster.watch import GroupKind
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import DriftMode, UnownedMode


@dataclass(frozen=True, slots=True)
class SyncRules:
    """How one sync wants its objects kept.

    Attributes:
        sync_id: the ApplySet id, the value of our label.
        name: `namespace/name`, for messages.
        created_at: creationTimestamp; of two syncs that claim one object the older wins.
        paused: why nothing may be written now (suspended, deleting, distrusted); empty if it may.
        health: of its objects; the same rule is the same object.
    """

    sync_id: str
    name: str
    created_at: str
    mode: DriftMode = DriftMode.CORRECT
    unowned: UnownedMode = UnownedMode.WARN
    paused: str = ""
    health: HealthRule = health

    def older_than(self, other: SyncRules) -> bool:
        """Whether this sync wins a claim against another; ids decide between equals."""
        return (self.created_at, self.sync_id) < (other.created_at, other.sync_id)


class CorrectionReason(StrEnum):
    """Why an object is applied once more."""

    DRIFT = "Drift"
    RECREATE = "Recreate"
    SUSPECT = "Suspect"
    AUDIT = "Audit"


@dataclass(frozen=True, slots=True)
class Correction:
    """A request to apply one object again.

    Attributes:
        desired: the object; `desired.left` names the fields that are left to others.
        uid: the object that is meant: the apply carries it. Empty to create it, or to meet its successor.
        previous: what our last apply left.
    """

    sync_id: str
    desired: Desired
    uid: str
    reason: CorrectionReason
    previous: Applied


class CorrectionStatus(StrEnum):
    """How a correction ended."""

    DONE = "Done"
    CLAIMED = "Claimed"  # another owner's label is on it
    WAITING = "Waiting"  # its namespace is terminating, its kind is not served
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Corrected:
    """The outcome. `applied` is set exactly when `status` is `DONE`."""

    status: CorrectionStatus
    applied: Applied | None = None
    message: str = ""
    retry_after_s: float = 0.0


def corrected(result: ObjectResult) -> Corrected:
    """The outcome of `Applier.apply_one`, as the tracker reads it."""
    if result.applied is not None:
        return Corrected(CorrectionStatus.DONE, result.applied)
    failure = result.failure
    if failure is None:
        return Corrected(CorrectionStatus.FAILED, message="the object's annotations ask to leave it alone")
    wait = failure.retry_after_s or 0.0
    if failure.error_class is ErrorClass.WAITING:
        return Corrected(CorrectionStatus.WAITING, message=failure.message, retry_after_s=wait)
    claimed = failure.error_class is ErrorClass.CONFLICT and failure.reason == "OwnedByOther"
    status = CorrectionStatus.CLAIMED if claimed else CorrectionStatus.FAILED
    return Corrected(status, message=failure.message, retry_after_s=wait)


def _untold(kind: GroupKind, message: str) -> None:
    """Nobody asked."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What the tracker may do to the world. All may block; none is called with the tracker's lock held.

    Attributes:
        read: GET one object, whole; None for 404. Raises `OcisyncError` when it cannot be known.
        correct: apply one object (`corrected(applier.apply_one(…, known=bool(uid), uid=…, previous=…))`).
        report: told of each drift, once.
        changed: told that a sync's health may have changed.
        blind: told that the changes of a kind cannot be seen, and why; an empty text says that they are seen again.
    """

    read: Callable[[ObjectId], JsonObject | None]
    correct: Callable[[Correction], Corrected]
    report: Callable[[DriftReport], None]
    changed: Callable[[str], None]
    blind: Callable[[GroupKind, str], None] = _untold


@dataclass(frozen=True, slots=True)
class Limits:
    """How often the tracker may write. Seconds and counts."""

    object_burst: int = 6
    object_every_s: float = 10.0
    global_burst: int = 200
    global_per_s: float = 50.0
    retry_s: float = 2.0
    retry_cap_s: float = 300.0
    fight_cap_s: float = 600.0
    quiet_s: float = 60.0
    audit_s: float = 24 * 3600.0
    sweep_s: float = 60.0


@dataclass(slots=True)
class Counters:
    """For metrics: totals since the start."""

    events: int = 0
    drifts: int = 0
    corrections: int = 0
    suspects: int = 0
    audits: int = 0
    reowned: int = 0
    fights: int = 0
    failures: int = 0
