"""What `status`, `reconcile` and `approve` share: reaching syncs, and reading their status."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ocisync import __version__
from ocisync.agent.status import sync_path
from ocisync.cluster import client
from ocisync.cluster.client import JSON, MERGE_PATCH, Cluster, Response, segment
from ocisync.model.clock import parse_rfc3339
from ocisync.model.errors import AccessDenied, ClusterRefused, ExitCode, NotFound, OcisyncError, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, API_VERSION, APPLYSET_ID_LABEL, POLICY_KIND

_NAME_CHARS = 200


def namespace_option(text: str) -> Callable[[Any], Any]:
    """`-n`."""
    return click.option("-n", "--namespace", default="", help=text)


def agent_namespace_option(function: Any) -> Any:
    """`--agent-namespace`."""
    return click.option(
        "--agent-namespace", default="ocisync-system", show_default=True, help="Where the agent keeps its records."
    )(function)


class Syncs:
    """The syncs of one cluster, as whoever runs the command may see them."""

    def __init__(self, kubeconfig: Path | None, context: str) -> None:
        self._cluster: Cluster = client.connect(
            str(kubeconfig) if kubeconfig else None, context or None, user_agent=f"ocisync/{__version__}"
        )

    @property
    def cluster(self) -> Cluster:
        """The connection."""
        return self._cluster

    @property
    def default_namespace(self) -> str:
        """The namespace of the kubeconfig context."""
        return self._cluster.default_namespace

    def all(self, namespace: str = "") -> list[JsonObject]:
        """Every sync, or those of one namespace, sorted."""
        part = f"/namespaces/{segment(namespace)}" if namespace else ""
        answer = self._cluster.request("GET", f"/apis/{API_GROUP}/v1alpha1{part}/artifactsyncs")
        found = _checked(answer, "list syncs")
        items: list[JsonObject] = found.get("items") or []
        for item in items:
            item.setdefault("apiVersion", f"{API_GROUP}/v1alpha1")
            item.setdefault("kind", "ArtifactSync")
        return sorted(items, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))

    def get(self, path: str, what: str) -> JsonObject:
        """Any one object by its path."""
        return _checked(self._cluster.request("GET", path), f"read {what}")

    def one(self, namespace: str, name: str) -> JsonObject:
        """One sync."""
        answer = self._cluster.request("GET", sync_path(namespace, name))
        return _checked(answer, f"read sync {namespace}/{name}")

    def listed(self, namespace: str, name: str) -> tuple[JsonObject | None, str]:
        """One sync and the version of the list that showed it: a watch may begin there, however old the sync is."""
        path = f"/apis/{API_GROUP}/v1alpha1/namespaces/{segment(namespace)}/artifactsyncs"
        answer = self._cluster.request("GET", path, query=[("fieldSelector", f"metadata.name={name}")])
        found = _checked(answer, f"read sync {namespace}/{name}")
        items = (item for item in found.get("items") or () if (item.get("metadata") or {}).get("name") == name)
        return next(items, None), str((found.get("metadata") or {}).get("resourceVersion") or "")

    def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The data of a Secret; None if it does not exist."""
        answer = self._cluster.request("GET", f"/api/v1/namespaces/{segment(namespace)}/secrets/{segment(name)}")
        if answer.status == 404:
            return None
        data = _checked(answer, f"read Secret {namespace}/{name}").get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def parents(self, set_id: str, namespace: str = "") -> list[JsonObject]:
        """The ConfigMaps that are labelled as the parent of an ApplySet, everywhere or in one namespace."""
        part = f"/namespaces/{segment(namespace)}" if namespace else ""
        query = (("labelSelector", f"{APPLYSET_ID_LABEL}={set_id}"),)
        answer = self._cluster.request("GET", f"/api/v1{part}/configmaps", query=query)
        items: list[JsonObject] = _checked(answer, "list the sets of ocisync apply").get("items") or []
        return items

    def config_map(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """The data of a ConfigMap; None if it does not exist."""
        answer = self._cluster.request("GET", f"/api/v1/namespaces/{segment(namespace)}/configmaps/{segment(name)}")
        if answer.status == 404:
            return None
        found = _checked(answer, f"read ConfigMap {namespace}/{name}")
        texts = {key: str(value).encode() for key, value in (found.get("data") or {}).items()}
        return {**texts, **{key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}}

    def policies(self) -> list[JsonObject]:
        """Every trust policy of the cluster."""
        answer = self._cluster.request("GET", f"/apis/{API_GROUP}/v1alpha1/trustpolicies")
        items: list[JsonObject] = _checked(answer, "list trust policies").get("items") or []
        return [{"apiVersion": API_VERSION, "kind": POLICY_KIND, **item} for item in items]

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str]) -> JsonObject:
        """Set annotations; the sync afterwards."""
        change = {"metadata": {"annotations": dict(annotations)}}
        return self.change(namespace, name, change, f"annotate sync {namespace}/{name}")

    def change(self, namespace: str, name: str, patch: JsonObject, what: str) -> JsonObject:
        """Apply a merge patch; the sync afterwards."""
        answer = self._cluster.request(
            "PATCH",
            sync_path(namespace, name),
            query=(("fieldManager", "ocisync-cli"),),
            body=json.dumps(patch).encode(),
            content_type=MERGE_PATCH,
        )
        return _checked(answer, what)

    def post(self, path: str, body: JsonObject) -> Response:
        """Create something."""
        query = (("fieldManager", "ocisync-cli"),)
        return self._cluster.request("POST", path, query=query, body=json.dumps(body).encode(), content_type=JSON)

    def checked(self, answer: Response, what: str) -> JsonObject:
        """The body of a good answer.

        Raises:
            NotFound, AccessDenied, Unavailable, ClusterRefused: it is none.
        """
        return _checked(answer, what)

    def whoami(self) -> str:
        """As whom the API server knows the caller; empty if it does not tell."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
            found = json.loads(answer.body) if answer.status < 300 else {}
            return str(found["status"]["userInfo"]["username"])[:_NAME_CHARS]
        except (OcisyncError, ValueError, KeyError, TypeError):
            return ""


def conditions(sync: JsonObject) -> dict[str, Mapping[str, Any]]:
    """Conditions by type."""
    return {str(item.get("type")): item for item in (sync.get("status") or {}).get("conditions") or ()}


def ready_word(sync: JsonObject) -> str:
    """True, False or Unknown; Unknown too while the status speaks of an older spec."""
    found = conditions(sync).get("Ready")
    if found is None or (sync.get("status") or {}).get("observedGeneration") != sync["metadata"].get("generation"):
        return "Unknown"
    return str(found.get("status"))


def came_to_an_end(sync: JsonObject) -> ExitCode | None:
    """What a reconciliation came to, as an exit code; None while the agent is at it."""
    found = conditions(sync)
    if ready_word(sync) == "True":
        return ExitCode.OK
    if (found.get("Stalled") or {}).get("status") == "True":
        refused = (found.get("Verified") or {}).get("status") == "False"
        return ExitCode.REFUSED if refused else ExitCode.FAILED
    return None


def age(sync: JsonObject, now: datetime) -> str:
    """How old it is, as kubectl says it."""
    created = parse_rfc3339(str(sync["metadata"].get("creationTimestamp") or ""))
    if created is None:
        return "?"
    seconds = max(0, int((now - created).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _checked(answer: Response, what: str) -> JsonObject:
    if answer.status < 300:
        try:
            found: JsonObject = json.loads(answer.body)
        except ValueError as error:
            raise ClusterRefused(f"cannot {what}: the answer is no JSON", hint="kubectl version") from error
        return found
    try:
        said = str(json.loads(answer.body).get("message") or "")
    except (ValueError, AttributeError):
        said = answer.body[:200].decode(errors="replace").strip()
    message = f"cannot {what}: {said or f'HTTP {answer.status}'}"
    if answer.status == 404:
        raise NotFound(message, hint="ocisync status lists all syncs; ocisync install adds what is missing")
    if answer.status in {401, 403}:
        raise AccessDenied(message, hint="ask for the role ocisync-viewer or ocisync-sync-editor")
    if answer.status == 429 or answer.status >= 500:
        raise Unavailable(message)
    raise ClusterRefused(message)
