"""What the parts of the corpus share: a case, image layouts with one artifact, and JSON that is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocisync.model.descriptor import OCI_INDEX, OCI_MANIFEST
from ocisync.model.digest import sha256_digest
from tests.support.artifacts import artifact

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n"
REPOSITORY = "registry.example/shop"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """One input. `words` must be in its error; `places` says that the error names file, line and column."""

    name: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes]
    words: str = ""
    places: bool = False


def layout(
    manifest: bytes, blobs: Mapping[str, bytes], *, index: Any = None, others: tuple[tuple[str, bytes], ...] = ()
) -> dict[str, bytes]:
    """An image layout with one manifest under the tag 1, and other manifests (tag or nothing, bytes)."""
    entries = [entry_of(manifest, "1"), *(entry_of(raw, tag) for tag, raw in others)]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries} if index is None else index
    files = {
        "lay/oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "lay/index.json": document if isinstance(document, bytes) else json.dumps(document).encode(),
    }
    for data in (manifest, *blobs.values(), *(raw for _, raw in others)):
        files[f"lay/blobs/sha256/{sha256_digest(data)[7:]}"] = data
    return files


def entry_of(raw: bytes, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": sha256_digest(raw), "size": len(raw)}
    return {**found, "annotations": {"org.opencontainers.image.ref.name": tag}} if tag else found


BUILT = artifact({"a.yaml": OBJECT})
MANIFEST: dict[str, Any] = json.loads(BUILT.manifest)
CONFIG: dict[str, Any] = json.loads(BUILT.config)
BLOBS = {"config": BUILT.config, "layer": BUILT.layer}
PULL = ("pull", "oci-layout:lay:1", "-d", "out", "-q")


def changed(document: dict[str, Any], path: str, value: Any) -> bytes:
    copied = copy.deepcopy(document)
    at: Any = copied
    *parents, last = path.split(".")
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at[part]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(copied).encode()


def texts_from(good: bytes) -> dict[str, bytes]:
    """What no JSON document of a registry may be."""
    return {
        "empty": b"",
        "a space": b" ",
        "null": b"null",
        "a list": b"[]",
        "a number": b"1",
        "a string": b'"a"',
        "NaN": b"NaN",
        "cut off": good[:-1],
        "half": good[: len(good) // 2],
        "twice": good + good,
        "bytes behind it": good + b"x",
        "UTF-16": good.decode().encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "Latin-1": good[:-1] + b',"a":"\xe9"}',
        "a key twice": good[:-1] + b',"schemaVersion":2,"schemaVersion":2}',
        "a lone surrogate": good[:-1] + b',"a":"\\ud800"}',
        "an infinite number": good[:-1] + b',"a":1e999}',
        "NaN inside": good[:-1] + b',"a":NaN}',
        "a comment": good + b"// x",
        "depth": good[:-1] + b',"a":' + b"[" * 500 + b"]" * 500 + b"}",
        "great depth": b'{"a":' * 100_000,
        "brackets": b"[" * 500_000,
        "a long number": good[:-1] + b',"a":' + b"9" * 5000 + b"}",
        "single quotes": good.replace(b'"', b"'"),
        "YAML": b"schemaVersion: 2\n",
    }
