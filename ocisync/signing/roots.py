"""Trusted roots: which certificate authorities, logs and timestamp authorities of a Sigstore are believed, and when.

A root is one `trusted_root.json` (`application/vnd.dev.sigstore.trustedroot`, version 0.1 or 0.2) that somebody hands
to us: a file, a Secret, a ConfigMap. It is never fetched, refreshed or written, and there is no built-in one.

Read strictly: a field that nobody defined is refused, since it could restrict what the rest allows; so is a part
without the start of its validity. `at` takes away every part that is not valid at a moment, which the Sigstore library
itself does not do for certificate authorities and logs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.clock import parse_rfc3339
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput
from ocisync.model.limits import TRUSTED_ROOT_BYTES
from ocisync.model.values import dataclass
from ocisync.signing.bundle import strict_base64
from ocisync.signing.statement import only

MEDIA_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_MEDIA_TYPES = (MEDIA_TYPE, "application/vnd.dev.sigstore.trustedroot.v0.2+json")  # the same fields
_ALWAYS = {"start": "1970-01-01T00:00:00Z"}
_PARTS_COUNT = 32  # of one kind; a rotation has two or three
_CHAIN_COUNT = 8
_LOGS = ("tlogs", "ctlogs")
_AUTHORITIES = ("certificateAuthorities", "timestampAuthorities")
_NAMES = {
    "tlogs": "transparency log",
    "ctlogs": "certificate log",
    "certificateAuthorities": "certificate authority",
    "timestampAuthorities": "timestamp authority",
}
_LOG_FIELDS = frozenset({"baseUrl", "hashAlgorithm", "publicKey", "logId", "checkpointKeyId", "operator"})
_AUTHORITY_FIELDS = frozenset({"subject", "uri", "certChain", "validFor", "operator"})
# Kinds of keys that Sigstore's Python library verifies with; it drops others without a word.
_KEY_DETAILS = frozenset({
    "PKCS1_RSA_PKCS1V5", "PKIX_RSA_PKCS1V15_2048_SHA256", "PKIX_RSA_PKCS1V15_3072_SHA256",
    "PKIX_RSA_PKCS1V15_4096_SHA256", "PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384", "PKIX_ECDSA_P521_SHA_512",
    "PKIX_ED25519",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One authority or log: its kind, when it is believed (`end` None: until further notice), and its JSON."""

    kind: str
    start: datetime
    end: datetime | None
    document: Mapping[str, Any] = field(repr=False)

    def covers(self, moments: Sequence[datetime]) -> bool:
        """Tell whether it is believed at all of these moments."""
        return all(self.start <= moment and (self.end is None or moment <= self.end) for moment in moments)


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """One trusted root. Named by the digest of its bytes."""

    fingerprint: str
    parts: tuple[Part, ...] = field(repr=False)

    def at(self, moments: Sequence[datetime]) -> bytes:
        """The root as JSON, with only what is believed at all of these moments, whatever the clock says.

        Raises:
            Malformed: nothing is left of a kind that every keyless signature needs.
        """
        parts = [part for part in self.parts if part.covers(moments)]
        for kind in ("certificateAuthorities", "ctlogs", "tlogs"):
            if not any(part.kind == kind for part in parts):
                shown = ", ".join(moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments)
                raise Malformed(f"no {_NAMES[kind]} of the trusted root was valid at {shown}")
        lists = {kind: [_always_valid(part) for part in parts if part.kind == kind] for kind in _NAMES}
        return json.dumps({"mediaType": MEDIA_TYPE, **lists}, sort_keys=True).encode()


def _always_valid(part: Part) -> dict[str, Any]:
    """A part that was chosen by its window needs none any more. The library would compare the start with the clock."""
    if part.kind in _LOGS:
        return {**part.document, "publicKey": {**part.document["publicKey"], "validFor": _ALWAYS}}
    return {**part.document, "validFor": _ALWAYS}


def load_root(data: bytes, *, name: str = "trusted root") -> TrustedRoot:
    """Read a trusted root.

    Raises:
        InvalidInput: naming the first rule that is broken.
    """
    try:
        document = parse_json_object(data, max_bytes=TRUSTED_ROOT_BYTES)
        return TrustedRoot(sha256_digest(data), _parts(document))
    except Malformed as error:
        hint = (
            "make one with `cosign trusted-root create`, or take trusted_root.json from your Sigstore's TUF repository"
        )
        raise InvalidInput(f"{name}: not a trusted root that can be used: {error}", hint=hint) from None


def _parts(document: Mapping[str, Any]) -> tuple[Part, ...]:
    if document.get("mediaType") not in _MEDIA_TYPES:
        raise Malformed(f"its mediaType is not {MEDIA_TYPE}")
    only(document, frozenset({"mediaType", *_NAMES}), "trusted root")
    found: list[Part] = []
    for kind in _NAMES:
        items = document.get(kind, [])
        if not isinstance(items, list) or len(items) > _PARTS_COUNT:
            raise Malformed(f"{kind} is no list of at most {_PARTS_COUNT}")
        if not items and kind != "timestampAuthorities":
            raise Malformed(f"it has no {_NAMES[kind]}")
        reader = _log if kind in _LOGS else _authority
        found += [reader(kind, _object(item, _NAMES[kind])) for item in items]
    return tuple(found)


def _log(kind: str, item: Mapping[str, Any]) -> Part:
    what = _NAMES[kind]
    only(item, _LOG_FIELDS, what)
    key = _object(item.get("publicKey"), f"public key of a {what}")
    only(key, frozenset({"rawBytes", "keyDetails", "validFor"}), f"public key of a {what}")
    if str(key.get("keyDetails")) not in _KEY_DETAILS:
        raise Malformed(f"a {what} has a key of a kind that is not supported: {str(key.get('keyDetails'))[:60]}")
    try:
        load_der_public_key(strict_base64(key.get("rawBytes"), f"key of a {what}"))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"the key of a {what} cannot be read") from None
    if item.get("hashAlgorithm") != "SHA2_256":
        raise Malformed(f"a {what} with a hash other than SHA2_256")
    _texts(item, ("baseUrl",), what)
    for name in ("logId", "checkpointKeyId"):
        if name in item:
            _key_id(item[name], f"{name} of a {what}")
        elif name == "logId":
            raise Malformed(f"a {what} without logId")
    return Part(kind, *_window(key.get("validFor"), what), document=item)


def _key_id(value: Any, what: str) -> None:
    identifier = _object(value, what)
    only(identifier, frozenset({"keyId"}), what)
    strict_base64(identifier.get("keyId"), what)


def _authority(kind: str, item: Mapping[str, Any]) -> Part:
    from cryptography import x509  # large, and not needed where keys sign

    what = _NAMES[kind]
    only(item, _AUTHORITY_FIELDS, what)
    subject = _object(item.get("subject"), f"subject of a {what}")
    only(subject, frozenset({"organization", "commonName"}), f"subject of a {what}")
    chain = _object(item.get("certChain"), f"chain of a {what}")
    only(chain, frozenset({"certificates"}), f"chain of a {what}")
    certificates = chain.get("certificates")
    if not isinstance(certificates, list) or not 1 <= len(certificates) <= _CHAIN_COUNT:
        raise Malformed(f"the chain of a {what} does not have 1 to {_CHAIN_COUNT} certificates")
    for certificate in certificates:
        only(_object(certificate, "certificate"), frozenset({"rawBytes"}), "certificate")
        try:
            x509.load_der_x509_certificate(strict_base64(certificate.get("rawBytes"), f"certificate of a {what}"))
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            if isinstance(error, Malformed):
                raise
            raise Malformed(f"a certificate of a {what} cannot be read") from None
    # Zero values are left out by protobuf's writers and required by the Sigstore library's reader.
    filled = {**item, "subject": {"organization": "", "commonName": "", **subject}}
    _texts(filled["subject"], ("organization", "commonName"), what)
    return Part(kind, *_window(item.get("validFor"), what), document=filled)


def _texts(item: Mapping[str, Any], required: Sequence[str], what: str) -> None:
    for name in required:
        if not isinstance(item.get(name), str):
            raise Malformed(f"{name} of a {what} is missing or no text")


def _window(value: Any, what: str) -> tuple[datetime, datetime | None]:
    window = _object(value, f"validFor of a {what}")
    only(window, frozenset({"start", "end"}), f"validFor of a {what}")
    start = _moment(window.get("start"), what)
    end = _moment(window["end"], what) if "end" in window else None
    if end is not None and end < start:
        raise Malformed(f"validFor of a {what} ends before it starts")
    return start, end


def _moment(value: Any, what: str) -> datetime:
    try:
        moment = parse_rfc3339(value) if isinstance(value, str) else None
    except OverflowError:
        moment = None
    if moment is None:
        raise Malformed(f"validFor of a {what} has no time like 2026-11-01T00:00:00Z")
    return moment


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is missing or no object")
    return value
