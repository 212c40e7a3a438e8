"""Whether an apply of ours changed its object. The API server answers one that changed nothing like any other.

A version of the collection, read before the first write of a pass, tells nearly always: an answer with a version up to
that was written before. Otherwise somebody wrote since, a controller perhaps, and the server is asked what the object
was one version before the answer: whoever wrote has moved the time or the fields of his entry, unless that was in the
second of his own last write; and who loses a field to us has not written. Clocks only keep the question from being
asked of entries a minute older than the answer.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from ocisync.cluster.client import PARTIAL_METADATA_LIST, Cluster
from ocisync.cluster.fields import Path, our_entry
from ocisync.cluster.memory import NO_GENERATION, Applied, Seen, seen_of, version_of
from ocisync.model.clock import parse_rfc3339
from ocisync.model.resource import JsonObject

# Longer than any write takes and than clocks of API servers differ.
_SURELY_PAST_S: Final = 60.0


class Past:
    """For one pass. Thread-safe.

    Args:
        user: who is asked for when the agent itself may not list; empty for nobody.
        gentle: let every other request go first.
    """

    def __init__(self, cluster: Cluster, *, user: str = "", gentle: bool = False) -> None:
        self._cluster = cluster
        self._user = user
        self._gentle = gentle
        self._lock = threading.Lock()
        self._marks: dict[str, int] = {}

    def mark(self, everywhere: str, here: str) -> int:
        """The version of a kind when this pass first asked for it; 0 if it may not be known.

        Args:
            everywhere: the kind's collection over all namespaces.
            here: the same in one namespace, for an account that may not list more.

        Raises:
            Unavailable: the server does not answer.
        """
        with self._lock:
            if everywhere not in self._marks:
                one = (("limit", "1"),)
                found = self._list(everywhere, one) or self._list(here, one, self._user)
                self._marks[everywhere] = version_of(found) if found is not None else 0
            return self._marks[everywhere]

    def changed(
        self, path: str, answer: JsonObject, applied: Applied, previous: Applied | None, since: int, date: str
    ) -> bool:
        """Whether the apply that was answered so changed the object; when in doubt, it did.

        Args:
            path: of the object.
            answer: to the apply.
            applied: the same, as it is remembered.
            previous: what an earlier apply of this process left.
            since: a version of this kind from before the apply, that of `previous` included; 0 if none is known.
            date: when the server answered, as it says.
        """
        if previous is not None and applied.resource_version < previous.resource_version:
            previous, since = None, 0  # the cluster went back to a backup: what is remembered proves nothing
        if applied.resource_version <= since:
            return False
        if previous is not None and previous.uid == applied.uid:
            if (previous.entry_time, previous.owned_digest) != (applied.entry_time, applied.owned_digest):
                return True
            if applied.generation != NO_GENERATION and applied.generation == previous.generation:
                return False
        if not _recent(applied.entry_time, date):
            return False
        before = self._just_before(path, applied.resource_version) if since else None
        if before is None or before.uid != applied.uid:
            return True
        if (before.entry_time, before.owned_digest) != (applied.entry_time, applied.owned_digest):
            return True
        if applied.generation != NO_GENERATION and applied.generation == before.generation:
            return False
        return _unmoved(before, seen_of(answer))

    def _just_before(self, path: str, version: int) -> Seen | None:
        """The object one version earlier; None if that is not known any more."""
        collection, _, name = path.rpartition("/")
        query = (
            ("fieldSelector", f"metadata.name={name}"),
            ("resourceVersion", str(version - 1)),
            ("resourceVersionMatch", "Exact"),
        )
        found = self._list(collection, query) or (self._list(collection, query, self._user) if self._user else None)
        items = found.get("items") if found is not None else None
        return seen_of(items[0]) if items else None

    def _list(self, path: str, query: tuple[tuple[str, str], ...], user: str = "") -> JsonObject | None:
        response = self._cluster.request(
            "GET", path, query=query, accept=PARTIAL_METADATA_LIST, as_user=user, gentle=self._gentle
        )
        if response.status != 200:
            return None
        found: JsonObject = json.loads(response.body)
        return found


def _unmoved(before: Seen, now: Seen) -> bool:
    """Whether nobody else wrote, when our entry stood still: then we did, within the second of our own last write.

    What others held together with us and have lost, our new values have taken from them.
    """
    had, have = _others(before), _others(now)
    ours = our_entry(now.entries)
    held = ours.paths() if ours is not None else frozenset()
    if not have.keys() <= had.keys() or any(time > now.entry_time for *_, time in have):
        return False
    return all(have.get(who, frozenset()) <= paths <= have.get(who, frozenset()) | held for who, paths in had.items())


def _others(seen: Seen) -> dict[tuple[str, ...], frozenset[Path]]:
    """What everybody else holds, by who that is and when he last wrote."""
    return {
        (entry.manager, entry.operation, entry.api_version, entry.subresource, entry.time): entry.paths()
        for entry in seen.entries
        if not entry.ours
    }


def _recent(entry_time: str, date: str) -> bool:
    changed_at, answered_at = _entry_time(entry_time), _http_date(date)
    if changed_at is None or answered_at is None:
        return True
    return (answered_at - changed_at).total_seconds() <= _SURELY_PAST_S


# Both have whole seconds: thousands of answers share a handful of texts.
@lru_cache(maxsize=64)
def _entry_time(text: str) -> datetime | None:
    return parse_rfc3339(text)


@lru_cache(maxsize=64)
def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError):
        return None
