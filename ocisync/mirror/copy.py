"""Carry out a plan: blobs, manifests, referrers, signature tags, tags, in this order and all of it repeatable.

Nothing is remembered between runs: what is at the destination is what was done, so a run that was killed is finished
by the next one. Blobs go through in pieces; what another repository of the same registry has is linked. An artifact
that fails leaves the others alone, but none of its tags is set; neither are those of an artifact whose images failed.
A login that does not suffice, and a registry that does not answer any more, end everything.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from ocisync.kit.stop import StopToken
from ocisync.mirror.closure import Closure, Named, Role, Root
from ocisync.mirror.plan import BesideAction, Plan, RepositoryPlan, TagAction, is_immutable
from ocisync.mirror.stores import Stores
from ocisync.mirror.writing import write_beside, write_items, write_tag
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import AccessDenied, Interrupted, OcisyncError, Unavailable
from ocisync.model.ref import Place, Reference
from ocisync.oci.referrers import SETTLE_S

BLOB_TRIES = 3
MAX_SILENCES = 3  # transfers in a row that end in an outage; each has been repeated for long enough already


def _ignore_text(_: str) -> None:
    return None


def _ignore_count(_: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who watches. Called from several threads.

    Attributes:
        step: what is done now.
        total: how many bytes there are to move, once.
        moved: how many more bytes were moved; negative if some have to be moved again.
    """

    step: Callable[[str], None] = _ignore_text
    total: Callable[[int], None] = _ignore_count
    moved: Callable[[int], None] = _ignore_count


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be copied."""

    subject: str
    error: OcisyncError


@dataclass(slots=True)
class Report:
    """What happened: counts of blobs, manifests, signature tags and tags."""

    blobs: int = 0
    bytes: int = 0
    linked: int = 0
    manifests: int = 0
    signature_tags: int = 0
    tags: int = 0
    there_blobs: int = 0
    there_manifests: int = 0
    there_tags: int = 0
    kept_tags: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.blobs or self.linked or self.manifests or self.signature_tags or self.tags)

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "moved": {
                "blobs": self.blobs,
                "bytes": self.bytes,
                "linkedBlobs": self.linked,
                "manifests": self.manifests,
                "signatureTags": self.signature_tags,
                "tags": self.tags,
            },
            "there": {"blobs": self.there_blobs, "manifests": self.there_manifests, "tags": self.there_tags},
            "keptTags": sorted(self.kept_tags),
            "failed": [
                {"subject": one.subject, "message": one.error.message, "reason": one.error.reason}
                for one in self.failures
            ],
        }


def copy(
    plan: Plan,
    stores: Stores,
    callbacks: Callbacks = Callbacks(),
    *,
    workers: int = 4,
    force_tag: bool = False,
) -> Report:
    """Carry out a plan.

    Args:
        plan: as `examine` made it; may be older than the destination.
        stores: of both sides.
        callbacks: who watches.
        workers: transfers at a time, and so never more to one host.
        force_tag: tags that never move may move.

    Returns:
        What was done and what failed; nobody has been told of the failures.

    Raises:
        Refused: a tag would change that never does; nothing was written.
        AccessDenied, Unavailable, Interrupted: nothing more can be done.
    """
    plan.require_allowed()
    return _Run(plan, stores, callbacks, workers, force_tag).run()


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One blob, and the repositories that need it."""

    blob: Descriptor
    targets: tuple[RepositoryPlan, ...]


class _Run:
    def __init__(self, plan: Plan, stores: Stores, callbacks: Callbacks, workers: int, force_tag: bool) -> None:
        self._plan = plan
        self._stores = stores
        self._callbacks = callbacks
        self._workers = workers
        self._force = force_tag
        self._report = Report()
        self._lock = threading.Lock()
        self._lost: dict[tuple[str, str], OcisyncError] = {}  # (location, digest) of blobs, manifests, roots
        self._silences = 0
        self._unconfirmed: list[tuple[Root, Callable[[], None]]] = []
        self._stop = StopToken()
        self._by_source = {one.part.place.location: one for one in plan.repositories}
        self._tags_there = {
            (one.destination.location, tag.named.name)
            for one in plan.repositories
            for tag in one.tags
            if tag.action is TagAction.THERE
        }

    def run(self) -> Report:
        self._count_what_is_there()
        self._callbacks.total(self._plan.bytes_to_move)
        self._each(self._transfer, _transfers(self._plan.repositories))
        roots = _once(self._plan.closure)
        self._each(self._write_root, roots)
        if self._unconfirmed:
            self._callbacks.step("reading back")
            self._stop.wait(SETTLE_S)
            self._each(self._confirm, self._unconfirmed)
        images = [root for root in self._plan.closure.roots if root.role is Role.IMAGE]
        self._set_tags(images)
        self._set_tags([root for root in self._plan.closure.roots if root.role is Role.ARTIFACT])
        return self._report

    def _each(self, do: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Do something with each item, some at a time; the first error stops what runs in the middle of a blob."""
        executor = ThreadPoolExecutor(max_workers=self._workers)
        try:
            futures = [executor.submit(do, item) for item in items]
            for future in futures:
                future.result()
        except BaseException as error:  # also Ctrl-C: nobody wants to wait for a large blob, or for a silent registry
            self._stop.stop()
            executor.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
            raise
        executor.shutdown()

    def _count_what_is_there(self) -> None:
        report = self._report
        for one in self._plan.repositories:
            report.there_blobs += len(one.part.blobs()) - len(one.blobs)
            report.there_manifests += len(one.part.items) - len(one.missing | one.unlisted)

    # -- blobs ------------------------------------------------------------------------------------

    def _transfer(self, work: _Transfer) -> None:
        """Bring a blob to every repository that needs it, over the wire once for each registry."""
        have: dict[str, str] = {}  # by registry: a repository that has the blob
        for target in work.targets:
            where = f"blob {work.blob.digest} of {target.part.place.location}"
            try:
                self._bring(work.blob, target, have)
            except (AccessDenied, Interrupted):
                raise
            except OcisyncError as error:
                self._fail(target.part.place, work.blob.digest, where, error)
            else:
                self._silences = 0
                if isinstance(target.destination, Reference):
                    have[target.destination.host] = target.destination.repository

    def _bring(self, blob: Descriptor, target: RepositoryPlan, have: dict[str, str]) -> None:
        store = self._stores.at(target.destination)
        for origin in _linkable(target, have):
            if store.mount_blob(blob.digest, origin):
                self._count("linked")
                self._callbacks.moved(blob.size)
                return
        source = self._stores.at(target.part.place)
        for attempt in range(1, BLOB_TRIES + 1):
            with source.open_blob(blob) as stream:
                counted = _Counted(stream, self._stop, self._callbacks.moved)
                try:
                    moved = store.put_blob(blob, cast(BinaryIO, counted), absent=attempt == 1 and not have)
                except OcisyncError as error:
                    self._callbacks.moved(-counted.count)
                    if not error.transient or attempt == BLOB_TRIES or not counted.count:
                        raise
                    continue
            self._callbacks.moved(blob.size - counted.count)
            with self._lock:
                if moved:
                    self._report.blobs += 1
                    self._report.bytes += blob.size
                else:
                    self._report.there_blobs += 1
            return

    # -- manifests --------------------------------------------------------------------------------

    def _write_root(self, root: Root) -> None:
        """Everything of one artifact or image but its tags."""
        target = self._by_source[root.selected.place.location]
        self._callbacks.step(f"writing {target.destination.location}@{root.selected.digest}")
        part, store = target.part, self._stores.at(target.destination)
        members = set(root.members)
        try:
            self._check(part.place, root.members)
            wanted = members & (target.missing | target.unlisted)
            items = [item for item in part.items if item.digest in wanted] if wanted else []
            for item in items:
                self._check(part.place, [blob.digest for blob in item.blobs])
            later = write_items(store, part, items)
            self._count("manifests", len(items))
            with self._lock:
                self._unconfirmed += [(root, confirm) for confirm in later]
            for one in target.beside:
                if one.beside.subject in members and one.action is not BesideAction.THERE:
                    self._check(part.place, [blob.digest for blob in one.beside.item.blobs])
                    if write_beside(store, one.beside):
                        self._count("signature_tags")
        except (AccessDenied, Interrupted):
            raise
        except OcisyncError as error:
            self._fail(part.place, root.selected.digest, f"{root.selected}", error)

    def _confirm(self, work: tuple[Root, Callable[[], None]]) -> None:
        """Read back what rivals may have overwritten meanwhile."""
        root, confirm = work
        try:
            confirm()
        except (AccessDenied, Interrupted):
            raise
        except OcisyncError as error:
            self._fail(root.selected.place, root.selected.digest, f"{root.selected}", error)

    def _check(self, place: Place, digests: Sequence[str]) -> None:
        """Raise what a part has failed with."""
        for digest in digests:
            error = self._lost.get((place.location, digest))
            if error is not None:
                raise error

    # -- tags -------------------------------------------------------------------------------------

    def _set_tags(self, roots: Sequence[Root]) -> None:
        """Names that never move first: whoever sees a moving one can rely on the others."""
        work = [(root, tag) for root in roots for tag in self._tags_of(root)]
        for immutable in (True, False):
            self._each(self._set_tag, [one for one in work if is_immutable(one[1].name) is immutable])

    def _tags_of(self, root: Root) -> list[Named]:
        part = self._by_source[root.selected.place.location].part
        name = root.selected.as_tag or root.selected.tag
        return [tag for tag in part.tags if (tag.name, tag.digest) == (name, root.selected.digest)]

    def _set_tag(self, work: tuple[Root, Named]) -> None:
        root, named = work
        target = self._by_source[root.selected.place.location]
        if (target.destination.location, named.name) in self._tags_there:
            with self._lock:
                self._report.there_tags += 1
            return
        where = f"tag {named.name} of {target.destination.location}"
        try:
            self._check(root.selected.place, [root.selected.digest])
            for image in root.images:
                self._check(image.found.place, [image.found.digest])
            item = target.part.find(named.digest)
            if item is None:
                return
            action = write_tag(self._stores.at(target.destination), item, named, force=self._force)
        except (AccessDenied, Interrupted):
            raise
        except OcisyncError as error:
            self._fail(root.selected.place, root.selected.digest, where, error)
            return
        with self._lock:
            if action is TagAction.THERE:
                self._report.there_tags += 1
            elif action is TagAction.KEPT:
                self._report.kept_tags.append(f"{target.destination.location}:{named.name}")
            else:
                self._report.tags += 1

    # -- bookkeeping ------------------------------------------------------------------------------

    def _count(self, what: str, amount: int = 1) -> None:
        with self._lock:
            setattr(self._report, what, getattr(self._report, what) + amount)

    def _fail(self, place: Place, digest: str, subject: str, error: OcisyncError) -> None:
        with self._lock:
            known = any(one.error is error for one in self._report.failures)
            self._lost.setdefault((place.location, digest), error)
            if not known:
                self._report.failures.append(Failure(subject, error))
                self._silences += isinstance(error, Unavailable)
            if self._silences >= MAX_SILENCES:
                raise error


def _once(closure: Closure) -> list[Root]:
    """One root for each digest of a repository: their members are the same."""
    return list({(root.selected.place.location, root.selected.digest): root for root in closure.roots}.values())


def _transfers(plans: Sequence[RepositoryPlan]) -> list[_Transfer]:
    """Blobs with their targets, large ones first: the last worker shall not be left with the largest."""
    targets: dict[str, list[RepositoryPlan]] = {}
    blobs: dict[str, Descriptor] = {}
    for plan in plans:
        for blob in plan.blobs:
            blobs[blob.digest] = blob
            targets.setdefault(blob.digest, []).append(plan)
    ordered = sorted(blobs.values(), key=lambda blob: (-blob.size, blob.digest))
    return [_Transfer(blob, tuple(targets[blob.digest])) for blob in ordered]


def _linkable(target: RepositoryPlan, have: dict[str, str]) -> list[str]:
    """Repositories of the destination's registry that have a blob."""
    destination, source = target.destination, target.part.place
    if not isinstance(destination, Reference):
        return []
    found = [have[destination.host]] if destination.host in have else []
    if isinstance(source, Reference) and source.host == destination.host:
        found.append(source.repository)
    return found


class _Counted(io.RawIOBase):
    """A stream that goes forward only, and counts what is read from it."""

    def __init__(self, stream: BinaryIO, stop: StopToken, moved: Callable[[int], None]) -> None:
        self._stream = stream
        self._stop = stop
        self._moved = moved
        self.count = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, amount: int = -1, /) -> bytes:
        """Return `amount` bytes; fewer only at the end."""
        self._stop.check()
        data = self._stream.read(amount)
        self.count += len(data)
        self._moved(len(data))
        return data
