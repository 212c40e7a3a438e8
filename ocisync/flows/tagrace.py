"""Notice a newer push that took a moving tag between our last look at the tag and our write.

Registries have no compare-and-swap: between reading a tag and writing it another job can have written it, and our
write undoes theirs unseen. But every push of a commit adds `sha-<12 hex>` before it moves a tag. So the tags that
appeared since our last look tell who was there: if one is of a newer commit, and one of our own keys signed that very
digest for that very tag, then the tag was theirs, and it is given back. That signature is what makes it right to set a
tag to bytes which this run did not build; without one the user is told, and nothing is guessed.

Costs two listings for each push that moves a tag. A registry that does not list its tags, or has too many, is not
asked again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice

from ocisync.flows import sign
from ocisync.flows.publishtags import created_of
from ocisync.model.artifact import ArtifactManifest
from ocisync.model.clock import format_rfc3339
from ocisync.model.descriptor import CREATED, OCI_MANIFEST, REVISION
from ocisync.model.errors import NotFound, OcisyncError, Refused
from ocisync.model.tree import Provenance
from ocisync.oci.evidence import EvidenceBudget
from ocisync.oci.store import Store
from ocisync.pack.artifact import parse_manifest

_COMMIT_TAG = re.compile(r"sha-[0-9a-f]{12}\Z")
_MAX_TAGS = 2_000  # names; listing more would cost more requests than the push itself
_MAX_RIVALS = 20  # commits pushed within the milliseconds between a look and a write


class TagRace:
    """The rivals of one push. Call `look` before a tag's last check, `settle` after it was written."""

    def __init__(
        self,
        store: Store,
        origin: Provenance,
        signers: Sequence[sign.AnySigner],
        budget: Callable[[], EvidenceBudget],
        now: datetime,
    ) -> None:
        self._store = store
        self._origin = origin
        self._signers = signers
        self._budget = budget
        self._now = now
        self._seen: frozenset[str] | None = frozenset()
        self._looked = False

    def look(self) -> None:
        """Remember which commits are there; once is enough."""
        if not self._looked:
            self._looked = True
            self._seen = self._commit_tags()

    def settle(self, tag: str) -> str:
        """Give `tag` back to a newer commit that took it meanwhile.

        Returns:
            A sentence for the user if a newer commit appeared and it cannot be told whether the tag was its.

        Raises:
            Refused: reason OlderCommit; the tag points to the newer commit again.
        """
        present = self._commit_tags() if self._seen is not None else None
        if present is None or self._seen is None:
            return ""
        rivals = [found for name in sorted(present - self._seen)[:_MAX_RIVALS] if (found := self._newer(name))]
        for rival in sorted(rivals, key=_created, reverse=True):
            digest = rival.descriptor.digest
            if sign.find_signers(self._store, digest, self._signers, (tag,), self._budget(), self._now):
                self._store.put_manifest(rival.raw, OCI_MANIFEST, tag)
                raise Refused(
                    f"tag {tag} was taken by {_name(rival)}, which is newer, at the moment of this push; it points to"
                    f" {digest} again",
                    reason="OlderCommit",
                    hint="nothing is to be done: the newer commit is published",
                )
        if not rivals:
            return ""
        return f"{_name(rivals[0])} is newer and was pushed at the same moment: if it was for tag {tag}, push it again"

    def _newer(self, name: str) -> ArtifactManifest | None:
        try:
            found = self._store.manifest(name)
            manifest = parse_manifest(found.raw, found.descriptor)
        except (NotFound, Refused):
            return None
        return manifest if _created(manifest) > self._origin.committed_at.replace(microsecond=0) else None

    def _commit_tags(self) -> frozenset[str] | None:
        try:
            names = list(islice(self._store.tags(), _MAX_TAGS + 1))
        except NotFound:
            return frozenset()
        except OcisyncError:
            return None  # the tag is set; not being able to look for rivals is no reason to fail
        return frozenset(filter(_COMMIT_TAG.match, names)) if len(names) <= _MAX_TAGS else None


def _created(manifest: ArtifactManifest) -> datetime:
    return created_of(manifest.annotations.get(CREATED, "")) or datetime.min.replace(tzinfo=UTC)


def _name(manifest: ArtifactManifest) -> str:
    revision = manifest.annotations.get(REVISION, "") or manifest.descriptor.digest
    return f"{revision[:100]} of {format_rfc3339(_created(manifest))}"
