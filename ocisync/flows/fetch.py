"""Fetch the content of a verified artifact: config and layer by the digests that its manifest names, files in memory.

Every byte is hashed while it is read; sizes are bounded twice, by the descriptor and by the project's limits.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocisync.model.artifact import Verified
from ocisync.model.limits import CONFIG_BYTES, LAYER_BYTES
from ocisync.model.tree import TreeFile
from ocisync.oci.store import Store
from ocisync.pack.untar import unpack


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
