"""The verified local copy: manifest, config, layer and evidence of what each sync applied, kept on disk.

Nothing on the disk is trusted: every file is named for its digest and hashed when it is read, and the evidence is
judged again before anything is used. A pointer per sync says which artifact is the one. Files are written whole
(temporary file, fsync, rename), the pointer last, so a crash leaves the old copy or the new one. A disk that is full,
read-only or gone costs the copy, never a reconcile.

    DIRECTORY/blobs/<hex>       content by sha256
    DIRECTORY/syncs/<hex>.json  {"repository", "selector", "mediaType", "manifest", "config", "layer", "evidence",
                                "tag"}
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ocisync.kit import atomic
from ocisync.kit.log import logger
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.evidence import EvidenceSet, RawSignature, SignatureFormat
from ocisync.model.limits import CONFIG_BYTES, EVIDENCE_BYTES, LAYER_BYTES, MANIFEST_BYTES, MIB
from ocisync.model.values import dataclass

_LOG = logger("localcopy")
_POINTER_BYTES = 1 * MIB
_IN_MEMORY_BYTES = 2 * MIB  # ten thousand objects are a tenth of that
_EVIDENCE_BYTES = 2 * EVIDENCE_BYTES  # base64 and JSON around it


@dataclass(frozen=True, slots=True)
class Saved:
    """One artifact as it was fetched, with the evidence it was judged by. Untrusted again once it was on a disk."""

    repository: str
    selector: str
    media_type: str
    manifest: bytes
    config: bytes
    layer: bytes
    evidence: EvidenceSet
    tag: str = ""  # that led to it; older copies have none

    @property
    def digest(self) -> str:
        """The digest of the manifest's bytes."""
        return sha256_digest(self.manifest)


class LocalCopies:
    """Copies of all syncs in one directory. Thread-safe.

    Without a directory, or while the disk takes nothing, small copies live as long as the process: a retry then needs
    no registry.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._troubled = False
        self._in_memory: dict[str, Saved] = {}

    def save(self, sync: str, saved: Saved) -> bool:
        """Keep a copy for a sync (`namespace/name`); False if it does not outlive the process."""
        if self._directory is None:
            self._remember(sync, saved)
            return False
        evidence = evidence_bytes(saved.evidence)
        pointer = {
            "repository": saved.repository,
            "selector": saved.selector,
            "mediaType": saved.media_type,
            "manifest": sha256_digest(saved.manifest),
            "config": sha256_digest(saved.config),
            "layer": sha256_digest(saved.layer),
            "evidence": sha256_digest(evidence),
            "tag": saved.tag,
        }
        with self._lock:
            try:
                self._blobs.mkdir(parents=True, exist_ok=True)
                self._syncs.mkdir(parents=True, exist_ok=True)
                for data in (saved.manifest, saved.config, saved.layer, evidence):
                    self._write_blob(data)
                atomic.write_bytes(self._pointer(sync), json.dumps(pointer, sort_keys=True).encode(), mode=0o600)
                self._sweep()
            except OSError as error:
                if not self._troubled:
                    _LOG.warning("no local copy could be written", sync=sync, error=error)
                self._troubled = True
                self._remember(sync, saved)
                return False
            self._troubled = False
            self._in_memory.pop(sync, None)
            return True

    def load(self, sync: str, repository: str, selector: str) -> Saved | None:
        """The copy of a sync, if it is complete, undamaged and of this repository and selector."""
        kept = self._in_memory.get(sync)
        if kept is not None and (kept.repository, kept.selector) == (repository, selector):
            return kept
        if self._directory is None:
            return None
        with self._lock:
            try:
                pointer = json.loads(self._read(self._pointer(sync), _POINTER_BYTES))
                if pointer["repository"] != repository or pointer["selector"] != selector:
                    return None
                return Saved(
                    repository=repository,
                    selector=selector,
                    media_type=str(pointer["mediaType"]),
                    manifest=self._blob(pointer["manifest"], MANIFEST_BYTES),
                    config=self._blob(pointer["config"], CONFIG_BYTES),
                    layer=self._blob(pointer["layer"], LAYER_BYTES),
                    evidence=evidence_of(self._blob(pointer["evidence"], _EVIDENCE_BYTES)),
                    tag=str(pointer.get("tag") or ""),
                )
            except (FileNotFoundError, NotADirectoryError):
                return None
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                _LOG.warning("the local copy is damaged and not used", sync=sync, error=error)
                return None

    def keep_good(self, sync: str) -> None:
        """What a sync has now is good: keep it beside whatever comes next. It costs a pointer, and no content."""
        kept = self._in_memory.get(sync)
        if kept is not None:
            self._in_memory[good(sync)] = kept
        if self._directory is None:
            return
        with self._lock, contextlib.suppress(OSError):
            pointer = self._read(self._pointer(sync), _POINTER_BYTES)
            atomic.write_bytes(self._pointer(good(sync)), pointer, mode=0o600)
            self._sweep()

    def drop(self, sync: str) -> None:
        """Forget a sync that was deleted."""
        for name in (sync, good(sync)):
            self._in_memory.pop(name, None)
            if self._directory is not None:
                with self._lock, contextlib.suppress(OSError):
                    self._pointer(name).unlink(missing_ok=True)
                    self._sweep()

    def _remember(self, sync: str, saved: Saved) -> None:
        self._in_memory.pop(sync, None)
        if len(saved.layer) <= _IN_MEMORY_BYTES:
            self._in_memory[sync] = saved

    @property
    def _blobs(self) -> Path:
        return (self._directory or Path()) / "blobs"

    @property
    def _syncs(self) -> Path:
        return (self._directory or Path()) / "syncs"

    def _pointer(self, sync: str) -> Path:
        return self._syncs / f"{hashlib.sha256(sync.encode()).hexdigest()}.json"

    def _write_blob(self, data: bytes) -> None:
        path = self._blobs / sha256_digest(data).removeprefix("sha256:")
        if not path.exists() or path.stat().st_size != len(data):
            atomic.write_bytes(path, data, mode=0o600)

    def _blob(self, digest: object, limit: int) -> bytes:
        if not isinstance(digest, str) or not is_digest(digest):
            raise ValueError(f"not a digest: {str(digest)[:80]!r}")
        path = self._blobs / digest.removeprefix("sha256:")
        data = self._read(path, limit)
        if sha256_digest(data) != digest:
            path.unlink(missing_ok=True)  # so that the next save writes it anew
            raise ValueError(f"{path.name} does not hold what its name says")
        return data

    def _read(self, path: Path, limit: int) -> bytes:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"{path.name} is larger than {limit} bytes")
        return data

    def _sweep(self) -> None:
        """Remove blobs that no pointer names; a pointer that can't be read keeps everything."""
        try:
            named = {
                str(digest).removeprefix("sha256:")
                for path in self._syncs.glob("*.json")
                for digest in json.loads(path.read_bytes()).values()
            }
        except (ValueError, AttributeError, RecursionError):
            return
        for path in self._blobs.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)


def good(sync: str) -> str:
    """The name under which the last good copy of a sync is found; no sync can be called so."""
    return f"{sync}@good"


def evidence_bytes(evidence: EvidenceSet) -> bytes:
    """Evidence as it is kept."""
    return json.dumps(
        {
            "truncated": evidence.truncated,
            "problems": list(evidence.problems),
            "items": [
                {
                    "format": item.format.value,
                    "source": item.source,
                    "payload": base64.b64encode(item.payload).decode(),
                    "signature": item.signature,
                }
                for item in evidence.items
            ],
        },
        sort_keys=True,
    ).encode()


def evidence_of(data: bytes) -> EvidenceSet:
    """Evidence from kept bytes; raises ValueError, KeyError or TypeError if they are none."""
    document: dict[str, Any] = json.loads(data)
    items: Iterable[dict[str, Any]] = document["items"]
    return EvidenceSet(
        items=tuple(
            RawSignature(
                format=SignatureFormat(item["format"]),
                source=str(item["source"]),
                payload=base64.b64decode(item["payload"], validate=True),
                signature=str(item["signature"]),
            )
            for item in items
        ),
        truncated=bool(document["truncated"]),
        problems=tuple(str(problem) for problem in document["problems"]),
    )
