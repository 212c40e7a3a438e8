"""cosign 2's signatures: one manifest at the tag `sha256-<hex>.sig`, one layer for each signature.

The layer's blob is a simple-signing payload, signed as it is; the signature is base64 in the layer's annotation. The
tag is shared by everyone who signs the digest, so writing is always a merge: `merge` keeps every layer that it finds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.descriptor import OCI_CONFIG, OCI_MANIFEST, SIMPLE_SIGNING, Descriptor
from ocisync.model.digest import is_digest, parse_digest, sha256_digest
from ocisync.model.errors import InvalidInput
from ocisync.model.limits import BUNDLE_BYTES, MANIFEST_BYTES
from ocisync.model.values import dataclass
from ocisync.signing.keys import Signer
from ocisync.signing.statement import only, string_map

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE = "cosign container image signature"
_CRITICAL_FIELDS = frozenset({"identity", "image", "type"})


@dataclass(frozen=True, slots=True)
class LegacySignature:
    """A payload, its base64 signature, and the layer that carries both."""

    payload: bytes
    signature: str
    layer: Descriptor


@dataclass(frozen=True, slots=True)
class LegacyPayload:
    """What a payload says: the digest signed, the repository it was signed in, and the claims."""

    subject: str
    docker_reference: str
    claims: tuple[tuple[str, str], ...]


def make(signer: Signer, digest: str, repository: str, claims: Mapping[str, str]) -> LegacySignature:
    """Sign `digest` as found in `repository`, with `claims` in `optional`, where cosign puts `-a`."""
    document = {
        "critical": {
            "identity": {"docker-reference": repository},
            "image": {"docker-manifest-digest": parse_digest(digest)},
            "type": PAYLOAD_TYPE,
        },
        "optional": dict(sorted(claims.items())) or None,
    }
    payload = _compact(document)
    signature = base64.b64encode(signer.sign(payload)).decode()
    layer = Descriptor(
        SIMPLE_SIGNING, sha256_digest(payload), len(payload), annotations={SIGNATURE_ANNOTATION: signature}
    )
    return LegacySignature(payload, signature, layer)


def merge(existing: bytes | None, new: LegacySignature) -> tuple[bytes, bytes]:
    """Add a signature to the manifest found at the `.sig` tag (None if there is none).

    Returns:
        The manifest and the config to upload with it. Layers that were there stay, in their order and unchanged.

    Raises:
        InvalidInput: if the tag holds something that is no signature manifest; it is never overwritten.
    """
    document = _existing(existing)
    layers: list[Any] = list(document["layers"])
    added = new.layer.as_dict()
    if added not in layers:
        layers.append(added)
    digests = [layer["digest"] for layer in layers]
    moment = "0001-01-01T00:00:00Z"  # what cosign writes; the config says nothing
    config = _compact(
        {
            "architecture": "",
            "created": moment,
            "history": [{"created": moment} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": digests},
            "config": {},
        }
    )
    document["layers"] = layers
    document["config"] = Descriptor(OCI_CONFIG, sha256_digest(config), len(config)).as_dict()
    return _compact(document), config


def holds(raw: bytes, signature: LegacySignature) -> bool:
    """Tell whether a signature manifest has exactly this signature; two keys may have signed one payload."""
    try:
        return signature.layer.as_dict() in _signature_manifest(raw)["layers"]
    except Malformed:
        return False


def parse(payload: bytes) -> LegacyPayload:
    """Read signed bytes.

    Raises:
        Malformed: naming the first rule that is broken.
    """
    document = parse_json_object(payload, max_bytes=BUNDLE_BYTES)
    only(document, frozenset({"critical", "optional"}), "payload")
    critical = _object(document.get("critical"), "critical")
    only(critical, _CRITICAL_FIELDS, "critical part")
    if critical.get("type") != PAYLOAD_TYPE:
        raise Malformed(f"the payload's type is not {PAYLOAD_TYPE!r}")
    digest = _object(critical.get("image"), "image").get("docker-manifest-digest")
    reference = _object(critical.get("identity"), "identity").get("docker-reference", "")
    if not isinstance(digest, str) or not is_digest(digest):
        raise Malformed("the payload does not name a sha256 digest")
    if not isinstance(reference, str):
        raise Malformed("docker-reference is no text")
    return LegacyPayload(digest, reference, string_map(document.get("optional"), "optional value"))


def _existing(raw: bytes | None) -> dict[str, Any]:
    if raw is None:
        return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}
    try:
        return _signature_manifest(raw)
    except Malformed as error:
        raise InvalidInput(
            f"the legacy signature tag holds something that is no signature manifest: {error}",
            hint="look at it with `ocisync inspect`, remove the tag if it is not yours",
        ) from None


def _signature_manifest(raw: bytes) -> dict[str, Any]:
    document = parse_json_object(raw, max_bytes=MANIFEST_BYTES)
    layers = document.get("layers")
    if document.get("mediaType", OCI_MANIFEST) != OCI_MANIFEST or not isinstance(layers, list):
        raise Malformed("it is no OCI image manifest")
    if not all(isinstance(layer, dict) and is_digest(str(layer.get("digest"))) for layer in layers):
        raise Malformed("a layer has no digest")
    return document


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is missing or no object")
    return value


def _compact(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
