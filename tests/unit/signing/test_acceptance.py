"""What counts as a sound signature, case by case, beside what `cosign verify --key` 3.1 does with the same bytes.

The column of cosign is measured anew by the contract test `test_acceptance_contract.py`; where we differ, we are the
stricter side.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ocisync.kit.strictjson import Malformed
from ocisync.model.descriptor import IN_TOTO_PAYLOAD_TYPE
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import Evidence, RawSignature, SignatureFormat
from ocisync.signing.bundle import strict_base64
from ocisync.signing.check import examine
from ocisync.signing.keys import KeyAlgorithm, PublicKey, load_public
from ocisync.signing.statement import pae, statement
from tests.support.acceptance import CASES, DIGEST, KEY, Case, replaced
from tests.support.trust import OTHER_DIGEST, REPOSITORY, bundle_of, bundle_with, legacy_of, signer


def _known(case: Case) -> list[PublicKey]:
    try:
        return [load_public(case.pem())]
    except InvalidInput:  # a key of a kind that is not used at all
        return []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_acceptance(case: Case) -> None:
    found = examine(case.make(), _known(case), DIGEST)
    assert _sound(found) is case.ours, found


def test_we_are_never_laxer_than_cosign() -> None:
    assert [case.name for case in CASES if case.ours and not case.cosign] == []


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
@pytest.mark.parametrize("make", [bundle_of, legacy_of], ids=["bundle", "legacy"])
def test_every_key_algorithm_works_in_both_formats(algorithm: str, make: Callable[..., RawSignature]) -> None:
    made = signer("any", algorithm)
    found = examine(make(made, DIGEST), [signer("stranger").public, made.public], DIGEST)
    assert (found.signer, found.problem, found.subject) == (made.fingerprint, "", DIGEST)


def test_rsa_pss_signatures_are_refused() -> None:
    made = signer("any", KeyAlgorithm.RSA_3072)
    payload = statement(DIGEST, {})
    assert isinstance(made._key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    signature = made._key.sign(pae(IN_TOTO_PAYLOAD_TYPE, payload), pss, hashes.SHA256())
    assert not examine(bundle_with(made, payload, signature=signature), [made.public], DIGEST).signer


def test_an_unknown_key_is_no_problem_but_no_signer_either() -> None:
    found = examine(bundle_of(signer("stranger"), DIGEST), [KEY.public], DIGEST)
    assert (found.signer, found.problem, found.claims, found.subject) == ("", "", (), "")
    assert found.key_hint == signer("stranger").fingerprint


def test_a_changed_payload_under_our_hint_is_told_apart_from_a_stranger() -> None:
    payload = base64.b64encode(statement(OTHER_DIGEST, {})).decode()
    found = examine(replaced("dsseEnvelope.payload", payload)(), [KEY.public], DIGEST)
    assert not found.signer
    assert "that key did not make this signature" in found.problem


def test_claims_come_from_the_signed_part_of_both_formats() -> None:
    for found in (bundle_of(KEY, DIGEST, {"env": "prod"}), legacy_of(KEY, DIGEST, {"env": "prod"})):
        assert examine(found, [KEY.public], DIGEST).claim("env") == "prod"


def test_a_legacy_payload_states_its_repository() -> None:
    assert examine(legacy_of(KEY, DIGEST), [KEY.public], DIGEST).docker_reference == REPOSITORY


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
