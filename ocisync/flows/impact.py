"""What a change of trust would do to what runs: the digest of each sync, judged as it is and as it would be.

    running_of(sync object) / Running(…)      what runs where
    gather(store, digest) → Kept              manifest and evidence, once; may be saved and judged again offline
    without(trust, …), denying(trust, …)      the trust as it would be
    assess(running, kept, now_trust, then)    both verdicts

Nothing is written and no rollback mark is known here: a running digest is the one that was accepted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from ocisync.flows.localcopy import evidence_bytes, evidence_of
from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, collect_within_limits, reverify
from ocisync.model.artifact import Verdict
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import InvalidInput, NotFound
from ocisync.model.evidence import EvidenceSet
from ocisync.model.resource import JsonObject
from ocisync.model.spec import SelectorKind
from ocisync.model.values import dataclass
from ocisync.oci.store import Store
from ocisync.policy.rules import TrustRules

_SAVED_VERSION = 1


class Change(StrEnum):
    """What the change of trust means for one digest."""

    KEEPS = "keeps trust"
    LOSES = "LOSES TRUST"
    GAINS = "gains trust"
    REFUSED = "refused before and after"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Running:
    """A digest that runs, or would be taken. `name` is the sync's `namespace/name`, or the reference."""

    name: str
    repository: str
    digest: str
    kind: SelectorKind = SelectorKind.DIGEST
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A manifest and the evidence that was found for it. Nothing of it is trusted: it is judged from these bytes."""

    repository: str
    media_type: str
    manifest: bytes
    evidence: EvidenceSet

    @property
    def digest(self) -> str:
        """The digest of the manifest's bytes."""
        return sha256_digest(self.manifest)


@dataclass(frozen=True, slots=True)
class Impact:
    """Both verdicts about one digest; None if there is no evidence to judge, and `problem` says why."""

    running: Running
    change: Change
    before: Verdict | None = None
    after: Verdict | None = None
    problem: str = ""


def running_of(sync: JsonObject) -> Running | None:
    """What a sync runs, by its status; None if it has applied nothing yet.

    Raises:
        InvalidInput: not a sync.
    """
    metadata, spec, status = (_mapping(sync.get(name)) for name in ("metadata", "spec", "status"))
    source, applied = _mapping(spec.get("source")), _mapping(status.get("applied"))
    name = f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"
    repository = source.get("repository")
    kinds = [kind for kind in SelectorKind if source.get(kind.value)]
    if not isinstance(repository, str) or len(kinds) != 1:
        raise InvalidInput(f"sync {name}: no spec.source with repository and one of tag, semver, digest")
    kind, selector = kinds[0], str(source[kinds[0].value])
    digest = str(applied.get("digest") or (selector if kind is SelectorKind.DIGEST else ""))
    if not is_digest(digest):
        return None
    tags = {SelectorKind.TAG: selector, SelectorKind.SEMVER: str(applied.get("tag") or "")}
    return Running(name, repository.removeprefix("oci://"), digest, kind, tags.get(kind, ""))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def gather(store: Store, digest: str) -> Kept:
    """Read a manifest and its evidence.

    Raises:
        NotFound, Unavailable, AccessDenied, Refused: as the store does.
    """
    manifest = store.manifest(digest)
    evidence = collect_within_limits(store, digest)
    return Kept(store.repository, manifest.descriptor.media_type, manifest.raw, evidence)


def without(trust: TrustSet, keys: Collection[str] = (), authorities: Collection[str] = ()) -> TrustSet:
    """The trust without some keys (fingerprints) or authorities (names), whichever policy they are in.

    Raises:
        NotFound: one of them is in no policy, so nothing was asked.
    """
    usable = [rules for rules in trust.policies if isinstance(rules, TrustRules)]
    known = {one.fingerprint for rules in usable for one in rules.authorities}
    names = {one.name for rules in usable for one in rules.authorities}
    for wanted, what, found in ((keys, "key", known), (authorities, "authority", names)):
        missing = sorted(set(wanted) - found)
        if missing:
            raise NotFound(f"no usable policy has the {what} {missing[0]!r}", hint=f"there are: {_some(found)}")
    return replace(trust, policies=tuple(
        replace(rules, authorities=tuple(
            one for one in rules.authorities if one.fingerprint not in keys and one.name not in authorities))
        if isinstance(rules, TrustRules) else rules
        for rules in trust.policies
    ))  # fmt: skip


def denying(trust: TrustSet, keys: Collection[str]) -> TrustSet:
    """The trust with keys (fingerprints) on the deny list of every usable policy."""
    return replace(trust, policies=tuple(
        replace(rules, deny=replace(rules.deny, keys=tuple(sorted({*rules.deny.keys, *keys}))))
        if isinstance(rules, TrustRules) else rules
        for rules in trust.policies
    ))  # fmt: skip


def unreachable(trust: TrustSet) -> tuple[str, ...]:
    """Policies that nothing can satisfy any more: fewer authorities than they ask for."""
    usable = [rules for rules in trust.policies if isinstance(rules, TrustRules)]
    return tuple(
        rules.name
        for rules in usable
        if sum(one.fingerprint not in rules.deny.keys for one in rules.authorities) < rules.threshold
    )


def assess(running: Running, kept: Kept | None, before: TrustSet, after: TrustSet, now: datetime) -> Impact:
    """Judge one digest under both. Without evidence only a missing or broken policy can be told."""
    request = Request(running.repository, running.kind, running.tag, running.digest)
    if kept is None:
        if any(trust.select(running.repository).matched for trust in (before, after)):
            return Impact(running, Change.UNKNOWN, problem="no evidence")
        kept = Kept(running.repository, "", b"", EvidenceSet(()))
    first, second = (
        reverify(kept.manifest, kept.media_type, kept.evidence, trust, request, now=now).verdict
        for trust in (before, after)
    )
    changes = {
        (True, True): Change.KEEPS,
        (True, False): Change.LOSES,
        (False, True): Change.GAINS,
        (False, False): Change.REFUSED,
    }
    return Impact(running, changes[first.allowed, second.allowed], first, second)


def save(kept: Iterable[Kept]) -> bytes:
    """Evidence as a file, to ask again without the registry."""
    artifacts = [
        {
            "repository": one.repository,
            "digest": one.digest,
            "mediaType": one.media_type,
            "manifest": base64.b64encode(one.manifest).decode(),
            "evidence": json.loads(evidence_bytes(one.evidence)),
        }
        for one in sorted(kept, key=lambda one: (one.repository, one.digest))
    ]
    return (json.dumps({"version": _SAVED_VERSION, "artifacts": artifacts}, indent=1, sort_keys=True) + "\n").encode()


def load(data: bytes, name: str) -> tuple[Kept, ...]:
    """Evidence from a file that `save` made. It is judged like any other; what a file says of itself is no evidence.

    Raises:
        InvalidInput: it is none.
    """
    try:
        document = json.loads(data)
        if document["version"] != _SAVED_VERSION:
            raise InvalidInput(f"{name}: saved by another version of ocisync")
        return tuple(
            Kept(
                str(one["repository"]),
                str(one["mediaType"]),
                base64.b64decode(one["manifest"], validate=True),
                evidence_of(json.dumps(one["evidence"]).encode()),
            )
            for one in document["artifacts"]
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput(
            f"{name} is no saved evidence", hint="ocisync policy impact … --save-evidence FILE"
        ) from None


def as_json(found: Sequence[Impact], unreachable_policies: Sequence[str]) -> JsonObject:
    """The answer as plain JSON values; field names are an API."""
    return {
        "loses": sum(one.change is Change.LOSES for one in found),
        "unknown": sum(one.change is Change.UNKNOWN for one in found),
        "unreachablePolicies": list(unreachable_policies),
        "artifacts": [
            {
                "name": one.running.name,
                "repository": one.running.repository,
                "tag": one.running.tag,
                "digest": one.running.digest,
                "change": one.change.name.capitalize(),
                "before": _verdict(one.before),
                "after": _verdict(one.after),
                "problem": one.problem,
            }
            for one in found
        ],
    }


def _verdict(verdict: Verdict | None) -> JsonObject | None:
    if verdict is None:
        return None
    return {
        "allowed": verdict.allowed,
        "reason": verdict.reason.value,
        "policy": verdict.policy,
        "signers": list(verdict.signers),
        "distrusted": verdict.distrusted,
        "message": verdict.message,
    }


def _some(names: Iterable[str]) -> str:
    found = sorted(name for name in names if name)
    return ", ".join(found[:8]) + (" …" if len(found) > 8 else "") if found else "none"
