"""Collect the signatures that lie beside a digest, as bytes, within a budget. Nothing here is believed.

Looked at: every listed referrer (its own manifest decides what it is, not its descriptor) and the legacy tag
`sha256-<hex>.sig`. Referrers whose descriptor hints at a signature bundle are read first; otherwise the registry's
order is kept. Large bundles come last, the smaller ones first: signatures are small, and attestations must not use up
what signatures need. Hostile or broken entries become `problems` and cost only themselves. Whatever was left unread
makes the set `truncated`: more evidence may exist, so its absence proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ocisync.model.descriptor import BUNDLE_V03, BUNDLE_V03_PARAMETER, OCI_MANIFEST, SIMPLE_SIGNING, Descriptor
from ocisync.model.digest import parse_digest
from ocisync.model.errors import NotFound, OcisyncError, Refused
from ocisync.model.evidence import EvidenceSet, RawSignature, SignatureFormat
from ocisync.model.limits import (
    BUNDLE_BYTES,
    EVIDENCE_BYTES,
    EVIDENCE_DESCRIPTORS,
    EVIDENCE_MANIFESTS,
    EVIDENCE_SECONDS,
    MANIFEST_BYTES,
)
from ocisync.model.ref import legacy_signature_tag
from ocisync.model.values import dataclass
from ocisync.oci.documents import descriptor_of, parse_json
from ocisync.oci.store import Manifest, Store, TimedStore

LEGACY_SIGNATURE = "dev.cosignproject.cosign/signature"
SIGNATURE_CHARS = 16 * 1024  # an RSA-16384 signature in base64 has under 3 KiB
PROBLEMS_COUNT = 50
_LIST_SHARE, _ITEM_SHARE = 1 / 2, 1 / 3  # of the seconds: for the list, and for one request after it
SMALL_BUNDLE_BYTES = 32 * 1024  # a keyless signature has about 10 KiB

_BUNDLES = frozenset({BUNDLE_V03, BUNDLE_V03_PARAMETER})
_BUNDLE_HINT = "application/vnd.dev.sigstore.bundle"


@dataclass(frozen=True, slots=True)
class EvidenceBudget:
    """What may be spent on one digest: listed descriptors, fetched manifests, bytes, seconds."""

    monotonic: Callable[[], float]
    descriptors: int = EVIDENCE_DESCRIPTORS
    manifests: int = EVIDENCE_MANIFESTS
    bytes: int = EVIDENCE_BYTES
    seconds: float = EVIDENCE_SECONDS


def collect(store: Store, digest: str, *, budget: EvidenceBudget) -> EvidenceSet:
    """Fetch all evidence for a digest that the budget allows.

    Raises:
        AccessDenied, Unavailable: the lists cannot be read, or nothing could be read for such a reason. (An outage
            must not look like a missing signature.)
    """
    return _Collector(store, parse_digest(digest), budget).run()


class _Exhausted(Exception):
    """The budget is used up."""


class _Collector:
    def __init__(self, store: Store, digest: str, budget: EvidenceBudget) -> None:
        self._whole = store
        self._digest = digest
        self._budget = budget
        self._deadline = budget.monotonic() + budget.seconds
        self._manifests = budget.manifests
        self._bytes = budget.bytes
        self._items: list[RawSignature] = []
        self._large: list[tuple[str, Descriptor]] = []  # bundles: of which manifest, and where
        self._problems: list[str] = []
        self._truncated = False
        self._failure: OcisyncError | None = None

    def _store(self, share: float) -> Store:
        """For requests that may use a share of the seconds: one slow answer must leave time for a good one."""
        if not isinstance(self._whole, TimedStore):
            return self._whole
        left = self._deadline - self._budget.monotonic()
        if left <= 0:
            raise _Exhausted
        return self._whole.within(min(left, share * self._budget.seconds))

    def run(self) -> EvidenceSet:
        try:
            for descriptor in sorted(self._listed(), key=_unlikely):
                self._attempt(descriptor.digest, partial(self._referrer, descriptor))
            self._attempt(legacy_signature_tag(self._digest), self._legacy)
        except _Exhausted:
            self._truncated = True
        try:
            for source, layer in sorted(self._large, key=lambda found: found[1].size):
                self._attempt(source, partial(self._bundle, source, layer))
        except _Exhausted:
            self._truncated = True
        if not self._items and self._failure is not None:
            raise self._failure
        problems = list(dict.fromkeys(self._problems))
        return EvidenceSet(tuple(self._items), self._truncated, tuple(problems[:PROBLEMS_COUNT]))

    def _listed(self) -> tuple[Descriptor, ...]:
        listed = self._store(_LIST_SHARE).referrers(self._digest)
        self._truncated = listed.truncated or len(listed.descriptors) > self._budget.descriptors
        self._problems += listed.problems
        return listed.descriptors[: self._budget.descriptors]

    def _attempt(self, source: str, read: Callable[[], None]) -> None:
        """Read one source; its failure is its own."""
        try:
            read()
        except (Refused, NotFound) as error:
            self._problems.append(f"{source}: {error.message}")
        except OcisyncError as error:
            # Not the content's fault: something may be there that we could not see.
            self._problems.append(f"{source}: {error.message}")
            self._truncated = True
            self._failure = self._failure or error

    # -- spending ---------------------------------------------------------------------------------

    def _fetch_manifest(self, ref: str, size: int) -> Manifest:
        if self._manifests <= 0:
            raise _Exhausted
        self._spend(size)
        self._manifests -= 1
        manifest = self._store(_ITEM_SHARE).manifest(ref)
        self._bytes -= max(0, len(manifest.raw) - size)  # a list may say less than comes
        return manifest

    def _fetch_payload(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > BUNDLE_BYTES:
            raise Refused(f"signature of {descriptor.size} bytes, more than the limit of {BUNDLE_BYTES}")
        self._spend(descriptor.size)
        return self._store(_ITEM_SHARE).blob(descriptor, max_bytes=BUNDLE_BYTES)

    def _spend(self, size: int) -> None:
        if size > self._bytes or self._budget.monotonic() > self._deadline:
            raise _Exhausted
        self._bytes -= size

    # -- reading ----------------------------------------------------------------------------------

    def _referrer(self, descriptor: Descriptor) -> None:
        if descriptor.media_type != OCI_MANIFEST:
            return  # an index or a Docker manifest carries no signature of a known form
        if descriptor.size > MANIFEST_BYTES:
            raise Refused(f"manifest of {descriptor.size} bytes, more than the limit of {MANIFEST_BYTES}")
        manifest = self._fetch_manifest(descriptor.digest, descriptor.size)
        for layer, _ in self._layers(manifest):
            if layer.media_type in _BUNDLES:
                source = manifest.descriptor.digest
                if SMALL_BUNDLE_BYTES < layer.size <= BUNDLE_BYTES:
                    self._large.append((source, layer))
                else:
                    self._bundle(source, layer)

    def _bundle(self, source: str, layer: Descriptor) -> None:
        self._items.append(RawSignature(SignatureFormat.BUNDLE, source, self._fetch_payload(layer)))

    def _legacy(self) -> None:
        tag = legacy_signature_tag(self._digest)
        found = self._store(_ITEM_SHARE).resolve(tag)
        if found is None:
            return
        if found.size > MANIFEST_BYTES:
            raise Refused(f"manifest of {found.size} bytes, more than the limit of {MANIFEST_BYTES}")
        manifest = self._fetch_manifest(found.digest, found.size)
        for layer, unsigned in self._layers(manifest):
            if layer.media_type == SIMPLE_SIGNING:
                read = partial(self._legacy_layer, manifest, layer, unsigned)
                self._attempt(f"{tag} layer {layer.digest}", read)

    def _legacy_layer(self, manifest: Manifest, layer: Descriptor, unsigned: dict[str, Any]) -> None:
        signature = unsigned.get(LEGACY_SIGNATURE)
        if not isinstance(signature, str) or not 0 < len(signature) <= SIGNATURE_CHARS:
            raise Refused("the layer carries no usable signature annotation")
        payload = self._fetch_payload(layer)
        self._items.append(RawSignature(SignatureFormat.LEGACY, manifest.descriptor.digest, payload, signature))

    def _layers(self, manifest: Manifest) -> list[tuple[Descriptor, dict[str, Any]]]:
        what = f"manifest {manifest.descriptor.digest}"
        layers = parse_json(manifest.raw, what).get("layers")
        if not isinstance(layers, list):
            raise Refused("the manifest has no list of layers")
        if len(layers) > self._budget.descriptors:
            self._truncated = True
        found = []
        for layer in layers[: self._budget.descriptors]:
            descriptor = descriptor_of(layer)
            if descriptor is not None:
                annotations = layer.get("annotations")
                found.append((descriptor, annotations if isinstance(annotations, dict) else {}))
        return found


def _unlikely(descriptor: Descriptor) -> bool:
    """Sort key (stable): referrers that call themselves bundles come first."""
    return not descriptor.artifact_type.startswith(_BUNDLE_HINT)
