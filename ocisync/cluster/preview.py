"""What a pass would do to each object, found out by the engine's own steps without writing anything.

A plan says what is applied and what is deleted; a preview says what comes of it: created, configured (which fields),
taken over (from whom), refused (why), unchanged. Three questions, the cheap ones first:

1. Objects that the inventory knows are read, a kind and namespace with many of them by one list. If our Apply entry and
   all our values are as the manifest has them, the object is unchanged, and the server is asked nothing more.
2. Everything else goes through `Applier` itself behind a `Rehearsal`, which makes every write a dry run.
3. What a dry run cannot know is derived: an object whose definition or namespace comes with the same artifact is
   planned behind it, and what depends on a failing object is blocked, by the executor's own schedule.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ocisync.cluster import ownership
from ocisync.cluster.apply import Action, Applier, ObjectResult
from ocisync.cluster.beforeafter import after_transfer, essence, shown, takes_of
from ocisync.cluster.changes import TROUBLE, Change, Difference, Preview, Verb
from ocisync.cluster.client import JSON, Cluster, Response
from ocisync.cluster.discovery import ApiResource, Discovery
from ocisync.cluster.inventory import Entry
from ocisync.cluster.leave import yielded
from ocisync.cluster.memory import Applied, applied_of
from ocisync.cluster.normalise import ApplyMode, Desired, Prepared, Rejected, Target
from ocisync.cluster.order import Schedule, graph_of
from ocisync.cluster.outcome import ApiFailure, ErrorClass
from ocisync.cluster.plan import Plan
from ocisync.cluster.prune import Pruner
from ocisync.cluster.rehearsal import Rehearsal
from ocisync.cluster.settled import is_settled
from ocisync.kit.pool import map_bounded
from ocisync.kit.stop import StopToken
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import Gvk, JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL

_LIST_FROM = 6  # known objects of one kind in one namespace: from here on one list is cheaper than single reads
_PAGE = 500
_NO_DRY_RUN = "does not support dry run"


Differ = Callable[[ObjectId, JsonObject, JsonObject], tuple[Difference, ...]]


def no_differences(_: ObjectId, __: JsonObject, ___: JsonObject) -> tuple[Difference, ...]:
    """For callers that want verbs only."""
    return ()


class Previewer:
    """Previews for one target. Writes nothing; safe to use from several threads.

    Args:
        cluster: where to look.
        discovery: kinds and paths.
        target: for whom; dry runs are made as its service account.
        force: as in `Settings`.
        differ: tells the differences between an object as it is and as it would be.
        stop: ends it early.
        workers: objects looked at at the same time.
    """

    def __init__(
        self,
        cluster: Cluster,
        discovery: Discovery,
        target: Target,
        *,
        force: bool = False,
        differ: Differ = no_differences,
        stop: StopToken | None = None,
        workers: int = 16,
    ) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self._target = target
        self._force = force
        self._differ = differ
        self._stop = stop or StopToken()
        self._workers = workers

    def preview(self, plan: Plan, prepared: Prepared, inventory: Mapping[ObjectId, Entry]) -> Preview:
        """Find out what the plan comes to.

        Raises:
            Unavailable, ClusterRefused, Interrupted: the server does not answer, or it was stopped.
        """
        context = _Context.of(plan, prepared)
        found: dict[ObjectId, Change] = {}
        found.update(self._listed(plan.applies, inventory, context))
        rest = [one for one in plan.applies if one.id not in found]
        for change in map_bounded(
            lambda one: self._judge(one, inventory.get(one.id), context), rest, workers=self._workers
        ):
            self._stop.check()
            found[change.id] = change
        changes = _ordered(plan.applies, prepared.rejected, found)
        changes += [
            Change(item.id, _verb_of(item.failure), item.place, item.failure.error_class, item.failure.message)
            for item in prepared.rejected
        ]
        uids = frozenset(change.live.uid for change in changes if change.live is not None)
        deletions = self._deletions(plan, inventory, uids)
        deferred = bool(plan.prunes) and any(change.verb in TROUBLE for change in changes)
        return Preview((*changes, *deletions), plan.hash, plan.held, plan.deferred or deferred)

    def remembered(self, applies: Iterable[Desired], inventory: Mapping[ObjectId, Entry]) -> dict[ObjectId, Applied]:
        """What the inventory's objects are now, by lists alone: for `Engine.execute(previous=…)`."""
        known = [one for one in applies if one.id in inventory]
        return {
            one.id: applied_of(live)
            for one, live in self._lists(known)
            if ownership.is_member(live, self._target.sync_id)
        }

    # --- Reading ----------------------------------------------------------------------------------------------------

    def _listed(
        self, applies: Sequence[Desired], inventory: Mapping[ObjectId, Entry], context: _Context
    ) -> Iterator[tuple[ObjectId, Change]]:
        """Changes of objects that lists show: what is settled costs nothing more."""
        known = [one for one in applies if inventory.get(one.id, Entry(one.id)).uid]
        groups: dict[tuple[Gvk, str], list[Desired]] = defaultdict(list)
        for one in known:
            groups[one.gvk, one.id.namespace].append(one)
        many = [one for group in groups.values() if len(group) >= _LIST_FROM for one in group]
        page: list[tuple[Desired, JsonObject]] = []
        for pair in self._lists(many):
            self._stop.check()
            page.append(pair)
            if len(page) >= _PAGE:
                yield from self._compared(page, inventory, context)
                page = []
        yield from self._compared(page, inventory, context)

    def _compared(
        self,
        page: Sequence[tuple[Desired, JsonObject]],
        inventory: Mapping[ObjectId, Entry],
        context: _Context,
    ) -> Iterator[tuple[ObjectId, Change]]:
        judged = map_bounded(
            lambda pair: self._judge(pair[0], inventory.get(pair[0].id), context, live=pair[1]),
            page,
            workers=self._workers,
        )
        for change in judged:
            yield change.id, change

    def _lists(self, wanted: Iterable[Desired]) -> Iterator[tuple[Desired, JsonObject]]:
        """The labelled ones of these objects; what may not be listed is left out."""
        groups: dict[tuple[Gvk, str], dict[str, Desired]] = defaultdict(dict)
        for one in wanted:
            groups[one.gvk, one.id.namespace][one.id.name] = one
        for (gvk, namespace), by_name in groups.items():
            resource = self._discovery.find(gvk.group, gvk.kind, gvk.version)
            if resource is None:
                continue
            for item in self._list(resource, namespace):
                found = by_name.get(str((item.get("metadata") or {}).get("name")))
                if found is not None:
                    yield found, {"apiVersion": gvk.api_version, "kind": gvk.kind, **item}

    def _list(self, resource: ApiResource, namespace: str) -> Iterator[JsonObject]:
        token = ""
        while True:
            query = [("labelSelector", f"{PART_OF_LABEL}={self._target.sync_id}"), ("limit", str(_PAGE))]
            response = self._cluster.request(
                "GET", resource.path(namespace), query=[*query, *([("continue", token)] if token else [])]
            )
            if response.status >= 400:
                return  # not allowed to list, or the list's version is gone: objects are read one by one
            answer = _decoded(response)
            yield from answer.get("items") or ()
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return

    def _read(self, one: Desired) -> JsonObject | None:
        resource = self._discovery.find(one.gvk.group, one.gvk.kind, one.gvk.version)
        if resource is None:
            return None
        response = self._cluster.request("GET", resource.path(one.id.namespace, one.id.name), accept=JSON)
        if response.status == 403 and self._target.user:
            response = self._cluster.request(
                "GET", resource.path(one.id.namespace, one.id.name), accept=JSON, as_user=self._target.user
            )
        return _decoded(response) if response.status < 300 else None

    # --- Judging ----------------------------------------------------------------------------------------------------

    def _judge(self, one: Desired, entry: Entry | None, context: _Context, *, live: JsonObject | None = None) -> Change:
        self._stop.check()
        missing = context.missing(one, self._discovery)
        if missing is not None:
            return Change(one.id, Verb.CREATE, one.place, after=missing)
        known = entry is not None and bool(entry.uid)
        if live is None and known:
            live = self._read(one)
        if live is not None and entry is not None and self._is_settled(one, entry, live):
            return Change(one.id, Verb.UNCHANGED, one.place, live=applied_of(live))
        door = Rehearsal(self._cluster)
        applier = Applier(door, self._discovery, self._target, force=self._force, sleep=self._breath)
        result = applier.apply_one(one, known=known, uid=entry.uid if entry else "")
        if result.failure is not None and result.failure.reason == "Unreachable":
            raise Unavailable(f"{one.id}: {result.failure.message}", retry_after_s=result.failure.retry_after_s)
        before = door.read if door.read is not None else live
        return self._change(one, result, before, door.answer, context)

    def _breath(self, seconds: float) -> bool:
        """Let others finish what they write; nothing else is waited for: what a dry run did never comes to pass."""
        self._stop.wait(seconds)
        return True

    def _is_settled(self, one: Desired, entry: Entry, live: JsonObject) -> bool:
        if one.options.apply is not ApplyMode.OVERRIDE or str((live.get("metadata") or {}).get("uid")) != entry.uid:
            return False
        wanted: JsonObject = json.loads(one.payload())
        return is_settled(yielded(wanted, live, one.left) if one.left else wanted, live, one.gvk.api_version)

    def _change(
        self, one: Desired, result: ObjectResult, before: JsonObject | None, after: JsonObject | None, context: _Context
    ) -> Change:
        live = applied_of(before) if before is not None else None
        plain = Change(one.id, Verb.SKIP, one.place, live=live)
        if result.failure is not None:
            return self._failed(plain, one, result.failure, before, context)
        if result.action is Action.SKIPPED:
            return replace(plain, reason=one.options.apply.value)
        if result.action is Action.CREATED or before is None or after is None:
            return replace(plain, verb=Verb.CREATE, live=None)
        verdict = ownership.claim(before, self._target.sync_id, one.options.adopt)
        joins = verdict is ownership.Claim.FREE and not ownership.applied_by_us(before)
        after = after_transfer(before, after, one) if joins else after
        if essence(before) == essence(after):
            return replace(plain, verb=Verb.UNCHANGED)
        return replace(
            plain,
            verb=Verb.ADOPT if joins or ownership.part_of(before) not in ("", self._target.sync_id) else Verb.CONFIGURE,
            differences=self._differ(one.id, shown(before), shown(after)),
            takes=takes_of(before, after),
        )

    def _failed(
        self, change: Change, one: Desired, failure: ApiFailure, before: JsonObject | None, context: _Context
    ) -> Change:
        change = replace(change, reason=failure.error_class.value, message=failure.message)
        if before is not None and (before.get("metadata") or {}).get("deletionTimestamp"):
            ends = "it is being deleted; it is created again when that has ended"
            return replace(change, verb=Verb.WAIT, reason=ErrorClass.WAITING.value, message=ends)
        if one.id in context.recreated and failure.error_class is ErrorClass.IMMUTABLE:
            return replace(change, verb=Verb.RECREATE)
        if _NO_DRY_RUN in failure.message:
            verb = Verb.CREATE if before is None else Verb.CONFIGURE
            return replace(change, verb=verb, reason="NoDryRun")
        provider = context.provider(one, failure)
        if provider is not None:
            return replace(
                change, verb=Verb.CREATE if before is None else Verb.CONFIGURE, reason="", message="", after=provider
            )
        return replace(change, verb=_verb_of(failure))

    # --- Deleting ---------------------------------------------------------------------------------------------------

    def _deletions(self, plan: Plan, inventory: Mapping[ObjectId, Entry], uids: frozenset[str]) -> list[Change]:
        # What the inventory lets go of is news only where it is more than a broken-off beginning.
        changes = [Change(id_, Verb.ENDING) for id_ in plan.ending]
        changes += [Change(id_, Verb.FORGET) for id_ in plan.forgets]
        changes += [Change(kept.id, Verb.ORPHAN, reason=kept.reason, message=kept.message) for kept in plan.kept]
        door = Rehearsal(self._cluster)
        pruner = Pruner(door, self._discovery, self._target, stop=self._stop, workers=self._workers)
        for result in pruner.delete(plan.prunes, inventory, uids):
            failure = result.failure
            if result.action is Action.DELETED:
                changes.append(Change(result.id, Verb.PRUNE))
            elif failure is None:
                changes.append(Change(result.id, Verb.FORGET))
            elif _NO_DRY_RUN in failure.message:
                changes.append(Change(result.id, Verb.PRUNE, reason="NoDryRun", message=failure.message))
            else:
                changes.append(
                    Change(result.id, _verb_of(failure), reason=failure.error_class.value, message=failure.message)
                )
        return changes


@dataclass(frozen=True, slots=True)
class _Context:
    """What the artifact brings, and what other objects of it may wait for."""

    definitions: Mapping[tuple[str, str], ObjectId]
    namespaces: Mapping[str, ObjectId]
    recreated: frozenset[ObjectId]

    @classmethod
    def of(cls, plan: Plan, prepared: Prepared) -> _Context:
        return cls(
            {one.defines: one.id for one in prepared.desired if one.defines is not None},
            {one.id.name: one.id for one in prepared.desired if one.id.kind == "Namespace" and not one.id.group},
            frozenset(loss.id for loss in plan.recreations),
        )

    def missing(self, one: Desired, discovery: Discovery) -> ObjectId | None:
        """The definition of the artifact without which nobody can even ask for the object."""
        definition = self.definitions.get((one.id.group, one.id.kind))
        if definition is None or discovery.find(one.gvk.group, one.gvk.kind, one.gvk.version) is not None:
            return None
        return definition

    def provider(self, one: Desired, failure: ApiFailure) -> ObjectId | None:
        """What of the artifact would take away the reason of a refusal."""
        definition = self.definitions.get((one.id.group, one.id.kind))
        if definition is not None and (failure.undeclared or failure.reason == "NoKind"):
            return definition
        return self.namespaces.get(one.id.namespace) if failure.status == 404 else None


def _decoded(response: Response) -> JsonObject:
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ClusterRefused("the API server's answer is no JSON object")
    return found


def _verb_of(failure: ApiFailure) -> Verb:
    if failure.error_class is ErrorClass.CONFLICT:
        return Verb.CONFLICT
    return Verb.WAIT if failure.error_class is ErrorClass.WAITING else Verb.REFUSED


def _ordered(
    applies: Sequence[Desired], rejected: Sequence[Rejected], found: Mapping[ObjectId, Change]
) -> list[Change]:
    """In the order of the apply; what cannot start because of others says so."""
    graph = graph_of(applies, rejected)
    schedule = Schedule(graph)
    while (id_ := schedule.take(0.0)) is not None:
        schedule.done(id_, succeeded=found[id_].verb not in TROUBLE)
    changes = []
    for one in sorted(applies, key=lambda one: (graph.stage[one.id], one.id)):
        change = found[one.id]
        failure, cause = graph.failures.get(one.id), schedule.blocked.get(one.id)
        if failure is not None:
            change = Change(one.id, Verb.REFUSED, one.place, failure.error_class.value, failure.message)
        elif cause is not None:
            why = f"not tried: it needs {cause}, which fails"
            change = Change(one.id, Verb.BLOCKED, one.place, "DependencyFailed", why)
        changes.append(change)
    return changes
