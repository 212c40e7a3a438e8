"""What recipes call: prepare, plan, execute, correct one object, delete everything of a sync.

`plan` reads and decides, and writes nothing; `execute` does exactly what a plan says, in the order that makes a kill at
any instant safe: ① write the inventory ahead → ② apply → ③ note uids → ④ delete → ⑤ drop entries. Deletions wait until
every object of the artifact was applied. A full pass over an unchanged artifact is one no-op request for each object
and writes nothing; it is also how an agent learns after a start what it needs to judge later events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ocisync.cluster.apply import Action, Applier, ObjectResult
from ocisync.cluster.client import PARTIAL_METADATA_LIST, Cluster
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.execute import WORKERS, Conduct, Executor, Known
from ocisync.cluster.guard import Guard, Loss
from ocisync.cluster.inventory import Entry, EntryState, InventoryStore, Term, find_inventory
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import ApplyMode, Desired, Prepared, Rejected, Target, prepare
from ocisync.cluster.outcome import classify
from ocisync.cluster.ownership import is_member
from ocisync.cluster.parent import Parent, recorded
from ocisync.cluster.past import Past
from ocisync.cluster.plan import Kept, Plan, candidates, make_plan
from ocisync.cluster.prune import STILL_NEEDED, Pruner
from ocisync.cluster.renewal import Renewal
from ocisync.cluster.standing import standing
from ocisync.kit.pool import map_bounded
from ocisync.kit.stop import StopToken
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL

_PAGE = 500
_WEBHOOK_KINDS = frozenset({"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"})
_DEFAULT_GUARD = Guard()


@dataclass(frozen=True, slots=True)
class Settings:
    """How one pass is to be done.

    Attributes:
        approved: the plan hash that a person approved; empty for none.
        gentle: nobody waits for it: every other request goes first.
    """

    digest: str
    prune: bool = True
    force: bool = False
    guard: Guard = _DEFAULT_GUARD
    approved: str = ""
    gentle: bool = False


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What a pass did.

    Attributes:
        results: of applies and deletions; objects that could not be prepared are among the failed.
        all_applied: every object of the artifact is applied as it is written.
        prune_deferred: deletions were left for later because not everything was applied.
        prune_held: namespaces and definitions that stay because they hold what must stay.
        kept: everything that stays although the artifact does not have it, with the reason.
        ending: deleted objects that a finalizer still holds.
        held: why nothing was done; approve `plan_hash` to let it happen.
        owned: size of the inventory afterwards.
        gated: why later waves were not begun; empty if nothing waits for health.
        superseded: the pass only waited, and ended because something newer is to be applied.
    """

    results: tuple[ObjectResult, ...]
    all_applied: bool
    plan_hash: str
    held: str = ""
    prune_deferred: bool = False
    kept: tuple[Kept, ...] = ()
    ending: tuple[ObjectId, ...] = ()
    owned: int = 0
    gated: str = ""
    superseded: bool = False

    @property
    def prune_held(self) -> tuple[Kept, ...]:
        """Namespaces and definitions that were not deleted because of what they hold."""
        return tuple(kept for kept in self.kept if kept.reason == "PruneHeld")

    @property
    def failures(self) -> tuple[ObjectResult, ...]:
        """Results with a failure; deletions that wait for a finalizer, or for such deletions, left out."""
        return tuple(item for item in self.results if _is_trouble(item))

    @property
    def counts(self) -> Mapping[Action, int]:
        """How many objects met which end."""
        return Counter(result.action for result in self.results)


class Owned(Protocol):
    """What a sync owns: an `InventoryStore`, or what `Engine.recorded` says of one."""

    @property
    def entries(self) -> Mapping[ObjectId, Entry]:
        """By object."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """An inventory as a preview sees it: nothing can be written to it. `found`: it exists."""

    entries: Mapping[ObjectId, Entry]
    found: bool = True


class Engine:
    """Writes to one cluster for any number of syncs, one pass of a sync at a time.

    Args:
        cluster: where to.
        discovery: kinds and paths of that cluster.
        agent_namespace: where inventories are kept.
        holder: who we are, in inventory headers.
        version: ours, in the ApplySet's tooling annotation.
        stop: ends running passes early.
        workers: objects applied at the same time.
        hook: called before each inventory write; tests kill the pass there.
        term: of the lease that allows this process to write; None where there is no lease.
    """

    def __init__(
        self,
        cluster: Cluster,
        discovery: Discovery,
        *,
        agent_namespace: str,
        holder: str,
        version: str,
        stop: StopToken,
        workers: int = WORKERS,
        hook: Callable[[str], None] | None = None,
        term: Callable[[], Term | None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self._agent_namespace = agent_namespace
        self._holder = holder
        self._version = version
        self._stop = stop
        self._workers = workers
        self._hook = hook
        self._term = term or _no_term

    def prepare(self, objects: Iterable[ManifestObject], target: Target) -> Prepared:
        """Normalise an artifact's objects for this cluster."""

        def namespaced(group: str, kind: str) -> bool | None:
            resource = self._discovery.find(group, kind)
            return None if resource is None else resource.namespaced

        return prepare(objects, target, namespaced)

    def inventory(self, target: Target) -> InventoryStore:
        """The inventory of a target, loaded; rebuilt from labels if the sync had one and it is lost.

        Raises:
            Unavailable, ClusterRefused: it cannot be read or written.
        """
        store = self._store(target)
        store.load()
        if not store.exists:
            self._rebuild(store, target)
        return store

    def schemas(self) -> Mapping[str, str]:
        """The server's schemas by `group/version`, as texts that differ when a schema does; empty if not known."""
        return self._discovery.schemas()

    def _store(self, target: Target) -> InventoryStore:
        return InventoryStore(
            self._cluster,
            self._agent_namespace,
            sync_namespace=target.sync_namespace,
            sync_name=target.sync_name,
            hook=self._hook,
        )

    def recorded(self, target: Target) -> Recorded:
        """What the inventory holds; if it is lost, what it would hold once rebuilt. Nothing is written.

        Raises:
            Unavailable, ClusterRefused: it cannot be read.
        """
        store = self._store(target)
        store.load()
        if store.exists:
            return Recorded(store.entries)
        found = self._found(target)
        return Recorded({id_: Entry(id_, uid, EntryState.UNPROVEN) for id_, uid in found.items()}, found=False)

    def plan(self, prepared: Prepared, target: Target, store: Owned, settings: Settings) -> Plan:
        """Read what is needed and decide; nothing is written.

        Raises:
            Unavailable, ClusterRefused: the server does not answer.
        """
        inventory = store.entries
        leaving = candidates(prepared, inventory)
        observed = self._pruner(target).observe(leaving, contents=settings.prune)
        return make_plan(
            prepared,
            observed,
            sync_id=target.sync_id,
            sync_uid=target.sync_uid,
            digest=settings.digest,
            guard=settings.guard,
            owned=sum(1 for entry in inventory.values() if entry.uid),
            prune=settings.prune,
            recreations=self._recreations(prepared, inventory, target, settings),
            approved=settings.approved,
        )

    def execute(
        self,
        plan: Plan,
        prepared: Prepared,
        target: Target,
        store: InventoryStore,
        settings: Settings,
        *,
        on_applied: Callable[[ObjectId, Applied], None] | None = None,
        on_deleting: Callable[[tuple[ObjectId, ...]], None] | None = None,
        previous: Callable[[ObjectId], Applied | None] | None = None,
        conduct: Conduct | None = None,
    ) -> ApplyReport:
        """Do what the plan says.

        `on_applied` is called from worker threads as soon as an object was applied, `on_deleting` once before anything
        is deleted, so that nobody creates it again; `previous` tells what an earlier apply left; `conduct` which
        objects are not to be tried now. A failure of one object is in the report; an inventory that cannot be written
        ends the pass.

        Raises:
            Unavailable, ClusterRefused: the inventory or the parent could not be written, or the sync is gone: it was
                deleted, or etcd was restored from a backup that does not have it.
        """
        rejected = tuple(_rejection(item) for item in prepared.rejected)
        if plan.held:
            return ApplyReport(rejected, False, plan.hash, plan.held, kept=plan.kept, owned=len(store.entries))
        parent = Parent(self._cluster, self._discovery, target, self._version)
        mine = [one.id for one in plan.applies if one.options.apply is not ApplyMode.IGNORE]
        live = parent.required()
        store.claim(self._holder, settings.digest, self._term())
        parent.widen(live, [*store.entries, *mine])
        store.add(mine)
        known = _known(store.entries, plan)
        executor = self._executor(plan, target, settings, known, on_applied, previous, conduct, Renewal(store))
        results = executor.run(plan.applies, prepared.rejected)
        uids = {result.id: result.applied.uid for result in results if result.applied is not None}
        self._disown(plan, known, uids)
        store.record(uids)
        results = (*results, *rejected)
        all_applied = all(result.succeeded for result in results)
        gone = list(plan.forgets)
        if plan.prunes and all_applied:
            if on_deleting is not None:
                on_deleting(tuple(one.id for one in plan.prunes))
            pruner = self._pruner(target)
            deleted = pruner.delete(plan.prunes, store.entries, frozenset(uids.values()), plan.ending_options)
            results = (*results, *deleted)
            gone += [item.id for item in deleted if item.succeeded]
        pending = [item.id for item in results if item.action is Action.DELETED and not item.succeeded]
        store.mark(pending, EntryState.DELETING)
        store.remove(gone)
        owned = store.entries
        if gone:
            parent.narrow(owned)
        return ApplyReport(
            results=results,
            all_applied=all_applied,
            plan_hash=plan.hash,
            prune_deferred=bool(plan.prunes) and not all_applied,
            kept=plan.kept,
            ending=(*plan.ending, *pending),
            owned=len(owned),
            gated=executor.gated,
            superseded=executor.superseded,
        )

    def apply_one(
        self,
        desired: Desired,
        target: Target,
        *,
        uid: str = "",
        force: bool = False,
        previous: Applied | None = None,
        renewing: Callable[[ObjectId], None] | None = None,
    ) -> ObjectResult:
        """Apply a single object: to correct drift, to create it again, or as a no-op to look whether it is as written.

        `uid` names the object that is meant. If that one is gone, the object is met as if for the first time, and
        `renewing` is told before that.
        """
        sleep = self._stop.wait
        applier = Applier(self._cluster, self._discovery, target, force=force, sleep=sleep, renewing=renewing)
        return applier.apply_one(desired, known=bool(uid), uid=uid, previous=previous)

    def standing(self, desired: Desired, target: Target, uid: str = "") -> Applied | None:
        """What our last apply of an object must have left, without writing; None if that cannot be found out."""
        resource = self._discovery.find(desired.id.group, desired.id.kind)
        if resource is None:
            return None
        path = resource.path(desired.id.namespace, desired.id.name)
        return standing(self._cluster, path, desired, target, uid)

    def delete_all(self, target: Target, store: InventoryStore, *, orphan: bool = False) -> ApplyReport:
        """End a sync: delete what it owns, or leave it running without our label.

        Call again while `ending` is not empty. The inventory is deleted once nothing is left to do.

        Raises:
            Unavailable, ClusterRefused: the server does not answer.
        """
        inventory, term = store.entries, self._term()
        if term is not None and store.exists:
            store.claim(self._holder, store.header.digest, term)
        pruner = self._pruner(target)
        observed = pruner.observe(tuple(inventory.values()), contents=not orphan)
        plan = make_plan(
            Prepared(()), observed, sync_id=target.sync_id, sync_uid=target.sync_uid, digest="", guard=Guard(),
            owned=len(inventory),
        )  # fmt: skip
        if orphan:
            results = tuple(map_bounded(pruner.release, plan.prunes, workers=self._workers))
            done = [item.id for item in results if item.succeeded] + list(plan.ending)
        else:
            results = pruner.delete(plan.prunes, inventory, frozenset(), plan.ending_options)
            done = [item.id for item in results if item.succeeded]
        pending = tuple(item.id for item in results if item.action is Action.DELETED and not item.succeeded)
        # What could not be looked at (an aggregated API that is down) is neither gone nor free: it is waited for.
        unseen = tuple(kept.id for kept in plan.kept if kept.reason == "Unreadable")
        ending = unseen if orphan else (*plan.ending, *pending, *unseen)
        store.remove([*plan.forgets, *done])
        failures = any(_is_trouble(item) for item in results)
        if not ending and not failures:
            store.destroy()
        return ApplyReport(results, not failures, plan.hash, kept=plan.kept, ending=ending, owned=len(store.entries))

    def _executor(
        self,
        plan: Plan,
        target: Target,
        settings: Settings,
        known: Mapping[ObjectId, Known],
        on_applied: Callable[[ObjectId, Applied], None] | None,
        previous: Callable[[ObjectId], Applied | None] | None,
        conduct: Conduct | None,
        renewing: Renewal,
    ) -> Executor:
        def on_result(result: ObjectResult) -> None:
            if result.applied is not None and on_applied is not None:
                on_applied(result.id, result.applied)

        applier = Applier(
            self._cluster,
            self._discovery,
            target,
            force=settings.force,
            webhooks=_webhooks(plan.applies),
            sleep=self._stop.wait,
            gentle=settings.gentle,
            renewing=renewing,
            past=Past(self._cluster, user=target.user, gentle=settings.gentle),
        )
        return Executor(
            applier,
            self._cluster,
            self._discovery,
            known=known,
            on_result=on_result,
            previous=previous or _nothing_remembered,
            conduct=conduct,
            stop=self._stop,
            workers=self._workers,
        )

    def _disown(self, plan: Plan, known: Mapping[ObjectId, Known], uids: Mapping[ObjectId, str]) -> None:
        """Take adopted objects out of their former owner's inventory: it would force its own fields on them again."""
        taken: dict[str, list[ObjectId]] = {}
        for one in plan.applies:
            if one.options.adopt and one.id in uids and one.id not in known:
                taken.setdefault(one.options.adopt, []).append(one.id)
        for owner, ids in taken.items():
            former = find_inventory(self._cluster, self._agent_namespace, owner)
            if former is not None:
                former.remove(ids)

    def _recreations(
        self, prepared: Prepared, inventory: Mapping[ObjectId, Entry], target: Target, settings: Settings
    ) -> tuple[Loss, ...]:
        """Ask by dry run which of the objects that may be forced would need a new object."""
        applier = Applier(self._cluster, self._discovery, target, force=settings.force)
        probed = [
            (one, inventory[one.id].uid)
            for one in prepared.desired
            if applier.may_force(one) and one.id in inventory and inventory[one.id].uid
        ]
        answers = map_bounded(lambda pair: applier.would_recreate(*pair), probed, workers=self._workers)
        return tuple(
            Loss(one.id, uid, recreated=True, confirm=one.options.protect or applier.protected(one))
            for (one, uid), needed in zip(probed, answers, strict=True)
            if needed
        )

    def _rebuild(self, store: InventoryStore, target: Target) -> None:
        found = self._found(target)
        if found:
            store.claim(self._holder, "")
            store.adopt_found(found)

    def _found(self, target: Target) -> dict[ObjectId, str]:
        """Find the members of a sync whose inventory is lost: its parent still names their kinds."""
        live = Parent(self._cluster, self._discovery, target, self._version).read()
        kinds = recorded(live)[0] if live is not None else frozenset()
        found: dict[ObjectId, str] = {}
        for group_kind in sorted(kinds):
            kind, _, group = group_kind.partition(".")
            found.update(self._members(group, kind, target))
        return found

    def _members(self, group: str, kind: str, target: Target) -> dict[ObjectId, str]:
        resource = self._discovery.find(group, kind)
        if resource is None:
            return {}
        found: dict[ObjectId, str] = {}
        token = ""
        while True:
            query = [("labelSelector", f"{PART_OF_LABEL}={target.sync_id}"), ("limit", str(_PAGE))]
            response = self._cluster.request(
                "GET",
                resource.path(),
                query=[*query, *([("continue", token)] if token else [])],
                accept=PARTIAL_METADATA_LIST,
            )
            if response.status >= 400:
                message = f"cannot list {kind}.{group} to rebuild the inventory: {classify(response).message}"
                raise Unavailable(message) if response.status >= 500 else ClusterRefused(message)
            answer: JsonObject = json.loads(response.body)
            for item in answer.get("items") or ():
                if is_member(item, target.sync_id):
                    metadata = item["metadata"]
                    id_ = ObjectId(group, kind, str(metadata.get("namespace") or ""), str(metadata["name"]))
                    found[id_] = str(metadata["uid"])
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return found

    def _pruner(self, target: Target) -> Pruner:
        return Pruner(self._cluster, self._discovery, target, stop=self._stop, workers=self._workers)


def _known(entries: Mapping[ObjectId, Entry], plan: Plan) -> dict[ObjectId, Known]:
    """Objects whose apply may use force: written ahead is not enough, their uid must be known."""
    recreate = {loss.id for loss in plan.recreations}
    return {id_: Known(entry.uid, id_ in recreate) for id_, entry in entries.items() if entry.uid}


def _is_trouble(item: ObjectResult) -> bool:
    failure = item.failure
    return failure is not None and item.action is not Action.DELETED and failure.reason != STILL_NEEDED


def _rejection(item: Rejected) -> ObjectResult:
    return ObjectResult(item.id, Action.FAILED, item.place, item.failure)


def _webhooks(applies: Iterable[Desired]) -> frozenset[str]:
    names = set()
    for one in applies:
        if one.id.kind in _WEBHOOK_KINDS:
            hooks = json.loads(one.payload()).get("webhooks") or ()
            names |= {str(hook.get("name")) for hook in hooks if isinstance(hook, dict)}
    return frozenset(names)


def _nothing_remembered(_: ObjectId) -> Applied | None:
    return None


def _no_term() -> Term | None:
    return None
