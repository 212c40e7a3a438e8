"""From bytes to evidence: which known key, or whose identity under which trusted root, signed what.

Order for each signature: bounded strict parsing of the wrapping → decode → cryptography with each known key, or of the
certificate with each trusted root → only then is the signed content read, strictly. What an unverified signature says
is never shown as a fact; its key hint is kept for messages.
`examine` never raises, whatever the bytes are: one hostile signature must not hide a good one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ocisync.kit.strictjson import Malformed
from ocisync.model.descriptor import IN_TOTO_PAYLOAD_TYPE, SIGN_PREDICATE
from ocisync.model.evidence import Evidence, Identity, RawSignature, RootProof, SignatureFormat
from ocisync.model.limits import BUNDLE_BYTES
from ocisync.signing import bundle, legacy
from ocisync.signing.keys import PublicKey
from ocisync.signing.roots import TrustedRoot
from ocisync.signing.statement import pae, parse_statement


def examine(raw: RawSignature, keys: Sequence[PublicKey], digest: str, roots: Sequence[TrustedRoot] = ()) -> Evidence:
    """Examine one signature that was found beside `digest`.

    `problem` of the result is empty in two cases only: a known key, or an identity that a trusted root accepts, signed
    exactly this digest (`signer` is set); or the signature is well formed and nobody known made it (`signer` is empty).
    """
    try:
        if raw.format is SignatureFormat.BUNDLE:
            return _examine_bundle(raw, keys, digest, roots)
        return _examine_legacy(raw, keys, digest)
    except Malformed as error:
        return Evidence(raw.source, raw.format, problem=str(error))


def _examine_bundle(
    raw: RawSignature, keys: Sequence[PublicKey], digest: str, roots: Sequence[TrustedRoot]
) -> Evidence:
    envelope = bundle.parse(raw.payload)
    found = _examine_certified(raw, envelope, roots) if envelope.certificate else _examine_keyed(raw, envelope, keys)
    if not found.signer:
        return found
    try:
        signed = parse_statement(envelope.payload)
    except Malformed as error:
        return replace(found, problem=str(error))
    found = replace(found, subject=signed.subject, predicate_type=signed.predicate_type, claims=signed.claims)
    if signed.predicate_type != SIGN_PREDICATE:
        # Never without a problem, so that nothing that counts signatures can count it; never with a predicate if it
        # is about something else.
        predicate = signed.predicate if signed.subject == digest else None
        problem = f"an attestation ({signed.predicate_type[:200]}), not a signature"
        return replace(found, problem=problem, predicate=predicate)
    return _about(found, digest)


def _examine_keyed(raw: RawSignature, envelope: bundle.Envelope, keys: Sequence[PublicKey]) -> Evidence:
    found = Evidence(raw.source, raw.format, key_hint=envelope.key_hint)
    signer = _signer(envelope.signature, pae(IN_TOTO_PAYLOAD_TYPE, envelope.payload), keys)
    if not signer and envelope.key_hint in {key.fingerprint for key in keys}:
        return replace(found, problem="it names a trusted key, but that key did not make this signature")
    return replace(found, signer=signer)


def _examine_certified(raw: RawSignature, envelope: bundle.Envelope, roots: Sequence[TrustedRoot]) -> Evidence:
    found = Evidence(raw.source, raw.format, certified=True)
    if not roots:
        return found
    from ocisync.signing.certificate import read_identity  # most signatures are made by keys
    from ocisync.signing.keyless import prove

    stated = read_identity(envelope.certificate)
    proofs: list[RootProof] = []
    problem = ""
    for root in sorted(roots, key=lambda root: root.fingerprint):
        try:
            proofs.append(prove(envelope, root))
        except Malformed as error:
            problem = problem or str(error)
    if not proofs:
        return replace(found, problem=problem)
    identity = Identity(stated.issuer, stated.subject, stated.claims, tuple(proofs))
    return replace(found, signer=identity.signer, identity=identity)


def _examine_legacy(raw: RawSignature, keys: Sequence[PublicKey], digest: str) -> Evidence:
    if len(raw.payload) > BUNDLE_BYTES:
        raise Malformed(f"{len(raw.payload)} bytes of payload, at most {BUNDLE_BYTES} are read")
    found = Evidence(raw.source, raw.format)
    signer = _signer(bundle.strict_base64(raw.signature, "signature"), raw.payload, keys)
    if not signer:
        return found
    found = replace(found, signer=signer)
    try:
        signed = legacy.parse(raw.payload)
    except Malformed as error:
        return replace(found, problem=str(error))
    found = replace(
        found,
        subject=signed.subject,
        predicate_type=SIGN_PREDICATE,  # the format has no other purpose
        claims=signed.claims,
        docker_reference=signed.docker_reference,
    )
    return _about(found, digest)


def _about(found: Evidence, digest: str) -> Evidence:
    if found.subject != digest:
        return replace(found, problem=f"it signs {found.subject}, not {digest}")
    return found


def _signer(signature: bytes, signed: bytes, keys: Sequence[PublicKey]) -> str:
    for key in keys:
        if key.verify(signature, signed):
            return key.fingerprint
    return ""
