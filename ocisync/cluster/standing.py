"""What our last apply of an object must have left, found out without writing: for syncs whose drift is only reported.

After a start nothing is remembered. An apply would tell, but it would also put back what somebody changed while no
agent looked. So the object is read and the apply is asked for as a dry run: what that would own is what we owned. If it
would change anything, what is remembered is made one version older than the object, and the watch finds the drift as
it finds any other.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from ocisync.cluster.client import APPLY_PATCH, PARTIAL_METADATA, Cluster
from ocisync.cluster.memory import NO_GENERATION, Applied, applied_of, seen_of
from ocisync.cluster.normalise import Desired, Target
from ocisync.model.spec import FIELD_MANAGER

_DRY_RUN: Final = (
    ("fieldManager", FIELD_MANAGER),
    ("force", "true"),
    ("fieldValidation", "Strict"),
    ("dryRun", "All"),
)


def standing(cluster: Cluster, path: str, desired: Desired, target: Target, uid: str) -> Applied | None:
    """What to remember of an object that was applied before; None if that cannot be found out.

    Args:
        cluster: the connection.
        path: of the object.
        desired: what it should be.
        target: as whom the dry run is made.
        uid: of the object that was applied, as the inventory has it; empty if it does not know.

    Raises:
        Unavailable: the server does not answer.
    """
    found = cluster.request("GET", path, accept=PARTIAL_METADATA)
    if found.status == 404:
        # It was deleted: the first complete list will not show it.
        return Applied(uid, 0, NO_GENERATION, b"", "", b"", b"")
    if found.status != 200:
        return None
    answer = cluster.request(
        "PATCH",
        path,
        query=_DRY_RUN,
        body=desired.payload(),
        content_type=APPLY_PATCH,
        accept=PARTIAL_METADATA,
        as_user=target.user,
    )
    if answer.status >= 300:
        return None
    live, would = json.loads(found.body), applied_of(json.loads(answer.body))
    seen, now = seen_of(live), applied_of(live)
    same = would.owned_digest == seen.owned_digest and would.entry_time == seen.entry_time
    if same and would.generation == seen.generation and uid in {"", seen.uid}:
        return now
    lost = would.owned_digest != seen.owned_digest
    generation = seen.generation if lost or seen.generation == NO_GENERATION else seen.generation - 1
    return replace(
        would,
        uid=uid or seen.uid,
        resource_version=seen.resource_version - 1,
        generation=generation,
        entry_time=seen.entry_time,
        others_digest=seen.others_digest if lost or seen.generation != NO_GENERATION else b"?",
    )
