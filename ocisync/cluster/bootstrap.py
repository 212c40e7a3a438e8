"""Apply a short ordered list of objects to a cluster that may not have our kinds yet: what `ocisync install` needs.

Nothing of the sync engine is used here (no inventory, no ownership label): an installation is owned by whoever runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from ocisync.cluster.client import APPLY_PATCH, Cluster
from ocisync.cluster.discovery import Discovery
from ocisync.cluster.outcome import classify
from ocisync.model.errors import ClusterRefused, NotFound, Unavailable
from ocisync.model.resource import JsonObject, gvk_of, id_of

INSTALL_MANAGER = "ocisync-install"
_ESTABLISH_ATTEMPTS = 50
_ESTABLISH_PAUSE_S = 0.2
_CRD = "CustomResourceDefinition"


def apply_in_order(
    cluster: Cluster, objects: Iterable[JsonObject], pause: Callable[[float], object]
) -> Iterator[tuple[JsonObject, str]]:
    """Server-side apply each object, in order; yield it with `created`, `configured` or `unchanged`.

    Raises:
        NotFound: the namespace of one does not exist; those before it are applied.
        ClusterRefused: the API server refused one; the same.
        Unavailable: a CRD did not become established within 10 s.
    """
    discovery = Discovery(cluster)
    for item in objects:
        gvk, identity = gvk_of(item), id_of(item)
        path = discovery.path(discovery.resource(gvk.group, gvk.kind, gvk.version), identity.namespace, identity.name)
        before = cluster.request("GET", path)
        answer = cluster.request(
            "PATCH",
            path,
            query=(("fieldManager", INSTALL_MANAGER), ("force", "true"), ("fieldValidation", "Strict")),
            body=json.dumps(item).encode(),
            content_type=APPLY_PATCH,
        )
        if answer.status == 404 and identity.namespace:
            raise NotFound(
                f"{identity}: there is no namespace {identity.namespace}",
                hint=f"kubectl create namespace {identity.namespace}, then the same command again",
            )
        if answer.status >= 300:
            failure = classify(answer, gvk)
            hint = "ocisync install needs cluster-admin rights" if answer.status in {401, 403} else ""
            raise ClusterRefused(f"{identity}: {failure.message}", hint=hint)
        if identity.kind == _CRD:
            _wait_established(cluster, path, identity.name, pause)
        yield item, _change(before.status, before.body, answer.body)


def _change(status: int, before: bytes, after: bytes) -> str:
    if status == 404:
        return "created"
    versions = [json.loads(body).get("metadata", {}).get("resourceVersion") for body in (before, after)]
    return "unchanged" if versions[0] == versions[1] else "configured"


def _wait_established(cluster: Cluster, path: str, name: str, pause: Callable[[float], object]) -> None:
    for _ in range(_ESTABLISH_ATTEMPTS):
        answer = cluster.request("GET", path)
        status = json.loads(answer.body).get("status") if answer.status == 200 else None
        conditions = (status or {}).get("conditions") or []  # null until the first condition is known
        if any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions):
            return
        pause(_ESTABLISH_PAUSE_S)
    raise Unavailable(
        f"the definition {name} was accepted but is not established yet", hint="run the same command again"
    )
