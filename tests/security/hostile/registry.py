"""Manifests, configs and indexes under their right digests that are none of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ocisync.model.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from ocisync.model.digest import sha256_digest
from tests.security.hostile.common import (
    BLOBS,
    BUILT,
    CONFIG,
    MANIFEST,
    MIB,
    PULL,
    Case,
    changed,
    entry_of,
    layout,
    texts_from,
)

NUMBERS: list[Any] = [-1, 0, 1.5, 1e99, 2**63, 2**70, "515", None, True, []]


def manifest_cases() -> Iterator[Case]:
    """A manifest under its right digest that is none of ours."""
    for name, raw in texts_from(BUILT.manifest).items():
        yield Case(f"manifest {name}", PULL, layout(raw, BLOBS))
    for path in ("config.size", "layers.0.size"):
        for value in NUMBERS:
            yield Case(f"manifest {path} {value!r}", PULL, layout(changed(MANIFEST, path, value), BLOBS))
    values: dict[str, list[Any]] = {
        "schemaVersion": [1, "2", None, ...],
        "mediaType": [
            "text/html",
            OCI_INDEX,
            None,
            2,
            ["x"],
            "x" * 5000,
            "application/vnd.oci.image.manifest.v1+json;a=b",
        ],
        "config": [None, [], "x", {}, ...],
        "layers": [None, [], {}, "x", ..., MANIFEST["layers"] * 2, MANIFEST["layers"] * 5000, [None], [[]]],
        "config.mediaType": ["text/plain", None, 1, "application/vnd.in-toto+json"],
        "config.digest": [
            "sha256:abc",
            "md5:" + "a" * 32,
            None,
            1,
            "sha256:" + "A" * 64,
            "../../etc/passwd",
            "sha256:" + "0" * 64,
        ],
        "layers.0.mediaType": [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            None,
            {},
        ],
        "layers.0.digest": ["sha256:", "sha512:" + "a" * 128, None, [], "sha256:" + "g" * 64, "sha256:" + "0" * 64],
        "annotations": [[], "x", 1, {"a": 1}, {"a": None}, {"a": {"b": "c"}}],
        "manifests": [[]],
    }
    for path, changes in values.items():
        for index, value in enumerate(changes):
            yield Case(f"manifest {path} {index}", PULL, layout(changed(MANIFEST, path, value), BLOBS))
    yield Case("manifest without its config", PULL, layout(BUILT.manifest, {"layer": BUILT.layer}))
    yield Case("manifest without its layer", PULL, layout(BUILT.manifest, {"config": BUILT.config}))
    yield Case("manifest too large", PULL, layout(BUILT.manifest[:-1] + b" " * (5 * MIB) + b"}", BLOBS))


def config_cases() -> Iterator[Case]:
    """A config under its right digest."""

    def with_config(raw: bytes) -> dict[str, bytes]:
        entry_ = {"mediaType": OCI_CONFIG, "digest": sha256_digest(raw), "size": len(raw)}
        manifest = json.dumps({**MANIFEST, "config": entry_}).encode()
        return layout(manifest, {"config": raw, "layer": BUILT.layer})

    for name, raw in texts_from(BUILT.config).items():
        if name != "a space":
            yield Case(f"config {name}", PULL, with_config(raw))
    other = "sha256:" + "0" * 64
    roots: list[Any] = [None, [], {}, "x", ..., 1]
    for index, value in enumerate(roots):
        yield Case(f"config rootfs {index}", PULL, with_config(changed(CONFIG, "rootfs", value)))
    claims: list[Any] = [
        None,
        [],
        {},
        "x",
        [1],
        [None],
        [other],
        [other, other],
        ["sha256:x"],
        [BUILT.diff_id] * 2,
        ...,
    ]
    for index, value in enumerate(claims):
        yield Case(f"config diff_ids {index}", PULL, with_config(changed(CONFIG, "rootfs.diff_ids", value)))
    yield Case("config too large", PULL, with_config(BUILT.config + b" " * (2 * MIB)))


def index_cases() -> Iterator[Case]:
    """index.json and oci-layout of a layout."""
    good = entry_of(BUILT.manifest, "1")
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [good]}
    for name, raw in texts_from(json.dumps(document).encode()).items():
        yield Case(f"index {name}", PULL, layout(BUILT.manifest, BLOBS, index=raw))
    changes: dict[str, list[Any]] = {
        "mediaType": ["text/html", 1, OCI_MANIFEST],
        "manifests": [None, {}, "x", ..., [None], [[]], ["x"], [{}]],
        "manifests.0.digest": ["sha256:abc", None, 1, "../x", "sha256:../../../etc/passwd", "sha256:" + "0" * 64, ...],
        "manifests.0.size": [-1, 1, 10**12, "515", None, 1.5, ...],
        "manifests.0.mediaType": ["text/html", None, 1],
        "manifests.0.annotations": [[], "x", {"org.opencontainers.image.ref.name": 1}],
    }
    for path, values in changes.items():
        for number, value in enumerate(values):
            other = changed(document, path, value)
            yield Case(f"index {path} {number}", PULL, layout(BUILT.manifest, BLOBS, index=other))
    for name, raw in {
        "empty": b"",
        "no JSON": b"x",
        "another version": b'{"imageLayoutVersion":"9.0.0"}',
        "a list": b"[]",
        "no version": b"{}",
    }.items():
        yield Case(f"oci-layout {name}", PULL, {**layout(BUILT.manifest, BLOBS), "lay/oci-layout": raw})
    swapped = layout(BUILT.manifest, BLOBS)
    swapped[f"lay/blobs/sha256/{BUILT.layer_descriptor.digest[7:]}"] = BUILT.layer[:-1] + b"x"
    yield Case("a blob with other bytes", PULL, swapped)
    swapped = layout(BUILT.manifest, BLOBS)
    swapped[f"lay/blobs/sha256/{BUILT.descriptor.digest[7:]}"] = BUILT.manifest + b" "
    yield Case("a manifest with other bytes", PULL, swapped)
    nested = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [good]}).encode()
    yield Case(
        "an index where a manifest belongs",
        PULL,
        layout(nested, BLOBS, index={**document, "manifests": [{**entry_of(nested, "1"), "mediaType": OCI_INDEX}]}),
    )
