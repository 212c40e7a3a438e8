"""Describe: everything that can be said of an artifact, and how much of it is proven.

Annotations and contents are what the artifact says about itself. A signature says who made it and what it claims; it is
proven (`verified`) only if one of the keys that the caller names made it over this very digest. Whatever cannot be read
is a sentence in `problems`: describing judges nothing and fails only if there is no such artifact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ocisync.kit.strictjson import Malformed
from ocisync.manifests.parse import read_tree
from ocisync.model.artifact import ArtifactManifest
from ocisync.model.clock import Clock
from ocisync.model.descriptor import CREATED, REVISION, SOURCE, VERSION
from ocisync.model.errors import OcisyncError
from ocisync.model.evidence import RawSignature, SignatureFormat
from ocisync.model.limits import CONFIG_BYTES, LAYER_BYTES
from ocisync.model.ref import legacy_signature_tag
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import Referrers, Store
from ocisync.pack.artifact import check_config, parse_manifest
from ocisync.pack.untar import read_unverified
from ocisync.signing import bundle, legacy
from ocisync.signing.certificate import read_identity
from ocisync.signing.check import examine
from ocisync.signing.keys import PublicKey
from ocisync.signing.statement import parse_statement

_PROBLEMS = 20  # that are told one by one
_PREDICATE = "dev.sigstore.bundle.predicateType"


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """One signature beside an artifact.

    Attributes:
        signer: fingerprint of the key that it names or that made it; for certificates, the identity they state.
        verified: a key that the caller named made it over this digest. Otherwise everything here is hearsay.
        predicate_type: what it is: a signature, or an attestation of some kind.
        problem: why it cannot count; empty if nothing speaks against it.
    """

    format: str
    source: str
    signer: str
    verified: bool
    claims: Mapping[str, str]
    predicate_type: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "format": self.format,
            "digest": self.source,
            "key": self.signer,
            "verified": self.verified,
            "predicateType": self.predicate_type,
            "claims": dict(self.claims),
            **({"problem": self.problem} if self.problem else {}),
        }


@dataclass(frozen=True, slots=True)
class Description:
    """An artifact as it presents itself."""

    manifest: ArtifactManifest
    content_digest: str
    referrers: Referrers
    legacy_signature: bool
    signatures: tuple[SignatureFacts, ...]
    files: tuple[TreeFile, ...]
    kinds: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]

    def as_json(self, *, with_files: bool) -> dict[str, Any]:
        """The form that scripts read."""
        manifest, notes = self.manifest, self.manifest.annotations
        answer: dict[str, Any] = {
            "digest": manifest.descriptor.digest,
            "mediaType": manifest.descriptor.media_type,
            "contentDigest": self.content_digest,
            "layer": {
                "digest": manifest.layer.digest,
                "size": manifest.layer.size,
                "mediaType": manifest.layer.media_type,
            },
            "revision": notes.get(REVISION, ""),
            "source": notes.get(SOURCE, ""),
            "version": notes.get(VERSION, ""),
            "created": notes.get(CREATED, ""),
            "annotations": dict(notes),
            "signatures": [item.as_json() for item in self.signatures],
            "referrers": [
                {"artifactType": item.artifact_type, "digest": item.digest, "size": item.size}
                | ({"predicateType": item.annotations[_PREDICATE]} if _PREDICATE in item.annotations else {})
                for item in self.referrers.descriptors
            ],
            "referrersTruncated": self.referrers.truncated,
            "legacySignature": self.legacy_signature,
            "content": {
                "files": len(self.files),
                "bytes": sum(len(file.data) for file in self.files),
                "objects": sum(count for _, count in self.kinds),
                "kinds": dict(self.kinds),
            },
            "problems": list(self.problems),
        }
        if with_files:
            answer["files"] = [{"path": file.path, "bytes": len(file.data)} for file in self.files]
        return answer


def describe(store: Store, reference: str, clock: Clock, keys: Sequence[PublicKey] = ()) -> Description:
    """Look at an artifact from all sides.

    Args:
        store: where it is.
        reference: tag or digest.
        clock: for the time that reading signatures may take.
        keys: whose signatures are to be proven.

    Raises:
        NotFound: there is none.
        Refused: what is there is no artifact.
        Unavailable, AccessDenied: the registry.
    """
    found = store.manifest(reference)
    manifest = parse_manifest(found.raw, found.descriptor)
    digest = manifest.descriptor.digest
    config = store.blob(manifest.config, max_bytes=CONFIG_BYTES)
    content_digest = check_config(config, manifest)
    evidence = collect(store, digest, budget=EvidenceBudget(clock.monotonic))
    problems = list(evidence.problems)
    if evidence.truncated:
        problems.append("there are more signatures than are read")
    files: tuple[TreeFile, ...] = ()
    try:
        files = read_unverified(manifest, config, store.blob(manifest.layer, max_bytes=LAYER_BYTES))
    except OcisyncError as error:
        problems.append(f"content: {error.message}")
    kinds, unread = _kinds(files)
    return Description(
        manifest=manifest,
        content_digest=content_digest,
        referrers=store.referrers(digest),
        legacy_signature=store.resolve(legacy_signature_tag(digest)) is not None,
        signatures=tuple(_facts(raw, keys, digest) for raw in evidence.items),
        files=files,
        kinds=kinds,
        problems=(*problems, *unread),
    )


def _kinds(files: Iterable[TreeFile]) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """How many objects of each kind, most first; and what could not be read as manifests."""
    parsed = read_tree(tuple(files), lenient=True)
    counted = Counter(item.id.kind for item in parsed.objects)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    told = [str(finding) for finding in parsed.findings[:_PROBLEMS]]
    if len(parsed.findings) > _PROBLEMS:
        told.append(f"and {len(parsed.findings) - _PROBLEMS} more files or objects that cannot be read")
    return tuple(ordered), tuple(told)


def _facts(raw: RawSignature, keys: Sequence[PublicKey], digest: str) -> SignatureFacts:
    evidence = examine(raw, keys, digest)
    signer, claims, predicate, problem = _stated(raw)
    if evidence.signer and evidence.subject == digest:
        # Attestations too: whether it is one that counts is a question for a policy.
        claims = dict(evidence.claims)
        return SignatureFacts(raw.format.value, raw.source, evidence.signer, True, claims, evidence.predicate_type)
    return SignatureFacts(raw.format.value, raw.source, signer, False, claims, predicate, problem or evidence.problem)


def _stated(raw: RawSignature) -> tuple[str, dict[str, str], str, str]:
    """What a signature says about itself, unproven: signer, claims, predicate type; or why that cannot be read."""
    try:
        if raw.format is SignatureFormat.LEGACY:
            payload = legacy.parse(raw.payload)
            return "", dict(payload.claims), "", ""
        envelope = bundle.parse(raw.payload)
        signed = parse_statement(envelope.payload)
        signer = envelope.key_hint
        if envelope.certificate:
            signer = read_identity(envelope.certificate).signer
        return signer, dict(signed.claims), signed.predicate_type, ""
    except Malformed as error:
        return "", {}, "", str(error)
