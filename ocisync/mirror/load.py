"""Bring a mirror file into registries or layouts: judge first, write afterwards, tags last.

Order: the head is read and checked → the sender's signature, if keys for it are given → what a delta builds on is
looked for → every root is judged → the destination is asked what it has and whether its tags may move → only then is
anything written: blobs as they pass by, each hashed while it streams; when the file has ended as it should, manifests,
referrers, signature tags, tags. A file that is cut off, damaged or refused leaves blobs behind at most, which nothing
names.

Nothing is remembered between runs. A run that was killed is finished by the next one: what is there is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO

from ocisync.flows.trust import TrustSet
from ocisync.mirror.archive import ArchiveReader, Head, read_head
from ocisync.mirror.closure import Closure
from ocisync.mirror.contents import Contents
from ocisync.mirror.copy import Callbacks, Report, copy
from ocisync.mirror.filejudge import Delivery, Judged, judge_all, kept, open_parts, refusal
from ocisync.mirror.plan import Plan, RepositoryPlan, examine
from ocisync.mirror.stores import Stores
from ocisync.model.artifact import VerdictReason
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused, UsageError
from ocisync.model.ref import Place, Reference
from ocisync.signing.envelope import signers_among
from ocisync.signing.keys import PublicKey


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to do with a file.

    Attributes:
        routes: the destination of each repository of the file, by its name.
        now: aware time, for the rules.
        trust: policies for a repository at the destination; None: nothing is judged.
        judge_images: false if the trust is about artifacts only.
        sender_keys: one of them must have signed the list of contents; none: it is not asked.
        partial: import what passes, instead of nothing, when something is refused.
        check_first: read the whole file before anything is written; needs a file that can be read twice.
        force_tag: tags that never move may move.
    """

    routes: Callable[[Contents], Mapping[str, Place]]
    now: datetime
    trust: Callable[[str], TrustSet] | None = None
    judge_images: bool = True
    sender_keys: tuple[PublicKey, ...] = ()
    partial: bool = False
    check_first: bool = False
    force_tag: bool = False
    workers: int = 4
    callbacks: Callbacks = field(default_factory=Callbacks)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was done.

    Attributes:
        senders: fingerprints of the sender's keys that signed the contents.
        routes: by name in the file.
    """

    digest: str
    senders: tuple[str, ...]
    judged: tuple[Judged, ...]
    refused: tuple[Judged, ...]
    routes: Mapping[str, Place]
    closure: Closure
    report: Report

    def untagged(self) -> dict[str, list[str]]:
        """Digests that were chosen without a tag, by repository."""
        found: dict[str, list[str]] = {}
        for root in self.closure.roots:
            if not root.selected.tag:
                found.setdefault(root.selected.place.repository, []).append(root.selected.digest)
        return found

    def as_json(self) -> dict[str, Any]:
        """What scripts read."""
        return {
            "file": self.digest,
            "senders": list(self.senders),
            "repositories": {name: place.location for name, place in self.routes.items()},
            "judged": [judged_json(one) for one in self.judged],
            "refused": [one.name for one in self.refused],
            **self.report.as_json(),
        }


def judged_json(one: Judged) -> dict[str, Any]:
    """One verdict, for scripts."""
    return {
        "name": one.name,
        "digest": one.root.selected.digest,
        "role": one.root.role.value,
        "allowed": one.allowed,
        "judged": one.judged,
        "reason": one.verdict.reason.value,
        "message": one.verdict.message,
    }


def load(source: BinaryIO, name: str, request: LoadRequest, stores: Stores) -> Loaded:
    """Load a file.

    Args:
        source: the file, from its beginning; may be a pipe.
        name: what messages call it.
        request: what to do.
        stores: of the destination.

    Raises:
        Refused: the file is damaged, not the sender's, a delta without its base, or not allowed; nothing was tagged.
        UsageError: check_first for a pipe, or two repositories to one destination.
    """
    checked = _check_first(source, name) if request.check_first else ""
    archive = ArchiveReader(source, name)
    head = read_head(archive)
    if checked and checked != head.digest:
        raise Refused(f"{name} is another file than the one that was checked", reason="BadArtifact")
    senders = require_sender(head, request.sender_keys, name)
    routes = request.routes(head.contents)
    deliveries = open_parts(head, name, routes, stores, request.workers)
    judged: tuple[Judged, ...] = ()
    if request.trust is not None:
        judged = judge_all(deliveries, request.trust, request.now, images=request.judge_images)
    closure, refused = _allowed(deliveries, judged, request, name)
    by_location = {one.closure.place.location: routes[one.part.name] for one in deliveries}
    plan = examine(closure, by_location, stores, force_tag=request.force_tag, workers=request.workers)
    plan.require_allowed()
    transfer = _Transfer(plan, stores, request.callbacks)
    transfer.head(head)
    for digest, size in head.contents.rest():
        archive.stream(digest, size, lambda stream, wanted=digest: transfer.blob(wanted, stream))  # type: ignore[misc]
    archive.end()
    there = replace(plan, repositories=tuple(replace(one, blobs=()) for one in plan.repositories))
    report = copy(there, stores, request.callbacks, workers=request.workers, force_tag=request.force_tag)
    report.blobs, report.bytes, report.linked = transfer.blobs, transfer.bytes, transfer.linked
    report.there_blobs -= transfer.blobs + transfer.linked
    return Loaded(head.digest, senders, judged, refused, routes, closure, report)


def require_sender(head: Head, keys: Sequence[PublicKey], name: str) -> tuple[str, ...]:
    """The keys among `keys` that signed the contents.

    Raises:
        Refused: keys are given, and none of them did.
    """
    senders = signers_among(head.sealed, keys)
    if keys and not senders:
        why = "is signed by nobody" if not head.sealed.signed else "is signed by another key"
        raise Refused(
            f"{name}: its list of contents {why}",
            reason=(VerdictReason.UNSIGNED if not head.sealed.signed else VerdictReason.UNKNOWN_SIGNER).value,
            hint="ask the sender for the key, by another way than the file",
        )
    return senders


def _allowed(
    deliveries: Sequence[Delivery], judged: Sequence[Judged], request: LoadRequest, name: str
) -> tuple[Closure, tuple[Judged, ...]]:
    closure, refused = kept(deliveries, judged)
    if refused and (not request.partial or not any(one.allowed and one.judged for one in judged)):
        raise refusal(refused, name)
    return closure, refused


def check_whole(source: BinaryIO, name: str, progress: Callable[[int], None] = lambda _: None) -> Head:
    """Read and check every byte of a file; returns its head.

    Raises:
        Refused: it is damaged, cut off, or no mirror file.
    """
    archive = ArchiveReader(source, name)
    head = read_head(archive)
    for digest, size in head.contents.rest():
        archive.stream(digest, size, lambda _: None)
        progress(size)
    archive.end()
    return head


def _check_first(source: BinaryIO, name: str) -> str:
    if not source.seekable():
        raise UsageError(f"{name} can be read only once", hint="store it in a file for --check-first")
    start = source.tell()
    head = check_whole(source, name)
    open_parts(head, name, None, None, 1)
    source.seek(start)
    return head.digest


class _Transfer:
    """Puts blobs where they are missing, each over the wire once for each registry."""

    def __init__(self, plan: Plan, stores: Stores, callbacks: Callbacks) -> None:
        self._stores = stores
        self._moved = callbacks.moved
        self._targets: dict[str, list[RepositoryPlan]] = {}
        self._known: dict[str, Descriptor] = {}
        for one in plan.repositories:
            for blob in one.blobs:
                self._targets.setdefault(blob.digest, []).append(one)
                self._known[blob.digest] = blob
        self.blobs = self.bytes = self.linked = 0
        callbacks.total(plan.bytes_to_move)

    def head(self, head: Head) -> None:
        """The blobs that came with the head."""
        for digest in [digest for digest, _ in head.contents.head() if digest in self._targets]:
            first, *others = self._targets[digest]
            self._put(first, digest, head.data[digest])
            for target in others:
                self._spread(target, digest, first)

    def blob(self, digest: str, stream: BinaryIO) -> None:
        """One blob that passes by."""
        targets = self._targets.get(digest, [])
        if not targets:
            return
        first, *others = targets
        self._put(first, digest, stream)
        for target in others:
            self._spread(target, digest, first)

    def _put(self, target: RepositoryPlan, digest: str, data: bytes | BinaryIO) -> None:
        blob = self._known[digest]
        if self._stores.at(target.destination).put_blob(blob, data):
            self.blobs += 1
            self.bytes += blob.size
        self._moved(blob.size)

    def _spread(self, target: RepositoryPlan, digest: str, first: RepositoryPlan) -> None:
        """Bring a blob to another repository: linked, or read back, since the file goes by only once."""
        here, there = first.destination, target.destination
        near = isinstance(here, Reference) and isinstance(there, Reference) and here.host == there.host
        if near and self._stores.at(there).mount_blob(digest, here.repository):
            self.linked += 1
            self._moved(self._known[digest].size)
            return
        with self._stores.at(here).open_blob(self._known[digest]) as again:
            self._put(target, digest, again)
