"""Artifacts with all that can hang on them: signatures of both forms, provenance, images with platforms."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ocisync.model.descriptor import EMPTY_JSON, OCI_INDEX, OCI_MANIFEST, Descriptor
from ocisync.model.digest import sha256_digest
from ocisync.model.ref import legacy_signature_tag
from ocisync.oci.client import open_store
from ocisync.oci.store import Store
from ocisync.signing import bundle, legacy
from ocisync.signing.keys import Signer
from tests.support.artifacts import COMMIT_TIME, artifact
from tests.support.images import EMPTY, described, image, index, quick

POD = """apiVersion: v1
kind: Pod
metadata: {{name: p{number}}}
spec:
  containers:
{containers}
"""


def push_signed(store: Store, number: int, signer: Signer, images: tuple[str, ...] = (), *tags: str) -> str:
    """Push artifact `number` as `1.NUMBER.0` and more tags; two signatures, provenance with a signature of its own."""
    text = "".join(f"  - {{name: c{at}, image: '{name}'}}\n" for at, name in enumerate(images)) or "  - {name: c}\n"
    built = artifact({"a.yaml": POD.format(number=number, containers=text.rstrip())})
    store.put_blob(built.layer_descriptor, built.layer)
    store.put_blob(built.config_descriptor, built.config)
    subject = built.descriptor
    store.put_manifest(built.manifest, subject.media_type, subject.digest)
    attach_bundle(store, bundle.make(signer, subject.digest, {}), subject)
    provenance = attach_other(store, f"provenance {number}".encode(), subject)
    attach_bundle(store, bundle.make(signer, provenance.digest, {}), provenance)
    sign_legacy(store, subject.digest, signer)
    for tag in (f"1.{number}.0", *tags):
        store.put_manifest(built.manifest, subject.media_type, tag)
    return subject.digest


def attach_bundle(store: Store, made: bytes, subject: Descriptor) -> Descriptor:
    """A signature bundle."""
    raw, layer = bundle.bundle_manifest(made, subject, COMMIT_TIME)
    store.put_blob(layer, made)
    store.put_blob(EMPTY, EMPTY_JSON)
    return store.attach(raw, subject)


def attach_other(store: Store, content: bytes, subject: Descriptor) -> Descriptor:
    """A referrer that is no signature."""
    layer = described(content, "application/vnd.in-toto+json")
    store.put_blob(layer, content)
    store.put_blob(EMPTY, EMPTY_JSON)
    raw = image(layer, subject=subject, artifactType="application/vnd.example.provenance")
    return store.attach(raw, subject)


def sign_legacy(store: Store, digest: str, signer: Signer) -> None:
    """A signature at the tag `sha256-….sig`, beside those that are there."""
    tag = legacy_signature_tag(digest)
    there = store.manifest(tag).raw if store.resolve(tag) is not None else None
    made = legacy.make(signer, digest, store.repository, {})
    raw, config = legacy.merge(there, made)
    store.put_blob(made.layer, made.payload)
    store.put_blob(described(config), config)
    store.put_manifest(raw, OCI_MANIFEST, tag)


def push_platforms(store: Store, name: str, tag: str, signer: Signer) -> str:
    """Push an image with two platforms, one signed on its own, and a signature for the whole."""
    entries = []
    for platform in ("amd64", "arm64"):
        content = f"{name} for {platform}".encode()
        layer = described(content)
        for descriptor, data in ((layer, content), (EMPTY, EMPTY_JSON)):
            store.put_blob(descriptor, data)
        raw = image(layer)
        child = described(raw, OCI_MANIFEST)
        store.put_manifest(raw, OCI_MANIFEST, child.digest)
        entries.append({**child.as_dict(), "platform": {"os": "linux", "architecture": platform}})
    raw = index(*entries)
    whole = described(raw, OCI_INDEX)
    store.put_manifest(raw, OCI_INDEX, tag)
    attach_bundle(store, bundle.make(signer, whole.digest, {}), whole)
    sign_legacy(store, str(entries[0]["digest"]), signer)
    return whole.digest


@dataclass(frozen=True, slots=True)
class Everything:
    """A repository as it is: tags, and by digest what refers to it and which bytes a manifest has."""

    tags: dict[str, str]
    manifests: dict[str, bytes]
    referrers: dict[str, frozenset[str]]
    blobs: frozenset[str]


def everything(repository: str) -> Everything:
    """Read all of a repository, from its tags; fallback indexes are no tags of it, they are its lists of referrers."""
    with open_store(repository, quick()) as store:
        tags = {}
        for tag in store.tags():
            found = store.resolve(tag)
            is_fallback = tag.startswith("sha256-") and "." not in tag
            if found is not None and not is_fallback:
                tags[tag] = found.digest
        manifests: dict[str, bytes] = {}
        referrers: dict[str, frozenset[str]] = {}
        blobs: set[str] = set()
        waiting = list(tags.values())
        while waiting:
            digest = waiting.pop()
            if digest in manifests:
                continue
            manifests[digest] = store.manifest(digest).raw
            document = json.loads(manifests[digest])
            waiting += [entry["digest"] for entry in document.get("manifests", [])]
            parts = [*([document["config"]] if "config" in document else []), *document.get("layers", [])]
            blobs |= {part["digest"] for part in parts}
            listed = store.referrers(digest)
            referrers[digest] = frozenset(item.digest for item in listed.descriptors)
            waiting += referrers[digest]
        for digest in blobs:
            assert store.has_blob(digest), digest
        for digest, raw in manifests.items():
            assert sha256_digest(raw) == digest
    return Everything(tags, manifests, referrers, frozenset(blobs))
