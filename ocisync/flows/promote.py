"""Promote: point tags to a digest that the repository has already, with a signature that says so.

Whoever signs must know what: a source that is named by its tag must be proven first, by the named trust or by a
signature of one's own for that tag; one that is named by its digest is what the caller means.

Order: read (and verify, if trust is named) → every refusal → signatures for the new tags, read back → tags, names that
never move first, each looked at again before and read back after. A version tag and a commit's tag never change; other
tags do not go back in time, unless it is a rollback. Nothing is uploaded but signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from ocisync.flows import sign
from ocisync.flows.endorse import EndorseRequest, Subject, claims_of, read_subject, sign_missing
from ocisync.flows.publishtags import created_of
from ocisync.flows.trust import TrustSet
from ocisync.model.clock import Clock, format_rfc3339
from ocisync.model.descriptor import CLAIM_SEQUENCE, CLAIM_TAGS, CREATED
from ocisync.model.digest import is_digest
from ocisync.model.errors import NotFound, Refused, UsageError
from ocisync.model.ref import check_tag, is_commit_tag, is_reserved_tag, is_semver_tag
from ocisync.model.values import dataclass
from ocisync.oci.documents import parse_json
from ocisync.oci.store import Store
from ocisync.policy.requirements import unix_seconds


@dataclass(frozen=True, slots=True)
class PromoteRequest:
    """One promotion.

    Attributes:
        reference: tag or digest of the source.
        source_tag: if the reference is a digest, the tag it is judged as; may be empty.
        tags: to be set.
        signers: each signs for the new tags; none leaves the tags unsigned.
        rollback: tags may go back in time, and the sequence of the signature is the present time.
        force_tag: tags that never change may change, and go back in time.
        trust: if set, the source must satisfy it.
    """

    store: Store
    reference: str
    tags: tuple[str, ...]
    clock: Clock
    signers: tuple[sign.AnySigner, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    expires: datetime | None = None
    legacy_signature: bool = False
    rollback: bool = False
    force_tag: bool = False
    trust: TrustSet | None = None
    source_tag: str = ""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What came of it. `previous`: what each tag pointed to before; empty for a new one."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    revision: str
    previous: tuple[tuple[str, str], ...]
    signatures: tuple[sign.Signature, ...]
    unchanged: bool
    notes: tuple[str, ...] = ()

    def as_json(self, location: str) -> dict[str, Any]:
        """The form that scripts read."""
        return {
            "reference": f"{location}@{self.digest}",
            "repository": self.repository,
            "tags": list(self.tags),
            "digest": self.digest,
            "revision": self.revision,
            "previous": dict(self.previous),
            "unchanged": self.unchanged,
            "signatures": sign.describe(self.signatures),
        }


def promote(request: PromoteRequest) -> Promoted:
    """Set tags.

    Raises:
        NotFound: no such source.
        Refused: the source does not satisfy `trust`, or a tag must not move; nothing was written then. Also if a tag
            does not stay where it was set.
        UsageError: tags or claims make no sense.
    """
    tags = _checked(request.tags)
    store, clock = request.store, request.clock
    subject = read_subject(store, request.reference, request.signers, clock, request.trust, request.source_tag)
    _check_known(subject, request)
    before = {tag: _look(store, tag) for tag in tags}
    for tag in tags:
        _check_move(tag, before[tag], subject, request)
        _check_sequence(tag, before[tag][0], subject, request)
    signatures: tuple[sign.Signature, ...] = ()
    if request.signers:
        endorsing = _endorsing(request, subject)
        signatures = sign_missing(
            endorsing, subject, claims_of(subject, store.repository, tags, clock.now(), endorsing)
        )
    moved = [tag for tag in sorted(tags, key=lambda name: not _is_immutable(name)) if _set(tag, subject, request)]
    return Promoted(
        store.repository,
        subject.descriptor.digest,
        tags,
        subject.revision,
        tuple((tag, before[tag][0]) for tag in tags),
        signatures,
        unchanged=not moved and not any(signature.made for signature in signatures),
        notes=_notes(request, subject, tags),
    )


def _checked(tags: tuple[str, ...]) -> tuple[str, ...]:
    if not tags:
        raise UsageError("no tag to set", hint="ocisync tag REFERENCE TAG…")
    for tag in tags:
        check_tag(tag)
        if is_reserved_tag(tag):
            raise UsageError(f"tag {tag} is reserved for signatures", hint="choose another tag")
    return tuple(dict.fromkeys(tags))


def _check_known(subject: Subject, request: PromoteRequest) -> None:
    """Refuse to sign what a tag happens to point to, if nothing proves that it is ours."""
    if not request.signers or request.trust is not None or is_digest(request.reference):
        return
    if any(request.reference in item.claim(CLAIM_TAGS).split() for item in subject.sound):
        return
    raise Refused(
        f"tag {request.reference} leads to {subject.descriptor.digest}, which the signing key has not signed for it:"
        " anybody may have put it there",
        reason="Unsigned",
        hint=f"name whom to trust (--key FILE.pub or --policy FILE), or the digest: @{subject.descriptor.digest}",
    )


def _check_sequence(tag: str, digest: str, subject: Subject, request: PromoteRequest) -> None:
    """Refuse what agents would refuse: after a rollback, the time of the rollback is what must be exceeded."""
    deliberate = request.rollback or request.force_tag
    if not request.signers or deliberate or not digest or digest == subject.descriptor.digest:
        return
    if subject.created is None:
        return  # refused later, with a better reason
    there = read_subject(request.store, digest, request.signers, request.clock, None)
    claimed = (item for item in there.sound if tag in item.claim(CLAIM_TAGS).split())
    marks = [unix_seconds(item.claim(CLAIM_SEQUENCE)) or 0 for item in claimed]
    if max(marks, default=0) > subject.created.timestamp():
        raise Refused(
            f"tag {tag} points to {digest}, which was signed as newer than {subject.descriptor.digest} of"
            f" {format_rfc3339(subject.created)}: agents that follow {tag} would refuse to go on to it",
            reason="OlderSequence",
            hint="sign it as newer than that: --rollback",
        )


def _endorsing(request: PromoteRequest, subject: Subject) -> EndorseRequest:
    return EndorseRequest(
        store=request.store,
        digest=subject.descriptor.digest,
        signers=request.signers,
        clock=request.clock,
        claims=request.claims,
        expires=request.expires,
        legacy_signature=request.legacy_signature,
        rollback=request.rollback,
    )


def _look(store: Store, tag: str) -> tuple[str, datetime | None]:
    """What a tag points to now, and what that says of its time; believed only as a reason to stop."""
    try:
        found = store.manifest(tag)
    except NotFound:
        return "", None
    notes = parse_json(found.raw, tag).get("annotations")
    created = notes.get(CREATED) if isinstance(notes, dict) else None
    return found.descriptor.digest, created_of(created) if isinstance(created, str) else None


def _is_immutable(tag: str) -> bool:
    return is_semver_tag(tag) or is_commit_tag(tag)


def _check_move(tag: str, current: tuple[str, datetime | None], subject: Subject, request: PromoteRequest) -> None:
    digest, created = current
    target = subject.descriptor.digest
    if not digest or digest == target or request.force_tag:
        return
    if _is_immutable(tag):
        raise Refused(
            f"tag {tag} never moves and already has other content: {digest}, not {target}",
            reason="TagImmutable",
            hint="choose another tag, or replace it for everyone with --force-tag",
        )
    if created is not None and subject.created is not None and created > subject.created and not request.rollback:
        raise Refused(
            f"tag {tag} points to {digest} of {format_rfc3339(created)}, which is newer than {target} of"
            f" {format_rfc3339(subject.created)}",
            reason="OlderCommit",
            hint="to go back on purpose, add --rollback: the new signature then counts as newer",
        )


def _set(tag: str, subject: Subject, request: PromoteRequest) -> bool:
    """Set one tag; False if it was there already."""
    target = subject.descriptor.digest
    # Somebody may have moved it while we signed: decide again on what is there now.
    current = _look(request.store, tag)
    if current[0] == target:
        return False
    _check_move(tag, current, subject, request)
    request.store.put_manifest(subject.manifest.raw, subject.descriptor.media_type, tag)
    after = request.store.resolve(tag)
    if after is None or after.digest != target:
        raise Refused(
            f"tag {tag} points to {after.digest if after else 'nothing'} right after it was set to {target}",
            reason="TagMutated",
            hint="somebody else moves it, or the registry does not let it move; try again",
        )
    return True


def _notes(request: PromoteRequest, subject: Subject, tags: tuple[str, ...]) -> tuple[str, ...]:
    if request.signers:
        return ()
    claimed = {tag for item in subject.sound for tag in item.claim(CLAIM_TAGS).split()}
    missing = [tag for tag in tags if tag not in claimed]
    if not missing:
        return ()
    return (f"no signature was made for {' '.join(missing)}: policies that require the tag's claim refuse it",)
