"""Policies as their owners test them: cases of evidence, given as facts, and the verdict that is expected.

    apiVersion: ocisync.dev/v1alpha1
    kind: TrustPolicyCases
    cases:
    - name: a release is allowed in production
      repository: registry.example/shop/config      # required
      tag: production                               # or version: 1.4.0 (semver source); neither: digest source
      evidence: [{signer: ci}]                      # default: none
      expect: {reason: Verified, signers: [ci]}

A case is judged by the very function that decides in the agent. No cryptography is done: a signature is sound, and made
by whom the case says. Its claims are those that `ocisync push` would sign for the case; `claims` replaces single ones
(null takes one away), `bare: true` begins with none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from ocisync.kit import yamlio
from ocisync.model.artifact import Verdict, VerdictReason
from ocisync.model.clock import parse_rfc3339
from ocisync.model.descriptor import CLAIM_REPOSITORY, CLAIM_SEQUENCE, CLAIM_SIGNED, CLAIM_TAGS, SIGN_PREDICATE
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import Evidence, Identity, RootProof, SignatureFormat
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_VERSION, SelectorKind
from ocisync.model.values import dataclass
from ocisync.policy.evaluate import Subject, judge
from ocisync.policy.fields import Fields
from ocisync.policy.keyless import CLAIM_NAMES
from ocisync.policy.rules import Authority, BrokenPolicy, TrustRules
from ocisync.policy.select import Selection, matching

CASES_KIND = "TrustPolicyCases"
_CASES_COUNT = 1_000
_EVIDENCE_COUNT = 100
_DEFAULT_DIGEST = sha256_digest(b"the artifact of a case")
_DEFAULT_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CASE_FIELDS = (
    "name", "repository", "tag", "version", "digest", "revision", "now", "watermark", "truncated", "evidence", "expect",
)  # fmt: skip
_EVIDENCE_FIELDS = (
    "signer", "key", "identity", "format", "digest", "claims", "bare", "dockerReference", "damaged", "predicateType",
    "predicate",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expected:
    """What a verdict shall be; None where it does not matter. `message` is a part of the message."""

    allowed: bool | None = None
    reason: str | None = None
    policy: str | None = None
    signers: tuple[str, ...] | None = None
    sequence: int | None = None
    distrusted: bool | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: its place in the file, what came out, and how it differs from what was expected."""

    name: str
    line: int
    verdict: Verdict
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the verdict is as expected."""
        return not self.differences


def run_cases(data: bytes, file: str, policies: Sequence[TrustRules | BrokenPolicy]) -> tuple[CaseResult, ...]:
    """Judge every case of a file.

    Raises:
        InvalidInput: the file, with its place.
    """
    results: list[CaseResult] = []
    places = yamlio.Places(data)
    for document in yamlio.parse_documents(data, file):
        if document.value is None:
            continue
        for at, value in _cases(document.value, file):
            line, _ = places.find(document.index, ("cases", at))
            try:
                results.append(_run(Fields(value, f"cases[{at}]", _CASE_FIELDS), line, policies))
            except InvalidInput as error:
                raise InvalidInput(f"{file}:{line}: {error.message}", hint=error.hint) from None
    if not results:
        raise InvalidInput(f"{file} holds no cases", hint=f"kind: {CASES_KIND}, with cases: […]")
    return tuple(results)


def _cases(value: object, file: str) -> Iterator[tuple[int, object]]:
    root = Fields(value, file, ("apiVersion", "kind", "metadata", "cases"))
    if root.raw("apiVersion") != API_VERSION or root.raw("kind") != CASES_KIND:
        raise InvalidInput(f"{file}: expected kind {CASES_KIND} of {API_VERSION}")
    return ((at, item) for at, (_, item) in enumerate(root.items("cases", _CASES_COUNT)))


def _run(case: Fields, line: int, policies: Sequence[TrustRules | BrokenPolicy]) -> CaseResult:
    subject, now = _subject(case), _moment(case)
    selection = matching(policies, subject.repository)
    evidence = [
        _evidence(case.below(where, item, _EVIDENCE_FIELDS), where, selection, policies, subject, now)
        for where, item in case.items("evidence", _EVIDENCE_COUNT)
    ]
    expected = _expected(case)
    verdict = judge(
        selection, evidence, subject, now, case.integer("watermark", 0, 0), truncated=case.flag("truncated")
    )
    return CaseResult(case.text("name"), line, verdict, tuple(_differences(expected, verdict)))


def _subject(case: Fields) -> Subject:
    tag, version = case.text("tag", ""), case.text("version", "")
    if tag and version:
        raise case.fail("version", "set tag, version or neither: how the artifact was chosen")
    kind = SelectorKind.SEMVER if version else SelectorKind.TAG if tag else SelectorKind.DIGEST
    return Subject(
        case.text("repository"), _digest(case, _DEFAULT_DIGEST), kind, tag or version, case.text("revision", "")
    )


def _digest(fields_: Fields, default: str) -> str:
    digest = fields_.text("digest", default)
    if not is_digest(digest):
        raise fields_.fail("digest", "expected sha256: and 64 hex characters")
    return digest


def _moment(case: Fields) -> datetime:
    text = case.text("now", "")
    moment = parse_rfc3339(text) if text else _DEFAULT_NOW
    if moment is None:
        raise case.fail("now", f"{text[:40]!r} is no time like 2026-12-01T00:00:00Z")
    return moment


def _evidence(
    fields_: Fields,
    where: str,
    selection: Selection,
    policies: Sequence[TrustRules | BrokenPolicy],
    subject: Subject,
    now: datetime,
) -> Evidence:
    signer, identity = _signer(fields_, selection, policies)
    form = fields_.choice("format", SignatureFormat, SignatureFormat.BUNDLE)
    digest = _digest(fields_, subject.digest)
    predicate_type = fields_.text("predicateType", SIGN_PREDICATE)
    problem = "the signature is damaged" if fields_.flag("damaged") else ""
    if not problem and predicate_type != SIGN_PREDICATE:
        problem = f"an attestation ({predicate_type}), not a signature"
    if digest != subject.digest and not problem:
        problem = f"it signs {digest}, not {subject.digest}"
    source = sha256_digest(f"{fields_.text('signer', '')} {where}".encode())
    known = {one.fingerprint for rules in selection.rules for one in rules.authorities if one.fingerprint}
    if fields_.flag("damaged") or (identity is None and signer not in known):
        # As nobody's signature, or a broken one, is seen: nothing in it is believed.
        stranger = identity is not None
        return Evidence(source, form, problem=problem, key_hint="" if stranger else signer, certified=stranger)
    return Evidence(
        source,
        form,
        signer=signer,
        subject=digest,
        predicate_type=predicate_type,
        claims=tuple(sorted(_claims(fields_, subject, now).items())),
        docker_reference=fields_.text("dockerReference", ""),
        problem=problem,
        identity=identity,
        certified=identity is not None,
        predicate=_predicate(fields_) if digest == subject.digest and predicate_type != SIGN_PREDICATE else None,
    )


def _predicate(fields_: Fields) -> Mapping[str, Any]:
    value = fields_.raw("predicate") or {}
    if not isinstance(value, Mapping):
        raise fields_.fail("predicate", "expected an object")
    return value


def _claims(fields_: Fields, subject: Subject, now: datetime) -> dict[str, str]:
    moment = str(int(now.timestamp()))
    claims: dict[str, str] = {}
    if not fields_.flag("bare"):
        claims = {CLAIM_REPOSITORY: subject.repository, CLAIM_SEQUENCE: moment, CLAIM_SIGNED: moment}
        if subject.tag:
            claims[CLAIM_TAGS] = subject.tag
    changes = fields_.raw("claims") or {}
    if not isinstance(changes, Mapping):
        raise fields_.fail("claims", "expected an object")
    short = {name.rpartition(".")[2]: name for name in _short_names()}
    for name, value in changes.items():
        full = short.get(str(name), str(name))
        if value is None:
            claims.pop(full, None)
        elif isinstance(value, str) or type(value) is int:
            claims[full] = str(value)
        else:
            raise fields_.fail(f"claims.{name}", "expected a string, or null to take the claim away")
    return claims


def _short_names() -> tuple[str, ...]:
    from ocisync.model import descriptor

    return tuple(value for name, value in vars(descriptor).items() if name.startswith("CLAIM_"))


def _signer(
    fields_: Fields, selection: Selection, policies: Sequence[TrustRules | BrokenPolicy]
) -> tuple[str, Identity | None]:
    """The fingerprint of a key, or an identity and its name."""
    if sum(fields_.has(name) for name in ("signer", "key", "identity")) != 1:
        raise fields_.fail("signer", "set exactly one of signer (an authority), key (a fingerprint), identity")
    if fields_.has("key"):
        key = fields_.text("key")
        if not is_digest(key):
            raise fields_.fail("key", "expected a fingerprint: sha256: and 64 hex characters")
        return key, None
    if fields_.has("identity"):
        identity = _identity(
            fields_.child("identity", ("issuer", "subject", "claims", "timestamped", "root")), policies
        )
        return identity.signer, identity
    authority = _authority(fields_, selection, policies)
    if authority.keyless is None:
        return authority.fingerprint, None
    rule = authority.keyless
    if not rule.subject:
        raise fields_.fail(
            "signer", f"{authority.name!r} has a subjectGlob; say which identity: {{issuer, subject, claims}}"
        )
    identity = Identity(rule.issuer, rule.subject, rule.claims, (RootProof(rule.root, timestamped=True),))
    return identity.signer, identity


def _authority(fields_: Fields, selection: Selection, policies: Sequence[TrustRules | BrokenPolicy]) -> Authority:
    name = fields_.text("signer")
    everywhere = [rules for rules in policies if isinstance(rules, TrustRules)]
    for some in (selection.rules, everywhere):
        found = {(one.fingerprint, one.keyless): one for rules in some for one in rules.authorities if one.name == name}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise fields_.fail("signer", f"several policies have an authority {name!r} of their own; write its key")
    raise fields_.fail("signer", f"no policy has an authority {name!r}", "a stranger is key: sha256:… or identity: …")


def _identity(fields_: Fields, policies: Sequence[TrustRules | BrokenPolicy]) -> Identity:
    claims = fields_.child("claims", CLAIM_NAMES)
    stated = tuple(sorted((name, claims.text(name)) for name in CLAIM_NAMES if claims.has(name)))
    timestamped = not fields_.has("timestamped") or fields_.flag("timestamped")
    wanted = fields_.text("root", "")
    roots = sorted(
        {
            one.keyless.root
            for rules in policies
            if isinstance(rules, TrustRules)
            for one in rules.authorities
            if one.keyless is not None and wanted in {"", one.keyless.root_ref}
        }
    )
    proofs = tuple(RootProof(root, timestamped=timestamped) for root in roots)
    return Identity(fields_.text("issuer"), fields_.text("subject"), stated, proofs)


def _expected(case: Fields) -> Expected:
    found = case.child("expect", tuple(field.name for field in fields(Expected)))
    expected = Expected(
        allowed=found.flag("allowed") if found.has("allowed") else None,
        reason=found.text("reason") if found.has("reason") else None,
        policy=found.text("policy", "") if found.has("policy") else None,
        signers=tuple(name for _, name in found.texts("signers", _EVIDENCE_COUNT)) if found.has("signers") else None,
        sequence=found.integer("sequence", None, 0) if found.has("sequence") else None,
        distrusted=found.flag("distrusted") if found.has("distrusted") else None,
        message=found.text("message") if found.has("message") else None,
    )
    if expected.reason is not None and expected.reason not in set(VerdictReason):
        raise found.fail("reason", f"{expected.reason[:40]!r} is none of {', '.join(VerdictReason)}")
    if expected == Expected():
        raise case.fail("expect", "required: at least one of allowed, reason")
    return expected


def _differences(expected: Expected, verdict: Verdict) -> Iterator[str]:
    for field in fields(Expected):
        wanted, found = getattr(expected, field.name), getattr(verdict, field.name)
        if wanted is None:
            continue
        if field.name == "message":
            if wanted not in found:
                yield f"message: expected a part {wanted!r}, is {found!r}"
        elif field.name == "signers":
            if sorted(wanted) != sorted(found):
                yield f"signers: expected {_list(wanted)}, are {_list(found)}"
        elif wanted != found:
            yield f"{field.name}: expected {_plain(wanted)}, is {_plain(found)}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_json(results: Sequence[CaseResult]) -> JsonObject:
    """The results as plain JSON values; field names are an API."""
    return {
        "passed": sum(result.passed for result in results),
        "failed": sum(not result.passed for result in results),
        "cases": [
            {
                "name": result.name,
                "line": result.line,
                "passed": result.passed,
                "allowed": result.verdict.allowed,
                "reason": result.verdict.reason.value,
                "message": result.verdict.message,
                "differences": list(result.differences),
            }
            for result in results
        ],
    }
