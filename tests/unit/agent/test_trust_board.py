from __future__ import annotations

import base64
from typing import Any

import pytest

from ocisync.agent.metrics import Metrics
from ocisync.agent.trust import POLICIES, SECRETS, TrustBoard
from ocisync.model.errors import ClusterRefused, Unavailable
from tests.support.trust import signer
from tests.unit.agent.fakes import FakeClock, FakeCluster

REPOSITORY = "registry.example/shop"


def policy(name: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": name, "uid": f"u-{name}", "generation": 1},
        "spec": {
            "match": [{"repository": REPOSITORY}],
            "authorities": [{"name": "ci", "key": {"secretRef": {"name": "pub"}}}],
            "threshold": 1,
            **spec,
        },
    }


def secret(version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": "pub", "resourceVersion": str(version)}}


class Cluster:
    def __init__(self) -> None:
        self.status = 200
        self.pem = signer("ci").public.pem

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return self.status, {"data": {"cosign.pub": base64.b64encode(self.pem.encode()).decode()}}
        return 200, {}


def board(server: Cluster) -> tuple[TrustBoard, FakeCluster, list[int]]:
    changes: list[int] = []
    cluster = FakeCluster(server.answer)
    made = TrustBoard(cluster, "ocisync-system", lambda: changes.append(1), FakeClock(), Metrics())
    return made, cluster, changes


def listed(made: TrustBoard, *policies: dict[str, Any]) -> None:
    for kind, items in ((POLICIES, policies), (SECRETS, (secret(),))):
        made.started(kind)
        for item in items:
            made.event(kind, "ADDED", item)
        made.synced(kind)


def test_policies_and_their_keys_are_loaded_together() -> None:
    made, _, changes = board(Cluster())
    before = made.listed
    listed(made, policy())
    assert (before, made.listed, changes) == (False, True, [1])
    trust = made.current()
    assert trust.set.select(REPOSITORY).policy is not None


def test_nothing_is_read_again_while_nothing_moves() -> None:
    made, cluster, _ = board(Cluster())
    listed(made, policy())
    first = made.current()
    asked = len(cluster.asked)
    made.event(POLICIES, "MODIFIED", policy())  # its status was written: no change of the spec
    assert made.current() is first and len(cluster.asked) == asked


def test_a_moved_secret_or_policy_is_a_new_version_and_wakes_everyone() -> None:
    made, _, changes = board(Cluster())
    listed(made, policy())
    first = made.current().version
    made.event(SECRETS, "MODIFIED", secret(2))
    assert made.current().version > first
    second = made.current().version
    made.event(POLICIES, "MODIFIED", policy(threshold=2))
    assert made.current().version > second
    assert changes == [1, 1, 1]


def test_a_missing_key_makes_the_policy_unusable_and_says_so_in_its_status() -> None:
    server = Cluster()
    server.status = 404
    made, cluster, _ = board(server)
    listed(made, policy())
    assert made.current().set.select(REPOSITORY).policy is None
    made.write_statuses()
    body = cluster.asked[-1][2]
    assert body["status"]["conditions"][0]["status"] == "False"
    assert "pub" in body["status"]["conditions"][0]["message"]


def test_a_status_that_says_it_already_is_not_written_again() -> None:
    made, cluster, _ = board(Cluster())
    listed(made, policy())
    made.write_statuses()
    accepted = policy()
    accepted["status"] = cluster.asked[-1][2]["status"]
    made.event(POLICIES, "MODIFIED", accepted)
    asked = len(cluster.asked)
    made.write_statuses()
    assert len(cluster.asked) == asked


def test_an_unreadable_key_says_nothing_about_trust() -> None:
    server = Cluster()
    made, _, _ = board(server)
    listed(made, policy())
    server.status = 503
    with pytest.raises(Unavailable):
        made.current()
    server.status = 403
    with pytest.raises(ClusterRefused):
        made.current()
    server.status = 200
    assert made.current().set.select(REPOSITORY).policy is not None


def test_a_policy_that_a_new_list_does_not_show_is_gone() -> None:
    made, _, _ = board(Cluster())
    listed(made, policy())
    made.current()
    made.started(POLICIES)
    made.synced(POLICIES)
    assert made.current().set.policies == ()
