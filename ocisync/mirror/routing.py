"""Where things go: a destination for each repository, and what images are called there.

One source repository goes to the destination as it was typed. Several go below it, each under its own path, as `cp`
does with directories. Images go to `PREFIX/HOST/PATH`, so that one entry of a sync's `images` map for each host is
enough; a port's colon becomes a dash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ocisync.mirror.closure import Closure, Role
from ocisync.model.errors import UsageError
from ocisync.model.ref import LayoutReference, Place, Reference, parse_place

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


def artifact_routes(sources: Sequence[Place], destination: Place) -> dict[str, Place]:
    """Destinations of the selected repositories.

    Raises:
        UsageError: several sources, and one of them has no path to be called by.
    """
    places = {place.location: place for place in sources}
    if len(places) == 1:
        bare = replace(destination, tag="", digest="")
        return dict.fromkeys(places, bare)
    routes: dict[str, Place] = {}
    for location, place in places.items():
        name = place.path if isinstance(place, Reference) else place.name.partition("/")[2]
        if not name:
            raise UsageError(f"{location} is one of several sources and names no repository", hint="copy it alone")
        routes[location] = place_below(destination.location, name)
    return routes


def images_prefix(destination: Place, typed: str) -> str:
    """Where images go: what was typed, else the destination's host.

    Raises:
        UsageError: a layout has no host.
    """
    if typed:
        return typed.removeprefix("oci://")
    if isinstance(destination, LayoutReference):
        raise UsageError(
            f"{destination.location} is one repository, and images have repositories of their own",
            hint="say where they go: --images-to HOST/PREFIX or --images-to oci-layout:DIRECTORY",
        )
    return destination.host


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
    """The entries of a sync's `images` map, as few as say it: one for a host where the rule of this module was used."""
    found: set[Relocation] = set()
    for root in closure.roots:
        for image in root.images:
            old, new = image.repository, routes[image.found.place.location].location
            host, _, path = old.partition("/")
            ending = f"/{host_as_path(host)}/{path}"
            if new.endswith(ending):
                found.add(Relocation(host, new.removesuffix(f"/{path}")))
            else:
                found.add(Relocation(old, new))
    return tuple(sorted(found))


def remaps(closure: Closure, routes: Mapping[str, Place]) -> tuple[Relocation, ...]:
    """The entries of a policy's `remap`: what signatures name, and where that is now."""
    selected = {
        root.selected.place.location: root.selected.place for root in closure.roots if root.role is Role.ARTIFACT
    }
    return tuple(
        sorted(Relocation(place.repository, routes[location].repository) for location, place in selected.items())
    )
