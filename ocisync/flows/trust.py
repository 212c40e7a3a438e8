"""From policy documents or key files to what `flows.verify` judges with: rules, and the keys and roots that they name.

Loading never fails: a policy whose key or root is missing, unreadable or listed twice becomes a broken policy, which
refuses what it matches. `unusable` says why, for the status of the policy and for `policy check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import SignatureFormat
from ocisync.model.resource import JsonObject
from ocisync.model.values import dataclass
from ocisync.policy.keyless import Keyless
from ocisync.policy.predicates import AttestationRule, check_predicate_type
from ocisync.policy.rules import (
    Authority,
    BrokenPolicy,
    RepositoryClaim,
    TagClaim,
    TrustRules,
    canonical_repository,
    parse_policy,
    policy_name,
    readable_patterns,
    with_fingerprints,
)
from ocisync.policy.select import Selection, matching
from ocisync.signing.keyless import require_library
from ocisync.signing.keys import PublicKey, load_public
from ocisync.signing.roots import TrustedRoot, load_root

SecretReader = Callable[[str], Mapping[str, bytes] | None]
"""Reads the data of a Secret in the agent's own namespace by name; None if it does not exist."""

RootReader = Callable[[str], Mapping[str, bytes] | None]
"""Reads the data of the Secret or ConfigMap in the agent's own namespace that holds a trusted root, by name.

None if neither exists. Raises InvalidInput if both do: whoever can write one must not be able to shadow the other."""

KEYS_POLICY = "--key"
IDENTITY_POLICY = "--certificate-identity"


@dataclass(frozen=True, slots=True)
class TrustSet:
    """Policies, usable and broken, and every key and trusted root that they name."""

    policies: tuple[TrustRules | BrokenPolicy, ...]
    keys: tuple[PublicKey, ...]
    roots: tuple[TrustedRoot, ...] = ()

    def select(self, repository: str) -> Selection:
        """What applies to `repository`."""
        return matching(self.policies, repository)

    def keys_for(self, repository: str) -> tuple[PublicKey, ...]:
        """The keys of the authorities that may sign for `repository`: no others are tried."""
        # A keyless authority has no fingerprint, and no key has an empty one.
        wanted = {authority.fingerprint for rules in self.select(repository).rules for authority in rules.authorities}
        return tuple(key for key in self.keys if key.fingerprint in wanted)

    def roots_for(self, repository: str) -> tuple[TrustedRoot, ...]:
        """The trusted roots of the keyless authorities that may sign for `repository`."""
        wanted = {
            authority.keyless.root
            for rules in self.select(repository).rules
            for authority in rules.authorities
            if authority.keyless is not None
        }
        return tuple(root for root in self.roots if root.fingerprint in wanted)

    @property
    def unusable(self) -> dict[str, str]:
        """Name → problem of every broken policy."""
        return {policy.name: policy.problem for policy in self.policies if isinstance(policy, BrokenPolicy)}


def no_secrets(name: str) -> Mapping[str, bytes] | None:
    """The secret reader for policies from files: there is no cluster to read from."""
    raise InvalidInput(f"secretRef {name!r} can only be read in a cluster", hint="write the key under key.pem")


def no_roots(name: str) -> Mapping[str, bytes] | None:
    """The root reader for policies from files."""
    raise InvalidInput(f"trustedRootRef {name!r} can only be read in a cluster; here, add --trusted-root FILE")


def load_policies(
    documents: Sequence[JsonObject], read_secret: SecretReader = no_secrets, read_root: RootReader = no_roots
) -> TrustSet:
    """Parse policies and load the keys and trusted roots of their authorities."""
    policies: list[TrustRules | BrokenPolicy] = []
    keys: dict[str, PublicKey] = {}
    roots: dict[str, TrustedRoot] = {}
    for document in documents:
        try:
            rules = parse_policy(document)
            found = {name: _load(authority, read_secret, read_root) for name, authority in _by_name(rules).items()}
            rules = with_fingerprints(rules, {name: loaded.fingerprint for name, loaded in found.items()})
        except InvalidInput as error:
            policies.append(BrokenPolicy(policy_name(document), readable_patterns(document), error.message))
            continue
        policies.append(rules)
        keys.update({item.fingerprint: item for item in found.values() if isinstance(item, PublicKey)})
        roots.update({item.fingerprint: item for item in found.values() if isinstance(item, TrustedRoot)})
    return TrustSet(tuple(policies), tuple(keys.values()), tuple(roots.values()))


def trust_keys(keys: Sequence[PublicKey], repository: str) -> TrustSet:
    """The trust of `verify --key`: any one of the keys, in either format; claims are checked where they were signed."""
    unique = {key.fingerprint: key for key in keys}
    rules = TrustRules(
        name=KEYS_POLICY,
        match=(canonical_repository(repository),),
        authorities=tuple(Authority(fingerprint, fingerprint=fingerprint) for fingerprint in unique),
        threshold=1,
        formats=tuple(SignatureFormat),
        repository_claim=RepositoryClaim.IF_PRESENT,
        tag_claim=TagClaim.IF_PRESENT,
    )
    return TrustSet((rules,), tuple(unique.values()))


def trust_identity(identity: Keyless, root: TrustedRoot, repository: str) -> TrustSet:
    """The trust of `verify --certificate-identity`: a keyless signature by one identity under one trusted root."""
    require_library()
    rules = TrustRules(
        name=IDENTITY_POLICY,
        match=(canonical_repository(repository),),
        authorities=(
            Authority(identity.subject or identity.subject_glob, keyless=replace(identity, root=root.fingerprint)),
        ),
        threshold=1,
        repository_claim=RepositoryClaim.IF_PRESENT,
        tag_claim=TagClaim.IF_PRESENT,
    )
    return TrustSet((rules,), (), (root,))


def with_attestations(trust: TrustSet, repository: str, predicate_types: Sequence[str]) -> TrustSet:
    """The same trust, asking of `repository` for an attestation of each type too, by any of the authorities.

    What no policy is usable for stays refused.

    Raises:
        InvalidInput: no predicate type.
    """
    winner = trust.select(repository).policy
    if winner is None or not predicate_types:
        return trust
    names = tuple(authority.name for authority in winner.authorities)
    rules = tuple(
        AttestationRule(check_predicate_type(text, "predicate type"), names) for text in dict.fromkeys(predicate_types)
    )
    asking = replace(winner, attestations=winner.attestations + rules)
    return replace(trust, policies=tuple(asking if item is winner else item for item in trust.policies))


def _by_name(rules: TrustRules) -> dict[str, Authority]:
    return {authority.name: authority for authority in rules.authorities}


def _load(authority: Authority, read_secret: SecretReader, read_root: RootReader) -> PublicKey | TrustedRoot:
    if authority.keyless is not None:
        return _authority_root(authority.name, authority.keyless, read_root)
    return _authority_key(authority, read_secret)


def _authority_root(name: str, keyless: Keyless, read_root: RootReader) -> TrustedRoot:
    require_library()
    where = f"authority {name!r}, trusted root {keyless.root_ref!r}"
    data = read_root(keyless.root_ref)
    if data is None:
        raise InvalidInput(f"{where}: neither a Secret nor a ConfigMap of the agent's namespace")
    names = sorted(name for name in data if name.endswith(".json"))
    if len(names) != 1:
        raise InvalidInput(f"{where}: it has {len(names)} entries named *.json, expected one")
    return load_root(data[names[0]], name=where)


def _authority_key(authority: Authority, read_secret: SecretReader) -> PublicKey:
    where = f"authority {authority.name!r}"
    if authority.pem:
        return load_public(authority.pem, name=where)
    data = read_secret(authority.secret)
    if data is None:
        raise InvalidInput(f"{where}: Secret {authority.secret!r} does not exist in the agent's namespace")
    # `cosign generate-key-pair k8s://…` writes cosign.pub beside the private key.
    names = sorted(name for name in data if name.endswith(".pub"))
    if len(names) != 1:
        raise InvalidInput(f"{where}: Secret {authority.secret!r} has {len(names)} entries named *.pub, expected one")
    return load_public(data[names[0]], name=f"{where}, Secret {authority.secret!r}")
