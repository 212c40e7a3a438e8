"""One run of a mirror, from what is wanted to what is to be written: select, walk, route.

`copy` and `plan` are given places and flags, `sync` a file; both come here with the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ocisync.kit.pool import map_bounded
from ocisync.mirror.closure import Closure, Selected
from ocisync.mirror.plan import Plan
from ocisync.mirror.routing import image_routes
from ocisync.mirror.select import Selection, select, without_doubles
from ocisync.mirror.stores import Stores
from ocisync.mirror.walk import WalkOptions, collect
from ocisync.model.errors import UsageError
from ocisync.model.ref import Place, is_reserved_tag


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of one repository and where it goes. `as_tag`: what its one tag is called there."""

    source: Place
    selection: Selection
    destination: Place
    as_tag: str = ""


@dataclass(frozen=True, slots=True)
class Gathered:
    """A closure, and the destination of each of its repositories."""

    closure: Closure
    routes: Mapping[str, Place]


def gather(wanted: Sequence[Wanted], stores: Stores, options: WalkOptions, images_to: str) -> Gathered:
    """Read everything that is wanted. Nothing is written.

    Raises:
        NotFound, Refused, UsageError, InvalidInput: as `select` and `collect`.
    """
    selected: list[Selected] = []
    for one in wanted:
        bare = replace(one.source, tag="", digest="")
        found = select(stores.at(bare), bare, one.selection, workers=options.workers)
        if one.as_tag and len({item.digest for item in found}) > 1:
            raise UsageError(
                f"{len(found)} artifacts cannot all become {one.destination.location}:{one.as_tag}",
                hint="name the destination without a tag",
            )
        selected += [replace(item, as_tag=one.as_tag) for item in found]
    closure = collect(without_doubles(selected), stores, options)
    routes = {one.source.location: replace(one.destination, tag="", digest="") for one in wanted}
    return Gathered(closure, image_routes(closure, routes, images_to) if options.images else routes)


def superfluous_tags(plan: Plan, wanted: Sequence[Wanted], stores: Stores) -> list[tuple[Place, str]]:
    """Tags at the destinations of a run that it does not want. Tags that belong to digests are left alone."""
    found: list[tuple[Place, str]] = []
    for one in wanted:
        part = plan.closure.at(one.source)
        names = {tag.name for tag in part.tags}
        destination = replace(one.destination, tag="", digest="")
        tags = stores.at(destination).tags()
        found += [(destination, tag) for tag in tags if tag not in names and not is_reserved_tag(tag)]
    return found


def remove_tags(tags: Sequence[tuple[Place, str]], stores: Stores, *, workers: int) -> None:
    """Remove tags; manifests stay."""
    map_bounded(lambda one: stores.at(one[0]).delete_tag(one[1]), tags, workers=workers)
