"""Sigstore bundle v0.3 signed by a key, and the referrer manifest that carries it: the format of cosign 3.

The bundle holds one DSSE envelope with one signature and the hint of the key. Everything in the referrer manifest
besides the layer is a hint for other tools: written as cosign writes it and never trusted when read, `created`
least of all.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.clock import format_rfc3339
from ocisync.model.descriptor import (
    BUNDLE_V03,
    BUNDLE_V03_PARAMETER,
    CREATED,
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    IN_TOTO_PAYLOAD_TYPE,
    OCI_EMPTY,
    OCI_MANIFEST,
    SIGN_PREDICATE,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.limits import BUNDLE_BYTES
from ocisync.model.values import dataclass
from ocisync.signing.keys import Signer
from ocisync.signing.statement import only, pae, statement

_KEY_HINT_FIELDS = frozenset({"hint"})
_FIELDS = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"})
_MATERIAL_FIELDS = frozenset({"publicKey", "tlogEntries", "timestampVerificationData"})
_CERTIFIED_FIELDS = frozenset({"certificate", "tlogEntries", "timestampVerificationData"})
_ENVELOPE_FIELDS = frozenset({"payload", "payloadType", "signatures"})
_SIGNATURE_FIELDS = frozenset({"sig", "keyid"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a bundle holds, decoded, not yet verified.

    Attributes:
        key_hint: a fingerprint; empty if there was none.
        certificate: DER of the signing certificate; empty if the bundle was made with a key.
        material: with a certificate, the `verificationMaterial` as it was written.
    """

    payload: bytes
    signature: bytes
    key_hint: str
    certificate: bytes = b""
    material: Mapping[str, Any] = field(default_factory=dict)


def make(signer: Signer, digest: str, claims: Mapping[str, str]) -> bytes:
    """Sign `digest` with `claims`; the bundle's JSON bytes."""
    return make_of(signer, statement(digest, claims))


def make_of(signer: Signer, payload: bytes) -> bytes:
    """Sign a statement; the bundle's JSON bytes."""
    signature = signer.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload))
    document = {
        "mediaType": BUNDLE_V03,
        "verificationMaterial": {"publicKey": {"hint": signer.public.hint}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": IN_TOTO_PAYLOAD_TYPE,
            # no keyid: cosign refuses any that it does not know
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }
    return _compact(document)


def bundle_manifest(
    bundle: bytes, subject: Descriptor, created: datetime, predicate_type: str = SIGN_PREDICATE
) -> tuple[bytes, Descriptor]:
    """The referrer manifest for `bundle`, and the descriptor of its layer.

    Its config is the empty JSON object, which must be uploaded too (`EMPTY_JSON`).
    """
    layer = Descriptor(BUNDLE_V03, sha256_digest(bundle), len(bundle))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_EMPTY, "size": len(EMPTY_JSON), "digest": EMPTY_JSON_DIGEST},
        "layers": [layer.as_dict()],
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate_type,
            CREATED: format_rfc3339(created),
        },
        "subject": Descriptor(subject.media_type, subject.digest, subject.size).as_dict(),
        "artifactType": BUNDLE_V03,
    }
    return _compact(document), layer


def parse(data: bytes) -> Envelope:
    """Read bundle JSON.

    Raises:
        Malformed: naming the first rule that is broken.
    """
    document = parse_json_object(data, max_bytes=BUNDLE_BYTES)
    if document.get("mediaType") not in (BUNDLE_V03, BUNDLE_V03_PARAMETER):
        raise Malformed("not a Sigstore bundle of version 0.3")
    if "messageSignature" in document:
        raise Malformed("the bundle signs a bare message; only a DSSE envelope is accepted")
    only(document, _FIELDS, "bundle")
    material = _object(document.get("verificationMaterial"), "verificationMaterial")
    certificate = _certificate(material)
    hint = "" if certificate else _hint(material)
    envelope = _object(document.get("dsseEnvelope"), "dsseEnvelope")
    only(envelope, _ENVELOPE_FIELDS, "dsseEnvelope")
    if envelope.get("payloadType") != IN_TOTO_PAYLOAD_TYPE:
        raise Malformed(f"payloadType is not {IN_TOTO_PAYLOAD_TYPE}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        count = len(signatures) if isinstance(signatures, list) else 0
        raise Malformed(f"the envelope has {count} signatures, exactly one is accepted")
    signature = _object(signatures[0], "signature")
    only(signature, _SIGNATURE_FIELDS, "signature")
    if signature.get("keyid"):
        raise Malformed("the signature carries a keyid; cosign refuses it and so do we")
    return Envelope(
        strict_base64(envelope.get("payload"), "payload"),
        strict_base64(signature.get("sig"), "sig"),
        hint,
        certificate,
        material if certificate else {},
    )


def strict_base64(text: Any, what: str) -> bytes:
    """Decode canonical standard base64: no whitespace, no other alphabet, no stray bits at the end.

    Raises:
        Malformed: otherwise.
    """
    if not isinstance(text, str) or not text:
        raise Malformed(f"{what} is missing or no text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what} is not standard base64") from None
    if base64.b64encode(data).decode() != text:
        raise Malformed(f"{what} is not canonical base64")
    return data


def _certificate(material: Mapping[str, Any]) -> bytes:
    if "x509CertificateChain" in material:
        raise Malformed("a chain of certificates; a bundle of version 0.3 has one certificate")
    if "certificate" not in material:
        return b""
    only(material, _CERTIFIED_FIELDS, "verificationMaterial")
    certificate = _object(material["certificate"], "certificate")
    only(certificate, frozenset({"rawBytes"}), "certificate")
    return strict_base64(certificate.get("rawBytes"), "certificate")


def _hint(material: Mapping[str, Any]) -> str:
    only(material, _MATERIAL_FIELDS, "verificationMaterial")
    public_key = _object(material.get("publicKey"), "publicKey")
    only(public_key, _KEY_HINT_FIELDS, "publicKey")
    hint = public_key.get("hint", "")
    if not isinstance(hint, str):
        raise Malformed("the key hint is no text")
    try:
        raw = base64.b64decode(hint, validate=True)
    except (binascii.Error, ValueError):
        return ""  # a free-form hint: cosign ignores it too
    return "sha256:" + raw.hex() if len(raw) == 32 else ""


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is missing or no object")
    return value


def _compact(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
