"""Keys: files of every form that people have, and clear refusals for the others."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ocisync.model.errors import InvalidInput
from ocisync.signing.keys import KeyAlgorithm, dump_private, generate, load_private, load_public
from tests.support.trust import signer

# Order of P-256's group: (r, N - s) is the other signature of the same data.
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_PLAIN = serialization.NoEncryption()

# `openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048`, public half.
RSA_PSS_PUBLIC = b"""\
-----BEGIN PUBLIC KEY-----
MIIBIDALBgkqhkiG9w0BAQoDggEPADCCAQoCggEBAKwPxfKs7aoG5lwuHDpXYgly
Czgf4RPXXJgHODTMffjwpv3n2U4DG+MaD0ZBwPVfQQ9U+xwvEpK7bzD3CoxAY7Co
suDr8hM3fLnK/Ebo6aPZhQrShPcNd+2facYWH22xPEwsMCvOUPiP+tHedF3N/EmR
wnhoSGiRLTVZvlWUA+GdvNmxQMcCI/c++LN6Sk/kAI+uK1w//rVPZe0nyIktznaP
2g9KVg7ZhQxLWQEirLC7xzZxd1JyfwE5ibmYwa7+Ch/6JwN9UdKFkqVv5lPO3D9H
JpVWUV2c5xDXOWVFZKTsKZo5dKgFmWmYx81M5/takgMtU7y+fZaHDUuDfdGgLvcC
AwEAAQ==
-----END PUBLIC KEY-----
"""


def _pem(key: object, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey | ed448.Ed448PrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, form, _PLAIN)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
@pytest.mark.parametrize(
    ("key_format", "password"),
    [("pkcs8", None), ("pkcs8", b"correct horse"), ("cosign", b"correct horse")],  # scrypt takes half a second
    ids=["plain", "encrypted", "cosign"],
)
def test_a_written_key_reads_back_and_signs(algorithm: str, key_format: str, password: bytes | None) -> None:
    made = signer("any", algorithm)
    read = load_private(dump_private(made, password=password, key_format=key_format), password)
    assert read.fingerprint == made.fingerprint
    assert load_public(made.public.pem).verify(read.sign(b"data"), b"data")


def test_a_cosign_key_with_letters_that_are_no_base64_is_refused() -> None:
    sealed = dump_private(signer(), password=b"", key_format="cosign")
    document = json.loads(base64.b64decode(b"".join(sealed.splitlines()[1:-1])))
    document["cipher"]["nonce"] = "é"
    label = "ENCRYPTED SIGSTORE PRIVATE KEY"
    body = base64.b64encode(json.dumps(document).encode()).decode()
    with pytest.raises(InvalidInput) as refused:
        load_private(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode(), b"")
    assert refused.value.reason == "BadKey"


def test_a_cosign_key_without_a_password_opens_without_asking() -> None:
    data = dump_private(signer(), password=None, key_format="cosign")
    assert load_private(data).fingerprint == signer().fingerprint


@pytest.mark.parametrize("key_format", ["pkcs8", "cosign"])
def test_an_encrypted_key_asks_for_its_password_and_refuses_another(key_format: str) -> None:
    data = dump_private(signer(), password=b"right", key_format=key_format)
    with pytest.raises(InvalidInput, match="no password was given") as needed:
        load_private(data)
    with pytest.raises(InvalidInput, match="wrong password") as wrong:
        load_private(data, b"wrong")
    assert (needed.value.reason, wrong.value.reason) == ("PasswordNeeded", "WrongPassword")


def test_a_password_that_a_plain_key_does_not_need_is_ignored() -> None:
    assert load_private(dump_private(signer(), password=None), b"unneeded").fingerprint == signer().fingerprint


def test_sec1_and_pkcs1_files_are_read() -> None:
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    assert load_private(_pem(ec.generate_private_key(ec.SECP256R1()), traditional)).public.algorithm == "ecdsa-p256"
    assert load_private(_pem(rsa.generate_private_key(65537, 2048), traditional)).public.algorithm == "rsa-2048"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
        rsa.generate_private_key(65537, 1024),
    ],
    ids=["p384", "p521", "secp256k1", "ed448", "rsa-1024"],
)
def test_unsupported_keys_are_refused_as_private_and_as_public(key: ec.EllipticCurvePrivateKey) -> None:
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for read in (lambda: load_private(_pem(key)), lambda: load_public(public)):
        with pytest.raises(InvalidInput) as refused:
            read()
        assert refused.value.reason == "UnsupportedKey"


def test_rsa_pss_keys_are_refused() -> None:
    with pytest.raises(InvalidInput, match="RSA-PSS"):
        load_public(RSA_PSS_PUBLIC)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
        signer().public.pem.encode(),
        b"x" * 100_000,
    ],
    ids=["empty", "text", "bad-der", "bad-sealed", "half", "public", "huge"],
)
def test_what_is_no_private_key_is_refused_without_a_traceback(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        load_private(data, b"")


def test_a_private_key_given_as_public_is_named_and_never_shown() -> None:
    data = dump_private(signer(), password=None)
    with pytest.raises(InvalidInput, match="found a private key") as refused:
        load_public(data)
    secret = b"".join(data.splitlines()[1:-1])[:20].decode()
    assert secret not in refused.value.message + refused.value.hint


def test_two_keys_in_one_file_are_refused() -> None:
    with pytest.raises(InvalidInput, match="several PEM blocks"):
        load_public(signer("a").public.pem + signer("b").public.pem)


def test_scrypt_parameters_of_a_hostile_file_cost_nothing() -> None:
    lines = dump_private(signer(), password=b"", key_format="cosign").decode().splitlines()
    document = json.loads(base64.b64decode("".join(lines[1:-1])))
    document["kdf"]["params"] = {"N": 1 << 40, "r": 8, "p": 1}
    body = base64.b64encode(json.dumps(document).encode()).decode()
    with pytest.raises(InvalidInput, match="scrypt parameters"):
        load_private("\n".join([lines[0], body, lines[-1], ""]).encode(), b"")


def test_the_same_key_has_the_same_fingerprint_however_it_is_written() -> None:
    lines = signer().public.pem.replace("\n", "\r\n")
    assert load_public("\n\n" + lines).fingerprint == signer().public.fingerprint


def test_a_private_key_shows_only_its_public_half() -> None:
    assert "_key" not in repr(signer())


def test_a_signature_as_two_bare_numbers_is_refused() -> None:
    made = signer()
    r, s = decode_dss_signature(made.sign(b"data"))
    assert not made.public.verify(r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"data")


def test_high_and_low_s_are_both_accepted_since_go_writes_both() -> None:
    made = signer()
    r, s = decode_dss_signature(made.sign(b"data"))
    assert made.public.verify(encode_dss_signature(r, s), b"data")
    assert made.public.verify(encode_dss_signature(r, _N - s), b"data")


def test_trailing_bytes_after_a_der_signature_are_refused() -> None:
    made = signer()
    assert not made.public.verify(made.sign(b"data") + b"\0", b"data")


def test_an_unknown_algorithm_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as refused:
        generate("dsa")
    assert "ecdsa-p256" in refused.value.hint


def test_a_public_key_text_with_a_lone_surrogate_is_no_key() -> None:
    with pytest.raises(InvalidInput):
        load_public("\ud800")
