"""Publish: one commit's manifests become one signed artifact under some tags.

Steps: read the tree → check everything (all findings before any upload) → build → compare with what the tags point to
→ upload blobs, then the manifest by digest → sign and, if asked for, attest the provenance, one signature at a time,
each read back → set tags, immutable names before moving ones, each read back.

Nothing is ever signed or tagged but bytes that were built in this run. A manifest that the registry has already counts
only if its bytes equal ours, or if it differs from ours in nothing but the compression of the layer and its layer was
downloaded and found to hold our content. The same commit again uploads nothing; a push that was killed half-way is
completed by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from ocisync.flows import publishtags, sign
from ocisync.flows.check import SchemaOptions, check_units
from ocisync.flows.publishtags import Current, Wanted
from ocisync.flows.reading import Source, read_source
from ocisync.flows.rendering import explained, units
from ocisync.flows.tagrace import TagRace
from ocisync.manifests.parse import raise_findings
from ocisync.model import limits
from ocisync.model.artifact import ArtifactManifest
from ocisync.model.clock import Clock
from ocisync.model.descriptor import CLAIM_RENDER, CREATED, OCI_MANIFEST, REVISION, SOURCE, Descriptor
from ocisync.model.errors import Finding, InvalidInput, NotFound, Refused, UsageError
from ocisync.model.tree import SourceTree
from ocisync.model.values import dataclass
from ocisync.oci.evidence import EvidenceBudget
from ocisync.oci.store import Store
from ocisync.pack.artifact import BuiltArtifact, Profile, build, parse_manifest
from ocisync.pack.untar import content_digest
from ocisync.source import files as plain_source

if TYPE_CHECKING:
    from ocisync.flows.attest import Attestation
    from ocisync.flows.images import PinnedImage, PinOptions

__all__ = ["PublishRequest", "PublishResult", "Source", "Step", "publish", "read_source"]


class Step(StrEnum):
    """What a push is doing."""

    READ = "Read"
    CHECK = "Check"
    PACK = "Pack"
    COMPARE = "Compare"
    UPLOAD = "Upload"
    SIGN = "Sign"
    TAG = "Tag"


Progress = Callable[[Step, str], None]


def _quiet(_step: Step, _message: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """One push.

    Attributes:
        tags: as typed; `sha-<12 hex>` is added.
        signers: each makes its own signature; none leaves the artifact unsigned.
        annotations: for the manifest, besides created, revision and source.
        claims: signed besides our own.
        expires: when the signature stops to count.
        schema: how objects are held against the schemas of their kinds; None: not at all.
        pin: resolve image tags to digests and list them in the artifact; None: leave images as they are.
        provenance: attest it, of a run in this environment (variables); None: not at all.
        version: of ocisync, for provenance.
        force_tag: let typed tags change that would not.
        if_changed: do nothing if the typed tags already have equal content, of whatever commit.
        dry_run: check, build and compare, and write nothing.
    """

    store: Store
    source: Source | SourceTree
    clock: Clock
    tags: tuple[str, ...] = ()
    signers: tuple[sign.AnySigner, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    expires: datetime | None = None
    profile: str = Profile.OCI
    legacy_signature: bool = False
    allow_plain_secrets: tuple[str, ...] = ()
    schema: SchemaOptions | None = None
    pin: PinOptions | None = None
    provenance: Mapping[str, str] | None = field(default=None, repr=False)
    version: str = ""
    force_tag: bool = False
    if_changed: bool = False
    dry_run: bool = False
    progress: Progress = field(default=_quiet, repr=False)


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What a push did.

    Attributes:
        tags: point to `digest` now (would, in a dry run).
        content_digest: of the uncompressed content: equal for equal files.
        unchanged: everything was there already; nothing was uploaded, signed or tagged.
        location: where it is, if not in `repository` itself: a layout that stands for it.
        warnings: to be shown; no reason to stop.
        tools: what rendered the files, each as `kustomize@v5.8.2`.
        images: all images, if they were pinned.
        attestations: of the provenance, if that was asked for.
    """

    repository: str
    tags: tuple[str, ...]
    digest: str
    content_digest: str
    revision: str
    unchanged: bool
    signatures: tuple[sign.Signature, ...]
    warnings: tuple[Finding, ...]
    notes: tuple[str, ...]
    objects: int
    files: int
    layer_bytes: int
    dry_run: bool = False
    location: str = ""
    tools: tuple[str, ...] = ()
    images: tuple[PinnedImage, ...] = ()
    attestations: tuple[Attestation, ...] = ()

    @property
    def reference(self) -> str:
        """The artifact by digest."""
        return f"{self.location or self.repository}@{self.digest}"

    def as_json(self) -> dict[str, object]:
        """The form that scripts read."""
        answer: dict[str, object] = {
            "reference": self.reference,
            "repository": self.repository,
            "tags": list(self.tags),
            "digest": self.digest,
            "contentDigest": self.content_digest,
            "revision": self.revision,
            "unchanged": self.unchanged,
            "signatures": sign.describe(self.signatures),
        }
        if self.tools:
            answer["tools"] = list(self.tools)
        if self.images:
            answer["images"] = [image.as_json() for image in self.images]
        if self.attestations:
            from ocisync.flows.attest import describe

            answer["attestations"] = describe(self.attestations)
        return answer


def publish(request: PublishRequest) -> PublishResult:
    """Publish.

    Raises:
        InvalidInput: the files are not fit to be published; all findings.
        Refused: uncommitted changes, a tag that must not change, a commit out of time; or the registry refuses.
        UsageError: tags, claims or annotations make no sense.
        AccessDenied, Unavailable: the registry.
    """
    return _Publisher(request).run()


class _Publisher:
    def __init__(self, request: PublishRequest) -> None:
        self._request = request
        self._store = request.store
        self._progress = request.progress
        self._now = request.clock.now()
        self._notes: list[str] = []
        self._wrote = False
        self._manifests: dict[str, ArtifactManifest | None] = {}
        self._images: tuple[PinnedImage, ...] = ()
        self._labels: Mapping[str, str] = {}
        self._attestations: tuple[Attestation, ...] = ()

    def run(self) -> PublishResult:
        request = self._request
        if request.provenance is not None and not request.signers:
            raise UsageError("provenance is worth what its signature is", hint="add --sign-key FILE or --keyless")
        self._progress(Step.READ, "reading files")
        tree = read_source(request.source, request.clock)
        wanted = publishtags.wanted_tags(request.tags, tree.provenance)
        publishtags.check_time(tree.provenance, self._now)
        self._progress(Step.CHECK, f"checking {len(tree.files)} files")
        objects, warnings = _check_tree(tree, request)
        if request.pin is not None:
            tree = self._pinned(tree, request.pin)
            warnings = _check_tree(tree, request)[1]  # no more of the images
        self._progress(Step.PACK, f"packing {objects} objects")
        built = build(tree, annotations=request.annotations, profile=request.profile, labels=self._labels)

        self._progress(Step.COMPARE, f"comparing with {self._store.repository}")
        current = {tag: self._current(tag) for tag in wanted.all}
        skipped = self._skip(built, wanted, current) if request.if_changed else None
        if skipped is not None:  # before tags are judged: none would move
            kept, found = skipped
            self._notes.append(f"{kept.descriptor.digest} has equal content and is kept")
            result = self._result(tree, built, kept.descriptor.digest, wanted.typed, found, warnings, objects)
            return replace(result, revision=kept.annotations.get(REVISION, ""))
        raw, target = self._target(built, wanted, current)
        tags = self._tags(wanted, current, target, tree)
        claims = self._claims(tree, tags)

        signatures = self._existing_signatures(target, claims)
        if not request.dry_run:
            self._upload(built, raw, target)
            signatures = self._sign(target, claims, signatures)
            self._attest(target, tree)
            self._set_tags(tags, wanted, current, raw, target, tree)
        else:
            moves = any(current[tag].digest != target.digest for tag in tags)
            self._wrote = moves or len(signatures) < self._expected_signatures()
            self._attest(target, tree)
        if not request.signers:
            self._notes.append("the artifact is not signed: agents with a trust policy will refuse it; use --sign-key")
        found = tuple(signatures[key] for key in sorted(signatures))
        return self._result(tree, built, target.digest, tags, found, warnings, objects)

    def _pinned(self, tree: SourceTree, options: PinOptions) -> SourceTree:
        from ocisync.flows.images import pin_images  # most pushes pin nothing
        from ocisync.pack.imageslock import BUNDLE_LABELS

        self._progress(Step.CHECK, "resolving images")
        try:
            pinned = pin_images(tree, options)
        except InvalidInput as error:
            raise_findings(explained(error.findings, tree.rendering), hint=error.hint)
            raise
        self._images, self._labels = pinned.images, BUNDLE_LABELS
        self._notes += pinned.notes
        return pinned.tree

    def _result(
        self,
        tree: SourceTree,
        built: BuiltArtifact,
        digest: str,
        tags: tuple[str, ...],
        signatures: tuple[sign.Signature, ...],
        warnings: tuple[Finding, ...],
        objects: int,
    ) -> PublishResult:
        return PublishResult(
            repository=self._store.repository,
            tags=tags,
            digest=digest,
            content_digest=built.diff_id,
            revision=tree.provenance.revision,
            unchanged=not self._wrote,
            signatures=signatures,
            warnings=warnings,
            notes=tuple(self._notes),
            objects=objects,
            files=len(tree.files),
            layer_bytes=len(built.layer),
            dry_run=self._request.dry_run,
            tools=tree.provenance.tools,
            images=self._images,
            attestations=self._attestations,
        )

    # Comparing ------------------------------------------------------------------------------------------------

    def _current(self, tag: str) -> Current:
        descriptor = self._store.resolve(tag)
        if descriptor is None:
            return Current()
        manifest = self._manifest(descriptor.digest)
        if manifest is None:
            self._notes.append(f"tag {tag} points to {descriptor.digest}, which is no artifact of ocisync")
            return Current(descriptor.digest)
        return Current(descriptor.digest, publishtags.created_of(manifest.annotations.get(CREATED, "")))

    def _manifest(self, digest: str) -> ArtifactManifest | None:
        """A manifest of the registry if it has the shape of ours; nothing in it is believed."""
        if digest not in self._manifests:
            try:
                found = self._store.manifest(digest)
                self._manifests[digest] = parse_manifest(found.raw, found.descriptor)
            except (Refused, NotFound):
                self._manifests[digest] = None
        return self._manifests[digest]

    def _target(self, built: BuiltArtifact, wanted: Wanted, current: Mapping[str, Current]) -> tuple[bytes, Descriptor]:
        """Our manifest, or one that a tag has which says the same about the same content in another compression."""
        digests = [current[tag].digest for tag in wanted.all if current[tag].digest]
        if built.descriptor.digest not in digests:
            for digest in dict.fromkeys(digests):
                manifest = self._manifest(digest)
                if manifest is not None and self._is_ours(manifest, built):
                    return manifest.raw, manifest.descriptor
        return built.manifest, built.descriptor

    def _is_ours(self, manifest: ArtifactManifest, built: BuiltArtifact) -> bool:
        if manifest.layer.media_type != built.layer_descriptor.media_type:
            return False
        if built.manifest_with_layer(manifest.layer) != manifest.raw:
            return False
        return self._has_content(manifest, built)

    def _has_content(self, manifest: ArtifactManifest, built: BuiltArtifact) -> bool:
        """Compare contents by bytes, not by what the config claims."""
        if manifest.layer.digest == built.layer_descriptor.digest:
            return True
        try:
            layer = self._store.blob(manifest.layer, max_bytes=limits.LAYER_BYTES)
            return content_digest(layer) == built.diff_id
        except (Refused, NotFound):
            return False

    def _tags(
        self, wanted: Wanted, current: Mapping[str, Current], target: Descriptor, tree: SourceTree
    ) -> tuple[str, ...]:
        for tag in wanted.typed:
            publishtags.check_tag_move(tag, current[tag], target.digest, tree.provenance, force=self._request.force_tag)
        other = current[wanted.automatic].digest if wanted.automatic else ""
        if other and other != target.digest:
            self._notes.append(f"tag {wanted.automatic} has other content ({other}) and is left alone")
            if not wanted.typed:
                raise Refused(
                    f"tag {wanted.automatic} already has other content: {other}, this push is {target.digest}",
                    reason="TagImmutable",
                    hint="name a tag: oci://HOST/REPOSITORY:TAG",
                )
            return wanted.typed
        return wanted.all

    def _skip(
        self, built: BuiltArtifact, wanted: Wanted, current: Mapping[str, Current]
    ) -> tuple[ArtifactManifest, tuple[sign.Signature, ...]] | None:
        """With `if_changed`: what all typed tags point to, if it holds our content and has our signatures."""
        digests = {current[tag].digest for tag in wanted.typed}
        manifest = self._manifest(next(iter(digests))) if len(digests) == 1 and "" not in digests else None
        if manifest is None or not _says_the_same(manifest, built) or not self._has_content(manifest, built):
            return None
        signers, digest = self._request.signers, manifest.descriptor.digest
        extra = self._request.claims
        found = sign.find_signers(self._store, digest, signers, wanted.typed, self._budget(), self._now, claims=extra)
        there = {(signature.signer, signature.format) for signature in found}
        formats = sign.formats_of(with_legacy=self._request.legacy_signature)
        if not there >= {(signer.fingerprint, form) for signer in signers for form in formats}:
            return None
        return manifest, found

    # Writing --------------------------------------------------------------------------------------------------

    def _upload(self, built: BuiltArtifact, raw: bytes, target: Descriptor) -> None:
        self._progress(Step.UPLOAD, f"uploading {target.digest}")
        # Looked for each time: a registry may have lost a blob of a manifest that it still has.
        if target.digest == built.descriptor.digest:
            self._wrote |= self._store.put_blob(built.layer_descriptor, built.layer)
        self._wrote |= self._store.put_blob(built.config_descriptor, built.config)
        if self._store.resolve(target.digest) is None:
            self._store.put_manifest(raw, OCI_MANIFEST, target.digest)
            self._wrote = True
        if self._store.manifest(target.digest).raw != raw:
            raise Refused(f"{target.digest} does not read back as it was written", reason="BadArtifact")

    def _claims(self, tree: SourceTree, tags: tuple[str, ...]) -> dict[str, str]:
        origin = tree.provenance
        claims = sign.make_claims(
            repository=self._store.repository,
            revision=origin.revision,
            tags=tags,
            sequence=int(origin.committed_at.timestamp()),
            signed=self._now,
            expires=self._request.expires,
            extra=self._request.claims,
        )
        if origin.tools:
            claims[CLAIM_RENDER] = " ".join(origin.tools)
        return claims

    def _budget(self) -> EvidenceBudget:
        return EvidenceBudget(self._request.clock.monotonic)

    def _expected_signatures(self) -> int:
        formats = sign.formats_of(with_legacy=self._request.legacy_signature)
        return len({signer.fingerprint for signer in self._request.signers}) * len(formats)

    def _existing_signatures(self, target: Descriptor, claims: Mapping[str, str]) -> sign.Signatures:
        if not self._request.signers or self._store.resolve(target.digest) is None:
            return {}
        formats = sign.formats_of(with_legacy=self._request.legacy_signature)
        return sign.find_signatures(self._store, target.digest, self._request.signers, claims, formats, self._budget())

    def _sign(self, target: Descriptor, claims: Mapping[str, str], existing: sign.Signatures) -> sign.Signatures:
        signatures = dict(existing)
        for signer in self._request.signers:
            for form in sign.formats_of(with_legacy=self._request.legacy_signature):
                if (signer.fingerprint, form) in signatures:
                    continue
                self._progress(Step.SIGN, f"signing with {signer.fingerprint}")
                signatures[signer.fingerprint, form] = sign.write(self._store, target, signer, claims, form, self._now)
                self._wrote = True
        return signatures

    def _attest(self, target: Descriptor, tree: SourceTree) -> None:
        request = self._request
        if request.provenance is None:
            return
        from ocisync.flows import provenance  # most pushes attest nothing

        self._progress(Step.SIGN, "attesting where it comes from")
        chosen = {"annotations": dict(request.annotations), "profile": str(request.profile)}
        facts = provenance.facts_of(
            tree, self._images, request.provenance, chosen, started=self._now, version=request.version
        )
        job = provenance.Job(self._store, target, request.signers, facts, request.clock)
        found = job.found() if self._store.resolve(target.digest) is not None else {}
        self._wrote |= len(found) < len({signer.fingerprint for signer in request.signers})
        self._attestations = tuple(found.values()) if request.dry_run else job.complete(found)

    def _set_tags(
        self,
        tags: tuple[str, ...],
        wanted: Wanted,
        current: Mapping[str, Current],
        raw: bytes,
        target: Descriptor,
        tree: SourceTree,
    ) -> None:
        request = self._request
        race = TagRace(self._store, tree.provenance, request.signers, self._budget, self._now)
        for tag in publishtags.immutable_first(tags, wanted.automatic):
            if current[tag].digest == target.digest:
                continue
            can_race = not (request.force_tag or publishtags.is_immutable(tag, wanted.automatic))
            if can_race:
                race.look()
            # Somebody may have pushed while we uploaded: decide again on what is there now.
            now = self._current(tag)
            if now.digest == target.digest:
                continue
            if now.digest != current[tag].digest:
                if tag == wanted.automatic:
                    self._notes.append(f"tag {tag} has got other content ({now.digest}) and is left alone")
                    continue
                publishtags.check_tag_move(tag, now, target.digest, tree.provenance, force=request.force_tag)
            self._progress(Step.TAG, f"setting tag {tag}")
            self._store.put_manifest(raw, OCI_MANIFEST, tag)
            self._wrote = True
            after = self._store.resolve(tag)
            if after is None or after.digest != target.digest:
                shown = after.digest if after else "nothing"
                raise Refused(
                    f"tag {tag} points to {shown} right after it was set to {target.digest}",
                    reason="TagMutated",
                    hint="another push is running, or the registry does not let this tag move; push again",
                )
            if can_race and (told := race.settle(tag)):
                self._notes.append(told)


def _check_tree(tree: SourceTree, request: PublishRequest) -> tuple[int, tuple[Finding, ...]]:
    checked = check_units(units(tree), allow_plain_secrets=request.allow_plain_secrets, schema=request.schema)
    raise_findings(explained(checked.errors, tree.rendering))
    if not checked.objects:
        raise _nothing_to_publish(tree)
    told = tree.rendering.warnings if tree.rendering is not None else ()
    return checked.objects, (*told, *explained(checked.warnings, tree.rendering))


def _says_the_same(manifest: ArtifactManifest, built: BuiltArtifact) -> bool:
    """Tell whether a manifest differs from ours at most in the commit that it names (content is compared elsewhere)."""
    theirs, ours = dict(manifest.annotations), dict(built.annotations)
    for name in (CREATED, REVISION, SOURCE):
        theirs.pop(name, None)
        ours.pop(name, None)
    return manifest.layer.media_type == built.layer_descriptor.media_type and theirs == ours


def _nothing_to_publish(tree: SourceTree) -> InvalidInput:
    if [file.path for file in tree.files] == [plain_source.STDIN_FILE] and not tree.provenance.commit:
        return InvalidInput("no manifest on stdin", hint="look at what the command before the | prints")
    if not tree.files:
        return InvalidInput(
            "no file to publish", hint="name a directory with files; look at what its .ocisyncignore leaves out"
        )
    return InvalidInput(
        f"no manifest among {len(tree.files)} files",
        hint="name the directory with the *.yaml files of one environment",
    )
