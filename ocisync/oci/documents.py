"""Pure reading of registry JSON: strict, bounded, and never trusting a type that two places disagree on.

Order of checks for a manifest: digest (asked for, announced, computed), UTF-8 JSON object without duplicate keys,
`mediaType` equal to `Content-Type`, a known manifest type, and not an image and an index at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.descriptor import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import Refused
from ocisync.oci.headers import media_type_of
from ocisync.oci.store import Manifest

MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
BAD_ARTIFACT = "BadArtifact"


def parse_json(raw: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        Refused: not UTF-8, not JSON, not an object, too deep, NaN, or with a duplicate key (two readers could see
            two different documents).
    """
    try:
        return parse_json_object(raw, max_bytes=len(raw))  # whoever fetched it has bounded it
    except Malformed as error:
        raise Refused(f"{what} is not valid JSON: {error}", reason=BAD_ARTIFACT) from error


def check_manifest(raw: bytes, *, ref: str, content_type: str, announced: str, what: str) -> Manifest:
    """Check a fetched manifest and describe it.

    `ref` is the tag or digest that was asked for, `announced` the `Docker-Content-Digest` header (may be empty).

    Raises:
        Refused: any of the checks failed.
    """
    digest = sha256_digest(raw)
    if is_digest(ref) and ref != digest:
        raise Refused(f"{what}: the registry sent other content, with digest {digest}", reason=BAD_ARTIFACT)
    check_announced(announced, raw, what)
    document = parse_json(raw, what)
    inner = document.get("mediaType", "")
    outer = media_type_of(content_type)
    if not isinstance(inner, str) or (inner and outer and inner != outer):
        raise Refused(f"{what}: mediaType {str(inner)[:100]!r} but Content-Type {outer[:100]!r}", reason=BAD_ARTIFACT)
    media_type = inner or outer
    if media_type not in MANIFEST_TYPES:
        raise Refused(f"{what}: {media_type[:100]!r} is not a manifest type", reason=BAD_ARTIFACT)
    is_index = media_type in INDEX_TYPES
    foreign = ("layers", "config") if is_index else ("manifests",)
    if any(name in document for name in foreign):
        raise Refused(f"{what}: reads as an image and as an index at once", reason=BAD_ARTIFACT)
    artifact_type = document.get("artifactType", "")
    return Manifest(
        Descriptor(media_type, digest, len(raw), artifact_type if isinstance(artifact_type, str) else ""), raw
    )


def check_announced(announced: str, raw: bytes, what: str) -> None:
    """Refuse a `Docker-Content-Digest` header that is not the digest of the body."""
    algorithm, _, value = announced.strip().partition(":")
    if not announced:
        return
    if algorithm not in {"sha256", "sha512"} or hashlib.new(algorithm, raw).hexdigest() != value:
        raise Refused(
            f"{what}: the registry announces digest {announced[:140]!r} for other content", reason=BAD_ARTIFACT
        )


def descriptor_of(value: object) -> Descriptor | None:
    """Read one descriptor; None if it is none."""
    if not isinstance(value, dict):
        return None
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not is_digest(digest):
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    artifact_type = value.get("artifactType", "")
    return Descriptor(
        media_type,
        digest,
        size,
        artifact_type if isinstance(artifact_type, str) else "",
        _strings(value.get("annotations")),
    )


def _strings(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}


def index_entries(document: Mapping[str, Any], what: str) -> tuple[object, ...]:
    """The entries of an index document, unread.

    Raises:
        Refused: `manifests` is not a list.
    """
    entries = document.get("manifests")
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise Refused(f"{what}: manifests is not a list", reason=BAD_ARTIFACT)
    return tuple(entries)


def referrer_descriptor(raw_manifest: bytes) -> Descriptor:
    """Describe a referrer as its index entry must: own type, artifactType (or config type), annotations.

    Raises:
        Refused: the bytes are no image manifest.
    """
    document = parse_json(raw_manifest, "referrer manifest")
    media_type = document.get("mediaType", OCI_MANIFEST)
    config = document.get("config")
    fallback = config.get("mediaType", "") if isinstance(config, dict) else ""
    artifact_type = document.get("artifactType") or fallback
    return Descriptor(
        str(media_type),
        sha256_digest(raw_manifest),
        len(raw_manifest),
        str(artifact_type),
        _strings(document.get("annotations")),
    )


def subject_digest(raw_manifest: bytes) -> str:
    """The digest that a manifest says it refers to; empty if none."""
    subject = parse_json(raw_manifest, "referrer manifest").get("subject")
    digest = subject.get("digest") if isinstance(subject, dict) else ""
    return digest if isinstance(digest, str) and is_digest(digest) else ""


def with_entry(raw_index: bytes | None, entry: Descriptor, what: str) -> bytes | None:
    """Add an entry to a fallback index, keeping everything that others wrote as it is.

    Returns:
        The new bytes; None if the entry is in it already.

    Raises:
        Refused: what is there is no index, or holds what cannot be written again: it is not ours to overwrite.
    """
    if raw_index is None:
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    else:
        document = parse_json(raw_index, what)
    entries: Sequence[object] = index_entries(document, what)
    if any(isinstance(item, dict) and item.get("digest") == entry.digest for item in entries):
        return None
    document["manifests"] = [*entries, entry.as_dict()]
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
