"""One artifact of many ConfigMaps through the installed agent, beside the least that the same objects can cost."""

from __future__ import annotations

import time

from tests.bench import ceiling, inputs, measure, settled
from tests.bench.environment import Bench
from tests.bench.measure import Process, Sample
from tests.bench.report import Line, Row
from tests.bench.settled import Settled
from tests.support.agent import USER_AGENT, Tenant, config_map

TITLE = "apply one artifact of ConfigMaps: asked for → all applied, Ready"
_CEILING = "ceiling: pipelined apply, 16 connections"


def run(bench: Bench) -> list[Row]:
    """One row for each number of objects."""
    sizes = bench.options.sizes(*((1_000, 10_000) if bench.options.heavy else (1_000,)))
    return [_row(bench, count) for count in sizes]


def _row(bench: Bench, count: int) -> Row:
    row = Row(f"apply-{count}", f"{TITLE}, {count:,} objects")
    least = row.line(_CEILING)
    extra = 1 if count <= 1_000 else 5
    ours = row.line(
        "ocisync agent", anchor=_CEILING, goal=f"≤ 1.25 × + {extra} s" + (", ≤ 250 MiB" if count > 1_000 else "")
    )
    kubectl = row.line("kubectl apply --server-side -R -f DIR", anchor=_CEILING, goal="(≥ 20 × slower than ocisync)")
    objects = inputs.config_maps(count)

    def once(number: int) -> None:
        least.samples.append(ceiling.apply(objects, _target(bench, bench.tenant())))
        ours.samples.append(_agent(bench, count))
        if number == 0 and (bench.options.slow or bench.options.quick):
            kubectl.samples.append(_kubectl(bench, objects))

    bench.repeat(once)
    row.notes.append(_rates(count, least, ours))
    return row


def _agent(bench: Bench, count: int) -> Sample:
    """From the request to Ready; the agent ran before, with one object, so that start-up is not counted."""
    tenant = bench.tenant()
    first = tenant.push({"first.yaml": config_map("first")})
    # Only the request makes it look: a poll in between would start the clock by itself.
    tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag, "interval": "1h"})
    try:
        with settled.running(bench) as agent:
            settled.wait_ready(tenant, first.descriptor.digest)
            files = {**inputs.files_of(inputs.config_maps(count)), "first.yaml": inputs.yaml_of(config_map("first"))}
            built = tenant.push(files)
            process = Process(agent.pid)
            process.forget_peak()
            mark, cpu, started = bench.control_plane.audit.mark(), process.cpu_s(), time.monotonic()
            settled.request(tenant)
            settled.wait_ready(tenant, built.descriptor.digest)
            sample = Sample(time.monotonic() - started, process.cpu_s() - cpu, process.peak_rss_mib())
            asked = bench.control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
            return measure.with_requests(sample, asked)
    finally:
        settled.forget(tenant)


def _kubectl(bench: Bench, objects: list[inputs.Manifest]) -> Sample:
    directory = bench.fresh("kubectl")
    for name, text in inputs.files_of(objects).items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(text))
    target = _target(bench, bench.tenant())
    command, environment = ceiling.kubectl_apply(bench.control_plane.programs.kubectl, target, directory)
    return measure.command(command, bench.home, environment)[0]


def _target(bench: Bench, tenant: Tenant) -> ceiling.Target:
    return ceiling.Target(bench.installation.kubeconfig, tenant.namespace, tenant.account)


def again(bench: Bench, at_rest: Settled) -> Sample:
    """The ceiling for the objects of a settled sync, all of which are there and equal, in a namespace of its own."""
    target = _target(bench, bench.tenant())
    ceiling.apply(at_rest.objects, target)
    return ceiling.apply(at_rest.objects, target)


def _rates(count: int, least: Line, ours: Line) -> str:
    rates = [f"{count / line.median_s():.0f}/s {name}" for line, name in ((least, "ceiling"), (ours, "ocisync"))]
    return f"Objects per second: {', '.join(rates)}."
