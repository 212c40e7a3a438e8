"""Receipts: what the far side has now, written by it, for the next delta and for audit.

A receipt is taken from the destination after a load, not from the file: it lists what is really there, also what came
by earlier files. It carries the names of the sender's repositories, so that the sender can compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.mirror.closure import RepositoryClosure, Selected
from ocisync.mirror.contents import API_VERSION
from ocisync.mirror.describe import Base, Known
from ocisync.mirror.select import Selection, select
from ocisync.mirror.stores import Stores
from ocisync.mirror.walk import WalkOptions, collect
from ocisync.model.clock import format_rfc3339
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import NotFound, Refused
from ocisync.model.limits import MIRROR_CONTENTS_BYTES, MIRROR_REPOSITORIES
from ocisync.model.ref import Place, is_tag
from ocisync.signing.envelope import Sealed, seal, signers_among, unseal
from ocisync.signing.keys import PublicKey, Signer

RECEIPT_TYPE = "application/vnd.ocisync.mirror.receipt.v1+json"
RECEIPT_KIND = "MirrorReceipt"
RECEIPT_BYTES = MIRROR_CONTENTS_BYTES * 3 // 2


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt as it was read.

    Attributes:
        file: digest of the contents that were loaded.
        places: where each of the sender's repositories is, by its name.
    """

    digest: str
    created: str
    file: str
    places: Mapping[str, str]
    repositories: Mapping[str, Known]
    sealed: Sealed

    def base(self) -> Base:
        """What a delta may leave out."""
        return Base(self.digest, self.repositories)


def take(
    routes: Mapping[str, Place], chosen: Mapping[str, Sequence[str]], stores: Stores, *, workers: int = 4
) -> dict[str, Known]:
    """Look what the destination has, by the sender's names.

    Args:
        routes: where the sender's repositories are.
        chosen: digests without a tag that belong to a repository, by its name.
        stores: of the destination.
        workers: requests at a time.
    """
    found: dict[str, Known] = {}
    for name, place in routes.items():
        selected = _everything(place, tuple(chosen.get(name, ())), stores, workers)
        closure = collect(selected, stores, WalkOptions(workers=workers)) if selected else None
        part = closure.repositories[0] if closure is not None and closure.repositories else None
        found[name] = _known(part) if part is not None else Known()
    return found


def _everything(place: Place, digests: tuple[str, ...], stores: Stores, workers: int) -> tuple[Selected, ...]:
    try:
        return select(stores.at(place), place, Selection(digests, patterns=("*",)), workers=workers)
    except NotFound:
        return ()


def _known(part: RepositoryClosure) -> Known:
    tags = {tag.name: tag.digest for tag in part.tags} | {one.tag: one.item.digest for one in part.beside}
    return Known(frozenset(item.digest for item in part.manifests()), frozenset(part.blobs()), tags)


def write_receipt(
    file: str, routes: Mapping[str, Place], known: Mapping[str, Known], now: datetime, signers: Sequence[Signer]
) -> bytes:
    """The bytes of a receipt; unsigned if there is nobody to sign it."""
    document = {
        "apiVersion": API_VERSION,
        "kind": RECEIPT_KIND,
        "created": format_rfc3339(now),
        "file": file,
        "repositories": [
            {
                "name": name,
                "here": routes[name].location,
                "manifests": sorted(known[name].manifests),
                "blobs": sorted(known[name].blobs),
                "tags": dict(sorted(known[name].tags.items())),
            }
            for name in sorted(known)
        ],
    }
    payload = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if len(payload) > MIRROR_CONTENTS_BYTES:
        raise Refused(f"a receipt of {len(payload)} bytes, more than {MIRROR_CONTENTS_BYTES}", reason="TooLarge")
    return seal(RECEIPT_TYPE, payload, signers)


def is_receipt(data: bytes) -> bool:
    """Tell whether bytes look like a receipt: JSON, where a mirror file is a tar."""
    return data[:1] == b"{"


def read_receipt(data: bytes, name: str, keys: Sequence[PublicKey] = ()) -> Receipt:
    """Read a receipt.

    Args:
        data: the bytes.
        name: the file, for messages.
        keys: one of them must have signed it; none: it is not asked.

    Raises:
        Refused: it is none, or not signed as it must be.
    """
    try:
        found = _parse(unseal(data, RECEIPT_TYPE, max_bytes=RECEIPT_BYTES))
    except Malformed as error:
        raise Refused(f"{name} is no receipt: {error}", reason="BadReceipt") from error
    if keys and not signers_among(found.sealed, keys):
        raise Refused(f"{name} is not signed by the key that is given for it", reason="UnknownSigner")
    return found


def _parse(sealed: Sealed) -> Receipt:
    document = parse_json_object(sealed.payload, max_bytes=MIRROR_CONTENTS_BYTES)
    if document.get("apiVersion") != API_VERSION or document.get("kind") != RECEIPT_KIND:
        raise Malformed(f"not a {RECEIPT_KIND} of {API_VERSION}")
    created, file, entries = document.get("created"), document.get("file"), document.get("repositories")
    if not isinstance(created, str) or not isinstance(file, str) or not is_digest(file):
        raise Malformed("created or file is missing")
    if not isinstance(entries, list) or len(entries) > MIRROR_REPOSITORIES:
        raise Malformed("repositories is no list")
    read = [_repository(entry) for entry in entries]
    places = {key: here for key, here, _ in read}
    known = {key: known for key, _, known in read}
    return Receipt(sha256_digest(sealed.payload), created, file, places, known, sealed)


def _repository(entry: Any) -> tuple[str, str, Known]:
    if not isinstance(entry, dict) or set(entry) != {"name", "here", "manifests", "blobs", "tags"}:
        raise Malformed("a repository has other fields than it should")
    name, here, tags = entry["name"], entry["here"], entry["tags"]
    if not isinstance(name, str) or not isinstance(here, str) or not isinstance(tags, dict):
        raise Malformed("a repository has a field of another kind")
    if not all(is_tag(tag) and isinstance(digest, str) and is_digest(digest) for tag, digest in tags.items()):
        raise Malformed(f"{name[:100]!r} has a tag that is none")
    return name, here, Known(_digests(entry["manifests"]), _digests(entry["blobs"]), tags)


def _digests(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and is_digest(item) for item in value):
        raise Malformed("a list of digests holds something else")
    return frozenset(value)
