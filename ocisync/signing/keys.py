"""Keys: make them, read and write their files, sign, verify.

One hash for each kind of key, never a choice made by the signature: P-256 with SHA-256, Ed25519 as it is, RSA with
PKCS #1 v1.5 and SHA-256. These are what `cosign verify --key` checks. Refused, with the reason: P-384 and P-521 (cosign
signs them with a hash that it does not verify), RSA-PSS keys, RSA below 2048 bits, DSA, other curves.

A key is named by its fingerprint: `sha256:` and the hex digest of its DER SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import field
from enum import StrEnum
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ocisync.model.errors import InvalidInput
from ocisync.model.values import dataclass
from ocisync.signing import sealed

_KEY_FILE_BYTES = 64 * 1024  # an RSA-8192 key is about 6 KiB
_RSA_BITS_MIN = 2048
_RSA_BITS_MAX = 8192  # verification time grows with the square
# DER of the object identifier id-RSASSA-PSS (1.2.840.113549.1.1.10). The library loads such keys as plain RSA.
_PSS_OID = bytes.fromhex("06092a864886f70d01010a")
_SUPPORTED = "supported are ECDSA P-256, Ed25519 and RSA with 2048 to 8192 bits"

_Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
_Public = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class OutsideKey(Protocol):
    """A private key that is not in this process."""

    def sign(self, data: bytes) -> bytes:
        """Sign as `Signer.sign` does."""
        ...


class KeyAlgorithm(StrEnum):
    """What `generate` can make."""

    ECDSA_P256 = "ecdsa-p256"
    ED25519 = "ed25519"
    RSA_3072 = "rsa-3072"


class KeyFormat(StrEnum):
    """How private keys are written."""

    PKCS8 = "pkcs8"  # `PRIVATE KEY` or `ENCRYPTED PRIVATE KEY`, as OpenSSL
    COSIGN = "cosign"  # `ENCRYPTED SIGSTORE PRIVATE KEY`, as `cosign generate-key-pair`


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies. Equal keys have equal fingerprints however their files were written."""

    fingerprint: str
    algorithm: str
    pem: str
    _key: _Public = field(repr=False, compare=False, hash=False)

    @property
    def hint(self) -> str:
        """What a bundle carries to name its key: base64 of the fingerprint's bytes."""
        return base64.b64encode(bytes.fromhex(self.fingerprint.removeprefix("sha256:"))).decode()

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Tell whether `signature` is this key's over `data`. Never raises for hostile bytes.

        ECDSA signatures must be DER with both numbers in range; `r‖s` is refused. A high `s` is accepted: Go and
        OpenSSL write one every second time, and signature bytes identify nothing here.
        """
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                if not _is_strict_der(signature):
                    return False
                self._key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            elif isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, data)
            else:
                self._key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key. Shows only its public half."""

    public: PublicKey
    _key: _Private | OutsideKey = field(repr=False, compare=False, hash=False)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the public key."""
        return self.public.fingerprint

    def sign(self, data: bytes) -> bytes:
        """Sign `data`: DER for ECDSA, raw bytes for Ed25519 and RSA."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(data, ec.ECDSA(hashes.SHA256()))
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self._key.sign(data)


def generate(algorithm: str = KeyAlgorithm.ECDSA_P256) -> Signer:
    """Make a new key pair.

    Raises:
        InvalidInput: for an algorithm other than those of `KeyAlgorithm`.
    """
    key: _Private
    if algorithm == KeyAlgorithm.ECDSA_P256:
        key = ec.generate_private_key(ec.SECP256R1())
    elif algorithm == KeyAlgorithm.ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
    elif algorithm == KeyAlgorithm.RSA_3072:
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    else:
        names = ", ".join(KeyAlgorithm)
        raise InvalidInput(f"unknown key algorithm {algorithm[:40]!r}", hint=f"choose one of {names}")
    return _signer(key, "new key")


def load_private(data: bytes, password: bytes | None = None, *, name: str = "private key") -> Signer:
    """Read a private key: PKCS #8 plain or encrypted, SEC 1, PKCS #1, or cosign's encrypted form.

    Args:
        data: the file's bytes.
        password: None if none was given: an encrypted file then raises `PasswordNeeded`, except that cosign files
            with an empty password, which cosign itself makes, open.
        name: the file, for messages.

    Raises:
        InvalidInput: not a private key, not a supported one, wrong password (reason `WrongPassword`) or none
            (reason `PasswordNeeded`).
    """
    _check_size(data, name)
    der = sealed.open_sealed(data, password, name) if sealed.is_sealed(data) else None
    if der is None and _first_label(data) in {"PUBLIC KEY", "CERTIFICATE"}:
        raise InvalidInput(f"{name}: holds a {_first_label(data).lower()}, not a private key", reason="BadKey")
    key: object
    try:
        if der is not None:
            key = serialization.load_der_private_key(der, None)
        else:
            key = _load_pem(data, password, name)
            der = _unencrypted_der(data)
    except InvalidInput:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidInput(
            f"{name}: not a private key that can be read",
            hint="make one with `ocisync keys generate NAME`",
            reason="BadKey",
        ) from None
    _refuse_pss(der, name)
    return _signer(key, name)


def load_public(pem: bytes | str, *, name: str = "public key") -> PublicKey:
    """Read exactly one `PUBLIC KEY` PEM block.

    Raises:
        InvalidInput: anything else, saying what it is.
    """
    data = pem.encode(errors="replace") if isinstance(pem, str) else pem  # a lone surrogate is no PEM either way
    _check_size(data, name)
    label = _first_label(data)
    if data.count(b"-----BEGIN ") != 1 or label != "PUBLIC KEY":
        found = f"a {label.lower()}" if label else "no PEM block"
        if data.count(b"-----BEGIN ") > 1:
            found = "several PEM blocks"
        hint = "write the public half with `ocisync keys show FILE`" if "PRIVATE" in label else ""
        raise InvalidInput(f"{name}: expected one PUBLIC KEY PEM block, found {found}", hint=hint, reason="BadKey")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidInput(f"{name}: not a public key that can be read", hint=_SUPPORTED, reason="BadKey") from None
    _refuse_pss(_unencrypted_der(data), name)
    return _public(key, name)


def dump_private(signer: Signer, *, password: bytes | None, key_format: str = KeyFormat.PKCS8) -> bytes:
    """Write a private key as PEM. PKCS #8 without a password is plain; cosign's form is always encrypted."""
    key = signer._key
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput("the private key is not here, it cannot be written", reason="UnsupportedKey")
    if key_format == KeyFormat.COSIGN:
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return sealed.seal(der, password or b"")
    if key_format != KeyFormat.PKCS8:
        raise InvalidInput(f"unknown key format {key_format[:40]!r}", hint=f"choose one of {', '.join(KeyFormat)}")
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _signer(key: object, name: str) -> Signer:
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput(f"{name}: unsupported kind of key", hint=_SUPPORTED, reason="UnsupportedKey")
    return Signer(_public(key.public_key(), name), key)


def _public(key: object, name: str) -> PublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise InvalidInput(
                f"{name}: curve {key.curve.name} is not supported: cosign cannot verify what it signs with it",
                hint="use ECDSA P-256: `ocisync keys generate NAME`",
                reason="UnsupportedKey",
            )
        algorithm = "ecdsa-p256"
    elif isinstance(key, ed25519.Ed25519PublicKey):
        algorithm = "ed25519"
    elif isinstance(key, rsa.RSAPublicKey):
        if not _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX:
            raise InvalidInput(
                f"{name}: RSA with {key.key_size} bits is not supported", hint=_SUPPORTED, reason="UnsupportedKey"
            )
        algorithm = f"rsa-{key.key_size}"
    else:
        raise InvalidInput(f"{name}: unsupported kind of key", hint=_SUPPORTED, reason="UnsupportedKey")
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_bytes(serialization.Encoding.DER, spki)
    pem = key.public_bytes(serialization.Encoding.PEM, spki).decode()
    return PublicKey("sha256:" + hashlib.sha256(der).hexdigest(), algorithm, pem, key)


def _load_pem(data: bytes, password: bytes | None, name: str) -> object:
    encrypted = b"ENCRYPTED" in data
    if encrypted and password is None:
        raise InvalidInput(f"{name}: the key is encrypted and no password was given", reason="PasswordNeeded")
    try:
        # The library refuses a password for a plain key; a user who exports one for all keys means no harm.
        return serialization.load_pem_private_key(data, password if encrypted else None)
    except ValueError:
        if encrypted:
            raise InvalidInput(f"{name}: wrong password, or a damaged key file", reason="WrongPassword") from None
        raise


def _is_strict_der(signature: bytes) -> bool:
    try:
        r, s = decode_dss_signature(signature)
        return r > 0 and s > 0 and encode_dss_signature(r, s) == signature
    except (ValueError, OverflowError):
        return False


def _check_size(data: bytes, name: str) -> None:
    if len(data) > _KEY_FILE_BYTES:
        raise InvalidInput(f"{name}: {len(data)} bytes is no key file", reason="BadKey")


def _first_label(data: bytes) -> str:
    start = data.find(b"-----BEGIN ")
    end = data.find(b"-----", start + 11)
    if start < 0 or end < 0 or end - start > 100:
        return ""
    return data[start + 11 : end].decode("ascii", "replace")


def _unencrypted_der(data: bytes) -> bytes:
    """The bytes of the first PEM block; empty if they cannot be read (then the library refused them too)."""
    lines = data.strip().splitlines()
    body = b"".join(line.strip() for line in lines if b"-----" not in line and b":" not in line)
    try:
        return base64.b64decode(body)
    except ValueError:
        return b""


def _refuse_pss(der: bytes, name: str) -> None:
    # The algorithm identifier is at the head of both PKCS #8 and SubjectPublicKeyInfo.
    if _PSS_OID in der[:64]:
        raise InvalidInput(
            f"{name}: RSA-PSS keys are not supported: cosign does not verify them",
            hint=_SUPPORTED,
            reason="UnsupportedKey",
        )
