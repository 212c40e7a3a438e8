"""Plan: what applying a directory, an artifact or a sync's source would change in a cluster; nothing is written.

Read what is to be applied → choose and rewrite objects as the agent does → read the inventory → `Engine.plan` →
`Previewer`. Both are what a pass runs: the hash of a held plan is the one that `ocisync approve` sets, and a change
that is shown is the change that is made. Rights are those of the caller, or of the service account to impersonate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ocisync.cluster.changes import Change, Preview, Verb
from ocisync.cluster.client import Cluster, segment
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.engine import Engine, Recorded, Settings
from ocisync.cluster.normalise import Prepared, Target, applyset_id
from ocisync.cluster.preview import Previewer, no_differences
from ocisync.flows.compare import Side
from ocisync.flows.preview import differences
from ocisync.flows.situation import settings_of, target_of
from ocisync.kit.stop import StopToken
from ocisync.manifests.imagemap import rewrite
from ocisync.manifests.parse import parse_tree
from ocisync.manifests.select import under
from ocisync.model.errors import ClusterRefused, NotFound
from ocisync.model.image import ImageMap
from ocisync.model.resource import JsonObject, ManifestObject
from ocisync.model.spec import API_GROUP, SyncSpec
from ocisync.model.values import dataclass

NO_IMAGES = ImageMap()


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom, and how: what a sync's spec says, or what flags say.

    Attributes:
        name: of the sync, or of what stands for one, for people: `ArtifactSync apps/shop`.
        inventory: the namespace in which its inventory is kept.
    """

    name: str
    target: Target
    settings: Settings
    inventory: str
    path: str = ""
    images: ImageMap = NO_IMAGES


@dataclass(frozen=True, slots=True)
class Planned:
    """A preview, of what and for whom."""

    side: Side
    scope: Scope
    preview: Preview
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the cluster is not as it would be."""
        return self.preview.differs

    def as_json(self) -> JsonObject:
        """The form that scripts read."""
        preview = self.preview
        return {
            "source": self.side.as_json(),
            "sync": self.scope.name,
            "namespace": self.scope.target.namespace or self.scope.target.sync_namespace,
            "serviceAccount": self.scope.target.user,
            "differs": self.differs,
            "hash": preview.hash,
            "held": preview.held,
            "deferred": preview.deferred,
            "summary": preview.counts(),
            "changes": [_change_json(change) for change in preview.changes],
        }


def scope_of_sync(spec: SyncSpec, digest: str, *, inventory: str, impersonate: bool) -> Scope:
    """What the agent would do for a sync. Without `impersonate`, with the caller's rights."""
    target = target_of(spec)
    return Scope(
        f"ArtifactSync {spec.key}",
        target if impersonate else replace(target, service_account=""),
        settings_of(spec, digest),
        inventory,
        spec.path,
        spec.images,
    )


def objects_of(side: Side, scope: Scope) -> tuple[tuple[ManifestObject, ...], tuple[str, ...]]:
    """The objects that are applied, as the agent chooses them, and what is odd about them.

    Raises:
        InvalidInput: manifests that cannot be read.
        NotFound: there are none below the path.
    """
    objects = under(parse_tree(side.files), scope.path)
    if scope.path and not objects:
        raise NotFound(f"{side.name} has no manifests below {scope.path!r}")
    rewritten = rewrite(objects, scope.images, side.files)
    return rewritten.objects, rewritten.notes


def engine_of(
    cluster: Cluster, discovery: Discovery, scope: Scope, *, holder: str, version: str, stop: StopToken
) -> Engine:
    """The engine that serves this scope."""
    return Engine(cluster, discovery, agent_namespace=scope.inventory, holder=holder, version=version, stop=stop)


@contextmanager
def understood(cluster: Cluster) -> Iterator[None]:
    """Answers that are no JSON are the server's fault, not a defect of ours.

    Raises:
        ClusterRefused: for such an answer.
    """
    try:
        yield
    except ValueError as error:
        message = f"{cluster.host}: an answer cannot be understood: {str(error)[:200]}"
        raise ClusterRefused(message, hint="is that a Kubernetes API server? try: kubectl version") from error


def make_plan(
    cluster: Cluster, discovery: Discovery, side: Side, scope: Scope, *, stop: StopToken, fields: bool = True
) -> Planned:
    """Find out what applying `side` would change. With `fields`, in every field.

    Raises:
        InvalidInput, NotFound: as `objects_of`.
        Unavailable, ClusterRefused: the API server.
        Interrupted: it was stopped.
    """
    objects, notes = objects_of(side, scope)
    with understood(cluster):
        return _planned(cluster, discovery, side, scope, objects, notes, stop=stop, fields=fields)


def _planned(
    cluster: Cluster,
    discovery: Discovery,
    side: Side,
    scope: Scope,
    objects: Sequence[ManifestObject],
    notes: tuple[str, ...],
    *,
    stop: StopToken,
    fields: bool,
) -> Planned:
    engine = engine_of(cluster, discovery, scope, holder="", version="", stop=stop)
    prepared: Prepared = engine.prepare(objects, scope.target)
    owned = _recorded(engine, scope)
    if owned.entries and not owned.found:
        why = f"no inventory in namespace {scope.inventory}: what it owns was found by labels, and is not deleted"
        notes = (*notes, f"{scope.name} has {why}")
    plan = engine.plan(prepared, scope.target, owned, scope.settings)
    previewer = Previewer(
        cluster,
        discovery,
        scope.target,
        force=scope.settings.force,
        differ=differences if fields else no_differences,
        stop=stop,
    )
    found = previewer.preview(plan, prepared, owned.entries)
    named = with_owners(found.changes, cluster)
    return Planned(side, scope, Preview(named, found.hash, found.held, found.deferred), notes)


def _recorded(engine: Engine, scope: Scope) -> Recorded:
    try:
        return engine.recorded(scope.target)
    except ClusterRefused as error:
        hint = f"you need the right to list ConfigMaps in namespace {scope.inventory}; is it the right one?"
        raise ClusterRefused(error.message, hint=hint, reason=error.reason) from error


def with_owners(changes: Sequence[Change], cluster: Cluster) -> tuple[Change, ...]:
    """Conflicts with other syncs in words that people know: the id of a sync is a hash of its name."""
    if not any(change.verb is Verb.CONFLICT and "applyset-" in change.message for change in changes):
        return tuple(changes)
    owners = sync_names(cluster)
    return tuple(
        replace(change, message=named(change.message, owners)) if change.verb is Verb.CONFLICT else change
        for change in changes
    )


def named(message: str, owners: Mapping[str, str]) -> str:
    """A message with the names of syncs beside their ids."""
    for sync_id, name in owners.items():
        if sync_id in message:
            return f"{message} (that is ArtifactSync {name})"
    return message


def sync_names(cluster: Cluster) -> dict[str, str]:
    """`namespace/name` of every sync by its ApplySet id; empty if they may not be listed."""
    answer = cluster.request("GET", f"/apis/{segment(API_GROUP)}/v1alpha1/artifactsyncs")
    if answer.status >= 300:
        return {}
    pairs = [
        (str(item["metadata"]["namespace"]), str(item["metadata"]["name"]))
        for item in json.loads(answer.body).get("items") or ()
    ]
    return {applyset_id(name, namespace): f"{namespace}/{name}" for namespace, name in pairs}


def _change_json(change: Change) -> JsonObject:
    out: JsonObject = {"action": change.verb.value, **change.id.as_json()}
    if change.place:
        out["place"] = change.place
    for key, value in (("reason", change.reason), ("message", change.message)):
        if value:
            out[key] = value
    if change.after is not None:
        out["after"] = str(change.after)
    if change.takes:
        out["takes"] = [{"manager": take.manager, "fields": list(take.fields)} for take in change.takes]
    if change.differences:
        out["fields"] = [
            {"path": item.path, "action": item.action, "from": item.old, "to": item.new} for item in change.differences
        ]
    return out
