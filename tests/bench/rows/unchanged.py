"""A pass that finds nothing to do, beside applying everything again, which is what it saves."""

from __future__ import annotations

import time

from tests.bench import measure, settled
from tests.bench.environment import Bench
from tests.bench.measure import Sample
from tests.bench.report import Row
from tests.bench.rows import apply
from tests.support.agent import USER_AGENT

TITLE = "a requested pass without a change"
_AGAIN = "ceiling: apply all again"


def run(bench: Bench) -> Row:
    """Measure."""
    count = bench.options.sizes(1_000)[0]
    row = Row("unchanged", f"{TITLE}, {count:,} owned objects")
    least = row.line(_AGAIN)
    ours = row.line("ocisync agent", anchor=_AGAIN, goal="≤ 10 requests, < 50 ms CPU")
    with settled.settled(bench, count) as at_rest:

        def once(_number: int) -> None:
            least.samples.append(apply.again(bench, at_rest))
            time.sleep(1.0)  # the counted CPU shall be of this pass only
            mark, cpu, started = bench.control_plane.audit.mark(), at_rest.process.cpu_s(), time.monotonic()
            settled.wait_handled(at_rest.tenant, settled.request(at_rest.tenant))
            seconds = time.monotonic() - started
            time.sleep(0.3)
            sample = Sample(seconds, at_rest.process.cpu_s() - cpu)
            asked = bench.control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
            ours.samples.append(measure.with_requests(sample, asked))

        bench.repeat(once)
    row.notes.append("CPU is counted by the kernel in steps of 10 ms.")
    return row
