"""Who a signing certificate names: issuer, subject and claims, as Fulcio writes them into certificates.

Reading only: whether the certificate may be believed is `signing.keyless`'s question. Strict where two readers could
differ: exactly one subject alternative name, whole DER texts, and both of Fulcio's issuer extensions must agree when
both are there.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ocisync.kit.strictjson import Malformed
from ocisync.model.evidence import Identity

_FULCIO = "1.3.6.1.4.1.57264.1."
_ISSUER_RAW = _FULCIO + "1"
_OTHER_NAME = _FULCIO + "7"
_ISSUER = _FULCIO + "8"
_TEXT_BYTES = 4_096

# Fulcio's extensions with DER text, by the names that policies use.
CLAIMS = {
    "buildSigner": _FULCIO + "9",
    "buildSignerDigest": _FULCIO + "10",
    "runnerEnvironment": _FULCIO + "11",
    "sourceRepository": _FULCIO + "12",
    "sourceRepositoryDigest": _FULCIO + "13",
    "sourceRepositoryRef": _FULCIO + "14",
    "sourceRepositoryId": _FULCIO + "15",
    "sourceRepositoryOwner": _FULCIO + "16",
    "sourceRepositoryOwnerId": _FULCIO + "17",
    "buildConfig": _FULCIO + "18",
    "buildConfigDigest": _FULCIO + "19",
    "buildTrigger": _FULCIO + "20",
    "runInvocation": _FULCIO + "21",
    "sourceRepositoryVisibility": _FULCIO + "22",
}


def read_identity(der: bytes) -> Identity:
    """The identity in a certificate, without proofs.

    Raises:
        Malformed: no certificate, or none as Fulcio issues them.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        return _identity(certificate)
    except Malformed:
        raise
    except Exception as error:  # noqa: BLE001 - hostile DER: the library has a dozen kinds of errors for it
        raise Malformed(f"the certificate cannot be read ({type(error).__name__})") from None


def _identity(certificate: x509.Certificate) -> Identity:
    key = certificate.public_key()
    # One hash for each kind of key; this is what cosign and Sigstore's other clients make for keyless signing.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("the certificate's key is not ECDSA P-256")
    extensions = {
        extension.oid.dotted_string: extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension)
    }
    issuer = _issuer(extensions)
    found = {name: _der_text(extensions[oid], name) for name, oid in CLAIMS.items() if oid in extensions}
    return Identity(issuer, _subject(certificate), tuple(sorted(found.items())))


def _issuer(extensions: dict[str, bytes]) -> str:
    found = []
    if _ISSUER in extensions:
        found.append(_der_text(extensions[_ISSUER], "issuer"))
    if _ISSUER_RAW in extensions:
        found.append(_text(extensions[_ISSUER_RAW], "issuer"))
    if not found:
        raise Malformed("the certificate names no issuer of the identity")
    if len(set(found)) > 1:
        raise Malformed("the certificate names two issuers of the identity")
    if any(char.isspace() for char in found[0]):
        raise Malformed("the issuer of the identity has spaces")
    return found[0]


def _subject(certificate: x509.Certificate) -> str:
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        raise Malformed("the certificate names no subject") from None
    if len(names) != 1:
        raise Malformed(f"the certificate names {len(names)} subjects, exactly one is accepted")
    name = names[0]
    if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
        return _text(name.value.encode(), "subject")
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _OTHER_NAME:
        return _der_text(name.value, "subject")
    raise Malformed("the certificate names a subject of a kind that Fulcio does not issue")


def _der_text(value: bytes, what: str) -> str:
    """One DER UTF8String, and nothing after it."""
    if len(value) < 2 or value[0] != 0x0C:
        raise Malformed(f"the certificate's {what} is no DER text")
    length, start = value[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(value[2 : 2 + count], "big"), 2 + count
        if count not in {1, 2} or length < 0x80 or (count == 2 and length < 0x100):
            raise Malformed(f"the certificate's {what} is no DER text")
    if len(value) != start + length:
        raise Malformed(f"the certificate's {what} is no DER text")
    return _text(value[start:], what)


def _text(raw: bytes, what: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Malformed(f"the certificate's {what} is not UTF-8") from None
    if not text or len(raw) > _TEXT_BYTES or not text.isprintable():
        raise Malformed(f"the certificate's {what} is empty, too long or has control characters")
    return text
