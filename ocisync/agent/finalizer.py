"""The finalizer of a sync: there before its first write, gone after its last."""

from __future__ import annotations

import json

from ocisync.agent.status import sync_path
from ocisync.cluster.client import MERGE_PATCH, Cluster, Response, segment
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import FINALIZER, SyncSpec

_ATTEMPTS = 4


class Finalizers:
    """Adds and removes it by compare-and-swap: other finalizers are never touched."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def ensure(self, spec: SyncSpec, seen: JsonObject) -> None:
        """Make sure that it is there.

        Raises:
            Unavailable, ClusterRefused: it could not be written: nothing may be applied.
        """
        self._change(spec, seen, present=True)

    def remove(self, spec: SyncSpec, seen: JsonObject) -> None:
        """Let the sync go.

        Raises:
            Unavailable, ClusterRefused: it could not be written.
        """
        self._change(spec, seen, present=False)

    def account_exists(self, namespace: str, name: str) -> bool:
        """Whether a service account exists.

        Raises:
            Unavailable: it can't be known now.
        """
        path = f"/api/v1/namespaces/{segment(namespace)}/serviceaccounts/{segment(name)}"
        answer = self._cluster.request("GET", path)
        if answer.status not in {200, 404}:
            raise Unavailable(f"service account {namespace}/{name}: HTTP {answer.status}")
        return answer.status == 200

    def _change(self, spec: SyncSpec, seen: JsonObject, *, present: bool) -> None:
        path = sync_path(spec.namespace, spec.name)
        live: JsonObject | None = seen
        for _ in range(_ATTEMPTS):
            metadata = (live or {}).get("metadata") or {}
            found = list(metadata.get("finalizers") or ())
            if live is None or metadata.get("uid") != spec.uid or (FINALIZER in found) is present:
                return
            wanted = [*found, FINALIZER] if present else [item for item in found if item != FINALIZER]
            patch = {"metadata": {"resourceVersion": metadata.get("resourceVersion"), "finalizers": wanted}}
            answer = self._cluster.request("PATCH", path, body=json.dumps(patch).encode(), content_type=MERGE_PATCH)
            if answer.status < 300 or answer.status == 404:
                return
            if answer.status != 409:
                raise _refused(spec, answer)
            live = self._read(path, spec)
        raise Unavailable(f"finalizer of {spec.key}: the sync keeps changing")

    def _read(self, path: str, spec: SyncSpec) -> JsonObject | None:
        answer = self._cluster.request("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _refused(spec, answer)
        found: JsonObject = json.loads(answer.body)
        return found


def _refused(spec: SyncSpec, answer: Response) -> Unavailable | ClusterRefused:
    message = f"finalizer of {spec.key}: HTTP {answer.status} {answer.body[:200].decode(errors='replace')}"
    if answer.status == 429 or answer.status >= 500:
        return Unavailable(message)
    return ClusterRefused(message, hint="does the agent's ClusterRole allow patch of artifactsyncs?")
