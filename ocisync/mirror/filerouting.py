"""Where the repositories of a file go. Pure; the same for a delta as for the file that it builds on.

One repository of artifacts becomes the destination as it was typed; several go below it, each under its own path.
Images go to `PREFIX/HOST/PATH`. `--map` says otherwise for a name, or for all names below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ocisync.mirror.closure import Role
from ocisync.mirror.contents import Contents
from ocisync.mirror.routing import image_name, images_prefix, place_below
from ocisync.model.errors import UsageError
from ocisync.model.ref import Place, parse_place


def file_routes(contents: Contents, destination: Place, images_to: str, maps: Mapping[str, str]) -> dict[str, Place]:
    """The destination of each repository, by its name in the file.

    Raises:
        UsageError: images and nowhere to put them, or two repositories in one place.
    """
    bare = replace(destination, tag="", digest="")
    artifacts = [part.name for part in contents.parts if part.role is Role.ARTIFACT]
    routes: dict[str, Place] = {}
    for part in contents.parts:
        mapped = _mapped(part.name, maps)
        if mapped:
            routes[part.name] = parse_place(mapped)
        elif part.role is Role.IMAGE:
            routes[part.name] = place_below(images_prefix(destination.location, images_to), image_name(part.name))
        elif len(artifacts) == 1:
            routes[part.name] = bare
        else:
            routes[part.name] = place_below(bare.location, part.name.partition("/")[2])
    taken: dict[str, str] = {}
    for name, place in routes.items():
        if taken.setdefault(place.location, name) != name:
            raise UsageError(
                f"both {taken[place.location]} and {name} would go to {place.location}", hint=f"--map {name}=HOST/PATH"
            )
    return routes


def _mapped(name: str, maps: Mapping[str, str]) -> str:
    """The longest entry that is the name or stands before a slash of it."""
    fitting = [old for old in maps if name == old or name.startswith(old + "/")]
    if not fitting:
        return ""
    longest = max(fitting, key=len)
    return maps[longest] + name[len(longest) :]
