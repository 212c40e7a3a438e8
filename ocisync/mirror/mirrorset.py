"""A `MirrorSet` file: what is mirrored regularly, and where to.

    apiVersion: ocisync.dev/v1alpha1
    kind: MirrorSet
    metadata: {name: site}
    spec:
      destination: mirror.site.local          # prefix; images go to PREFIX/HOST/PATH, artifacts to PREFIX/PATH
      images: true
      imagePaths: ["Prometheus.monitoring.coreos.com=/spec/image"]
      imagesFrom: [{from: docker.io, to: cache.example/docker.io}]
      imagesTo: mirror.site.local/images       # default: the destination
      repositories:
      - source: registry.example/shop/config
        destination: mirror.site.local/shop    # default: PREFIX/PATH
        tags: [production]
        digests: ["sha256:…"]
        semver: ">=1.2 <2"
        patterns: ["v1.*"]
        newest: 5

Fields that nobody knows, and everything else that is wrong, are findings with file:line:column, all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ocisync.kit.yamlio import Path, Places, parse_documents
from ocisync.mirror.routing import place_below
from ocisync.mirror.select import Selection
from ocisync.model.digest import is_digest
from ocisync.model.errors import Finding, InvalidInput, UsageError
from ocisync.model.image import ImagePath, parse_image_path
from ocisync.model.limits import CLOSURE_ROOTS, MIRROR_FILE_BYTES
from ocisync.model.ref import LayoutReference, Place, Reference, check_tag, is_reserved_tag, parse_place
from ocisync.model.semver import parse_range

API_VERSION = "ocisync.dev/v1alpha1"
KIND = "MirrorSet"
_SPEC = ("destination", "images", "imagePaths", "imagesFrom", "imagesTo", "repositories")
_REPOSITORY = ("source", "destination", "tags", "digests", "semver", "patterns", "newest")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MirroredRepository:
    """One entry: what is wanted of a repository, and where it goes."""

    source: Place
    destination: Place
    selection: Selection


@dataclass(frozen=True, slots=True)
class MirrorSet:
    """A file that was read."""

    name: str
    repositories: tuple[MirroredRepository, ...]
    images: bool
    image_paths: tuple[ImagePath, ...]
    images_from: tuple[tuple[str, str], ...]
    images_to: str


def parse_mirror_set(data: bytes, file: str) -> MirrorSet:
    """Read a file.

    Raises:
        InvalidInput: with every finding.
    """
    if len(data) > MIRROR_FILE_BYTES:
        raise InvalidInput(f"{file} has {len(data)} bytes, more than {MIRROR_FILE_BYTES}")
    documents = parse_documents(data, file)
    if len(documents) != 1:
        raise InvalidInput(f"{file} holds {len(documents)} documents; a {KIND} file holds one")
    reader = _Reader(file, Places(data), documents[0].index)
    found = reader.mirror_set(documents[0].value)
    if reader.findings or found is None:
        first, count = reader.findings[0], len(reader.findings)
        more = f" (and {count - 1} more)" if count > 1 else ""
        raise InvalidInput(f"{first}{more}", findings=tuple(reader.findings))
    return found


class _Reader:
    def __init__(self, file: str, places: Places, index: int) -> None:
        self._file = file
        self._places = places
        self._index = index
        self.findings: list[Finding] = []

    def _wrong(self, path: Path, message: str) -> None:
        line, column = self._places.find(self._index, path)
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        self.findings.append(Finding(self._file, line, column, f"{name}: {message}" if name else message))

    def _attempt(self, path: Path, read: Callable[[str], _T], text: str) -> _T | None:
        """What a parser makes of a text; what it complains of becomes a finding."""
        try:
            return read(text)
        except UsageError as error:
            self._wrong(path, error.message)
            return None

    # -- shapes -----------------------------------------------------------------------------------

    def _mapping(self, value: Any, path: Path, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong(path, "must be a mapping")
            return {}
        for key in value:
            if key not in known:
                self._wrong((*path, key), f"unknown field; known are {', '.join(known)}")
        return value

    def _text(self, value: Any, path: Path) -> str:
        if isinstance(value, str) and value:
            return value
        self._wrong(path, "must be a text")
        return ""

    def _list(self, value: Any, path: Path) -> list[Any]:
        if value is None:
            return []
        if isinstance(value, list):
            return value
        self._wrong(path, "must be a list")
        return []

    def _texts(self, spec: dict[str, Any], name: str, path: Path) -> list[tuple[Path, str]]:
        here = (*path, name)
        texts = [
            ((*here, at), self._text(item, (*here, at))) for at, item in enumerate(self._list(spec.get(name), here))
        ]
        return [(at, text) for at, text in texts if text]

    # -- the file ---------------------------------------------------------------------------------

    def mirror_set(self, value: Any) -> MirrorSet | None:
        top = self._mapping(value, (), ("apiVersion", "kind", "metadata", "spec"))
        if (top.get("apiVersion"), top.get("kind")) != (API_VERSION, KIND):
            self._wrong((), f"this is no {KIND} of {API_VERSION}")
            return None
        metadata = self._mapping(top.get("metadata"), ("metadata",), ("name", "labels", "annotations"))
        name = self._text(metadata.get("name"), ("metadata", "name"))
        path: Path = ("spec",)
        spec = self._mapping(top.get("spec"), path, _SPEC)
        prefix = self._prefix(spec.get("destination"), (*path, "destination")) if "destination" in spec else ""
        images = spec.get("images", False)
        if not isinstance(images, bool):
            self._wrong((*path, "images"), "must be true or false")
        images_to = self._prefix(spec["imagesTo"], (*path, "imagesTo")) if "imagesTo" in spec else prefix
        if images is True and not images_to:
            self._wrong((*path, "images"), "images need a destination: add spec.destination or spec.imagesTo")
        entries = self._list(spec.get("repositories"), (*path, "repositories"))
        if not entries or len(entries) > CLOSURE_ROOTS:
            self._wrong(path, f"repositories: {len(entries)} entries; there must be 1 to {CLOSURE_ROOTS}")
        found = [self._repository(item, (*path, "repositories", at), prefix) for at, item in enumerate(entries)]
        self._check_doubles([one for one in found if one is not None], found, path)
        return MirrorSet(
            name,
            tuple(one for one in found if one is not None),
            bool(images),
            tuple(self._image_paths(spec, path)),
            tuple(self._moves(spec, path)),
            images_to,
        )

    def _check_doubles(
        self, usable: list[MirroredRepository], entries: list[MirroredRepository | None], path: Path
    ) -> None:
        for at, one in enumerate(entries):
            if one is None:
                continue
            others = usable[: usable.index(one)]
            for field in ("source", "destination"):
                if any(getattr(other, field).location == getattr(one, field).location for other in others):
                    where = (*path, "repositories", at, field)
                    self._wrong(where, f"{getattr(one, field).location} has an entry already")

    def _prefix(self, value: Any, path: Path) -> str:
        """A host with or without a path, or a directory of layouts."""
        text = self._text(value, path).removeprefix("oci://").rstrip("/")
        if not text:
            return ""
        probe = self._attempt(path, lambda prefix: place_below(prefix, "x"), text)
        return text if probe is not None else ""

    def _image_paths(self, spec: dict[str, Any], path: Path) -> list[ImagePath]:
        found = [self._attempt(at, parse_image_path, text) for at, text in self._texts(spec, "imagePaths", path)]
        return [one for one in found if one is not None]

    def _moves(self, spec: dict[str, Any], path: Path) -> list[tuple[str, str]]:
        here = (*path, "imagesFrom")
        found = []
        for at, item in enumerate(self._list(spec.get("imagesFrom"), here)):
            entry = self._mapping(item, (*here, at), ("from", "to"))
            old = self._text(entry.get("from"), (*here, at, "from"))
            new = self._prefix(entry.get("to"), (*here, at, "to"))
            found.append((old.rstrip("/"), new))
        return found

    # -- one repository ---------------------------------------------------------------------------

    def _place(self, value: Any, path: Path) -> Place | None:
        text = self._text(value, path)
        if not text:
            return None
        place = self._attempt(path, parse_place, text)
        if place is not None and (place.tag or place.digest):
            self._wrong(path, "name the repository alone; tags and digests have fields of their own")
            return None
        return place

    def _repository(self, value: Any, path: Path, prefix: str) -> MirroredRepository | None:
        entry = self._mapping(value, path, _REPOSITORY)
        source = self._place(entry.get("source"), (*path, "source"))
        if "destination" in entry:
            destination = self._place(entry["destination"], (*path, "destination"))
        else:
            destination = self._default_destination(source, path, prefix)
        selection = self._selection(entry, path)
        if source is None or destination is None:
            return None
        return MirroredRepository(source, destination, selection)

    def _default_destination(self, source: Place | None, path: Path, prefix: str) -> Place | None:
        if source is None:
            return None
        if isinstance(source, LayoutReference) or not prefix:
            self._wrong(path, "needs a destination of its own: there is no spec.destination, or the source is a layout")
            return None
        assert isinstance(source, Reference)  # noqa: S101 - the other kind of place
        return self._attempt(path, lambda name: place_below(prefix, name), source.path)

    def _selection(self, entry: dict[str, Any], path: Path) -> Selection:
        references = []
        for at, tag in self._texts(entry, "tags", path):
            checked = self._attempt(at, check_tag, tag)
            if checked and is_reserved_tag(checked):
                self._wrong(at, f"{checked} belongs to a digest and comes along with it")
            elif checked:
                references.append(checked)
        for at, digest in self._texts(entry, "digests", path):
            if is_digest(digest):
                references.append(digest)
            else:
                self._wrong(at, "must be sha256: and 64 hex characters")
        within = None
        if "semver" in entry:
            text = self._text(entry["semver"], (*path, "semver"))
            within = self._attempt((*path, "semver"), parse_range, text) if text else None
        newest = entry.get("newest", 0)
        if isinstance(newest, bool) or not isinstance(newest, int) or newest < 0 or ("newest" in entry and not newest):
            self._wrong((*path, "newest"), "must be a number of 1 or more")
            newest = 0
        patterns = tuple(text for _, text in self._texts(entry, "patterns", path))
        selection = Selection(tuple(references), within, patterns, newest)
        if not any(name in entry for name in ("tags", "digests", "semver", "patterns", "newest")):
            self._wrong(path, "selects nothing: add tags, digests, semver, patterns or newest")
        return selection
