"""Which policies are about a repository.

Of the matching policies the longest pattern wins; an exact name is longer than any prefix. Matching policies with
`floor: true` are judged as well. Deny lists of every matching policy add up, so a narrow policy cannot switch off a
broad one's. A broken policy that matches, or the same pattern in two policies, refuses: it never yields to a
broader one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ocisync.model.values import dataclass
from ocisync.policy.rules import NO_DENY, BrokenPolicy, Deny, TrustRules, canonical_repository


@dataclass(frozen=True, slots=True)
class Selection:
    """What applies to one repository.

    Attributes:
        policy: the winner; None if nothing matches, or if `problem` says why nothing may be allowed.
        floors: further policies that must allow too.
        deny: deny lists of every valid matching policy.
        problem: why the matching policies cannot be used; empty if they can.
    """

    policy: TrustRules | None = None
    floors: tuple[TrustRules, ...] = ()
    deny: Deny = NO_DENY
    problem: str = ""

    @property
    def matched(self) -> bool:
        """Whether a usable policy is in force. Without one, nobody may be asked about the repository."""
        return self.policy is not None

    @property
    def rules(self) -> tuple[TrustRules, ...]:
        """All policies that must allow, the winner first."""
        return (self.policy, *self.floors) if self.policy else ()


def matching(policies: Sequence[TrustRules | BrokenPolicy], repository: str) -> Selection:
    """Choose the policies for `repository` (`host/path`). Their order does not matter."""
    name = canonical_repository(repository)
    broken = sorted(
        (policy for policy in policies if isinstance(policy, BrokenPolicy) and _broken_matches(policy, name)),
        key=lambda policy: policy.name,
    )
    found: list[tuple[tuple[int, bool], str, TrustRules]] = []
    for policy in policies:
        if isinstance(policy, TrustRules):
            hits = [pattern for pattern in policy.match if pattern_matches(pattern, name)]
            if hits:
                best = max(hits, key=_length)
                found.append((_length(best), policy.name, policy))
    # Longest first; names only make the order of equals stable for messages.
    found.sort(key=lambda entry: (tuple(-int(part) for part in entry[0]), entry[1]))
    rules = [policy for _, _, policy in found]
    deny = _union(rules)
    problem = _broken_problem(broken) or _duplicate_problem(rules, name)
    if problem or not rules:
        return Selection(deny=deny, problem=problem)
    winner, *others = rules
    return Selection(winner, tuple(policy for policy in others if policy.floor), deny)


def pattern_matches(pattern: str, repository: str) -> bool:
    """Exact, or `prefix/*` for everything below `prefix` at any depth, never `prefix` itself."""
    if pattern.endswith("/*"):
        return repository.startswith(pattern[:-1]) and len(repository) > len(pattern) - 1
    return pattern == repository


def _length(pattern: str) -> tuple[int, bool]:
    # All prefixes that match one name contain each other: counting segments orders them.
    return pattern.removesuffix("/*").count("/"), not pattern.endswith("/*")


def _broken_matches(policy: BrokenPolicy, name: str) -> bool:
    return not policy.match or any(pattern_matches(pattern, name) for pattern in policy.match)


def _broken_problem(broken: Sequence[BrokenPolicy]) -> str:
    return "; ".join(f"policy {policy.name!r} is invalid: {policy.problem}" for policy in broken)


def _duplicate_problem(rules: Sequence[TrustRules], name: str) -> str:
    owner: dict[str, str] = {}
    for policy in rules:
        for pattern in policy.match:
            if not pattern_matches(pattern, name):
                continue
            if pattern in owner:
                first, second = sorted((owner[pattern], policy.name))
                return f"policies {first!r} and {second!r} are both invalid: both match {pattern!r}"
            owner[pattern] = policy.name
    return ""


def _union(rules: Sequence[TrustRules]) -> Deny:
    return Deny(
        digests=tuple(sorted({item for policy in rules for item in policy.deny.digests})),
        keys=tuple(sorted({item for policy in rules for item in policy.deny.keys})),
        revisions=tuple(sorted({item for policy in rules for item in policy.deny.revisions})),
    )
