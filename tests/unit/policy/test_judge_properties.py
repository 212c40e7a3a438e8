"""Laws of judgement, over generated policies and evidence."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.flows.trust import load_policies
from ocisync.model.artifact import Verdict
from ocisync.model.descriptor import SIGN_PREDICATE
from ocisync.model.evidence import Evidence, Identity, RawSignature, RootProof, SignatureFormat
from ocisync.policy.evaluate import judge
from ocisync.policy.rules import BrokenPolicy, TrustRules, parse_policy, with_fingerprints
from ocisync.policy.select import matching
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


# Keys, identities, attestations and several policies together -------------------------------------------------------

PROVENANCE = "https://slsa.dev/provenance/v1"
ROOT = "sha256:" + "5" * 64
ISSUER = "https://accounts.example"
EVERYONE = ("ci", "release", "dev", "ops")  # two keys, two identities
_tags = st.sampled_from(["production", "staging", "production staging", ""])
_sequences = st.sampled_from([0, SEQUENCE - 60, SEQUENCE, SEQUENCE + 60, 99_999_999_999])
_repositories = st.sampled_from(["registry.example/shop/config", "registry.example/shop/other", ""])


def _signed(by: str, with_claims: Mapping[str, str], *, digest: str = DIGEST, predicate: Any = None) -> Evidence:
    """A sound signature or attestation by one of everyone, or by a stranger, as `examine` returns it."""
    identity = None
    if by in ("dev", "ops", "mallory"):
        identity = Identity(ISSUER, f"{by}@example.com", (), (RootProof(ROOT, timestamped=True),))
    signer_name = identity.signer if identity else signer(by).fingerprint
    kind = PROVENANCE if predicate is not None else SIGN_PREDICATE
    problem = "" if digest == DIGEST else f"it signs {digest}, not {DIGEST}"
    if predicate is not None:
        problem = f"an attestation ({PROVENANCE}), not a signature"
    return Evidence(
        f"{by} {sorted(with_claims.items())} {digest} {predicate}", SignatureFormat.BUNDLE, signer_name, digest, kind,
        tuple(sorted(with_claims.items())), problem=problem, identity=identity, certified=identity is not None,
        predicate=predicate if digest == DIGEST else None,
    )  # fmt: skip


_claims = st.builds(
    lambda tags, sequence, repository: claims(
        tags=tags, sequence=str(sequence) if sequence else "", repository=repository
    ),
    _tags,
    _sequences,
    _repositories,
)
_anything = st.builds(
    _signed,
    st.sampled_from([*EVERYONE, "stranger", "mallory"]),
    _claims,
    digest=st.sampled_from([DIGEST, DIGEST, OTHER_DIGEST]),
    predicate=st.sampled_from([None, None, {"buildType": "good"}, {"buildType": "bad"}]),
)


def _authority(name: str) -> dict[str, Any]:
    if name in ("ci", "release"):
        return {"name": name, "key": {"pem": signer(name).public.pem}}
    rule = {"issuer": ISSUER, "subject": f"{name}@example.com", "trustedRootRef": {"name": "root"}}
    return {"name": name, "keyless": rule}


@functools.cache
def _fingerprint(name: str) -> str:
    return signer(name).fingerprint if name in ("ci", "release") else ROOT


def _rules(name: str, by: Sequence[str], **spec: Any) -> TrustRules:
    rules = parse_policy(policy(name, authorities=[_authority(one) for one in by], **spec))
    return with_fingerprints(rules, {one: _fingerprint(one) for one in by})


_some_authorities = st.lists(st.sampled_from(EVERYONE), min_size=1, max_size=4, unique=True)


_PATTERNS = ("registry.example/shop/config", "registry.example/shop/*", "registry.example/*", "other.example/*")


@st.composite
def _policies(draw: st.DrawFn) -> tuple[TrustRules | BrokenPolicy, ...]:
    """A winner, sometimes a broad one that loses or a floor, sometimes broken or the same pattern twice."""
    found: list[TrustRules | BrokenPolicy] = []
    for at, pattern in enumerate(draw(st.lists(st.sampled_from(_PATTERNS), min_size=1, max_size=3))):
        by = draw(_some_authorities)
        spec: dict[str, Any] = {
            "match": [{"repository": pattern}],
            "threshold": draw(st.integers(1, len(by))),
            "tagClaim": draw(st.sampled_from(["Require", "IfPresent"])),
            "floor": draw(st.booleans()),
            "deny": draw(st.sampled_from([{}, {}, {}, {"keys": [signer("release").fingerprint]}])),
        }
        if draw(st.booleans()):
            where = draw(st.sampled_from([[], [{"path": "/buildType", "equals": "good"}]]))
            spec["attestations"] = [{"predicateType": PROVENANCE, "authorities": [by[0]], "where": where}]
        found.append(_rules(f"p{at}", by, **spec))
    if draw(st.integers(0, 9)) == 0:
        found.append(BrokenPolicy("broken", ("registry.example/*",), "typo"))
    return tuple(found)


def _judged(policies: Sequence[TrustRules | BrokenPolicy], found: Sequence[Evidence], watermark: int = 0) -> Verdict:
    about = subject()
    return judge(matching(policies, about.repository), found, about, NOW, watermark)


@given(policies=_policies(), some=st.lists(_anything, max_size=6), more=st.lists(_anything, max_size=4))
def test_more_evidence_of_any_kind_never_refuses(
    policies: tuple[TrustRules | BrokenPolicy, ...], some: list[Evidence], more: list[Evidence]
) -> None:
    before = _judged(policies, some)
    if before.allowed:
        after = _judged(policies, [*some, *more])
        assert after.allowed
        assert after.sequence >= before.sequence


@given(policies=_policies(), some=st.lists(_anything, max_size=6), data=st.data())
def test_the_order_of_policies_does_not_matter(
    policies: tuple[TrustRules | BrokenPolicy, ...], some: list[Evidence], data: st.DataObject
) -> None:
    shuffled, moved = data.draw(st.permutations(policies)), data.draw(st.permutations(some))
    assert _judged(shuffled, moved) == _judged(policies, some)


def _narrowed(rules: TrustRules, gone: str) -> TrustRules | None:
    """The policy without an authority, if there still can be one."""
    rest = tuple(one for one in rules.authorities if one.name != gone)
    named = [rule for rule in rules.attestations if gone not in rule.authorities]
    if len(rest) < rules.threshold or len(named) != len(rules.attestations):
        return None
    return TrustRules(**{**{name: getattr(rules, name) for name in rules.__slots__}, "authorities": rest})


@given(policies=_policies(), some=st.lists(_anything, max_size=6), gone=st.sampled_from(EVERYONE))
def test_removing_an_authority_of_any_policy_never_widens(
    policies: tuple[TrustRules | BrokenPolicy, ...], some: list[Evidence], gone: str
) -> None:
    less = [_narrowed(one, gone) if isinstance(one, TrustRules) else one for one in policies]
    known = [one for one in less if one is not None]
    if len(known) == len(policies) and _judged(known, some).allowed:
        assert _judged(policies, some).allowed


@given(
    by=st.lists(st.sampled_from(EVERYONE), min_size=2, max_size=4, unique=True),
    data=st.data(),
    forged=st.lists(st.tuples(st.integers(0, 2), _claims), max_size=8),
)
def test_a_stolen_subset_can_neither_roll_back_nor_promote(
    by: list[str], data: st.DataObject, forged: list[tuple[int, dict[str, str]]]
) -> None:
    """Everybody signed honestly; fewer than `threshold` signers are stolen and may sign anything, also what is old."""
    threshold = data.draw(st.integers(2, len(by)))
    stolen = data.draw(st.permutations(by))[: threshold - 1]
    policies = [_rules("shop", by, threshold=threshold)]
    theirs = [_signed(stolen[at % len(stolen)], made) for at, made in forged]
    # An older digest, honestly signed for this very tag when it was new.
    old = [_signed(one, claims(sequence=str(SEQUENCE - 60))) for one in by]
    assert not _judged(policies, [*old, *theirs], SEQUENCE).allowed
    # A digest that was honestly signed for another tag, now put under this one.
    elsewhere = [_signed(one, claims(tags="staging")) for one in by]
    assert not _judged(policies, [*elsewhere, *theirs]).allowed
    # Or for another repository.
    copied = [_signed(one, claims(repository="registry.example/shop/other")) for one in by]
    assert not _judged(policies, [*copied, *theirs]).allowed
    # And what is honest stays as it is: nobody is locked out by a mark from the future.
    honest = _judged(policies, [*(_signed(one, claims()) for one in by), *theirs], SEQUENCE)
    assert honest.allowed
    assert honest.sequence == SEQUENCE
