"""Two agents at once: one holds the lease and works, the other takes over, and nobody writes after his time."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ocisync.cluster.fence import LEASE_S, RENEW_DEADLINE_S, WRITE_START_S
from ocisync.install.rbac import AGENT_NAME
from tests.support.agent import AgentProcess, Installation, Tenant, config_map, place, running
from tests.support.audit import AuditEvent
from tests.support.cluster import write_kubeconfig
from tests.support.controlplane import ControlPlane
from tests.support.faultrelay import FaultRelay
from tests.support.process import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

OBJECTS = 400
# How much later each request of a holder that is to be frozen amid its work arrives: it has sixteen on their way, so
# that the rest of its work takes so much longer than whoever freezes it can be late.
DETOUR_S = 0.5
HEAVY = pytest.mark.heavy  # takes another lease
WRITES = frozenset({"create", "update", "patch", "delete"})
# The server's clock marks when the head of a request was read: a little after it left.
ON_THE_WAY = timedelta(seconds=0.5)


class Pair:
    """Two agents of one installation, by name."""

    def __init__(self, installation: Installation, plane: ControlPlane, directory: Path) -> None:
        self.installation = installation
        self.plane = plane
        self.directory = directory
        self.start = self.mark = plane.audit.mark()

    def agent(self, name: str, *extra: str) -> AgentProcess:
        options = ("--leader-elect", "--identity", name, *extra)
        return self.installation.agent(self.directory / name, extra=options)

    def agent_through(self, relay: FaultRelay, name: str) -> AgentProcess:
        """One whose requests take a way that can be made longer."""
        token = self.plane.token_for(self.installation.namespace, AGENT_NAME)
        path = self.directory / f"kubeconfig-{name}"
        kubeconfig = write_kubeconfig(path, relay.url, self.plane.authority, {"token": token})
        options = ("--leader-elect", "--identity", name)
        return AgentProcess(kubeconfig, self.installation.namespace, self.directory / name, extra=options)

    def lease(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.installation.cluster.api("GET", self.lease_path)["spec"]
        return spec

    @property
    def lease_path(self) -> str:
        return place("Lease", self.installation.namespace, "ocisync-agent")

    def held_by(self, name: str) -> bool:
        return bool(self.lease()["holderIdentity"] == name)

    def events(self, name: str, **what: str) -> tuple[AuditEvent, ...]:
        return self.plane.audit.events(since=self.mark, user_agent=f"({name})", **what)

    def told(self) -> str:
        """What Events in the agents' namespace say."""
        items = self.plane.api("GET", place("Event", self.installation.namespace))["items"]
        return "\n".join(one["message"] for one in items)

    def writes(self, name: str) -> list[AuditEvent]:
        """What it wrote or tried to write, the lease itself apart."""
        return [one for one in self.events(name) if one.verb in WRITES and one.resource != "leases"]

    def last_renewal(self, name: str) -> datetime:
        # From the first on: a holder may be frozen before its next renewal is due.
        leases = self.plane.audit.events(since=self.start, user_agent=f"({name})", resource="leases", verb="update")
        return max(one.received for one in leases if one.code == 200)

    def assert_silent_after_its_time(self, name: str, successor: str) -> None:
        """No write of one holder later than its time, and none of the next one before that."""
        renewed = self.last_renewal(name)
        late = [one for one in self.writes(name) if one.received > renewed + timedelta(seconds=WRITE_START_S)]
        assert not late, "\n".join([str(renewed), *map(str, late)])
        last = max(one.finished for one in self.writes(name))
        assert last <= renewed + timedelta(seconds=RENEW_DEADLINE_S) + ON_THE_WAY
        first = min(one.received for one in self.writes(successor))
        assert first > renewed + timedelta(seconds=RENEW_DEADLINE_S)


@pytest.fixture
def pair(installation: Installation, control_plane: ControlPlane, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(installation, control_plane, tmp_path)
    yield made
    installation.cluster.api("DELETE", made.lease_path)


def many(count: int, mark: str) -> dict[str, Any]:
    return {"all.yaml": [config_map(f"entry-{number:04d}", mark=mark) for number in range(count)]}


@pytest.mark.parametrize(
    ("before", "after", "verb"),
    [
        pytest.param(many(1, "one"), many(OBJECTS, "one"), "patch", id="apply"),
        pytest.param(many(OBJECTS, "one"), many(1, "one"), "delete", id="prune", marks=HEAVY),
    ],
)
def test_a_holder_that_was_frozen_for_longer_than_its_lease_never_writes_again(
    pair: Pair, tenant: Tenant, before: dict[str, Any], after: dict[str, Any], verb: str
) -> None:
    context = ssl.create_default_context(cadata=pair.plane.authority.decode())
    with ExitStack() as stack:
        relay = stack.enter_context(FaultRelay(pair.plane.server.removeprefix("https://"), context))
        old = pair.agent_through(relay, "old")
        stack.callback(old.kill)
        old.start()
        tenant.write_sync(guard={"maxPrune": "100%"})
        first = tenant.push(before)
        tenant.wait_ready(first.descriptor.digest)
        transitions = pair.lease()["leaseTransitions"]
        new = stack.enter_context(running(pair.agent("new")))
        eventually(lambda: pair.events("new", resource="leases"), what="the standby looks at the lease")
        here = {"resource": "configmaps", "namespace": tenant.namespace}
        pair.mark = pair.plane.audit.mark()
        relay.slow(10 * OBJECTS, DETOUR_S)
        second = tenant.push(after)
        eventually(lambda: len(pair.events("old", verb=verb, **here)) > 30, what="it is in the midst", interval_s=0.01)
        old.freeze()
        relay.calm()
        eventually(lambda: len(pair.events("new", verb=verb, **here)) > 10, what="the standby works")
        old.thaw()
        done = len(pair.events("old", verb=verb, **here))
        assert done < OBJECTS - 1, "it was frozen too late to prove anything"
        tenant.wait_ready(second.descriptor.digest)
        eventually(lambda: not old.server.running, what="the old holder ends")
        assert old.server.exit_code == 1
        pair.assert_silent_after_its_time("old", "new")
        assert pair.lease()["holderIdentity"] == "new"
        assert pair.lease()["leaseTransitions"] == transitions + 1
        live = pair.plane.api("GET", place("ConfigMap", tenant.namespace))["items"]
        assert sum(item["metadata"]["name"].startswith("entry-") for item in live) == len(after["all.yaml"])
        assert not new.logs("ready", reason="InventoryConflict")


def test_a_standby_takes_over_at_once_from_a_holder_that_is_stopped(pair: Pair, tenant: Tenant) -> None:
    port = free_port()
    with running(pair.agent("first")) as first, ExitStack() as stack:
        tenant.write_sync()
        pushed = tenant.push({"a.yaml": config_map("settings", mark="one")})
        tenant.wait_ready(pushed.descriptor.digest)
        second = stack.enter_context(running(pair.agent("second", "--http-address", f"127.0.0.1:{port}")))
        eventually(lambda: "standby: first holds" in page(port, "readyz"), what="the standby is ready")
        assert not pair.writes("second")
        assert not pair.events("second", resource="artifactsyncs"), "a standby holds no watch but that of the lease"
        first.stop()
        assert first.server.exit_code == 0
        eventually(lambda: pair.held_by("second"), what="the standby holds the lease")
        taken = min(one.received for one in pair.events("second", resource="leases", verb="update") if one.code == 200)
        waited = taken - pair.last_renewal("first")  # to release it is the last
        assert waited < timedelta(seconds=LEASE_S), "it waited for the lease to run out"
        tenant.edit("settings", mark="two")
        tenant.wait_value("settings", "mark", "one")
        eventually(lambda: "ocisync_leader 1" in page(port, "metrics"), what="its metrics say that it leads")
        eventually(lambda: page(port, "readyz") == "ok\n", what="it is ready")
        eventually(lambda: "second holds the lease" in pair.told(), what="an Event says who holds the lease")
        second.stop()


@HEAVY
def test_after_a_kill_the_standby_needs_the_lease_and_one_pass_that_changes_nothing(pair: Pair, tenant: Tenant) -> None:
    with running(pair.agent("new")) as standby, ExitStack() as stack:
        standby.stop()
        old = pair.agent("old")
        stack.callback(old.kill)
        old.start()
        tenant.write_sync()
        pushed = tenant.push(many(50, "one"))
        tenant.wait_ready(pushed.descriptor.digest)
        standby.start()
        eventually(lambda: pair.events("new", resource="leases"), what="the standby looks at the lease")
        versions = _versions(pair, tenant)
        old.kill()
        pair.mark = pair.plane.audit.mark()
        here = {"resource": "configmaps", "namespace": tenant.namespace, "verb": "patch"}
        eventually(lambda: len(pair.events("new", **here)) == 50, what="one full pass")
        tenant.edit("entry-0001", mark="by hand")
        tenant.wait_value("entry-0001", "mark", "one")
        assert len(pair.events("new", **here)) <= 52
        after = _versions(pair, tenant)
        assert {name for name, version in after.items() if versions[name] != version} == {"entry-0001"}


def _versions(pair: Pair, tenant: Tenant) -> dict[str, str]:
    items = pair.plane.api("GET", place("ConfigMap", tenant.namespace))["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


def page(port: int, name: str) -> str:
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused  # 503 says something, too
    with answer:
        text: str = answer.read().decode()
        return text
