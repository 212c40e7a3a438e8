"""What an agent with nothing to do takes: memory, and processor time in a minute."""

from __future__ import annotations

import time

from tests.bench import measure, settled
from tests.bench.environment import Bench
from tests.bench.measure import Sample
from tests.bench.report import Row
from tests.support.agent import USER_AGENT

TITLE = "an agent at rest"


def run(bench: Bench) -> Row:
    """Measure."""
    row = Row("resting", TITLE)
    window = 2.0 if bench.options.quick else 60.0
    for count in (0, *bench.options.sizes(*((1_000, 10_000) if bench.options.heavy else (1_000,)))):
        goal = "RSS ≤ 100 MiB, < 1 % of a core" if count else ""
        name = f"{count:,} owned objects" if count else "one owned object"
        line = row.line(name, anchor="one owned object" if count else "", goal=goal)
        with settled.settled(bench, max(1, count)) as at_rest:
            time.sleep(1.0 if bench.options.quick else 5.0)
            at_rest.process.forget_peak()
            mark, cpu, started = bench.control_plane.audit.mark(), at_rest.process.cpu_s(), time.monotonic()
            time.sleep(window)
            sample = Sample(time.monotonic() - started, at_rest.process.cpu_s() - cpu, at_rest.process.rss_mib())
            asked = bench.control_plane.audit.by_verb_and_resource(since=mark, user_agent=USER_AGENT)
            line.samples.append(measure.with_requests(sample, asked))
    row.notes.append(f"The time is the length of the look ({window:g} s), the CPU what the agent used in it.")
    row.notes.append("The sync has the default interval; the memory is what is resident at the end.")
    return row
