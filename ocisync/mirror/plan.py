"""What a copy would do: the closure, what the destination has of it, and what is left to move.

`examine` asks the destination and writes nothing; the rules for tags are pure. A version tag or a commit's tag never
takes other content (exit code 4) unless that is forced. The tag of an image never takes the place of another: who wants
the image has its digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ocisync.kit.pool import map_bounded
from ocisync.mirror.beside import MERGED_SUFFIXES, union
from ocisync.mirror.closure import Beside, Closure, Item, Named, RepositoryClosure
from ocisync.mirror.stores import Stores
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import NotFound, Refused, UsageError
from ocisync.model.ref import Place, is_commit_tag, is_semver_tag
from ocisync.oci.store import Store


class TagAction(StrEnum):
    """What happens to a tag."""

    SET = "Set"
    MOVE = "Move"
    THERE = "There"
    KEPT = "Kept"  # it holds something else, and stays
    REFUSED = "Refused"


class BesideAction(StrEnum):
    """What happens to a signature tag."""

    COPY = "Copy"
    MERGE = "Merge"
    THERE = "There"


@dataclass(frozen=True, slots=True)
class TagPlan:
    """A tag, what it holds now (empty: nothing), and what happens to it."""

    named: Named
    current: str
    action: TagAction

    @property
    def writes(self) -> bool:
        """Whether it is set."""
        return self.action in (TagAction.SET, TagAction.MOVE)


@dataclass(frozen=True, slots=True)
class BesidePlan:
    """A signature tag and what happens to it."""

    beside: Beside
    action: BesideAction


@dataclass(frozen=True, slots=True)
class RepositoryPlan:
    """One repository.

    Attributes:
        missing: manifests that are not at the destination.
        unlisted: referrers that the destination does not list for their subject.
        blobs: that are not at the destination, of what has to be written.
    """

    part: RepositoryClosure
    destination: Place
    missing: frozenset[str]
    unlisted: frozenset[str]
    blobs: tuple[Descriptor, ...]
    beside: tuple[BesidePlan, ...]
    tags: tuple[TagPlan, ...]

    @property
    def writes(self) -> bool:
        """Whether anything is left to do."""
        return (
            bool(self.missing or self.unlisted or self.blobs)
            or any(one.action is not BesideAction.THERE for one in self.beside)
            or any(tag.writes for tag in self.tags)
        )

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "source": self.part.place.location,
            "destination": self.destination.location,
            "manifests": [_item_json(item, item.digest in self.missing) for item in self.part.items],
            "blobs": {
                "count": len(self.part.blobs()),
                "bytes": sum(blob.size for blob in self.part.blobs().values()),
                "toMove": len(self.blobs),
                "bytesToMove": sum(blob.size for blob in self.blobs),
            },
            "signatureTags": [
                {"tag": one.beside.tag, "subject": one.beside.subject, "action": one.action.value}
                for one in self.beside
            ],
            "tags": [
                {"tag": tag.named.name, "digest": tag.named.digest, "current": tag.current, "action": tag.action.value}
                for tag in self.tags
            ],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole copy."""

    closure: Closure
    repositories: tuple[RepositoryPlan, ...]

    @property
    def writes(self) -> bool:
        """Whether anything is left to do."""
        return any(one.writes for one in self.repositories)

    @property
    def bytes_to_move(self) -> int:
        """Of blobs. What several repositories of one registry lack counts for each: it may be linked, or not."""
        return sum(blob.size for one in self.repositories for blob in one.blobs)

    @property
    def refused(self) -> tuple[str, ...]:
        """Sentences about tags that must not change."""
        return tuple(
            f"tag {tag.named.name} of {one.destination.location} never moves and has other content: {tag.current},"
            f" not {tag.named.digest}"
            for one in self.repositories
            for tag in one.tags
            if tag.action is TagAction.REFUSED
        )

    def require_allowed(self) -> None:
        """Refuse a plan that would change what never changes.

        Raises:
            Refused: naming the first tag.
        """
        if self.refused:
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            raise Refused(
                self.refused[0] + more,
                reason="TagImmutable",
                hint="leave it out, or replace it for everyone with --force-tag",
            )

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "artifacts": [
                {
                    "source": str(root.selected),
                    "digest": root.selected.digest,
                    "tag": root.selected.as_tag or root.selected.tag,
                    "role": root.role.value,
                    "images": [
                        {"image": image.repository, "digest": image.found.digest, "found": image.found.place.location}
                        for image in root.images
                    ],
                }
                for root in self.closure.roots
            ],
            "repositories": [one.as_json() for one in self.repositories],
            "bytesToMove": self.bytes_to_move,
            "changes": self.writes,
            "refused": list(self.refused),
            "notes": list(self.closure.notes),
        }


def _item_json(item: Item, missing: bool) -> dict[str, Any]:
    descriptor = item.manifest.descriptor
    out: dict[str, Any] = {
        "digest": item.digest,
        "role": item.role.value,
        "mediaType": descriptor.media_type,
        "size": descriptor.size + sum(blob.size for blob in item.blobs),
        "there": not missing,
    }
    if descriptor.artifact_type:
        out["artifactType"] = descriptor.artifact_type
    if item.subject:
        out["subject"] = item.subject
    return out


def is_immutable(tag: str) -> bool:
    """Whether a tag holds one thing for ever: a version or a commit."""
    return is_semver_tag(tag) or is_commit_tag(tag)


def decide_tag(named: Named, current: str, *, force: bool) -> TagAction:
    """What happens to a tag that holds `current` now."""
    if current == named.digest:
        return TagAction.THERE
    if not current:
        return TagAction.SET
    if is_immutable(named.name) and not force:
        return TagAction.KEPT if named.soft else TagAction.REFUSED
    return TagAction.MOVE


def examine(
    closure: Closure, routes: Mapping[str, Place], stores: Stores, *, force_tag: bool = False, workers: int = 4
) -> Plan:
    """Ask the destination what it has.

    Args:
        closure: to be copied.
        routes: destination by the location of the source.
        stores: of both sides.
        force_tag: tags that never move may move.
        workers: requests at a time.

    Raises:
        UsageError: two sources have one destination, or a source is its own.
    """
    check_routes(closure, routes)
    plans = [
        _Examination(part, routes[part.place.location], stores, workers).run(force_tag) for part in closure.repositories
    ]
    return Plan(closure, tuple(plans))


def check_routes(closure: Closure, routes: Mapping[str, Place]) -> None:
    """Refuse destinations that would mix things up.

    Raises:
        UsageError: two sources have one destination, or a source is its own.
    """
    taken: dict[str, str] = {}
    for part in closure.repositories:
        source, destination = part.place.location, routes[part.place.location].location
        if source == destination:
            raise UsageError(f"{source} would be copied to itself")
        if taken.setdefault(destination, source) != source:
            raise UsageError(f"both {taken[destination]} and {source} would be copied to {destination}")


class _Examination:
    def __init__(self, part: RepositoryClosure, destination: Place, stores: Stores, workers: int) -> None:
        self._part = part
        self._destination = destination
        self._store: Store = stores.at(destination)
        self._workers = workers

    def run(self, force_tag: bool) -> RepositoryPlan:
        part, store = self._part, self._store
        tags = map_bounded(lambda tag: _plan_tag(store, tag, force_tag), part.tags, workers=self._workers)
        beside = tuple(map_bounded(self._beside, part.beside, workers=self._workers))
        missing, unlisted = self._look({tag.current for tag in tags})
        wanted = {blob.digest: blob for item in part.items if item.digest in missing for blob in item.blobs}
        for one in beside:
            if one.action is not BesideAction.THERE:
                wanted |= {blob.digest: blob for blob in one.beside.item.blobs}
        return RepositoryPlan(
            part,
            self._destination,
            missing,
            unlisted,
            self._absent(list(wanted.values())),
            beside,
            tuple(tags),
        )

    def _absent(self, blobs: Sequence[Descriptor]) -> tuple[Descriptor, ...]:
        has = map_bounded(lambda blob: self._store.has_blob(blob.digest), blobs, workers=self._workers)
        return tuple(blob for blob, there in zip(blobs, has, strict=True) if not there)

    def _look(self, named: set[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Which manifests are missing, and which referrers have to be attached.

        What a tag there names is there, and so is what the referrers API lists; everything else is asked for. So
        subjects come before what refers to them.
        """
        known, missing, listed = set(named), set[str](), set[tuple[str, str]]()
        referred = {item.subject for item in self._part.items}
        for level in _levels(self._part):
            unknown = [item for item in level if item.digest not in known]
            heads = map_bounded(lambda item: self._store.resolve(item.digest), unknown, workers=self._workers)
            missing |= {item.digest for item, head in zip(unknown, heads, strict=True) if head is None}
            subjects = [item.digest for item in level if item.digest in referred and item.digest not in missing]
            answers = map_bounded(self._store.referrers, subjects, workers=self._workers)
            for subject, answer in zip(subjects, answers, strict=True):
                listed |= {(subject, found.digest) for found in answer.descriptors}
                if answer.api and not answer.from_tag:
                    known |= {found.digest for found in answer.descriptors}
        unlisted = {
            item.digest
            for item in self._part.referrers()
            if item.digest in missing or (item.subject, item.digest) not in listed
        }
        return frozenset(missing), frozenset(unlisted)

    def _beside(self, beside: Beside) -> BesidePlan:
        return BesidePlan(beside, decide_beside(self._store, beside))


def _levels(part: RepositoryClosure) -> list[list[Item]]:
    """The items by how many others they refer to in a row; those that refer to none come first."""
    depth: dict[str, int] = {}
    levels: list[list[Item]] = []
    for item in part.items:  # subjects come before what refers to them
        depth[item.digest] = depth.get(item.subject, -1) + 1
        while len(levels) <= depth[item.digest]:
            levels.append([])
        levels[depth[item.digest]].append(item)
    return levels


def decide_beside(store: Store, beside: Beside) -> BesideAction:
    """What happens to a signature tag; asks the destination.

    Raises:
        Refused: the tag holds something there that cannot be brought together with ours.
    """
    current = store.resolve(beside.tag)
    if current is None:
        return BesideAction.COPY
    if current.digest == beside.item.digest:
        return BesideAction.THERE
    if beside.suffix not in MERGED_SUFFIXES:
        return BesideAction.COPY
    try:
        theirs = store.manifest(beside.tag)
    except NotFound:
        return BesideAction.COPY
    merged = union(beside.item.manifest, theirs)
    if merged is None:
        return BesideAction.THERE
    return BesideAction.MERGE if merged.config else BesideAction.COPY


def _plan_tag(store: Store, named: Named, force_tag: bool) -> TagPlan:
    found = store.resolve(named.name)
    current = found.digest if found is not None else ""
    return TagPlan(named, current, decide_tag(named, current, force=force_tag))
