"""The contents of a mirror file: what it holds of each repository. Values, their JSON form, and a strict reader.

The sender signs this document; whoever loads the file follows it and nothing else. `index.json` in the same file is for
other tools: it knows no repositories, so a referrer listed there could be anyone's.

Refused when read: unknown fields, other types, names that are none, digests that are none, anything twice, a blob with
two sizes, tags and roots of manifests that are neither in the file nor needed from the destination.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.mirror.closure import Named, Role
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest
from ocisync.model.errors import UsageError
from ocisync.model.limits import (
    CLOSURE_MANIFESTS,
    MANIFEST_BYTES,
    MIRROR_BLOB_BYTES,
    MIRROR_CARGO_BYTES,
    MIRROR_CARGO_COUNT,
    MIRROR_CONTENTS_BYTES,
    MIRROR_REPOSITORIES,
)
from ocisync.model.ref import is_tag, parse_reference
from ocisync.model.spec import SelectorKind
from ocisync.oci.documents import MANIFEST_TYPES

CONTENTS_TYPE = "application/vnd.ocisync.mirror.contents.v1+json"
API_VERSION = "ocisync.dev/v1alpha1"
CONTENTS_KIND = "MirrorContents"

_CARGO_NAME = re.compile(r"(?!adopted\.json\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")  # that name is the record's
_BESIDE_TAG = re.compile(r"sha256-([0-9a-f]{64})\.[A-Za-z0-9_.-]{1,40}\Z")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest in the file."""

    descriptor: Descriptor
    role: Role

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return self.descriptor.digest


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """One blob in the file. `head`: it is small and needed for judging, so it comes before the others."""

    digest: str
    size: int
    head: bool = False


@dataclass(frozen=True, slots=True)
class BesideEntry:
    """A tag that belongs to a digest by its name, and the manifest that it points to."""

    tag: str
    digest: str

    @property
    def subject(self) -> str:
        """The digest that the tag is named after."""
        return "sha256:" + self.tag.removeprefix("sha256-").partition(".")[0]


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image that an artifact needs.

    Attributes:
        repository: in this file.
        name: the repository as manifests name it, where that is another; else empty.
    """

    repository: str
    digest: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class RootEntry:
    """What was chosen, or an image.

    Attributes:
        images: of an artifact: the images that it needs.
    """

    digest: str
    tag: str
    kind: SelectorKind
    role: Role
    images: tuple[ImageEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What the file has of one repository.

    Attributes:
        name: `host/path` at the sender's; for images, as manifests name them.
        role: `ARTIFACT`, or `IMAGE` if only images come from there.
        manifests: in an order in which they can be written.
        needs_manifests: manifests that a delta builds on; the destination must have them.
        needs_blobs: the same for blobs.
    """

    name: str
    manifests: tuple[Entry, ...]
    beside: tuple[BesideEntry, ...] = ()
    tags: tuple[Named, ...] = ()
    roots: tuple[RootEntry, ...] = ()
    blobs: tuple[BlobEntry, ...] = ()
    needs_manifests: tuple[str, ...] = ()
    needs_blobs: tuple[str, ...] = ()
    role: Role = Role.ARTIFACT


@dataclass(frozen=True, slots=True)
class Cargo:
    """A key, a policy or a trusted root that travels along. It judges nothing in the file that carries it."""

    name: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """All of it.

    Attributes:
        created: RFC 3339, by the sender's clock.
        index: digest of the file's `index.json`.
        base: of a delta: the digest of the receipt or of the contents that it builds on; empty if it is complete.
        trust_version: the number of the cargo's edition; 0 if the sender gave none.
    """

    created: str
    index: str
    parts: tuple[Part, ...]
    cargo: tuple[Cargo, ...] = ()
    base: str = ""
    trust_version: int = 0

    def head(self) -> Iterator[tuple[str, int]]:
        """Digest and size of all that comes first, in order, once each."""
        return iter(self._ordered(head=True).items())

    def rest(self) -> Iterator[tuple[str, int]]:
        """Digest and size of the blobs behind the head, in order."""
        first = self._ordered(head=True)
        return ((digest, size) for digest, size in self._ordered(head=False).items() if digest not in first)

    def _ordered(self, *, head: bool) -> dict[str, int]:
        found: dict[str, int] = {}
        if head:
            found.update({item.digest: item.descriptor.size for part in self.parts for item in part.manifests})
            found.update({item.digest: item.size for item in self.cargo})
        blobs = (blob for part in self.parts for blob in part.blobs)
        found.update({blob.digest: blob.size for blob in blobs if blob.head or not head})
        return found

    def as_json(self) -> dict[str, Any]:
        """The document that is signed."""
        out: dict[str, Any] = {"apiVersion": API_VERSION, "kind": CONTENTS_KIND, "created": self.created}
        out["index"] = self.index
        if self.base:
            out["base"] = self.base
        if self.trust_version:
            out["trustVersion"] = self.trust_version
        out["cargo"] = [{"name": item.name, "digest": item.digest, "size": item.size} for item in self.cargo]
        out["repositories"] = [_part_json(part) for part in self.parts]
        return out

    def dump(self) -> bytes:
        """The bytes that are signed."""
        return json.dumps(self.as_json(), separators=(",", ":"), ensure_ascii=False).encode()


def _part_json(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "role": part.role.value,
        "manifests": [
            {
                "mediaType": item.descriptor.media_type,
                "digest": item.digest,
                "size": item.descriptor.size,
                "role": item.role.value,
            }
            for item in part.manifests
        ],
        "beside": [{"tag": item.tag, "digest": item.digest} for item in part.beside],
        "tags": [{"name": tag.name, "digest": tag.digest, "soft": tag.soft} for tag in part.tags],
        "roots": [
            {
                "digest": root.digest,
                "tag": root.tag,
                "kind": root.kind.value,
                "role": root.role.value,
                "images": [_image_json(image) for image in root.images],
            }
            for root in part.roots
        ],
        "blobs": [{"digest": blob.digest, "size": blob.size, "head": blob.head} for blob in part.blobs],
        "needs": {"manifests": list(part.needs_manifests), "blobs": list(part.needs_blobs)},
    }


def _image_json(image: ImageEntry) -> dict[str, str]:
    out = {"repository": image.repository, "digest": image.digest}
    return out | {"name": image.name} if image.name else out


# -- reading --------------------------------------------------------------------------------------


def parse_contents(data: bytes) -> Contents:
    """Read the signed document.

    Raises:
        Malformed: naming the first rule that is broken.
    """
    document = parse_json_object(data, max_bytes=MIRROR_CONTENTS_BYTES)
    fields = {"apiVersion", "kind", "created", "index", "base", "trustVersion", "cargo", "repositories"}
    _only(document, fields, "contents")
    if document.get("apiVersion") != API_VERSION or document.get("kind") != CONTENTS_KIND:
        raise Malformed(f"not a {CONTENTS_KIND} of {API_VERSION}")
    contents = Contents(
        created=_text(document, "created"),
        index=_digest(document, "index"),
        parts=_list(document, "repositories", _part, MIRROR_REPOSITORIES),
        cargo=_list(document, "cargo", _cargo, MIRROR_CARGO_COUNT),
        base=_digest(document, "base") if "base" in document else "",
        trust_version=_number(document, "trustVersion", 2**53) if "trustVersion" in document else 0,
    )
    _unique((part.name for part in contents.parts), "repository")
    _unique((item.name for item in contents.cargo), "cargo")
    _check_sizes(contents)
    for part in contents.parts:
        _check_part(part, complete=not contents.base)
    return contents


def _check_sizes(contents: Contents) -> None:
    sizes: dict[str, tuple[str, int]] = {}
    found = [(item.digest, "cargo", item.size) for item in contents.cargo]
    for part in contents.parts:
        found += [(item.digest, "manifest", item.descriptor.size) for item in part.manifests]
        found += [(blob.digest, "blob", blob.size) for blob in part.blobs]
    for digest, kind, size in found:
        before = sizes.setdefault(digest, (kind, size))
        if before[1] != size:
            raise Malformed(f"{digest} has {before[1]} bytes as {before[0]} and {size} as {kind}")


def _check_part(part: Part, *, complete: bool) -> None:
    here = {item.digest for item in part.manifests}
    known = here | set(part.needs_manifests)
    _unique((item.digest for item in part.manifests), f"manifest of {part.name}")
    _unique((blob.digest for blob in part.blobs), f"blob of {part.name}")
    _unique((tag.name for tag in part.tags), f"tag of {part.name}")
    _unique((item.tag for item in part.beside), f"tag beside a digest of {part.name}")
    if complete and (part.needs_manifests or part.needs_blobs):
        raise Malformed(f"{part.name} needs something of the destination, but no base is named")
    named = [(f"tag {tag.name}", tag.digest) for tag in part.tags]
    named += [(f"tag {item.tag}", item.digest) for item in part.beside]
    named += [("root", root.digest) for root in part.roots]
    for what, digest in named:
        if digest not in known:
            raise Malformed(f"{part.name}: {what} names {digest}, which is neither here nor needed")
    if here & set(part.needs_manifests) or {blob.digest for blob in part.blobs} & set(part.needs_blobs):
        raise Malformed(f"{part.name}: something is here and needed at once")


def _part(document: Mapping[str, Any]) -> Part:
    _only(document, {"name", "role", "manifests", "beside", "tags", "roots", "blobs", "needs"}, "repository")
    name = _repository(document, "name")
    needs = document.get("needs")
    if not isinstance(needs, dict):
        raise Malformed(f"{name}: needs is no object")
    _only(needs, {"manifests", "blobs"}, "needs")
    return Part(
        name,
        _list(document, "manifests", _entry, CLOSURE_MANIFESTS),
        _list(document, "beside", _beside, CLOSURE_MANIFESTS),
        _list(document, "tags", _tag, CLOSURE_MANIFESTS),
        _list(document, "roots", _root, CLOSURE_MANIFESTS),
        _list(document, "blobs", _blob, 10 * CLOSURE_MANIFESTS),
        _digests(needs, "manifests"),
        _digests(needs, "blobs"),
        _root_role(document),
    )


def _entry(document: Mapping[str, Any]) -> Entry:
    _only(document, {"mediaType", "digest", "size", "role"}, "manifest")
    media_type = _text(document, "mediaType")
    if media_type not in MANIFEST_TYPES:
        raise Malformed(f"{media_type[:100]!r} is no manifest type")
    size = _number(document, "size", MANIFEST_BYTES)
    return Entry(Descriptor(media_type, _digest(document, "digest"), size), _word(document, "role", Role))


def _blob(document: Mapping[str, Any]) -> BlobEntry:
    _only(document, {"digest", "size", "head"}, "blob")
    return BlobEntry(
        _digest(document, "digest"), _number(document, "size", MIRROR_BLOB_BYTES), _switch(document, "head")
    )


def _beside(document: Mapping[str, Any]) -> BesideEntry:
    _only(document, {"tag", "digest"}, "tag beside a digest")
    tag = _text(document, "tag")
    if not _BESIDE_TAG.match(tag):
        raise Malformed(f"{tag[:100]!r} belongs to no digest")
    return BesideEntry(tag, _digest(document, "digest"))


def _tag(document: Mapping[str, Any]) -> Named:
    _only(document, {"name", "digest", "soft"}, "tag")
    return Named(_tag_name(document, "name"), _digest(document, "digest"), _switch(document, "soft"))


def _root(document: Mapping[str, Any]) -> RootEntry:
    _only(document, {"digest", "tag", "kind", "role", "images"}, "root")
    tag = _tag_name(document, "tag") if document.get("tag") != "" else ""
    kind = _word(document, "kind", SelectorKind)
    if (kind is SelectorKind.DIGEST) != (tag == ""):
        raise Malformed(f"a root chosen by {kind.value} with tag {tag!r}")
    role = _root_role(document)
    images = _list(document, "images", _image, CLOSURE_MANIFESTS)
    return RootEntry(_digest(document, "digest"), tag, kind, role, images)


def _root_role(document: Mapping[str, Any]) -> Role:
    role = _word(document, "role", Role)
    if role not in (Role.ARTIFACT, Role.IMAGE):
        raise Malformed(f"a root or a repository cannot be a {role.value}")
    return role


def _image(document: Mapping[str, Any]) -> ImageEntry:
    _only(document, {"repository", "digest", "name"}, "image")
    name = _repository(document, "name") if "name" in document else ""
    return ImageEntry(_repository(document, "repository"), _digest(document, "digest"), name)


def _cargo(document: Mapping[str, Any]) -> Cargo:
    _only(document, {"name", "digest", "size"}, "cargo")
    return Cargo(
        cargo_name(_text(document, "name")), _digest(document, "digest"), _number(document, "size", MIRROR_CARGO_BYTES)
    )


def cargo_name(text: str) -> str:
    """A plain file name.

    Raises:
        Malformed: it is none, or hidden, or a path.
    """
    if not _CARGO_NAME.match(text):
        raise Malformed(f"{text[:100]!r} is no plain file name of letters, digits and . _ -")
    return text


# -- JSON of known shape --------------------------------------------------------------------------


def _only(document: Mapping[str, Any], allowed: set[str], what: str) -> None:
    unknown = sorted(set(document) - allowed)
    if unknown:
        raise Malformed(f"unknown field {unknown[0][:60]!r} in {what}")


def _list(
    document: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], _T], limit: int
) -> tuple[_T, ...]:
    value = document.get(name)
    if not isinstance(value, list) or len(value) > limit:
        raise Malformed(f"{name} is no list of at most {limit}")
    if not all(isinstance(item, dict) for item in value):
        raise Malformed(f"{name} holds something that is no object")
    return tuple(read(item) for item in value)


def _digests(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) and is_digest(item) for item in value):
        raise Malformed(f"{name} is no list of digests")
    _unique(iter(value), name)
    return tuple(value)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value or len(value) > 512 or not value.isprintable():
        raise Malformed(f"{name} is missing or no plain text")
    return value


def _digest(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not is_digest(value):
        raise Malformed(f"{name} is no sha256 digest")
    return value


def _number(document: Mapping[str, Any], name: str, limit: int) -> int:
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise Malformed(f"{name} is no number from 0 to {limit}")
    return value


def _switch(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is neither true nor false")
    return value


def _word(document: Mapping[str, Any], name: str, words: type[_T]) -> _T:
    try:
        return words(document.get(name))  # type: ignore[call-arg]
    except ValueError:
        raise Malformed(f"{name} is none of its words") from None


def _tag_name(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not is_tag(value):
        raise Malformed(f"{name} is no tag")
    return value


def _repository(document: Mapping[str, Any], name: str) -> str:
    value = _text(document, name)
    try:
        parsed = parse_reference(value)
    except UsageError:
        raise Malformed(f"{value[:100]!r} is no repository") from None
    if parsed.repository != value:
        raise Malformed(f"{value[:100]!r} is no plain repository name")
    return value


def _unique(values: Iterator[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise Malformed(f"{what} {value[:100]} appears twice")
        seen.add(value)
