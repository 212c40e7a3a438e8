"""Signatures as found (`RawSignature`) and as examined (`Evidence`). Finding is I/O, examining is pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from ocisync.model.values import dataclass


class SignatureFormat(StrEnum):
    """How a signature is stored beside its subject."""

    BUNDLE = "Bundle"  # cosign 3: Sigstore bundle in a referrer manifest
    LEGACY = "Legacy"  # cosign 2: layer of the manifest at `sha256-<hex>.sig`


@dataclass(frozen=True, slots=True)
class RawSignature:
    """Bytes as fetched from the registry: nothing in them is trusted.

    Attributes:
        source: digest of the manifest that carries it.
        payload: bundle JSON, or the simple-signing payload of a legacy signature.
        signature: base64 signature of a legacy layer (its annotation); empty for bundles.
    """

    format: SignatureFormat
    source: str
    payload: bytes
    signature: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceSet:
    """All that was found for one digest within the budget."""

    items: tuple[RawSignature, ...]
    truncated: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RootProof:
    """What one trusted root proved about a keyless signature. The log and the certificate are always proven.

    Attributes:
        root: fingerprint of the trusted root.
        timestamped: one of its timestamp authorities says when the signature was made.
    """

    root: str
    timestamped: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed without a key of their own, as a trusted root's certificate authority states it.

    Attributes:
        issuer: who vouches for the subject: the URL of an identity provider. Has no spaces.
        subject: a workflow, a mail address, a service account.
        claims: what the issuer said besides, sorted: `sourceRepository` and others.
        proofs: one for each trusted root that accepts the signature.
    """

    issuer: str
    subject: str
    claims: tuple[tuple[str, str], ...] = ()
    proofs: tuple[RootProof, ...] = ()

    @property
    def signer(self) -> str:
        """The name of this signer: what tells signers apart."""
        return f"{self.issuer} {self.subject}"

    def proof(self, root: str) -> RootProof | None:
        """What the trusted root with this fingerprint proved; None if it proved nothing."""
        return next((proof for proof in self.proofs if proof.root == root), None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signature after its cryptography was examined.

    Attributes:
        signer: `sha256:<hex>` fingerprint (of the DER SPKI) of the known key that verified it, or the issuer and the
            subject of `identity`; empty if neither a key nor a trusted root did.
        subject: the digest that was signed; empty unless `signer` is set.
        claims: signed annotations, sorted.
        docker_reference: repository named by a legacy payload; empty otherwise.
        problem: a sentence that says why it cannot count; empty if the signature is sound.
        key_hint: fingerprint that an unverified bundle names; for messages only.
        identity: who signed, if it was made with a certificate that a trusted root accepts.
        certified: made with a certificate, whoever issued it; for messages only.
        predicate: what a sound attestation of exactly the wanted digest says; None for everything else, signatures
            above all. `problem` is set as well: it is no signature.
    """

    source: str
    format: SignatureFormat
    signer: str = ""
    subject: str = ""
    predicate_type: str = ""
    claims: tuple[tuple[str, str], ...] = ()
    docker_reference: str = ""
    problem: str = ""
    key_hint: str = ""
    identity: Identity | None = None
    certified: bool = False
    predicate: Mapping[str, Any] | None = field(default=None, hash=False)

    def claim(self, name: str) -> str:
        """The signed value of `name`; empty if it was not signed."""
        return dict(self.claims).get(name, "")
