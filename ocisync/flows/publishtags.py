"""Which tags a push may set, decided before anything is written. Pure.

Typed tags come first, then `sha-<12 hex>` of the commit. A typed SemVer tag is immutable: other content under it is
refused unless forced. The automatic tag is left alone, with a warning, if it has other content. Other tags may move,
but not back in time: a commit older than what the tag points to now is refused unless forced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from ocisync.model.clock import format_rfc3339, parse_rfc3339
from ocisync.model.errors import Refused, UsageError
from ocisync.model.ref import check_tag, is_semver_tag
from ocisync.model.tree import Provenance
from ocisync.model.values import dataclass

FUTURE_TOLERANCE = timedelta(minutes=5)
_COMMIT_TAG_CHARS = 12
# Where registries and cosign keep what belongs to a digest; a push must not look like that.
_RESERVED = re.compile(r"sha256-[0-9a-f]{64}(?:\..*)?\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tags of a push: as typed, and the automatic one (empty if there is none)."""

    typed: tuple[str, ...]
    automatic: str

    @property
    def all(self) -> tuple[str, ...]:
        """Every tag once, typed ones first."""
        return tuple(dict.fromkeys((*self.typed, *([self.automatic] if self.automatic else []))))


@dataclass(frozen=True, slots=True)
class Current:
    """What a tag points to now: its digest (empty if it does not exist) and what its manifest calls its time."""

    digest: str = ""
    created: datetime | None = None


def wanted_tags(typed: Sequence[str], origin: Provenance) -> Wanted:
    """Check the typed tags and add the automatic one.

    Raises:
        UsageError: for a tag that is none or is reserved, and if there is no tag at all.
    """
    tags = tuple(dict.fromkeys(check_tag(tag) for tag in typed))
    for tag in tags:
        if _RESERVED.match(tag):
            raise UsageError(f"tag {tag} is reserved for signatures", hint="choose another tag")
    # Uncommitted content is not what the commit's name promises.
    automatic = f"sha-{origin.commit[:_COMMIT_TAG_CHARS]}" if origin.commit and not origin.dirty else ""
    if not tags and not automatic:
        raise UsageError("no tag: content that is not a commit needs one", hint="write oci://HOST/REPOSITORY:TAG")
    return Wanted(tags, automatic if automatic not in tags else "")


def check_time(origin: Provenance, now: datetime) -> None:
    """Refuse a commit from the future: its sequence would block every later push.

    Raises:
        Refused: reason FutureCommit.
    """
    if origin.committed_at > now + FUTURE_TOLERANCE:
        raise Refused(
            f"commit {origin.commit[:12] or origin.revision} is from the future: {format_rfc3339(origin.committed_at)},"
            f" now is {format_rfc3339(now)}",
            reason="FutureCommit",
            hint="correct the clock, then git commit --amend --reset-author",
        )


def check_tag_move(tag: str, current: Current, target: str, origin: Provenance, *, force: bool) -> None:
    """Refuse to change a typed tag that must not change.

    Raises:
        Refused: reason TagImmutable or OlderCommit.
    """
    if not current.digest or current.digest == target or force:
        return
    if is_semver_tag(tag):
        raise Refused(
            f"tag {tag} is a version and already has other content: {current.digest}, this push is {target}",
            reason="TagImmutable",
            hint="push a new version, or replace it for everyone with --force-tag",
        )
    if current.created is not None and current.created > origin.committed_at.replace(microsecond=0):
        raise Refused(
            f"tag {tag} points to {current.digest} of {format_rfc3339(current.created)}, which is newer than this"
            f" commit of {format_rfc3339(origin.committed_at)}",
            reason="OlderCommit",
            hint="roll back with git revert and a new push, or move the tag back with --force-tag",
        )


def created_of(annotation: str) -> datetime | None:
    """Read a `created` annotation. It is no evidence: it can only make a push stop and ask."""
    return parse_rfc3339(annotation)


def is_immutable(tag: str, automatic: str) -> bool:
    """Tell whether a tag of a push never moves: versions, and the commit's own."""
    return tag == automatic or is_semver_tag(tag)


def immutable_first(tags: Sequence[str], automatic: str) -> tuple[str, ...]:
    """The order to write tags in: names that never move before names that do."""
    return tuple(sorted(tags, key=lambda tag: not is_immutable(tag, automatic)))
