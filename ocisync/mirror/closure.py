"""The closure: an artifact with its referrers, signature tags and, if wanted, the images that its manifests name.

Values only. A closure is a list of repositories; each lists its manifests in an order in which they can be written: the
manifests of an index before the index, a subject before what refers to it. Bytes are kept as they were read, and
nothing in here was judged: who wants to trust a closure judges its roots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ocisync.model.descriptor import Descriptor
from ocisync.model.errors import Refused
from ocisync.model.ref import Place
from ocisync.model.spec import SelectorKind
from ocisync.oci.documents import BAD_ARTIFACT, INDEX_TYPES, descriptor_of, index_entries, parse_json, subject_digest
from ocisync.oci.store import Manifest


class Role(StrEnum):
    """Why a manifest is in the closure."""

    ARTIFACT = "Artifact"  # was selected
    IMAGE = "Image"  # an artifact's manifests name it
    PART = "Part"  # an index lists it: one platform, for example
    REFERRER = "Referrer"


@dataclass(frozen=True, slots=True)
class Item:
    """One manifest.

    Attributes:
        subject: the digest that it refers to, whatever its role; empty for none.
        parts: the manifests that an index lists.
        blobs: config and layers, each once; without those that only foreign servers offer.
    """

    manifest: Manifest
    role: Role
    subject: str = ""
    parts: tuple[str, ...] = ()
    blobs: tuple[Descriptor, ...] = ()

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return self.manifest.descriptor.digest


@dataclass(frozen=True, slots=True)
class Beside:
    """A tag that belongs to a digest by its name, as `sha256-….sig` does, and its manifest."""

    tag: str
    subject: str
    item: Item

    @property
    def suffix(self) -> str:
        """What the tag holds of its subject: `sig`, `att`, `sbom` and the like."""
        return self.tag.partition(".")[2]


@dataclass(frozen=True, slots=True)
class Named:
    """A tag to be set.

    Attributes:
        soft: an image's tag, there for people and garbage collectors; it never takes the place of another.
    """

    name: str
    digest: str
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Selected:
    """What somebody chose.

    Attributes:
        place: the repository or layout, without tag and digest.
        tag: by which it was chosen; empty if by digest.
        kind: how its signatures are judged.
        as_tag: what the tag is called at the destination; empty for the same.
        manifest: of the digest, if it was read when the tag was resolved.
    """

    place: Place
    tag: str
    digest: str
    kind: SelectorKind = SelectorKind.TAG
    as_tag: str = ""
    manifest: Manifest | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        name = f"{self.place.location}:{self.tag}" if self.tag else self.place.location
        return f"{name}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Root:
    """A selected artifact, or an image, and all that must be there before its tags are set.

    Attributes:
        selected: what was chosen; for an image, where it was found.
        role: `ARTIFACT` or `IMAGE`.
        members: the digests of its manifests in its own repository, itself among them.
        images: of an artifact: the images that its manifests name.
    """

    selected: Selected
    role: Role
    members: tuple[str, ...]
    images: tuple[NamedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image as manifests name it (`repository`, without tag and digest), and where it was found."""

    repository: str
    found: Selected


@dataclass(frozen=True, slots=True)
class RepositoryClosure:
    """Everything that is wanted of one repository. `items` is in writing order."""

    place: Place
    items: tuple[Item, ...]
    beside: tuple[Beside, ...]
    tags: tuple[Named, ...]
    by_digest: Mapping[str, Item] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_digest", {item.digest: item for item in self.items})

    def find(self, digest: str) -> Item | None:
        """The manifest of a digest; None if it is not among the items."""
        return self.by_digest.get(digest)

    def referrers(self) -> Iterator[Item]:
        """The manifests that refer to others of it."""
        return (item for item in self.items if item.subject in self.by_digest)

    def manifests(self) -> Iterator[Item]:
        """All of them, those at tags beside a digest too."""
        yield from self.items
        for beside in self.beside:
            yield beside.item

    def blobs(self) -> dict[str, Descriptor]:
        """Every blob once, by digest."""
        return {blob.digest: blob for item in self.manifests() for blob in item.blobs}


@dataclass(frozen=True, slots=True)
class Closure:
    """Repositories in the order in which they were met.

    Attributes:
        notes: sentences for people: what was left out, and why.
    """

    repositories: tuple[RepositoryClosure, ...]
    roots: tuple[Root, ...]
    notes: tuple[str, ...] = ()

    def at(self, place: Place) -> RepositoryClosure:
        """The part of one repository."""
        return next(part for part in self.repositories if part.place.location == place.location)


def read_item(manifest: Manifest, role: Role) -> Item:
    """Read what a manifest names.

    Raises:
        Refused: it cannot be mirrored whole: a part of it is no descriptor.
    """
    what = f"manifest {manifest.descriptor.digest}"
    document = parse_json(manifest.raw, what)
    subject = subject_digest(manifest.raw)
    if manifest.descriptor.media_type in INDEX_TYPES:
        parts = [_described(entry, what) for entry in index_entries(document, what)]
        return Item(manifest, role, subject, tuple(dict.fromkeys(part.digest for part in parts)))
    layers = document.get("layers", [])
    if not isinstance(layers, list):
        raise Refused(f"{what}: layers is not a list", reason=BAD_ARTIFACT)
    entries = [document["config"]] if "config" in document else []
    wanted = [_described(entry, what) for entry in [*entries, *layers] if not is_foreign(entry)]
    return Item(manifest, role, subject, (), tuple({blob.digest: blob for blob in wanted}.values()))


def is_foreign(entry: object) -> bool:
    """Whether a layer must be fetched from elsewhere; registries need not have it (Windows base layers)."""
    return isinstance(entry, dict) and bool(entry.get("urls")) and _is_foreign_type(entry.get("mediaType"))


def _is_foreign_type(value: object) -> bool:
    return isinstance(value, str) and (".foreign." in value or ".nondistributable." in value)


def _described(entry: Any, what: str) -> Descriptor:
    found = descriptor_of(entry)
    if found is None:
        raise Refused(f"{what}: a part of it is no descriptor with a sha256 digest", reason=BAD_ARTIFACT)
    return found


def refers_to(manifest: Manifest, digest: str) -> bool:
    """Whether a manifest itself says that it refers to a digest; lists of referrers can claim anything."""
    return subject_digest(manifest.raw) == digest
