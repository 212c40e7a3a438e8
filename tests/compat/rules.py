"""How other tools read an artifact: their rules, one function each, with the words of their sources.

Written from their code (Flux source-controller with fluxcd/pkg, Argo CD's `util/oci`, Config Sync's `pkg/oci`, imgpkg's
`pkg/imgpkg`), in July to November 2026, with the standard library alone: nothing of ocisync reads or writes here, so
that writer and judge cannot be wrong in the same way. A rule returns what is wrong, or nothing.

All settings are the defaults of the tool.
"""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ARGO_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
)
ARGO_EXTRACTED_BYTES = 10**9
BUNDLE_LABEL = "dev.carvel.imgpkg.bundle"


@dataclass(frozen=True)
class Image:
    """An artifact as a registry hands it out: the manifest's bytes, and its blobs by digest."""

    manifest: bytes
    blobs: dict[str, bytes]

    @cached_property
    def document(self) -> Any:
        return json.loads(self.manifest)

    @property
    def layers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.document.get("layers") or []
        return found

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        return self.blobs[descriptor["digest"]]

    @property
    def config(self) -> Any:
        return json.loads(self.blob(self.document["config"]))

    def entries(self, layer: dict[str, Any]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(self.blob(layer)))) as tar:
            for info in tar:
                file = tar.extractfile(info) if info.isreg() else None
                yield info, file.read() if file else b""

    def all_entries(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        for layer in self.layers:
            yield from self.entries(layer)


Rule = Callable[[Image], str]
RULES: dict[str, Rule] = {}


def rule(tool: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES[f"{tool}: {function.__name__}"] = function
        return function

    return register


# Flux: source-controller and fluxcd/pkg/oci, fluxcd/pkg/tar -----------------------------------------------------------


@rule("flux")
def an_index_is_not_searched(image: Image) -> str:
    return "an index" if "manifests" in image.document or not image.layers else ""


@rule("flux")
def the_first_layer_is_gzip(image: Image) -> str:
    """`requires gzip-compressed body`."""
    return "" if image.blob(image.layers[0])[:2] == b"\x1f\x8b" else "not gzip"


@rule("flux")
def paths_are_relative_and_hold_no_backslash(image: Image) -> str:
    """`tar contained invalid name error`: `validRelPath`."""
    for info, _ in image.entries(image.layers[0]):
        name = info.name
        if not name or "\\" in name or name.startswith("/") or "../" in name:
            return repr(name)
    return ""


@rule("flux")
def entries_are_files_or_directories(image: Image) -> str:
    """`contained unsupported file type`; links would be dropped without a word."""
    return next((info.name for info, _ in image.entries(image.layers[0]) if not (info.isreg() or info.isdir())), "")


@rule("flux")
def files_are_not_newer_than_now(image: Image) -> str:
    """Times are kept: a file of the future would change the checksum of Flux's own archive from run to run."""
    return next((info.name for info, _ in image.entries(image.layers[0]) if info.mtime != 0), "")


@rule("flux")
def the_revision_names_branch_and_commit(image: Image) -> str:
    """`<branch|tag>@sha1:<commit>`, from which commit statuses are made."""
    revision = (image.document.get("annotations") or {}).get("org.opencontainers.image.revision", "")
    name, _, commit = revision.partition("@sha1:")
    return "" if name and len(commit) == 40 else repr(revision)


@rule("flux")
def what_is_not_a_kubernetes_object_is_ignored(image: Image) -> str:
    """kustomize-controller walks hidden directories too: an ImagesLock there is `missing metadata.name`."""
    files = {info.name: data for info, data in image.entries(image.layers[0]) if info.isreg()}
    if not any(name.startswith(".imgpkg/") for name in files):
        return ""
    lines = files.get(".sourceignore", b"").decode().split()
    return "" if any(line.strip("/") == ".imgpkg" for line in lines) else "no .sourceignore names .imgpkg/"


# Argo CD: util/oci/client.go, util/io/files/tar.go -------------------------------------------------------------------


@rule("argocd")
def the_top_is_an_image_manifest(image: Image) -> str:
    """An index decodes to no layers: `expected only a single oci content layer, got 0`."""
    return "" if image.layers else "no layers"


@rule("argocd")
def there_are_at_most_ten_layers(image: Image) -> str:
    return "" if len(image.layers) <= 10 else f"{len(image.layers)} layers"


@rule("argocd")
def exactly_one_layer_is_content(image: Image) -> str:
    """`expected only a single oci content layer`."""
    content = [item for item in image.layers if item["mediaType"].endswith(("tar+gzip", "tar.gzip", "tar"))]
    return "" if len(content) == 1 else f"{len(content)} content layers"


@rule("argocd")
def the_layer_type_is_allowed(image: Image) -> str:
    """`ARGOCD_REPO_SERVER_OCI_LAYER_MEDIA_TYPES`."""
    return next((item["mediaType"] for item in image.layers if item["mediaType"] not in ARGO_LAYERS), "")


@rule("argocd")
def the_config_is_not_that_of_a_chart(image: Image) -> str:
    kind = image.document["config"]["mediaType"]
    return kind if kind == "application/vnd.cncf.helm.config.v1+json" else ""


@rule("argocd")
def no_path_leaves_the_root(image: Image) -> str:
    """`os.Root` refuses it."""
    for info, _ in image.all_entries():
        clean = posixpath.normpath(info.name).lstrip("/")
        if clean == ".." or clean.startswith("../"):
            return info.name
    return ""


@rule("argocd")
def unpacked_it_fits_into_one_gigabyte(image: Image) -> str:
    """`ARGOCD_REPO_SERVER_OCI_MANIFEST_MAX_EXTRACTED_SIZE`; beyond it the tar ends in the middle."""
    size = sum(len(gzip.decompress(image.blob(layer))) for layer in image.layers)
    return "" if size <= ARGO_EXTRACTED_BYTES else f"{size} bytes"


@rule("argocd")
def the_manifest_is_smaller_than_four_mebibytes(image: Image) -> str:
    return "" if len(image.manifest) <= 4 << 20 else f"{len(image.manifest)} bytes"


# Config Sync: pkg/oci ------------------------------------------------------------------------------------------------


@rule("configsync")
def every_layer_is_a_tar(image: Image) -> str:
    """All layers are unpacked and merged, so a layer of anything else ends the sync."""
    for layer in image.layers:
        try:
            list(image.entries(layer))
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            return str(error)
    return ""


@rule("configsync")
def a_directory_stands_before_what_is_in_it(image: Image) -> str:
    """Parents are not made: `open …: no such file or directory`."""
    made: set[str] = set()
    for info, _ in image.all_entries():
        name = info.name.rstrip("/")
        parent = posixpath.dirname(name)
        if parent and parent not in made:
            return name
        if info.isdir():
            made.add(name)
    return ""


@rule("configsync")
def modes_let_the_reader_in(image: Image) -> str:
    """Modes are used as given, and the reader is another user."""
    for info, _ in image.all_entries():
        if info.mode & (0o555 if info.isdir() else 0o444) != (0o555 if info.isdir() else 0o444):
            return f"{info.name} {info.mode:o}"
    return ""


@rule("configsync")
def nothing_is_named_like_a_deletion_mark(image: Image) -> str:
    return next((i.name for i, _ in image.all_entries() if posixpath.basename(i.name).startswith(".wh.")), "")


# imgpkg: pkg/imgpkg/image, pkg/imgpkg/bundle -------------------------------------------------------------------------


@rule("imgpkg")
def the_config_is_an_image_config(image: Image) -> str:
    """Parsed for its labels and `rootfs.diff_ids`."""
    config = image.config
    ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(ids) != len(image.layers):
        return f"{len(ids)} diff_ids for {len(image.layers)} layers"
    return "" if isinstance(config.get("config"), dict) else "no config"


@rule("imgpkg")
def the_diff_id_is_that_of_the_tar(image: Image) -> str:
    """go-containerregistry checks it while it unpacks."""
    import hashlib

    for layer, claimed in zip(image.layers, image.config["rootfs"]["diff_ids"], strict=True):
        found = "sha256:" + hashlib.sha256(gzip.decompress(image.blob(layer))).hexdigest()
        if found != claimed:
            return f"{claimed} is {found}"
    return ""


@rule("imgpkg")
def a_bundle_has_label_and_lock_or_neither(image: Image) -> str:
    """`Expected bundle image but found plain image`, `Expected image, but found bundle`."""
    labels = image.config["config"].get("Labels") or {}
    names = {info.name for info, _ in image.all_entries()}
    has_label, has_lock = BUNDLE_LABEL in labels, ".imgpkg/images.yml" in names
    return "" if has_label == has_lock else f"label: {has_label}, lock: {has_lock}"


@rule("imgpkg")
def no_name_holds_a_backslash(image: Image) -> str:
    """It is a separator there, for bundles made on Windows."""
    return next((info.name for info, _ in image.all_entries() if "\\" in info.name), "")


@rule("imgpkg")
def only_files_and_directories_are_unpacked(image: Image) -> str:
    """Links and devices are skipped without a word."""
    return next((info.name for info, _ in image.all_entries() if not (info.isreg() or info.isdir())), "")


# Kubernetes image volumes and every OCI client -----------------------------------------------------------------------


@rule("oci")
def digests_and_sizes_are_true(image: Image) -> str:
    import hashlib

    for item in (image.document["config"], *image.layers):
        data = image.blob(item)
        if len(data) != item["size"] or "sha256:" + hashlib.sha256(data).hexdigest() != item["digest"]:
            return str(item["digest"])
    return ""


@rule("oci")
def the_gzip_stream_is_one_member_without_a_time(image: Image) -> str:
    for layer in image.layers:
        data = image.blob(layer)
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        stream.decompress(data)
        if stream.unused_data or data[4:8] != bytes(4):
            return str(layer["digest"])
    return ""


@rule("oci")
def nobody_owns_the_files(image: Image) -> str:
    owned = (i.name for i, _ in image.all_entries() if i.uid or i.gid or i.uname or i.gname)
    return next(owned, "")
