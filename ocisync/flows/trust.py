"""From policy documents or key files to what `flows.verify` judges with: rules, and the keys that they name.

Loading never fails: a policy whose key is missing, unreadable or listed twice becomes a broken policy, which refuses
what it matches. `unusable` says why, for the status of the policy and for `policy check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import SignatureFormat
from ocisync.model.resource import JsonObject
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
from ocisync.signing.keys import PublicKey, load_public

SecretReader = Callable[[str], Mapping[str, bytes] | None]
"""Reads the data of a Secret in the agent's own namespace by name; None if it does not exist."""

KEYS_POLICY = "--key"


@dataclass(frozen=True, slots=True)
class TrustSet:
    """Policies, usable and broken, and every key that they name."""

    policies: tuple[TrustRules | BrokenPolicy, ...]
    keys: tuple[PublicKey, ...]

    def select(self, repository: str) -> Selection:
        """What applies to `repository`."""
        return matching(self.policies, repository)

    def keys_for(self, repository: str) -> tuple[PublicKey, ...]:
        """The keys of the authorities that may sign for `repository`: no others are tried."""
        wanted = {authority.fingerprint for rules in self.select(repository).rules for authority in rules.authorities}
        return tuple(key for key in self.keys if key.fingerprint in wanted)

    @property
    def unusable(self) -> dict[str, str]:
        """Name → problem of every broken policy."""
        return {policy.name: policy.problem for policy in self.policies if isinstance(policy, BrokenPolicy)}


def no_secrets(name: str) -> Mapping[str, bytes] | None:
    """The secret reader for policies from files: there is no cluster to read from."""
    raise InvalidInput(f"secretRef {name!r} can only be read in a cluster", hint="write the key under key.pem")


def load_policies(documents: Sequence[JsonObject], read_secret: SecretReader = no_secrets) -> TrustSet:
    """Parse policies and load the keys of their authorities."""
    policies: list[TrustRules | BrokenPolicy] = []
    keys: dict[str, PublicKey] = {}
    for document in documents:
        try:
            rules = parse_policy(document)
            found = {authority.name: _authority_key(authority, read_secret) for authority in rules.authorities}
            rules = with_fingerprints(rules, {name: key.fingerprint for name, key in found.items()})
        except InvalidInput as error:
            policies.append(BrokenPolicy(policy_name(document), readable_patterns(document), error.message))
            continue
        policies.append(rules)
        keys.update({key.fingerprint: key for key in found.values()})
    return TrustSet(tuple(policies), tuple(keys.values()))


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
