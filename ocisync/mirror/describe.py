"""From a closure to the contents of a file, and back. Pure.

`describe` leaves out what a base (a receipt, or an earlier file) says the far side has: manifests, blobs and tags of
each repository on their own. A new signature on an old digest is a manifest like any other, and so it is included; what
it builds on is listed as needed. `rebuild` reads the manifests themselves and believes nothing that the contents say of
their relations: a blob, a part or a subject that is neither in the file nor needed makes the file incomplete.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocisync.mirror.closure import Beside, Closure, Item, Named, RepositoryClosure, Role, Root, read_item
from ocisync.mirror.contents import BesideEntry, BlobEntry, Cargo, Contents, Entry, ImageEntry, Part, RootEntry
from ocisync.model.descriptor import (
    BUNDLE_V03,
    BUNDLE_V03_PARAMETER,
    OCI_INDEX,
    SIMPLE_SIGNING,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused, UsageError
from ocisync.model.limits import BUNDLE_BYTES, CONFIG_BYTES
from ocisync.model.ref import LayoutReference
from ocisync.oci.documents import BAD_ARTIFACT, check_manifest, parse_json, referrer_descriptor
from ocisync.oci.layoutindex import REF_NAME

IMAGE_NAME = "io.containerd.image.name"
_EVIDENCE = frozenset({BUNDLE_V03, BUNDLE_V03_PARAMETER, SIMPLE_SIGNING})
_NAME_CHARS = 128  # of a tag, which is what tools take such names for


@dataclass(frozen=True, slots=True)
class Known:
    """What the far side has of one repository."""

    manifests: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Base:
    """What a delta builds on: by repository name, and the digest of the document that says so."""

    digest: str
    repositories: Mapping[str, Known]


def base_of(contents: Contents, digest: str) -> Base:
    """An earlier file as a base: what it holds, and what it needed."""
    known = {}
    for part in contents.parts:
        tags = {tag.name: tag.digest for tag in part.tags} | {item.tag: item.digest for item in part.beside}
        manifests = frozenset(item.digest for item in part.manifests) | frozenset(part.needs_manifests)
        blobs = frozenset(blob.digest for blob in part.blobs) | frozenset(part.needs_blobs)
        known[part.name] = Known(manifests, blobs, tags)
    return Base(digest, known)


def describe(
    closure: Closure, created: str, *, base: Base | None = None, cargo: Sequence[Cargo] = (), trust_version: int = 0
) -> tuple[Contents, bytes]:
    """The contents of a file with this closure, and its `index.json`.

    Raises:
        UsageError: a layout that stands for no repository.
    """
    names = names_of(closure)
    parts = []
    for part in closure.repositories:
        name = names[part.place.location]
        known = base.repositories.get(name, Known()) if base else Known()
        roots = [root for root in closure.roots if root.selected.place.location == part.place.location]
        parts.append(_part(part, name, known, [_root(root, names) for root in roots]))
    index = _index(parts, closure, names)
    contents = Contents(
        created, sha256_digest(index), tuple(parts), tuple(cargo), base.digest if base else "", trust_version
    )
    return contents, index


def names_of(closure: Closure) -> dict[str, str]:
    """What repositories are called, by location: as signatures name them, or as manifests name images.

    Raises:
        UsageError: nobody said which repository a layout stands for.
    """
    names: dict[str, str] = {}
    artifacts = {root.selected.place.location for root in closure.roots if root.role is Role.ARTIFACT}
    images = [image for root in closure.roots for image in root.images]
    for part in closure.repositories:
        location = part.place.location
        named = next((image.repository for image in images if image.found.place.location == location), "")
        if named and location not in artifacts and named not in names.values():
            names[location] = named
        elif isinstance(part.place, LayoutReference) and not part.place.name:
            raise UsageError(
                f"{location} is a layout: only you can say which repository it stands for",
                hint="add --as HOST/REPOSITORY",
            )
        else:
            names[location] = part.place.repository
    return names


def _root(root: Root, names: Mapping[str, str]) -> RootEntry:
    chosen = root.selected
    images = [
        ImageEntry(name, image.found.digest, image.repository if image.repository != name else "")
        for image in root.images
        for name in (names[image.found.place.location],)
    ]
    tag = chosen.as_tag or chosen.tag
    return RootEntry(chosen.digest, tag, chosen.kind, root.role, tuple(dict.fromkeys(images)))


def _part(part: RepositoryClosure, name: str, known: Known, roots: Sequence[RootEntry]) -> Part:
    role = Role.ARTIFACT if any(root.role is Role.ARTIFACT for root in roots) else Role.IMAGE
    items = {item.digest: item for item in part.manifests()}
    new = {digest: item for digest, item in items.items() if digest not in known.manifests}
    beside = tuple(
        BesideEntry(one.tag, one.item.digest)
        for one in part.beside
        if known.tags.get(one.tag) != one.item.digest or one.item.digest in new
    )
    tags = tuple(tag for tag in part.tags if known.tags.get(tag.name) != tag.digest or tag.digest in new)
    moved = {tag.name for tag in tags}
    roots = tuple(root for root in roots if root.digest in new or root.tag in moved)
    wanted = {blob.digest: blob for item in new.values() for blob in item.blobs}
    heads = {digest for item in new.values() for digest in _heads(item)}
    blobs = tuple(
        BlobEntry(blob.digest, blob.size, blob.digest in heads)
        for blob in wanted.values()
        if blob.digest not in known.blobs
    )
    needed = {part_digest for item in new.values() for part_digest in item.parts}
    needed |= {item.subject for item in new.values() if item.subject in items}
    needed |= {tag.digest for tag in tags} | {root.digest for root in roots}
    needed |= {digest for one in beside for digest in (one.digest, one.subject)}
    return Part(
        name,
        tuple(Entry(_plain(item.manifest.descriptor), item.role) for item in new.values()),
        beside,
        tags,
        roots,
        blobs,
        tuple(sorted(needed - set(new))),
        tuple(sorted(set(wanted) & known.blobs)),
        role,
    )


def _plain(descriptor: Descriptor) -> Descriptor:
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _heads(item: Item) -> Iterable[str]:
    """The small blobs that judging may need, and configs."""
    config = parse_json(item.manifest.raw, item.digest).get("config")
    config_digest = config.get("digest") if isinstance(config, dict) else ""
    for blob in item.blobs:
        is_config = blob.digest == config_digest and blob.size <= CONFIG_BYTES
        if is_config or (blob.media_type in _EVIDENCE and blob.size <= BUNDLE_BYTES):
            yield blob.digest


# -- index.json, for other tools ------------------------------------------------------------------


def _index(parts: Sequence[Part], closure: Closure, names: Mapping[str, str]) -> bytes:
    """Every manifest once for each of its tags, referrers without one: skopeo and oras find them here."""
    by_name = {names[one.place.location]: one for one in closure.repositories}
    entries: list[dict[str, Any]] = []
    taken: set[str] = set()
    untagged: dict[str, dict[str, Any]] = {}
    for part in parts:
        tags = [*part.tags, *(Named(one.tag, one.digest) for one in part.beside)]
        items = {item.digest: item for item in by_name[part.name].manifests()}
        for entry in part.manifests:
            described = _described(items[entry.digest])
            named = [tag.name for tag in tags if tag.digest == entry.digest]
            for tag in named:
                full = f"{part.name}:{tag}"
                entries.append({**described, "annotations": {REF_NAME: _dashed(full, taken), IMAGE_NAME: full}})
            if not named:
                untagged.setdefault(entry.digest, described)
    listed = {entry["digest"] for entry in entries}
    entries += [entry for digest, entry in untagged.items() if digest not in listed]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _described(item: Item) -> dict[str, Any]:
    entry = _plain(item.manifest.descriptor).as_dict()
    if item.subject:
        kind = referrer_descriptor(item.manifest.raw).artifact_type
        if kind:
            entry["artifactType"] = kind
    return entry


def _dashed(full: str, taken: set[str]) -> str:
    """A name without slashes and colons, which tools would read as parts of a reference. Unique in the file."""
    plain = re.sub("[^A-Za-z0-9_.]+", "-", full).strip("-.") or "image"
    if len(plain) > _NAME_CHARS or plain in taken:
        mark = hashlib.sha256(full.encode()).hexdigest()[:12]
        plain = f"{plain[: _NAME_CHARS - 13]}-{mark}"
    taken.add(plain)
    return plain


# -- back -----------------------------------------------------------------------------------------


def rebuild(
    part: Part,
    data: Mapping[str, bytes],
    needed: Sequence[Item],
    what: str,
    *,
    tolerate: frozenset[str] = frozenset(),
) -> tuple[Item, ...]:
    """The manifests of a repository, what is needed from the destination first.

    Args:
        part: what the contents say.
        data: bytes by digest.
        needed: manifests that the destination has.
        what: the file, for messages.
        tolerate: needed manifests that nobody looked for: a delta is looked at without its destination.

    Raises:
        Refused: a manifest names what is neither in the file nor needed, or stands before it.
    """
    blobs = {blob.digest: blob.size for blob in part.blobs}
    there = set(part.needs_blobs)
    seen = {item.digest for item in needed}
    items: list[Item] = list(needed)
    besides = {one.digest for one in part.beside}
    for entry in part.manifests:
        name = f"{what}: {part.name}@{entry.digest}"
        media_type = entry.descriptor.media_type
        manifest = check_manifest(
            data[entry.digest], ref=entry.digest, content_type=media_type, announced="", what=name
        )
        item = read_item(manifest, entry.role)
        subject = item.subject if entry.role is Role.REFERRER and entry.digest not in besides else ""
        for blob in item.blobs:
            if blob.digest not in there and blobs.get(blob.digest) != blob.size:
                raise _incomplete(name, f"its blob {blob.digest} of {blob.size} bytes")
        for digest in (*item.parts, *([subject] if subject else ())):
            if digest not in seen and digest not in tolerate:
                raise _incomplete(name, f"{digest}, which it builds on,")
        if entry.role is Role.REFERRER and not subject and entry.digest not in besides:
            raise Refused(f"{name} refers to nothing, and no tag names it", reason=BAD_ARTIFACT)
        seen.add(entry.digest)
        items.append(item)
    return tuple(items)


def _incomplete(name: str, missing: str) -> Refused:
    return Refused(
        f"{name}: {missing} is not in the file before it", reason=BAD_ARTIFACT, hint="ask the sender for another file"
    )


def tags_beside(part: Part, items: Sequence[Item]) -> tuple[Beside, ...]:
    """The tags that belong to digests."""
    by_digest = {item.digest: item for item in items}
    return tuple(Beside(one.tag, one.subject, by_digest[one.digest]) for one in part.beside)
