"""Rollback protection that outlives its sync: the highest sequence accepted, and immutable tags as first seen.

With them goes which digests were accepted, so that a sync may return to what it has run itself, and to nothing else.
One ConfigMap per sync in the agent's namespace (tenants can't edit it), named for the sync's namespace and name
rather than its uid, so deleting and creating the sync again does not reset it. Each value is kept for one repository
and selector. A value only ever rises; it is written by compare-and-swap before the first object of a new artifact is
applied. A ConfigMap that has fallen behind what this process knows, because etcd was restored from a backup, is raised
again before it is believed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ocisync.cluster.client import JSON, Cluster, Response, segment
from ocisync.flows.memory import Mark
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import SyncSpec

_ATTEMPTS = 5
_ACCEPTED = 20  # twice what a status tells: a digest that was refused later has its place, too
_LABELS = {"app.kubernetes.io/name": "ocisync", "app.kubernetes.io/component": "watermark"}


class ConfigMapWatermarks:
    """Reads once per sync and selector, writes through. Thread-safe for different syncs.

    Args:
        remembered: what an earlier life of this process knew (`known`).
    """

    def __init__(
        self, cluster: Cluster, namespace: str, remembered: Mapping[tuple[str, str], Mark] | None = None
    ) -> None:
        self._remembered = dict(remembered or {})
        self._cluster = cluster
        self._collection = f"/api/v1/namespaces/{segment(namespace)}/configmaps"
        self._namespace = namespace
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Mark] = {}

    def known(self) -> Mapping[tuple[str, str], Mark]:
        """What was read or written so far, and what was known before that."""
        with self._lock:
            return {**self._remembered, **self._known}

    def read(self, spec: SyncSpec) -> Mark:
        """The mark of a sync's present source.

        Raises:
            Unavailable, ClusterRefused: it could not be read; nothing new may be accepted then.
        """
        key = spec.key, spec.source.watermark_key
        with self._lock:
            if key in self._known:
                return self._known[key]
        found = self._get(_name(spec))
        mark = _mark_in(found, spec) if found is not None else Mark()
        before = self._remembered.get(key)
        if before is not None and before != mark and before.sequence >= mark.sequence:
            return self._raise(spec, before)
        with self._lock:
            return self._known.setdefault(key, mark)

    def accept(self, spec: SyncSpec, mark: Mark) -> None:
        """Raise the mark, durably, before anything is applied.

        Raises:
            Unavailable, ClusterRefused: it was not written.
        """
        before = self.read(spec)
        same = (before.digest, before.tag) == (mark.digest, mark.tag) and mark.digest in before.accepted
        if same and before.sequence >= mark.sequence:
            return
        self._raise(spec, mark)

    def _raise(self, spec: SyncSpec, mark: Mark) -> Mark:
        """Write a mark over the stored one, which may be higher in sequence, and knows what was accepted before."""
        for _ in range(_ATTEMPTS):
            found = self._get(_name(spec))
            stored = _mark_in(found, spec) if found is not None else Mark()
            accepted = tuple(dict.fromkeys((mark.digest, *mark.accepted, *stored.accepted)))
            wanted = Mark(max(stored.sequence, mark.sequence), mark.digest, accepted[:_ACCEPTED], mark.tag)
            answer = self._put(found, spec, wanted)
            if answer.status < 300:
                with self._lock:
                    self._known[spec.key, spec.source.watermark_key] = wanted
                return wanted
            if answer.status != 409:
                raise self._refused(answer)
        raise Unavailable(f"the watermark of {spec.key} keeps changing: is a second agent running?")

    def _get(self, name: str) -> JsonObject | None:
        answer = self._cluster.request("GET", f"{self._collection}/{name}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refused(answer)
        found: JsonObject = json.loads(answer.body)
        return found

    def _put(self, found: JsonObject | None, spec: SyncSpec, mark: Mark) -> Response:
        name = _name(spec)
        data = dict((found or {}).get("data") or {})
        data[_key(spec)] = json.dumps(
            {**asdict(mark), "repository": spec.source.reference.repository, "selector": spec.source.selector},
            sort_keys=True,
        )
        metadata: JsonObject = {
            "name": name,
            "namespace": self._namespace,
            "labels": _LABELS,
            "annotations": {"ocisync.dev/sync": spec.key},
        }
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).encode()
        if found is None:
            return self._cluster.request("POST", self._collection, body=body, content_type=JSON)
        return self._cluster.request("PUT", f"{self._collection}/{name}", body=body, content_type=JSON)

    def _refused(self, answer: Response) -> Exception:
        message = f"ConfigMap in {self._namespace}: HTTP {answer.status} {answer.body[:200].decode(errors='replace')}"
        if answer.status == 429 or answer.status >= 500:
            return Unavailable(f"watermark: {message}")
        return ClusterRefused(f"watermark: {message}", hint="does the agent's Role allow configmaps in its namespace?")


def _name(spec: SyncSpec) -> str:
    return f"ocisync-watermark-{hashlib.sha256(spec.key.encode()).hexdigest()[:32]}"


def _key(spec: SyncSpec) -> str:
    return hashlib.sha256(spec.source.watermark_key.encode()).hexdigest()


def _mark_in(found: JsonObject, spec: SyncSpec) -> Mark:
    text = (found.get("data") or {}).get(_key(spec))
    if text is None:
        return Mark()
    try:
        value: dict[str, Any] = json.loads(text)
        accepted = tuple(map(str, value.get("accepted") or ()))
        return Mark(int(value["sequence"]), str(value["digest"]), accepted, str(value.get("tag") or ""))
    except (ValueError, KeyError, TypeError) as error:
        # Taking it for empty would switch rollback protection off.
        raise ClusterRefused(
            f"the watermark ConfigMap {_name(spec)} is damaged ({error})", hint="restore it, or delete it to start anew"
        ) from error
