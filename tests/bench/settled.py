"""A running agent whose one sync owns many objects and is Ready: where the rows about rest and drift begin."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from ocisync.model.spec import REQUESTED_AT
from tests.bench import inputs
from tests.bench.environment import Bench
from tests.bench.inputs import Manifest
from tests.bench.measure import Process
from tests.support.agent import AgentProcess, Tenant
from tests.support.waiting import eventually

_REST_S = 1.0
_PATH = "/apis/ocisync.dev/v1alpha1/namespaces/{0}/artifactsyncs/{1}"


@dataclass(frozen=True, slots=True)
class Settled:
    """The agent, the sync, and what it owns."""

    agent: AgentProcess
    tenant: Tenant
    objects: Sequence[Manifest]

    @property
    def process(self) -> Process:
        """The agent's process."""
        return Process(self.agent.pid)


@contextmanager
def running(bench: Bench) -> Iterator[AgentProcess]:
    """A fresh agent."""
    agent = bench.installation.agent(bench.fresh("agent"), extra=("--log-level", "info"))
    agent.start()
    try:
        eventually(lambda: agent.logs("agent starts"), timeout_s=300, what="the agent starts")
        yield agent
        agent.assert_sound()
    except BaseException:
        bench.say(agent.server.log_tail(30))
        raise
    finally:
        agent.stop()


@contextmanager
def settled(bench: Bench, count: int) -> Iterator[Settled]:
    """An agent at rest with this many owned objects, fifty of them Deployments."""
    few = min(50, max(1, count // 4))
    objects = [*inputs.deployments(few), *inputs.config_maps(count - few)]
    tenant = bench.tenant()
    built = tenant.push(inputs.files_of(objects))
    # Without an interval: the default of a real sync.
    tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag})
    try:
        with running(bench) as agent:
            wait_ready(tenant, built.descriptor.digest)
            yield Settled(agent, tenant, objects)
    finally:
        forget(tenant)


def request(tenant: Tenant) -> str:
    """Ask for a pass now; returns the moment that the status will repeat."""
    moment = f"{datetime.now(UTC).isoformat()}-{secrets.token_hex(2)}"
    body = {"metadata": {"annotations": {REQUESTED_AT: moment}}}
    tenant.cluster.api("PATCH", path_of(tenant), body, content_type="application/merge-patch+json")
    return moment


def wait_handled(tenant: Tenant, moment: str, timeout_s: float = 300.0) -> None:
    """Wait until a requested pass is done."""
    eventually(
        lambda: status(tenant).get("lastHandledReconcileAt") == moment,
        timeout_s=timeout_s, what="the requested pass", interval_s=0.02,
    )  # fmt: skip


def wait_ready(tenant: Tenant, digest: str, timeout_s: float = 900.0) -> None:
    """Wait until an artifact is applied and Ready."""

    def ready() -> bool:
        found = status(tenant)
        conditions = {item["type"]: item["status"] for item in found.get("conditions") or ()}
        return conditions.get("Ready") == "True" and (found.get("applied") or {}).get("digest") == digest

    eventually(ready, timeout_s=timeout_s, what=f"{digest} is Ready", interval_s=0.05)


def wait_at_rest(agent: AgentProcess) -> None:
    """Wait until the agent has used no processor time for a second."""
    process = Process(agent.pid)
    used, since = process.cpu_s(), time.monotonic()

    def rests() -> bool:
        nonlocal used, since
        now = process.cpu_s()
        if now != used:
            used, since = now, time.monotonic()
        return time.monotonic() - since >= _REST_S

    eventually(rests, timeout_s=300.0, what="the agent comes to rest", interval_s=0.1)


def status(tenant: Tenant) -> Manifest:
    """The status of the sync, in one request."""
    found: Manifest = tenant.cluster.api("GET", path_of(tenant)).get("status") or {}
    return found


def path_of(tenant: Tenant) -> str:
    """The API path of the sync."""
    return _PATH.format(tenant.namespace, tenant.name)


def forget(tenant: Tenant) -> None:
    """Take the sync away while no agent runs: deleting its many objects would disturb what is measured next."""
    body = {"metadata": {"finalizers": None}}
    tenant.cluster.api("PATCH", path_of(tenant), body, content_type="application/merge-patch+json")
    tenant.cluster.api("DELETE", path_of(tenant))
