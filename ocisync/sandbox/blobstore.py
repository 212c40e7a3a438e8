"""Where the sandbox registry keeps its bytes: in memory, or in a directory that survives a restart.

Directory layout (its own, not an OCI layout):

    blobs/<algorithm>/<hex>                     content, shared by all repositories
    repositories/<name>/_blobs/<digest>         empty marker: this repository has the blob
    repositories/<name>/_manifests/<digest>     first line media type, the rest the exact bytes
    repositories/<name>/_tags/<tag>             the digest
    uploads/<id>                                unfinished uploads (dropped at start)

Every file is written aside and renamed, so a killed server leaves whole files only.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from uuid import uuid4

CHUNK: Final = 256 * 1024  # bytes
ALGORITHMS: Final = {"sha256": 64, "sha512": 128}  # name -> hex digits


@dataclass(frozen=True, slots=True)
class Manifest:
    """One stored manifest."""

    media_type: str
    content: bytes


@dataclass(slots=True)
class Repository:
    """What one repository holds, by name and digest."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)


class Upload:
    """An unfinished blob: bytes so far, hashed while they arrive."""

    def __init__(self, identity: str, repository: str, sink: BinaryIO | None) -> None:
        """Collect into `sink`, or into memory when there is none."""
        self.identity = identity
        self.repository = repository
        self.size = 0
        self.lock = threading.Lock()
        self.parts: list[bytes] = []
        self.sink = sink
        self._hashes = {name: hashlib.new(name) for name in ALGORITHMS}

    def write(self, data: bytes) -> None:
        """Append bytes."""
        for digest in self._hashes.values():
            digest.update(data)
        self.size += len(data)
        if self.sink is None:
            self.parts.append(data)
        else:
            self.sink.write(data)

    def digest(self, algorithm: str) -> str:
        """Return the digest of the bytes so far."""
        return f"{algorithm}:{self._hashes[algorithm].hexdigest()}"


class BlobStore(Protocol):
    """Content by digest, and the repositories' own records."""

    def begin(self, repository: str) -> Upload:
        """Open an upload."""

    def finish(self, upload: Upload, digest: str) -> None:
        """Keep an upload's bytes under `digest`, which the caller has checked."""

    def abandon(self, upload: Upload) -> None:
        """Drop an upload."""

    def size(self, digest: str) -> int | None:
        """Return the size of a blob in bytes, None when unknown."""

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """Yield part of a blob."""

    def load(self) -> dict[str, Repository]:
        """Return everything kept from an earlier run."""

    def note_blob(self, repository: str, digest: str, *, present: bool) -> None:
        """Record that a repository has, or no longer has, a blob."""

    def note_manifest(self, repository: str, digest: str, manifest: Manifest | None) -> None:
        """Record or (None) remove a manifest."""

    def note_tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Record or (None) remove a tag."""


class MemoryBlobStore:
    """Keeps blobs in memory; `note_*` have nothing to do because the registry's own tables are the record."""

    def __init__(self) -> None:
        """Start empty."""
        self._blobs: dict[str, bytes] = {}

    def begin(self, repository: str) -> Upload:
        """Open an upload."""
        return Upload(uuid4().hex, repository, None)

    def finish(self, upload: Upload, digest: str) -> None:
        """Keep an upload's bytes."""
        self._blobs[digest] = b"".join(upload.parts)

    def abandon(self, upload: Upload) -> None:
        """Drop an upload."""
        upload.parts.clear()

    def size(self, digest: str) -> int | None:
        """Return the size of a blob in bytes."""
        content = self._blobs.get(digest)
        return None if content is None else len(content)

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """Yield part of a blob."""
        view = memoryview(self._blobs[digest])[start : start + length]
        for offset in range(0, len(view), CHUNK):
            yield bytes(view[offset : offset + CHUNK])

    def load(self) -> dict[str, Repository]:
        """Return nothing: memory starts empty."""
        return {}

    def note_blob(self, repository: str, digest: str, *, present: bool) -> None:
        """Do nothing."""

    def note_manifest(self, repository: str, digest: str, manifest: Manifest | None) -> None:
        """Do nothing."""

    def note_tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Do nothing."""


class DirectoryBlobStore:
    """Keeps everything below a directory."""

    def __init__(self, root: Path) -> None:
        """Use `root`, making it when missing."""
        self._root = root
        self._uploads = root / "uploads"
        self._uploads.mkdir(parents=True, exist_ok=True)
        for stale in self._uploads.iterdir():
            stale.unlink()

    def begin(self, repository: str) -> Upload:
        """Open an upload."""
        identity = uuid4().hex
        return Upload(identity, repository, (self._uploads / identity).open("wb"))

    def finish(self, upload: Upload, digest: str) -> None:
        """Keep an upload's bytes."""
        if upload.sink is not None:
            upload.sink.close()
        target = self._blob(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._uploads / upload.identity).replace(target)

    def abandon(self, upload: Upload) -> None:
        """Drop an upload."""
        if upload.sink is not None:
            upload.sink.close()
        (self._uploads / upload.identity).unlink(missing_ok=True)

    def size(self, digest: str) -> int | None:
        """Return the size of a blob in bytes."""
        try:
            return self._blob(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """Yield part of a blob."""
        with self._blob(digest).open("rb") as source:
            source.seek(start)
            left = length
            while left and (data := source.read(min(CHUNK, left))):
                left -= len(data)
                yield data

    def load(self) -> dict[str, Repository]:
        """Read the records of an earlier run."""
        base = self._root / "repositories"
        found: dict[str, Repository] = {}
        for kind in ("_blobs", "_manifests", "_tags"):
            for folder in base.rglob(kind):
                repository = found.setdefault(folder.parent.relative_to(base).as_posix(), Repository())
                for record in folder.iterdir():
                    _load_record(repository, kind, record)
        return found

    def note_blob(self, repository: str, digest: str, *, present: bool) -> None:
        """Record or remove a blob marker."""
        self._write(repository, "_blobs", digest, b"" if present else None)

    def note_manifest(self, repository: str, digest: str, manifest: Manifest | None) -> None:
        """Record or remove a manifest."""
        content = None if manifest is None else manifest.media_type.encode() + b"\n" + manifest.content
        self._write(repository, "_manifests", digest, content)

    def note_tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Record or remove a tag."""
        self._write(repository, "_tags", tag, None if digest is None else digest.encode())

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self._root / "blobs" / algorithm / value

    def _write(self, repository: str, kind: str, name: str, content: bytes | None) -> None:
        folder = self._root / "repositories" / repository / kind
        target = folder / name.replace(":", "_")
        if content is None:
            target.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        aside = self._uploads / uuid4().hex
        with aside.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        aside.replace(target)


def _load_record(repository: Repository, kind: str, record: Path) -> None:
    if kind == "_tags":
        repository.tags[record.name] = record.read_text()
        return
    digest = record.name.replace("_", ":", 1)
    if kind == "_blobs":
        repository.blobs.add(digest)
        return
    media_type, _, content = record.read_bytes().partition(b"\n")
    repository.manifests[digest] = Manifest(media_type.decode(), content)
