"""What is legal in a policy and may still not be what its owner wants.

Every advice names the field, says what it permits, and what the stricter choice is. Broken policies are none of its
business: `rules.problems_of` lists what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import permutations
from urllib.parse import urlsplit

from ocisync.model.evidence import SignatureFormat
from ocisync.model.values import dataclass
from ocisync.policy.keyless import Keyless
from ocisync.policy.rules import Mode, RepositoryClaim, TagClaim, TrustRules
from ocisync.policy.select import pattern_matches

_LONG_GRANT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Advice:
    """One risky setting: the path of its field in the policy, and a sentence."""

    policy: str
    path: str
    message: str
    rule: str


def advice(rules: TrustRules, now: datetime) -> tuple[Advice, ...]:
    """Risky settings of one policy, in the order of its fields."""
    parts = (_scope(rules), _authorities(rules), _claims(rules), _rollback(rules, now), _deny(rules), _mode(rules))
    return tuple(Advice(rules.name, path, message, rule) for part in parts for path, message, rule in part)


def overlaps(policies: Sequence[TrustRules]) -> tuple[Advice, ...]:
    """Policies that switch another one off for a part of its repositories, which owners of the broad one may miss."""
    found = []
    for broad, narrow in permutations(policies, 2):
        if broad.floor:
            continue
        for index, pattern in enumerate(narrow.match):
            wider = next((wide for wide in broad.match if wide != pattern and _covers(wide, pattern)), "")
            if not wider:
                continue
            message = (
                f"policy {narrow.name!r} alone judges this part of {wider!r} of policy {broad.name!r};"
                " only deny lists add up. To have both judge, set floor: true in the broad one"
            )
            found.append(Advice(narrow.name, f"spec.match[{index}].repository", message, "overlap"))
    return tuple(found)


def _covers(wide: str, pattern: str) -> bool:
    """Whether everything that `pattern` matches is matched by `wide`, too."""
    example = f"{pattern[:-1]}x" if pattern.endswith("/*") else pattern
    return wide.endswith("/*") and pattern_matches(wide, example)


_Found = Iterator[tuple[str, str, str]]


def _scope(rules: TrustRules) -> _Found:
    for index, pattern in enumerate(rules.match):
        if "/" not in pattern.removesuffix("/*") and not rules.floor:
            message = f"{pattern!r} is a whole registry: these authorities may sign for every repository in it"
            yield f"spec.match[{index}].repository", message, "whole-registry"


def _authorities(rules: TrustRules) -> _Found:
    for index, authority in enumerate(rules.authorities):
        if authority.keyless is not None:
            yield from _identity(f"spec.authorities[{index}].keyless", authority.keyless)
    usable = [one for one in rules.authorities if not one.fingerprint or one.fingerprint not in rules.deny.keys]
    if len(usable) < rules.threshold:
        message = f"only {len(usable)} authorities are left beside deny.keys: nothing can be allowed"
        yield "spec.threshold", message, "unreachable"
    if SignatureFormat.LEGACY in rules.formats:
        message = "Legacy lets whoever controls the registry choose the older format; list Bundle alone if you can"
        yield "spec.formats", message, "legacy-format"


def _identity(where: str, keyless: Keyless) -> _Found:
    if urlsplit(keyless.issuer).scheme == "http":
        yield (
            f"{where}.issuer",
            f"{keyless.issuer} is asked over http, which anybody on the way may answer",
            "http-issuer",
        )
    workflow, at, ref = keyless.subject_glob.rpartition("@")
    if not at or "//" not in keyless.subject_glob:
        return
    if ref in {"*", "refs/*/*"} or (ref.startswith("refs/heads/") and "*" in ref) or ref.startswith("refs/pull/"):
        message = f"{ref!r}: whoever can push any branch can sign; name the branch, or tags: @refs/tags/v*"
        yield f"{where}.subjectGlob", message, "any-branch"
    if "*" in workflow.rpartition("/")[2]:
        yield f"{where}.subjectGlob", "any workflow file of the repository can sign; name the file", "any-workflow"


def _claims(rules: TrustRules) -> _Found:
    if rules.repository_claim is RepositoryClaim.IF_PRESENT:
        message = "IfPresent: a signature that names no repository counts in every one that this policy matches"
        yield "spec.repositoryClaim.mode", message, "optional-repository"
    if rules.tag_claim is not TagClaim.REQUIRE:
        what = "any signed digest" if rules.tag_claim is TagClaim.IGNORE else "a digest signed for no tag"
        message = f"{rules.tag_claim.value}: {what} may be put under any tag by whoever can write to the registry"
        yield "spec.tagClaim", message, "optional-tag"
    for index, remap in enumerate(rules.remap):
        if "/" not in remap.signed:
            message = f"everything that was signed for a repository of {remap.signed} counts below {remap.here}"
            yield f"spec.repositoryClaim.remap[{index}].signed", message, "wide-remap"


def _rollback(rules: TrustRules, now: datetime) -> _Found:
    for index, grant in enumerate(rules.rollback.allow):
        where = f"spec.rollback.allow[{index}].until"
        if grant.until <= now:
            yield where, "this grant has ended and has no effect any more; remove it", "ended-grant"
        elif grant.until - now > _LONG_GRANT:
            days = (grant.until - now).days
            yield (
                where,
                f"for {days} more days this older digest may replace any newer one; end it sooner",
                "long-grant",
            )


def _deny(rules: TrustRules) -> _Found:
    known = {authority.fingerprint for authority in rules.authorities}
    for index, key in enumerate(rules.deny.keys):
        if key not in known:
            message = "this key is no authority here: without the key itself its signatures are not recognised"
            yield f"spec.deny.keys[{index}]", message, "unknown-denied-key"


def _mode(rules: TrustRules) -> _Found:
    if rules.mode is Mode.WARN:
        yield "spec.mode", "Warn: everything but deny lists is allowed, signed or not", "not-enforced"
