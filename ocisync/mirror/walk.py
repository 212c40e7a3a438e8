"""Collect a closure: read everything that belongs to selected artifacts, and nothing else.

For each manifest: what an index lists, then itself, then what refers to it (the referrers API and the fallback tag,
added up), and the tags that belong to it by name. All of it recursively and within `model.limits`; more than that is
refused, since a mirror must not lose things silently. Lists of referrers are claims: an entry that is gone, that is no
manifest, or that refers to something else is left out and noted. Everything else that is missing is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ocisync.kit.pool import map_bounded
from ocisync.mirror.closure import (
    Beside,
    Closure,
    Item,
    Named,
    NamedImage,
    RepositoryClosure,
    Role,
    Root,
    Selected,
    read_item,
    refers_to,
)
from ocisync.mirror.images import find_named, is_bundle, locate, locations_of
from ocisync.mirror.stores import Stores
from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import AccessDenied, NotFound, Refused
from ocisync.model.image import ImagePath
from ocisync.model.limits import CLOSURE_BYTES, CLOSURE_DEPTH, CLOSURE_IMAGES, CLOSURE_MANIFESTS
from ocisync.model.ref import Place, fallback_tag
from ocisync.oci.documents import INDEX_TYPES, MANIFEST_TYPES, descriptor_of, index_entries, parse_json
from ocisync.oci.store import ListingStore, Manifest, Referrers, Store

LEGACY_SUFFIXES = ("sig", "att", "sbom")
_GONE = "try again: the source may have changed meanwhile"


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """How to collect.

    Attributes:
        workers: artifacts at a time.
        images: the images that manifests name belong to the closure.
        image_paths: image fields besides those of pod templates.
        images_from: prefixes of image names, and where to read such images instead.
        step: told what is being read.
    """

    workers: int = 4
    images: bool = False
    image_paths: tuple[ImagePath, ...] = ()
    images_from: tuple[tuple[str, str], ...] = ()
    step: Callable[[str], None] = _silent


class Budget:
    """What the manifests of one run may add up to; shared by threads."""

    def __init__(self, manifests: int = CLOSURE_MANIFESTS, size_bytes: int = CLOSURE_BYTES) -> None:
        self._lock = threading.Lock()
        self._manifests = manifests
        self._bytes = size_bytes

    def spend(self, size_bytes: int) -> None:
        """Count one manifest.

        Raises:
            Refused: that was too much.
        """
        with self._lock:
            self._manifests -= 1
            self._bytes -= size_bytes
            if self._manifests < 0 or self._bytes < 0:
                raise Refused(
                    f"the closure has more than {CLOSURE_MANIFESTS} manifests or {CLOSURE_BYTES} bytes of them",
                    reason="TooLarge",
                    hint="mirror less at once, for example with --newest",
                )


@dataclass
class _Found:
    """What one root led to."""

    items: dict[str, Item] = field(default_factory=dict)
    beside: dict[str, Beside] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Repository:
    """Reads one repository; its tags are listed once."""

    def __init__(self, store: Store, place: Place, budget: Budget) -> None:
        self._store = store
        self._place = place
        self._budget = budget
        self._lock = threading.Lock()
        self._reserved: dict[str, set[str]] | None = None
        self._listed = False

    def root(self, selected: Selected, role: Role) -> _Found:
        found = _Found()
        if selected.manifest is None:
            self._visit(selected.digest, role, found, 0)
        else:
            self._budget.spend(len(selected.manifest.raw))
            self._take(selected.manifest, role, found, 0)
        return found

    def _visit(self, digest: str, role: Role, found: _Found, depth: int) -> None:
        if digest in found.items:
            return
        if depth > CLOSURE_DEPTH:
            raise Refused(f"{self._place.location}@{digest}: nested deeper than {CLOSURE_DEPTH}", reason="TooLarge")
        self._take(self._read(digest), role, found, depth)

    def _take(self, manifest: Manifest, role: Role, found: _Found, depth: int) -> None:
        item = read_item(manifest, role)
        for part in item.parts:
            try:
                self._visit(part, Role.PART, found, depth + 1)
            except NotFound as error:
                message = f"{self._place.location}@{item.digest} lists {part}, which is not there"
                raise NotFound(message, hint=_GONE) from error
        found.items[item.digest] = item
        is_root = role in (Role.ARTIFACT, Role.IMAGE)
        for descriptor in self._referrers(item.digest, found, probe=is_root):
            self._referrer(descriptor, item.digest, found, depth + 1)
        self._beside(item, found, probe=is_root)

    def _read(self, ref: str) -> Manifest:
        manifest = self._store.manifest(ref)
        self._budget.spend(len(manifest.raw))
        return manifest

    # -- referrers --------------------------------------------------------------------------------

    def _referrers(self, digest: str, found: _Found, *, probe: bool) -> Iterator[Descriptor]:
        """What the API and the fallback tag list, each entry once.

        Most of a closure has no referrers: unless it is a root, its fallback tag is asked for only if there is one.
        """
        listed: Referrers | None
        if (
            not probe
            and isinstance(self._store, ListingStore)
            and fallback_tag(digest) not in self._reserved_tags(digest)
        ):
            listed = self._store.api_referrers(digest) or Referrers(())
        else:
            listed = self._store.referrers(digest)
        if listed.truncated:
            raise Refused(
                f"{self._place.location}@{digest} has more referrers than are read: some would be lost",
                reason="TooLarge",
            )
        found.notes += [f"{self._place.location}: {problem}" for problem in listed.problems]
        descriptors = {item.digest: item for item in listed.descriptors}
        if listed.api and listed.descriptors and fallback_tag(digest) in self._reserved_tags(digest):
            for item in self._fallback(digest):
                descriptors.setdefault(item.digest, item)
        return iter(descriptors.values())

    def _fallback(self, digest: str) -> list[Descriptor]:
        """What clients kept at the tag before the registry had the API."""
        try:
            manifest = self._store.manifest(fallback_tag(digest))
            if manifest.descriptor.media_type not in INDEX_TYPES:
                return []
            entries = index_entries(parse_json(manifest.raw, fallback_tag(digest)), fallback_tag(digest))
        except (NotFound, Refused):
            return []
        return [item for entry in entries if (item := descriptor_of(entry)) is not None]

    def _referrer(self, descriptor: Descriptor, subject: str, found: _Found, depth: int) -> None:
        if descriptor.digest in found.items:
            return
        name = f"{self._place.location}@{descriptor.digest}, listed as a referrer of {subject},"
        if descriptor.media_type not in MANIFEST_TYPES:
            found.notes.append(f"{name} is left out: {descriptor.media_type[:100]} is no manifest type")
            return
        if depth > CLOSURE_DEPTH:
            raise Refused(f"{name} is nested deeper than {CLOSURE_DEPTH}", reason="TooLarge")
        try:
            manifest = self._read(descriptor.digest)
            read_item(manifest, Role.REFERRER)
        except NotFound:
            found.notes.append(f"{name} is left out: it is not there")
            return
        except Refused as error:
            self._leave_out(name, error, found)
            return
        if not refers_to(manifest, subject):
            found.notes.append(f"{name} is left out: it refers to something else")
            return
        self._take(manifest, Role.REFERRER, found, depth)

    # -- tags beside a digest ---------------------------------------------------------------------

    def _reserved_tags(self, digest: str) -> set[str]:
        """The tags that begin with the fallback tag of a digest; nothing if the registry lists no tags."""
        with self._lock:
            if not self._listed:
                self._listed = True
                try:
                    self._reserved = _by_prefix(self._store.tags())
                except (NotFound, AccessDenied, Refused):
                    self._reserved = None  # then each is asked for
            known = self._reserved
        prefix = fallback_tag(digest)
        if known is None:
            return {f"{prefix}.{suffix}" for suffix in LEGACY_SUFFIXES} | {prefix}
        return set(known.get(prefix, ()))

    def _beside(self, item: Item, found: _Found, *, probe: bool) -> None:
        """Signature tags and the like. Lists of tags can lag behind, so those of roots are asked for by name."""
        prefix = fallback_tag(item.digest)
        tags = self._reserved_tags(item.digest) - {prefix}
        if probe:
            tags |= {f"{prefix}.{suffix}" for suffix in LEGACY_SUFFIXES}
        for tag in sorted(tags):
            try:
                manifest = self._read(tag)
                itself = manifest.descriptor.digest == item.digest
                beside = item if itself else read_item(manifest, Role.REFERRER)
            except NotFound:
                continue
            except Refused as error:
                self._leave_out(f"{self._place.location}:{tag}", error, found)
                continue
            if manifest.descriptor.media_type in INDEX_TYPES and not itself:
                found.notes.append(f"{self._place.location}:{tag} is left out: it is an index")
                continue
            found.beside[tag] = Beside(tag, item.digest, beside)

    @staticmethod
    def _leave_out(name: str, error: Refused, found: _Found) -> None:
        """Note what is broken: whoever may write to the source must not be able to stop everybody's mirror with it.

        Raises:
            Refused: the closure as a whole is too large.
        """
        if error.reason == "TooLarge":
            raise error
        found.notes.append(f"{name} is left out: {error.message}")


def _by_prefix(tags: Iterable[str]) -> dict[str, set[str]]:
    """Tags that belong to digests, by the part of the name that says to which."""
    found: dict[str, set[str]] = {}
    for tag in tags:
        if tag.startswith("sha256-"):
            found.setdefault(tag.partition(".")[0], set()).add(tag)
    return found


def collect(selected: Sequence[Selected], stores: Stores, options: WalkOptions = WalkOptions()) -> Closure:
    """Read the closure of what was selected. Nothing is written.

    Raises:
        NotFound: something that belongs to it is gone.
        Refused: content that is not what its digest says, that cannot be mirrored whole, or is too much.
        InvalidInput: images are wanted, and a manifest cannot be read.
    """
    return _Collector(stores, options).run(selected)


class _Collector:
    def __init__(self, stores: Stores, options: WalkOptions) -> None:
        self._stores = stores
        self._options = options
        self._budget = Budget()
        self._repositories: dict[str, _Repository] = {}
        self._lock = threading.Lock()
        self._notes: list[str] = []

    def run(self, selected: Sequence[Selected]) -> Closure:
        groups = _by_digest(selected)
        walked = map_bounded(self._walk_artifact, [group[0] for group in groups], workers=self._options.workers)
        named: list[list[NamedImage]] = [[] for _ in groups]
        images: dict[tuple[str, str], tuple[list[Selected], _Found]] = {}
        if self._options.images:
            pairs = [(group[0], found) for group, found in zip(groups, walked, strict=True)]
            first = map_bounded(self._images, pairs, workers=self._options.workers)
            images = self._with_bundles(named, first)
        roots = [
            Root(one, Role.ARTIFACT, tuple(found.items), tuple(dict.fromkeys(theirs)))
            for group, found, theirs in zip(groups, walked, named, strict=True)
            for one in group
        ]
        parts = [(group[0].place, found) for group, found in zip(groups, walked, strict=True)]
        for group, found in images.values():
            parts.append((group[0].place, found))
            roots += [Root(one, Role.IMAGE, tuple(found.items)) for one in group]
        for _, found in parts:
            self._notes += found.notes
        return Closure(_assemble(parts, roots), tuple(roots), tuple(dict.fromkeys(self._notes)))

    def _with_bundles(
        self, named: list[list[NamedImage]], first: Sequence[_Named]
    ) -> dict[tuple[str, str], tuple[list[Selected], _Found]]:
        """Read the images of each artifact, and those of bundles among them, and so on. Fills in `named`."""
        walked: dict[tuple[str, str], tuple[list[Selected], _Found]] = {}
        inner: dict[tuple[str, str], _Named] = {}
        asked = list(first)
        for _ in range(CLOSURE_DEPTH):
            self._walk_images([image.found for one in asked for image in one.images], walked)
            for theirs, one in zip(named, asked, strict=True):
                theirs += one.images
            wanted = {_key(image.found): image.found for one in asked for image in one.images if one.may_nest(image)}
            fresh = [found for key, found in wanted.items() if key not in inner]
            pairs = [(found, walked[_key(found)][1]) for found in fresh]
            read = map_bounded(self._nested, pairs, workers=self._options.workers)
            inner.update(zip([_key(found) for found in fresh], read, strict=True))
            asked = [_joined(inner[_key(i.found)] for i in one.images if one.may_nest(i)) for one in asked]
            if not any(one.images for one in asked):
                return walked
        raise Refused(f"bundles are nested deeper than {CLOSURE_DEPTH}", reason="TooLarge")

    def _walk_images(
        self, images: Iterable[Selected], walked: dict[tuple[str, str], tuple[list[Selected], _Found]]
    ) -> None:
        groups = _by_digest(list(dict.fromkeys(images)))
        fresh = [group for group in groups if _key(group[0]) not in walked]
        if len(walked) + len(fresh) > CLOSURE_IMAGES:
            count = len(walked) + len(fresh)
            raise Refused(f"the manifests name {count} images, more than {CLOSURE_IMAGES}", reason="TooLarge")
        for group in groups:
            if _key(group[0]) in walked:
                known = walked[_key(group[0])][0]
                known += [one for one in group if one not in known]
        found = map_bounded(self._walk_image, [group[0] for group in fresh], workers=self._options.workers)
        walked.update((_key(group[0]), (group, one)) for group, one in zip(fresh, found, strict=True))

    def _walk_artifact(self, selected: Selected) -> _Found:
        self._options.step(f"reading {selected}")
        return self._repository(selected.place).root(selected, Role.ARTIFACT)

    def _walk_image(self, selected: Selected) -> _Found:
        self._options.step(f"reading image {selected}")
        return self._repository(selected.place).root(selected, Role.IMAGE)

    def _repository(self, place: Place) -> _Repository:
        with self._lock:
            found = self._repositories.get(place.location)
        if found is None:
            made = _Repository(self._stores.at(place), place, self._budget)
            with self._lock:
                found = self._repositories.setdefault(place.location, made)
        return found

    def _images(self, work: tuple[Selected, _Found]) -> _Named:
        selected, found = work
        self._options.step(f"looking for images in {selected}")
        store = self._stores.at(selected.place)
        names = find_named(store, found.items[selected.digest], str(selected), self._options.image_paths)
        if len(names.images) > CLOSURE_IMAGES:  # before each of them is asked for
            raise Refused(f"{selected} names {len(names.images)} images, more than {CLOSURE_IMAGES}", reason="TooLarge")
        beside, note = locations_of(store, selected.digest, found.beside)
        self._notes += [*names.notes, *([note] if note and names.images else [])]
        moves, first = self._options.images_from, beside is not None
        images = tuple(
            locate(name, selected.place, self._stores, moves, first=first, last=names.locked) for name in names.images
        )
        return _Named(images, names.locked, beside.bundles if beside is not None else {})

    def _nested(self, work: tuple[Selected, _Found]) -> _Named:
        """The images of an image that is a bundle; none of any other."""
        selected, found = work
        if not is_bundle(self._stores.at(selected.place), found.items[selected.digest]):
            return _Named()
        return self._images(work)


@dataclass(frozen=True)
class _Named:
    """The images that an artifact or a bundle names. `bundles`: what imgpkg said of their digests."""

    images: tuple[NamedImage, ...] = ()
    locked: bool = False
    bundles: Mapping[str, bool] = field(default_factory=dict)

    def may_nest(self, image: NamedImage) -> bool:
        """Whether an image may be a bundle itself: only locks list bundles."""
        return self.locked and self.bundles.get(image.found.digest, True)


def _joined(all_: Iterable[_Named]) -> _Named:
    """What the bundles of one artifact name."""
    images: dict[NamedImage, None] = {}
    bundles: dict[str, bool] = {}
    locked = False
    for one in all_:
        images.update(dict.fromkeys(one.images))
        locked = locked or one.locked
        for digest, flag in one.bundles.items():
            bundles[digest] = bundles.get(digest, False) or flag
    return _Named(tuple(images), locked, bundles)


def _key(selected: Selected) -> tuple[str, str]:
    return selected.place.location, selected.digest


def _by_digest(selected: Sequence[Selected]) -> list[list[Selected]]:
    groups: dict[tuple[str, str], list[Selected]] = {}
    for one in selected:
        groups.setdefault((one.place.location, one.digest), []).append(one)
    return list(groups.values())


def _assemble(parts: Sequence[tuple[Place, _Found]], roots: Sequence[Root]) -> tuple[RepositoryClosure, ...]:
    """One closure for each repository, in the order in which they were met."""
    places: dict[str, Place] = {}
    items: dict[str, dict[str, Item]] = {}
    beside: dict[str, dict[str, Beside]] = {}
    for place, found in parts:
        places.setdefault(place.location, place)
        for digest, item in found.items.items():
            items.setdefault(place.location, {}).setdefault(digest, item)
        beside.setdefault(place.location, {}).update(found.beside)
    return tuple(
        RepositoryClosure(
            place,
            tuple(items[location].values()),
            tuple(beside[location].values()),
            tuple(_tags([root for root in roots if root.selected.place.location == location])),
        )
        for location, place in places.items()
    )


def _tags(roots: Sequence[Root]) -> Iterator[Named]:
    """The tags of one repository; what was selected comes before what images are called."""
    taken: dict[str, str] = {}
    for root in sorted(roots, key=lambda one: one.role is Role.IMAGE):
        one, soft = root.selected, root.role is Role.IMAGE
        name = one.as_tag or one.tag
        if not name or (soft and name in taken):
            continue
        if taken.setdefault(name, one.digest) != one.digest:
            raise Refused(f"tag {name} of {one.place.location} would be both {taken[name]} and {one.digest}")
        yield Named(name, one.digest, soft)
