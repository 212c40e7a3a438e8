"""Pin images: every image field of a tree gets the digest that its tag has now, and a lock lists them all.

Each image is asked for once, by HEAD, some at a time. A digest of an index is taken as it is, so that every platform
keeps its own image. What has a digest already stays and is not asked for. Nothing is changed unless everything could
be resolved; what could not is told for every place that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ocisync.kit.pool import map_bounded
from ocisync.manifests.images import ImageUse, find_images, with_images
from ocisync.model.errors import AccessDenied, Finding, InvalidInput, OcisyncError, Unavailable, UsageError
from ocisync.model.image import DOCKER_HUB, ImagePath, parse_image
from ocisync.model.ref import Reference
from ocisync.model.tree import SourceTree
from ocisync.model.values import dataclass
from ocisync.oci.store import Store
from ocisync.pack.imageslock import LockedImage, with_lock

_WORKERS = 8
_LOCK_NAMES = {DOCKER_HUB: "index.docker.io"}  # as imgpkg and kbld write it


@dataclass(frozen=True, slots=True)
class PinOptions:
    """How to pin.

    Attributes:
        open_store: opens the repository of an image; called for each repository once, from several threads.
        paths: image fields besides those of pod templates.
    """

    open_store: Callable[[Reference], Store]
    paths: tuple[ImagePath, ...] = ()


@dataclass(frozen=True, slots=True)
class PinnedImage:
    """An image as it was written, as it is published, and by digest alone."""

    original: str
    text: str
    reference: str

    def as_json(self) -> dict[str, str]:
        """The form that scripts read."""
        return {"image": self.original, "pinned": self.text}


@dataclass(frozen=True, slots=True)
class Pinned:
    """A tree whose images are pinned. `notes` are sentences to be shown."""

    tree: SourceTree
    images: tuple[PinnedImage, ...]
    notes: tuple[str, ...]


def pin_images(tree: SourceTree, options: PinOptions) -> Pinned:
    """Resolve all images of a tree and write their digests into it.

    Raises:
        InvalidInput: images that do not exist, are no references, or cannot be changed in place; all findings.
        AccessDenied, Unavailable: a registry, if that is all that is in the way.
    """
    found = find_images(tree.files, options.paths)
    findings = list(found.findings)
    references: dict[str, Reference] = {}
    for use in found.uses:
        try:
            references[use.image] = parse_image(use.image)
        except UsageError:
            findings.append(use.finding(f"{use.image[:200]!r} is no image reference: it cannot be pinned"))
    answers = _resolve({reference for reference in references.values() if not reference.digest}, options)
    _raise_problems(findings, found.uses, references, answers)
    images = []
    for image, reference in sorted(references.items()):
        known = answers.get(reference)
        digest = reference.digest or (known if isinstance(known, str) else "")
        host = _LOCK_NAMES.get(reference.host, reference.host)
        text = image if reference.digest else f"{image}@{digest}"
        images.append(PinnedImage(image, text, f"{host}/{reference.path}@{digest}"))
    files = with_images(tree.files, found.uses, {item.original: item.text for item in images})
    files = with_lock(files, [LockedImage(item.reference, item.text) for item in images])
    notes = tuple(f"--image-path {path} leads to nothing in these manifests" for path in found.unused)
    return Pinned(replace(tree, files=files), tuple(images), notes)


_Answer = str | OcisyncError | None  # a digest, why there is none, or: no such image


def _resolve(references: set[Reference], options: PinOptions) -> dict[Reference, _Answer]:
    by_repository: dict[str, list[Reference]] = {}
    for reference in sorted(references, key=str):
        by_repository.setdefault(reference.repository, []).append(reference)

    def resolve(group: Sequence[Reference]) -> dict[Reference, _Answer]:
        answers: dict[Reference, _Answer] = {}
        try:
            store = options.open_store(group[0])
        except OcisyncError as error:
            return dict.fromkeys(group, error)
        try:
            for reference in group:
                try:
                    known = store.resolve(reference.tag)
                    answers[reference] = known.digest if known else None
                except OcisyncError as error:
                    answers[reference] = error
        finally:
            store.close()
        return answers

    merged: dict[Reference, _Answer] = {}
    for answers in map_bounded(resolve, by_repository.values(), workers=_WORKERS):
        merged |= answers
    return merged


def _raise_problems(
    findings: list[Finding],
    uses: Sequence[ImageUse],
    references: Mapping[str, Reference],
    answers: Mapping[Reference, _Answer],
) -> None:
    errors = [answer for answer in answers.values() if isinstance(answer, OcisyncError)]
    if errors and not findings and all(answer is not None for answer in answers.values()):
        # Nothing is wrong with the manifests: logging in or trying again helps, and the exit code says which.
        for kind in (AccessDenied, Unavailable):
            if all(isinstance(error, kind) for error in errors):
                raise errors[0]
    for use in uses:
        reference = references.get(use.image)
        answer = answers.get(reference, "") if reference is not None else ""
        if answer is None:
            findings.append(use.finding(f"image {use.image!r} does not exist ({reference})"))
        elif isinstance(answer, OcisyncError):
            findings.append(use.finding(f"image {use.image!r} cannot be resolved: {answer.message}"))
    if findings:
        ordered = tuple(sorted(findings, key=lambda item: (item.file, item.line, item.column, item.message)))
        more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
        raise InvalidInput(f"{ordered[0]}{more}", findings=ordered)
