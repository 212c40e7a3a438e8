"""A Sigstore of a few keys, in Python: certificates as Fulcio issues them, and a log as Rekor version 1 keeps it.

Everything a keyless signature needs, at any time and for any identity that a test wants, without a service: the
certificate with its log's promise (SCT), one log entry with inclusion proof, signed checkpoint, signed promise (SET).
No timestamp authority: the golden bundles, made by the real services, have those.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from ocisync.model.descriptor import BUNDLE_V03, IN_TOTO_PAYLOAD_TYPE
from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.signing.certificate import CLAIMS
from ocisync.signing.roots import MEDIA_TYPE, TrustedRoot, load_root
from ocisync.signing.statement import pae, statement

FULCIO = "1.3.6.1.4.1.57264.1."
SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SIGNED_AT = datetime(2026, 11, 23, 11, 50, tzinfo=UTC)
ORIGIN = "log.example"

GITHUB = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"
REPOSITORY_CLAIMS = {"sourceRepository": "https://github.com/acme/shop", "sourceRepositoryOwnerId": "42"}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der_text(text: str) -> bytes:
    raw = text.encode()
    length = bytes([len(raw)]) if len(raw) < 0x80 else b"\x82" + len(raw).to_bytes(2, "big")
    if 0x80 <= len(raw) < 0x100:
        length = b"\x81" + bytes([len(raw)])
    return b"\x0c" + length + raw


def canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


@dataclass
class Wish:
    """What to certify and log; the defaults are an honest GitHub release."""

    issuer: str = GITHUB
    subject: str = WORKFLOW
    claims: Mapping[str, str] = field(default_factory=lambda: dict(REPOSITORY_CLAIMS))
    signed_at: datetime = SIGNED_AT
    names: list[x509.GeneralName] | None = None  # instead of the subject
    usage: ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING
    curve: ec.EllipticCurve = field(default_factory=ec.SECP256R1)
    with_sct: bool = True
    raw_issuer: str | None = None  # the older extension, when it is to differ
    raw_claims: Mapping[str, bytes] = field(default_factory=dict)  # extensions that are no proper text


class MiniSigstore:
    """One instance: certificate authority, certificate log, transparency log."""

    def __init__(self) -> None:
        self.root_key, self.ca_key, self.ct_key, self.log_key = (new_key() for _ in range(4))
        self.root = self._authority("root", self.root_key, self.root_key, None)
        self.ca = self._authority("intermediate", self.ca_key, self.root_key, self.root)

    def _authority(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer_key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
    ) -> x509.Certificate:
        subject = x509.Name([
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example"), x509.NameAttribute(NameOID.COMMON_NAME, name)
        ])  # fmt: skip
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(SINCE)
            .not_valid_after(SINCE + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if issuer:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
            builder = builder.add_extension(identifier, critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    # The trusted root -----------------------------------------------------------------------------------------

    def root_document(self, **windows: Mapping[str, str]) -> dict[str, Any]:
        """`trusted_root.json`; keyword arguments replace the `validFor` of a kind of part."""
        open_window = {"start": "2026-01-01T00:00:00Z"}

        def log(kind: str, key: ec.EllipticCurvePrivateKey, url: str) -> dict[str, Any]:
            return {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": b64(spki(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": dict(windows.get(kind, open_window)),
                },
                "logId": {"keyId": b64(hashlib.sha256(spki(key)).digest())},
            }

        chain = [{"rawBytes": b64(item.public_bytes(Encoding.DER))} for item in (self.ca, self.root)]
        return {
            "mediaType": MEDIA_TYPE,
            "tlogs": [log("tlogs", self.log_key, f"https://{ORIGIN}")],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "example", "commonName": "example"},
                    "uri": "https://fulcio.example",
                    "certChain": {"certificates": chain},
                    "validFor": dict(windows.get("certificateAuthorities", open_window)),
                }
            ],
            "ctlogs": [log("ctlogs", self.ct_key, "https://ct.example")],
        }

    def root_bytes(self, **windows: Mapping[str, str]) -> bytes:
        return json.dumps(self.root_document(**windows)).encode()

    def trusted_root(self, **windows: Mapping[str, str]) -> TrustedRoot:
        return load_root(self.root_bytes(**windows))

    # Signing --------------------------------------------------------------------------------------------------

    def certificate(self, key: ec.EllipticCurvePrivateKey, wish: Wish) -> x509.Certificate:
        """A certificate for ten minutes around the time of signing."""
        name = (
            x509.RFC822Name(wish.subject) if "://" not in wish.subject else x509.UniformResourceIdentifier(wish.subject)
        )
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(wish.signed_at - timedelta(minutes=5))
            .not_valid_after(wish.signed_at + timedelta(minutes=5))
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([wish.usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(wish.names or [name]), critical=True)
        )
        extensions = {"1": (wish.raw_issuer or wish.issuer).encode(), "8": der_text(wish.issuer)}
        values = {FULCIO + number: value for number, value in extensions.items()}
        values |= {CLAIMS[claim]: der_text(text) for claim, text in wish.claims.items()}
        values |= {CLAIMS[claim]: value for claim, value in wish.raw_claims.items()}
        for oid, value in values.items():
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical=False)
        if not wish.with_sct:
            return builder.sign(self.ca_key, hashes.SHA256())
        plain = builder.sign(self.ca_key, hashes.SHA256()).tbs_certificate_bytes
        promised = self._sct(plain, wish.signed_at)
        with_promise = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, promised), critical=False)
        return with_promise.sign(self.ca_key, hashes.SHA256())

    def _sct(self, tbs: bytes, moment: datetime) -> bytes:
        """The certificate log's promise, as an SCT list inside an octet string."""
        milliseconds = int(moment.timestamp() * 1000)
        issuer = hashlib.sha256(spki(self.ca_key)).digest()
        entry = issuer + len(tbs).to_bytes(3, "big") + tbs
        signed = struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + b"\x00\x00"
        signature = _sign(self.ct_key, signed)
        log_id = hashlib.sha256(spki(self.ct_key)).digest()
        sct = b"\x00" + log_id + struct.pack("!Q", milliseconds) + b"\x00\x00\x04\x03"
        sct += len(signature).to_bytes(2, "big") + signature
        inner = len(sct).to_bytes(2, "big") + sct
        listed = len(inner).to_bytes(2, "big") + inner
        length = bytes([len(listed)]) if len(listed) < 0x80 else b"\x81" + bytes([len(listed)])
        return b"\x04" + length + listed

    def entry(self, body: bytes, moment: datetime) -> dict[str, Any]:
        """A log entry: the only one of its tree."""
        log_id = hashlib.sha256(spki(self.log_key)).digest()
        root = hashlib.sha256(b"\x00" + body).digest()
        note = f"{ORIGIN}\n1\n{b64(root)}\n"
        checkpoint = f"{note}\n— {ORIGIN} {b64(log_id[:4] + _sign(self.log_key, note.encode()))}\n"
        seconds = int(moment.timestamp())
        promise = canonical({"body": b64(body), "integratedTime": seconds, "logID": log_id.hex(), "logIndex": 0})
        kind = json.loads(body)
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(log_id)},
            "kindVersion": {"kind": kind["kind"], "version": kind["apiVersion"]},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": b64(_sign(self.log_key, promise))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": b64(body),
        }

    def document(self, payload: bytes, wish: Wish | None = None) -> dict[str, Any]:
        """A whole bundle over any payload."""
        wish = wish or Wish()
        key = ec.generate_private_key(wish.curve)
        certificate = self.certificate(key, wish)
        signature = _sign(key, pae(IN_TOTO_PAYLOAD_TYPE, payload))
        pem = certificate.public_bytes(Encoding.PEM)
        body = canonical({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
            },
        })  # fmt: skip
        return {
            "mediaType": BUNDLE_V03,
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self.entry(body, wish.signed_at)],
            },
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": IN_TOTO_PAYLOAD_TYPE,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    def sign(self, digest: str, claims: Mapping[str, str], wish: Wish | None = None) -> RawSignature:
        """A signature as it would be fetched."""
        return raw(self.document(statement(digest, claims), wish))


def raw(document: Mapping[str, Any]) -> RawSignature:
    data = json.dumps(document).encode()
    return RawSignature(SignatureFormat.BUNDLE, sha256_digest(data), data)
