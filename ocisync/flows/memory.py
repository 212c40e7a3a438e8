"""What a pass over a sync may use (`Ports`), and what the agent remembers of the sync between passes (`Memory`).

`Memory` is lost with the process. Then the first pass rebuilds it by applying everything once, which changes nothing
that is as it should be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Protocol

from ocisync.cluster.engine import Engine
from ocisync.cluster.health import Health
from ocisync.cluster.tracker import Tracker
from ocisync.cluster.watch import GroupKind
from ocisync.flows.localcopy import LocalCopies
from ocisync.flows.outcome import ArtifactFacts, Failed, ObjectFailure, Outcome, Quarantine, Stalled
from ocisync.flows.retries import Retry
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request
from ocisync.kit.stop import StopToken
from ocisync.model.artifact import ArtifactManifest, Verdict
from ocisync.model.clock import Clock
from ocisync.model.evidence import EvidenceSet
from ocisync.model.resource import ObjectId
from ocisync.model.spec import SelectorKind, SyncSpec
from ocisync.model.values import dataclass
from ocisync.oci.store import Store


@dataclass(frozen=True, slots=True)
class Mark:
    """What was accepted last. `digest` is what the tag led to, for tags that must never move.

    `tag` is that tag, where a range chose it. `accepted` are the last digests, newest first: a sync may return to what
    it ran itself.
    """

    sequence: int = 0
    digest: str = ""
    accepted: tuple[str, ...] = ()
    tag: str = ""

    def led_by(self, kind: SelectorKind, tag: str) -> str:
        """The digest that this very tag led to when it was accepted; empty if it was another version of a range."""
        return self.digest if kind is SelectorKind.TAG or self.tag == tag else ""


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


class Pods(Protocol):
    """Why workloads do not progress, as their pods tell."""

    def attend(self, sync_id: str, waiting: Iterable[tuple[ObjectId, Health]]) -> Mapping[ObjectId, Health]:
        """Look after exactly these; what is known of them."""
        ...

    def due_s(self, sync_id: str) -> float | None:
        """When to ask again, in seconds; None if nothing will be known before it is told."""
        ...

    def forget(self, sync_id: str) -> None:
        """The sync is gone, or may not be looked after."""
        ...


class _NoPods:
    def attend(self, sync_id: str, waiting: Iterable[tuple[ObjectId, Health]]) -> Mapping[ObjectId, Health]:
        return {}

    def due_s(self, sync_id: str) -> float | None:
        return None

    def forget(self, sync_id: str) -> None:
        """Nothing is looked after."""


def _always(_: str) -> bool:
    return True


def _no_circle(key: str) -> tuple[str, ...]:
    return ()


def _none_again(kinds: frozenset[GroupKind]) -> None:
    """Nothing is watched."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a pass may use.

    Attributes:
        open_store: a store for the sync's repository, with its login.
        trust: the policies in force.
        dependency: why another sync (namespace, name) is not ready; empty if it is.
        watch: called when the set of owned kinds may have changed.
        progress: told how it stands before a long step; when it returns, the status says so.
        circle: the syncs that depend on each other in a circle through this one; empty if there is none.
        relist: called with kinds whose objects must be shown once more.
        pods: tells why workloads do not progress.
        paused: why nothing may be written at all; empty if it may.
        superseded: whether a sync was changed, or asked for, since its spec was read.
        turn: whether a sync may begin, after a start, its full pass over what is applied already.
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
    pods: Pods = _NoPods()
    circle: Callable[[str], tuple[str, ...]] = _no_circle
    relist: Callable[[frozenset[GroupKind]], None] = _none_again
    paused: Callable[[], str] = str
    superseded: Callable[[SyncSpec], bool] = _never
    turn: Callable[[str], bool] = _always


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
        own: it is from the sync's own history, and may be older than the watermark.
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
    own: bool = False
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
        restored: the two below were read from the sync's status.
        quarantine: what is offered and not run.
        rollback: the last request for a rollback that was acted on.
        good: the digest whose content is kept, to return to.
        copy_counts: the watermark is no older than the local copy.
        unpacked: objects of artifacts that were read since whoever takes the garbage away set it to 0.
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
    failed_since: float | None = None
    recover_at: float = 0.0
    restored: bool = False
    quarantine: Quarantine | None = None
    rollback: str = ""
    good: str = ""
    copy_counts: bool = False
    unpacked: int = 0
