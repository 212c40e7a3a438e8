"""From a file's head to closures, and a verdict on each of their roots, before anything is written.

Judged is everything that a tag would name and everything that nothing else in the file leads to, under the name that it
will have at the destination, by that side's policies, from the evidence that the contents list for its own repository.
What the file says of itself decides nothing, except that a root may call itself an image: images are judged where a
policy matches their repository, and let through, marked so, where none does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, collect_within_limits, examine_reference
from ocisync.kit.pool import map_bounded
from ocisync.mirror.archive import Head
from ocisync.mirror.closure import Closure, Item, NamedImage, RepositoryClosure, Role, Root, Selected, read_item
from ocisync.mirror.contents import Part, RootEntry
from ocisync.mirror.describe import rebuild, tags_beside
from ocisync.mirror.headstore import HeadStore
from ocisync.mirror.stores import Stores
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.errors import NotFound, Refused
from ocisync.model.ref import Place, parse_reference
from ocisync.model.spec import SelectorKind
from ocisync.oci.store import Store
from ocisync.policy.evaluate import Subject, judge
from ocisync.signing.check import examine

NOT_JUDGED = "no policy matches its repository; images are judged where one does"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a file brings to one repository.

    Attributes:
        part: what the contents say.
        destination: where it goes; None when a file is only looked at.
        closure: with what is needed from the destination.
        roots: what has to be judged.
        others: what nothing new leads to but a manifest that is there already; it brings evidence for that.
    """

    part: Part
    destination: Place | None
    closure: RepositoryClosure
    roots: tuple[Root, ...]
    others: tuple[Root, ...]
    store: HeadStore


@dataclass(frozen=True, slots=True)
class Judged:
    """A root and what the policies say of it. `judged`: false for an image that no policy matches."""

    root: Root
    name: str
    verdict: Verdict
    judged: bool = True

    @property
    def allowed(self) -> bool:
        """Whether it may be imported."""
        return self.verdict.allowed or not self.judged


def open_parts(
    head: Head, what: str, routes: Mapping[str, Place] | None, stores: Stores | None, workers: int
) -> tuple[Delivery, ...]:
    """Read the head's manifests; of a delta, look for what it needs at the destination.

    Raises:
        Refused: the contents are not whole, or the destination lacks what a delta builds on (`BaseMissing`).
    """
    found = []
    for part in head.contents.parts:
        destination = routes[part.name] if routes is not None else None
        below = stores.at(destination) if stores is not None and destination is not None else None
        needed = _needed(part, below, what, workers) if below is not None else ()
        known = {item.digest for item in needed}
        if below is None and part.needs_manifests:
            part = replace(part, tags=tuple(tag for tag in part.tags if tag.digest not in part.needs_manifests))
        items = rebuild(part, head.data, needed, what, tolerate=frozenset(part.needs_manifests) - known)
        found.append(_delivery(part, destination, items, head, below if head.contents.base else None))
    return tuple(found)


def _needed(part: Part, below: Store, what: str, workers: int) -> tuple[Item, ...]:
    def read(digest: str) -> Item | None:
        try:
            return read_item(below.manifest(digest), Role.ARTIFACT)
        except NotFound:
            return None

    items = map_bounded(read, part.needs_manifests, workers=workers)
    has = map_bounded(below.has_blob, part.needs_blobs, workers=workers)
    missing = [f"manifest {d}" for d, item in zip(part.needs_manifests, items, strict=True) if item is None]
    missing += [f"blob {digest}" for digest, there in zip(part.needs_blobs, has, strict=True) if not there]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise Refused(
            f"{what} is a delta, and {below.repository} lacks {missing[0]}{more} on which it builds",
            reason="BaseMissing",
            hint="load the file that it builds on first, or ask for one that is saved without --since",
        )
    return tuple(item for item in items if item is not None)


def _delivery(
    part: Part, destination: Place | None, items: tuple[Item, ...], head: Head, below: Store | None
) -> Delivery:
    known = {item.digest for item in items}
    part = replace(
        part,
        beside=tuple(one for one in part.beside if one.digest in known),
        roots=tuple(root for root in part.roots if root.digest in known),
    )
    beside = tags_beside(part, items)
    repository = destination.repository if destination is not None else part.name
    store = HeadStore(repository, items, beside, head.data, below)
    # imgpkg names what it copied after itself, too: that is no signature of something else.
    besides = {one.digest for one in part.beside if one.digest != one.subject} - {tag.digest for tag in part.tags}
    own = tuple(item for item in items if item.digest not in besides)
    place = parse_reference(part.name)
    closure = RepositoryClosure(place, own, beside, part.tags)
    roots, others = _roots(part, closure)
    return Delivery(part, destination, closure, roots, others, store)


def _roots(part: Part, closure: RepositoryClosure) -> tuple[tuple[Root, ...], tuple[Root, ...]]:
    entries = {(root.tag, root.digest): root for root in part.roots}
    for tag in part.tags:  # whatever a tag will name is judged, listed as a root or not
        entries.setdefault((tag.name, tag.digest), RootEntry(tag.digest, tag.name, SelectorKind.TAG, Role.ARTIFACT))
    members_of = _Members(closure)
    roots = [_root(closure, entry, members_of.of(entry.digest)) for entry in entries.values()]
    covered = {digest for root in roots for digest in root.members}
    inner = {digest for item in closure.items for digest in item.parts} | {i.digest for i in closure.referrers()}
    others: list[Root] = []
    for item in closure.items:
        if item.digest in covered or item.digest in inner:
            continue
        made = _root(
            closure, RootEntry(item.digest, "", SelectorKind.DIGEST, Role.ARTIFACT), members_of.of(item.digest)
        )
        beside_known = item.digest in part.needs_manifests or item.subject in part.needs_manifests
        (others if beside_known else roots).append(made)
    return tuple(roots), tuple(others)


def _root(closure: RepositoryClosure, entry: RootEntry, members: tuple[str, ...]) -> Root:
    selected = Selected(closure.place, entry.tag, entry.digest, entry.kind)
    images = tuple(
        NamedImage(one.repository, Selected(parse_reference(one.repository), "", one.digest, SelectorKind.DIGEST))
        for one in entry.images
    )
    return Root(selected, entry.role, members, images)


class _Members:
    """What belongs to a manifest: its parts, and what refers to any of them."""

    def __init__(self, closure: RepositoryClosure) -> None:
        self._parts = {item.digest: item.parts for item in closure.items}
        self._referrers: dict[str, list[str]] = {}
        for item in closure.referrers():
            self._referrers.setdefault(item.subject, []).append(item.digest)

    def of(self, digest: str) -> tuple[str, ...]:
        seen: dict[str, None] = {}
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if one not in seen and one in self._parts:
                seen[one] = None
                waiting += [*self._parts[one], *self._referrers.get(one, ())]
        return tuple(seen)


# -- verdicts -------------------------------------------------------------------------------------


def judge_all(
    deliveries: Sequence[Delivery], trust: Callable[[str], TrustSet], now: datetime, *, images: bool = True
) -> tuple[Judged, ...]:
    """Judge every root. `images`: false if the trust is about artifacts only, as bare keys are."""
    return tuple(
        _judge(root, one.store, trust(one.store.repository) if images or root.role is not Role.IMAGE else None, now)
        for one in deliveries
        for root in one.roots
    )


def _judge(root: Root, store: HeadStore, trust: TrustSet | None, now: datetime) -> Judged:
    repository, chosen = store.repository, root.selected
    name = f"{repository}:{chosen.tag}" if chosen.tag else f"{repository}@{chosen.digest}"
    if trust is None:
        return _not_judged(root, name)
    if root.role is Role.IMAGE:
        return _judge_image(root, name, store, trust, now)
    request = Request(repository, chosen.kind, chosen.tag, chosen.digest)
    return Judged(root, name, examine_reference(store, trust, request, now=now).verdict)


def _not_judged(root: Root, name: str) -> Judged:
    return Judged(root, name, Verdict(False, VerdictReason.NO_POLICY, NOT_JUDGED), judged=False)


def _judge_image(root: Root, name: str, store: HeadStore, trust: TrustSet, now: datetime) -> Judged:
    """An image is any manifest or index, so only its signatures are judged."""
    chosen, selection = root.selected, trust.select(store.repository)
    if not selection.matched and not selection.problem:
        return _not_judged(root, name)
    evidence = collect_within_limits(store, chosen.digest)
    keys, roots = trust.keys_for(store.repository), trust.roots_for(store.repository)
    examined = [examine(item, keys, chosen.digest, roots) for item in evidence.items]
    subject = Subject(store.repository, chosen.digest, chosen.kind, chosen.tag, "")
    verdict = judge(selection, examined, subject, now, 0, truncated=evidence.truncated)
    return Judged(root, name, verdict)


# -- what is imported -----------------------------------------------------------------------------


def kept(deliveries: Sequence[Delivery], judged: Sequence[Judged]) -> tuple[Closure, tuple[Judged, ...]]:
    """What passed and what it needs; and what did not, or needs what did not."""
    refused = {one.root.selected: one for one in judged if not one.allowed}
    bad_images = {_key(one.root) for one in refused.values() if one.root.role is Role.IMAGE}
    for one in judged:
        lacking = [image for image in one.root.images if (image.repository, image.found.digest) in bad_images]
        if one.allowed and lacking:
            message = f"its image {lacking[0].repository}@{lacking[0].found.digest} is refused"
            verdict = replace(one.verdict, allowed=False, reason=VerdictReason.BAD_ARTIFACT, message=message)
            refused[one.root.selected] = replace(one, verdict=verdict, judged=True)
    named = {(i.repository, i.found.digest) for one in judged for i in one.root.images}
    wanted = {
        (i.repository, i.found.digest) for one in judged for i in one.root.images if one.root.selected not in refused
    }
    roots: list[Root] = []
    parts: list[RepositoryClosure] = []
    for delivery in deliveries:
        good = [
            root
            for root in delivery.roots
            if root.selected not in refused
            and (root.role is not Role.IMAGE or _key(root) not in named or _key(root) in wanted)
        ]
        good += delivery.others
        part = _reduced(delivery.closure, good)
        if part.items:
            parts.append(part)
            roots += good
    return Closure(tuple(parts), tuple(roots)), tuple(refused.values())


def _key(root: Root) -> tuple[str, str]:
    return root.selected.place.repository, root.selected.digest


def _reduced(closure: RepositoryClosure, roots: Iterable[Root]) -> RepositoryClosure:
    chosen = list(roots)
    members = {digest for root in chosen for digest in root.members}
    names = {(root.selected.tag, root.selected.digest) for root in chosen}
    return RepositoryClosure(
        closure.place,
        tuple(item for item in closure.items if item.digest in members),
        tuple(one for one in closure.beside if one.subject in members),
        tuple(tag for tag in closure.tags if (tag.name, tag.digest) in names),
    )


def refusal(refused: Sequence[Judged], what: str, *, partial: bool = False) -> Refused:
    """One error for all that was refused: it names the first, its rule, and how many more there are."""
    first = refused[0]
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    end = "" if partial else "; nothing was written"
    return Refused(
        f"{what}: {first.name} is refused: {first.verdict.message}{more}{end}",
        reason=first.verdict.reason.value,
        hint=first.verdict.hint or ("" if partial else "with --partial, what passes is imported"),
    )
