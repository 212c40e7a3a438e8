"""When time alone may change a verdict: signatures expire and age, and grants of a policy end.

next_change_s(selection, evidence, digest, now)   →   seconds until one is worth judging again; None: never
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from ocisync.model.descriptor import CLAIM_EXPIRES, CLAIM_SIGNED
from ocisync.model.evidence import Evidence
from ocisync.policy.requirements import unix_seconds
from ocisync.policy.select import Selection


def next_change_s(selection: Selection, evidence: Sequence[Evidence], digest: str, now: datetime) -> float | None:
    """Seconds from `now` until a signature, an attestation or a grant for `digest` ends next; None if none will."""
    present = now.timestamp()
    ahead = [moment - present for moment in _moments(selection, evidence, digest) if moment > present]
    return min(ahead, default=None)


def _moments(selection: Selection, evidence: Sequence[Evidence], digest: str) -> Iterator[float]:
    limits = [rules.rollback.max_age_s for rules in selection.rules if rules.rollback.max_age_s]
    for item in evidence:
        if not item.signer or (item.problem and item.predicate is None):  # attestations end too
            continue
        expires = unix_seconds(item.claim(CLAIM_EXPIRES))
        if expires is not None:
            yield float(expires)
        signed = unix_seconds(item.claim(CLAIM_SIGNED))
        if signed is not None:
            yield from (signed + limit for limit in limits)
    for rules in selection.rules:
        yield from (grant.until.timestamp() for grant in rules.rollback.allow if grant.digest == digest)
