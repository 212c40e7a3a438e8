"""Judges a cluster after a schedule. Every rule is looked at apart from the engine: in objects and in the audit log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ocisync.cluster.client import connect
from ocisync.cluster.inventory import EntryState, InventoryStore
from ocisync.model.resource import JsonObject
from ocisync.model.spec import FIELD_MANAGER
from tests.chaos.world import Content, Key, Places, Strangers, differences
from tests.support.agent import USER_AGENT
from tests.support.audit import AuditLog
from tests.support.cluster import ApiError, Cluster
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

_KINDS = ("ConfigMap", "Secret", "Service", "ServiceAccount", "Role", "Deployment")
_RESOURCES = {
    "configmaps": "ConfigMap", "secrets": "Secret", "services": "Service", "serviceaccounts": "ServiceAccount",
    "roles": "Role", "deployments": "Deployment", "widgets": "Widget",
}  # fmt: skip
_WRITES = ("create", "update", "patch", "delete", "deletecollection")


def read(cluster: Cluster, places: Places, *, widgets: bool) -> dict[Key, JsonObject]:
    """Every object of the namespace, of the kinds that schedules use."""
    found: dict[Key, JsonObject] = {}
    for kind in (*_KINDS, *(["Widget"] if widgets else [])):
        items = _listed(cluster, places.prefix(kind), may_be_missing=kind == "Widget")
        found |= {Key(kind, item["metadata"]["name"]): item for item in items}
    return found


def _listed(cluster: Cluster, path: str, *, may_be_missing: bool) -> list[JsonObject]:
    def once() -> list[list[JsonObject]]:
        try:
            return [cluster.api("GET", path)["items"]]
        except ApiError as error:
            if error.status == 404 and may_be_missing:
                return [[]]
            assert error.status not in (429, 503), "a kind that was just defined has no storage for a moment"
            raise

    return eventually(once, what=f"{path} is served")[0]


def is_ours(live: JsonObject) -> bool:
    """Whether we applied it, whatever its labels say."""
    return any(
        entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")
        for entry in live["metadata"].get("managedFields") or ()
    )


def unequal(live: dict[Key, JsonObject], contents: list[Content]) -> Iterator[str]:
    """Where the cluster is not what the last revisions say."""
    everything: set[Key] = set()
    for content in contents:
        everything |= set(content.wanted)
        for key, wanted in content.wanted.items():
            if key not in live:
                yield f"{key} is missing"
            else:
                yield from (f"{key}: {text}" for text in differences(wanted, live[key], content.sync_id))
    for key in sorted(set(live) - everything):
        if is_ours(live[key]):
            yield f"{key} is an orphan: we applied it, and no revision has it any more"


def touched(live: dict[Key, JsonObject], strangers: Strangers) -> Iterator[str]:
    """What was done to what is not ours."""
    for key, (uid, version) in strangers.own.items():
        found = live.get(key)
        if found is None:
            yield f"{key} is not ours and was deleted"
        elif (found["metadata"]["uid"], found["metadata"]["resourceVersion"]) != (uid, version):
            yield f"{key} is not ours and was changed"
    for (key, name), uid in strangers.added.items():
        found = live.get(key)
        if found is None or found["metadata"]["uid"] != uid:
            continue  # what strangers added went with the object that they added it to
        kept = {**(found.get("data") or {}), **(found["metadata"].get("annotations") or {})}
        if name not in kept:
            yield f"{key}: {name} was added by somebody else and is gone"


def audited(
    audit: AuditLog, since: int, contents: list[Content], strangers: Strangers, *, ended: bool = False
) -> Iterator[str]:
    """What the API server wrote down about the agent: no double prune, no resurrection, no stranger's name."""
    created: Counter[Key] = Counter()
    deleted: Counter[Key] = Counter()
    known = {key for content in contents for key in content.all_keys()}
    namespace = strangers.places.namespace
    for event in audit.events(since=since, user_agent=USER_AGENT, namespace=namespace):
        kind = _RESOURCES.get(event.resource)
        if kind is None or event.subresource or event.verb not in _WRITES:
            continue
        key = Key(kind, event.name)
        if key not in known:
            yield f"{event.verb} of {key}, which no revision ever had ({event.code})"
        if event.code == 201:
            created[key] += 1
        if event.verb == "delete" and event.code in (200, 202):
            deleted[key] += 1
    for content in contents:
        for key in content.all_keys():
            goings = content.dropped(key) + (ended and key in content.wanted)
            if deleted[key] > goings:
                yield f"{key} was deleted {deleted[key]} times, and left the revisions {goings} times"
            comings = content.entered(key) + strangers.deleted[key]
            if created[key] > comings:
                yield f"{key} was created {created[key]} times, for {comings} reasons: it came back from the dead"


def misremembered(control_plane: ControlPlane, agent_namespace: str, live: dict[Key, JsonObject],
                  contents: list[Content]) -> Iterator[str]:  # fmt: skip
    """Where the inventories do not say what is."""
    cluster = connect(str(control_plane.kubeconfig), user_agent="ocisync-test")
    try:
        for content in contents:
            tenant = content.tenant
            store = InventoryStore(cluster, agent_namespace, sync_namespace=tenant.namespace, sync_name=tenant.name)
            entries = {Key(id_.kind, id_.name): entry for id_, entry in store.load().items()}
            entries.pop(Key("CustomResourceDefinition", f"widgets.{content.group}"), None)
            if set(entries) != set(content.wanted):
                yield f"{tenant.name}: inventory and revision differ: {sorted(set(entries) ^ set(content.wanted))}"
            for key, entry in entries.items():
                uid = live[key]["metadata"]["uid"] if key in live else ""
                if entry.state is not EntryState.APPLIED or entry.uid != uid:
                    yield f"{key}: the inventory says {entry.state} {entry.uid}, the cluster {uid}"
    finally:
        cluster.close()


def versions(live: dict[Key, JsonObject], contents: list[Content]) -> dict[Key, str]:
    """What moves when somebody writes: of Deployments the generation, since controllers write their status."""
    return {
        key: f"{live[key]['metadata']['uid']} "
        + str(live[key]["metadata"]["generation" if key.kind == "Deployment" else "resourceVersion"])
        for content in contents
        for key in content.wanted
        if key in live
    }
