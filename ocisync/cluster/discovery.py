"""Which kinds a server has, and where: two requests (aggregated discovery), cached, asked again on a miss.

Servers before 1.27 and simple ones answer the same two requests with the older documents; then each group version is
asked for by itself.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ocisync.cluster.client import Cluster, segment
from ocisync.kit.pool import map_bounded
from ocisync.model.errors import ClusterRefused, NotFound, Unavailable

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_ACCEPT = f"{_AGGREGATED},application/json"
_RENEW_S = 300.0  # definitions change their versions: a path that was right once must not be believed for ever
_REFRESH_S = 0.2  # misses come in bursts (every object of a missing kind): ask at most this often


@dataclass(frozen=True, slots=True)
class ApiResource:
    """One kind as one version of its group serves it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        """`group/version`, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL path of one object or of the collection."""
        prefix = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            prefix += f"/namespaces/{segment(namespace)}"
        return f"{prefix}/{self.plural}/{segment(name)}" if name else f"{prefix}/{self.plural}"


class Discovery:
    """The kinds of one server. Thread-safe; the first use asks."""

    def __init__(self, cluster: Cluster, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._by_version: Mapping[tuple[str, str, str], ApiResource] = {}
        self._preferred: Mapping[tuple[str, str], ApiResource] = {}
        self._silent: frozenset[str] = frozenset()
        self._asked_at = float("-inf")

    def is_silent(self, group: str) -> bool:
        """Whether the group's own API server does not answer: then a missing kind proves nothing."""
        return group in self._silent

    def find(self, group: str, kind: str, version: str = "") -> ApiResource | None:
        """The resource of a kind, in `version` or in the server's preferred one; None if the server has none.

        A miss asks the server again, at most five times a second. What is known is asked anew every five minutes.
        """
        self._renew()
        found = self._lookup(group, kind, version)
        if found is None:
            if self._refresh_due():
                self.refresh()
            found = self._lookup(group, kind, version)  # also where another thread has just asked
        return found

    def resource(self, group: str, kind: str, version: str = "") -> ApiResource:
        """Like `find`.

        Raises:
            NotFound: the server does not serve that kind.
        """
        found = self.find(group, kind, version)
        if found is None:
            name = f"{kind}.{group}" if group else kind
            raise NotFound(
                f"{self._cluster.host}: no kind {name}{f' in version {version}' if version else ''}",
                hint=f"is its CustomResourceDefinition installed? try: kubectl api-resources --api-group={group!r}",
                reason="NoKind",
            )
        return found

    def path(self, resource: ApiResource, namespace: str = "", name: str = "") -> str:
        """The URL path of one object or of a collection."""
        return resource.path(namespace, name)

    def all_preferred(self) -> tuple[ApiResource, ...]:
        """Every kind once, in its preferred version."""
        if not self._preferred:
            self.refresh()
        return tuple(self._preferred.values())

    def schemas(self) -> dict[str, str]:
        """What the server's schema of each `group/version` is now, as an opaque text; empty if it does not say.

        One request: the index of OpenAPI v3 names every document with a hash of its content.
        """
        try:
            response = self._cluster.request("GET", "/openapi/v3")
            paths = json.loads(response.body).get("paths") if response.status == 200 else None
        except (ClusterRefused, Unavailable, ValueError, AttributeError):
            return {}
        if not isinstance(paths, dict):
            return {}
        return {
            name.removeprefix("apis/").removeprefix("api/"): str(entry.get("serverRelativeURL") or "")
            for name, entry in paths.items()
            if isinstance(entry, dict)
        }

    def refresh(self) -> None:
        """Ask the server now.

        Raises:
            Unavailable, ClusterRefused: it does not answer, or not with a discovery document.
        """
        with self._lock:
            silent: set[str] = set()
            resources = [*self._ask("/api", silent), *self._ask("/apis", silent)]
            by_version: dict[tuple[str, str, str], ApiResource] = {}
            preferred: dict[tuple[str, str], ApiResource] = {}
            for resource in resources:
                by_version.setdefault((resource.group, resource.kind, resource.version), resource)
                preferred.setdefault((resource.group, resource.kind), resource)
            self._by_version, self._preferred, self._silent = by_version, preferred, frozenset(silent)
            self._asked_at = self._monotonic()

    def _renew(self) -> None:
        """Ask again if what is known is old; a server that does not answer leaves it as it is."""
        with self._lock:
            now = self._monotonic()
            if not self._preferred or now - self._asked_at < _RENEW_S:
                return
            self._asked_at = now  # other threads go on with what is known
        with contextlib.suppress(Unavailable, ClusterRefused):
            self.refresh()

    def _lookup(self, group: str, kind: str, version: str) -> ApiResource | None:
        if version:
            return self._by_version.get((group, kind, version))
        return self._preferred.get((group, kind))

    def _refresh_due(self) -> bool:
        return self._monotonic() - self._asked_at >= _REFRESH_S

    def _ask(self, root: str, silent: set[str]) -> Iterable[ApiResource]:
        document = self._get(root, _ACCEPT)
        if document.get("kind") == "APIGroupDiscoveryList":
            silent |= _stale_groups(document)
            return list(_aggregated(document))
        if root == "/api":
            versions = [("", str(version)) for version in document.get("versions") or ()]
        else:
            versions = list(_group_versions(document))
        lists = map_bounded(lambda version: self._legacy(version, silent), versions, workers=8)
        return [resource for found in lists for resource in found]

    def _legacy(self, group_version: tuple[str, str], silent: set[str]) -> list[ApiResource]:
        group, version = group_version
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            document = self._get(root, "application/json")
        except (ClusterRefused, Unavailable):
            silent.add(group)
            return []  # an aggregated API that is down must not hide all others
        return [
            ApiResource(
                group, version, str(item["kind"]), str(item["name"]), bool(item.get("namespaced")),
                frozenset(item.get("verbs") or ()),
            )
            for item in document.get("resources") or ()
            if "/" not in str(item.get("name") or "/")
        ]  # fmt: skip

    def _get(self, path: str, accept: str) -> Mapping[str, Any]:
        response = self._cluster.request("GET", path, accept=accept)
        if response.status != 200:
            raise ClusterRefused(
                f"GET {self._cluster.host}{path}: HTTP {response.status}",
                hint="are the credentials right? try: kubectl api-resources",
            )
        try:
            document = json.loads(response.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ClusterRefused(f"GET {self._cluster.host}{path}: this is no Kubernetes API server")
        return document


def _aggregated(document: Mapping[str, Any]) -> Iterable[ApiResource]:
    for group in document.get("items") or ():
        name = str((group.get("metadata") or {}).get("name") or "")
        for version in group.get("versions") or ():
            for item in version.get("resources") or ():
                kind = (item.get("responseKind") or {}).get("kind")
                if kind:
                    yield ApiResource(
                        name, str(version["version"]), str(kind), str(item["resource"]),
                        item.get("scope") == "Namespaced", frozenset(item.get("verbs") or ()),
                    )  # fmt: skip


def _stale_groups(document: Mapping[str, Any]) -> set[str]:
    return {
        str((group.get("metadata") or {}).get("name") or "")
        for group in document.get("items") or ()
        if any(version.get("freshness") == "Stale" for version in group.get("versions") or ())
    }


def _group_versions(document: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Every group version, the preferred one of each group first."""
    for group in document.get("groups") or ():
        name = str(group["name"])
        preferred = str((group.get("preferredVersion") or {}).get("version") or "")
        versions = [str(item["version"]) for item in group.get("versions") or ()]
        for version in sorted(versions, key=lambda item: item != preferred):
            yield name, version
