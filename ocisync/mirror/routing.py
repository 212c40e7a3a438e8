"""Where things go: a destination for each repository, and what images are called there.

One source repository goes to the destination as it was typed. Several go below it, each under its own path, as `cp`
does with directories. Images go to `PREFIX/HOST/PATH`, so that one entry of a sync's `images` map for each host is
enough; a port's colon becomes a dash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ocisync.mirror.closure import Closure, Role
from ocisync.model.errors import UsageError
from ocisync.model.ref import LAYOUT_SCHEME, Place, Reference, parse_place

_NOT_IN_PATHS = re.compile(r"[^a-z0-9.]+")


def place_below(prefix: str, name: str) -> Place:
    """`PREFIX/NAME`.

    Raises:
        UsageError: that is no place.
    """
    return parse_place(f"{prefix.rstrip('/')}/{name}")


def host_as_path(host: str) -> str:
    """A host as a part of a repository's path."""
    return _NOT_IN_PATHS.sub("-", host.lower()).strip("-.")


def image_name(repository: str) -> str:
    """What an image's repository is called below the prefix for images."""
    host, _, path = repository.partition("/")
    return f"{host_as_path(host)}/{path}"


def artifact_routes(sources: Sequence[Place], destination: str) -> tuple[dict[str, Place], str]:
    """Destinations of the selected repositories, and the tag that was typed with the destination.

    Raises:
        UsageError: the destination is no place, or one of several sources has no path to be called by.
    """
    places = {place.location: place for place in sources}
    if len(places) == 1:
        target = parse_place(destination)
        if target.digest:
            raise UsageError(f"a copy keeps digests: name {target.location} with a tag, or without")
        return dict.fromkeys(places, replace(target, tag="")), target.tag
    routes: dict[str, Place] = {}
    prefix = destination.removeprefix("oci://")
    for location, place in places.items():
        name = place.path if isinstance(place, Reference) else place.name.partition("/")[2]
        if not name:
            raise UsageError(f"{location} is one of several sources and names no repository", hint="copy it alone")
        routes[location] = place_below(prefix, name)
    return routes, ""


def images_prefix(destination: str, typed: str) -> str:
    """Where images go: what was typed, else the destination's host.

    Raises:
        UsageError: a layout has no host.
    """
    if typed:
        return typed.removeprefix("oci://")
    if destination.startswith(LAYOUT_SCHEME):
        raise UsageError(
            f"{destination} is one repository, and images have repositories of their own",
            hint="say where they go: --images-to HOST/PREFIX or --images-to oci-layout:DIRECTORY",
        )
    return destination.removeprefix("oci://").partition("/")[0]


def image_routes(closure: Closure, routes: Mapping[str, Place], prefix: str) -> dict[str, Place]:
    """All destinations: those of the artifacts, and of the images that their manifests name."""
    out = dict(routes)
    for root in closure.roots:
        for image in root.images:
            out.setdefault(image.found.place.location, place_below(prefix, image_name(image.repository)))
    return out


@dataclass(frozen=True, slots=True, order=True)
class Relocation:
    """Names that begin so, and what they begin with at the destination."""

    old: str
    new: str


def relocations(closure: Closure, routes: Mapping[str, Place]) -> tuple[Relocation, ...]:
    """The entries of a sync's `images` map for the images of a closure."""
    return shortened(
        (image.repository, routes[image.found.place.location]) for root in closure.roots for image in root.images
    )


def shortened(moves: Iterable[tuple[str, Place]]) -> tuple[Relocation, ...]:
    """Repositories of images, and where they go, in as few entries as say it: one for a host that all go below.

    A runtime reads no layouts, so there is no entry for an image that goes to one.
    """
    wanted = sorted({(old, place.location) for old, place in moves if isinstance(place, Reference)})
    found: set[Relocation] = set()
    for old, new in wanted:
        host, _, path = old.partition("/")
        if new.endswith(f"/{host_as_path(host)}/{path}"):
            found.add(Relocation(host, new.removesuffix(f"/{path}")))
        else:
            found.add(Relocation(old, new))
    return tuple(sorted(found))


def ambiguous(moves: Sequence[Relocation]) -> tuple[str, ...]:
    """Names with more than one destination: one map cannot say both."""
    seen: dict[str, int] = {}
    for move in moves:
        seen[move.old] = seen.get(move.old, 0) + 1
    return tuple(old for old, count in seen.items() if count > 1)


def remaps(closure: Closure, routes: Mapping[str, Place]) -> tuple[Relocation, ...]:
    """The entries of a policy's `remap`: what signatures name, and where that is now."""
    selected = {
        root.selected.place.location: root.selected.place for root in closure.roots if root.role is Role.ARTIFACT
    }
    pairs = [Relocation(place.repository, routes[location].repository) for location, place in selected.items()]
    return tuple(sorted(one for one in pairs if not (one.old + one.new).count(LAYOUT_SCHEME)))
