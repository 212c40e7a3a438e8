"""`TrustPolicy` documents as frozen rules.

The same document is a cluster object and a file. Parsing refuses what it does not know at every level: an ignored rule
would be a weaker policy than its author wrote.

    match:           [{repository: exact name, or prefix/* on whole path segments}]
    authorities:     [{name, key: {pem: …} | {secretRef: {name}}} | {name, keyless: …}]   see `policy.keyless`
    threshold:       how many different authorities must have signed; no default
    formats:         [Bundle]                     repositoryClaim: {mode: Require, remap: []}
    tagClaim:        Require                      annotations:     {}
    rollback:        {monotonic: Sequence, floor: 0, allow: [], maxAge: unset}
    requireTimestamp, requireTransparencyLog: false   (keyless signatures alone can satisfy them)
    attestations:    [{predicateType, authorities, where}]   see `policy.predicates`
    deny:            {digests, keys, revisions}   floor: false, onRevoked: Correct, mode: Enforce
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from ocisync.model.clock import parse_rfc3339
from ocisync.model.digest import is_digest
from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.evidence import SignatureFormat
from ocisync.model.ref import parse_reference
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_VERSION, POLICY_KIND, parse_duration
from ocisync.model.values import dataclass
from ocisync.policy.fields import Fields
from ocisync.policy.keyless import Keyless, parse_keyless
from ocisync.policy.predicates import AttestationRule, parse_attestations

_MATCHES_COUNT = 100
_AUTHORITIES_COUNT = 32
_LIST_COUNT = 1_000
_REMAP_FIELDS = ("signed", "here")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_SPEC_FIELDS = (
    "match", "floor", "formats", "authorities", "threshold", "repositoryClaim", "tagClaim", "annotations",
    "attestations", "rollback", "requireTimestamp", "requireTransparencyLog", "deny", "onRevoked", "mode",
)  # fmt: skip


class RepositoryClaim(StrEnum):
    """Whether a signature must name the repository."""

    REQUIRE = "Require"
    IF_PRESENT = "IfPresent"


class TagClaim(StrEnum):
    """Whether a signature must name the tag."""

    REQUIRE = "Require"
    IF_PRESENT = "IfPresent"
    IGNORE = "Ignore"


class Monotonic(StrEnum):
    """What must never go down."""

    SEQUENCE = "Sequence"


class OnRevoked(StrEnum):
    """What happens to the running digest when its evidence is no longer sufficient."""

    CORRECT = "Correct"
    SUSPEND = "Suspend"


class Mode(StrEnum):
    """Warn allows what would be refused, and says so; never for deny lists, never under a floor."""

    ENFORCE = "Enforce"
    WARN = "Warn"


@dataclass(frozen=True, slots=True)
class Authority:
    """Someone who may sign.

    Exactly one of `pem` and `secret` says where the key is, and `fingerprint` is set once it was read; or `keyless`
    says whose identity it is.
    """

    name: str
    pem: str = ""
    secret: str = ""
    fingerprint: str = ""
    keyless: Keyless | None = None


@dataclass(frozen=True, slots=True)
class Remap:
    """Artifacts found under `here` may claim the name under `signed`: mirrors. Both on whole path segments."""

    signed: str
    here: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """A digest that may be older than the watermark until a moment (aware UTC)."""

    digest: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Rollback:
    """Freshness rules. `floor` is the lowest sequence; `max_age_s` is 0 when age does not matter."""

    floor: int = 0
    allow: tuple[Allowance, ...] = ()
    max_age_s: float = 0


@dataclass(frozen=True, slots=True)
class Deny:
    """Explicit distrust: digests, key fingerprints, and revisions (`<ref>@sha1:<commit>` or the bare commit)."""

    digests: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    revisions: tuple[str, ...] = ()


NO_ROLLBACK_RULES = Rollback()
NO_DENY = Deny()


@dataclass(frozen=True, slots=True)
class TrustRules:
    """One valid policy."""

    name: str
    match: tuple[str, ...]
    authorities: tuple[Authority, ...]
    threshold: int
    floor: bool = False
    formats: tuple[SignatureFormat, ...] = (SignatureFormat.BUNDLE,)
    repository_claim: RepositoryClaim = RepositoryClaim.REQUIRE
    remap: tuple[Remap, ...] = ()
    tag_claim: TagClaim = TagClaim.REQUIRE
    annotations: tuple[tuple[str, str], ...] = ()
    attestations: tuple[AttestationRule, ...] = ()
    rollback: Rollback = NO_ROLLBACK_RULES
    deny: Deny = NO_DENY
    require_timestamp: bool = False
    require_log: bool = False
    on_revoked: OnRevoked = OnRevoked.CORRECT
    mode: Mode = Mode.ENFORCE

    @property
    def keyless_only(self) -> bool:
        """Whether a key can count for nothing here."""
        return all(authority.keyless is not None for authority in self.authorities)


@dataclass(frozen=True, slots=True)
class BrokenPolicy:
    """A policy that cannot be used. It still matches, and then refuses.

    Attributes:
        match: the patterns that could be read; empty means that it may be about any repository.
    """

    name: str
    match: tuple[str, ...]
    problem: str


def parse_policy(document: JsonObject) -> TrustRules:
    """Parse one `TrustPolicy`.

    Raises:
        InvalidInput: naming the path of the field that is wrong, unknown or not supported by this version.
    """
    return _parse(document, None)


def problems_of(document: JsonObject) -> tuple[InvalidInput, ...]:
    """All problems for which `parse_policy` would refuse a document; each message begins with the path of a field."""
    problems: list[InvalidInput] = []
    try:
        _parse(document, problems)
    except InvalidInput as error:
        problems.append(error)
    return tuple(problems)


def _parse(document: JsonObject, problems: list[InvalidInput] | None) -> TrustRules:
    name = policy_name(document)
    root = Fields(document, "policy", ("apiVersion", "kind", "metadata", "spec", "status"), problems)
    if root.raw("apiVersion") != API_VERSION or root.raw("kind") != POLICY_KIND:
        raise InvalidInput(f"policy: expected kind {POLICY_KIND} of {API_VERSION}")
    if not _NAME.match(name):
        root.refuse(InvalidInput("metadata.name: required, a lower-case DNS name"))
    spec = root.below("spec", root.raw("spec"), _SPEC_FIELDS)
    nobody: tuple[Authority, ...] = ()
    authorities = spec.attempt(lambda: _authorities(spec), nobody)
    claim = spec.child("repositoryClaim", ("mode", "remap"))
    rules = TrustRules(
        name=name,
        authorities=authorities,
        threshold=spec.integer("threshold", None, 1),
        match=spec.attempt(lambda: _match(spec), ()),
        floor=spec.flag("floor"),
        formats=spec.attempt(lambda: _formats(spec), ()),
        repository_claim=claim.choice("mode", RepositoryClaim, RepositoryClaim.REQUIRE),
        remap=claim.each("remap", _MATCHES_COUNT, lambda where, item: _remap(claim.below(where, item, _REMAP_FIELDS))),
        tag_claim=spec.choice("tagClaim", TagClaim, TagClaim.REQUIRE),
        annotations=spec.string_map("annotations"),
        attestations=spec.attempt(lambda: parse_attestations(spec, _authority_names(spec)), ()),
        rollback=_rollback(spec),
        deny=_deny(spec),
        require_timestamp=spec.flag("requireTimestamp"),
        require_log=spec.flag("requireTransparencyLog"),
        on_revoked=spec.choice("onRevoked", OnRevoked, OnRevoked.CORRECT),
        mode=spec.choice("mode", Mode, Mode.ENFORCE),
    )
    if rules.floor and rules.mode is Mode.WARN:
        spec.refuse(spec.fail("mode", "Warn contradicts floor: true"))
    if not problems:  # what was left out would be missing here
        _check_reachable(spec, rules)
    return rules


def with_fingerprints(rules: TrustRules, fingerprints: Mapping[str, str]) -> TrustRules:
    """The rules with the fingerprint of each authority's key or trusted root filled in.

    Raises:
        InvalidInput: if two authorities are one key or one identity: a threshold over them would ask for two and mean
            one.
    """
    filled = tuple(_filled(authority, fingerprints[authority.name]) for authority in rules.authorities)
    owner: dict[object, str] = {}
    for authority in filled:
        signer: object = authority.fingerprint or replace(authority.keyless or _NOBODY, root_ref="")
        if signer in owner:
            what = f"key {authority.fingerprint}" if authority.fingerprint else "identity"
            raise InvalidInput(f"spec.authorities: {owner[signer]!r} and {authority.name!r} are the same {what}")
        owner[signer] = authority.name
    return replace(rules, authorities=filled)


_NOBODY = Keyless("")


def _filled(authority: Authority, fingerprint: str) -> Authority:
    if authority.keyless is not None:
        return replace(authority, keyless=replace(authority.keyless, root=fingerprint))
    return replace(authority, fingerprint=fingerprint)


def policy_name(document: object) -> str:
    """The name of a policy document, even of a broken one; empty if there is none."""
    metadata = document.get("metadata") if isinstance(document, Mapping) else None
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""


def readable_patterns(document: object) -> tuple[str, ...]:
    """The match patterns of a broken policy; empty if any of them cannot be read, or there are none."""
    try:
        value = document.get("spec") if isinstance(document, Mapping) else None
        spec = Fields(value, "spec", tuple(str(name) for name in value) if isinstance(value, Mapping) else ())
        return _match(spec)
    except InvalidInput:
        return ()


def canonical_repository(name: str) -> str:
    """`host/path` with the host in lower case: host names do not tell upper from lower case."""
    host, slash, path = name.partition("/")
    return host.lower() + slash + path


def commit_of(revision: str) -> str:
    """The commit in a revision, or in a bare commit; `sha256:` in repositories of that format."""
    return revision.rpartition("@")[2].removeprefix("sha1:").removeprefix("sha256:").removesuffix("-dirty")


def _check_reachable(spec: Fields, rules: TrustRules) -> None:
    """Refuse what nothing could ever satisfy: the proofs are in keyless signatures, which are bundles."""
    if rules.threshold > len(rules.authorities):
        problem = f"{rules.threshold} of {len(rules.authorities)} authorities can never be reached"
        spec.refuse(spec.fail("threshold", problem))
    keyless = sum(authority.keyless is not None for authority in rules.authorities)
    for name, wanted in (("requireTimestamp", rules.require_timestamp), ("requireTransparencyLog", rules.require_log)):
        if wanted and keyless < rules.threshold:
            problem = f"{rules.threshold} authorities are required, and only {keyless} can satisfy it: the keyless ones"
            spec.refuse(spec.fail(name, problem))
    if SignatureFormat.BUNDLE not in rules.formats and len(rules.authorities) - keyless < rules.threshold:
        spec.refuse(spec.fail("formats", "keyless signatures are bundles; add Bundle"))
    if SignatureFormat.BUNDLE not in rules.formats and rules.attestations:
        spec.refuse(spec.fail("formats", "attestations are bundles; add Bundle"))
    identities = {authority.name for authority in rules.authorities if authority.keyless is not None}
    for index, rule in enumerate(rules.attestations):
        if (rules.require_timestamp or rules.require_log) and identities.isdisjoint(rule.authorities):
            problem = "none of them is keyless, and only those can satisfy requireTimestamp and requireTransparencyLog"
            spec.refuse(spec.fail(f"attestations[{index}].authorities", problem))


def _match(spec: Fields) -> tuple[str, ...]:
    patterns = spec.each(
        "match", _MATCHES_COUNT, lambda where, item: _pattern(spec.below(where, item, ("repository",)))
    )
    if not spec.raw("match"):
        raise spec.fail("match", "required: at least one {repository: …}")
    if len(set(patterns)) != len(patterns):
        raise spec.fail("match", "the same pattern twice")
    return patterns


def _pattern(fields: Fields) -> str:
    pattern = fields.text("repository")
    return _repository(pattern.removesuffix("/*"), f"{fields.where}.repository") + pattern[_stem(pattern) :]


def _stem(pattern: str) -> int:
    return len(pattern.removesuffix("/*"))


def _repository(name: str, where: str) -> str:
    """A repository, or a host with or without leading path segments, in canonical form."""
    hint = "write an exact repository, or prefix/* where * stands for whole path segments"
    if "*" in name:
        raise InvalidInput(f"{where}: {name[:100]!r}: * may only be the last path segment", hint=hint)
    try:
        # A bare host is a legal prefix, but no legal reference.
        reference = parse_reference(name if "/" in name else f"{name}/x")
    except UsageError as error:
        raise InvalidInput(f"{where}: {error.message}", hint=hint) from None
    if reference.tag or reference.digest or "://" in name:
        raise InvalidInput(f"{where}: {name[:100]!r}: leave scheme, tag and digest out", hint=hint)
    return canonical_repository(name)


def _authorities(spec: Fields) -> tuple[Authority, ...]:
    known = ("name", "key", "keyless")
    found = spec.each("authorities", _AUTHORITIES_COUNT, lambda at, item: _authority(spec.below(at, item, known)))
    if not spec.raw("authorities"):
        raise spec.fail("authorities", "required: at least one authority")
    names = [authority.name for authority in found]
    for name in names:
        if names.count(name) > 1:
            raise spec.fail("authorities", f"two authorities are named {name!r}")
    return found


def _authority(fields: Fields) -> Authority:
    name = fields.text("name")
    if fields.has("keyless") == fields.has("key"):
        raise InvalidInput(f"{fields.where}: set exactly one of key, keyless")
    if fields.has("keyless"):
        known = ("issuer", "subject", "subjectGlob", "claims", "trustedRootRef")
        return Authority(name, keyless=parse_keyless(fields.child("keyless", known)))
    key = fields.below(f"{fields.where}.key", fields.raw("key"), ("pem", "secretRef"))
    if key.has("pem") == key.has("secretRef"):
        raise InvalidInput(f"{key.where}: set exactly one of pem, secretRef")
    if key.has("pem"):
        return Authority(name, pem=key.text("pem"))
    return Authority(name, secret=key.child("secretRef", ("name",)).text("name"))


def _authority_names(spec: Fields) -> list[str]:
    """Also of authorities that have problems of their own."""
    items = spec.raw("authorities")
    found = [item.get("name") for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [name for name in found if isinstance(name, str)]


def _formats(spec: Fields) -> tuple[SignatureFormat, ...]:
    if not spec.has("formats"):
        return (SignatureFormat.BUNDLE,)
    found: list[SignatureFormat] = []
    for where, text in spec.texts("formats", len(SignatureFormat) * 2):
        try:
            found.append(SignatureFormat(text))
        except ValueError:
            spec.refuse(InvalidInput(f"{where}: {text[:40]!r} is none of {' | '.join(SignatureFormat)}"))
    if not spec.raw("formats"):
        raise spec.fail("formats", "an empty list would accept nothing")
    return tuple(sorted(set(found)))


def _remap(fields: Fields) -> Remap:
    return Remap(
        signed=_repository(fields.text("signed"), f"{fields.where}.signed"),
        here=_repository(fields.text("here"), f"{fields.where}.here"),
    )


def _rollback(spec: Fields) -> Rollback:
    fields = spec.child("rollback", ("monotonic", "floor", "allow", "maxAge"))
    fields.choice("monotonic", Monotonic, Monotonic.SEQUENCE)
    known = ("digest", "until")
    return Rollback(
        floor=fields.integer("floor", 0, 0),
        allow=fields.each("allow", _LIST_COUNT, lambda where, item: _allowance(fields.below(where, item, known))),
        max_age_s=fields.attempt(lambda: _max_age(fields), 0.0),
    )


def _max_age(fields: Fields) -> float:
    if not fields.has("maxAge"):
        return 0.0
    max_age_s = parse_duration(fields.text("maxAge"), f"{fields.where}.maxAge")
    if max_age_s <= 0:
        raise fields.fail("maxAge", "must be longer than nothing; leave it out to accept any age")
    return max_age_s


def _allowance(fields: Fields) -> Allowance:
    digest = fields.text("digest")
    try:
        until = parse_rfc3339(fields.text("until"))
    except OverflowError:  # year 1 or 9999 with an offset that leaves the calendar
        until = None
    if not is_digest(digest):
        fields.refuse(fields.fail("digest", "not a sha256 digest"))
    if until is None:
        raise fields.fail("until", "not a time like 2026-12-01T00:00:00Z")
    return Allowance(digest, until)


def _deny(spec: Fields) -> Deny:
    fields = spec.child("deny", ("digests", "keys", "revisions"))
    digests, keys = fields.texts("digests", _LIST_COUNT), fields.texts("keys", _LIST_COUNT)
    for where, text in digests + keys:
        if not is_digest(text):
            problem = f"{where}: expected sha256: and 64 lower-case hex characters, found {text[:100]!r}"
            fields.refuse(InvalidInput(problem))
    revisions = fields.texts("revisions", _LIST_COUNT)
    for where, text in revisions:
        if not _COMMIT.match(commit_of(text)):
            fields.refuse(
                InvalidInput(
                    f"{where}: {text[:100]!r} names no commit", hint="write <ref>@sha1:<40 hex> or the bare commit"
                )
            )
    return Deny(
        tuple(text for _, text in digests), tuple(text for _, text in keys), tuple(text for _, text in revisions)
    )
