"""Artifacts as registries hand them out, read with the standard library; and broken ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from ocisync.pack.artifact import BuiltArtifact
from tests.compat.rules import Image

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def fetched(repository: str, reference: str) -> Image:
    """Manifest and blobs over plain HTTP."""
    host, _, path = repository.partition("/")
    manifest = _get(f"http://{host}/v2/{path}/manifests/{reference}", Accept=MANIFESTS)
    document = json.loads(manifest)
    wanted = [item["digest"] for item in (document["config"], *document["layers"])]
    return Image(manifest, {digest: _get(f"http://{host}/v2/{path}/blobs/{digest}") for digest in wanted})


def _get(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        data: bytes = answer.read()
    return data


def of_built(built: BuiltArtifact) -> Image:
    """What a push would upload."""
    return Image(
        built.manifest,
        {built.config_descriptor.digest: built.config, built.layer_descriptor.digest: built.layer},
    )


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def changed(image: Image, change: Callable[[Any], object]) -> Image:
    """With another manifest."""
    document = json.loads(image.manifest)
    change(document)
    return Image(json.dumps(document).encode(), dict(image.blobs))


def with_config(image: Image, change: Callable[[Any], object]) -> Image:
    """With another config, truly described."""
    config = image.config
    change(config)
    data = json.dumps(config).encode()
    made = Image(image.manifest, {**image.blobs, digest_of(data): data})
    return changed(made, lambda document: document["config"].update(digest=digest_of(data), size=len(data)))


def with_layer(image: Image, layer: bytes) -> Image:
    """With another layer, truly described."""
    made = Image(image.manifest, {**image.blobs, digest_of(layer): layer})
    made = changed(made, lambda document: document["layers"][0].update(digest=digest_of(layer), size=len(layer)))
    if layer[:2] != b"\x1f\x8b":
        return made
    diff_id = digest_of(gzip.decompress(layer))
    return with_config(made, lambda config: config["rootfs"].update(diff_ids=[diff_id]))


def with_entries(image: Image, entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Image:
    """With a layer of these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return with_layer(image, gzip.compress(buffer.getvalue(), mtime=0))


def entry(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A tar entry; a directory if its name ends in a slash."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    info.mode = 0o755 if name.endswith("/") else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data
