"""Flags of the mirror commands: what is selected, which images come along, and which login belongs to which host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli.places import open_place
from ocisync.model.errors import UsageError
from ocisync.model.ref import LayoutReference, Place, Reference, parse_place
from ocisync.model.semver import parse_range

if TYPE_CHECKING:
    from ocisync.mirror.select import Selection
    from ocisync.mirror.stores import Stores
    from ocisync.mirror.walk import WalkOptions

MAX_PARALLEL = 32


def selection_options(function: Any) -> Any:
    """`--semver`, `--tag`, `--newest`."""
    newest = click.option(
        "--newest",
        type=click.IntRange(min=1),
        help="The newest N of what --semver and --tag find, or of all versions.",
    )
    pattern = click.option(
        "--tag", "patterns", multiple=True, metavar="PATTERN", help="Tags that match, as 'v1.*'; repeat for several."
    )
    within = click.option("--semver", "within", default="", metavar="RANGE", help="Versions in a range, as '>=1.2 <2'.")
    return within(pattern(newest(function)))


def image_options(function: Any) -> Any:
    """`--images` and where images are named, read and put."""
    to = click.option(
        "--images-to", default="", metavar="PREFIX", help="Where images go: PREFIX/HOST/PATH (default: DST's host)."
    )
    origin = click.option(
        "--images-from",
        multiple=True,
        metavar="PREFIX=PREFIX",
        help="Read images whose names begin so elsewhere, as docker.io=cache.example/docker.io; repeat for several.",
    )
    path = click.option(
        "--image-path",
        "image_paths",
        multiple=True,
        metavar="KIND.GROUP=/JSON/POINTER",
        help="Image field of a custom resource; repeat for several.",
    )
    images = click.option("--images", is_flag=True, help="Take the images along that manifests name.")
    return images(path(origin(to(function))))


def run_options(function: Any) -> Any:
    """`--parallel` and `--src-creds`."""
    parallel = click.option(
        "--parallel",
        "workers",
        type=click.IntRange(min=1, max=MAX_PARALLEL),
        default=4,
        show_default=True,
        help="Transfers at a time, to one host or several.",
    )
    creds = click.option(
        "--src-creds",
        default="",
        metavar="USER:PASSWORD",
        envvar="OCISYNC_SRC_CREDS",
        help="Login to the source; --creds is for the destination.",
    )
    return parallel(creds(function))


def selection_of(place: Place, within: str, patterns: tuple[str, ...], newest: int | None) -> Selection:
    """What the flags and the reference itself select."""
    from ocisync.mirror.select import Selection

    named = place.digest or place.tag
    return Selection((named,) if named else (), parse_range(within) if within else None, patterns, newest or 0)


def walk_options_of(flags: dict[str, Any], workers: int) -> WalkOptions:
    """What the image flags say. Takes them out of `flags`."""
    from ocisync.mirror.walk import WalkOptions
    from ocisync.model.image import parse_image_path

    return WalkOptions(
        workers=workers,
        images=flags.pop("images"),
        image_paths=tuple(parse_image_path(text) for text in flags.pop("image_paths")),
        images_from=tuple(_move(text) for text in flags.pop("images_from")),
    )


def _move(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not old or not equals or not new:
        raise UsageError(
            f"bad --images-from {text[:200]!r}: expected PREFIX=PREFIX",
            hint="--images-from docker.io=cache.example/docker.io",
        )
    return old.rstrip("/"), new.removeprefix("oci://").rstrip("/")


@dataclass(frozen=True, slots=True)
class Openings:
    """Opens stores, each with the login that is meant for its host, and for no other.

    Attributes:
        registry: the registry flags, for the destination.
        sources: hosts of the sources.
        destinations: hosts of the destination.
        src_creds: login to the sources.
    """

    registry: dict[str, Any]
    sources: frozenset[str]
    destinations: frozenset[str]
    src_creds: str = ""

    def open(self, place: Place) -> Any:
        """Open one place. Other registries, those of images, get no flag but the authorities and the timeout."""
        if isinstance(place, LayoutReference):
            return open_place(place, {})
        flags = dict(self.registry)
        if place.host in self.destinations:
            if place.host in self.sources and self.src_creds and not flags.get("creds"):
                flags["creds"] = self.src_creds
        elif place.host in self.sources:
            flags["creds"] = self.src_creds or None
        else:
            flags |= {"creds": None, "cert_file": None, "key_file": None, "plain_http": None}
        return open_place(place, flags)


def hosts(places: Sequence[Place]) -> frozenset[str]:
    """The registries among some places."""
    return frozenset(place.host for place in places if isinstance(place, Reference))


def prefix_hosts(*prefixes: str) -> frozenset[str]:
    """The registries that prefixes lie in."""
    return hosts([parse_place(f"{prefix}/x") for prefix in prefixes if prefix])


def stores_for(
    sources: Sequence[Place], destinations: Sequence[Place], images_to: str, src_creds: str, registry: dict[str, Any]
) -> Stores:
    """The stores of one command."""
    from ocisync.mirror.stores import Stores

    theirs = hosts(destinations) | prefix_hosts(images_to.removeprefix("oci://"))
    return Stores(Openings(registry, hosts(sources), theirs, src_creds).open)
