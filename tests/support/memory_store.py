"""A registry repository in memory: the `Store` Protocol, a log of writes, and faults on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import NotFound, Refused, Unavailable
from ocisync.oci.store import Manifest, PutResult, Referrers, Store


class MemoryStore:
    """Content-addressed, as strict as a registry: manifests need their blobs, digests are checked.

    Attributes:
        writes: `blob DIGEST`, `manifest REF`, in order.
        fail: called with each write before it happens; raises to make it fail.
    """

    def __init__(self, repository: str = "registry.example/acme/shop") -> None:
        self._repository = repository
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.tag_digests: dict[str, str] = {}
        self.writes: list[str] = []
        self.fail: Callable[[str], None] = lambda _write: None

    @property
    def repository(self) -> str:
        return self._repository

    def stop_at(self, start: str) -> None:
        """Make the first write that starts so, and every later one, fail: as if the pusher had been killed."""

        def fail(write: str) -> None:
            if write.startswith(start):
                self.stop_at("")
                raise Unavailable(f"killed at {write}")

        self.fail = fail

    def heal(self) -> None:
        """Let writes pass again, and forget the log."""
        self.fail = lambda _write: None
        self.writes.clear()

    def every_byte(self) -> bytes:
        """All that was ever uploaded."""
        return b"\n".join((*self.blobs.values(), *self.manifests.values(), "\n".join(self.tag_digests).encode()))

    def _write(self, what: str) -> None:
        self.fail(what)
        self.writes.append(what)

    def _digest(self, ref: str) -> str:
        return ref if is_digest(ref) else self.tag_digests.get(ref, "")

    def resolve(self, ref: str) -> Descriptor | None:
        digest = self._digest(ref)
        if digest not in self.manifests:
            return None
        return Descriptor(_media_type(self.manifests[digest]), digest, len(self.manifests[digest]))

    def manifest(self, ref: str) -> Manifest:
        descriptor = self.resolve(ref)
        if descriptor is None:
            raise NotFound(f"no manifest {ref}")
        return Manifest(descriptor, self.manifests[descriptor.digest])

    def blob(self, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        data = self.blobs.get(descriptor.digest)
        if data is None:
            raise NotFound(f"no blob {descriptor.digest}")
        if len(data) != descriptor.size or len(data) > max_bytes:
            raise Refused("wrong size", reason="BadArtifact")
        return data

    def has_blob(self, digest: str) -> bool:
        return digest in self.blobs

    def put_blob(self, descriptor: Descriptor, data: bytes | BinaryIO, *, absent: bool = False) -> bool:
        if descriptor.digest in self.blobs:
            return False
        content = data if isinstance(data, bytes) else data.read()
        assert sha256_digest(content) == descriptor.digest
        self._write(f"blob {descriptor.digest}")
        self.blobs[descriptor.digest] = content
        return True

    def mount_blob(self, digest: str, from_repository: str) -> bool:
        return False

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> PutResult:
        document = json.loads(raw)
        for part in [document["config"], *document["layers"]] if "config" in document else []:
            assert part["digest"] in self.blobs, f"blob {part['digest']} is missing"
        digest = sha256_digest(raw)
        assert not is_digest(ref) or ref == digest
        self._write(f"manifest {ref}")
        self.manifests[digest] = raw
        if not is_digest(ref):
            self.tag_digests[ref] = digest
        return PutResult(digest, subject_indexed=True)

    def tags(self) -> Iterator[str]:
        return iter(sorted(self.tag_digests))

    def referrers(self, digest: str) -> Referrers:
        found = [
            Descriptor(OCI_MANIFEST, own, len(raw))
            for own, raw in self.manifests.items()
            if json.loads(raw).get("subject", {}).get("digest") == digest
        ]
        return Referrers(tuple(found), api=True)

    def attach(self, raw_manifest: bytes, subject: Descriptor) -> Descriptor:
        assert subject.digest in self.manifests
        digest = sha256_digest(raw_manifest)
        self.put_manifest(raw_manifest, OCI_MANIFEST, digest)
        return Descriptor(OCI_MANIFEST, digest, len(raw_manifest))

    def delete_tag(self, tag: str) -> None:
        self.tag_digests.pop(tag, None)

    def ping(self) -> None:
        return None

    def close(self) -> None:
        return None


def _media_type(raw: bytes) -> str:
    return str(json.loads(raw).get("mediaType", OCI_MANIFEST))


_: type[Store] = MemoryStore
