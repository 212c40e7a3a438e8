"""Names of container images: as a container runtime reads them, and as a site's mirror has them.

A runtime reads `nginx` as `docker.io/library/nginx`: the first part of a name is a host only if it has a dot, a colon
or an upper-case letter, or is `localhost`. An image map exchanges prefixes of such full names, on whole path segments;
the longest that fits counts. What follows the name, tag and digest, stays as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ocisync.model.errors import UsageError
from ocisync.model.ref import Reference, parse_reference
from ocisync.model.values import dataclass

DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?\Z")
_BEHIND = re.compile(r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@[A-Za-z0-9.+_-]+:[0-9A-Fa-f]{32,})?\Z")
_LIBRARY = "library"
# An artifact's own record of which image a text means: imgpkg's ImagesLock, with kbld's annotation.
LOCK = ".imgpkg/images.yml"
KBLD_ID = "kbld.carvel.dev/id"


def parse_image(text: str) -> Reference:
    """What an image field names, with the host and the tag that a container runtime would add.

    Raises:
        UsageError: no image reference.
    """
    name, at, digest = text.partition("@")
    host, path = _full_name(name)
    found = parse_reference(f"{host}/{path}{at}{digest}")
    if at and not found.digest:
        raise UsageError(f"bad digest in image {text[:200]!r}")
    return found if found.tag or found.digest else Reference(found.host, found.path, "latest")


def _full_name(name: str) -> tuple[str, str]:
    """Host and path (a tag may follow)."""
    host, slash, rest = name.partition("/")
    if not slash or not _is_host(host):
        host, rest = DOCKER_HUB, name
    if host in _HUB_NAMES:
        host, rest = DOCKER_HUB, rest if "/" in rest else f"{_LIBRARY}/{rest}"
    return host, rest


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost" or part != part.lower()


# Fields ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImagePath:
    """A field of a kind that holds an image. `parts` may hold `*`."""

    kind: str
    group: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        name = f"{self.kind}.{self.group}" if self.group else self.kind
        return name + "=" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in self.parts)


def parse_image_path(text: str) -> ImagePath:
    """Read `KIND[.GROUP]=/JSON/POINTER`.

    Raises:
        UsageError: it is none.
    """
    name, equals, pointer = text.partition("=")
    kind, _, group = name.partition(".")
    if not equals or not kind or not kind[0].isupper() or not pointer.startswith("/") or pointer == "/":
        raise UsageError(
            f"bad image path {text[:200]!r}: expected KIND.GROUP=/JSON/POINTER",
            hint="--image-path Prometheus.monitoring.coreos.com=/spec/image",
        )
    parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))
    return ImagePath(kind, group, parts)


# Maps --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class ImageMove:
    """Names that begin with `old` begin with `new` instead: `HOST` or `HOST/PATH`, no slash at the end."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ImageMap:
    """Where a site has its images.

    Attributes:
        moves: prefixes of names, and what to use instead.
        paths: fields that hold images, besides those of pod templates.
    """

    moves: tuple[ImageMove, ...] = ()
    paths: tuple[ImagePath, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.moves)

    def moved(self, text: str) -> str:
        """An image as it is called here; the text itself if no entry is about it, or if it is no image."""
        name, behind = _split(text)
        host, path = _full_name(name)
        if not _PATH.match(path) or not _HOST.match(host) or not _BEHIND.match(behind):
            return text
        full = f"{host}/{path}"
        fitting = [move for move in self.moves if full == move.old or full.startswith(move.old + "/")]
        if not fitting:
            return text
        best = max(fitting, key=lambda move: len(move.old))
        return best.new + full[len(best.old) :] + behind


def _split(text: str) -> tuple[str, str]:
    """The name, and what stands behind it: `:TAG`, `@DIGEST`, both or nothing."""
    name, at, digest = text.partition("@")
    folder, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return folder + slash + last, colon + tag + at + digest


def parse_image_map(moves: Iterable[tuple[str, str]], paths: Iterable[str]) -> ImageMap:
    """Read a map as people write it: pairs of prefixes, and image paths.

    Raises:
        UsageError: a prefix names no registry, has a tag or a digest, or is there twice; an image path is none.
    """
    found: dict[str, ImageMove] = {}
    for old, new in moves:
        move = ImageMove(_prefix(old, "from"), _prefix(new, "to"))
        if move.old in found:
            raise UsageError(f"{move.old} has two entries")
        found[move.old] = move
    return ImageMap(tuple(found.values()), tuple(dict.fromkeys(_rewritable(path) for path in paths)))


def _rewritable(text: str) -> ImagePath:
    """A field that may be rewritten: never one that says which object this is."""
    path = parse_image_path(text)
    if path.parts[0] in ("apiVersion", "kind") or (path.parts[0] == "metadata" and path.parts[1:2] != ("annotations",)):
        raise UsageError(f"image path {text[:200]!r} leads to the name of an object, not to an image")
    return path


def _prefix(text: str, field: str) -> str:
    """`HOST[/PATH]` with Docker Hub's names as one."""
    text = text.removesuffix("/")
    host, slash, path = text.partition("/")
    if not _is_host(host):
        shown = text[:200]
        raise UsageError(
            f"{field} {shown!r} does not begin with a registry: a container runtime reads it as {DOCKER_HUB}/{shown}",
            hint=f"write {DOCKER_HUB}/{shown}, or a registry's name with a dot or a port first",
        )
    if not _HOST.match(host) or (slash and not _PATH.match(path)):
        raise UsageError(f"{field} {text[:200]!r} is no prefix of image names: expected HOST or HOST/PATH, no tag")
    return (DOCKER_HUB if host in _HUB_NAMES else host) + slash + path
