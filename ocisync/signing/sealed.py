"""cosign's encrypted key file: `ENCRYPTED SIGSTORE PRIVATE KEY`, also under its older name.

PEM around base64 JSON: scrypt makes a key from the password, NaCl's secretbox (XSalsa20-Poly1305) seals PKCS #8 DER.
Scrypt parameters come from the file and are bounded before any memory is spent on them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.errors import InvalidInput

_BLOCK = re.compile(
    rb"-----BEGIN ENCRYPTED (SIGSTORE|COSIGN) PRIVATE KEY-----\r?\n"
    rb"([A-Za-z0-9+/=\s]+)-----END ENCRYPTED \1 PRIVATE KEY-----"
)
_MARK = re.compile(rb"-----BEGIN ENCRYPTED (?:SIGSTORE|COSIGN) PRIVATE KEY-----")
_SCRYPT_N = 65_536  # what cosign writes; about 64 MiB and half a second
_SCRYPT_R = 8
_SCRYPT_P = 1
_SCRYPT_N_MAX = 262_144  # four times cosign's: 256 MiB with r = 8
_SCRYPT_MEMORY = 300 << 20  # bytes that OpenSSL may use
_SALT_BYTES = 32
_NONCE_BYTES = 24
_KEY_BYTES = 32
_FILE_BYTES = 64 * 1024


def is_sealed(data: bytes) -> bool:
    """Tell whether the file is in cosign's encrypted form."""
    return _MARK.search(data) is not None


def open_sealed(data: bytes, password: bytes | None, name: str) -> bytes:
    """Decrypt to PKCS #8 DER. None as password tries the empty one, which cosign accepts too.

    Raises:
        InvalidInput: damaged, unknown or too expensive parameters (reason `BadKey`), wrong password (`WrongPassword`),
            or one is needed (`PasswordNeeded`).
    """
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        salt, nonce, ciphertext, (n, r, p) = _read(data)
    except (ValueError, KeyError, TypeError) as error:  # the first is also what broken JSON and base64 raise
        raise InvalidInput(f"{name}: damaged or unknown encrypted key file ({error})", reason="BadKey") from None
    secret = hashlib.scrypt(password or b"", salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MEMORY, dklen=_KEY_BYTES)
    try:
        return bytes(SecretBox(secret).decrypt(ciphertext, nonce))
    except CryptoError:
        if password is None:
            raise InvalidInput(
                f"{name}: the key is encrypted and no password was given", reason="PasswordNeeded"
            ) from None
        raise InvalidInput(f"{name}: wrong password, or a damaged key file", reason="WrongPassword") from None


def seal(der: bytes, password: bytes) -> bytes:
    """Encrypt PKCS #8 DER the way `cosign generate-key-pair` does."""
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    secret = hashlib.scrypt(
        password, salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=_SCRYPT_MEMORY, dklen=_KEY_BYTES
    )
    document = {
        "kdf": {
            "name": "scrypt",
            "params": {"N": _SCRYPT_N, "r": _SCRYPT_R, "p": _SCRYPT_P},
            "salt": base64.b64encode(salt).decode(),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(SecretBox(secret).encrypt(der, nonce).ciphertext).decode(),
    }
    body = base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    label = "ENCRYPTED SIGSTORE PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def _read(data: bytes) -> tuple[bytes, bytes, bytes, tuple[int, int, int]]:
    found = _BLOCK.search(data)
    if found is None:
        raise Malformed("no complete PEM block")
    raw = base64.b64decode(b"".join(found.group(2).split()), validate=True)
    document = parse_json_object(raw, max_bytes=_FILE_BYTES)
    kdf, cipher = document["kdf"], document["cipher"]
    if kdf["name"] != "scrypt" or cipher["name"] != "nacl/secretbox":
        raise Malformed("only scrypt with nacl/secretbox is known")
    salt, nonce = _bytes(kdf["salt"]), _bytes(cipher["nonce"])
    if not 8 <= len(salt) <= 64 or len(nonce) != _NONCE_BYTES:
        raise Malformed("bad salt or nonce")
    return salt, nonce, _bytes(document["ciphertext"]), _scrypt_parameters(kdf["params"])


def _scrypt_parameters(params: dict[str, Any]) -> tuple[int, int, int]:
    n, r, p = params["N"], params["r"], params["p"]
    if not all(type(number) is int for number in (n, r, p)):
        raise Malformed("scrypt parameters are no integers")
    if not (2 <= n <= _SCRYPT_N_MAX and n & (n - 1) == 0 and r == _SCRYPT_R and 1 <= p <= 4):
        raise Malformed(f"scrypt parameters N={n} r={r} p={p} are outside what is accepted")
    return n, r, p


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise Malformed("expected base64 text")
    return base64.b64decode(text, validate=True)
