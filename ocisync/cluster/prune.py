"""Reads candidates for deletion, and deletes: in reverse order, each only in the version that was judged.

A pending finalizer is waited for by the next pass, never here. An object that changed since it was judged is read and
judged again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from ocisync.cluster.apply import ROUNDS, Action, ObjectResult, breath_s
from ocisync.cluster.client import JSON, JSON_PATCH, PARTIAL_METADATA, PARTIAL_METADATA_LIST, Cluster, Response
from ocisync.cluster.discovery import ApiResource, Discovery
from ocisync.cluster.fields import parse_managed_fields
from ocisync.cluster.inventory import Entry
from ocisync.cluster.normalise import ObjectOptions, Target, defined_kind
from ocisync.cluster.order import Staying, deletion_batches
from ocisync.cluster.outcome import ApiFailure, ErrorClass, classify, failed, unreachable
from ocisync.cluster.ownership import is_member
from ocisync.cluster.plan import Fate, Observed, Prune, judge, prune_of
from ocisync.kit.pool import map_bounded
from ocisync.kit.stop import StopToken
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject, ObjectId, annotations_of
from ocisync.model.spec import PART_OF_LABEL, PRUNE

STILL_NEEDED = "StillNeeded"  # why an object is not deleted yet
_PAGE = 250
_SHOWN = 5
# Every namespace has these, or they follow from what others own.
_FURNITURE = frozenset({"ConfigMap/kube-root-ca.crt", "ConfigMap/openshift-service-ca.crt", "ServiceAccount/default"})
_FURNITURE_KINDS = frozenset(
    {"Event", "Event.events.k8s.io", "Endpoints", "EndpointSlice.discovery.k8s.io", "Lease.coordination.k8s.io",
     "PodMetrics.metrics.k8s.io", "ControllerRevision.apps"}
)  # fmt: skip


class Pruner:
    """Reads and deletes for one target."""

    def __init__(
        self, cluster: Cluster, discovery: Discovery, target: Target, *, stop: StopToken, workers: int = 16
    ) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self._target = target
        self._stop = stop
        self._workers = workers

    def observe(self, entries: Sequence[Entry], *, contents: bool = True) -> tuple[Observed, ...]:
        """Read every candidate. With `contents`, look into namespaces and definitions for what is not ours.

        Raises:
            Unavailable: the API server does not answer: no plan can be made.
        """
        return tuple(map_bounded(lambda entry: self._observe(entry, contents=contents), entries, workers=self._workers))

    def delete(
        self,
        prunes: Iterable[Prune],
        entries: Mapping[ObjectId, Entry],
        applied_uids: frozenset[str],
        ending: Mapping[ObjectId, ObjectOptions] | None = None,
    ) -> tuple[ObjectResult, ...]:
        """Delete, the last applied first. Never raises for what the server says.

        A deleted object that a finalizer still holds has the failure `Terminating` beside the action `deleted`. What
        such an object needs, or one whose deletion failed, is not deleted before it has gone: an operator outlives its
        resources. `ending`: objects that were deleted before and have not gone.
        """
        by_id = {prune.id: prune for prune in prunes}
        options = {**(ending or {}), **{id_: prune.options for id_, prune in by_id.items()}}
        staying = Staying(options, ending or ())
        results: list[ObjectResult] = []

        def one(id_: ObjectId) -> ObjectResult:
            other = staying.needing(id_)
            if other is not None:
                text = f"not deleted yet: {other}, which needs it, has not gone"
                return ObjectResult(id_, Action.SKIPPED, failure=failed(ErrorClass.WAITING, STILL_NEEDED, text))
            return self._delete(by_id[id_], entries.get(id_), applied_uids)

        for batch in deletion_batches(by_id, options):
            done = tuple(map_bounded(one, batch, workers=self._workers))
            staying.add(item.id for item in done if not item.succeeded)
            results += done
        return tuple(results)

    def release(self, prune: Prune) -> ObjectResult:
        """Leave an object running, but take our label off, so that another sync may have it."""
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": prune.uid},
            {"op": "remove", "path": "/metadata/labels/" + PART_OF_LABEL.replace("/", "~1")},
        ]
        resource = self._find(prune.id)
        if resource is None:
            return ObjectResult(prune.id, Action.SKIPPED)
        try:
            response = self._cluster.request(
                "PATCH",
                resource.path(prune.id.namespace, prune.id.name),
                body=json.dumps(operations).encode(),
                content_type=JSON_PATCH,
                accept=PARTIAL_METADATA,
                as_user=self._target.user,
            )
        except Unavailable as error:
            return _failed(prune.id, unreachable(error))
        if response.status < 400 or response.status in (404, 422):  # 422: replaced, or the label is gone already
            return ObjectResult(prune.id, Action.SKIPPED)
        return _failed(prune.id, classify(response, user=self._target.user))

    def _observe(self, entry: Entry, *, contents: bool) -> Observed:
        try:
            live = self._read(entry.id)
        except ClusterRefused as error:
            return Observed(entry, None, unreadable=error.message)
        if live is not None and contents:
            if entry.id.kind == "Namespace" and not entry.id.group:
                return Observed(entry, live, self._foreign_members(entry.id.name))
            if entry.id.group_kind == "CustomResourceDefinition.apiextensions.k8s.io":
                return self._observe_definition(entry, live)
        return Observed(entry, live)

    def _delete(self, prune: Prune, entry: Entry | None, applied_uids: frozenset[str]) -> ObjectResult:
        try:
            for round_ in range(ROUNDS):
                if self._stop.wait(breath_s(round_)):
                    return _failed(prune.id, failed(ErrorClass.TRANSIENT, "Stopped", "not tried: the run was stopped"))
                if prune.uid in applied_uids:
                    return ObjectResult(prune.id, Action.SKIPPED)
                failure = self._send_delete(prune)
                if failure is None or failure.reason == "Terminating":
                    return ObjectResult(prune.id, Action.DELETED, failure=failure)
                if failure.error_class is not ErrorClass.CONFLICT:
                    return _failed(prune.id, failure)
                live = self._read(prune.id)
                known = entry or Entry(prune.id, prune.uid)
                fate, kept = judge(Observed(known, live), self._target.sync_id, applied_uids)
                if kept is not None:  # its entry stays, too, and the next pass says why
                    return _failed(prune.id, failed(ErrorClass.TRANSIENT, kept.reason, kept.message))
                if fate is Fate.ENDING:
                    return ObjectResult(prune.id, Action.DELETED, failure=_ending())
                if live is None or fate is not Fate.PRUNE:
                    return ObjectResult(prune.id, Action.SKIPPED)
                prune = prune_of(prune.id, live)
            return _failed(prune.id, failed(ErrorClass.CONFLICT, "Changing", "it keeps changing while it is deleted"))
        except Unavailable as error:
            return _failed(prune.id, unreachable(error))
        except ClusterRefused as error:
            return _failed(prune.id, failed(ErrorClass.FORBIDDEN, "Unreadable", error.message))

    def _send_delete(self, prune: Prune) -> ApiFailure | None:
        resource = self._find(prune.id)
        if resource is None:
            return None  # the kind is gone, and with it every object of it
        options = {
            "preconditions": {"uid": prune.uid, "resourceVersion": prune.resource_version},
            "propagationPolicy": "Background",
        }
        response = self._cluster.request(
            "DELETE",
            resource.path(prune.id.namespace, prune.id.name),
            body=json.dumps(options).encode(),
            content_type=JSON,
            as_user=self._target.user,
        )
        if response.status == 404:
            return None
        if response.status >= 400:
            return classify(response, user=self._target.user)
        # A Status, or the object as it last was: it is gone. With a deletionTimestamp: something still holds it.
        held = (json.loads(response.body).get("metadata") or {}).get("deletionTimestamp")
        return _ending() if held else None

    def _read(self, id_: ObjectId) -> JsonObject | None:
        response = self._get_object(id_)
        if response is not None and response.status == 404 and not response.body.startswith(b"{"):
            # Not the object is missing but its path: the kind has gone, or is served in other versions now.
            self._discovery.refresh()
            response = self._get_object(id_)
        if response is None:
            if self._discovery.is_silent(id_.group):
                raise ClusterRefused(f"the API group {id_.group} does not answer")
            return None
        if response.status == 404:
            return None
        if response.status >= 400:
            failure = classify(response)
            if failure.error_class is ErrorClass.TRANSIENT:
                raise Unavailable(f"{id_}: {failure.message}", retry_after_s=failure.retry_after_s)
            raise ClusterRefused(failure.message)
        live: JsonObject = json.loads(response.body)
        return live

    def _get_object(self, id_: ObjectId) -> Response | None:
        resource = self._find(id_)
        return None if resource is None else self._get(resource.path(id_.namespace, id_.name), PARTIAL_METADATA)

    def _get(self, path: str, accept: str, query: Sequence[tuple[str, str]] = ()) -> Response:
        """Read as ourselves; where we may not, as the sync's service account."""
        response = self._cluster.request("GET", path, query=query, accept=accept)
        if response.status == 403 and self._target.user:
            response = self._cluster.request("GET", path, query=query, accept=accept, as_user=self._target.user)
        return response

    def _find(self, id_: ObjectId) -> ApiResource | None:
        return self._discovery.find(id_.group, id_.kind)

    def _foreign_members(self, namespace: str) -> tuple[str, ...]:
        """What a namespace holds that nobody would expect to go with it."""
        kinds = [
            resource
            for resource in self._discovery.all_preferred()
            if resource.namespaced and {"list", "delete"} <= resource.verbs
        ]
        found = map_bounded(
            lambda resource: self._strangers(resource, resource.path(namespace)), kinds, workers=self._workers
        )
        return tuple(name for names in found for name in names)

    def _observe_definition(self, entry: Entry, live: JsonObject) -> Observed:
        """Look which kind a definition brings, and for resources of it that are not ours."""
        response = self._get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{entry.id.name}", JSON)
        if response.status >= 400:
            return Observed(entry, None, unreadable=classify(response).message)
        kind = defined_kind(json.loads(response.body))
        resource = self._discovery.find(*kind) if kind else None
        foreign = self._strangers(resource, resource.path()) if resource else ()
        return Observed(entry, live, foreign, defines=kind)

    def _strangers(self, resource: ApiResource, path: str) -> tuple[str, ...]:
        group_kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        if group_kind in _FURNITURE_KINDS:
            return ()
        found: list[str] = []
        token = ""
        while True:
            query = [("limit", str(_PAGE)), *([("continue", token)] if token else [])]
            response = self._get(path, PARTIAL_METADATA_LIST, query)
            if response.status in (404, 405):
                return tuple(found)
            if response.status >= 400:
                return (*found, f"{group_kind} (unreadable: {classify(response).message})")
            answer = json.loads(response.body)
            found += [name for item in answer.get("items") or () if (name := self._stranger(item, resource.kind))]
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token or len(found) >= _SHOWN:
                return tuple(found)

    def _stranger(self, item: JsonObject, kind: str) -> str:
        """The object's name if it would be missed; empty if it is ours, furniture, or owned by another object."""
        metadata = item.get("metadata") or {}
        name = f"{kind}/{metadata.get('name')}"
        if annotations_of(item).get(PRUNE) == "disabled" or metadata.get("uid") == self._target.sync_uid:
            return name  # a sync that ends must not wait for a namespace that waits for the sync
        if is_member(item, self._target.sync_id) or metadata.get("ownerReferences") or name in _FURNITURE:
            return ""
        # Tokens of service accounts and the like: made by the control plane, for the namespace itself.
        managers = {entry.manager for entry in parse_managed_fields(item)}
        return "" if managers and managers <= {"kube-controller-manager"} else name


def _ending() -> ApiFailure:
    return failed(ErrorClass.WAITING, "Terminating", "deleted; a finalizer still holds it")


def _failed(id_: ObjectId, failure: ApiFailure) -> ObjectResult:
    return ObjectResult(id_, Action.FAILED, failure=failure)
