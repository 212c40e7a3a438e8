from __future__ import annotations

import base64
from typing import Any

import pytest

from ocisync.agent.metrics import Metrics
from ocisync.agent.trust import CONFIG_MAPS, POLICIES, SECRETS, TrustBoard
from ocisync.model.digest import sha256_digest
from ocisync.model.errors import ClusterRefused, Unavailable
from tests.support import goldensigstore as golden
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
    for kind, items in ((POLICIES, policies), (SECRETS, (secret(),)), (CONFIG_MAPS, ())):
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


# Trusted roots ------------------------------------------------------------------------------------------------------

KEYLESS = {
    "issuer": "https://accounts.example",
    "subject": "dev@example.com",
    "trustedRootRef": {"name": "root"},
}


class Roots:
    """Answers GET for Secrets and ConfigMaps named `root`, as they are now."""

    def __init__(self, *, secret: bytes | None = None, config_map: bytes | None = None) -> None:
        self.secret = secret
        self.config_map = config_map

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method != "GET":
            return 200, {}
        if path.endswith("/secrets/root") and self.secret is not None:
            return 200, {"data": {"trusted_root.json": base64.b64encode(self.secret).decode()}}
        if path.endswith("/configmaps/root") and self.config_map is not None:
            return 200, {"data": {"trusted_root.json": self.config_map.decode()}}
        return 404, {}


def keyless_board(roots: Roots) -> tuple[TrustBoard, list[int]]:
    changes: list[int] = []
    made = TrustBoard(FakeCluster(roots.answer), "ocisync-system", lambda: changes.append(1), FakeClock(), Metrics())
    listed(made, policy(authorities=[{"name": "dev", "keyless": KEYLESS}]))
    return made, changes


def config_map(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


@pytest.mark.parametrize("kind", ["secret", "config_map"])
def test_a_trusted_root_is_read_from_a_secret_or_a_config_map(kind: str) -> None:
    data = golden.data("trusted_root.json")
    made, _ = keyless_board(Roots(secret=data) if kind == "secret" else Roots(config_map=data))
    assert [root.fingerprint for root in made.current().set.roots_for(REPOSITORY)] == [golden_fingerprint()]


def golden_fingerprint() -> str:
    return sha256_digest(golden.data("trusted_root.json"))


def test_a_secret_and_a_config_map_of_one_name_make_the_policy_unusable() -> None:
    data = golden.data("trusted_root.json")
    made, _ = keyless_board(Roots(secret=data, config_map=data))
    assert "a Secret and a ConfigMap of this name" in made.current().set.unusable["shop"]


def test_a_root_that_appears_or_changes_or_goes_wakes_everyone_and_other_config_maps_do_not() -> None:
    roots = Roots()
    made, changes = keyless_board(roots)
    assert "neither a Secret nor a ConfigMap" in made.current().set.unusable["shop"]
    made.event(CONFIG_MAPS, "ADDED", config_map("inventory-1", 1))
    assert changes == [1]
    roots.config_map = golden.data("trusted_root.json")
    made.event(CONFIG_MAPS, "ADDED", config_map("root", 1))
    assert changes == [1, 1]
    assert made.current().set.unusable == {}
    roots.config_map = golden.data("elsewhere_root.json")
    made.event(CONFIG_MAPS, "MODIFIED", config_map("root", 2))
    assert made.current().set.roots[0].fingerprint != golden_fingerprint()
    roots.config_map = None
    made.event(CONFIG_MAPS, "DELETED", config_map("root", 3))
    assert made.current().set.unusable
    assert changes == [1, 1, 1, 1]


def test_a_root_that_went_while_the_watch_was_away_is_noticed() -> None:
    roots = Roots(config_map=golden.data("trusted_root.json"))
    made, changes = keyless_board(roots)
    made.current()
    made.event(CONFIG_MAPS, "ADDED", config_map("root", 1))
    made.current()
    roots.config_map = None
    made.started(CONFIG_MAPS)
    made.event(CONFIG_MAPS, "ADDED", config_map("inventory-1", 1))
    made.synced(CONFIG_MAPS)
    assert made.current().set.unusable
    assert len(changes) == 3
