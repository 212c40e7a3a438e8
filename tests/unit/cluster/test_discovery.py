"""Which kinds a server has, from either form of its documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import pytest

from ocisync.cluster.client import Cluster, Response
from ocisync.cluster.discovery import ApiResource, Discovery
from ocisync.model.errors import ClusterRefused, NotFound, Unavailable


class Documents(Cluster):
    """Answers GETs from a table; a missing path is a connection that fails."""

    def __init__(self, table: Mapping[str, object]) -> None:
        self.table = dict(table)
        self.asked: list[str] = []

    @property
    def host(self) -> str:
        return "https://cluster"

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        content_type: str = "",
        accept: str = "",
        timeout_s: float = 0.0,
        as_user: str = "",
        gentle: bool = False,
    ) -> Response:
        self.asked.append(path)
        if path not in self.table:
            raise Unavailable(path)
        return Response(200, {}, json.dumps(self.table[path]).encode())


def resource(kind: str, plural: str, scope: str = "Namespaced") -> dict[str, object]:
    return {"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": ["get", "list"]}


def aggregated(*groups: Mapping[str, object]) -> dict[str, object]:
    return {"kind": "APIGroupDiscoveryList", "items": list(groups)}


CORE = aggregated(
    {"metadata": {}, "versions": [{"version": "v1", "resources": [resource("Node", "nodes", "Cluster")]}]}
)
APPS = {
    "metadata": {"name": "apps"},
    "versions": [
        {"version": "v1", "resources": [resource("Deployment", "deployments")]},
        {"version": "v1beta1", "resources": [resource("Deployment", "deployments"), resource("Old", "olds")]},
    ],
}
DOWN = {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1", "freshness": "Stale", "resources": []}]}


def test_two_requests_tell_kinds_scopes_and_preferred_versions() -> None:
    cluster = Documents({"/api": CORE, "/apis": aggregated(APPS, DOWN)})
    discovery = Discovery(cluster)
    deployment = discovery.resource("apps", "Deployment")
    assert (deployment.version, deployment.namespaced) == ("v1", True)
    assert deployment.path("n", "a b") == "/apis/apps/v1/namespaces/n/deployments/a%20b"
    assert discovery.resource("", "Node").path(name="x") == "/api/v1/nodes/x"
    old = discovery.find("apps", "Deployment", "v1beta1")
    assert old is not None
    assert old.api_version == "apps/v1beta1"
    assert len(discovery.all_preferred()) == 3
    assert cluster.asked == ["/api", "/apis"]


def test_a_group_that_does_not_answer_is_known_to_be_silent() -> None:
    discovery = Discovery(Documents({"/api": CORE, "/apis": aggregated(APPS, DOWN)}))
    discovery.refresh()
    assert discovery.is_silent("metrics.k8s.io")
    assert not discovery.is_silent("apps")


def test_a_miss_asks_again_but_not_in_bursts() -> None:
    now = 100.0
    cluster = Documents({"/api": CORE, "/apis": aggregated(APPS)})
    discovery = Discovery(cluster, monotonic=lambda: now)
    for _ in range(50):
        assert discovery.find("x.io", "Foo") is None
    assert len(cluster.asked) == 2
    group = {"metadata": {"name": "x.io"}, "versions": [{"version": "v1", "resources": [resource("Foo", "foos")]}]}
    cluster.table["/apis"] = aggregated(APPS, group)
    now += 1.0
    assert discovery.find("x.io", "Foo") is not None


def test_what_another_thread_has_just_asked_is_known_to_one_that_missed_before_that() -> None:
    cluster = Documents({"/api": CORE, "/apis": aggregated()})
    others: list[Callable[[], None]] = []

    def clock() -> float:
        while others:
            others.pop()()
        return 1.0

    discovery = Discovery(cluster, monotonic=clock)
    discovery.refresh()
    cluster.table["/apis"] = aggregated(APPS)
    lookup = discovery._lookup

    def missed(group: str, kind: str, version: str) -> ApiResource | None:
        found = lookup(group, kind, version)
        if found is None:
            others.append(discovery.refresh)  # before this thread asks when that was
        return found

    discovery._lookup = missed  # type: ignore[method-assign]
    assert discovery.find("apps", "Deployment") is not None


def test_what_is_known_is_asked_anew_after_a_while_and_kept_if_nobody_answers() -> None:
    cluster = Documents({"/api": CORE, "/apis": aggregated(APPS)})
    now = 0.0
    discovery = Discovery(cluster, monotonic=lambda: now)
    assert discovery.resource("apps", "Deployment").version == "v1"
    served = {"version": "v2", "resources": [resource("Deployment", "deployments")]}
    moved = {"metadata": {"name": "apps"}, "versions": [served]}
    cluster.table["/apis"] = aggregated(moved)
    now = 299.0
    assert discovery.resource("apps", "Deployment").version == "v1"
    now = 301.0
    assert discovery.resource("apps", "Deployment").version == "v2"
    cluster.table.clear()
    now = 900.0
    assert discovery.resource("apps", "Deployment").version == "v2"


def test_an_older_server_is_asked_group_by_group_and_one_that_is_down_hides_no_other() -> None:
    pod, newest = {"kind": "Pod", "namespaced": True}, {"version": "v2"}
    lists = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": {"resources": [{**pod, "name": "pods"}, {**pod, "name": "pods/log"}]},
        "/apis": {
            "kind": "APIGroupList",
            "groups": [
                {"name": "x.io", "versions": [{"version": "v1"}, newest], "preferredVersion": newest},
                {"name": "down.io", "versions": [{"version": "v1"}]},
            ],
        },
        "/apis/x.io/v1": {"resources": [{"name": "foos", "kind": "Foo", "namespaced": False}]},
        "/apis/x.io/v2": {"resources": [{"name": "foos", "kind": "Foo", "namespaced": False}]},
    }  # fmt: skip
    discovery = Discovery(Documents(lists))
    assert discovery.resource("", "Pod").plural == "pods"
    assert discovery.resource("x.io", "Foo").version == "v2"
    assert discovery.is_silent("down.io")


def test_an_unknown_kind_and_a_server_that_is_none_are_said_in_words() -> None:
    discovery = Discovery(Documents({"/api": CORE, "/apis": aggregated(APPS)}))
    with pytest.raises(NotFound, match=r"no kind Foo\.x\.io"):
        discovery.resource("x.io", "Foo")
    with pytest.raises(ClusterRefused, match="no Kubernetes API server"):
        Discovery(Documents({"/api": "hello"})).refresh()
