"""ApplySet conventions on the sync object itself, so that `kubectl` and other tools see what belongs to it.

Written whole or not at all: the parent's id label, the tooling, the kinds and the namespaces of its members. Before an
apply they are widened to a superset; after pruning they are narrowed to what is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ocisync.cluster.client import MERGE_PATCH, Cluster
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.normalise import Target
from ocisync.cluster.outcome import classify
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import (
    APPLYSET_GROUP_KINDS,
    APPLYSET_ID_LABEL,
    APPLYSET_NAMESPACES,
    APPLYSET_TOOLING,
    FIELD_MANAGER,
)


class Parent:
    """The parent of an ApplySet: an `ArtifactSync`, or what stands for one. Without it there is nothing to write."""

    def __init__(self, cluster: Cluster, discovery: Discovery, target: Target, version: str) -> None:
        self._cluster = cluster
        self._discovery = discovery
        self._target = target
        self._tooling = f"ocisync/v{version.removeprefix('v')}"

    def read(self) -> JsonObject | None:
        """The live sync object; None if there is none, or another one of that name."""
        path = self._path()
        if not path:
            return None
        response = self._cluster.request("GET", path)
        if response.status == 404:
            return None
        if response.status >= 400:
            raise ClusterRefused(f"cannot read the sync {self._target.sync_name}: {classify(response).message}")
        live: JsonObject = json.loads(response.body)
        same = (live.get("metadata") or {}).get("uid") == self._target.sync_uid
        return live if same else None

    def required(self) -> JsonObject | None:
        """The live sync object; None for what needs none.

        Raises:
            ClusterRefused: it is gone, or another one has its name: nothing may be applied on its behalf any more.
        """
        live = self.read()
        if live is None and self._path():
            message = f"{self._target.sync_namespace}/{self._target.sync_name} is gone: nothing is applied for it"
            raise ClusterRefused(message, reason="SyncGone")
        return live

    def widen(self, live: JsonObject | None, ids: Iterable[ObjectId]) -> None:
        """Make kinds and namespaces a superset of these, before they are applied. `live` is what `required` gave."""
        if live is not None:
            kinds, namespaces = recorded(live)
            wanted_kinds, wanted_namespaces = membership(ids, self._target.sync_namespace)
            self._write(live, kinds | wanted_kinds, namespaces | wanted_namespaces)

    def narrow(self, ids: Iterable[ObjectId]) -> None:
        """Make kinds and namespaces exactly those of these, after pruning."""
        live = self.read()
        if live is not None:
            self._write(live, *membership(ids, self._target.sync_namespace))

    def _write(self, live: JsonObject, kinds: frozenset[str], namespaces: frozenset[str]) -> None:
        annotations = {
            APPLYSET_TOOLING: self._tooling,
            APPLYSET_GROUP_KINDS: ",".join(sorted(kinds)),
            APPLYSET_NAMESPACES: ",".join(sorted(namespaces)),
        }
        labels = {APPLYSET_ID_LABEL: self._target.sync_id}
        metadata: Mapping[str, Any] = live.get("metadata") or {}
        if _has(metadata.get("annotations"), annotations) and _has(metadata.get("labels"), labels):
            return
        patch = {"metadata": {"uid": self._target.sync_uid, "labels": labels, "annotations": annotations}}
        response = self._cluster.request(
            "PATCH",
            self._path(),
            query=(("fieldManager", FIELD_MANAGER),),
            body=json.dumps(patch).encode(),
            content_type=MERGE_PATCH,
        )
        if response.status >= 400 and response.status != 404:
            message = f"cannot label the sync {self._target.sync_name}: {classify(response).message}"
            raise Unavailable(message) if response.status >= 500 else ClusterRefused(message)

    def _path(self) -> str:
        if not self._target.sync_uid:
            return ""
        kind, group = self._target.parent
        resource = self._discovery.find(group, kind)
        return resource.path(self._target.sync_namespace, self._target.sync_name) if resource else ""


def membership(ids: Iterable[ObjectId], parent_namespace: str) -> tuple[frozenset[str], frozenset[str]]:
    """Kinds (`Kind.group`) of members, and their namespaces other than the parent's."""
    kinds, namespaces = set(), set()
    for id_ in ids:
        kinds.add(id_.group_kind)
        namespaces.add(id_.namespace)
    return frozenset(kinds), frozenset(namespaces - {"", parent_namespace})


def recorded(live: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Kinds and namespaces that the parent names now."""
    annotations = (live.get("metadata") or {}).get("annotations") or {}
    kinds = frozenset(filter(None, str(annotations.get(APPLYSET_GROUP_KINDS) or "").split(",")))
    namespaces = frozenset(filter(None, str(annotations.get(APPLYSET_NAMESPACES) or "").split(",")))
    return kinds, namespaces


def _has(found: Mapping[str, str] | None, wanted: Mapping[str, str]) -> bool:
    return all((found or {}).get(key) == value for key, value in wanted.items())
