"""The rows by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.environment import Bench
from tests.bench.report import Row
from tests.bench.rows import push, startup, verify

ROWS: dict[str, Callable[[Bench], Row | list[Row]]] = {
    "startup": startup.run,
    "push": push.run,
    "verify": verify.run,
}
