"""The life of one artifact through the installed agent: applied, taken up after a restart, changed a little, cut down.

Each step stands beside the least that the same requests for the same objects can cost, in the same run.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable

from ocisync.model.spec import APPROVED
from tests.bench import ceiling, inputs, measure, mixes, settled
from tests.bench.environment import Bench
from tests.bench.inputs import Manifest
from tests.bench.measure import Process, Sample
from tests.bench.mixes import Mix
from tests.bench.report import Line, Row
from tests.support.agent import USER_AGENT, AgentProcess, Tenant, may
from tests.support.cluster import ApiError
from tests.support.waiting import eventually

TITLE = "the life of an artifact"
_RBAC = "rbac.authorization.k8s.io"


def run(bench: Bench) -> list[Row]:
    """One row for each mix."""
    heavy = bench.options.heavy
    small, large = bench.options.sizes(1_000)[0], bench.options.sizes(10_000)[0]
    chosen = [
        Mix("ConfigMaps", large if heavy else small, mixes.config_maps),
        Mix("mixed objects", bench.options.sizes(3_000 if heavy else 600)[0], mixes.mixed),
    ]
    return [_row(bench, mix) for mix in (chosen[1:] if bench.options.quick else chosen)]


class _Steps:
    """The lines of a row: each step of ocisync's beside its ceiling."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._lines: dict[str, tuple[Line | None, Line]] = {}

    def add(self, name: str, ours: Sample, least: Sample | None = None, goal: str = "") -> None:
        """One measurement of a step."""
        if name not in self._lines:
            anchor = self._row.line(f"ceiling: {name}") if least is not None else None
            line = self._row.line(f"ocisync: {name}", anchor=anchor.name if anchor else "", goal=goal)
            self._lines[name] = anchor, line
        anchor, line = self._lines[name]
        line.samples.append(ours)
        if anchor is not None and least is not None:
            anchor.samples.append(least)


def _row(bench: Bench, mix: Mix) -> Row:
    name = mix.name.replace(" ", "-").lower()
    row = Row(f"lifecycle-{name}-{mix.count}", f"{TITLE}, about {mix.count:,} {mix.name}")
    steps = _Steps(row)
    rss: list[float] = []
    bench.repeat(lambda _: rss.append(_once(bench, mix, steps)))
    row.notes.append(f"Resident memory of the agent after all of it: {max(rss):.0f} MiB at most.")
    row.notes.append(
        "Held: asked for → ApprovalRequired, nothing deleted. Taken up: start of the process → status handled."
    )
    return row


def _once(bench: Bench, mix: Mix, steps: _Steps) -> float:
    tenant, free = _tenant(bench), _tenant(bench)
    least = ceiling.Target(bench.installation.kubeconfig, free.namespace, free.account)
    scope, other = f"a{secrets.token_hex(3)}", f"b{secrets.token_hex(3)}"
    few = max(1, mix.count // 100)
    versions = [mix.make(scope, mix.count, 0), mix.make(scope, mix.count, few)]
    beside = [mix.make(other, mix.count, 0), mix.make(other, mix.count, few)]
    first = tenant.push({"first.yaml": inputs.yaml_of(inputs.config_maps(1, "first")[0])})
    tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag, "interval": "1h"})
    try:
        with settled.running(bench) as agent:
            settled.wait_ready(tenant, first.descriptor.digest)
            _apply(bench, agent, tenant, steps, "apply", versions[0], ceiling.apply(beside[0], least))
            again = ceiling.apply(beside[0], least)
        with settled.running(bench) as agent:
            steps.add("taken up after a restart", _restarted(bench, agent, tenant, mix.count), again)
            settled.wait_at_rest(agent)  # the first list of its watches comes after the pass
            unchanged = _measured(bench, agent, lambda: settled.wait_handled(tenant, settled.request(tenant)))
            steps.add("no change, asked for", unchanged, goal="≤ 10 requests, < 50 ms CPU")
            changed = [item for item, old in zip(beside[1], beside[0], strict=True) if item != old]
            _apply(bench, agent, tenant, steps, "update of 1 %", versions[1], ceiling.apply(changed, least))
            _prune(bench, agent, tenant, steps, versions[1], beside[1], least)
            return Process(agent.pid).rss_mib()
    finally:
        settled.forget(tenant)
        _clean(bench, [*versions[0], *beside[0]])


def _apply(
    bench: Bench,
    agent: AgentProcess,
    tenant: Tenant,
    steps: _Steps,
    name: str,
    objects: list[Manifest],
    least: Sample,
) -> None:
    built = tenant.push(inputs.files_of(objects))

    def step() -> None:
        settled.request(tenant)
        settled.wait_ready(tenant, built.descriptor.digest)

    steps.add(
        name, _measured(bench, agent, step), least, "≤ 1.25 × + 1 s" if len(objects) < 5_000 else "≤ 1.25 × + 5 s"
    )


def _prune(
    bench: Bench,
    agent: AgentProcess,
    tenant: Tenant,
    steps: _Steps,
    objects: list[Manifest],
    beside: list[Manifest],
    least: ceiling.Target,
) -> None:
    kept = mixes.without_most(beside)
    names = {(item["kind"], item["metadata"]["name"]) for item in kept}
    going = [item for item in beside if (item["kind"], item["metadata"]["name"]) not in names]
    floor = ceiling.delete(going, least)
    built = tenant.push(inputs.files_of(mixes.without_most(objects)))

    def held() -> None:
        settled.wait_handled(tenant, settled.request(tenant), timeout_s=600.0)
        assert settled.status(tenant).get("planHash"), "a prune of most objects must be held"

    steps.add("prune of 60 %: held", _measured(bench, agent, held))
    body = {"metadata": {"annotations": {APPROVED: settled.status(tenant)["planHash"]}}}

    def approved() -> None:
        path = settled.path_of(tenant)
        bench.control_plane.api("PATCH", path, body, content_type="application/merge-patch+json")
        settled.wait_ready(tenant, built.descriptor.digest)

    # What stays is applied once more, as ever: the ceiling has it, too.
    floor += ceiling.apply(kept, least)
    steps.add("prune of 60 %: approved, gone", _measured(bench, agent, approved), floor)


def _restarted(bench: Bench, agent: AgentProcess, tenant: Tenant, count: int) -> Sample:
    """From the start of the process to the end of its full pass."""
    process, started = Process(agent.pid), time.monotonic()
    moment = settled.request(tenant)
    settled.wait_handled(tenant, moment, timeout_s=600.0)
    return Sample(time.monotonic() - started, process.cpu_s(), process.peak_rss_mib())


def _measured(bench: Bench, agent: AgentProcess, step: Callable[[], None]) -> Sample:
    process = Process(agent.pid)
    process.forget_peak()
    mark, cpu, started = bench.control_plane.audit.mark(), process.cpu_s(), time.monotonic()
    step()
    sample = Sample(time.monotonic() - started, process.cpu_s() - cpu, process.peak_rss_mib())
    asked = bench.control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
    return measure.with_requests(sample, asked)


def _tenant(bench: Bench) -> Tenant:
    """One whose account may also write definitions and any role."""
    made = bench.tenant()
    subject = {"kind": "ServiceAccount", "name": made.account, "namespace": made.namespace}
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"bench-{made.namespace}"},
        "subjects": [subject],
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    }
    bench.control_plane.api("POST", f"/apis/{_RBAC}/v1/clusterrolebindings", binding)
    user, group = f"system:serviceaccount:{made.namespace}:{made.account}", "apiextensions.k8s.io"
    eventually(
        lambda: may(bench.control_plane, user, "create", "customresourcedefinitions", group=group),
        what="the API server knows the account's rights",
    )
    return made


def _clean(bench: Bench, objects: list[Manifest]) -> None:
    """Definitions are nobody's namespace's: take them away, and wait, for their deletion disturbs what comes next."""
    root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    names = [item["metadata"]["name"] for item in objects if item["kind"] == "CustomResourceDefinition"]
    for name in names:
        with contextlib.suppress(ApiError):  # it was never written
            bench.control_plane.api("DELETE", f"{root}/{name}")

    def gone() -> bool:
        left = json.dumps([item["metadata"]["name"] for item in bench.control_plane.api("GET", root)["items"]])
        return not any(name in left for name in names)

    eventually(gone, timeout_s=300.0, what="the definitions are gone", interval_s=0.5)
