"""How long a command takes to say something, beside the bare interpreter."""

from __future__ import annotations

from tests.bench import measure
from tests.bench.environment import Bench
from tests.bench.report import Row

TITLE = "start-up of the command line"


def run(bench: Bench) -> Row:
    """Measure."""
    row = Row("startup", TITLE)
    python, ocisync = str(bench.installed.python), str(bench.installed.ocisync)
    lines = [
        (row.line("python -c pass"), [python, "-c", "pass"]),
        (row.line("ocisync --version", anchor="python -c pass", goal="≤ 40 ms"), [ocisync, "--version"]),
        (row.line("ocisync --help", anchor="python -c pass", goal="≤ 150 ms"), [ocisync, "--help"]),
        (row.line("ocisync push --help", anchor="python -c pass"), [ocisync, "push", "--help"]),
    ]
    for _, arguments in lines:  # the first run of each reads the disk
        measure.command(arguments, bench.home, bench.environment)

    def once(_number: int) -> None:
        for line, arguments in lines:
            for _ in range(bench.options.times(4)):
                line.samples.append(measure.command(arguments, bench.home, bench.environment)[0])

    bench.repeat(once)
    return row
