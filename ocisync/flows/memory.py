"""What a pass over a sync may use (`Ports`), and what the agent remembers of the sync between passes (`Memory`).

`Memory` is lost with the process. Then the first pass rebuilds it by applying everything once, which changes nothing
that is as it should be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Protocol

from ocisync.cluster.engine import Engine
from ocisync.cluster.tracker import Tracker
from ocisync.flows.localcopy import LocalCopies
from ocisync.flows.outcome import ArtifactFacts, Failed, ObjectFailure, Outcome, Stalled
from ocisync.flows.retries import Retry
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request
from ocisync.kit.stop import StopToken
from ocisync.model.artifact import ArtifactManifest, Verdict
from ocisync.model.clock import Clock
from ocisync.model.evidence import EvidenceSet
from ocisync.model.resource import ObjectId
from ocisync.model.spec import SyncSpec
from ocisync.model.values import dataclass
from ocisync.oci.store import Store


@dataclass(frozen=True, slots=True)
class Mark:
    """What was accepted last. `digest` is what the tag led to, for tags that must never move."""

    sequence: int = 0
    digest: str = ""


class Watermarks(Protocol):
    """Rollback protection that outlives its sync."""

    def read(self, spec: SyncSpec) -> Mark:
        """The mark of the sync's present source."""
        ...

    def accept(self, spec: SyncSpec, mark: Mark) -> None:
        """Raise it, durably."""
        ...


@dataclass(frozen=True, slots=True)
class Trust:
    """Policies and keys at one moment. `version` moves whenever any of them does."""

    set: TrustSet
    version: int


def _never(_: SyncSpec) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a pass may use.

    Attributes:
        open_store: a store for the sync's repository, with its login.
        trust: the policies in force.
        dependency: why another sync (namespace, name) is not ready; empty if it is.
        watch: called when the set of owned kinds may have changed.
        progress: told how it stands before a long step.
        superseded: whether a sync was changed, or asked for, since its spec was read.
    """

    open_store: Callable[[SyncSpec], Store]
    trust: Callable[[], Trust]
    dependency: Callable[[str, str], str]
    engine: Engine
    tracker: Tracker
    watch: Callable[[], None]
    progress: Callable[[SyncSpec, Outcome], None]
    copies: LocalCopies
    watermarks: Watermarks
    clock: Clock
    rng: random.Random
    stop: StopToken
    superseded: Callable[[SyncSpec], bool] = _never


@dataclass(slots=True)
class Enforced:
    """The artifact that the cluster is kept equal to. Times are monotonic seconds.

    Attributes:
        manifest, evidence: what it is judged again by; the evidence of known signers only.
        request: how it was judged; its watermark is the one of then.
        selector: the source that it came from.
        generation: of the spec that it was last planned with.
        judge_at: when it is judged again, if nothing moves before.
        complete: everything of it is applied, and pruned.
        problem: why it is not complete.
        retries: objects that could not be applied, and when each is tried again.
        unsettled: objects that were not applied, or only in another form: the next pass has to apply them.
        gate: objects of the waves so far, while a later wave waits for their health.
        schemas: what the server said of its schemas when an object was refused for good.
    """

    facts: ArtifactFacts
    manifest: ArtifactManifest
    evidence: EvidenceSet
    verdict: Verdict
    request: Request
    selector: str
    generation: int
    trust_version: int
    judge_at: float
    complete: bool = False
    problem: Outcome | None = None
    failures: tuple[ObjectFailure, ...] = ()
    objects: int = 0
    applied_at: float = 0.0
    attempts: int = 0
    retry_at: float = 0.0
    refusals: int = 0
    retries: Mapping[ObjectId, Retry] = field(default_factory=dict)
    unsettled: frozenset[ObjectId] = frozenset()
    gate: frozenset[ObjectId] = frozenset()
    schemas: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Refusal:
    """The offered digest was looked at and can't be used; everything that this rests on."""

    digest: str
    generation: int
    trust_version: int
    approved: str
    outcome: Stalled | Failed
    attempts: int = 1
    retry_at: float = 0.0


@dataclass(slots=True)
class Memory:
    """What is remembered of one sync.

    Attributes:
        offered: what the registry said last; None as long as it was not asked (successfully).
        applied: the last artifact of which everything was applied.
        poll_at: when the registry is asked next.
        requested: the last `requestedAt` that was acted on.
        source_failed_at: since when the registry does not answer; None if it does.
        recover_at: when to try again to find what was enforced before a restart.
    """

    enforced: Enforced | None = None
    offered: ArtifactFacts | None = None
    applied: ArtifactFacts | None = None
    refusal: Refusal | None = None
    selector: str = ""
    generation: int = -1
    requested: str = ""
    poll_at: float = 0.0
    source_problem: str = ""
    source_reason: str = ""
    source_failed_at: float | None = None
    source_attempts: int = 0
    cluster_attempts: int = 0
    unhealthy_since: float | None = None
    recover_at: float = 0.0
