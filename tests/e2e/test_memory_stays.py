"""An hour's worth of life, as fast as it goes: changes by hand, passes, new revisions, watches that begin anew.

One round is ten minutes at one change a second: 600 changes of live objects, half of them drift that is corrected, ten
passes that were asked for, a new revision, and an outage of the API server, after which every watch lists again. With
`OCISYNC_HEAVY=1` 10,000 objects and six whole rounds; else 500 objects, four rounds of a twentieth, no outage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.bench.measure import Process
from tests.support.agent import Installation, Tenant, config_map, running
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

HEAVY = bool(os.environ.get("OCISYNC_HEAVY"))
OBJECTS, CHANGES, PASSES, ROUNDS = (10_000, 600, 10, 6) if HEAVY else (500, 30, 1, 4)
GROWTH_MIB = 4.0  # what allocators and garbage that waits for its collection may differ by
PROMISE_MIB = 100.0


def objects(revision: int) -> dict[str, Any]:
    return {
        f"{part:03d}.yaml": [
            config_map(
                f"entry-{number:05d}", number=str(number), mark="one", revision=str(revision if not number else 0)
            )
            for number in range(part * 500, min(OBJECTS, part * 500 + 500))
        ]
        for part in range(-(-OBJECTS // 500))
    }


def change(tenant: Tenant, numbers: range) -> None:
    """Every other change is drift, the rest is none of ours."""
    for number in numbers:
        name = f"entry-{number % OBJECTS:05d}"
        if number % 2:
            tenant.edit(name, mark="by hand")
        else:
            tenant.edit(name, other=f"by hand {number}")


def corrected(tenant: Tenant, numbers: range) -> None:
    for number in numbers:
        if number % 2:
            tenant.wait_value(f"entry-{number % OBJECTS:05d}", "mark", "one", timeout_s=120.0)


def test_memory_does_not_grow_in_an_hours_worth_of_churn(
    installation: Installation, control_plane: ControlPlane, tenant: Tenant, tmp_path: Path
) -> None:
    agent = installation.agent(tmp_path / "agent", extra=("--log-level", "info"))
    with running(agent):
        tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag, "interval": "30s"})
        tenant.wait_ready(tenant.push(objects(0)).descriptor.digest, timeout_s=600.0)
        process, resident = Process(agent.pid), []
        for number in range(ROUNDS):
            numbers = range(number * CHANGES + 1, (number + 1) * CHANGES + 1)
            change(tenant, numbers)
            for _ in range(PASSES):
                tenant.ask()
            corrected(tenant, numbers)
            pushed = tenant.push(objects(number + 1))
            tenant.ask()
            tenant.wait_ready(pushed.descriptor.digest, timeout_s=600.0)
            if HEAVY:
                control_plane.stop_apiserver()
                control_plane.start_apiserver()
                _relisted(tenant)
            resident.append(process.rss_mib())
        # The first half is for heaps to find their size: with 500 objects 70 to 73 MiB in six rounds, then no more.
        grown = resident[-1] - max(resident[: ROUNDS // 2])
        shown = ", ".join(f"{mib:.1f}" for mib in resident)
        print(f"resident after each round: {shown} MiB; peak {process.peak_rss_mib():.1f} MiB")
        assert grown <= GROWTH_MIB, resident
        assert resident[-1] <= PROMISE_MIB, resident


def _relisted(tenant: Tenant) -> None:
    """Wait until a change is corrected again, by a watch that began anew."""
    tenant.edit("entry-00003", mark="while it was away")
    eventually(lambda: tenant.value("entry-00003", "mark") == "one", timeout_s=120.0, what="watches work again")
