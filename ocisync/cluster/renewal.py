"""Written ahead, too: that an object we knew will have another uid.

An object that was deleted or replaced behind our back is made again in the middle of a pass. A kill between that and
the pass's note of uids would leave the old uid in the inventory, by which the new object is not the one we applied: a
later artifact without it would leave it behind. So the old uid is taken out first: then label and Apply entry decide.
"""

from __future__ import annotations

import threading

from ocisync.cluster.inventory import InventoryStore
from ocisync.model.resource import ObjectId


class Renewal:
    """Takes uids out of one inventory while a pass runs. Thread-safe: what comes during a write is written together."""

    def __init__(self, store: InventoryStore) -> None:
        self._store = store
        self._asked: set[ObjectId] = set()
        self._written: set[ObjectId] = set()
        self._asking = threading.Lock()
        self._writing = threading.Lock()

    def __call__(self, object_id: ObjectId) -> None:
        """Return when the inventory has no uid of this object any more.

        Raises:
            Unavailable, ClusterRefused: it was not written: the object may not be created.
        """
        with self._asking:
            self._asked.add(object_id)
        with self._writing:
            if object_id in self._written:
                return
            with self._asking:
                together = self._asked - self._written
            self._store.renounce(together)
            self._written |= together
