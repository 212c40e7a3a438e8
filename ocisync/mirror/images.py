"""The images that an artifact's manifests name, and where they are.

Named are: the images of pod templates, fields that a person points out, and the entries of `.imgpkg/images.yml`. An
image with a digest is that digest; one without is what its tag leads to now. A bundle that imgpkg has copied keeps its
images in its own repository and says so with a tag beside it: there they are looked for first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ocisync.flows.fetch import look
from ocisync.kit import yamlio
from ocisync.manifests.images import find_images
from ocisync.mirror.closure import Item, NamedImage, Role, Selected
from ocisync.mirror.stores import Stores
from ocisync.model.errors import Finding, InvalidInput, NotFound, Refused, UsageError
from ocisync.model.image import ImagePath, parse_image
from ocisync.model.ref import LayoutReference, Place, Reference, parse_place
from ocisync.model.spec import SelectorKind
from ocisync.model.tree import TreeFile
from ocisync.oci.store import Store
from ocisync.pack.imageslock import LOCK


def find_named(
    store: Store, item: Item, what: str, paths: Sequence[ImagePath]
) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """The images that one artifact names, and notes about what could not be looked into.

    Raises:
        InvalidInput: a manifest or the lock cannot be read.
    """
    if item.role is not Role.ARTIFACT or item.parts:
        return (), ()
    try:
        files = look(store, item.digest).files
    except Refused as error:
        # An image, a chart, … may be selected, too; it names no others.
        return (), (f"{what} holds no manifests, so no images are looked for in it: {error.message}",)
    found = find_images(files, paths)
    findings = list(found.findings)
    named: dict[Reference, None] = {}
    for use in found.uses:
        try:
            named[parse_image(use.image)] = None
        except UsageError as error:
            findings.append(use.finding(error.message))
    lock = next((file for file in files if file.path == LOCK), None)
    if lock is not None:
        named.update(dict.fromkeys(locked_images(lock, findings)))
    if findings:
        message = f"{what} names images that cannot be found: {findings[0]}"
        raise InvalidInput(message, findings=tuple(findings), hint="mirror it without --images")
    return tuple(_merged(named)), ()


def locked_images(lock: TreeFile, findings: list[Finding]) -> list[Reference]:
    """The images of an ImagesLock; what is wrong with it is added to the findings."""
    named: list[Reference] = []
    for document in yamlio.parse_documents(lock.data, lock.path):
        value = document.value
        if not isinstance(value, dict) or value.get("kind") != "ImagesLock":
            findings.append(Finding(lock.path, document.line, 0, "this is no ImagesLock"))
            continue
        entries = value.get("images") or []
        for entry in entries if isinstance(entries, list) else [entries]:
            reference = _locked(entry)
            if reference is None:
                findings.append(Finding(lock.path, document.line, 0, "an image of the lock is no reference by digest"))
            else:
                named.append(reference)
    return named


def _locked(entry: Any) -> Reference | None:
    text = entry.get("image") if isinstance(entry, dict) else None
    try:
        found = parse_image(text) if isinstance(text, str) else None
    except UsageError:
        return None
    return found if found is not None and found.digest else None


def _merged(named: dict[Reference, None]) -> list[Reference]:
    """Leave out names by digest alone of what is also named with a tag: locks repeat what manifests say."""
    tagged = {(one.host, one.path, one.digest) for one in named if one.tag and one.digest}
    return [one for one in named if one.tag or (one.host, one.path, one.digest) not in tagged]


def locate(
    image: Reference, own: Place | None, stores: Stores, images_from: Sequence[tuple[str, str]] = ()
) -> NamedImage:
    """Find an image.

    Args:
        image: as manifests name it.
        own: the repository of the bundle that brought its images along, if it did.
        stores: where to look.
        images_from: prefixes of names, and what to read instead.

    Raises:
        NotFound: it is not there.
    """
    if own is not None and image.digest and stores.at(own).resolve(image.digest) is not None:
        bare = Reference(own.host, own.path) if isinstance(own, Reference) else LayoutReference(own.path, name=own.name)
        return NamedImage(image.repository, Selected(bare, "", image.digest, SelectorKind.DIGEST))
    place = moved(image.repository, images_from)
    found = stores.at(place).resolve(image.digest or image.tag)
    if found is None:
        raise NotFound(
            f"image {image}, which manifests name, is not in {place.location}",
            hint="say where it is: --images-from PREFIX=PREFIX",
        )
    # With a digest, too, the tag is set at the destination: so it is judged like any other tag.
    kind = SelectorKind.TAG if image.tag else SelectorKind.DIGEST
    return NamedImage(image.repository, Selected(place, image.tag, found.digest, kind))


def moved(repository: str, moves: Sequence[tuple[str, str]]) -> Place:
    """Where a repository is after prefixes were exchanged; the longest one that fits on whole segments counts."""
    fitting = [(old, new) for old, new in moves if repository == old or repository.startswith(old + "/")]
    if not fitting:
        return parse_place(repository)
    old, new = max(fitting, key=lambda pair: len(pair[0]))
    return parse_place(new + repository[len(old) :])
