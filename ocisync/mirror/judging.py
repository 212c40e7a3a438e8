"""Judge what was selected, at its source and before anything is written.

Every selected artifact must satisfy the named keys or policies, as a cluster would judge it there. Images are judged
where a policy matches their repository; that nobody says anything about other people's images is the usual case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ocisync.flows.trust import TrustSet
from ocisync.flows.verify import Request, VerificationRefused, examine_reference
from ocisync.kit.pool import map_bounded
from ocisync.mirror.closure import Closure, Role, Root
from ocisync.mirror.stores import Stores
from ocisync.model.artifact import Verdict
from ocisync.oci.store import Store

TrustFor = Callable[[str], TrustSet]


@dataclass(frozen=True, slots=True)
class Judged:
    """One root and its verdict."""

    root: Root
    verdict: Verdict


def judge(
    closure: Closure, stores: Stores, trust_for: TrustFor, *, now: datetime, workers: int = 4
) -> tuple[Judged, ...]:
    """Judge every selected artifact, and the images that a policy matches. A refusal is a result here."""
    roots = [root for root in closure.roots if root.role is Role.ARTIFACT or _is_matched(root, stores, trust_for)]
    return tuple(map_bounded(lambda root: _judge(root, stores, trust_for, now), roots, workers=workers))


def _is_matched(root: Root, stores: Stores, trust_for: TrustFor) -> bool:
    repository = stores.at(root.selected.place).repository
    return trust_for(repository).select(repository).matched


def _judge(root: Root, stores: Stores, trust_for: TrustFor, now: datetime) -> Judged:
    selected = root.selected
    store: Store = stores.at(selected.place)
    request = Request(store.repository, selected.kind, selected.tag, selected.digest)
    return Judged(root, examine_reference(store, trust_for(store.repository), request, now=now).verdict)


def require(judged: Sequence[Judged]) -> None:
    """Refuse everything if one thing is refused.

    Raises:
        VerificationRefused: naming the first refused artifact and why, and how many others there are.
    """
    refused = [one for one in judged if not one.verdict.allowed]
    if not refused:
        return
    first = refused[0]
    more = f" ({len(refused)} of {len(judged)} are refused)" if len(judged) > 1 else ""
    message = f"{first.root.selected} is refused: {first.verdict.message}{more}; nothing was written"
    raise VerificationRefused(message, first.verdict)
