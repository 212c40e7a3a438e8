"""The images that an artifact's manifests name, and where they are.

Named are: the images of pod templates, fields that a person points out, and the entries of `.imgpkg/images.yml`. An
image with a digest is that digest; one without is what the lock says that its text means (kbld's annotation), else what
its tag leads to now. A bundle that imgpkg has copied keeps its images in its own repository and says so in an
`ImageLocations` file beside it: there they are looked for first. Bundles that a lock lists have locks of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ocisync.flows.fetch import look
from ocisync.kit import yamlio
from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.manifests.images import find_images
from ocisync.manifests.lock import digest_reference, lock_of, locked_images
from ocisync.mirror.closure import Beside, Item, NamedImage, Role, Selected
from ocisync.mirror.stores import Stores
from ocisync.model.errors import Finding, InvalidInput, NotFound, Refused, UsageError
from ocisync.model.image import LOCK, ImagePath, parse_image
from ocisync.model.limits import CONFIG_BYTES
from ocisync.model.ref import LayoutReference, Place, Reference, parse_place
from ocisync.model.spec import SelectorKind
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass
from ocisync.oci.store import Store
from ocisync.pack.imageslock import BUNDLE_LABELS

LOCATIONS_SUFFIX = "image-locations.imgpkg"
_LOCATIONS = "image-locations.yml"
_IMGPKG = "imgpkg.carvel.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image as manifests name it, and as it is looked for: a lock may say that a text means another place."""

    name: Reference
    at: Reference


@dataclass(frozen=True, slots=True)
class Names:
    """The images that one artifact names. `locked`: it is a bundle of imgpkg's kind, with a lock."""

    images: tuple[Wanted, ...] = ()
    notes: tuple[str, ...] = ()
    locked: bool = False


def find_named(store: Store, item: Item, what: str, paths: Sequence[ImagePath]) -> Names:
    """The images that one artifact, or one bundle, names, and notes about what could not be looked into.

    Raises:
        InvalidInput: a manifest or the lock cannot be read.
    """
    if item.role not in (Role.ARTIFACT, Role.IMAGE) or item.parts:
        return Names()
    try:
        files = look(store, item.digest).files
    except Refused as error:
        # An image, a chart, … may be selected, too; it names no others.
        return Names(notes=(f"{what} holds no manifests, so no images are looked for in it: {error.message}",))
    lock = lock_of(files)
    wrong: list[Finding] = []
    locked = locked_images(lock, wrong) if lock is not None else {}
    named, findings = _in_manifests(files, paths, locked)
    named.update(dict.fromkeys(Wanted(one, one) for one in locked.values()))
    # Bundles hold templates, too; their lock is what says which images there are.
    wrong += findings if lock is None else []
    if wrong:
        message = f"{what} names images that cannot be found: {wrong[0]}"
        raise InvalidInput(message, findings=tuple(wrong), hint="mirror it without --images")
    notes = tuple(f"{what}: {one}; its images are those of {LOCK}" for one in findings if lock is not None)
    return Names(tuple(_merged(named)), notes, lock is not None)


def _in_manifests(
    files: Sequence[TreeFile], paths: Sequence[ImagePath], locked: Mapping[str, Reference]
) -> tuple[dict[Wanted, None], list[Finding]]:
    named: dict[Wanted, None] = {}
    findings: list[Finding] = []
    for file in files:
        try:
            found = find_images([file], paths)
        except InvalidInput as error:
            findings += error.findings or (Finding(file.path, 0, 0, error.message),)
            continue
        findings += found.findings
        for use in found.uses:
            try:
                named[_wanted(use.image, locked)] = None
            except UsageError as error:
                findings.append(use.finding(error.message))
    return named, findings


def _wanted(text: str, locked: Mapping[str, Reference]) -> Wanted:
    name = parse_image(text)
    known = locked.get(text)
    if name.digest or known is None:
        return Wanted(name, name)
    return Wanted(Reference(name.host, name.path, name.tag, known.digest), known)


def _merged(named: Mapping[Wanted, None]) -> list[Wanted]:
    """Leave out names by digest alone of what is also named with a tag: locks repeat what manifests say."""
    tagged = {(one.at.host, one.at.path, one.at.digest) for one in named if one.name.tag and one.at.digest}
    return [one for one in named if one.name.tag or (one.at.host, one.at.path, one.at.digest) not in tagged]


# -- bundles of imgpkg ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Locations:
    """What imgpkg wrote beside a bundle that it copied: all of its images are in the bundle's repository.

    Attributes:
        bundles: digests of images that are bundles, and of those that are none; what is not in it is unknown.
    """

    bundles: Mapping[str, bool]


def locations_of(store: Store, digest: str, beside: Mapping[str, Beside]) -> tuple[Locations | None, str]:
    """The `ImageLocations` of a bundle, None if it was not copied; and a note if they cannot be read.

    Nobody signs them. Images are taken by digest, so that all a false one can do is to have them looked for in vain.
    """
    found = next((one for one in beside.values() if one.subject == digest and one.suffix == LOCATIONS_SUFFIX), None)
    if found is None:
        return None, ""
    try:
        files = look(store, found.item.digest).files
        return Locations(_flags(next(file for file in files if file.path == _LOCATIONS))), ""
    except (Refused, InvalidInput, NotFound, StopIteration):
        name = f"{store.repository}:{found.tag}"
        return Locations({}), f"{name} cannot be read: each image is looked for in {store.repository} first"


def _flags(file: TreeFile) -> dict[str, bool]:
    """Whether images are bundles, by digest.

    Raises:
        InvalidInput: this is no ImageLocations file.
    """
    documents = yamlio.parse_documents(file.data, file.path)
    value = documents[0].value if len(documents) == 1 else None
    if not isinstance(value, dict) or (value.get("apiVersion"), value.get("kind")) != (_IMGPKG, "ImageLocations"):
        raise InvalidInput(f"{file.path} is no ImageLocations file")
    images = value.get("images") or []
    flags: dict[str, bool] = {}
    for entry in images if isinstance(images, list) else ():
        reference = digest_reference(entry)
        if reference is not None and isinstance(entry.get("isBundle"), bool):
            flags[reference.digest] = entry["isBundle"]
    return flags


def is_bundle(store: Store, item: Item) -> bool:
    """Whether imgpkg would take an image for a bundle: its config has the label, and it has one layer."""
    if item.parts or item.subject or not 1 <= len(item.blobs) <= 2:
        return False
    try:
        document = parse_json_object(item.manifest.raw, max_bytes=len(item.manifest.raw))
        digest = document["config"]["digest"]
        config = next(blob for blob in item.blobs if blob.digest == digest)
        read = parse_json_object(store.blob(config, max_bytes=CONFIG_BYTES), max_bytes=CONFIG_BYTES)
        labels = read["config"]["Labels"]
    except (Malformed, Refused, KeyError, TypeError, StopIteration):
        return False
    return isinstance(labels, dict) and not BUNDLE_LABELS.keys().isdisjoint(labels)


# -- places ---------------------------------------------------------------------------------------


def locate(
    image: Wanted, own: Place, stores: Stores, images_from: Sequence[tuple[str, str]] = (), *, first: bool, last: bool
) -> NamedImage:
    """Find an image.

    Args:
        image: as manifests name it.
        own: the repository of the artifact that names it.
        stores: where to look.
        images_from: prefixes of names, and what to read instead.
        first: look in `own` before anything else.
        last: look in `own` when it is nowhere else.

    Raises:
        NotFound: it is not there.
    """
    wanted = image.at
    beside = first and wanted.digest and stores.at(own).resolve(wanted.digest) is not None
    place = moved(wanted.repository, images_from)
    found = None if beside else stores.at(place).resolve(wanted.digest or wanted.tag)
    if found is None and last and not first and wanted.digest:
        beside = stores.at(own).resolve(wanted.digest) is not None
    if beside:
        bare = Reference(own.host, own.path) if isinstance(own, Reference) else LayoutReference(own.path, name=own.name)
        return NamedImage(image.name.repository, Selected(bare, "", wanted.digest, SelectorKind.DIGEST))
    if found is None:
        raise NotFound(
            f"image {wanted}, which manifests name, is not in {place.location}",
            hint="say where it is: --images-from PREFIX=PREFIX",
        )
    # With a digest, too, the tag is set at the destination: so it is judged like any other tag.
    tag = image.name.tag
    kind = SelectorKind.TAG if tag else SelectorKind.DIGEST
    return NamedImage(image.name.repository, Selected(place, tag, found.digest, kind))


def moved(repository: str, moves: Sequence[tuple[str, str]]) -> Place:
    """Where a repository is after prefixes were exchanged; the longest one that fits on whole segments counts."""
    fitting = [(old, new) for old, new in moves if repository == old or repository.startswith(old + "/")]
    if not fitting:
        return parse_place(repository)
    old, new = max(fitting, key=lambda pair: len(pair[0]))
    return parse_place(new + repository[len(old) :])
