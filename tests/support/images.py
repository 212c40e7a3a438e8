"""Small manifests for registry tests, and options that never sleep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ocisync.model.descriptor import (
    BUNDLE_V03,
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.oci.options import RegistryOptions
from ocisync.oci.store import Store

OCTETS = "application/octet-stream"
EMPTY = Descriptor(OCI_EMPTY, EMPTY_JSON_DIGEST, 2)


def described(data: bytes, media_type: str = OCTETS) -> Descriptor:
    """The descriptor of some bytes."""
    return Descriptor(media_type, sha256_digest(data), len(data))


def image(*layers: Descriptor, subject: Descriptor | None = None, **more: Any) -> bytes:
    """An image manifest with the empty config."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": EMPTY.as_dict(),
        "layers": [layer.as_dict() for layer in layers],
        **more,
    }
    if subject is not None:
        document["subject"] = subject.as_dict()
    return json.dumps(document).encode()


def index(*entries: Mapping[str, object]) -> bytes:
    """An image index."""
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}).encode()


def push_image(store: Store, tag: str, content: bytes = b"layer one") -> Descriptor:
    """Push a one-layer image under a tag; return its descriptor."""
    layer = described(content)
    store.put_blob(layer, content)
    store.put_blob(EMPTY, EMPTY_JSON)
    raw = image(layer)
    store.put_manifest(raw, OCI_MANIFEST, tag)
    return described(raw, OCI_MANIFEST)


def push_bundle(store: Store, subject: Descriptor, payload: bytes, **more: Any) -> bytes:
    """Upload a payload and return the (not yet pushed) manifest that makes it a signature bundle of `subject`."""
    layer = described(payload, BUNDLE_V03)
    store.put_blob(layer, payload)
    store.put_blob(EMPTY, EMPTY_JSON)
    return image(layer, subject=subject, artifactType=BUNDLE_V03, **more)


@dataclass
class Sleeper:
    """Records the waits that a store asks for, and takes no time."""

    slept: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def quick(sleep: Callable[[float], object] | None = None, **more: Any) -> RegistryOptions:
    """Options for tests: no sleeping, jitter in the middle."""
    return RegistryOptions(sleep=sleep or Sleeper(), random=lambda: 0.5, **more)
