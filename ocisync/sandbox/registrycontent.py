"""Digests, manifests, ranges and refusals of the sandbox registry. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ocisync.sandbox.blobstore import ALGORITHMS, Manifest

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"

ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (416, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (400, "manifest references a manifest or blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown to registry"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "SIZE_INVALID": (413, "manifest larger than the limit"),
    "TAG_INVALID": (400, "invalid tag"),
    "UNAUTHORIZED": (401, "authentication required"),
    "DENIED": (403, "requested access to the resource is denied"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
}


class RefusedError(Exception):
    """A request that ends in one of the specification's error codes."""

    def __init__(self, code: str, detail: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Name the code; `detail` is what was wrong."""
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest string of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether this is a well-formed digest of a known algorithm."""
    algorithm, _, value = text.partition(":")
    return len(value) == ALGORITHMS.get(algorithm, -1) and re.fullmatch(r"[0-9a-f]+", value) is not None


def referrer_of(own: str, manifest: Manifest, subject: str) -> dict[str, Any] | None:
    """Describe a manifest whose subject is `subject`, as the referrers list shows it."""
    document = json.loads(manifest.content)
    target = document.get("subject")
    if not isinstance(target, dict) or target.get("digest") != subject:
        return None
    kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType")
    described = {"mediaType": manifest.media_type, "digest": own, "size": len(manifest.content)}
    if kind:
        described["artifactType"] = kind
    if document.get("annotations"):
        described["annotations"] = document["annotations"]
    return described


def parse_manifest(content: bytes) -> dict[str, Any]:
    """Read a manifest or index. Raises RefusedError when it is none."""
    try:
        document = json.loads(content)
    except ValueError:
        raise RefusedError("MANIFEST_INVALID", "not JSON") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise RefusedError("MANIFEST_INVALID", "schemaVersion is not 2")
    for key in ("layers", "manifests"):
        items = document.get(key) or []
        if not isinstance(items, list) or not all(is_descriptor(item) for item in items):
            raise RefusedError("MANIFEST_INVALID", f"{key} is not a list of descriptors")
    for key in ("config", "subject"):
        if document.get(key) is not None and not is_descriptor(document[key]):
            raise RefusedError("MANIFEST_INVALID", f"{key} is not a descriptor")
    return document


def is_descriptor(item: object) -> bool:
    """Whether this is a descriptor with a well-formed digest."""
    return isinstance(item, dict) and isinstance(item.get("digest"), str) and is_digest(item["digest"])


def content_headers(media_type: str, digest: str) -> dict[str, str]:
    """Return the headers of a blob or manifest."""
    return {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}


def byte_range(header: str, size: int) -> tuple[int, int]:
    """Read `bytes=a-b`, `bytes=a-` or `bytes=-n`; nonsense is ignored, a range past the end refused."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or not (match[1] or match[2]):
        return 0, size - 1
    if not match[1]:
        return max(size - int(match[2]), 0), size - 1
    start = int(match[1])
    end = min(int(match[2]), size - 1) if match[2] else size - 1
    if start >= size or end < start:
        raise RefusedError("BLOB_UPLOAD_INVALID", header, {"Content-Range": f"bytes */{size}"})
    return start, end
