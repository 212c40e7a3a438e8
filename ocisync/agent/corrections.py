"""What the tracker may do to the cluster: read one object, apply one object again.

A corrected object can be a new one (it was deleted). Its uid goes to the inventory, which otherwise would take it for
somebody else's when the artifact drops it. Before it is created the old uid is taken out, so that a kill between the
two leaves an entry that its label and Apply entry prove. What the inventory does not name is not created here: the
inventory was lost, or is of an earlier time, and so may be everything else that is remembered of the sync.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable

from ocisync.cluster.client import Cluster
from ocisync.cluster.correction import Corrected, Correction, CorrectionStatus, corrected
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.engine import Engine
from ocisync.cluster.normalise import Target
from ocisync.model.errors import ClusterRefused, Interrupted, OcisyncError, Unavailable
from ocisync.model.resource import JsonObject, ObjectId


class _Unlisted(OcisyncError):
    """What would be created is not in the inventory."""


def _untold(sync_id: str) -> None:
    """Nobody asked."""


class Corrections:
    """Callbacks of the tracker. Thread-safe.

    Args:
        target_of: the target and force of a sync by its ApplySet id; None if it is gone.
        unlisted: told, by the ApplySet id, that the inventory lacks an object: the sync needs a full pass.
    """

    def __init__(
        self,
        cluster: Cluster,
        discovery: Discovery,
        engine: Engine,
        target_of: Callable[[str], tuple[Target, bool] | None],
        unlisted: Callable[[str], None] = _untold,
    ) -> None:
        self._unlisted = unlisted
        self._cluster = cluster
        self._discovery = discovery
        self._engine = engine
        self._target_of = target_of
        self._inventory = threading.Lock()

    def read(self, object_id: ObjectId) -> JsonObject | None:
        """One object, whole; None if there is none.

        Raises:
            Unavailable: it can't be known.
        """
        resource = self._discovery.resource(object_id.group, object_id.kind)
        answer = self._cluster.request("GET", resource.path(object_id.namespace, object_id.name))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Unavailable(f"{object_id}: HTTP {answer.status}")
        found: JsonObject = json.loads(answer.body)
        return found

    def correct(self, correction: Correction) -> Corrected:
        """Apply one object again, as the sync's service account."""
        found = self._target_of(correction.sync_id)
        if found is None:
            return Corrected(CorrectionStatus.WAITING, message="the sync is gone")
        target, force = found
        object_id, before = correction.desired.id, correction.previous.uid
        try:
            if not correction.uid:
                self._write_ahead(target, object_id)
            result = self._engine.apply_one(
                correction.desired, target, uid=correction.uid, force=force, previous=correction.previous,
                renewing=lambda id_: self._write_ahead(target, id_),
            )  # fmt: skip
            if result.applied is not None and result.applied.uid != before:
                # What was made was made: without its uid the entry is proven by label and Apply entry, and a later
                # pass notes it. To call the correction failed would make our own new object somebody's replacement.
                with contextlib.suppress(Unavailable, ClusterRefused):
                    self._note(target, object_id, result.applied.uid)
        except Interrupted:
            raise  # also when the lease is lost: that says nothing about the object
        except _Unlisted:
            self._unlisted(correction.sync_id)
            return Corrected(CorrectionStatus.WAITING, message="the inventory lacks it: a full pass comes first")
        except OcisyncError as error:
            return Corrected(CorrectionStatus.FAILED, message=error.message)
        return corrected(result)

    def _write_ahead(self, target: Target, object_id: ObjectId) -> None:
        if not self._note(target, object_id, ""):
            raise _Unlisted(f"{object_id}: not in the inventory of {target.sync_name}")

    def _note(self, target: Target, object_id: ObjectId, uid: str) -> bool:
        """Note a uid; False if the inventory does not name the object."""
        with self._inventory:  # one writer at a time: shards are compared and swapped
            store = self._engine.inventory(target)
            if object_id not in store.entries:
                return False
            store.record({object_id: uid})
            return True
