"""How one pass over one sync ended, as a type; and every fact that status, events and metrics are made from.

    Done      the cluster is what the artifact says, and healthy
    Waiting   on the way: something must happen first (health, a dependency, a signature); look again after a while
    Stalled   a person must change something (refused, held, invalid); a new digest, spec or policy starts anew
    Failed    something went wrong that may pass: it is tried again

One place (`agent.conditions`) turns an outcome into conditions; nothing else writes status.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from ocisync.model.artifact import Verdict
from ocisync.model.values import dataclass


class Reason(StrEnum):
    """Reasons of the `Ready` condition that are not the reason of a verdict or an error."""

    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    PAUSED = "Paused"
    INVALID_SPEC = "InvalidSpec"
    DEPENDENCY_NOT_READY = "DependencyNotReady"
    DEPENDENCY_CYCLE = "DependencyCycle"
    PROGRESSING = "Progressing"
    HEALTH_FAILED = "HealthCheckFailed"
    HEALTH_TIMEOUT = "HealthCheckTimedOut"
    ROLLED_BACK = "RolledBack"
    APPLY_FAILED = "ApplyFailed"
    PRUNE_DEFERRED = "PruneDeferred"
    PRUNE_HELD = "PruneHeld"
    APPROVAL_REQUIRED = "ApprovalRequired"
    SOURCE_FAILED = "SourceFailed"
    CLUSTER_FAILED = "ClusterFailed"
    BAD_ARTIFACT = "BadArtifact"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """An artifact by name."""

    tag: str = ""
    digest: str = ""
    revision: str = ""
    signers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """An artifact that is not run although it is offered, until the tag moves or a person lifts this.

    Attributes:
        digest, revision: of the artifact.
        to: what runs instead: the last good one, or the one that a person chose.
        reason: `HealthCheckFailed`, `HealthCheckTimedOut`, `ApplyFailed` or `Requested`.
        message: what went wrong, or who asked.
        since: RFC 3339.
    """

    digest: str
    revision: str
    to: ArtifactFacts
    reason: str
    message: str
    since: str

    @property
    def id(self) -> str:
        """What a person names to lift exactly this one."""
        return f"{self.digest}@{self.since}"


@dataclass(frozen=True, slots=True)
class Past:
    """One line of a sync's history."""

    artifact: ArtifactFacts
    outcome: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the sync's status says of the time before: it outlives the process.

    Attributes:
        applied: the digest that was applied.
        generation: of the spec that the status speaks of.
        history: newest first.
        rollback: the last request for a rollback that was acted on.
    """

    applied: str = ""
    generation: int = 0
    history: tuple[Past, ...] = ()
    quarantine: Quarantine | None = None
    rollback: str = ""


@dataclass(frozen=True, slots=True)
class ObjectFailure:
    """One object that could not be applied or pruned."""

    object: str
    place: str
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """Health of everything that is applied. `healthy` is None before anything was."""

    healthy: bool | None = None
    failed: bool = False
    message: str = ""
    ready: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What this pass wrote."""

    created: int = 0
    configured: int = 0
    unchanged: int = 0
    recreated: int = 0
    deleted: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def wrote(self) -> bool:
        """Whether any object was changed."""
        return bool(self.created or self.configured or self.recreated or self.deleted)

    def __str__(self) -> str:
        """`3 created, 1 configured`; the unchanged are named when nothing else is."""
        parts = [
            f"{count} {word}"
            for word in ("created", "configured", "recreated", "deleted", "failed", "skipped")
            if (count := getattr(self, word))
        ]
        return ", ".join(parts) or f"{self.unchanged} unchanged"


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known after a pass.

    Attributes:
        source: what the registry offers; None as long as it was never seen.
        applied: what the cluster is kept equal to.
        attempted: what this pass tried, when it tried anything.
        verdict: the latest judgement: of a refused new digest, else of the applied one.
        source_problem: why the registry could not be asked; empty when it was.
        source_stale: the registry could not be asked for so long that someone should know.
        plan_hash: of a plan that waits for approval.
        newly_applied: this pass made `attempted` what the cluster is kept equal to.
        quarantine: what is offered and not run.
        rollback: the last request for a rollback that was acted on.
    """

    source: ArtifactFacts | None = None
    applied: ArtifactFacts | None = None
    attempted: ArtifactFacts | None = None
    verdict: Verdict | None = None
    health: HealthFacts = field(default_factory=HealthFacts)
    failures: tuple[ObjectFailure, ...] = ()
    objects: int = 0
    source_problem: str = ""
    source_reason: str = ""
    source_stale: bool = False
    plan_hash: str = ""
    newly_applied: bool = False
    changes: Changes | None = None
    quarantine: Quarantine | None = None
    rollback: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """Equal and healthy; look again at the next poll."""

    message: str
    facts: Facts
    reason: str = Reason.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Waiting:
    """On the way. `after_s`: seconds until the next look, if nothing wakes us before."""

    reason: str
    message: str
    after_s: float
    facts: Facts


@dataclass(frozen=True, slots=True)
class Stalled:
    """A person must act. `after_s`: seconds until the cause is looked at again all the same; 0: at the next poll."""

    reason: str
    message: str
    facts: Facts
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """Tried again after `after_s` seconds; 0 lets the caller choose by its backoff."""

    reason: str
    message: str
    facts: Facts
    after_s: float = 0.0


Outcome = Done | Waiting | Stalled | Failed
