"""Tags such as `sha256-….sig`, which everyone who signs a digest shares: brought together, never replaced.

A signature tag is a list of layers. What is written holds all layers of both sides; where one side has everything of
the other, its own bytes are kept, so that digests stay equal wherever they can.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ocisync.model.descriptor import DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Refused
from ocisync.model.limits import EVIDENCE_DESCRIPTORS, MANIFEST_BYTES
from ocisync.oci.documents import BAD_ARTIFACT, descriptor_of, parse_json
from ocisync.oci.store import Manifest

MERGED_SUFFIXES = frozenset({"sig", "att"})  # lists, to which signers add; other tags hold one thing
_MOMENT = "0001-01-01T00:00:00Z"  # what cosign writes; the config says nothing


@dataclass(frozen=True, slots=True)
class Union:
    """What is to be written. `config` is to be uploaded with it; empty if the bytes are the source's own."""

    raw: bytes
    media_type: str
    config: bytes = b""

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return sha256_digest(self.raw)

    @property
    def config_descriptor(self) -> Descriptor:
        """Of the config."""
        return Descriptor(OCI_CONFIG, sha256_digest(self.config), len(self.config))


def union(ours: Manifest, theirs: Manifest | None) -> Union | None:
    """Bring two signature manifests together.

    Args:
        ours: of the source.
        theirs: what the destination has; None for nothing.

    Returns:
        What to write; None if the destination has everything.

    Raises:
        Refused: one of them is no list of layers, or they are too many together.
    """
    copied = Union(ours.raw, ours.descriptor.media_type)
    if theirs is None:
        return copied
    if theirs.descriptor.digest == ours.descriptor.digest:
        return None
    mine, there = _layers(ours), _layers(theirs)
    new = [layer for layer in mine if layer not in there]
    if not new:
        return None
    if all(layer in mine for layer in there):
        return copied
    return _merged(theirs, there + new)


def _merged(theirs: Manifest, layers: list[dict[str, Any]]) -> Union:
    if len(layers) > EVIDENCE_DESCRIPTORS:
        raise Refused(f"{len(layers)} signatures at one tag, more than {EVIDENCE_DESCRIPTORS}", reason="TooLarge")
    config = _compact(
        {
            "architecture": "",
            "created": _MOMENT,
            "history": [{"created": _MOMENT} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "config": {},
        }
    )
    document = parse_json(theirs.raw, "signature manifest")
    document["layers"] = layers
    document["config"] = Descriptor(OCI_CONFIG, sha256_digest(config), len(config)).as_dict()
    raw = _compact(document)
    if len(raw) > MANIFEST_BYTES:
        raise Refused(f"the signatures of both sides exceed {MANIFEST_BYTES} bytes", reason="TooLarge")
    return Union(raw, theirs.descriptor.media_type, config)


def _layers(manifest: Manifest) -> list[dict[str, Any]]:
    what = f"signature manifest {manifest.descriptor.digest}"
    layers = parse_json(manifest.raw, what).get("layers")
    known = manifest.descriptor.media_type in (OCI_MANIFEST, DOCKER_MANIFEST)
    if not known or not isinstance(layers, list) or any(descriptor_of(layer) is None for layer in layers):
        raise Refused(f"{what} is no list of signatures", reason=BAD_ARTIFACT)
    return layers


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
