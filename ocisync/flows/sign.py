"""Make sure that a digest has our signatures: look, sign what is missing, store it, read it back.

One signature at a time: registries lose referrers that arrive in parallel. A signature is made only over a digest
whose bytes the caller built or compared itself; this module is told the digest and signs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from ocisync.model.descriptor import (
    CLAIM_EXPIRES,
    CLAIM_REPOSITORY,
    CLAIM_REVISION,
    CLAIM_SEQUENCE,
    CLAIM_SIGNED,
    CLAIM_TAGS,
    EMPTY_JSON,
    EMPTY_JSON_DIGEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_MANIFEST,
    SIGN_PREDICATE,
    Descriptor,
)
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import NotFound, Unavailable, UsageError
from ocisync.model.evidence import Evidence, RawSignature, SignatureFormat
from ocisync.model.limits import BUNDLE_BYTES
from ocisync.model.ref import legacy_signature_tag
from ocisync.model.values import dataclass
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import Store
from ocisync.signing import bundle, legacy
from ocisync.signing.check import examine
from ocisync.signing.keylesssigner import KeylessSigner
from ocisync.signing.keys import Signer

AnySigner = Signer | KeylessSigner

_OWN_PREFIX = "dev.ocisync."
_LEGACY_ATTEMPTS = 4  # the .sig tag is shared: somebody may write between our read and our write


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that exists in the registry now. `source` is the manifest that carries it."""

    signer: str
    format: SignatureFormat
    source: str
    made: bool

    @property
    def identity(self) -> tuple[str, str] | None:
        """Issuer and subject of a keyless signature; None for a key's."""
        issuer, space, subject = self.signer.partition(" ")
        return (issuer, subject) if space else None

    def __str__(self) -> str:
        """For people: whose it is, in which format."""
        return f"{self.identity[1] if self.identity else self.signer[:19] + '…'} ({self.format.value})"


Signatures = dict[tuple[str, SignatureFormat], Signature]  # by signer and format


def make_claims(
    *,
    repository: str,
    revision: str,
    tags: Sequence[str],
    sequence: int,
    signed: datetime,
    expires: datetime | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The signed claims of one push.

    Raises:
        UsageError: an extra claim uses a name of ours, or holds what `cosign verify -a` cannot take.
    """
    for name, value in (extra or {}).items():
        if name.startswith(_OWN_PREFIX):
            raise UsageError(f"claim {name} is set by ocisync", hint="choose a name of your own")
        bad = any(ord(char) < 0x20 or "\ud800" <= char <= "\udfff" for char in name + value)
        if not name or "," in name + value or "=" in name or bad:
            raise UsageError(
                f"bad claim {name!r}: UTF-8 without commas or control characters", hint="--claim NAME=VALUE"
            )
    claims = {
        **(extra or {}),
        CLAIM_REPOSITORY: repository,
        CLAIM_REVISION: revision,
        CLAIM_TAGS: " ".join(tags),
        CLAIM_SEQUENCE: str(sequence),
        CLAIM_SIGNED: str(int(signed.timestamp())),
    }
    if expires is not None:
        claims[CLAIM_EXPIRES] = str(int(expires.timestamp()))
    return claims


def examine_own(raw: RawSignature, signers: Sequence[AnySigner], digest: str) -> Evidence:
    """Examine a signature with what our own signers sign with: their keys, their trusted roots."""
    keys = [signer.public for signer in signers if isinstance(signer, Signer)]
    roots = {signer.root.fingerprint: signer.root for signer in signers if isinstance(signer, KeylessSigner)}
    return examine(raw, keys, digest, tuple(roots.values()))


def is_equal(found: Evidence, digest: str, signer: str, claims: Mapping[str, str]) -> bool:
    """Tell whether a sound signature says all that a new one would say; when it was made does not matter.

    It may have been made for more tags than are asked for now.
    """
    if found.problem or found.signer != signer or found.subject != digest:
        return False
    theirs, ours = dict(found.claims), dict(claims)
    if not set(ours.pop(CLAIM_TAGS, "").split()) <= set(theirs.pop(CLAIM_TAGS, "").split()):
        return False
    theirs.pop(CLAIM_SIGNED, None)
    ours.pop(CLAIM_SIGNED, None)
    return theirs == ours


def find_signatures(
    store: Store,
    digest: str,
    signers: Sequence[AnySigner],
    claims: Mapping[str, str],
    formats: Sequence[SignatureFormat],
    budget: EvidenceBudget,
) -> Signatures:
    """Our equal signatures that the registry has already, by signer and format.

    Raises:
        Unavailable: the registry could not say; signing again on a guess would pile up signatures.
    """
    if not signers:
        return {}
    ours = {signer.fingerprint for signer in signers}
    found: Signatures = {}
    for raw in collect(store, digest, budget=budget).items:
        evidence = examine_own(raw, signers, digest)
        wanted = (
            evidence.signer in ours
            and evidence.format in formats
            and is_equal(evidence, digest, evidence.signer, claims)
        )
        if wanted and _names_repository(evidence, store.repository):
            key = (evidence.signer, evidence.format)
            found.setdefault(key, Signature(evidence.signer, evidence.format, evidence.source, made=False))
    return found


def find_signers(
    store: Store,
    digest: str,
    signers: Sequence[AnySigner],
    tags: Sequence[str],
    budget: EvidenceBudget,
    now: datetime,
    *,
    claims: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Signature, ...]:
    """Our keys' signatures for this repository and these tags, whatever revision they name; none that has ended.

    Claims that are asked for must be there; others may be.
    """
    if not signers:
        return ()
    ours = {signer.fingerprint for signer in signers}
    found: Signatures = {}
    for raw in collect(store, digest, budget=budget).items:
        evidence = examine_own(raw, signers, digest)
        if (
            evidence.signer in ours
            and not evidence.problem
            and evidence.subject == digest
            and evidence.claim(CLAIM_REPOSITORY) == store.repository
            and set(tags) <= set(evidence.claim(CLAIM_TAGS).split())
            and set(claims.items()) <= set(evidence.claims)
            and not _has_ended(evidence, now)
        ):
            signature = Signature(evidence.signer, evidence.format, evidence.source, made=False)
            found.setdefault((evidence.signer, evidence.format), signature)
    return tuple(found.values())


def _has_ended(evidence: Evidence, now: datetime) -> bool:
    end = evidence.claim(CLAIM_EXPIRES)
    return bool(end) and (not end.isascii() or not end.isdigit() or len(end) > 15 or int(end) <= now.timestamp())


def _names_repository(evidence: Evidence, repository: str) -> bool:
    return evidence.format is SignatureFormat.BUNDLE or evidence.docker_reference == repository


def write(
    store: Store,
    subject: Descriptor,
    signer: AnySigner,
    claims: Mapping[str, str],
    form: SignatureFormat,
    now: datetime,
) -> Signature:
    """Make one signature in one format and store it.

    Raises:
        Unavailable: it does not come back from the registry.
    """
    if form is SignatureFormat.LEGACY:
        if isinstance(signer, KeylessSigner):
            raise UsageError("keyless signatures are bundles", hint="leave --legacy-signature out")
        return sign_legacy(store, subject, signer, claims)
    return sign_bundle(store, subject, signer, claims, now)


def sign_bundle(
    store: Store, subject: Descriptor, signer: AnySigner, claims: Mapping[str, str], now: datetime
) -> Signature:
    """Attach a bundle signature to a manifest that the repository has, and read it back.

    Raises:
        Unavailable: it was stored, but does not come back as it was.
    """
    data = (
        signer.make(subject.digest, claims)
        if isinstance(signer, KeylessSigner)
        else bundle.make(signer, subject.digest, claims)
    )
    _check_own(RawSignature(SignatureFormat.BUNDLE, "", data), signer, subject.digest)
    attached = attach_bundle(store, subject, data, SIGN_PREDICATE, now)
    return Signature(signer.fingerprint, SignatureFormat.BUNDLE, attached.digest, made=True)


def attach_bundle(store: Store, subject: Descriptor, data: bytes, predicate_type: str, now: datetime) -> Descriptor:
    """Store a bundle beside its subject, and read it back.

    Raises:
        Unavailable: it was stored, but does not come back as it was.
    """
    plain = Descriptor(subject.media_type, subject.digest, subject.size)
    raw, layer = bundle.bundle_manifest(data, plain, now, predicate_type)
    store.put_blob(Descriptor(OCI_EMPTY, EMPTY_JSON_DIGEST, len(EMPTY_JSON)), EMPTY_JSON)
    store.put_blob(layer, data)
    attached = store.attach(raw, plain)
    if store.manifest(attached.digest).raw != raw or store.blob(layer, max_bytes=BUNDLE_BYTES) != data:
        raise Unavailable(f"bundle {attached.digest} of {subject.digest} does not read back as it was written")
    return attached


def sign_legacy(store: Store, subject: Descriptor, signer: Signer, claims: Mapping[str, str]) -> Signature:
    """Add a signature to the `.sig` tag, and read it back; retried when someone else wrote at the same time.

    Raises:
        InvalidInput: the tag holds something that is no signature manifest.
        Unavailable: it is still not there after several attempts.
    """
    signature = legacy.make(signer, subject.digest, store.repository, claims)
    raw_signature = RawSignature(SignatureFormat.LEGACY, "", signature.payload, signature.signature)
    _check_own(raw_signature, signer, subject.digest)
    tag = legacy_signature_tag(subject.digest)
    store.put_blob(signature.layer, signature.payload)
    for _ in range(_LEGACY_ATTEMPTS):
        raw, config = legacy.merge(_manifest_bytes(store, tag), signature)
        store.put_blob(Descriptor(OCI_CONFIG, sha256_digest(config), len(config)), config)
        store.put_manifest(raw, OCI_MANIFEST, tag)
        stored = _manifest_bytes(store, tag)
        if stored is not None and legacy.holds(stored, signature):
            return Signature(signer.fingerprint, SignatureFormat.LEGACY, sha256_digest(stored), made=True)
    raise Unavailable(f"tag {tag} lost our signature {_LEGACY_ATTEMPTS} times: other writers are active", hint="retry")


def formats_of(*, with_legacy: bool) -> tuple[SignatureFormat, ...]:
    """The formats to write."""
    return (SignatureFormat.BUNDLE, SignatureFormat.LEGACY) if with_legacy else (SignatureFormat.BUNDLE,)


def describe(signatures: Iterable[Signature]) -> list[dict[str, str]]:
    """The JSON form, for output: a signature is by a `key`, or by an `identity` that an `issuer` vouches for."""
    return [
        {**_who(signature), "format": signature.format.value, "digest": signature.source} for signature in signatures
    ]


def _who(signature: Signature) -> dict[str, str]:
    if signature.identity is None:
        return {"key": signature.signer}
    issuer, subject = signature.identity
    return {"identity": subject, "issuer": issuer}


def _manifest_bytes(store: Store, ref: str) -> bytes | None:
    try:
        return store.manifest(ref).raw
    except NotFound:
        return None


def _check_own(raw: RawSignature, signer: AnySigner, digest: str) -> None:
    evidence = examine_own(raw, [signer], digest)
    if evidence.problem or evidence.subject != digest:
        raise UsageError(
            f"key {signer.fingerprint} makes signatures that do not verify: {evidence.problem or 'wrong key'}",
            hint="make a new key with ocisync keys generate",
        )
