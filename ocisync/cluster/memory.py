"""What is remembered of each object after an apply: enough to judge any later watch event, and little more.

Ten thousand of these must be small, so there are digests and one compressed field set, never a decoded object.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from ocisync.cluster.fields import ManagerEntry, Path, our_entry, owned_paths, parse_managed_fields
from ocisync.model.resource import JsonObject

NO_GENERATION: Final = -1  # ConfigMaps, Secrets and others have none

_DIGEST_BYTES: Final = 12  # against accidents: whoever can forge managedFields can also forge what they prove
_NOTHING: Final = b""
_SMALL_FIELDS_BYTES: Final = 1024
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False)

# Field names of ordinary objects: as a preset dictionary they halve the compressed size of small field sets.
_DICTIONARY: Final = (
    b'"f:verbs":{}"f:rules":{},"f:roleRef":{},"f:subjects":{},"f:data":{"f:'
    b'"f:volumes":{"k:{\\"name\\":\\"":{".":{},"f:configMap":{"f:name":{}},"f:name":{}}'
    b'"f:livenessProbe":{"f:httpGet":{"f:path":{},"f:port":{}}},"f:readinessProbe":{"f:httpGet":{"f:path":{},"f:port":{}}}'
    b'"f:securityContext":{"f:allowPrivilegeEscalation":{},"f:readOnlyRootFilesystem":{},"f:runAsNonRoot":{}}'
    b'"f:volumeMounts":{"k:{\\"mountPath\\":\\"":{".":{},"f:mountPath":{},"f:name":{}}},"f:serviceAccountName":{}'
    b'"f:type":{},"f:ports":{"k:{\\"port\\":80,\\"protocol\\":\\"TCP\\"}":{".":{},"f:name":{},"f:port":{},"f:targetPort":{}}}'
    b'"f:env":{"k:{\\"name\\":\\"":{".":{},"f:name":{},"f:value":{}}},"f:envFrom":{},"f:args":{},"f:command":{}'
    b'"f:resources":{"f:limits":{"f:cpu":{},"f:memory":{}},"f:requests":{"f:cpu":{},"f:memory":{}}}'
    b'"f:ports":{"k:{\\"containerPort\\":8080,\\"protocol\\":\\"TCP\\"}":{".":{},"f:containerPort":{},"f:name":{}}}'
    b'{"f:metadata":{"f:annotations":{"f:"},"f:labels":{"f:app":{},"f:app.kubernetes.io/name":{},'
    b'"f:app.kubernetes.io/part-of":{},"f:applyset.kubernetes.io/part-of":{}}},"f:spec":{"f:replicas":{},"f:selector":{},'
    b'"f:strategy":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":'
    b'{"k:{\\"name\\":\\"":{".":{},"f:image":{},"f:name":{},"f:imagePullPolicy":{}'
)


@dataclass(frozen=True, slots=True)
class Applied:
    """The state that our last apply left behind, taken from the server's answer.

    Attributes:
        resource_version: as an integer; the API server orders versions of one kind by it.
        generation: `NO_GENERATION` for kinds without one.
        owned_digest: of the field set of our Apply entry; empty if we have no entry.
        entry_time: time of our entry as the server wrote it (whole seconds).
        others_digest: of all other entries but those of the status subresource, times included; empty for objects with
            a generation, which tells more.
        owned: our field set, compressed: only read once something was lost, to say what.
    """

    uid: str
    resource_version: int
    generation: int
    owned_digest: bytes
    entry_time: str
    others_digest: bytes
    owned: bytes

    def owned_paths(self) -> frozenset[Path]:
        """The paths that we owned."""
        return owned_paths(_inflate(self.owned))


@dataclass(frozen=True, slots=True)
class Seen:
    """The same figures of an object as a watch event or a GET shows it."""

    uid: str
    resource_version: int
    generation: int
    owned_digest: bytes
    entry_time: str
    others_digest: bytes
    entries: tuple[ManagerEntry, ...]


def applied_of(answer: Mapping[str, Any]) -> Applied:
    """What to remember of the answer to an apply (a full object or PartialObjectMetadata)."""
    metadata = answer.get("metadata") or {}
    entries = parse_managed_fields(answer)
    ours = our_entry(entries)
    generation = _generation(metadata)
    owned_digest, owned = _owned(_canonical(ours.fields)) if ours else (_NOTHING, _NOTHING)
    return Applied(
        uid=str(metadata.get("uid") or ""),
        resource_version=version_of(answer),
        generation=generation,
        owned_digest=owned_digest,
        entry_time=sys.intern(ours.time) if ours else "",
        others_digest=_others_digest(entries) if generation == NO_GENERATION else _NOTHING,
        owned=owned,
    )


def applied_of_bytes(answer: bytes) -> Applied:
    """`applied_of` for the raw body of an answer."""
    return applied_of(json.loads(answer))


def seen_of(obj: Mapping[str, Any]) -> Seen:
    """The figures of an object as it is now."""
    metadata = obj.get("metadata") or {}
    entries = parse_managed_fields(obj)
    ours = our_entry(entries)
    generation = _generation(metadata)
    return Seen(
        uid=str(metadata.get("uid") or ""),
        resource_version=version_of(obj),
        generation=generation,
        owned_digest=_digest(_canonical(ours.fields)) if ours else _NOTHING,
        entry_time=ours.time if ours else "",
        others_digest=_others_digest(entries) if generation == NO_GENERATION else _NOTHING,
        entries=entries,
    )


def glimpse_of(obj: Mapping[str, Any]) -> Seen:
    """`seen_of` without the digests, for objects that need no comparison: most of what an initial list shows."""
    metadata = obj.get("metadata") or {}
    entries = parse_managed_fields(obj)
    uid = str(metadata.get("uid") or "")
    return Seen(uid, version_of(obj), NO_GENERATION, _NOTHING, "", _NOTHING, entries)


def version_of(obj: Mapping[str, Any]) -> int:
    """The resourceVersion as an integer; 0 if it is none."""
    text = str((obj.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _generation(metadata: Mapping[str, Any]) -> int:
    generation = metadata.get("generation")
    return generation if isinstance(generation, int) else NO_GENERATION


def _others_digest(entries: Iterable[ManagerEntry]) -> bytes:
    parts = sorted(
        _canonical([e.manager, e.operation, e.api_version, e.time, e.subresource, e.fields])
        for e in entries
        if not e.ours and e.subresource != "status"
    )
    return _digest(b"\n".join(parts)) if parts else _NOTHING


def _canonical(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _owned(fields: bytes) -> tuple[bytes, bytes]:
    """Digest and compressed form of a field set; the same objects for equal ones, if they are small."""
    return _small_owned(fields) if len(fields) <= _SMALL_FIELDS_BYTES else _owned_anew(fields)


def _owned_anew(fields: bytes) -> tuple[bytes, bytes]:
    packer = zlib.compressobj(level=6, wbits=-12, memLevel=5, zdict=_DICTIONARY)
    return _digest(fields), packer.compress(fields) + packer.flush()


# Thousands of objects that came from one template own the same fields.
_small_owned = lru_cache(maxsize=512)(_owned_anew)


def _inflate(data: bytes) -> JsonObject:
    if not data:
        return {}
    unpacker = zlib.decompressobj(wbits=-12, zdict=_DICTIONARY)
    fields: JsonObject = json.loads(unpacker.decompress(data) + unpacker.flush())
    return fields
