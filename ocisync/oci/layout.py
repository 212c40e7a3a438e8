"""`open_layout`: a `Store` on an OCI image layout, a directory or a tar file, instead of a registry.

    store = open_layout(parse_layout("oci-layout:out/shop:1.0.0"))
    store.resolve("1.0.0")

Referrers are found as oras keeps them: every manifest that `index.json` leads to (also through indexes, such as the
fallback tags that other clients keep) is asked for its subject. Manifests that nothing leads to do not exist here. What
is read is checked as from a registry: digests, lengths, types, sizes; links are refused. What is written is there
whole or not at all, also after `kill -9`; a tar file changes only when the store is closed (see `layouttar`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest, parse_digest, sha256_digest
from ocisync.model.errors import InvalidInput, NotFound, OcisyncError, Refused, UsageError
from ocisync.model.limits import (
    EVIDENCE_DESCRIPTORS,
    LAYOUT_INDEX_BYTES,
    LAYOUT_MANIFESTS,
    LAYOUT_SCAN_BYTES,
    MANIFEST_BYTES,
    TAGS_COUNT,
)
from ocisync.model.ref import LayoutReference, check_tag, is_tag
from ocisync.oci.documents import (
    BAD_ARTIFACT,
    INDEX_TYPES,
    MANIFEST_TYPES,
    check_manifest,
    descriptor_of,
    index_entries,
    parse_json,
    referrer_descriptor,
    subject_digest,
)
from ocisync.oci.layoutdir import LayoutDirectory
from ocisync.oci.layoutfiles import INDEX, LayoutFiles, as_stream, blob_name, copy_checked
from ocisync.oci.layoutindex import LayoutIndex, parse_index, with_manifest, without_tag
from ocisync.oci.layoutreader import open_checked
from ocisync.oci.layouttar import LayoutTar
from ocisync.oci.store import Manifest, PutResult, Referrers, Store, StreamingStore

TAR_SUFFIX = ".tar"


def open_layout(reference: LayoutReference, *, sleep: Callable[[float], object] = time.sleep) -> LayoutStore:
    """Open the layout that a reference names; its tag and digest do not matter. Nothing is read or made yet.

    Args:
        reference: a path that ends in `.tar` is a tar file, every other one a directory (what is there decides first).
        sleep: waits while another process holds the lock.
    """
    path = Path(reference.path)
    is_tar = path.is_file() or (reference.path.endswith(TAR_SUFFIX) and not path.is_dir())
    kind = LayoutTar if is_tar else LayoutDirectory
    return LayoutStore(kind(path, reference.location, sleep), reference)


class LayoutStore:
    """One layout. Implements `Store`; safe for many threads and beside other processes."""

    def __init__(self, files: LayoutFiles, reference: LayoutReference) -> None:
        self._files = files
        self._place = reference.location
        self._repository = reference.repository
        self._listing: tuple[bytes | None, LayoutIndex, dict[str, Descriptor]] | None = None
        self._subjects: dict[str, tuple[str, Descriptor]] = {}  # by digest: what it refers to, its own descriptor

    def __repr__(self) -> str:
        return f"LayoutStore({self._place!r})"

    def __enter__(self) -> LayoutStore:
        """Use and close."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close; after an error a tar file stays as it was."""
        if kind is None:
            self.close()
        else:
            self._files.abandon()

    @property
    def repository(self) -> str:
        """What the layout stands for; its own place if nobody said."""
        return self._repository

    def close(self) -> None:
        """Write a tar file that has changed; the store can be used again."""
        self._files.finish()

    # -- reading ----------------------------------------------------------------------------------

    def resolve(self, ref: str) -> Descriptor | None:
        """What a tag or a digest names; None if nothing."""
        index, listed = self._read_index()
        found = listed.get(ref) if is_digest(ref) else index.tagged(check_tag(ref), f"{self._place}/{INDEX}")
        if found is None or self._files.size(blob_name(found.digest)) is None:
            return None
        return Descriptor(found.media_type, found.digest, found.size, found.artifact_type)

    def manifest(self, ref: str) -> Manifest:
        """Read and check a manifest."""
        found = self.resolve(ref)
        what = f"reading manifest {self._named(ref)}"
        if found is None:
            raise NotFound(f"{what}: {self._missing()}", hint=f"ocisync list {self._place}")
        raw = self._files.read(blob_name(found.digest), MANIFEST_BYTES)
        if raw is None:
            raise NotFound(f"{what}: {self._missing()}")
        if len(raw) != found.size:
            raise Refused(f"{what}: {len(raw)} bytes instead of {found.size}", reason=BAD_ARTIFACT)
        return check_manifest(raw, ref=found.digest, content_type=found.media_type, announced="", what=what)

    def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Read and check a blob."""
        digest, size = parse_digest(descriptor.digest), descriptor.size
        what = f"reading blob {self._place}@{digest}"
        if size > max_bytes:
            raise Refused(f"{what}: {size} bytes, more than the limit of {max_bytes}", reason="TooLarge")
        found = self._files.size(blob_name(digest))
        if found is None:
            raise NotFound(f"{what}: {self._missing()}")
        if found != size:
            raise Refused(f"{what}: {found} bytes instead of {size}", reason=BAD_ARTIFACT)
        data = self._files.read(blob_name(digest), size)
        if data is None:
            raise NotFound(f"{what}: {self._missing()}")
        if len(data) != size or sha256_digest(data) != digest:
            raise Refused(f"{what}: the file has other content, with digest {sha256_digest(data)}", reason=BAD_ARTIFACT)
        return data

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        """Open a blob to be read in pieces; use it in a `with`."""
        digest, size = parse_digest(descriptor.digest), descriptor.size
        what = f"reading blob {self._place}@{digest}"
        found = self._files.size(blob_name(digest))
        file = self._files.open(blob_name(digest))
        if found is None or file is None:
            raise NotFound(f"{what}: {self._missing()}")
        if found != size:
            file.close()
            raise Refused(f"{what}: {found} bytes instead of {size}", reason=BAD_ARTIFACT)
        return open_checked(file, descriptor, what)

    def has_blob(self, digest: str) -> bool:
        """Tell whether the layout has a blob."""
        return self._files.size(blob_name(parse_digest(digest))) is not None

    def tags(self) -> Iterator[str]:
        """The names that are tags."""
        self._require()
        index, _ = self._read_index()
        for number, tag in enumerate(tag for tag in index.tags() if is_tag(tag)):
            if number >= TAGS_COUNT:
                raise Refused(f"listing tags of {self._place}: more than {TAGS_COUNT} tags", reason="TooLarge")
            yield tag

    def referrers(self, digest: str) -> Referrers:
        """Every listed manifest that names `digest` as its subject."""
        parse_digest(digest)
        _, listed = self._read_index()
        found: list[Descriptor] = []
        problems: list[str] = []
        budget = LAYOUT_SCAN_BYTES
        for descriptor in listed.values():
            if descriptor.media_type not in MANIFEST_TYPES:
                continue
            seen = self._subjects.get(descriptor.digest)
            if seen is None:
                budget -= descriptor.size
                if budget < 0:
                    return Referrers(tuple(found), truncated=True, problems=tuple(problems), api=True)
                try:
                    seen = self._subjects[descriptor.digest] = self._subject(descriptor)
                except NotFound:
                    continue  # a layout may leave out parts; what is not there refers to nothing
                except OcisyncError as error:
                    problems.append(error.message)
                    continue
            if seen[0] == digest:
                found.append(seen[1])
        cut = found[:EVIDENCE_DESCRIPTORS]
        return Referrers(tuple(cut), len(cut) < len(found), tuple(problems), api=True)

    def ping(self) -> None:
        """Check that there is a layout, or room for one."""
        self._files.exists()

    # -- writing ----------------------------------------------------------------------------------

    def put_blob(self, descriptor: Descriptor, data: bytes | BinaryIO, *, absent: bool = False) -> bool:
        """Store a blob unless it is there, whole and undamaged; looking again costs nothing here."""
        parse_digest(descriptor.digest)
        if isinstance(data, bytes) and (len(data), sha256_digest(data)) != (descriptor.size, descriptor.digest):
            raise Refused(f"blob {descriptor.digest} for {self._place} is not what its descriptor says")
        if self._is_intact(descriptor):
            return False
        self._files.add(descriptor, as_stream(data))
        return True

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Nothing can be mounted into a layout."""
        parse_digest(digest)
        return False

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        """Store a manifest whose blobs are there, and list it, under a tag or bare."""
        what = f"writing manifest {self._named(ref)}"
        digest = sha256_digest(raw)
        if is_digest(ref) and ref != digest:
            raise UsageError(f"{what}: the bytes have digest {digest}")
        if len(raw) > MANIFEST_BYTES:
            raise Refused(f"{what}: {len(raw)} bytes, more than the limit of {MANIFEST_BYTES}", reason="TooLarge")
        checked = check_manifest(raw, ref=digest, content_type=media_type, announced="", what=what)
        self._check_parts(raw, what)
        described = referrer_descriptor(raw) if subject_digest(raw) else checked.descriptor
        entry = replace(described, media_type=checked.descriptor.media_type)
        self._files.add(checked.descriptor, as_stream(raw))
        tag = "" if is_digest(ref) else ref
        place = f"{self._place}/{INDEX}"
        self._files.change_index(lambda old: with_manifest(parse_index(old, place), entry, tag, place))
        return PutResult(digest, subject_indexed=True)

    def attach(self, raw_manifest: bytes, subject: Descriptor) -> Descriptor:
        """Store and list a manifest that refers to `subject`."""
        if subject_digest(raw_manifest) != subject.digest:
            raise Refused(f"the referrer manifest does not name {subject.digest} as its subject")
        entry = referrer_descriptor(raw_manifest)
        self.put_manifest(raw_manifest, entry.media_type, entry.digest)
        return entry

    def delete_tag(self, tag: str) -> None:
        """Remove one tag; what it named stays listed."""
        if self.resolve(check_tag(tag)) is None:
            raise NotFound(f"deleting tag {self._place}:{tag}: {self._missing()}")
        place = f"{self._place}/{INDEX}"
        self._files.change_index(lambda old: without_tag(parse_index(old, place), tag, place))

    # -- inside -----------------------------------------------------------------------------------

    def _named(self, ref: str) -> str:
        return f"{self._place}@{ref}" if is_digest(ref) else f"{self._place}:{check_tag(ref)}"

    def _missing(self) -> str:
        return "not in the layout" if self._files.exists() else "there is no such layout"

    def _require(self) -> None:
        if not self._files.exists():
            raise NotFound(f"{self._place}: there is no such layout", hint=f"ocisync push PATH {self._place}:TAG")

    def _read_index(self) -> tuple[LayoutIndex, dict[str, Descriptor]]:
        """The index, and every manifest that it leads to by digest; kept while the bytes are the same."""
        exists = self._files.exists()
        raw = self._files.read(INDEX, LAYOUT_INDEX_BYTES) if exists else None
        if self._listing is None or self._listing[0] != raw:
            index = parse_index(raw, f"{self._place}/{INDEX}")
            self._listing = (raw, index, self._lead(index))
        return self._listing[1], self._listing[2]

    def _lead(self, index: LayoutIndex) -> dict[str, Descriptor]:
        found: dict[str, Descriptor] = {}
        waiting = [entry.descriptor for entry in reversed(index.entries)]
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in found:
                continue
            found[descriptor.digest] = descriptor
            if len(found) > LAYOUT_MANIFESTS:
                raise Refused(f"{self._place} lists more than {LAYOUT_MANIFESTS} manifests", reason="TooLarge")
            if descriptor.media_type in INDEX_TYPES:
                waiting += reversed(self._children(descriptor))
        return found

    def _children(self, descriptor: Descriptor) -> list[Descriptor]:
        """What an index lists; nothing if it is broken: it says so when it is asked for."""
        try:
            raw = self.blob(descriptor, max_bytes=MANIFEST_BYTES)
            entries = index_entries(parse_json(raw, descriptor.digest), descriptor.digest)
        except (Refused, NotFound):
            return []
        return [child for entry in entries if (child := descriptor_of(entry)) is not None]

    def _subject(self, descriptor: Descriptor) -> tuple[str, Descriptor]:
        """What a manifest refers to, and its own descriptor."""
        raw = self.blob(descriptor, max_bytes=MANIFEST_BYTES)
        return subject_digest(raw), replace(referrer_descriptor(raw), media_type=descriptor.media_type)

    def _is_intact(self, descriptor: Descriptor) -> bool:
        name = blob_name(descriptor.digest)
        if self._files.size(name) != descriptor.size:
            return False
        file = self._files.open(name)
        if file is None:
            return False
        try:
            with file, Path(os.devnull).open("wb") as nowhere:
                copy_checked(file, nowhere, descriptor, self._place)
        except Refused:
            return False
        return True

    def _check_parts(self, raw: bytes, what: str) -> None:
        """Refuse a manifest whose parts are not there, as a registry does."""
        document = parse_json(raw, what)
        for part in _parts(document):
            descriptor = descriptor_of(part)
            if descriptor is None:
                raise InvalidInput(f"{what}: MANIFEST_INVALID: a part of it is no descriptor")
            if self._files.size(blob_name(descriptor.digest)) is None:
                raise Refused(f"{what}: MANIFEST_BLOB_UNKNOWN: {descriptor.digest} is not there", reason=BAD_ARTIFACT)


def _parts(document: dict[str, Any]) -> list[object]:
    parts = [document[name] for name in ("config",) if name in document]
    for name in ("layers", "manifests"):
        listed = document.get(name) or []
        parts += listed if isinstance(listed, list) else [listed]
    return parts


def _conforms(store: LayoutStore) -> tuple[Store, StreamingStore]:
    """Checked by the type checker: a layout store is a `Store`, and a `StreamingStore`."""
    return store, store
