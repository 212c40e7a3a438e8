"""Laws of judgement, over generated policies and evidence."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.flows.trust import load_policies
from ocisync.model.artifact import Verdict
from ocisync.model.evidence import Evidence, RawSignature
from ocisync.policy.evaluate import judge
from ocisync.signing.check import examine
from tests.support.trust import (
    DIGEST,
    NOW,
    OTHER_DIGEST,
    SEQUENCE,
    bundle_of,
    bundle_with,
    claims,
    legacy_of,
    policy,
    signer,
    subject,
)

AUTHORITIES = ("ci", "release", "audit")
SIGNERS = (*AUTHORITIES, "stranger")


@functools.cache
def _pool() -> tuple[Evidence, ...]:
    """Good, nearly good and bad signatures by everyone, examined once."""
    keys = [signer(name).public for name in AUTHORITIES]
    raw: list[RawSignature] = [bundle_with(signer("ci"), b"junk")]
    for name in SIGNERS:
        by = signer(name)
        raw += [
            bundle_of(by),
            bundle_of(by, with_claims=claims(sequence=str(SEQUENCE + 60))),
            bundle_of(by, with_claims=claims(repository="registry.example/shop/other")),
            bundle_of(by, with_claims=claims(tags="")),
            bundle_of(by, OTHER_DIGEST),
            legacy_of(by),
            legacy_of(by, with_claims={}),
        ]
    return tuple(examine(item, keys, DIGEST) for item in raw)


_indices = st.lists(st.integers(0, 28), max_size=8)
_specs = st.fixed_dictionaries(
    {
        "threshold": st.integers(1, 3),
        "formats": st.sampled_from([["Bundle"], ["Legacy"], ["Bundle", "Legacy"]]),
        "tagClaim": st.sampled_from(["Require", "IfPresent", "Ignore"]),
        "repositoryClaim": st.sampled_from([{"mode": "Require"}, {"mode": "IfPresent"}]),
        "rollback": st.sampled_from([{}, {"floor": SEQUENCE + 1}]),
        "mode": st.sampled_from(["Enforce", "Warn"]),
        "deny": st.sampled_from([{}, {"keys": [signer("release").fingerprint]}]),
    }
)
_watermarks = st.sampled_from([0, SEQUENCE, SEQUENCE + 1])


def _verdict(spec: dict[str, Any], by: tuple[str, ...], indices: list[int], watermark: int) -> Verdict:
    trust = load_policies([policy(by=by, **spec)])
    about = subject()
    pool = _pool()
    return judge(trust.select(about.repository), [pool[at] for at in indices], about, NOW, watermark)


@given(spec=_specs, some=_indices, more=_indices, watermark=_watermarks)
@settings(max_examples=300, deadline=None)
def test_more_evidence_never_turns_allowed_into_refused(
    spec: dict[str, Any], some: list[int], more: list[int], watermark: int
) -> None:
    if _verdict(spec, AUTHORITIES, some, watermark).allowed:
        verdict = _verdict(spec, AUTHORITIES, some + more, watermark)
        # Mode Warn lets unsigned artifacts through, and does not hold against a deny list.
        assert verdict.allowed or (verdict.distrusted and spec["mode"] == "Warn")


@given(spec=_specs, some=_indices, watermark=_watermarks, rnd=st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_the_order_of_evidence_does_not_matter(spec: dict[str, Any], some: list[int], watermark: int, rnd: Any) -> None:
    shuffled = list(some)
    rnd.shuffle(shuffled)
    assert _verdict(spec, AUTHORITIES, some, watermark) == _verdict(spec, AUTHORITIES, shuffled, watermark)


@given(spec=_specs, some=_indices, watermark=_watermarks, gone=st.sampled_from(AUTHORITIES))
@settings(max_examples=300, deadline=None)
def test_removing_an_authority_never_widens_a_policy(
    spec: dict[str, Any], some: list[int], watermark: int, gone: str
) -> None:
    rest = tuple(name for name in AUTHORITIES if name != gone)
    enforced = {**spec, "mode": "Enforce"}
    if _verdict(enforced, rest, some, watermark).allowed:
        assert _verdict(enforced, AUTHORITIES, some, watermark).allowed


@given(spec=_specs, some=_indices, watermark=_watermarks)
@settings(max_examples=300, deadline=None)
def test_what_is_allowed_has_enough_signers_and_never_lowers_the_watermark(
    spec: dict[str, Any], some: list[int], watermark: int
) -> None:
    verdict = _verdict({**spec, "mode": "Enforce"}, AUTHORITIES, some, watermark)
    if verdict.allowed:
        assert len(verdict.signers) >= spec["threshold"]
        assert verdict.sequence >= watermark


@given(spec=_specs, some=_indices, watermark=_watermarks)
@settings(deadline=None)
def test_a_denied_digest_is_never_allowed(spec: dict[str, Any], some: list[int], watermark: int) -> None:
    verdict = _verdict({**spec, "deny": {"digests": [DIGEST]}}, AUTHORITIES, some, watermark)
    assert (verdict.allowed, verdict.distrusted) == (False, True)
