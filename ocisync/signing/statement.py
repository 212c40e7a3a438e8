"""What a bundle signs: an in-toto statement with one subject, and its DSSE pre-authentication encoding.

Claims are strings in `subject[0].annotations`, where `cosign sign -a key=value` puts them too. Other tools ignore them
and still verify. Reading is strict: exactly one subject with exactly one sha256 digest, string claims only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.descriptor import SIGN_PREDICATE
from ocisync.model.digest import digest_hex, is_digest
from ocisync.model.limits import BUNDLE_BYTES
from ocisync.model.values import dataclass

STATEMENT_V1 = "https://in-toto.io/Statement/v1"
# cosign writes v0.1 for attestations; the fields that matter are the same.
_STATEMENT_TYPES = (STATEMENT_V1, "https://in-toto.io/Statement/v0.1")
_FIELDS = frozenset({"_type", "subject", "predicateType", "predicate"})
_SUBJECT_FIELDS = frozenset({"name", "digest", "annotations"})
_CLAIMS_COUNT = 64


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement: the digest it is about, its type, its claims sorted by name, and what it says."""

    subject: str
    predicate_type: str
    claims: tuple[tuple[str, str], ...]
    predicate: Mapping[str, Any] = field(default_factory=dict, hash=False)


def statement(digest: str, claims: Mapping[str, str], *, name: str | None = None) -> bytes:
    """The bytes to sign for `digest` with `claims` (sorted, so that equal claims give equal bytes).

    `name` is the subject's, which says nothing here; None leaves it out.
    """
    subject: dict[str, Any] = {} if name is None else {"name": name}
    subject["digest"] = {"sha256": digest_hex(digest)}
    if claims:
        subject["annotations"] = dict(sorted(claims.items()))
    return _written(subject, SIGN_PREDICATE, {})


def attestation(digest: str, predicate_type: str, predicate: Mapping[str, Any], *, name: str) -> bytes:
    """The bytes to sign for saying `predicate` about `digest`. `name` is where it is, as other tools write it too."""
    return _written({"name": name, "digest": {"sha256": digest_hex(digest)}}, predicate_type, predicate)


def _written(subject: Mapping[str, Any], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    document = {"_type": STATEMENT_V1, "subject": [subject], "predicateType": predicate_type, "predicate": predicate}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding; lengths count bytes, the payload is raw."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse_statement(payload: bytes) -> Statement:
    """Read signed bytes.

    Raises:
        Malformed: naming the first rule that is broken.
    """
    document = parse_json_object(payload, max_bytes=BUNDLE_BYTES)
    only(document, _FIELDS, "statement")
    if document.get("_type") not in _STATEMENT_TYPES:
        raise Malformed("not an in-toto statement")
    predicate_type = document.get("predicateType")
    if not isinstance(predicate_type, str) or not predicate_type:
        raise Malformed("statement without a predicateType")
    subjects = document.get("subject")
    if not isinstance(subjects, list) or len(subjects) != 1 or not isinstance(subjects[0], dict):
        count = len(subjects) if isinstance(subjects, list) else 0
        raise Malformed(f"statement has {count} subjects, exactly one is accepted")
    subject = subjects[0]
    only(subject, _SUBJECT_FIELDS, "subject")
    if not isinstance(subject.get("name", ""), str):
        raise Malformed("subject name is no text")
    digests = subject.get("digest")
    if not isinstance(digests, dict) or set(digests) != {"sha256"}:
        raise Malformed("subject does not have exactly one sha256 digest")
    digest = f"sha256:{digests['sha256']}"
    if not isinstance(digests["sha256"], str) or not is_digest(digest):
        raise Malformed("subject digest is not a sha256 digest")
    predicate = document.get("predicate")
    if predicate is not None and not isinstance(predicate, dict):
        raise Malformed("the predicate is no object")
    claims = string_map(subject.get("annotations"), "annotation")
    return Statement(digest, predicate_type, claims, predicate or {})


def string_map(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    """Read an optional map of strings, sorted.

    Raises:
        Malformed: if it is anything else, or has more entries than anyone needs.
    """
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise Malformed(f"{what}s are no object")
    if len(value) > _CLAIMS_COUNT:
        raise Malformed(f"{len(value)} {what}s, at most {_CLAIMS_COUNT} are read")
    for key, text in value.items():
        if not isinstance(text, str):
            raise Malformed(f"{what} {key[:60]!r} is no text")
    return tuple(sorted(value.items()))


def only(document: Mapping[str, Any], allowed: frozenset[str], what: str) -> None:
    """Refuse fields that nobody defined.

    Raises:
        Malformed: naming the first unknown field.
    """
    unknown = sorted(set(document) - allowed)
    if unknown:
        raise Malformed(f"unknown field {unknown[0][:60]!r} in the {what}")
