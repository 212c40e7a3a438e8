"""Signatures as found (`RawSignature`) and as examined (`Evidence`). Finding is I/O, examining is pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
class Evidence:
    """One signature after its cryptography was examined.

    Attributes:
        signer: `sha256:<hex>` fingerprint (of the DER SPKI) of the known key that verified it; empty if none did.
        subject: the digest that was signed; empty unless `signer` is set.
        claims: signed annotations, sorted.
        docker_reference: repository named by a legacy payload; empty otherwise.
        problem: a sentence that says why it cannot count; empty if the signature is sound.
        key_hint: fingerprint that an unverified bundle names; for messages only.
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

    def claim(self, name: str) -> str:
        """The signed value of `name`; empty if it was not signed."""
        return dict(self.claims).get(name, "")
