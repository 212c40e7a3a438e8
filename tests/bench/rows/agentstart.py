"""From starting the agent's process to its first finished pass over a sync that runs already."""

from __future__ import annotations

import time

from tests.bench import measure, settled
from tests.bench.environment import Bench
from tests.bench.measure import Process, Sample
from tests.bench.report import Row
from tests.bench.settled import Settled
from tests.support.waiting import eventually

TITLE = "start of the agent"
_PYTHON = "python -c pass"


def run(bench: Bench) -> Row:
    """Measure."""
    row = Row("agentstart", TITLE)
    pass_ = row.line(_PYTHON)
    first = row.line("agent → connected", anchor=_PYTHON)
    ready = {count: row.line(f"agent → first pass done, {count:,} objects", anchor=_PYTHON) for count in _sizes(bench)}
    for count, line in ready.items():
        with settled.settled(bench, count) as at_rest:
            for _ in range(1 if bench.options.quick else bench.options.rounds):
                command = [str(bench.installed.python), "-c", "pass"]
                pass_.samples.append(measure.command(command, bench.home, bench.environment)[0])
                connected, done = _start(at_rest)
                first.samples.append(connected)
                line.samples.append(done)
    row.notes.append("The first pass verifies again and applies every object once, to learn what the server holds.")
    return row


def _start(at_rest: Settled) -> tuple[Sample, Sample]:
    """Stop the agent and start it anew; until its first log line, and until the sync is ready again."""
    agent = at_rest.agent
    agent.stop()
    agent.server.log.unlink()
    started = time.monotonic()
    agent.start()
    eventually(lambda: agent.logs("agent starts"), timeout_s=300, what="the agent starts", interval_s=0.01)
    connected = Sample(time.monotonic() - started)
    eventually(lambda: agent.logs("ready"), timeout_s=300, what="the first pass is done", interval_s=0.01)
    process = Process(agent.pid)
    return connected, Sample(time.monotonic() - started, process.cpu_s(), process.peak_rss_mib())


def _sizes(bench: Bench) -> tuple[int, ...]:
    return bench.options.sizes(4, 1_000)
