"""After a start, what is new goes before the passes that only take up again what runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.agent import Installation, Tenant, audited_soon, config_map, running
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

OLD, NEW = 300, 100


def test_a_new_revision_and_a_correction_do_not_wait_behind_the_pass_after_a_start(
    installation: Installation, control_plane: ControlPlane, tenant: Tenant, tmp_path: Path
) -> None:
    audit = control_plane.audit
    here = {"verb": "patch", "resource": "configmaps", "namespace": tenant.namespace}
    other = tenant.beside("other")
    agent = installation.agent(tmp_path / "agent")
    with running(agent):
        for each in (tenant, other):
            each.write_sync()
        old = tenant.push({"all.yaml": [config_map(f"old-{number:04d}", mark="one") for number in range(OLD)]})
        first = other.push({"all.yaml": [config_map(f"new-{number:04d}", mark="one") for number in range(NEW)]})
        tenant.wait_ready(old.descriptor.digest)
        other.wait_ready(first.descriptor.digest)
    second = other.push({"all.yaml": [config_map(f"new-{number:04d}", mark="two") for number in range(NEW)]})
    mark = audit.mark()
    with running(agent):
        other.wait_ready(second.descriptor.digest)
        other.edit("new-0000", mark="by hand")
        other.wait_value("new-0000", "mark", "two")
        eventually(
            lambda: sum(one.name.startswith("old-") for one in audit.events(since=mark, **here)) >= OLD,
            what="the full pass ends",
        )
    asked = audit.events(since=mark, user_agent="ocisync-agent", **here)
    again, new = ([one for one in asked if one.name.startswith(prefix)] for prefix in ("old-", "new-"))
    # In a pause of what is new, however long, the rest may go on.
    between = sum(any(other.received <= one.received <= other.finished for other in new[:NEW]) for one in again)
    assert between <= NEW / 3, "the pass that nobody waits for took the places of the one that is awaited"
    times = Counter(one.name for one in again)
    twice = sorted(name for name in times if times[name] > 1 and not audited_soon(tenant.namespace, name))
    assert not twice, "one pass, and no second one"
