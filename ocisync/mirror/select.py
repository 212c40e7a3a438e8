"""Which artifacts of a repository are wanted: by tag or digest, by a range of versions, by patterns, the newest few.

A tag is resolved here, once; everything after works with the digest. Tags that belong to digests (signatures, fallback
indexes) are never selected: they come along with what they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ocisync.flows.tags import Query, choose
from ocisync.kit.pool import map_bounded
from ocisync.mirror.closure import Selected
from ocisync.model.errors import NotFound, Refused, UsageError
from ocisync.model.limits import CLOSURE_ROOTS
from ocisync.model.ref import Place, is_reserved_tag
from ocisync.model.semver import Range, parse_range
from ocisync.model.spec import SelectorKind
from ocisync.oci.store import Store

_KEPT_BYTES = 8 * 1024  # of one manifest until it is walked; larger ones are read again (5,000 of them: 40 MiB)
_ANY = parse_range("*-0")  # pre-releases too: whoever wants none of them says so with a range


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of one repository; what several of them find is added up.

    Attributes:
        references: tags and digests, which must exist.
        within: versions of this range.
        patterns: shell patterns for tags.
        newest: of what range and patterns find, at most so many, versions first and newest first; 0 for all. Alone, it
            means versions.
    """

    references: tuple[str, ...] = ()
    within: Range | None = None
    patterns: tuple[str, ...] = ()
    newest: int = 0

    @property
    def searches(self) -> bool:
        """Whether tags have to be listed."""
        return self.within is not None or bool(self.patterns) or self.newest > 0


def names_of(tags: Iterable[str], selection: Selection) -> list[str]:
    """The tags that range, patterns and number select, versions first and newest first."""
    usable = [tag for tag in tags if not is_reserved_tag(tag)]
    if selection.patterns:
        usable = [tag for tag in usable if any(fnmatchcase(tag, pattern) for pattern in selection.patterns)]
    within = selection.within
    if within is None and not selection.patterns:
        within = _ANY
    found = choose(usable, Query(within=within))
    return found[: selection.newest] if selection.newest else found


def select(store: Store, place: Place, selection: Selection, *, workers: int) -> tuple[Selected, ...]:
    """Find out what is wanted, and the digests of it.

    Raises:
        NotFound: a tag or digest that was named, or the repository, does not exist.
        Refused: nothing matches, or too much does.
        UsageError: nothing was asked for.
    """
    if not selection.references and not selection.searches:
        raise UsageError(
            f"{place.location} names neither a tag nor a digest",
            hint=f"{place.location}:TAG, or add --semver, --tag or --newest",
        )
    names = list(selection.references)
    searched: set[str] = set()
    if selection.searches:
        listed = names_of(_tags(store, place), selection)
        if not listed and not names:
            raise NotFound(f"no tag of {place.location} is wanted", hint=f"ocisync list {place.location}")
        searched = set(listed) - set(names)
        names += listed
    names = list(dict.fromkeys(names))
    if len(names) > CLOSURE_ROOTS:
        raise Refused(
            f"{len(names)} artifacts of {place.location} are wanted, more than {CLOSURE_ROOTS}",
            reason="TooLarge",
            hint="select less with --newest",
        )
    versions = searched if selection.within is not None else set()
    return tuple(map_bounded(lambda name: _resolve(store, place, name, versions), names, workers=workers))


def _tags(store: Store, place: Place) -> list[str]:
    try:
        return list(store.tags())
    except NotFound as error:
        hint = f"check the name; ocisync list {place.location} shows the tags of a repository that exists"
        raise NotFound(f"{place.location} does not exist, or nothing was ever pushed to it", hint=hint) from error


def _resolve(store: Store, place: Place, name: str, versions: set[str]) -> Selected:
    """Read what a name leads to: whoever selects it walks it next, and asking for the digest alone costs as much."""
    try:
        found = store.manifest(name)
    except NotFound as error:
        raise NotFound(f"{place.location} has no {name}", hint=f"ocisync list {place.location}") from error
    digest, kept = found.descriptor.digest, found if len(found.raw) <= _KEPT_BYTES else None
    if name == digest:
        return Selected(place, "", name, SelectorKind.DIGEST, manifest=kept)
    kind = SelectorKind.SEMVER if name in versions else SelectorKind.TAG
    return Selected(place, name, digest, kind, manifest=kept)


def without_doubles(selected: Sequence[Selected]) -> tuple[Selected, ...]:
    """Each tag and each digest of a repository once."""
    return tuple({(item.place.location, item.tag, item.digest, item.as_tag): item for item in selected}.values())
