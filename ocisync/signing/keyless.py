"""Signatures without keys: a bundle with a certificate, judged by a trusted root.

`prove` answers one question: does this root accept that the certificate's subject signed these bytes? In order:

1. The proof material is read strictly and in one way only; zero values that protobuf writers leave out are filled in.
2. Whatever moments the material states, and it may lie, only the parts of the root that are valid at all of them are
   used. The Sigstore library enforces this for timestamp authorities alone.
3. The Sigstore library checks the rest: a trusted timestamp or log promise; the certificate's chain at that time, its
   usage and its certificate log's promise; the log entry's inclusion, its signed checkpoint, that the entry is about
   this very signature, certificate and content; the signature itself.
4. What it says was signed must be the bytes that we read.

No network, no clock, no files: the library's own ways to find a root (TUF) are never called. It is large, so it is
imported at the first use and belongs to an extra of the package.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ocisync.kit.strictjson import Malformed
from ocisync.model.descriptor import BUNDLE_V03, IN_TOTO_PAYLOAD_TYPE
from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import RootProof
from ocisync.signing.bundle import Envelope, strict_base64
from ocisync.signing.roots import TrustedRoot
from ocisync.signing.statement import only

_TIMESTAMPS_COUNT = 8
_TIMESTAMP_BYTES = 16 * 1024
_HASHES_COUNT = 64  # levels of a tree of 2^64 entries
_U64_DIGITS = 20
_ENTRY_FIELDS = frozenset(
    {"logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody"}
)
_PROOF_FIELDS = frozenset({"logIndex", "rootHash", "treeSize", "hashes", "checkpoint"})
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def require_library() -> None:
    """Say so now if keyless signatures cannot be verified by this installation.

    Raises:
        InvalidInput: the extra is not installed.
    """
    if importlib.util.find_spec("sigstore") is None:
        raise InvalidInput(
            "keyless signatures need the Python package sigstore, which is not installed (the extra ocisync[keyless])",
            hint="pip install 'ocisync[keyless]'",
        )


def prove(envelope: Envelope, root: TrustedRoot) -> RootProof:
    """Verify a bundle that was made with a certificate.

    Raises:
        Malformed: the root does not accept it; says why.
    """
    material = _material(envelope.material)
    entry, stamps = material["tlogEntries"][0], material["timestampVerificationData"]["rfc3161Timestamps"]
    moments = [_stated_time(stamp["signedTimestamp"]) for stamp in stamps]
    promised = "inclusionPromise" in entry and "integratedTime" in entry
    if promised:
        moments.append(_unix(int(entry["integratedTime"])))
    if not moments:
        raise Malformed("nothing says when it was signed: neither a timestamp nor a log's promise")
    trusted = root.at(moments)
    _verify(envelope, material, trusted)
    return RootProof(
        root.fingerprint, timestamped=bool(stamps) and (not promised or _stamped(envelope, material, trusted))
    )


def _stamped(envelope: Envelope, material: Mapping[str, Any], trusted: bytes) -> bool:
    """Whether it holds by timestamps alone: without the log's promise, nothing else can say when it was made."""
    entry = {
        name: value
        for name, value in material["tlogEntries"][0].items()
        if name not in {"inclusionPromise", "integratedTime"}
    }
    try:
        _verify(envelope, {**material, "tlogEntries": [entry]}, trusted)
    except Malformed:
        return False
    return True


# The library ----------------------------------------------------------------------------------------------------


def _verify(envelope: Envelope, material: Mapping[str, Any], trusted: bytes) -> None:
    from sigstore.errors import Error
    from sigstore.models import Bundle

    document = {
        "mediaType": BUNDLE_V03,
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": _base64(envelope.payload),
            "payloadType": IN_TOTO_PAYLOAD_TYPE,
            "signatures": [{"sig": _base64(envelope.signature)}],
        },
    }
    try:
        bundle = Bundle.from_json(json.dumps(document))
        kind, payload = _verifier(trusted).verify_dsse(bundle, _AnyIdentity())
    except Error as error:
        raise Malformed(f"the trusted root does not accept it: {_first_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - hostile bytes meet a large library: no defect of it may hide a good signature
        raise Malformed(f"it cannot be verified ({type(error).__name__})") from None
    if kind != IN_TOTO_PAYLOAD_TYPE or payload != envelope.payload:
        raise Malformed("what was verified is not what was read")


class _AnyIdentity:
    """A policy of the library that asks nothing: whose identity counts is decided by `ocisync.policy`."""

    def verify(self, certificate: object) -> None:
        """Accept."""


@dataclass(slots=True)
class _Verifiers:
    """The last verifiers made, by root: making one parses every certificate of the root again."""

    made: dict[bytes, Any]


_VERIFIERS = _Verifiers({})
_VERIFIERS_COUNT = 16


def _verifier(trusted: bytes) -> Any:
    from sigstore.models import TrustedRoot as LibraryRoot
    from sigstore.verify import Verifier
    from sigstore_models.trustroot.v1 import TrustedRoot as RootDocument

    found = _VERIFIERS.made.get(trusted)
    if found is None:
        found = Verifier(trusted_root=LibraryRoot(RootDocument.from_json(trusted)))
        if len(_VERIFIERS.made) >= _VERIFIERS_COUNT:
            _VERIFIERS.made.clear()
        _VERIFIERS.made[trusted] = found
    return found


def _stated_time(encoded: str) -> datetime:
    """When a timestamp says that it was made; not verified."""
    from rfc3161_client import decode_timestamp_response

    raw = strict_base64(encoded, "timestamp")
    if len(raw) > _TIMESTAMP_BYTES:
        raise Malformed(f"a timestamp of {len(raw)} bytes, at most {_TIMESTAMP_BYTES} are read")
    try:
        moment: datetime = decode_timestamp_response(raw).tst_info.gen_time
    except Exception as error:  # noqa: BLE001 - hostile DER: whatever the decoder raises, it is no timestamp
        raise Malformed(f"a timestamp cannot be read ({type(error).__name__})") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


# Strict reading -------------------------------------------------------------------------------------------------


def _material(material: Mapping[str, Any]) -> dict[str, Any]:
    """The verification material in one canonical form, zero values filled in.

    Raises:
        Malformed: naming the first rule that is broken.
    """
    entries = material.get("tlogEntries")
    if not isinstance(entries, list) or len(entries) != 1:
        count = len(entries) if isinstance(entries, list) else 0
        raise Malformed(f"it has {count} transparency log entries, exactly one is accepted")
    return {
        "certificate": material["certificate"],
        "tlogEntries": [_entry(_object(entries[0], "log entry"))],
        "timestampVerificationData": {"rfc3161Timestamps": _timestamps(material.get("timestampVerificationData"))},
    }


def _timestamps(value: Any) -> list[dict[str, str]]:
    if value is None:
        return []
    data = _object(value, "timestampVerificationData")
    only(data, frozenset({"rfc3161Timestamps"}), "timestampVerificationData")
    stamps = data.get("rfc3161Timestamps", [])
    if not isinstance(stamps, list) or len(stamps) > _TIMESTAMPS_COUNT:
        raise Malformed(f"rfc3161Timestamps is no list of at most {_TIMESTAMPS_COUNT}")
    for stamp in stamps:
        only(_object(stamp, "timestamp"), frozenset({"signedTimestamp"}), "timestamp")
        strict_base64(stamp.get("signedTimestamp"), "timestamp")
    return stamps


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    only(entry, _ENTRY_FIELDS, "log entry")
    kind = _object(entry.get("kindVersion"), "kindVersion")
    only(kind, frozenset({"kind", "version"}), "kindVersion")
    if not all(isinstance(kind.get(name), str) for name in ("kind", "version")):
        raise Malformed("kindVersion without kind and version")
    out: dict[str, Any] = {
        "logIndex": _u64(entry.get("logIndex", "0"), "logIndex"),
        "logId": {"keyId": _bytes_of(entry.get("logId"), "keyId", "logId")},
        "kindVersion": dict(kind),
        "inclusionProof": _proof(_object(entry.get("inclusionProof"), "inclusionProof")),
        "canonicalizedBody": _checked_base64(entry.get("canonicalizedBody"), "canonicalizedBody"),
    }
    # Zero means that the log does not tell, as version 2 of the log never does.
    if (moment := _u64(entry.get("integratedTime", "0"), "integratedTime")) != "0":
        out["integratedTime"] = moment
    if "inclusionPromise" in entry:
        out["inclusionPromise"] = {
            "signedEntryTimestamp": _bytes_of(entry["inclusionPromise"], "signedEntryTimestamp", "inclusionPromise")
        }
    return out


def _proof(proof: Mapping[str, Any]) -> dict[str, Any]:
    only(proof, _PROOF_FIELDS, "inclusionProof")
    hashes = proof.get("hashes", [])
    if not isinstance(hashes, list) or len(hashes) > _HASHES_COUNT:
        raise Malformed(f"the inclusion proof has no list of at most {_HASHES_COUNT} hashes")
    checkpoint = _object(proof.get("checkpoint"), "checkpoint")
    only(checkpoint, frozenset({"envelope"}), "checkpoint")
    if not isinstance(checkpoint.get("envelope"), str):
        raise Malformed("the checkpoint has no envelope")
    return {
        "logIndex": _u64(proof.get("logIndex", "0"), "logIndex"),
        "rootHash": _checked_base64(proof.get("rootHash"), "rootHash"),
        "treeSize": _u64(proof.get("treeSize", "0"), "treeSize"),
        "hashes": [_checked_base64(item, "hash") for item in hashes],
        "checkpoint": dict(checkpoint),
    }


def _u64(value: Any, what: str) -> str:
    """A 64-bit number as protobuf's JSON writes it, in text, or as a JSON number."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > _U64_DIGITS:
        raise Malformed(f"{what} is no number")
    if text != "0" and text.startswith("0"):
        raise Malformed(f"{what} is no canonical number")
    return text


def _unix(seconds: int) -> datetime:
    if seconds > _LATEST:
        raise Malformed("integratedTime is beyond the calendar")
    return datetime.fromtimestamp(seconds, UTC)


def _bytes_of(value: Any, name: str, what: str) -> str:
    holder = _object(value, what)
    only(holder, frozenset({name}), what)
    return _checked_base64(holder.get(name), what)


def _checked_base64(value: Any, what: str) -> str:
    strict_base64(value, what)
    return str(value)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{what} is missing or no object")
    return value
