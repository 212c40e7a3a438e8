"""Fetch the content of a verified artifact: config and layer by the digests that its manifest names, files in memory.

Every byte is hashed while it is read; sizes are bounded twice, by the descriptor and by the project's limits.

`look` does the same for an artifact that nobody has judged. What it returns is for eyes and comparisons: it holds no
`Verified`, so nothing that writes to a cluster accepts it.
"""

from __future__ import annotations

from ocisync.model.artifact import ArtifactManifest, Verified
from ocisync.model.errors import NotFound
from ocisync.model.limits import CONFIG_BYTES, LAYER_BYTES
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.oci.store import Store
from ocisync.pack.artifact import parse_manifest
from ocisync.pack.untar import read_unverified, unpack


@dataclass(frozen=True, slots=True)
class Fetched:
    """Files sorted by path, and the blobs that they came from (to keep a local copy)."""

    files: tuple[TreeFile, ...]
    config: bytes
    layer: bytes


def fetch(store: Store, verified: Verified) -> Fetched:
    """Read both blobs and unpack.

    Raises:
        Refused: the content is not what the manifest says, or is hostile (reason `BadArtifact`).
        Unavailable, AccessDenied, NotFound: the registry.
    """
    config = store.blob(verified.manifest.config, max_bytes=CONFIG_BYTES)
    layer = store.blob(verified.manifest.layer, max_bytes=LAYER_BYTES)
    return Fetched(unpack(verified, config, layer), config, layer)


@dataclass(frozen=True, slots=True)
class Looked:
    """What an artifact says it is, and the files in it, sorted by path. Nothing of it is verified."""

    manifest: ArtifactManifest
    files: tuple[TreeFile, ...]


def look(store: Store, reference: str) -> Looked:
    """Read what a tag or a digest leads to, without any judgement.

    Raises:
        NotFound: no such tag or digest.
        Refused: it is no artifact, or is hostile (reason `BadArtifact`).
        Unavailable, AccessDenied: the registry.
    """
    descriptor = store.resolve(reference)
    if descriptor is None:
        raise NotFound(f"{store.repository} has no {reference}", hint=f"ocisync list {store.repository}")
    # By digest from here on: the tag may move while we read.
    found = store.manifest(descriptor.digest)
    manifest = parse_manifest(found.raw, found.descriptor)
    config = store.blob(manifest.config, max_bytes=CONFIG_BYTES)
    layer = store.blob(manifest.layer, max_bytes=LAYER_BYTES)
    return Looked(manifest, read_unverified(manifest, config, layer))
