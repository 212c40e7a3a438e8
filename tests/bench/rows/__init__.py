"""The rows by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.environment import Bench
from tests.bench.report import Row
from tests.bench.rows import agentstart, apply, drift, lifecycle, mirror, push, resting, startup, unchanged, verify

ROWS: dict[str, Callable[[Bench], Row | list[Row]]] = {
    "startup": startup.run,
    "push": push.run,
    "verify": verify.run,
    "agentstart": agentstart.run,
    "apply": apply.run,
    "lifecycle": lifecycle.run,
    "unchanged": unchanged.run,
    "drift": drift.run,
    "resting": resting.run,
    "mirror": mirror.run,
}
