"""Policies as their owners hold them: files, read as a whole, checked and rehearsed without a cluster.

A Secret or a trusted root that only the cluster has is stood for by a name of its own: two authorities with one Secret
are one key here, too. So precedence, thresholds and claims can be tried before anything is applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ocisync.kit import yamlio
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.resource import JsonObject
from ocisync.model.spec import POLICY_KIND
from ocisync.policy.lint import Advice, advice, overlaps
from ocisync.policy.rules import (
    Authority,
    BrokenPolicy,
    TrustRules,
    parse_policy,
    policy_name,
    problems_of,
    readable_patterns,
    with_fingerprints,
)
from ocisync.signing.keys import load_public

_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file's name and bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """One policy in a file: `path` leads to it from the root of document `index` (lists of `kubectl get -o yaml`)."""

    file: str
    index: int
    path: tuple[str | int, ...]
    value: JsonObject


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What is wrong, and what is risky. `policies` are those that can be used."""

    policies: tuple[str, ...]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def read_policies(file: PolicyFile) -> tuple[PolicyDocument, ...]:
    """The policies of a YAML or JSON file; other kinds in it are left out.

    Raises:
        InvalidInput: it is not YAML, or holds no policy.
    """
    found: list[PolicyDocument] = []
    for document in yamlio.parse_documents(file.data, file.name):
        for path, value in _objects(document.value):
            if value.get("kind") == POLICY_KIND:
                found.append(PolicyDocument(file.name, document.index, path, value))
    if not found:
        raise InvalidInput(f"{file.name} holds no {POLICY_KIND}", hint="ocisync policy init prints one")
    return tuple(found)


def _objects(value: object) -> Iterator[tuple[tuple[str | int, ...], JsonObject]]:
    if not isinstance(value, dict):
        return
    items = value.get("items")
    if value.get("kind") == "List" and isinstance(items, list):
        for at, item in enumerate(items):
            if isinstance(item, dict):
                yield ("items", at), item
    else:
        yield (), value


def rehearsed(document: JsonObject) -> TrustRules:
    """The rules of a policy, with stand-ins for what only the cluster has.

    Raises:
        InvalidInput: the policy is broken.
    """
    rules = parse_policy(document)
    return with_fingerprints(rules, {one.name: _fingerprint(at, one) for at, one in enumerate(rules.authorities)})


def rehearsed_all(documents: Sequence[PolicyDocument]) -> tuple[TrustRules | BrokenPolicy, ...]:
    """All policies; broken ones refuse what they match, as in the agent."""
    found: list[TrustRules | BrokenPolicy] = []
    for document in documents:
        try:
            found.append(rehearsed(document.value))
        except InvalidInput as error:
            value = document.value
            found.append(BrokenPolicy(policy_name(value), readable_patterns(value), error.message))
    return tuple(found)


def stand_in(kind: str, name: str) -> str:
    """The fingerprint that stands for a Secret's key or a trusted root."""
    return sha256_digest(f"{kind} {name}".encode())


def _fingerprint(index: int, authority: Authority) -> str:
    if authority.keyless is not None:
        return stand_in("root", authority.keyless.root_ref)
    if authority.secret:
        return stand_in("secret", authority.secret)
    return load_public(authority.pem, name=f"spec.authorities[{index}].key.pem").fingerprint


def check(files: Sequence[PolicyFile], now: datetime) -> PolicyReport:
    """Check policies alone and together, as the agent would see them. Nothing is raised: all problems are told."""
    reports = [_check_file(file, now) for file in files]
    documents = [document for documents, _, _ in reports for document in documents]
    errors = [finding for _, found, _ in reports for finding in found]
    warnings = [finding for _, _, found in reports for finding in found]
    places = {file.name: yamlio.Places(file.data) for file in files}
    usable: dict[str, tuple[TrustRules, PolicyDocument]] = {}
    for document, rules in zip(documents, rehearsed_all(documents), strict=True):
        if isinstance(rules, BrokenPolicy):
            continue
        if rules.name in usable:
            other = usable[rules.name][1]
            message = (
                f"metadata.name: {rules.name!r} is also the name of a policy in {other.file}: one would replace it"
            )
            errors.append(_finding(document, places, message, "name"))
        usable.setdefault(rules.name, (rules, document))
    errors += _duplicates(list(usable.values()), places)
    for one in overlaps([rules for rules, _ in usable.values()]):
        warnings.append(_advised(usable[one.policy][1], places, one))
    return PolicyReport(tuple(usable), tuple(_sorted(errors)), tuple(_sorted(warnings)))


def _check_file(file: PolicyFile, now: datetime) -> tuple[tuple[PolicyDocument, ...], list[Finding], list[Finding]]:
    try:
        documents = read_policies(file)
    except InvalidInput as error:
        return (), list(error.findings or (Finding(file.name, 0, 0, error.message),)), []
    places = {file.name: yamlio.Places(file.data)}
    errors: list[Finding] = []
    warnings: list[Finding] = []
    for document in documents:
        problems = (*problems_of(document.value), *_bad_keys(document.value))
        errors += [_finding(document, places, _with_hint(error), "invalid") for error in problems]
        if problems:
            continue
        try:
            rules = rehearsed(document.value)
        except InvalidInput as error:
            errors.append(_finding(document, places, _with_hint(error), "invalid"))
            continue
        warnings += [_advised(document, places, one) for one in advice(rules, now)]
    return documents, errors, warnings


def _bad_keys(document: JsonObject) -> Iterator[InvalidInput]:
    """Keys that cannot be read, also in a policy that is broken otherwise."""
    spec = document.get("spec")
    authorities = spec.get("authorities") if isinstance(spec, dict) else None
    for index, authority in enumerate(authorities if isinstance(authorities, list) else ()):
        key = authority.get("key") if isinstance(authority, dict) else None
        pem = key.get("pem") if isinstance(key, dict) else None
        if isinstance(pem, str) and pem:
            try:
                load_public(pem, name=f"spec.authorities[{index}].key.pem")
            except InvalidInput as error:
                yield error


def _duplicates(
    policies: Sequence[tuple[TrustRules, PolicyDocument]], places: dict[str, yamlio.Places]
) -> Iterator[Finding]:
    for rules, document in policies:
        for index, pattern in enumerate(rules.match):
            others = [other.name for other, _ in policies if other is not rules and pattern in other.match]
            if others:
                message = (
                    f"spec.match[{index}].repository: policy {others[0]!r} matches {pattern!r}, too: both refuse it"
                )
                yield _finding(document, places, message, "duplicate")


def _with_hint(error: InvalidInput) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _advised(document: PolicyDocument, places: dict[str, yamlio.Places], one: Advice) -> Finding:
    return _finding(document, places, f"{one.path}: {one.message}", one.rule)


def _finding(document: PolicyDocument, places: dict[str, yamlio.Places], message: str, rule: str) -> Finding:
    line, column = places[document.file].find(document.index, document.path + _path(message))
    name = policy_name(document.value) or "policy"
    return Finding(document.file, line, column, f"{name}: {message}", rule)


def _path(message: str) -> tuple[str | int, ...]:
    """The path that a message begins with."""
    where = message.partition(": ")[0]
    if where == "policy":
        return ()
    return tuple(int(index) if index else name for name, index in _PART.findall(where))


def _sorted(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda found: (found.file, found.line, found.column, found.message))
