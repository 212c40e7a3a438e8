"""Artifacts before and after judgement are different types: `Unverified` and `Verified`.

Only `flows.verify` builds a `Verified` (a style test holds this); unpacking and applying accept nothing else, so an
unjudged byte cannot reach a cluster by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ocisync.model.descriptor import Descriptor
from ocisync.model.values import dataclass


class VerdictReason(StrEnum):
    """Why an artifact is allowed or refused; becomes the reason of the `Verified` condition."""

    VERIFIED = "Verified"
    NO_POLICY = "NoPolicy"
    INVALID_POLICY = "InvalidPolicy"
    UNSIGNED = "Unsigned"
    BAD_SIGNATURE = "BadSignature"
    UNKNOWN_SIGNER = "UnknownSigner"
    WRONG_SUBJECT = "WrongSubject"
    WRONG_REPOSITORY = "WrongRepository"
    WRONG_TAG = "WrongTag"
    ANNOTATION_MISMATCH = "AnnotationMismatch"
    EXPIRED = "Expired"
    ROLLED_BACK = "RolledBack"
    TOO_OLD = "TooOld"
    NO_TIMESTAMP = "NoTimestamp"
    NOT_LOGGED = "NotLogged"
    NO_ATTESTATION = "NoAttestation"
    BELOW_THRESHOLD = "BelowThreshold"
    EVIDENCE_TRUNCATED = "EvidenceTruncated"
    DENIED = "Denied"
    TAG_MUTATED = "TagMutated"
    BAD_ARTIFACT = "BadArtifact"


@dataclass(frozen=True, slots=True)
class VerdictStep:
    """One line of an explanation: evidence or policy, the rule applied to it, and the result."""

    subject: str
    rule: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Policy × evidence × time.

    Attributes:
        signers: names of the authorities that were satisfied.
        sequence: the threshold-th highest signed sequence (unix seconds), the next watermark; 0 if none was signed.
        revision: the signed revision claim; empty if none.
        distrusted: an explicit deny list matched: every write must stop, not only new digests.
        found: who had signed, as far as it was proven; filled in where evidence was judged.
    """

    allowed: bool
    reason: VerdictReason
    message: str
    policy: str = ""
    signers: tuple[str, ...] = ()
    sequence: int = 0
    revision: str = ""
    steps: tuple[VerdictStep, ...] = ()
    hint: str = ""
    distrusted: bool = False
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtifactManifest:
    """An OCI image manifest of ours: exact bytes, and the two descriptors that matter."""

    descriptor: Descriptor
    raw: bytes
    config: Descriptor
    layer: Descriptor
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unverified:
    """A manifest fetched by digest. `tag` is what was asked for; empty for a digest source."""

    repository: str
    tag: str
    manifest: ArtifactManifest


@dataclass(frozen=True, slots=True)
class Verified:
    """A manifest that a policy allowed. Built by `flows.verify` alone."""

    repository: str
    tag: str
    manifest: ArtifactManifest
    verdict: Verdict

    @property
    def digest(self) -> str:
        """The digest that was judged and that everything else is fetched by."""
        return self.manifest.descriptor.digest
