"""What counts as a sound signature, case by case, beside what `cosign verify --key` 3.1 does with the same bytes.

Every case is signed here in pure Python. `cosign` is documentation: it was tried once with the real program; where we
differ, we are the stricter side.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ocisync.kit.strictjson import Malformed
from ocisync.model.descriptor import BUNDLE_V03, BUNDLE_V03_PARAMETER, IN_TOTO_PAYLOAD_TYPE, SIGN_PREDICATE
from ocisync.model.digest import sha256_digest
from ocisync.model.evidence import Evidence, RawSignature, SignatureFormat
from ocisync.signing.bundle import strict_base64
from ocisync.signing.check import examine
from ocisync.signing.keys import KeyAlgorithm, Signer
from ocisync.signing.statement import pae, statement
from tests.support.trust import DIGEST, OTHER_DIGEST, REPOSITORY, bundle_of, bundle_with, legacy_of, signer

_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = signer("acceptance")


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], RawSignature]
    ours: bool
    cosign: bool


def _statement(**changes: Any) -> dict[str, Any]:
    return {**json.loads(statement(DIGEST, {"env": "prod"})), **changes}


def _subject(**changes: Any) -> list[dict[str, Any]]:
    return [{"digest": {"sha256": DIGEST.removeprefix("sha256:")}, **changes}]


def _edited(edit: Callable[[dict[str, Any]], None]) -> Callable[[], RawSignature]:
    def make() -> RawSignature:
        found = bundle_of(KEY, with_claims={})
        document = json.loads(found.payload)
        edit(document)
        return RawSignature(SignatureFormat.BUNDLE, found.source, json.dumps(document).encode())

    return make


def _field(path: str, value: Any) -> Callable[[], RawSignature]:
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


CASES = [
    Case("as we write it", lambda: bundle_of(KEY), True, True),
    Case("legacy as we write it", lambda: legacy_of(KEY), True, True),
    Case("hint missing", _edited(_without_hint), True, True),
    Case("hint of another key", _field("verificationMaterial.publicKey.hint", signer("x").public.hint), True, True),
    Case("hint that is no fingerprint", _field("verificationMaterial.publicKey.hint", "my key"), True, True),
    Case("keyid set", _edited(_keyid), False, False),
    Case("bundle v0.1", _field("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1"), False, False),
    Case("bundle v0.2", _field("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2"), False, False),
    Case("bundle v0.4", _field("mediaType", BUNDLE_V03.replace("v0.3", "v0.4")), False, False),
    Case("bundle v0.3 as parameter", _field("mediaType", BUNDLE_V03_PARAMETER), True, True),
    Case("other payloadType", lambda: bundle_with(KEY, _statement(), payloadType="text/plain"), False, False),
    Case("no PAE", lambda: bundle_with(
        KEY, statement(DIGEST, {}), signature=KEY.sign(statement(DIGEST, {}))), False, False),
    Case("subject with a name", lambda: bundle_with(KEY, _statement(subject=_subject(name="x/y"))), True, True),
    Case("empty annotations", lambda: bundle_with(KEY, _statement(subject=_subject(annotations={}))), True, True),
    Case("nested annotations", lambda: bundle_with(KEY, _statement(
        subject=_subject(annotations={"a": {"b": "c"}}))), False, True),
    Case("statement v0.1", lambda: bundle_with(KEY, _statement(_type="https://in-toto.io/Statement/v0.1")), True, True),
    Case("not a statement", lambda: bundle_with(KEY, _statement(_type="https://example.com/other")), False, False),
    Case("duplicate subject key", _duplicate_subject, False, False),
    Case("two subjects, one is ours", lambda: bundle_with(KEY, _statement(subject=_subject() + _subject(
        digest={"sha256": OTHER_DIGEST.removeprefix("sha256:")}))), False, True),
    Case("no subject", lambda: bundle_with(KEY, _statement(subject=[])), False, False),
    Case("a second digest algorithm", lambda: bundle_with(KEY, _statement(subject=_subject(
        digest={"sha256": DIGEST.removeprefix("sha256:"), "sha512": "0" * 128}))), False, True),
    Case("another digest", lambda: bundle_of(KEY, OTHER_DIGEST), False, False),
    Case("predicate type of provenance", lambda: bundle_with(KEY, _statement(
        predicateType="https://slsa.dev/provenance/v1")), False, True),
    Case("predicate type in other letters", lambda: bundle_with(KEY, _statement(
        predicateType=SIGN_PREDICATE.upper())), False, True),
    Case("P-256 with SHA-512", _sha512, False, False),
    Case("high and low s", _resigned(_other_s), True, True),
    Case("r and s without DER", _resigned(_raw_numbers), False, True),
    Case("bytes after the signature", _resigned(lambda made: made + b"\0"), False, False),
    Case("two signatures in one envelope", _edited(_two_signatures), False, False),
    Case("no signature in the envelope", _field("dsseEnvelope.signatures", []), False, False),
    Case("message signature", _edited(_message_signature), False, False),
    Case("unknown field", _field("extra", 1), False, False),
    Case("base64 with a line break", _edited(_lax_base64), False, False),
    Case("keyless", _field("verificationMaterial", {"certificate": {"rawBytes": "AAAA"}}), False, False),
    Case("legacy docker-reference of another repository (the policy decides)",
         lambda: legacy_of(KEY, repository="evil.example/x"), True, True),
    Case("legacy of another type",
         _legacy(lambda doc: doc["critical"].update(type="atomic container signature")), False, True),
    Case("legacy optional null", _legacy(lambda doc: doc.update(optional=None)), True, True),
    Case("legacy for another digest", lambda: legacy_of(KEY, OTHER_DIGEST), False, False),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_acceptance(case: Case) -> None:
    found = examine(case.make(), [KEY.public], DIGEST)
    assert _sound(found) is case.ours, found


def test_we_are_never_laxer_than_cosign() -> None:
    assert [case.name for case in CASES if case.ours and not case.cosign] == []


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
@pytest.mark.parametrize("make", [bundle_of, legacy_of], ids=["bundle", "legacy"])
def test_every_key_algorithm_works_in_both_formats(algorithm: str, make: Callable[[Signer], RawSignature]) -> None:
    made = signer("any", algorithm)
    found = examine(make(made), [signer("stranger").public, made.public], DIGEST)
    assert (found.signer, found.problem, found.subject) == (made.fingerprint, "", DIGEST)


def test_rsa_pss_signatures_are_refused() -> None:
    made = signer("any", KeyAlgorithm.RSA_3072)
    payload = statement(DIGEST, {})
    assert isinstance(made._key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    signature = made._key.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload), pss, hashes.SHA256())
    assert not examine(bundle_with(made, payload, signature=signature), [made.public], DIGEST).signer


def test_an_unknown_key_is_no_problem_but_no_signer_either() -> None:
    found = examine(bundle_of(signer("stranger")), [KEY.public], DIGEST)
    assert (found.signer, found.problem, found.claims, found.subject) == ("", "", (), "")
    assert found.key_hint == signer("stranger").fingerprint


def test_a_changed_payload_under_our_hint_is_told_apart_from_a_stranger() -> None:
    payload = base64.b64encode(statement(OTHER_DIGEST, {})).decode()
    found = examine(_field("dsseEnvelope.payload", payload)(), [KEY.public], DIGEST)
    assert not found.signer
    assert "that key did not make this signature" in found.problem


def test_claims_come_from_the_signed_part_of_both_formats() -> None:
    for found in (bundle_of(KEY, with_claims={"env": "prod"}), legacy_of(KEY, with_claims={"env": "prod"})):
        assert examine(found, [KEY.public], DIGEST).claim("env") == "prod"


def test_a_legacy_payload_states_its_repository() -> None:
    assert examine(legacy_of(KEY), [KEY.public], DIGEST).docker_reference == REPOSITORY


@pytest.mark.parametrize("text", ["QR==", "QQ", "QQ== ", "_-__", "", None, 1], ids=repr)
def test_base64_has_one_form(text: object) -> None:
    assert strict_base64("QQ==", "sig") == b"A"
    with pytest.raises(Malformed):
        strict_base64(text, "sig")


def test_huge_input_is_refused_before_it_is_parsed() -> None:
    huge = b"[" * 2_000_000
    for kind in SignatureFormat:
        assert "at most" in examine(RawSignature(kind, DIGEST, huge, "AAAA"), [KEY.public], DIGEST).problem


def _sound(found: Evidence) -> bool:
    return bool(found.signer) and not found.problem
