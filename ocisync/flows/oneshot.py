"""Apply once, without an agent: the same engine, with an inventory in a namespace of the caller's.

What stands for the sync is a ConfigMap, the parent of an ApplySet as `kubectl apply --applyset=configmap/…` makes one:
it names kinds and namespaces of the members, and its id is in their label. The inventory lies beside it. So a run that
was killed is completed by the next one, objects that the source drops can be pruned, and nobody else's object is taken:
what belongs to an `ArtifactSync` or another apply is a conflict that names the owner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

from ocisync.cluster.apply import Action, ObjectResult
from ocisync.cluster.client import JSON, Cluster, segment
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.engine import ApplyReport, Settings
from ocisync.cluster.guard import Guard
from ocisync.cluster.memory import Applied
from ocisync.cluster.normalise import Prepared, Target, applyset_id
from ocisync.cluster.outcome import ErrorClass, classify
from ocisync.cluster.preview import Previewer
from ocisync.flows.compare import Side
from ocisync.flows.plan import Scope, engine_of, named, objects_of, sync_names, understood
from ocisync.flows.setrecord import PARENT, SetRecord, keep, parent_name
from ocisync.kit.stop import StopToken
from ocisync.model.errors import AccessDenied, ClusterRefused, NotFound, Refused, Unavailable
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId
from ocisync.model.spec import APPLYSET_ID_LABEL
from ocisync.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags of one apply say.

    Attributes:
        name: which set of objects it is; the next apply of this name prunes and completes it.
        namespace: where the set is kept, and what objects without a namespace get.
        service_account: of that namespace; every object is written as it. Empty: as the caller.
    """

    name: str
    namespace: str
    service_account: str = ""
    path: str = ""
    prune: bool = False
    force: bool = False
    guard: Guard = Guard()
    approved: str = ""


def fingerprint(side: Side) -> str:
    """A digest of a directory's files: what an approval of its plan is given for."""
    listed = [[file.path, hashlib.sha256(file.data).hexdigest()] for file in side.files]
    return "sha256:" + hashlib.sha256(json.dumps(sorted(listed)).encode()).hexdigest()


def scope_of(cluster: Cluster, options: Options, digest: str) -> Scope:
    """The scope of an apply; its parent need not exist.

    Raises:
        Refused: the ConfigMap of that name is somebody else's.
        Unavailable, ClusterRefused, AccessDenied: the API server.
    """
    name = parent_name(options.name)
    sync_id = applyset_id(name, options.namespace, *PARENT)
    with understood(cluster):
        parent = _read_parent(cluster, options.namespace, name)
    if parent is not None:
        _check_parent(parent, sync_id)
    target = Target(
        sync_id=sync_id,
        sync_name=name,
        sync_namespace=options.namespace,
        sync_uid=str(parent["metadata"]["uid"]) if parent else "",
        service_account=options.service_account,
        namespace=options.namespace,
        parent=PARENT,
    )
    settings = Settings(
        digest=digest, prune=options.prune, force=options.force, guard=options.guard, approved=options.approved
    )
    shown = f"apply {options.namespace}/{options.name}" if options.name else f"first sync into {options.namespace}"
    return Scope(shown, target, settings, options.namespace, options.path)


def _read_parent(cluster: Cluster, namespace: str, name: str) -> JsonObject | None:
    response = cluster.request("GET", _path(namespace, name))
    if response.status == 404:
        return None
    if response.status >= 300:
        raise _refusal(response.status, f"cannot read ConfigMap {namespace}/{name}: {classify(response).message}")
    found: JsonObject = json.loads(response.body)
    return found


def _check_parent(parent: JsonObject, sync_id: str) -> None:
    metadata = parent["metadata"]
    if (metadata.get("labels") or {}).get(APPLYSET_ID_LABEL) != sync_id:
        raise Refused(
            f"ConfigMap {metadata['namespace']}/{metadata['name']} is no parent of an ApplySet: somebody else made it",
            hint="choose another --name",
            reason="ForeignParent",
        )


def with_parent(cluster: Cluster, scope: Scope) -> Scope:
    """The scope with its parent, which is made if there is none.

    Raises:
        Refused, Unavailable, ClusterRefused, AccessDenied: as `scope_of`.
    """
    target = scope.target
    if target.sync_uid:
        return scope
    parent = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": target.sync_name, "labels": {APPLYSET_ID_LABEL: target.sync_id}},
    }
    response = cluster.request(
        "POST", _path(target.sync_namespace), body=json.dumps(parent).encode(), content_type=JSON
    )
    if response.status == 409:  # another apply has just made it
        made = _read_parent(cluster, target.sync_namespace, target.sync_name)
        if made is None:
            raise Unavailable(f"ConfigMap {target.sync_namespace}/{target.sync_name} comes and goes")
        _check_parent(made, target.sync_id)
    elif response.status >= 300:
        if response.status == 404:
            raise NotFound(
                f"there is no namespace {target.sync_namespace}: the inventory has no place to be",
                hint=f"kubectl create namespace {target.sync_namespace}",
            )
        what = f"cannot make ConfigMap {target.sync_namespace}/{target.sync_name}"
        raise _refusal(response.status, f"{what}: {classify(response).message}")
    else:
        made = json.loads(response.body)
    return replace(scope, target=replace(target, sync_uid=str(made["metadata"]["uid"])))


def _refusal(status: int, message: str) -> Exception:
    if status in {401, 403}:
        return AccessDenied(message, hint="name a namespace in which you may write ConfigMaps: -n NAMESPACE")
    return Unavailable(message) if status == 429 or status >= 500 else ClusterRefused(message)


def _path(namespace: str, name: str = "") -> str:
    path = f"/api/v1/namespaces/{segment(namespace)}/configmaps"
    return f"{path}/{segment(name)}" if name else path


# --- Doing it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an apply. `wanted` are the objects that were to be applied."""

    side: Side
    scope: Scope
    report: ApplyReport
    wanted: tuple[ObjectId, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[ObjectResult, ...]:
        """What was not done."""
        return self.report.failures

    @property
    def passing(self) -> bool:
        """Whether every failure may go away by itself."""
        classes = {item.failure.error_class for item in self.failures if item.failure is not None}
        return classes <= {ErrorClass.TRANSIENT, ErrorClass.WAITING}

    def counts(self) -> dict[str, int]:
        """How many objects met which end; those that none met are left out."""
        counts = self.report.counts
        return {action.value: counts[action] for action in Action if counts[action]}

    def as_json(self) -> JsonObject:
        """The form that scripts read."""
        report = self.report
        return {
            "source": self.side.as_json(),
            "sync": self.scope.name,
            "namespace": self.scope.target.namespace,
            "serviceAccount": self.scope.target.user,
            "hash": report.plan_hash,
            "held": report.held,
            "deferred": report.prune_deferred,
            "complete": report.all_applied and not report.held and not report.failures,
            "summary": self.counts(),
            "objects": [_result_json(result) for result in report.results],
            "kept": [{"object": str(kept.id), "reason": kept.reason, "message": kept.message} for kept in report.kept],
        }


def apply_once(
    cluster: Cluster,
    discovery: Discovery,
    side: Side,
    scope: Scope,
    *,
    holder: str,
    version: str,
    stop: StopToken,
    planned: Callable[[int], None],
    applied: Callable[[ObjectId], None],
) -> Done:
    """Make the cluster equal to `side`. `planned` is told how many objects there are, `applied` of each that is done.

    Raises:
        InvalidInput, NotFound: as `flows.plan.objects_of`.
        Refused, Unavailable, ClusterRefused, AccessDenied: the API server; a failing object is no error here.
    """
    objects, notes = objects_of(side, scope)
    with understood(cluster):
        scope = with_parent(cluster, scope)
        report, wanted = _applied(cluster, discovery, scope, objects, holder, version, stop, planned, applied)
        if report.all_applied and not report.held:
            notes = (*notes, *_kept(cluster, side, scope))
    return Done(side, scope, report, wanted, notes)


def _kept(cluster: Cluster, side: Side, scope: Scope) -> tuple[str, ...]:
    """Record what was applied; a note if that could not be done, since everything else is."""
    target = scope.target
    record = SetRecord(
        source=side.name,
        repository=side.repository,
        digest=side.digest,
        revision=side.revision,
        signers=side.signers or (),
        path=scope.path,
        account=target.service_account,
    )
    problem = keep(cluster, target, record)
    return (f"`ocisync why` will not know what was applied, it could not be recorded: {problem}",) if problem else ()


def _applied(
    cluster: Cluster,
    discovery: Discovery,
    scope: Scope,
    objects: tuple[ManifestObject, ...],
    holder: str,
    version: str,
    stop: StopToken,
    planned: Callable[[int], None],
    applied: Callable[[ObjectId], None],
) -> tuple[ApplyReport, tuple[ObjectId, ...]]:
    engine = engine_of(cluster, discovery, scope, holder=holder, version=version, stop=stop)
    prepared: Prepared = engine.prepare(objects, scope.target)
    store = engine.inventory(scope.target)
    plan = engine.plan(prepared, scope.target, store, scope.settings)
    planned(len(plan.applies))
    known = Previewer(cluster, discovery, scope.target, stop=stop).remembered(plan.applies, store.entries)

    def on_applied(object_id: ObjectId, _: Applied) -> None:
        applied(object_id)

    try:
        report = engine.execute(
            plan, prepared, scope.target, store, scope.settings, on_applied=on_applied, previous=known.get
        )
    except ClusterRefused as error:
        if error.reason != "InventoryConflict":
            raise
        raise Unavailable(
            f"{scope.name}: somebody else is applying this set at the same time: {error.message}",
            hint="run the same command again",
        ) from error
    return _with_owners(report, cluster), tuple(one.id for one in plan.applies)


def _with_owners(report: ApplyReport, cluster: Cluster) -> ApplyReport:
    def foreign(result: ObjectResult) -> bool:
        return result.failure is not None and result.failure.reason == "OwnedByOther"

    if not any(foreign(result) for result in report.results):
        return report
    owners = sync_names(cluster)
    results = tuple(
        replace(result, failure=replace(result.failure, message=named(result.failure.message, owners)))
        if result.failure is not None and foreign(result)
        else result
        for result in report.results
    )
    return replace(report, results=results)


def _result_json(result: ObjectResult) -> JsonObject:
    out: JsonObject = {"action": result.action.value, **result.id.as_json()}
    if result.place:
        out["place"] = result.place
    if result.failure is not None:
        out |= {"reason": result.failure.error_class.value, "message": result.failure.message}
    return out
