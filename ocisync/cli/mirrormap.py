"""`ocisync mirror map`: how names change on the way, for the far side's sync and policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocisync.cli import mirrorfileflags, mirrortext, output
from ocisync.model.errors import UsageError
from ocisync.model.ref import LAYOUT_SCHEME, Place, parse_place

if TYPE_CHECKING:
    from ocisync.mirror.routing import Relocation


@dataclass(frozen=True, slots=True)
class Names:
    """What changes: prefixes of images, and the repositories that signatures name."""

    images: tuple[Relocation, ...]
    remaps: tuple[Relocation, ...]


def is_file(sources: Sequence[str]) -> bool:
    """Whether a mirror file was named instead of references: a file that is there, or a name that is no reference."""
    if len(sources) != 1 or sources[0].startswith(LAYOUT_SCHEME):
        return False
    return Path(sources[0]).is_file() or "/" not in sources[0] or sources[0].endswith(".tar")


def names_in_file(name: str, destination: str, images_to: str, maps: dict[str, str]) -> Names:
    """What a load of a file to `destination` changes. Only the head of the file is read, and believed.

    Raises:
        NotFound, Refused, UsageError: no file, a damaged one, or a destination that is none.
    """
    from ocisync.mirror.archive import ArchiveReader, read_head
    from ocisync.mirror.closure import Role
    from ocisync.mirror.filerouting import file_routes
    from ocisync.mirror.routing import Relocation, shortened

    with mirrorfileflags.opened(name) as file:
        contents = read_head(ArchiveReader(file, name)).contents
    routes = file_routes(contents, parse_place(destination), images_to, maps)
    images = [(one.name or one.repository, routes[one.repository]) for part in contents.parts
              for root in part.roots for one in root.images]  # fmt: skip
    kept = [part.name for part in contents.parts if part.role is Role.ARTIFACT]
    remaps = (Relocation(old, routes[old].repository) for old in kept if _named(routes[old]))
    return Names(shortened(images), tuple(sorted(remaps)))


def _named(place: Place) -> bool:
    return LAYOUT_SCHEME not in place.repository


def show(names: Names, image_paths: Iterable[str], form: str, *, quiet: bool) -> None:
    """Print the map: as YAML to be pasted, or for scripts.

    Raises:
        UsageError: one name would have to become two.
    """
    from ocisync.mirror.routing import ambiguous

    twice = ambiguous(names.images)
    if twice:
        places = [move.new for move in names.images if move.old == twice[0]]
        raise UsageError(
            f"{twice[0]} goes to {' and to '.join(places)}: one map cannot say both",
            hint="print the map of each artifact alone",
        )
    answer: dict[str, Any] = {"images": [{"from": move.old, "to": move.new} for move in names.images]}
    paths = list(image_paths)
    if paths and answer["images"]:
        answer["imagePaths"] = paths
    answer["remap"] = [{"signed": move.old, "here": move.new} for move in names.remaps if move.old != move.new]
    output.emit(answer, form, text=lambda: mirrortext.mapping(answer))
    if not quiet and not answer["images"]:
        output.warning_text("no image has another name there")
