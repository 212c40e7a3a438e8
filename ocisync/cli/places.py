"""Registries and image layouts alike: from a reference that a person typed to a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ocisync.model.errors import NotFound, UsageError
from ocisync.model.ref import LayoutReference, Place, parse_place, parse_reference

if TYPE_CHECKING:
    from ocisync.oci.client import RegistryStore
    from ocisync.oci.layout import LayoutStore

_Command = TypeVar("_Command", bound=Callable[..., Any])


def layout_option(function: _Command) -> _Command:
    """`--as`."""
    return click.option(
        "--as",
        "stands_for",
        default="",
        metavar="HOST/REPOSITORY",
        help="Repository that an oci-layout: stands for; signatures name it.",
    )(function)


def place_of(text: str, stands_for: str = "", *, signed: bool = False) -> Place:
    """Read a reference to a registry or a layout.

    Args:
        text: as typed.
        stands_for: the value of `--as`.
        signed: signatures will be made or judged, so a layout needs a name. It is never taken from the layout, whose
            author could choose the name that a policy trusts.

    Raises:
        UsageError: not a reference; `--as` is missing, or belongs to nothing.
    """
    place = parse_place(text)
    if isinstance(place, LayoutReference):
        if stands_for:
            named = parse_reference(stands_for)
            if named.tag or named.digest:
                raise UsageError(f"--as names a repository, without tag and digest: {named.repository}")
            return replace(place, name=named.repository)
        if signed:
            raise UsageError(
                f"{place} is a layout: signatures name a repository, and only you can say which one it stands for",
                hint="add --as HOST/REPOSITORY",
            )
    elif stands_for:
        raise UsageError(f"--as belongs to an oci-layout: reference; {place} names its repository itself")
    return place


def require_version(place: Place, command: str) -> str:
    """The tag or digest of a place.

    Raises:
        UsageError: it has neither.
        NotFound: it is in a layout that does not exist. (Told before a repository that the layout stands for is named.)
    """
    if not place.tag and not place.digest:
        raise UsageError(f"{place} names neither a tag nor a digest", hint=f"ocisync {command} {place.location}:TAG")
    if isinstance(place, LayoutReference) and not Path(place.path).exists():
        raise NotFound(f"{place.location}: there is no such layout", hint=f"ocisync push PATH {place.location}:TAG")
    return place.digest or place.tag


def open_place(place: Place, registry: dict[str, Any]) -> RegistryStore | LayoutStore:
    """Open what a reference names; use it in a `with` block, whose end writes a layout in a tar file."""
    if isinstance(place, LayoutReference):
        from ocisync.oci.layout import open_layout

        return open_layout(place)
    from ocisync.cli.registry import open_registry

    return open_registry(place, **registry)


def typed(place: Place) -> str:
    """How a person types it, for the command to type next."""
    return str(place) if isinstance(place, LayoutReference) else f"oci://{place}"
