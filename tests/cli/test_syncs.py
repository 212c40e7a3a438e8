"""status, reconcile and approve, as an operator types them; an agent's part is played by hand."""

from __future__ import annotations

import json
import secrets
import threading
from typing import Any

import pytest

from ocisync.kit import yamlio
from tests.cli.conftest import Cli
from tests.support.cluster import Cluster
from tests.support.process import free_port
from tests.support.waiting import eventually

GROUP = "/apis/ocisync.dev/v1alpha1"
HASH = "sha256:" + "a" * 64
DIGEST = "sha256:" + "1" * 64


class Syncs:
    """Syncs of a cluster without an agent."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubeconfig = str(cluster.kubeconfig)

    def path(self, name: str) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/artifactsyncs/{name}"

    def make(self, name: str = "shop", **status: Any) -> None:
        sync = {
            "apiVersion": "ocisync.dev/v1alpha1",
            "kind": "ArtifactSync",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"source": {"repository": "registry.example/shop", "tag": "production"}},
        }
        self.cluster.api("POST", f"{GROUP}/namespaces/{self.namespace}/artifactsyncs", sync)
        if status:
            self.say(name, **status)

    def say(self, name: str = "shop", *, ready: str = "True", reason: str = "Succeeded", **more: Any) -> None:
        """Write a status as an agent does."""
        live = self.read(name)
        generation = live["metadata"].get("generation", 1)
        message = more.pop("message", "applied main@sha1:abc: 3 of 3 objects healthy")
        rows = [{"type": "Ready", "status": ready, "reason": reason, "message": message}, *more.pop("conditions", [])]
        for row in rows:
            row.setdefault("observedGeneration", generation)
            row.setdefault("lastTransitionTime", "2026-11-23T12:00:00Z")
        status = {"observedGeneration": generation, "conditions": rows, **more}
        self.cluster.api("PUT", f"{self.path(name)}/status", {**live, "status": status})

    def read(self, name: str = "shop") -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.api("GET", self.path(name))
        return found


@pytest.fixture
def syncs(sandbox_cluster: Cluster, cli: Cli) -> Syncs:
    """A fresh namespace in a cluster that has the definitions."""
    applied = cli("install", "--crds-only", "--apply", "--kubeconfig", str(sandbox_cluster.kubeconfig), "-q")
    assert applied.exit_code == 0, applied.err
    name = f"syncs-{secrets.token_hex(4)}"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    sandbox_cluster.api("POST", "/api/v1/namespaces", namespace)
    return Syncs(sandbox_cluster, name)


def test_the_table_shows_every_sync(cli: Cli, syncs: Syncs) -> None:
    syncs.make("shop", applied={"digest": DIGEST, "revision": "main@sha1:0123456789abcdef0123"})
    syncs.make("new")
    ran = cli("status", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    assert ran.exit_code == 0, ran.err
    header, new, shop = ran.out.splitlines()
    assert header.split() == ["NAMESPACE", "NAME", "READY", "STATUS", "REVISION", "AGE"]
    assert new.split()[:3] == [syncs.namespace, "new", "Unknown"] and "not seen by an agent yet" in new
    assert shop.split()[:3] == [syncs.namespace, "shop", "True"] and "main@0123456789ab" in shop


def test_one_sync_in_detail(cli: Cli, syncs: Syncs) -> None:
    failure = {"object": "ConfigMap a/b", "place": "a.yaml:3", "class": "Permanent", "message": "no"}
    artifact = {"digest": DIGEST, "revision": "main@sha1:abc", "signers": ["release-key"]}
    syncs.make(ready="False", reason="ApplyFailed", message="ConfigMap a/b: no", failures=[failure], applied=artifact)
    ran = cli("status", "shop", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    assert "signed by release-key" in ran.out
    assert "ConfigMap a/b (a.yaml:3): Permanent: no" in ran.out
    assert "registry.example/shop:production" in ran.out


def test_status_speaks_json_yaml_and_names(cli: Cli, syncs: Syncs) -> None:
    syncs.make()
    where = ("shop", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig, "-o")
    assert json.loads(cli("status", *where, "json").out)["kind"] == "ArtifactSync"
    assert cli("status", *where, "name").out == "artifactsync.ocisync.dev/shop\n"
    assert "registry.example/shop" in cli("status", *where, "yaml").out
    listing = json.loads(cli("status", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig, "-o", "json").out)
    assert [item["metadata"]["name"] for item in listing["items"]] == ["shop"]


def test_a_sync_that_does_not_exist_is_exit_code_5(cli: Cli, syncs: Syncs) -> None:
    for command in ("status", "reconcile", "approve"):
        ran = cli(command, "none", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
        assert ran.exit_code == 5 and len(ran.errors) == 1, command


def test_an_unreachable_cluster_is_exit_code_7(cli: Cli, syncs: Syncs) -> None:
    text = syncs.cluster.kubeconfig.read_text()
    broken = syncs.cluster.kubeconfig.parent / "kubeconfig-of-nobody"
    broken.write_text(text.replace(syncs.cluster.server, f"http://127.0.0.1:{free_port()}"))
    ran = cli("status", "--kubeconfig", str(broken))
    assert ran.exit_code == 7 and len(ran.errors) == 1


def test_reconcile_asks_and_returns(cli: Cli, syncs: Syncs) -> None:
    syncs.make(ready="True")
    ran = cli("reconcile", "shop", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    assert ran.exit_code == 0
    assert syncs.read()["metadata"]["annotations"]["ocisync.dev/requestedAt"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"ready": "True"}, 0),
        ({"ready": "False", "reason": "ApprovalRequired", "conditions": [{"type": "Stalled", "status": "True"}]}, 1),
        (
            {
                "ready": "False",
                "reason": "Unsigned",
                "conditions": [{"type": "Stalled", "status": "True"}, {"type": "Verified", "status": "False"}],
            },
            4,
        ),
    ],
    ids=["ready", "held", "refused"],
)
def test_reconcile_waits_for_what_the_agent_says(said: dict[str, Any], code: int, cli: Cli, syncs: Syncs) -> None:
    syncs.make(ready="True")
    for row in said.get("conditions", ()):
        row.update(reason="x", message="x")

    def agent() -> None:
        key = "ocisync.dev/requestedAt"
        asked = eventually(lambda: (syncs.read()["metadata"].get("annotations") or {}).get(key), what="it was asked")
        syncs.say(**said, lastHandledReconcileAt=asked)

    player = threading.Thread(target=agent)
    player.start()
    ran = cli("reconcile", "shop", "-n", syncs.namespace, "--wait", "--kubeconfig", syncs.kubeconfig)
    player.join()
    assert ran.exit_code == code, ran.err


def test_reconcile_gives_up_in_time(cli: Cli, syncs: Syncs) -> None:
    syncs.make()
    where = ("-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    ran = cli("reconcile", "shop", *where, "--wait", "--wait-timeout", "1")
    assert ran.exit_code == 7 and "is an agent running?" in ran.err


def test_approve_shows_what_is_held_and_sets_its_hash(cli: Cli, syncs: Syncs) -> None:
    loss = {"object": "ConfigMap a/b", "place": "", "class": "Held", "message": "would be deleted"}
    syncs.make(ready="False", reason="ApprovalRequired", message="it deletes 9 of 10", planHash=HASH, failures=[loss])
    where = ("shop", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    unasked = cli("approve", *where)
    assert unasked.exit_code == 2 and "ConfigMap a/b: would be deleted" in unasked.err
    assert cli("approve", *where, "--yes", "--hash", "sha256:other").exit_code == 4
    assert "annotations" not in syncs.read()["metadata"]
    assert cli("approve", *where, "--yes", "--hash", HASH).exit_code == 0
    assert syncs.read()["metadata"]["annotations"]["ocisync.dev/approved"] == HASH


def test_approve_without_a_held_plan_is_exit_code_5(cli: Cli, syncs: Syncs) -> None:
    syncs.make(ready="True")
    ran = cli("approve", "shop", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig, "--yes")
    assert ran.exit_code == 5 and "no plan is held" in ran.err


def test_yaml_of_status_can_be_read_back(cli: Cli, syncs: Syncs) -> None:
    syncs.make()
    ran = cli("status", "shop", "-n", syncs.namespace, "--kubeconfig", syncs.kubeconfig, "-o", "yaml")
    assert yamlio.parse_documents(ran.out.encode(), "status")[0].value["metadata"]["name"] == "shop"


def test_the_table_says_which_agent_holds_the_lease(cli: Cli, syncs: Syncs) -> None:
    syncs.make("shop")
    where = ("status", "-n", syncs.namespace, "--agent-namespace", syncs.namespace, "--kubeconfig", syncs.kubeconfig)
    assert "lease" not in cli(*where).out
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{syncs.namespace}/leases"
    held = {"holderIdentity": "agent-1", "acquireTime": "2026-11-23T12:00:00.000000Z", "leaseDurationSeconds": 15}
    lease = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "ocisync-agent"}, "spec": held
    }  # fmt: skip
    syncs.cluster.api("POST", leases, lease)
    assert "\nagent agent-1 holds the lease since 2026-11-23T12:00:00.000000Z\n" in cli(*where).out
    syncs.cluster.api("PUT", f"{leases}/ocisync-agent", {**lease, "spec": {}})
    assert "\nno agent holds the lease\n" in cli(*where).out
