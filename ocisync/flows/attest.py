"""Attest: say something about a digest that a repository has, signed; once.

What is there already, by the same signer, of the same type, saying the same, is not made again. One attestation at a
time, each stored beside the digest and read back: registries lose referrers that arrive in parallel. A key that signs
something else than it was asked for is found before anything is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ocisync.flows import sign
from ocisync.model.clock import Clock
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest
from ocisync.model.errors import UsageError
from ocisync.model.evidence import Evidence, RawSignature, SignatureFormat
from ocisync.model.values import dataclass
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import Store
from ocisync.signing import attestation

Same = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Attestation:
    """An attestation that exists in the registry now. `by.made`: it was made in this run."""

    predicate_type: str
    by: sign.Signature


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """One statement about one digest.

    Attributes:
        predicate_type: a URI, or a short name.
        predicate: the JSON object that is attested.
    """

    store: Store
    digest: str
    signers: tuple[sign.AnySigner, ...]
    clock: Clock
    predicate_type: str
    predicate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attested:
    """What came of it. `unchanged`: every signer had said it already."""

    repository: str
    digest: str
    attestations: tuple[Attestation, ...]
    unchanged: bool

    def as_json(self, location: str) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "reference": f"{location}@{self.digest}",
            "repository": self.repository,
            "digest": self.digest,
            "unchanged": self.unchanged,
            "attestations": describe(self.attestations),
        }


def attest(request: AttestRequest) -> Attested:
    """Attest.

    Raises:
        NotFound: no such digest.
        UsageError: no digest, no key.
        InvalidInput: no predicate type, or too large.
        AccessDenied, Unavailable: the registry, or a Sigstore service.
    """
    if not request.signers:
        raise UsageError("nothing to sign with: name --sign-key FILE", hint="ocisync keys generate NAME")
    if not is_digest(request.digest):
        raise UsageError("only a digest is attested: a tag may move")
    kind = attestation.predicate_type(request.predicate_type)
    subject = request.store.manifest(request.digest).descriptor
    predicates = {signer.fingerprint: request.predicate for signer in request.signers}
    found = find(request.store, subject.digest, request.signers, kind, predicates, _equal, request.clock)
    made = write_missing(request.store, subject, request.signers, kind, predicates, found, request.clock.now())
    return Attested(request.store.repository, subject.digest, made, not any(item.by.made for item in made))


def find(
    store: Store,
    digest: str,
    signers: Sequence[sign.AnySigner],
    kind: str,
    predicates: Mapping[str, Mapping[str, Any]],
    same: Same,
    clock: Clock,
) -> dict[str, Attestation]:
    """By signer: what they attested of this type that says the same as their predicate in `predicates`."""
    found: dict[str, Attestation] = {}
    for raw in collect(store, digest, budget=EvidenceBudget(clock.monotonic)).items:
        if raw.format is not SignatureFormat.BUNDLE:
            continue
        item = sign.examine_own(raw, signers, digest)
        wanted = predicates.get(item.signer)
        if wanted is not None and _is(item, kind) and item.predicate is not None and same(item.predicate, wanted):
            signature = sign.Signature(item.signer, item.format, item.source, made=False)
            found.setdefault(item.signer, Attestation(kind, signature))
    return found


def write_missing(
    store: Store,
    subject: Descriptor,
    signers: Sequence[sign.AnySigner],
    kind: str,
    predicates: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Attestation],
    now: datetime,
) -> tuple[Attestation, ...]:
    """Make what is not there, one after another; all attestations, sorted by signer."""
    known = dict(found)
    for signer in signers:
        if signer.fingerprint not in known:
            known[signer.fingerprint] = _write(store, subject, signer, kind, predicates[signer.fingerprint], now)
    return tuple(known[name] for name in sorted(known))


def describe(attestations: Iterable[Attestation]) -> list[dict[str, str]]:
    """The JSON form, for output."""
    return [{"predicateType": item.predicate_type, **one} for item in attestations for one in sign.describe([item.by])]


def _write(
    store: Store,
    subject: Descriptor,
    signer: sign.AnySigner,
    kind: str,
    predicate: Mapping[str, Any],
    now: datetime,
) -> Attestation:
    data = attestation.make(signer, subject.digest, kind, predicate, repository=store.repository)
    own = sign.examine_own(RawSignature(SignatureFormat.BUNDLE, "", data), [signer], subject.digest)
    if not _is(own, kind) or own.predicate != predicate or own.signer != signer.fingerprint:
        raise UsageError(
            f"{signer.fingerprint} makes attestations that do not verify: {own.problem or 'wrong key'}",
            hint="make a new key with ocisync keys generate",
        )
    attached = sign.attach_bundle(store, subject, data, kind, now)
    signature = sign.Signature(signer.fingerprint, SignatureFormat.BUNDLE, attached.digest, made=True)
    return Attestation(kind, signature)


def _is(item: Evidence, kind: str) -> bool:
    return bool(item.signer) and item.predicate is not None and item.predicate_type == kind


def _equal(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return found == wanted
