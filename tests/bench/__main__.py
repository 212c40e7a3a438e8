"""Runs benchmarks and prints their tables.

    python -m tests.bench [ROW…] [--rounds N] [--heavy] [--slow] [--quick] [--json FILE]

Every row starts the real servers it needs, builds its input, and measures ocisync and its anchor in turns.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.environment import Bench, MissingServerError, Options
from tests.bench.rows import ROWS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is named; 0 when all of it could be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure ocisync beside its anchors.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measure each line N times (default 5)")
    parser.add_argument("--heavy", action="store_true", help="also 10,000 objects")
    parser.add_argument("--slow", action="store_true", help="also anchors that take minutes")
    parser.add_argument("--quick", action="store_true", help="tiny input, once: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    chosen = parser.parse_args(arguments)
    names: list[str] = chosen.rows or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"unknown row {', '.join(unknown)}; known: {', '.join(ROWS)}")
    options = Options(chosen.rounds, quick=chosen.quick, heavy=chosen.heavy, slow=chosen.slow)
    directory = Path(tempfile.mkdtemp(prefix="ocisync-bench-"))
    bench = Bench(options, directory)
    measured: list[dict[str, Any]] = []
    failed = False
    try:
        for name in names:
            bench.say(f"measuring {name} …")
            try:
                result = ROWS[name](bench)
            except MissingServerError as error:
                bench.say(f"NOT MEASURED {name}: {error}")
                failed = True
                continue
            for row in result if isinstance(result, list) else [result]:
                print(report.as_table(row), flush=True)
                measured.append(report.as_json(row))
            if chosen.json:
                chosen.json.write_text(json.dumps({"machine": machine(), "rows": measured}, indent=1) + "\n")
    finally:
        bench.close()
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


def machine() -> dict[str, Any]:
    """Where and when; other work on the machine shows as load."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    sys.exit(main())
