"""What a mirror file's head says of one repository, as a store to read from: judging works on it as on a registry.

Only what the signed contents list for this repository exists here: a signature that the same file carries for another
repository is not found. Of a delta, what is not in the file is asked of the destination, which is the only other place
whose content will be beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NoReturn

from ocisync.mirror.closure import Beside, Item
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest
from ocisync.model.errors import NotFound, Refused
from ocisync.oci.documents import referrer_descriptor
from ocisync.oci.store import Manifest, PutResult, Referrers, Store


class HeadStore:
    """Implements the reading half of `Store`."""

    def __init__(
        self,
        repository: str,
        items: Sequence[Item],
        beside: Sequence[Beside],
        data: Mapping[str, bytes],
        below: Store | None = None,
    ) -> None:
        self._repository = repository
        self._items = {item.digest: item for item in items}
        self._beside = {one.tag: one.item for one in beside}
        self._data = data
        self._below = below
        self._blobs = {blob.digest for item in (*items, *self._beside.values()) for blob in item.blobs}
        self._referrers: dict[str, list[Item]] = {}
        for item in items:
            self._referrers.setdefault(item.subject, []).append(item)

    @property
    def repository(self) -> str:
        """The repository at the destination: the name that policies match."""
        return self._repository

    def _find(self, ref: str) -> Item | None:
        return self._items.get(ref) if is_digest(ref) else self._beside.get(ref)

    def resolve(self, ref: str) -> Descriptor | None:
        """What a digest or a tag beside a digest is."""
        found = self._find(ref)
        if found is not None:
            return found.manifest.descriptor
        return self._below.resolve(ref) if self._below is not None else None

    def manifest(self, ref: str) -> Manifest:
        """A manifest."""
        found = self._find(ref)
        if found is not None:
            return found.manifest
        if self._below is None:
            raise NotFound(f"the file has no {ref} of {self._repository}")
        return self._below.manifest(ref)

    def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """A blob of the head."""
        if descriptor.size > max_bytes:
            raise Refused(f"blob {descriptor.digest}: more than the limit of {max_bytes}", reason="TooLarge")
        data = self._data.get(descriptor.digest) if descriptor.digest in self._blobs else None
        if data is not None and len(data) == descriptor.size:
            return data
        if self._below is None:
            raise NotFound(f"the head of the file has no blob {descriptor.digest} of {self._repository}")
        return self._below.blob(descriptor, max_bytes=max_bytes)

    def has_blob(self, digest: str) -> bool:
        """Whether the head has a blob."""
        return digest in self._data

    def tags(self) -> Iterator[str]:
        """Tags beside digests."""
        return iter(self._beside)

    def referrers(self, digest: str) -> Referrers:
        """What refers to a digest, by the manifests' own words."""
        found = {item.digest: referrer_descriptor(item.manifest.raw) for item in self._referrers.get(digest, ())}
        if self._below is None:
            return Referrers(tuple(found.values()), api=True)
        listed = self._below.referrers(digest)
        more = {item.digest: item for item in listed.descriptors}
        return Referrers(tuple((found | more).values()), listed.truncated, listed.problems, api=True)

    def ping(self) -> None:
        """Nothing to ask."""

    def close(self) -> None:
        """Nothing to close."""

    # -- writing is not possible ------------------------------------------------------------------

    def put_blob(self, descriptor: Descriptor, data: bytes | BinaryIO, *, absent: bool = False) -> bool:
        """Never."""
        self._read_only()

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Never."""
        self._read_only()

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        """Never."""
        self._read_only()

    def attach(self, raw_manifest: bytes, subject: Descriptor) -> Descriptor:
        """Never."""
        self._read_only()

    def delete_tag(self, tag: str) -> None:
        """Never."""
        self._read_only()

    def _read_only(self) -> NoReturn:
        raise TypeError("a file that is being judged cannot be written to")


def _conforms(store: HeadStore) -> Store:
    """Checked by the type checker."""
    return store
