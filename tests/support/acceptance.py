"""Signatures in every form that somebody might make, beside what `cosign verify --key` and we do with each.

Every case is signed here in pure Python, about one real artifact, so that the unit tests and the contract test, with
the real cosign on a real registry, judge the same bytes.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ocisync.model.descriptor import BUNDLE_V03, BUNDLE_V03_PARAMETER, IN_TOTO_PAYLOAD_TYPE, SIGN_PREDICATE
from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.signing.keys import KeyAlgorithm
from ocisync.signing.statement import pae, statement
from tests.support import trust
from tests.support.artifacts import artifact
from tests.support.trust import OTHER_DIGEST, bundle_with, signer

_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = signer("acceptance")
ARTIFACT = artifact({"app.yaml": "kind: ConfigMap\n", "accepted.yaml": "kind: ConfigMap\n"})
DIGEST = ARTIFACT.descriptor.digest
bundle_of = functools.partial(trust.bundle_of, digest=DIGEST, with_claims={})
legacy_of = functools.partial(trust.legacy_of, digest=DIGEST, with_claims={}, repository="")


@dataclass(frozen=True)
class Case:
    """Bytes, and who accepts them. `make` gives the same signature each time it matters."""

    name: str
    make: Callable[[], RawSignature]
    ours: bool
    cosign: bool
    pem: Callable[[], str] = field(default=lambda: KEY.public.pem)
    whole: bool | None = None  # what the whole verification says, where claims decide beside cryptography


def _statement(**changes: Any) -> dict[str, Any]:
    return {**json.loads(statement(DIGEST, {"env": "prod"})), **changes}


def _subject(**changes: Any) -> list[dict[str, Any]]:
    return [{"digest": {"sha256": DIGEST.removeprefix("sha256:")}, **changes}]


def _edited(edit: Callable[[dict[str, Any]], None]) -> Callable[[], RawSignature]:
    def make() -> RawSignature:
        found = bundle_of(KEY)
        document = json.loads(found.payload)
        edit(document)
        return RawSignature(SignatureFormat.BUNDLE, found.source, json.dumps(document).encode())

    return make


def replaced(path: str, value: Any) -> Callable[[], RawSignature]:
    """A bundle of ours with one field of its JSON replaced."""

    def edit(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for part in parents:
            document = document[part]
        document[last] = value

    return _edited(edit)


def _resigned(change: Callable[[bytes], bytes]) -> Callable[[], RawSignature]:
    payload = statement(DIGEST, {})
    return lambda: bundle_with(KEY, payload, signature=change(KEY.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload))))


def _raw_numbers(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _other_s(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, _N - s)


def _sha512() -> RawSignature:
    payload = statement(DIGEST, {})
    key = KEY._key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA512()))
    return bundle_with(KEY, payload, signature=signature)


def _keyid(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["signatures"][0]["keyid"] = "somebody"


def _two_signatures(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["signatures"] *= 2


def _lax_base64(document: dict[str, Any]) -> None:
    text = document["dsseEnvelope"]["payload"]
    document["dsseEnvelope"]["payload"] = text[:8] + "\n" + text[8:]


def _legacy(edit: Callable[[dict[str, Any]], None]) -> Callable[[], RawSignature]:
    def make() -> RawSignature:
        document = json.loads(legacy_of(KEY, with_claims={"env": "prod"}).payload)
        edit(document)
        payload = json.dumps(document).encode()
        signature = base64.b64encode(KEY.sign(payload)).decode()
        return RawSignature(SignatureFormat.LEGACY, sha256_digest(payload), payload, signature)

    return make


def _duplicate_subject() -> RawSignature:
    good = statement(DIGEST, {}).decode()
    other = json.dumps(_subject(digest={"sha256": OTHER_DIGEST.removeprefix("sha256:")}))
    return bundle_with(KEY, good.replace('{"_type"', f'{{"subject":{other},"_type"', 1).encode())


def _without_hint(document: dict[str, Any]) -> None:
    document["verificationMaterial"]["publicKey"] = {}


def _message_signature(document: dict[str, Any]) -> None:
    document["messageSignature"] = {"signature": document["dsseEnvelope"]["signatures"][0]["sig"]}
    del document["dsseEnvelope"]


def _other_key(key: Any, *hash_or_padding: Any) -> Callable[[], RawSignature]:
    payload = statement(DIGEST, {})
    return lambda: bundle_with(KEY, payload, signature=key.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload), *hash_or_padding))


def _pem(key: Any) -> Callable[[], str]:
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return lambda: str(public.decode())


_P384 = ec.generate_private_key(ec.SECP384R1())
_P521 = ec.generate_private_key(ec.SECP521R1())
_ED25519 = signer("accepted", KeyAlgorithm.ED25519)
_RSA = signer("accepted", KeyAlgorithm.RSA_3072)
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)

CASES = [
    Case("as we write it", lambda: bundle_of(KEY), True, True),
    Case("legacy as we write it", lambda: legacy_of(KEY), True, True),
    Case("hint missing", _edited(_without_hint), True, True),
    Case("hint of another key", replaced("verificationMaterial.publicKey.hint", signer("x").public.hint), True, True),
    Case("hint that is no fingerprint", replaced("verificationMaterial.publicKey.hint", "my key"), True, True),
    Case("keyid set", _edited(_keyid), False, False),
    Case("bundle v0.1", replaced("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1"), False, False),
    Case("bundle v0.2", replaced("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2"), False, False),
    Case("bundle v0.4", replaced("mediaType", BUNDLE_V03.replace("v0.3", "v0.4")), False, False),
    Case("bundle v0.3 as parameter", replaced("mediaType", BUNDLE_V03_PARAMETER), True, True),
    Case("other payloadType", lambda: bundle_with(KEY, _statement(), payloadType="text/plain"), False, False),
    Case("no PAE", lambda: bundle_with(
        KEY, statement(DIGEST, {}), signature=KEY.sign(statement(DIGEST, {}))), False, False),
    Case("subject with a name", lambda: bundle_with(KEY, _statement(subject=_subject(name="x/y"))), True, True),
    Case("empty annotations", lambda: bundle_with(KEY, _statement(subject=_subject(annotations={}))), True, True),
    Case("nested annotations", lambda: bundle_with(KEY, _statement(
        subject=_subject(annotations={"a": {"b": "c"}}))), False, True),
    Case("statement v0.1", lambda: bundle_with(KEY, _statement(_type="https://in-toto.io/Statement/v0.1")), True, True),
    Case("not a statement", lambda: bundle_with(KEY, _statement(_type="https://example.com/other")), False, True),
    Case("duplicate subject key", _duplicate_subject, False, False),
    Case("two subjects, one is ours", lambda: bundle_with(KEY, _statement(subject=_subject() + _subject(
        digest={"sha256": OTHER_DIGEST.removeprefix("sha256:")}))), False, True),
    Case("no subject", lambda: bundle_with(KEY, _statement(subject=[])), False, False),
    Case("a second digest algorithm", lambda: bundle_with(KEY, _statement(subject=_subject(
        digest={"sha256": DIGEST.removeprefix("sha256:"), "sha512": "0" * 128}))), False, True),
    Case("another digest", lambda: bundle_of(KEY, digest=OTHER_DIGEST), False, False),
    Case("predicate type of provenance", lambda: bundle_with(KEY, _statement(
        predicateType="https://slsa.dev/provenance/v1")), False, True),
    Case("predicate type in other letters", lambda: bundle_with(KEY, _statement(
        predicateType=SIGN_PREDICATE.upper())), False, True),
    Case("P-256 with SHA-512", _sha512, False, False),
    Case("high and low s", _resigned(_other_s), True, True),
    Case("r and s without DER", _resigned(_raw_numbers), False, True),
    Case("bytes after the signature", _resigned(lambda made: made + b"\0"), False, False),
    Case("two signatures in one envelope", _edited(_two_signatures), False, False),
    Case("no signature in the envelope", replaced("dsseEnvelope.signatures", []), False, False),
    Case("message signature", _edited(_message_signature), False, False),
    Case("unknown field", replaced("extra", 1), False, False),
    Case("base64 with a line break", _edited(_lax_base64), False, True),
    Case("keyless", replaced("verificationMaterial", {"certificate": {"rawBytes": "AAAA"}}), False, False),
    Case("legacy docker-reference of another repository (the policy decides)",
         lambda: legacy_of(KEY, repository="evil.example/x"), True, True, whole=False),
    Case("legacy of another type",
         _legacy(lambda doc: doc["critical"].update(type="atomic container signature")), False, True),
    Case("legacy optional null", _legacy(lambda doc: doc.update(optional=None)), True, True),
    Case("legacy for another digest", lambda: legacy_of(KEY, digest=OTHER_DIGEST), False, False),
    Case("P-384 with SHA-256", _other_key(_P384, ec.ECDSA(hashes.SHA256())), False, True, pem=_pem(_P384)),
    Case("P-521 with SHA-256", _other_key(_P521, ec.ECDSA(hashes.SHA256())), False, True, pem=_pem(_P521)),
    Case("P-384 with SHA-384", _other_key(_P384, ec.ECDSA(hashes.SHA384())), False, False, pem=_pem(_P384)),
    Case("P-521 with SHA-512", _other_key(_P521, ec.ECDSA(hashes.SHA512())), False, False, pem=_pem(_P521)),
    Case("Ed25519", lambda: bundle_of(_ED25519), True, True, pem=lambda: _ED25519.public.pem),
    Case("Ed25519, legacy", lambda: legacy_of(_ED25519), True, True, pem=lambda: _ED25519.public.pem),
    Case("RSA-3072 PKCS #1 v1.5", lambda: bundle_of(_RSA), True, True, pem=lambda: _RSA.public.pem),
    Case("RSA-3072 PKCS #1 v1.5, legacy", lambda: legacy_of(_RSA), True, True, pem=lambda: _RSA.public.pem),
    Case("RSA-PSS", _other_key(_RSA._key, _PSS, hashes.SHA256()), False, False, pem=lambda: _RSA.public.pem),
    Case("another key", lambda: bundle_of(signer("x")), False, False),
    Case("another key, legacy", lambda: legacy_of(signer("x")), False, False),
]  # fmt: skip
