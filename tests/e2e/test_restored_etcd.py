"""etcd is restored from a backup, under a running agent and while none runs.

What is remembered is of a time that never was. Specs are those of the restored cluster, objects those of the last
revision, and nobody has to do anything for that.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocisync.cluster.normalise import applyset_id
from ocisync.model.spec import PART_OF_LABEL
from tests.support.agent import Installation, Tenant, config_map, place, running
from tests.support.cluster import ApiError
from tests.support.controlplane import ControlPlane, Programs
from tests.support.registries import Registry
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy  # takes a control plane of its own

_SOON_S = 120.0
_APPLY = "application/apply-patch+yaml"


class Restorable:
    """A control plane that can be turned back, as its operators would: everything that watches it is started anew."""

    def __init__(self, directory: Path) -> None:
        self.plane = ControlPlane(replace(Programs.find(), scheduler=None), directory / "plane")
        self._backup = directory / "backup"

    def back_up(self) -> None:
        """Keep what etcd has now."""
        self._stop()
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(self.plane.directory / "etcd", self._backup)
        self._start()

    def restore(self) -> None:
        """Return to what was kept."""
        self._stop()
        shutil.rmtree(self.plane.directory / "etcd")
        shutil.copytree(self._backup, self.plane.directory / "etcd")
        self._start()

    def _stop(self) -> None:
        for server in self.plane.controllers:
            server.kill()
        self.plane.stop_apiserver()
        self.plane.etcd.stop()

    def _start(self) -> None:
        self.plane.etcd.start()
        self.plane.start_apiserver()
        for server in self.plane.controllers:
            server.start()


@pytest.fixture(scope="module")
def restorable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restorable]:
    """One for all cases; each has an installation and a namespace of its own."""
    made = Restorable(tmp_path_factory.mktemp("restorable"))
    made.plane.start()
    yield made
    made.plane.stop()


@pytest.fixture
def shop(restorable: Restorable, distribution: Registry, tmp_path: Path) -> Iterator[Tenant]:
    """A sync whose deletions nobody has to approve; not written yet."""
    namespace = restorable.plane.new_namespace("restored")
    installation = Installation(restorable.plane, tmp_path / "installation")
    made = Tenant(installation, namespace, f"{distribution.host}/restored/{namespace}")
    made.prepare()
    yield made
    made.remove()


@pytest.mark.parametrize("replica", [True, False], ids=["as-installed", "without-a-lease"])
def test_after_a_restore_of_etcd_the_cluster_is_the_last_revision_again_and_nothing_pruned_stays(
    restorable: Restorable, shop: Tenant, tmp_path: Path, *, replica: bool
) -> None:
    early, quiet, late = shop.beside("early"), shop.beside("quiet"), shop.beside("late")
    first = shop.push({"all.yaml": [config_map("stays", v="1"), config_map("same"), config_map("goes")]})
    shop.write_sync(guard={"maxPrune": "100%"})
    before = {"early": early.push({"all.yaml": [config_map("kept", v="1")]})}
    early.write_sync()
    before["quiet"] = quiet.push({"all.yaml": [config_map("quiet", v="1")]})
    quiet.write_sync()
    foreign = _make(shop, config_map("foreign", by="hand"))
    extra = ("--leader-elect", "--identity", "the-pod") if replica else ()
    with running(shop.installation.agent(tmp_path / "agent", extra=extra)) as agent:
        shop.wait_ready(first.descriptor.digest)
        early.wait_ready(before["early"].descriptor.digest)
        quiet.wait_ready(before["quiet"].descriptor.digest)
        restorable.back_up()

        second = shop.push({"all.yaml": [config_map("stays", v="2"), config_map("same"), config_map("comes")]})
        shop.wait_ready(second.descriptor.digest, timeout_s=_SOON_S)
        created = late.push({"all.yaml": [config_map("late")]})
        late.write_sync()
        late.wait_ready(created.descriptor.digest)
        quiet.write_sync(suspend=True)
        quiet.wait_condition("Stalled", "True", "Suspended")
        moved = quiet.push({"all.yaml": [config_map("quiet", v="2")]})
        shop.cluster.api("DELETE", place("ArtifactSync", shop.namespace, "early"))
        eventually(lambda: "kept" not in _names(shop), what="the deleted sync has taken its object along")
        assert _names(shop) == {"stays", "same", "comes", "late", "quiet", "foreign"}
        assert not agent.logs("etcd was restored from a backup: the agent begins anew")

        restorable.restore()
        status = shop.wait_ready(second.descriptor.digest, timeout_s=_SOON_S)
        assert (status["inventory"]["objects"], status["source"]["digest"]) == (3, second.descriptor.digest)
        early.wait_ready(before["early"].descriptor.digest, timeout_s=_SOON_S)
        quiet.wait_ready(moved.descriptor.digest, timeout_s=_SOON_S)  # as restored it is not suspended
        names = {"stays", "same", "comes", "kept", "quiet", "foreign"}
        eventually(lambda: _names(shop) == names, timeout_s=_SOON_S, what="what was pruned is pruned again")
        assert (shop.value("stays", "v"), quiet.value("quiet", "v")) == ("2", "2")
        assert _get(shop, "foreign") == foreign
        with pytest.raises(ApiError):
            shop.cluster.api("GET", place("ArtifactSync", shop.namespace, "late"))
        assert len(agent.logs("etcd was restored from a backup: the agent begins anew")) == 1

        # From now on it is an agent like any other: drift, revisions, deletions, rollback attempts.
        shop.edit("same", by="hand")
        shop.edit("stays", v="drift")
        shop.wait_value("stays", "v", "2")
        shop.cluster.api("DELETE", place("ConfigMap", shop.namespace, "comes"))
        eventually(lambda: "comes" in _names(shop), what="a deleted object is there again")
        third = shop.push({"all.yaml": [config_map("stays", v="3"), config_map("same")]})
        shop.wait_ready(third.descriptor.digest)
        again = early.push({"all.yaml": [config_map("kept", v="2")]})
        early.wait_ready(again.descriptor.digest)
        shop.cluster.api("DELETE", place("ArtifactSync", shop.namespace, "early"))
        eventually(lambda: _names(shop) == {"stays", "same", "quiet", "foreign"}, what="all is as Git has it")
        shop.push(second, sign=False)
        shop.wait_condition("Verified", "False", "RolledBack")
        assert shop.value("stays", "v") == "3"
        assert _get(shop, "foreign") == foreign
        assert agent.server.running


def test_an_agent_that_starts_after_a_restore_of_etcd_goes_by_what_it_had_accepted_before(
    restorable: Restorable, shop: Tenant, tmp_path: Path
) -> None:
    proof = shop.beside("proof")
    first = shop.push({"all.yaml": [config_map("stays", v="1"), config_map("goes")]})
    shop.write_sync()
    named = proof.push({"all.yaml": [config_map("unproven"), config_map("other")]})
    proof.write_sync()
    agent = shop.installation.agent(tmp_path / "agent")
    with running(agent):
        shop.wait_ready(first.descriptor.digest)
        proof.wait_ready(named.descriptor.digest)
        restorable.back_up()
        second = shop.push({"all.yaml": [config_map("stays", v="2"), config_map("comes")]})
        shop.wait_ready(second.descriptor.digest, timeout_s=_SOON_S)
        dropped = proof.push({"all.yaml": [config_map("other")]})
        proof.wait_ready(dropped.descriptor.digest)
    restorable.restore()
    # Somebody restores one object by hand, too: it is not the one that the inventory means.
    _restored_by_hand(proof, "unproven")
    shop.push(first, sign=False)  # and the tag leads back to what the restored watermark would let pass
    with running(agent):
        shop.wait_condition("Verified", "False", "RolledBack", timeout_s=_SOON_S)
        shop.wait_value("stays", "v", "2", timeout_s=_SOON_S)
        proof.wait_ready(dropped.descriptor.digest, timeout_s=_SOON_S)
        assert _names(shop) == {"stays", "comes", "other", "unproven"}
        named = proof.push({"all.yaml": [config_map("unproven"), config_map("other")]})
        proof.wait_ready(named.descriptor.digest)
        dropped = proof.push({"all.yaml": [config_map("other", v="2")]})
        proof.wait_ready(dropped.descriptor.digest)
        assert _names(shop) == {"stays", "comes", "other"}


def _restored_by_hand(tenant: Tenant, name: str) -> None:
    """Put an object back with label and Apply entry, as tools that copy objects do: it gets another uid."""
    path = place("ConfigMap", tenant.namespace, name)
    tenant.cluster.api("DELETE", path)
    label = {PART_OF_LABEL: applyset_id(tenant.name, tenant.namespace)}
    copied = {**config_map(name), "metadata": {"name": name, "labels": label}}
    tenant.cluster.api("PATCH", f"{path}?fieldManager=ocisync", copied, content_type=_APPLY)


def _make(tenant: Tenant, obj: dict[str, Any]) -> dict[str, Any]:
    path = place("ConfigMap", tenant.namespace, obj["metadata"]["name"])
    made: dict[str, Any] = tenant.cluster.api("PATCH", f"{path}?fieldManager=by-hand", obj, content_type=_APPLY)
    return made


def _get(tenant: Tenant, name: str) -> dict[str, Any]:
    found: dict[str, Any] = tenant.cluster.api("GET", place("ConfigMap", tenant.namespace, name))
    return found


def _names(tenant: Tenant) -> set[str]:
    items = tenant.cluster.api("GET", place("ConfigMap", tenant.namespace))["items"]
    return {item["metadata"]["name"] for item in items} - {"kube-root-ca.crt"}
