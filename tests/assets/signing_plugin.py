"""A signing program as `--sign-key exec:` wants it: the key is a PEM file whose path is the KEY.

One for a KMS looks the same: ask it for the public key, hand it the message, print its answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa


def main(action: str, name: str) -> bytes:
    """The public key, or a signature over standard input."""
    key = serialization.load_pem_private_key(Path(name).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey)
    if action == "public-key":
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_key().public_bytes(serialization.Encoding.PEM, spki)
    message = sys.stdin.buffer.read()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message)


if __name__ == "__main__":
    sys.stdout.buffer.write(main(sys.argv[1], sys.argv[2]))
