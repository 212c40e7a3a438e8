"""Attestations: statements about a digest that are no signatures of it. Made here, examined by `signing.check`.

One statement has one subject, the digest, named as other tools name it; it is signed in the bundle that `cosign attest`
writes. The type of signatures is refused: nobody may make a signature by attesting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.errors import InvalidInput
from ocisync.model.limits import BUNDLE_BYTES, PREDICATE_BYTES
from ocisync.model.predicates import SHORT_NAMES, type_problem
from ocisync.signing import bundle, statement
from ocisync.signing.keylesssigner import KeylessSigner
from ocisync.signing.keys import Signer


def predicate_type(text: str) -> str:
    """The type that a short name or a URI names.

    Raises:
        InvalidInput: neither, or the type of signatures.
    """
    found = SHORT_NAMES.get(text, text)
    problem = type_problem(found)
    if problem:
        raise InvalidInput(f"predicate type {problem}", hint=f"one of {', '.join(SHORT_NAMES)}, or a URI")
    return found


def read_predicate(data: bytes, *, name: str = "predicate") -> dict[str, Any]:
    """Read a predicate from a file's bytes.

    Raises:
        InvalidInput: too large, or no JSON object that everybody reads alike.
    """
    if len(data) > PREDICATE_BYTES:
        raise InvalidInput(f"{name}: more than {PREDICATE_BYTES >> 10} KiB, the most that is attested")
    try:
        return parse_json_object(data, max_bytes=PREDICATE_BYTES, max_depth=32)
    except Malformed as error:
        raise InvalidInput(f"{name}: {error}", hint="a predicate is one JSON object") from None


def make(
    signer: Signer | KeylessSigner, digest: str, kind: str, predicate: Mapping[str, Any], *, repository: str
) -> bytes:
    """Attest `predicate` of `digest`; the bundle's JSON bytes.

    Raises:
        InvalidInput: a type that is none, or more than a bundle may hold.
        AccessDenied, Unavailable: a service of the keyless signer.
    """
    payload = statement.attestation(digest, predicate_type(kind), predicate, name=repository)
    if len(payload) > PREDICATE_BYTES + 8 * 1024:
        raise InvalidInput(f"an attestation of {len(payload)} bytes is too large to be read again")
    data = signer.make_of(payload) if isinstance(signer, KeylessSigner) else bundle.make_of(signer, payload)
    if len(data) > BUNDLE_BYTES:
        raise InvalidInput(f"a bundle of {len(data)} bytes is too large to be read again")
    return data
