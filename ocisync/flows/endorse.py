"""Endorse: new signatures for a digest that a repository has already.

What is signed is the digest the caller names, never what a tag happens to point to at that moment. The claims say for
which repository and tags the signature was made, and of which commit the artifact is: revision and time are taken from
sound signatures (by trusted keys, or by our own key) if there are any, else from the manifest, whose bytes the digest
fixes. So a promotion has the sequence of the commit, and the order of commits stays the order of sequences. A planned
rollback is a signature with the present time as its sequence.

Refreshing makes the signatures that our keys have made once more, with the same claims and a new time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ocisync.flows import sign
from ocisync.flows.publishtags import FUTURE_TOLERANCE, created_of
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, examine_reference, require
from ocisync.model.clock import Clock
from ocisync.model.descriptor import (
    CLAIM_EXPIRES,
    CLAIM_REPOSITORY,
    CLAIM_REVISION,
    CLAIM_SEQUENCE,
    CLAIM_SIGNED,
    CLAIM_TAGS,
    CREATED,
    REVISION,
    Descriptor,
)
from ocisync.model.digest import is_digest
from ocisync.model.errors import NotFound, Refused, UsageError
from ocisync.model.evidence import Evidence, SignatureFormat
from ocisync.model.spec import SelectorKind
from ocisync.model.values import dataclass
from ocisync.oci.documents import parse_json
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.oci.store import Manifest, Store
from ocisync.policy.requirements import counted_for

_NUMBER_CHARS = 15


@dataclass(frozen=True, slots=True)
class EndorseRequest:
    """One signing of an existing digest.

    Attributes:
        digest: what is signed.
        tags: for which the signature is made; when refreshing, only signatures for all of these.
        claims: signed besides our own.
        expires: when the signature stops to count.
        rollback: the sequence is the present time instead of the commit's.
        refresh: repeat what our keys have signed, instead of signing anew.
        trust: if set, the artifact must satisfy it first.
    """

    store: Store
    digest: str
    signers: tuple[sign.AnySigner, ...]
    clock: Clock
    tags: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    expires: datetime | None = None
    legacy_signature: bool = False
    rollback: bool = False
    refresh: bool = False
    trust: TrustSet | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is about to be signed or tagged.

    Attributes:
        revision: of the commit; empty if nothing says it.
        created: committer time; None if nothing says it.
        sound: signatures for this repository by keys that are trusted here, or by our own.
    """

    manifest: Manifest
    revision: str
    created: datetime | None
    sound: tuple[Evidence, ...]

    @property
    def descriptor(self) -> Descriptor:
        """Type, digest and size."""
        return self.manifest.descriptor


@dataclass(frozen=True, slots=True)
class Endorsed:
    """What came of it. `unchanged`: every signature was there already."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    revision: str
    signatures: tuple[sign.Signature, ...]
    unchanged: bool

    def as_json(self, location: str) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "reference": f"{location}@{self.digest}",
            "repository": self.repository,
            "tags": list(self.tags),
            "digest": self.digest,
            "revision": self.revision,
            "unchanged": self.unchanged,
            "signatures": sign.describe(self.signatures),
        }


def endorse(request: EndorseRequest) -> Endorsed:
    """Sign a digest.

    Raises:
        NotFound: no such digest; when refreshing, no signature of ours.
        Refused: the artifact does not satisfy `trust`, or is from the future.
        UsageError: no key, bad claims, or no commit time to take the sequence from.
    """
    if not request.signers:
        raise UsageError("nothing to sign with: name --sign-key FILE", hint="ocisync keys generate NAME")
    if not is_digest(request.digest):
        raise UsageError(f"only a digest can be signed, not {request.digest!r}")
    now = request.clock.now()
    subject = read_subject(request.store, request.digest, request.signers, request.clock, request.trust)
    if request.refresh:
        made = _refresh(request, subject, now)
        tags = tuple(dict.fromkeys(tag for claims in made for tag in claims[0].get(CLAIM_TAGS, "").split()))
        signatures = tuple(signature for _, signature in made)
    else:
        tags = request.tags
        claims = claims_of(subject, request.store.repository, tags, now, request)
        signatures = sign_missing(request, subject, claims)
    return Endorsed(
        request.store.repository,
        subject.descriptor.digest,
        tags,
        subject.revision,
        signatures,
        unchanged=not any(signature.made for signature in signatures),
    )


def read_subject(
    store: Store, reference: str, signers: Sequence[sign.AnySigner], clock: Clock, trust: TrustSet | None, tag: str = ""
) -> Subject:
    """Read a manifest by tag or digest and what sound signatures say of it; `tag`: judge a digest as that tag's.

    Raises:
        NotFound: there is none.
        Refused: it does not satisfy `trust` (`VerificationRefused`).
    """
    found = store.resolve(reference)
    if found is None:
        raise NotFound(f"{store.repository} has no {reference}", hint=f"ocisync list {store.repository}")
    # By digest from here on: the tag may move while we read.
    manifest = store.manifest(found.digest)
    digest = manifest.descriptor.digest
    examined: tuple[Evidence, ...] = ()
    if trust is not None:
        tag = tag if is_digest(reference) else reference
        kind = SelectorKind.TAG if tag else SelectorKind.DIGEST
        request = Request(store.repository, kind, tag, digest)
        budget = EvidenceBudget(clock.monotonic)
        judgement = examine_reference(store, trust, request, now=clock.now(), collect=partial(collect, budget=budget))
        require(judgement, request)
        # A trusted root accepts strangers too: only whom the rules name may say what is claimed.
        rules = trust.select(store.repository).rules
        examined = tuple(item for item in judgement.examined if any(counted_for(item, one) for one in rules))
    if signers:
        ours = {signer.fingerprint for signer in signers}
        items = collect(store, digest, budget=EvidenceBudget(clock.monotonic)).items
        own = (sign.examine_own(raw, signers, digest) for raw in items)
        examined += tuple(item for item in own if item.signer in ours)
    sound = tuple(item for item in examined if _is_sound(item, digest, store.repository))
    revision, created = _origin(manifest, sound)
    return Subject(manifest, revision, created, sound)


def claims_of(
    subject: Subject, repository: str, tags: Sequence[str], now: datetime, request: EndorseRequest
) -> dict[str, str]:
    """The claims of a new signature.

    Raises:
        Refused: the commit is from the future.
        UsageError: nothing tells the time of the commit, or a claim is unfit.
    """
    created = now if request.rollback else subject.created
    if created is None:
        raise UsageError(
            f"{subject.descriptor.digest} does not say of when it is: no annotation {CREATED}, no signature of ours",
            hint="sign it with the present time as its sequence: --rollback",
        )
    if created > now + FUTURE_TOLERANCE:
        raise Refused(
            f"{subject.descriptor.digest} is from the future ({created.isoformat()}): its sequence would block all"
            " that follows",
            reason="FutureCommit",
            hint="push the commit again with a right clock, or sign with --rollback",
        )
    return sign.make_claims(
        repository=repository,
        revision=subject.revision,
        tags=tags,
        sequence=int(created.timestamp()),
        signed=now,
        expires=request.expires,
        extra=request.claims,
    )


def sign_missing(request: EndorseRequest, subject: Subject, claims: Mapping[str, str]) -> tuple[sign.Signature, ...]:
    """Make sure that every key has signed these claims in every format, one after another, each read back."""
    store, digest = request.store, subject.descriptor.digest
    formats = sign.formats_of(with_legacy=request.legacy_signature)
    budget = EvidenceBudget(request.clock.monotonic)
    found = sign.find_signatures(store, digest, request.signers, claims, formats, budget)
    for signer in request.signers:
        for form in formats:
            if (signer.fingerprint, form) not in found:
                now = request.clock.now()
                found[signer.fingerprint, form] = sign.write(store, subject.descriptor, signer, claims, form, now)
    return tuple(found[key] for key in sorted(found))


def _refresh(
    request: EndorseRequest, subject: Subject, now: datetime
) -> list[tuple[Mapping[str, str], sign.Signature]]:
    """Sign again what our keys have signed: each set of claims once, in the formats that it had."""
    made: list[tuple[Mapping[str, str], sign.Signature]] = []
    for signer in request.signers:
        last: dict[tuple[frozenset[tuple[str, str]], SignatureFormat], Evidence] = {}
        for item in subject.sound:
            tags = set(item.claim(CLAIM_TAGS).split())
            if item.signer == signer.fingerprint and set(request.tags) <= tags:
                key = (frozenset(_lasting(item.claims).items()), item.format)
                last[key] = max(last.get(key, item), item, key=lambda one: _number(one.claim(CLAIM_SIGNED)) or 0)
        if not last:
            raise NotFound(
                f"{signer.fingerprint} has made no signature of {subject.descriptor.digest}"
                f" for {request.store.repository}" + (f" and {' '.join(request.tags)}" if request.tags else ""),
                hint="sign it without --refresh",
            )
        for (_, form), item in last.items():
            claims = _renewed(item, request, now)
            made.append((claims, sign.write(request.store, subject.descriptor, signer, claims, form, now)))
    return made


def _renewed(item: Evidence, request: EndorseRequest, now: datetime) -> dict[str, str]:
    """The same claims from now on; one that ends lasts as long again as it did."""
    claims = {**_lasting(item.claims), CLAIM_SIGNED: str(int(now.timestamp()))}
    ended, signed = _number(item.claim(CLAIM_EXPIRES)), _number(item.claim(CLAIM_SIGNED))
    if request.expires is not None:
        claims[CLAIM_EXPIRES] = str(int(request.expires.timestamp()))
    elif ended is not None and signed is not None:
        claims[CLAIM_EXPIRES] = str(int((now + timedelta(seconds=max(ended - signed, 1))).timestamp()))
    elif ended is not None:
        claims[CLAIM_EXPIRES] = str(ended)
    return claims


def _lasting(claims: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in claims if name not in {CLAIM_SIGNED, CLAIM_EXPIRES}}


def _is_sound(item: Evidence, digest: str, repository: str) -> bool:
    if not item.signer or item.problem or item.subject != digest:
        return False
    named = item.docker_reference if item.format is SignatureFormat.LEGACY else repository
    return item.claim(CLAIM_REPOSITORY) == repository == named


def _origin(manifest: Manifest, sound: Sequence[Evidence]) -> tuple[str, datetime | None]:
    """Revision and committer time: as signed, else as the manifest has them."""
    notes = parse_json(manifest.raw, manifest.descriptor.digest).get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    stated = created_of(notes[CREATED]) if isinstance(notes.get(CREATED), str) else None
    revision = notes.get(REVISION) if isinstance(notes.get(REVISION), str) else ""
    signed = {number: item for item in sound if (number := _number(item.claim(CLAIM_SEQUENCE))) is not None}
    if not signed:
        return str(revision), stated
    # Rollbacks have later sequences than the commit: it is the one that the manifest has, or else the earliest.
    own = int(stated.timestamp()) if stated else -1
    number = own if own in signed else min(signed)
    return signed[number].claim(CLAIM_REVISION) or str(revision), datetime.fromtimestamp(number, UTC)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_CHARS else None
