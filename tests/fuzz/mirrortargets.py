"""The readers of what crosses an air gap: lists of contents, files, receipts, records of adopted trust, MirrorSets.

Beside the usual promise (an answer, or a refusal with words) each keeps one of its own: what is read is written as it
was, bytes have the digests under which they are handed on, a damaged document is nobody's, and no name is a path.
"""

from __future__ import annotations

import functools
import io
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from ocisync.kit.strictjson import Malformed
from ocisync.mirror import trustfile
from ocisync.mirror.archive import ArchiveReader, ArchiveWriter, read_head, write_head
from ocisync.mirror.closure import Closure, Named, RepositoryClosure, Role, Root, Selected, read_item
from ocisync.mirror.contents import CONTENTS_TYPE, Cargo, Contents, parse_contents
from ocisync.mirror.describe import Known, base_of, describe
from ocisync.mirror.filejudge import open_parts
from ocisync.mirror.mirrorset import parse_mirror_set
from ocisync.mirror.receipt import RECEIPT_TYPE, read_receipt, write_receipt
from ocisync.model.descriptor import OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import InvalidInput, Refused
from ocisync.model.ref import Reference
from ocisync.oci.store import Manifest
from ocisync.signing import bundle
from ocisync.signing.envelope import seal, signers_among, unseal
from ocisync.signing.keys import Signer, load_private
from tests.fuzz import mutate
from tests.fuzz.kinds import Defect, Source, Target, refusal, signer
from tests.support.artifacts import COMMIT_TIME, artifact

_PLACE = Reference("registry.example", "shop/config")
_NOW = datetime(2026, 11, 23, tzinfo=UTC)
_CARGO = b"-----BEGIN PUBLIC KEY-----\n"
_SET = {
    "apiVersion": "ocisync.dev/v1alpha1",
    "kind": "MirrorSet",
    "metadata": {"name": "site"},
    "spec": {
        "destination": "mirror.site.local",
        "images": True,
        "imagePaths": ["Prometheus.monitoring.coreos.com=/spec/image"],
        "imagesFrom": [{"from": "docker.io", "to": "cache.example/docker.io"}],
        "repositories": [
            {"source": "registry.example/shop/config", "tags": ["production"], "semver": ">=1.2 <2", "newest": 5},
            {"source": "registry.example/infra", "destination": "mirror.site.local/infra", "patterns": ["v1.*"]},
        ],
    },
}


def _steady() -> Signer:
    """A key whose signatures are the same each time: kept cases name the digests of what it signed."""
    secret = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return load_private(secret.private_bytes(*form))


class _Golden:
    """A small file of one signed artifact, and a delta to it."""

    def __init__(self, key: Signer) -> None:
        built = artifact({"a.yaml": "kind: A\n"})
        made = bundle.make(_steady(), built.descriptor.digest, {})
        raw, layer = bundle.bundle_manifest(made, built.descriptor, COMMIT_TIME)
        signature = Descriptor(OCI_MANIFEST, sha256_digest(raw), len(raw))
        items = (
            read_item(Manifest(built.descriptor, built.manifest), Role.ARTIFACT),
            read_item(Manifest(signature, raw), Role.REFERRER),
        )
        digest = built.descriptor.digest
        part = RepositoryClosure(_PLACE, items, (), (Named("1.0.0", digest), Named("production", digest)))
        roots = tuple(
            Root(Selected(_PLACE, tag.name, digest), Role.ARTIFACT, tuple(one.digest for one in items))
            for tag in part.tags
        )
        self.closure = Closure((part,), roots)
        self.data = {
            digest: built.manifest, signature.digest: raw, layer.digest: made, sha256_digest(_CARGO): _CARGO,
            built.config_descriptor.digest: built.config, built.layer_descriptor.digest: built.layer,
            sha256_digest(b"{}"): b"{}",
        }  # fmt: skip
        cargo = (Cargo("release.pub", sha256_digest(_CARGO), len(_CARGO)),)
        self.whole, self.index = describe(self.closure, "2026-11-23T00:00:00Z", cargo=cargo, trust_version=2)
        base = base_of(self.whole, "sha256:" + "0" * 64)
        known = {name: Known(one.manifests - {signature.digest}, one.blobs) for name, one in base.repositories.items()}
        self.delta, _ = describe(self.closure, "2026-11-24T00:00:00Z", base=type(base)(base.digest, known))
        self.receipt = write_receipt(base.digest, {_PLACE.repository: _PLACE}, base.repositories, _NOW, [key])

    def file(self, envelope: bytes, contents: Contents) -> bytes:
        """The bytes of a file with this list of contents."""
        target = io.BytesIO()
        archive = ArchiveWriter(target)
        write_head(archive, self.index, envelope, contents, self.data.__getitem__)
        for digest, size in contents.rest():
            archive.copy(Descriptor("", digest, size), io.BytesIO(self.data[digest]), lambda _: None)
        archive.end()
        return target.getvalue()


@functools.cache
def _golden() -> _Golden:
    return _Golden(signer())


# Reading ------------------------------------------------------------------------------------------------------------


def _read_contents(data: bytes) -> str:
    try:
        found = parse_contents(data)
    except Malformed as error:
        return refusal(error)
    if parse_contents(found.dump()) != found:
        raise Defect("written otherwise than it was read")
    for item in found.cargo:
        if Path(item.name).name != item.name or item.name == trustfile.STATE:
            raise Defect(f"cargo that is a path: {item.name!r}")
    if {digest for digest, _ in found.head()} & {digest for digest, _ in found.rest()}:
        raise Defect("something twice in the file")
    return "read"


def _read_file(data: bytes) -> str:
    """The head, and what judging makes of it, without a destination."""
    archive = ArchiveReader(io.BytesIO(data), "x.tar")
    try:
        head = read_head(archive)
    except Refused as error:
        return refusal(error)
    for digest, content in head.data.items():
        if sha256_digest(content) != digest:
            raise Defect("other bytes than their digest says")
    if signers_among(head.sealed, [signer().public]) and head.sealed.payload not in _honest_payloads():
        raise Defect("a list of contents that nobody signed")
    try:
        parts = open_parts(head, "x.tar", None, None, 1)
        for digest, size in head.contents.rest():
            archive.stream(digest, size, lambda stream: stream.read())
        archive.end()
    except Refused as error:
        return refusal(error)
    for delivery in parts:
        listed = {entry.digest for entry in delivery.part.manifests} | set(delivery.part.needs_manifests)
        if not {item.digest for item in delivery.closure.items} <= listed:
            raise Defect("a manifest that is not listed for its repository")
    return "read"


@functools.cache
def _honest_payloads() -> frozenset[bytes]:
    return frozenset((_golden().whole.dump(), _golden().delta.dump()))


def _read_receipt(data: bytes) -> str:
    try:
        found = read_receipt(data, "receipt.json", [signer().public])
    except Refused as error:
        return refusal(error)
    if found.sealed.payload != unseal(_golden().receipt, RECEIPT_TYPE, max_bytes=2**20).payload:
        raise Defect("a receipt that nobody signed")
    found.base()
    return "read"


def _read_adopted(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / trustfile.STATE).write_bytes(data)
        try:
            found = trustfile.read_adopted(Path(directory))
        except InvalidInput as error:
            return refusal(error).replace(directory, "DIR")
        (Path(directory) / trustfile.STATE).write_bytes(found.dump())
        if trustfile.read_adopted(Path(directory)) != found:
            raise Defect("written otherwise than it was read")
    return "read"


def _read_set(data: bytes) -> str:
    try:
        found = parse_mirror_set(data, "set.yaml")
    except InvalidInput as error:
        if any(finding.file != "set.yaml" for finding in error.findings):
            raise Defect("a finding in another file") from error
        return refusal(error)
    if not found.repositories:
        raise Defect("a set that selects nothing")
    return "read"


# Making -------------------------------------------------------------------------------------------------------------


def _contents(source: Source) -> bytes:
    one, other = _golden().whole.as_json(), _golden().delta.as_json()
    return mutate.document(*((one, other) if source.random() < 0.7 else (other, one)), source)


def _file(source: Source) -> bytes:
    golden = _golden()
    contents = source.choice((golden.whole, golden.delta))
    signers = source.choice(((), (signer(),)))
    if source.random() < 0.4:
        return mutate.damaged(golden.file(seal(CONTENTS_TYPE, contents.dump(), signers), contents), source)
    payload = mutate.document(contents.as_json(), golden.whole.as_json(), source)
    if signers:  # the damage is not signed
        envelope = json.loads(seal(CONTENTS_TYPE, contents.dump(), signers))
        envelope["payload"] = json.loads(seal(CONTENTS_TYPE, payload, ()))["payload"]
        return golden.file(json.dumps(envelope).encode(), contents)
    return golden.file(seal(CONTENTS_TYPE, payload, ()), contents)


def _receipt(source: Source) -> bytes:
    document: Any = json.loads(_golden().receipt)
    if source.random() < 0.3:
        payload = json.loads(unseal(_golden().receipt, RECEIPT_TYPE, max_bytes=2**20).payload)
        return seal(RECEIPT_TYPE, mutate.document(payload, document, source), ())
    return mutate.document(document, document, source)


def _adopted(source: Source) -> bytes:
    document = json.loads(trustfile.Adopted(3, {"a.pub": "sha256:" + "a" * 64, "b.yaml": "sha256:" + "b" * 64}).dump())
    return mutate.document(document, document, source)


def _mirror_set(source: Source) -> bytes:
    return mutate.document(_SET, _SET["spec"], source)


MIRROR_TARGETS = (
    Target("mirror-contents", 6, _contents, _read_contents),
    Target("mirror-file", 5, _file, _read_file, kept=False),
    Target("mirror-receipt", 4, _receipt, _read_receipt),
    Target("mirror-adopted", 2, _adopted, _read_adopted),
    Target("mirror-set", 3, _mirror_set, _read_set),
)
