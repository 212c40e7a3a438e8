"""A cluster that goes back in time under a running agent: the sandbox's, so that each run holds what matters.

The same with a real etcd, and more of it, is in `tests/e2e/test_restored_etcd.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocisync.agent.process import Process
from ocisync.agent.run import Options
from ocisync.cluster.client import Cluster as Connection
from ocisync.cluster.client import connect
from ocisync.cluster.fence import Fence
from ocisync.sandbox.server import Sandbox
from ocisync.sandbox.store import Key, Stored, Table, TableKey
from tests.support.agent import Installation, Tenant, config_map, place
from tests.support.cluster import ApiError, Cluster
from tests.support.process import free_port
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Backup:
    """What a cluster held at one moment."""

    revision: int
    objects: dict[TableKey, dict[Key, Stored]]
    uids: frozenset[str]


class Open(Cluster):
    """A cluster that asks nobody who he is."""

    def kubeconfig_for(self, namespace: str, account: str, *_: object) -> Path:
        return self.kubeconfig


class World:
    """A sandbox, and a tenant in it whose deletions nobody has to approve."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.cluster = Open(sandbox.kubeconfig, directory)
        self.installation = Installation(self.cluster, directory)
        namespace = self.cluster.new_namespace("restored")
        self.shop = Tenant(self.installation, namespace, f"{sandbox.registry.address}/restored/{namespace}")
        self.shop.prepare()

    def back_up(self) -> Backup:
        """Keep what is there now."""
        store = self.sandbox.apiserver.store
        with store.lock:
            objects = {table.key: dict(table.objects) for table in store.tables()}
            return Backup(store.revision, objects, frozenset(store.uids))

    def restore(self, backup: Backup, *, raised_by: int = 0) -> None:
        """Stop the API server, return to what was kept, and start it. `raised_by`: added to all later numbers."""
        server = self.sandbox.apiserver
        server.stop()
        with server.store.lock:
            server.store.revision = backup.revision + raised_by
            server.store.uids = set(backup.uids)
            for table in server.store.tables():
                _turn_back(table, backup.objects.get(table.key, {}), server.store.revision)
        server.start()

    @contextmanager
    def agent(self, directory: Path, *, replica: bool) -> Iterator[None]:
        """A process of the agent, in this one."""

        def connections() -> tuple[Connection, Connection | None]:
            kubeconfig = str(self.installation.kubeconfig)
            fence = Fence() if replica else None
            lease = connect(kubeconfig, user_agent="test", sleep=lambda _: True) if replica else None
            return connect(kubeconfig, user_agent="test", fence=fence), lease

        options = Options(
            namespace=self.installation.namespace, cache_dir=directory, http_address="",
            identity="the-pod" if replica else "",
        )  # fmt: skip
        process = Process(connections, options)
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(process.run()), name="process")
        thread.start()
        try:
            yield
        finally:
            process.stop()
            thread.join(60.0)
        assert codes == [0]

    def names(self) -> set[str]:
        items = self.cluster.api("GET", place("ConfigMap", self.shop.namespace))["items"]
        return {item["metadata"]["name"] for item in items} - {"kube-root-ca.crt"}


def _turn_back(table: Table, objects: dict[Key, Stored], revision: int) -> None:
    table.objects = dict(objects)
    table.forget()
    table.oldest = revision


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    # A port that no outgoing connection of this machine can take while the server is away.
    with Sandbox(tmp_path / "sandbox", api_port=free_port(), controllers=False, persistent=False) as sandbox:
        yield World(sandbox, tmp_path)


@pytest.mark.parametrize(
    ("replica", "raised_by"),
    [(False, 0), (True, 1_000_000)],
    ids=["without-a-lease", "with-a-lease-and-raised-numbers"],
)
def test_when_a_cluster_goes_back_in_time_specs_are_the_restored_ones_and_objects_those_of_the_last_revision(
    world: World, tmp_path: Path, *, replica: bool, raised_by: int
) -> None:
    shop, early, late = world.shop, world.shop.beside("early"), world.shop.beside("late")
    first = shop.push({"all.yaml": [config_map("stays", v="1"), config_map("goes")]})
    shop.write_sync(guard={"maxPrune": "100%"})
    kept = early.push({"all.yaml": [config_map("kept")]})
    early.write_sync()
    with world.agent(tmp_path / "cache", replica=replica):
        shop.wait_ready(first.descriptor.digest)
        early.wait_ready(kept.descriptor.digest)
        backup = world.back_up()
        second = shop.push({"all.yaml": [config_map("stays", v="2"), config_map("comes")]})
        shop.wait_ready(second.descriptor.digest)
        made = late.push({"all.yaml": [config_map("late")]})
        late.write_sync()
        late.wait_ready(made.descriptor.digest)
        world.cluster.api("DELETE", place("ArtifactSync", shop.namespace, "early"))
        eventually(lambda: world.names() == {"stays", "comes", "late"}, what="the deleted sync has ended")

        world.restore(backup, raised_by=raised_by)
        shop.wait_ready(second.descriptor.digest, timeout_s=120.0)
        early.wait_ready(kept.descriptor.digest, timeout_s=120.0)
        eventually(
            lambda: world.names() == {"stays", "comes", "kept"}, timeout_s=120.0, what="what was pruned is pruned again"
        )
        assert shop.value("stays", "v") == "2"
        with pytest.raises(ApiError):
            world.cluster.api("GET", place("ArtifactSync", shop.namespace, "late"))
        shop.edit("stays", v="drift")
        shop.wait_value("stays", "v", "2")
        shop.push(first, sign=False)
        shop.wait_condition("Verified", "False", "RolledBack")  # the restored watermark would let it pass
        assert world.names() == {"stays", "comes", "kept"}


def test_an_agent_that_starts_after_a_restore_counts_what_its_local_copy_proves_to_have_been_accepted(
    world: World, tmp_path: Path
) -> None:
    shop = world.shop
    first = shop.push({"all.yaml": [config_map("stays", v="1")]})
    shop.write_sync()
    with world.agent(tmp_path / "cache", replica=False):
        shop.wait_ready(first.descriptor.digest)
        backup = world.back_up()
        second = shop.push({"all.yaml": [config_map("stays", v="2")]})
        shop.wait_ready(second.descriptor.digest)
    world.restore(backup)
    shop.push(first, sign=False)
    with world.agent(tmp_path / "cache", replica=False):
        shop.wait_condition("Verified", "False", "RolledBack")
        shop.wait_value("stays", "v", "2")
