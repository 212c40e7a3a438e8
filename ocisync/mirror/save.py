"""Write a closure into one file, as a stream: the head, then the blobs, each checked while it passes through.

The size of everything is known before the first byte, so the file can go to a pipe. Memory holds the head, and one
piece of a blob.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ocisync.kit.strictjson import Malformed
from ocisync.mirror.archive import ArchiveWriter, file_size, write_head
from ocisync.mirror.closure import Closure, RepositoryClosure
from ocisync.mirror.contents import CONTENTS_TYPE, Cargo, Contents, cargo_name
from ocisync.mirror.describe import Base, describe
from ocisync.mirror.stores import Stores
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput, Refused
from ocisync.model.limits import (
    BUNDLE_BYTES,
    CONFIG_BYTES,
    LAYOUT_INDEX_BYTES,
    MIRROR_CARGO_BYTES,
    MIRROR_CARGO_COUNT,
    MIRROR_CONTENTS_BYTES,
    MIRROR_HEAD_BYTES,
)
from ocisync.signing.envelope import seal
from ocisync.signing.keys import Signer


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How to write.

    Attributes:
        created: RFC 3339.
        signers: who vouches for the list of contents; nobody is possible.
        base: leave out what the far side has.
        cargo: files that travel along, by name.
        trust_version: the number of the cargo's edition.
        spare: a blob that is on this machine already, from a run that was killed; None if it is not.
        progress: told how many bytes of blobs were written.
    """

    created: str
    signers: tuple[Signer, ...] = ()
    base: Base | None = None
    cargo: Mapping[str, bytes] | None = None
    trust_version: int = 0
    spare: Callable[[Descriptor], BinaryIO | None] = lambda _: None
    progress: Callable[[int], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file before it is written. `total` is its size in bytes of blobs behind the head."""

    closure: Closure
    contents: Contents
    index: bytes
    envelope: bytes

    @property
    def digest(self) -> str:
        """Names the file: the digest of its contents document."""
        return sha256_digest(self.contents.dump())

    @property
    def total(self) -> int:
        """Bytes of blobs behind the head."""
        return sum(size for _, size in self.contents.rest())

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return file_size(len(self.index), len(self.envelope), self.contents)

    def as_json(self) -> dict[str, Any]:
        """What scripts read."""
        parts = self.contents.parts
        return {
            "digest": self.digest,
            "base": self.contents.base,
            "repositories": [
                {
                    "name": part.name,
                    "manifests": len(part.manifests),
                    "blobs": len(part.blobs),
                    "bytes": sum(blob.size for blob in part.blobs),
                    "tags": {tag.name: tag.digest for tag in part.tags},
                    "needs": {"manifests": len(part.needs_manifests), "blobs": len(part.needs_blobs)},
                }
                for part in parts
            ],
            "cargo": [{"name": item.name, "digest": item.digest} for item in self.contents.cargo],
        }


def prepare(closure: Closure, options: SaveOptions) -> Prepared:
    """Decide what the file holds. Nothing is read or written.

    Raises:
        Refused: more than one file can hold.
        UsageError: a layout that stands for no repository.
        InvalidInput: cargo that cannot be taken along.
    """
    cargo = _cargo(options.cargo or {})
    contents, index = describe(
        closure, options.created, base=options.base, cargo=cargo, trust_version=options.trust_version
    )
    payload = contents.dump()
    head = sum(size for _, size in contents.head())
    for what, size, limit in (
        ("a list of contents", len(payload), MIRROR_CONTENTS_BYTES),
        ("an index", len(index), LAYOUT_INDEX_BYTES),
        ("manifests and signatures", head, MIRROR_HEAD_BYTES),
    ):
        if size > limit:
            raise Refused(
                f"{what} of {size} bytes, more than the limit of {limit}",
                reason="TooLarge",
                hint="save in several files",
            )
    return Prepared(closure, contents, index, seal(CONTENTS_TYPE, payload, options.signers))


def _cargo(files: Mapping[str, bytes]) -> tuple[Cargo, ...]:
    if len(files) > MIRROR_CARGO_COUNT:
        raise InvalidInput(f"{len(files)} files for --with-trust, at most {MIRROR_CARGO_COUNT} are taken")
    found = []
    for name, data in files.items():
        if len(data) > MIRROR_CARGO_BYTES:
            raise InvalidInput(f"{name} has {len(data)} bytes: no key, policy or trusted root is so large")
        if b"PRIVATE KEY" in data:
            raise InvalidInput(f"{name} holds a private key, which must not travel", hint="name the .pub file")
        try:
            found.append(Cargo(cargo_name(name), sha256_digest(data), len(data)))
        except Malformed as error:
            raise InvalidInput(str(error)) from error
    return tuple(found)


def write(prepared: Prepared, stores: Stores, target: BinaryIO, options: SaveOptions) -> int:
    """Write the file; returns its size in bytes.

    Raises:
        NotFound, Refused, Unavailable: a blob cannot be read; the file is unusable then.
    """
    archive = ArchiveWriter(target)
    sources = _Sources(prepared.closure, stores, options)
    manifests = {item.digest: item.manifest.raw for part in prepared.closure.repositories for item in part.manifests()}
    cargo = {sha256_digest(data): data for data in (options.cargo or {}).values()}

    def head(digest: str) -> bytes:
        if digest in manifests:
            return manifests[digest]
        return cargo[digest] if digest in cargo else sources.small(digest)

    write_head(archive, prepared.index, prepared.envelope, prepared.contents, head)
    for digest, _ in prepared.contents.rest():
        sources.copy(digest, archive)
    archive.end()
    return archive.written


class _Sources:
    """Where each blob can be read."""

    def __init__(self, closure: Closure, stores: Stores, options: SaveOptions) -> None:
        self._stores = stores
        self._options = options
        self._found: dict[str, tuple[RepositoryClosure, Descriptor]] = {}
        for part in closure.repositories:
            for digest, blob in part.blobs().items():
                self._found.setdefault(digest, (part, blob))

    def small(self, digest: str) -> bytes:
        part, blob = self._found[digest]
        return self._stores.at(part.place).blob(blob, max_bytes=max(CONFIG_BYTES, BUNDLE_BYTES))

    def copy(self, digest: str, archive: ArchiveWriter) -> None:
        part, blob = self._found[digest]
        spare = self._options.spare(blob)
        with spare if spare is not None else self._stores.at(part.place).open_blob(blob) as source:
            archive.copy(blob, source, self._options.progress)
