"""The images of an artifact, listed where imgpkg looks for them: then the artifact is a bundle and moves with them.

`.imgpkg/images.yml` is an ImagesLock: each image by digest, with the text that manifests use for it as kbld's
annotation, so that `kbld -f .imgpkg/images.yml` finds them after a copy. `.sourceignore` keeps Flux from taking the
lock for a manifest. The label marks the artifact as a bundle; imgpkg looks for it in the image config.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocisync.kit import yamlio
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.image import KBLD_ID, LOCK
from ocisync.model.tree import TreeFile

FOLDER = ".imgpkg"
IGNORE = ".sourceignore"
BUNDLE_LABELS = {"dev.carvel.imgpkg.bundle": "true"}
_IGNORED = f"{FOLDER}/"


@dataclass(frozen=True, slots=True, order=True)
class LockedImage:
    """An image by digest (`HOST/PATH@sha256:…`) and the text that manifests name it with."""

    reference: str
    text: str


def images_lock(images: Iterable[LockedImage]) -> bytes:
    """The lock; equal for equal images, in whatever order they come."""
    entries = [{"annotations": {KBLD_ID: item.text}, "image": item.reference} for item in sorted(set(images))]
    document = {"apiVersion": "imgpkg.carvel.dev/v1alpha1", "images": entries, "kind": "ImagesLock"}
    return ("---\n" + yamlio.dump(document)).encode()


def with_lock(files: Sequence[TreeFile], images: Iterable[LockedImage]) -> tuple[TreeFile, ...]:
    """Add the lock to a tree; what its `.sourceignore` says already is kept.

    Raises:
        InvalidInput: the tree has a `.imgpkg` directory of its own.
    """
    own = next((file.path for file in files if FOLDER in file.path.split("/")[:-1]), "")
    if own:
        finding = Finding(own, 0, 0, f"--pin-images writes {LOCK}; there can be no other {FOLDER} directory")
        raise InvalidInput(str(finding), findings=(finding,), hint="remove it, or list it in .ocisyncignore")
    ignore = next((file.data for file in files if file.path == IGNORE), b"")
    if _IGNORED.encode() not in ignore.split():
        ignore += b"\n" if ignore and not ignore.endswith(b"\n") else b""
        ignore += _IGNORED.encode() + b"\n"
    added = (TreeFile(IGNORE, ignore), TreeFile(LOCK, images_lock(images)))
    kept = (file for file in files if file.path != IGNORE)
    return tuple(sorted((*kept, *added), key=lambda file: file.path))
