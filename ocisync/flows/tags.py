"""Tags: what a repository offers, versions first and newest first, without what belongs to other tags.

Signature tags (`sha256-….sig` and the like) and fallback indexes are hidden unless everything is asked for. Details
(digest, time, revision) cost two requests for each tag, a few tags at a time; they are what the artifacts say about
themselves, and nothing is verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ocisync.kit.pool import map_bounded
from ocisync.model.descriptor import CREATED, REVISION
from ocisync.model.errors import NotFound, Refused
from ocisync.model.ref import is_commit_tag, is_reserved_tag
from ocisync.model.semver import Range, newest_first
from ocisync.model.values import dataclass
from ocisync.oci.documents import parse_json
from ocisync.oci.store import Store

_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Query:
    """Which tags are wanted.

    Attributes:
        within: only versions of this range.
        pattern: a shell pattern for names; empty for all.
        everything: signature and fallback tags too.
        limit: at most so many; 0 for all.
    """

    within: Range | None = None
    pattern: str = ""
    everything: bool = False
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag; the rest is empty unless details were asked for. `problem` says why there are none."""

    name: str
    digest: str = ""
    created: str = ""
    revision: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The tags found. `matched`: how many there are without the limit; `hidden`: how many others belong to digests."""

    tags: tuple[Tag, ...]
    matched: int
    hidden: int


def list_tags(store: Store, query: Query, *, details: bool = False) -> Listing:
    """List tags.

    Raises:
        NotFound: the registry knows no such repository.
    """
    names = list(store.tags())
    shown = [name for name in names if query.everything or not is_reserved_tag(name)]
    chosen = choose(shown, query)
    cut = chosen[: query.limit] if query.limit else chosen
    tags = map_bounded(lambda name: _details(store, name), cut, workers=_WORKERS) if details else [Tag(n) for n in cut]
    return Listing(tuple(tags), len(chosen), len(names) - len(shown))


def choose(names: Iterable[str], query: Query) -> list[str]:
    """The names that a query wants, in order: versions newest first, other names, commits, what belongs to digests."""
    matching = [name for name in names if not query.pattern or fnmatchcase(name, query.pattern)]
    versions = newest_first(matching, query.within)
    if query.within is not None:
        return versions
    known = set(versions)
    others = sorted(name for name in matching if name not in known)
    return versions + sorted(others, key=lambda name: (is_reserved_tag(name), is_commit_tag(name)))


def _details(store: Store, name: str) -> Tag:
    try:
        found = store.manifest(name)
        document = parse_json(found.raw, name)
    except NotFound:
        return Tag(name, problem="gone")
    except Refused as error:
        return Tag(name, problem=error.message)
    notes = document.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    return Tag(name, found.descriptor.digest, _text(notes.get(CREATED)), _text(notes.get(REVISION)))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
