"""The end of a sync: delete what it owns, or leave it running, then forget it.

Deleting is guarded as pruning is: only proven members, in the version that was judged, in reverse order. Until
everything is gone the finalizer stays. If the service account that must delete does not exist any more, nobody can:
then the orphans are named and the sync is let go.
"""

from __future__ import annotations

from collections.abc import Callable

from ocisync.cluster.engine import ApplyReport
from ocisync.cluster.outcome import ErrorClass
from ocisync.flows.memory import Memory, Ports
from ocisync.flows.outcome import Done, Facts, Failed, Outcome, Reason, Stalled, Waiting
from ocisync.flows.situation import rules_of, target_of
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.spec import DeletionPolicy, SyncSpec

_LOOK_S = 1.0
_PAUSED_LOOK_S = 60.0  # its end wakes us
_RETRY_S, _RETRY_CAP_S = 2.0, 60.0
_NAMED = 5


def tear_down(spec: SyncSpec, memory: Memory, ports: Ports, *, account_exists: Callable[[str, str], bool]) -> Outcome:
    """Take one step towards the end; `Done` means that the finalizer may go.

    Args:
        spec: of a sync that is being deleted.
        memory: of this sync.
        ports: the world.
        account_exists: whether a service account (namespace, name) exists.
    """
    paused = ports.paused()
    if paused:
        ports.tracker.set_sync(rules_of(spec, "paused"))
        return Stalled(Reason.PAUSED, f"nothing is deleted: {paused}", Facts(), _PAUSED_LOOK_S)
    # Suspended means that nothing is written, and a deletion is a write.
    orphan = spec.deletion_policy is DeletionPolicy.ORPHAN or spec.suspend
    target = target_of(spec)
    ports.tracker.set_sync(rules_of(spec, "deleting"))
    memory.cluster_attempts += 1
    pause = min(_RETRY_S * 2.0 ** min(memory.cluster_attempts, 8), _RETRY_CAP_S)
    ports.tracker.begin_pass(target.sync_id)
    try:
        store = ports.engine.inventory(target)
        owned = tuple(sorted(store.entries))
        report = ports.engine.delete_all(target, store, orphan=orphan)
    except (Unavailable, ClusterRefused) as error:
        return Failed(Reason.CLUSTER_FAILED, error.message, Facts(), pause)
    finally:
        ports.tracker.end_pass(target.sync_id)
    facts = Facts(objects=report.owned)
    if report.failures:
        if _nobody_may(report) and not account_exists(spec.namespace, spec.service_account):
            names = ", ".join(str(item.id) for item in report.failures[:_NAMED])
            account = f"{spec.namespace}/{spec.service_account}"
            message = f"service account {account} is gone: {len(report.failures)} objects are left behind: {names}"
            store.destroy()
            return _ended(spec, ports, message)
        first = report.failures[0]
        text = first.failure.message if first.failure else "failed"
        return Failed(Reason.DELETING, f"{first.id}: {text}", facts, pause)
    if report.ending:
        memory.cluster_attempts = 0
        return Waiting(Reason.DELETING, f"waits for the end of {len(report.ending)} objects", _LOOK_S, facts)
    what = "left running" if orphan else "deleted"
    kept = f"; {len(report.kept)} kept: {report.kept[0].id}: {report.kept[0].message}" if report.kept else ""
    return _ended(spec, ports, f"{len(owned)} objects {what}{kept}")


def _nobody_may(report: ApplyReport) -> bool:
    return all(
        item.failure is not None and item.failure.error_class is ErrorClass.FORBIDDEN for item in report.failures
    )


def _ended(spec: SyncSpec, ports: Ports, message: str) -> Outcome:
    ports.tracker.forget_sync(target_of(spec).sync_id)
    ports.pods.forget(target_of(spec).sync_id)
    ports.copies.drop(spec.key)
    ports.watch()
    return Done(message, Facts(), Reason.DELETING)
