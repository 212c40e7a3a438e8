"""The `index.json` of an OCI image layout, as a value. Pure.

Entries and fields of others are kept as they are. A tag is an entry's annotation `org.opencontainers.image.ref.name`;
a manifest without a tag, such as a referrer, has an entry without it, as oras writes them. A tag that moves leaves the
manifest that it had behind, untagged, as a registry does.

Refused: what is no index, an entry that is no sha256 descriptor, more entries than the limit; and, where it matters,
a tag that two entries have for two digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ocisync.model.descriptor import OCI_INDEX, Descriptor
from ocisync.model.errors import Refused
from ocisync.model.limits import LAYOUT_MANIFESTS
from ocisync.model.values import dataclass
from ocisync.oci.documents import BAD_ARTIFACT, descriptor_of, index_entries, parse_json

REF_NAME = "org.opencontainers.image.ref.name"
_EMPTY: Mapping[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: as it was read, and what it describes."""

    raw: Mapping[str, Any]
    descriptor: Descriptor

    @property
    def tag(self) -> str:
        """Its name; empty if it has none."""
        return self.descriptor.annotations.get(REF_NAME, "")


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """All of `index.json`."""

    document: Mapping[str, Any]
    entries: tuple[Entry, ...]

    def tagged(self, tag: str, what: str) -> Descriptor | None:
        """What a tag names; None if it names nothing.

        Raises:
            Refused: it names two things.
        """
        found = {entry.descriptor.digest: entry.descriptor for entry in self.entries if entry.tag == tag}
        if len(found) > 1:
            raise Refused(f"{what}: tag {tag} names {len(found)} manifests", reason=BAD_ARTIFACT)
        return next(iter(found.values()), None)

    def tags(self) -> Iterator[str]:
        """Every name once, in order."""
        return iter(dict.fromkeys(entry.tag for entry in self.entries if entry.tag))


def parse_index(raw: bytes | None, what: str) -> LayoutIndex:
    """Read an index; a missing one is empty.

    Raises:
        Refused: it is none.
    """
    document: Mapping[str, Any] = _EMPTY if raw is None else parse_json(raw, what)
    if document.get("mediaType", OCI_INDEX) != OCI_INDEX:
        raise Refused(f"{what} is no OCI image index", reason=BAD_ARTIFACT)
    items = index_entries(document, what)
    if len(items) > LAYOUT_MANIFESTS:
        raise Refused(f"{what} has {len(items)} entries, more than the limit of {LAYOUT_MANIFESTS}", reason="TooLarge")
    entries = []
    for number, item in enumerate(items):
        descriptor = descriptor_of(item)
        if descriptor is None or not isinstance(item, dict):
            raise Refused(f"{what}: entry {number} is no descriptor with a sha256 digest", reason=BAD_ARTIFACT)
        entries.append(Entry(item, descriptor))
    return LayoutIndex(document, tuple(entries))


def with_manifest(index: LayoutIndex, descriptor: Descriptor, tag: str, what: str) -> bytes | None:
    """The index with a manifest listed, under a tag unless that is empty; None if it is so already.

    Raises:
        Refused: the index holds what cannot be written again.
    """
    if tag:
        named = {entry.descriptor.digest for entry in index.entries if entry.tag == tag}
        if named == {descriptor.digest}:
            return None
    elif any(entry.descriptor.digest == descriptor.digest for entry in index.entries):
        return None
    untagged = next(
        (item for item in index.entries if item.descriptor.digest == descriptor.digest and not item.tag), None
    )
    fresh = dict(untagged.raw) if untagged else descriptor.as_dict()
    if tag:
        fresh["annotations"] = {**_annotations(fresh), REF_NAME: tag}
    others = tuple(entry for entry in index.entries if entry is not untagged)
    return _dump(index, [*_untagged(others, tag, descriptor.digest), fresh], what)


def without_tag(index: LayoutIndex, tag: str, what: str) -> bytes:
    """The index without a tag; what it named stays listed.

    Raises:
        Refused: the index holds what cannot be written again.
    """
    return _dump(index, _untagged(index.entries, tag, ""), what)


def _untagged(entries: tuple[Entry, ...], tag: str, listed: str) -> list[Mapping[str, Any]]:
    """The entries without one tag. An entry that has lost its tag stays only if nothing else lists its manifest."""
    known = {entry.descriptor.digest for entry in entries if not tag or entry.tag != tag} | {listed}
    out: list[Mapping[str, Any]] = []
    for entry in entries:
        if not tag or entry.tag != tag:
            out.append(entry.raw)
        elif entry.descriptor.digest not in known:
            known.add(entry.descriptor.digest)
            annotations = {key: value for key, value in _annotations(entry.raw).items() if key != REF_NAME}
            bare = {key: value for key, value in entry.raw.items() if key != "annotations"}
            out.append({**bare, "annotations": annotations} if annotations else bare)
    return out


def _annotations(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    value = raw.get("annotations")
    return value if isinstance(value, dict) else {}


def _dump(index: LayoutIndex, entries: list[Mapping[str, Any]], what: str) -> bytes:
    document = {**index.document, "manifests": entries}
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:  # lone surrogates, numbers beyond a float
        raise Refused(f"{what} holds text or numbers that cannot be written again", reason=BAD_ARTIFACT) from error
