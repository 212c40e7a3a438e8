"""DSSE envelopes around documents of ours that are about no single digest: contents of mirror files, receipts.

An envelope may be unsigned: it is then only a container, and says so. A key hint is a fingerprint; it finds the key and
proves nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.signing.bundle import strict_base64
from ocisync.signing.keys import PublicKey, Signer
from ocisync.signing.statement import only, pae

SIGNATURES_COUNT = 16
_FIELDS = frozenset({"payload", "payloadType", "signatures"})
_SIGNATURE_FIELDS = frozenset({"sig", "keyid"})


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope as it was read; nothing in it is verified.

    Attributes:
        signatures: hints and signatures.
    """

    kind: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def signed(self) -> bool:
        """Whether there is any signature, good or bad."""
        return bool(self.signatures)


def seal(kind: str, payload: bytes, signers: Sequence[Signer]) -> bytes:
    """Put `payload` of media type `kind` into an envelope, signed by each of the signers."""
    data = pae(kind, payload)
    document = {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": signer.fingerprint, "sig": base64.b64encode(signer.sign(data)).decode()} for signer in signers
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def unseal(data: bytes, kind: str, *, max_bytes: int) -> Sealed:
    """Read an envelope of media type `kind`.

    Raises:
        Malformed: naming the first rule that is broken.
    """
    document = parse_json_object(data, max_bytes=max_bytes)
    only(document, _FIELDS, "envelope")
    if document.get("payloadType") != kind:
        raise Malformed(f"payloadType is not {kind}")
    signatures = document.get("signatures")
    if not isinstance(signatures, list) or len(signatures) > SIGNATURES_COUNT:
        raise Malformed(f"signatures is no list of at most {SIGNATURES_COUNT}")
    found = []
    for item in signatures:
        if not isinstance(item, dict):
            raise Malformed("a signature is no object")
        only(item, _SIGNATURE_FIELDS, "signature")
        hint = item.get("keyid", "")
        if not isinstance(hint, str):
            raise Malformed("a keyid is no text")
        found.append((hint, strict_base64(item.get("sig"), "sig")))
    return Sealed(kind, strict_base64(document.get("payload"), "payload"), tuple(found))


def signers_among(sealed: Sealed, keys: Sequence[PublicKey]) -> tuple[str, ...]:
    """The fingerprints of those of `keys` that signed it."""
    data = pae(sealed.kind, sealed.payload)
    return tuple(key.fingerprint for key in keys if any(key.verify(sig, data) for _, sig in sealed.signatures))
