"""An artifact: one OCI image manifest, one config, one layer. Built from files; read from what a registry sent.

Nothing that names a tool version, a host or the time of the run goes into it: the same commit and options give the
same bytes. `created` is the commit time. Nothing that a manifest says about itself is evidence of anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NoReturn

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model import limits
from ocisync.model.artifact import ArtifactManifest, VerdictReason
from ocisync.model.clock import format_rfc3339
from ocisync.model.descriptor import (
    CREATED,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    FLUX_CONFIG,
    FLUX_LAYER,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    REVISION,
    SOURCE,
    Descriptor,
)
from ocisync.model.digest import is_digest, sha256_digest
from ocisync.model.errors import Finding, InvalidInput, Refused, UsageError
from ocisync.model.tree import SourceTree
from ocisync.model.values import dataclass
from ocisync.pack.tar import count_entries, gzip, write_tar

_IGNORE_HINT = "push a smaller directory, or list what is no manifest in .ocisyncignore"
_OWN_ANNOTATIONS = {CREATED: "the commit time", REVISION: "--ref", SOURCE: "--source"}


class Profile(StrEnum):
    """Media types to write. OCI's own suit every consumer; Flux's are for tools that insist on them.

    `imgpkg copy` reads the lock of a bundle only from a layer of Docker's type, which Argo CD does not take.
    """

    OCI = "oci"
    FLUX = "flux"
    IMGPKG = "imgpkg"


_TYPES = {
    Profile.OCI: (OCI_CONFIG, OCI_LAYER),
    Profile.FLUX: (FLUX_CONFIG, FLUX_LAYER),
    Profile.IMGPKG: (OCI_CONFIG, DOCKER_LAYER),
}


@dataclass(frozen=True, slots=True)
class BuiltArtifact:
    """An artifact whose every byte was made in this run.

    Attributes:
        diff_id: digest of the uncompressed tar: equal for equal content, whatever compressed it.
    """

    manifest: bytes
    config: bytes
    layer: bytes
    descriptor: Descriptor
    config_descriptor: Descriptor
    layer_descriptor: Descriptor
    diff_id: str
    annotations: Mapping[str, str]

    def manifest_with_layer(self, layer: Descriptor) -> bytes:
        """The manifest as it would be had another zlib compressed the same tar into `layer`."""
        return _manifest(self.config_descriptor, layer, self.annotations)


def build(
    tree: SourceTree,
    *,
    annotations: Mapping[str, str] = MappingProxyType({}),
    profile: str = Profile.OCI,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> BuiltArtifact:
    """Pack a tree.

    Args:
        tree: the files.
        annotations: of the manifest, besides ours.
        profile: which media types to write.
        labels: of the image config, besides revision and source.

    Raises:
        InvalidInput: for paths that cannot be packed, and for more than an agent would unpack.
        UsageError: for annotations that are not free to choose.
    """
    config_type, layer_type = _TYPES[Profile(profile)]
    own = _annotations(tree, annotations)
    tar = write_tar(tree.files)
    layer = gzip(tar)
    diff_id = sha256_digest(tar)
    _check_caps(tree, len(tar), len(layer))
    config = _json(
        {
            "architecture": "amd64",
            "config": {"Labels": {**labels, **{key: own[key] for key in (REVISION, SOURCE) if key in own}}},
            "created": own[CREATED],
            "os": "linux",
            "rootfs": {"diff_ids": [diff_id], "type": "layers"},
        }
    )
    config_descriptor = Descriptor(config_type, sha256_digest(config), len(config))
    layer_descriptor = Descriptor(layer_type, sha256_digest(layer), len(layer))
    manifest = _manifest(config_descriptor, layer_descriptor, own)
    return BuiltArtifact(
        manifest=manifest,
        config=config,
        layer=layer,
        descriptor=Descriptor(OCI_MANIFEST, sha256_digest(manifest), len(manifest)),
        config_descriptor=config_descriptor,
        layer_descriptor=layer_descriptor,
        diff_id=diff_id,
        annotations=own,
    )


def _annotations(tree: SourceTree, extra: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in extra.items():
        if key in _OWN_ANNOTATIONS:
            raise UsageError(f"annotation {key} is set from {_OWN_ANNOTATIONS[key]}", hint="leave it out")
        if not key or any(ord(char) < 0x20 for char in key):
            raise UsageError(f"bad annotation key {key!r}")
        try:
            (key + value).encode()
        except UnicodeEncodeError:
            raise UsageError(f"annotation {key!r} is not UTF-8") from None
    origin = tree.provenance
    labels = {**extra, CREATED: format_rfc3339(origin.committed_at)}
    if origin.revision:
        labels[REVISION] = origin.revision
    if origin.source:
        labels[SOURCE] = origin.source
    return MappingProxyType(labels)


def _check_caps(tree: SourceTree, tar_bytes: int, layer_bytes: int) -> None:
    # What the agent would refuse is refused here, where someone can act on it.
    findings = [
        Finding(file.path, 0, 0, f"{len(file.data)} bytes, more than the limit of {limits.UNPACKED_FILE_BYTES}")
        for file in tree.files
        if len(file.data) > limits.UNPACKED_FILE_BYTES
    ]
    if findings:
        raise InvalidInput(str(findings[0]), findings=tuple(findings), hint=_IGNORE_HINT)
    entries = count_entries(tree.files)
    if entries > limits.UNPACKED_ENTRIES:
        raise InvalidInput(
            f"the directory packs to {entries} tar entries (files, directories, long names), more than the limit of"
            f" {limits.UNPACKED_ENTRIES}",
            hint=_IGNORE_HINT,
        )
    if layer_bytes > limits.LAYER_BYTES or tar_bytes > limits.UNPACKED_BYTES:
        raise InvalidInput(
            f"the directory packs to {layer_bytes} bytes ({tar_bytes} unpacked): more than an artifact may hold",
            hint=_IGNORE_HINT,
        )
    if tar_bytes > limits.UNPACKED_RATIO_FLOOR and tar_bytes > layer_bytes * limits.UNPACKED_RATIO:
        raise InvalidInput(
            f"the files compress more than {limits.UNPACKED_RATIO} to 1: agents would refuse it as a bomb",
            hint=_IGNORE_HINT,
        )


def _manifest(config: Descriptor, layer: Descriptor, annotations: Mapping[str, str]) -> bytes:
    return _json(
        {
            "annotations": dict(annotations),
            "config": config.as_dict(),
            "layers": [layer.as_dict()],
            "mediaType": OCI_MANIFEST,
            "schemaVersion": 2,
        }
    )


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# Reading ----------------------------------------------------------------------------------------------------------

# What tools write: manifest type → types of config and layer. Flux's come from `flux push artifact`, Docker's from
# `imgpkg push`.
_READABLE = {
    OCI_MANIFEST: ((OCI_CONFIG, FLUX_CONFIG), (OCI_LAYER, FLUX_LAYER, DOCKER_LAYER)),
    DOCKER_MANIFEST: ((DOCKER_CONFIG,), (DOCKER_LAYER,)),
}


def parse_manifest(raw: bytes, descriptor: Descriptor) -> ArtifactManifest:
    """Read manifest bytes that were fetched as `descriptor`.

    Raises:
        Refused: reason BadArtifact, unless it is an image manifest with one gzip layer that belongs to its digest.
    """
    if sha256_digest(raw) != descriptor.digest:
        _refuse(descriptor, "its bytes have another digest")
    try:
        document = parse_json_object(raw, max_bytes=limits.MANIFEST_BYTES)
    except Malformed as err:
        _refuse(descriptor, str(err))
    media_type = document.get("mediaType")
    if media_type == OCI_INDEX or "manifests" in document:
        _refuse(descriptor, "it is an index, not one manifest")
    types = _READABLE.get(media_type) if isinstance(media_type, str) else None
    if types is None or document.get("schemaVersion") != 2:
        _refuse(descriptor, f"mediaType is {str(media_type)[:100]!r}, not {OCI_MANIFEST}")
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        _refuse(descriptor, "it must have exactly one layer")
    config = _descriptor(document.get("config"), descriptor, "config", types[0], limits.CONFIG_BYTES)
    layer = _descriptor(layers[0], descriptor, "layer", types[1], limits.LAYER_BYTES)
    annotations = document.get("annotations")
    if annotations is None:
        annotations = {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        _refuse(descriptor, "annotations must be strings")
    found = Descriptor(str(media_type), descriptor.digest, len(raw))
    return ArtifactManifest(found, raw, config, layer, MappingProxyType(annotations))


def check_config(raw: bytes, manifest: ArtifactManifest) -> str:
    """The digest of the tar that an image config claims. The reader of the layer must find the same.

    Flux's configs claim nothing (`diff_ids` is null): then it is empty, and the layer's own digest is what counts.

    Raises:
        Refused: reason BadArtifact.
    """
    try:
        document = parse_json_object(raw, max_bytes=limits.CONFIG_BYTES)
    except Malformed as err:
        _refuse(manifest.descriptor, f"its config: {err}")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not diff_ids and manifest.config.media_type == FLUX_CONFIG:
        return ""
    if not isinstance(diff_ids, list) or len(diff_ids) != 1:
        _refuse(manifest.descriptor, "its config must name exactly one rootfs.diff_ids")
    claimed = diff_ids[0]
    if not isinstance(claimed, str) or not is_digest(claimed):
        _refuse(manifest.descriptor, "its config names no sha256 digest")
    return claimed


def _descriptor(value: Any, owner: Descriptor, what: str, types: tuple[str, ...], max_bytes: int) -> Descriptor:
    if not isinstance(value, dict):
        _refuse(owner, f"it has no {what}")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if media_type not in types:
        _refuse(owner, f"{what} type is {str(media_type)[:100]!r}, not {' or '.join(types)}")
    if not isinstance(digest, str) or not is_digest(digest):
        _refuse(owner, f"{what} has no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= max_bytes:
        _refuse(owner, f"{what} size is not between 0 and {max_bytes} bytes")
    return Descriptor(str(media_type), digest, size)


def _refuse(descriptor: Descriptor, why: str) -> NoReturn:
    raise Refused(
        f"{descriptor.digest} is no artifact of ours: {why}",
        reason=VerdictReason.BAD_ARTIFACT.value,
        hint="push it again with ocisync push",
    )
