"""kill -9 at random moments of a large apply: whatever the moment, a restart ends with exactly what was asked for."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.support.agent import Installation, Tenant, config_map, running
from tests.support.waiting import eventually

OBJECTS = 1_000
SEED = 20_261_123


@pytest.mark.timeout(900)  # ten starts, and ten moments of up to four seconds
def test_ten_kills_during_applies_of_a_thousand_objects_lose_and_orphan_nothing(
    installation: Installation, tenant: Tenant, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    agent = installation.agent(tmp_path / "agent")
    tenant.write_sync(guard={"maxPrune": "100%"})
    pushed = tenant.push(_artifact("a", 0))
    foreign = config_map("not-ours", a="1")
    tenant.cluster.kubectl("create", "-n", tenant.namespace, "-f", "-", stdin=_json(foreign))
    for attempt in range(1, 11):
        agent.start()
        eventually(lambda: agent.logs("agent starts"), what="it starts")
        moment = rng.uniform(0.2, 4.0)
        time.sleep(moment)  # the random moment itself, not a wait for something
        agent.kill()
        if attempt in (4, 7):
            # A new artifact renames half of the objects: the kills that follow meet applies and prunes.
            pushed = tenant.push(_artifact("b" if attempt == 4 else "c", attempt))
    agent.start()
    try:
        tenant.wait_ready(pushed.descriptor.digest, timeout_s=600)
    finally:
        agent.stop()
    agent.assert_sound()
    live = tenant.cluster.get("configmaps", namespace=tenant.namespace)["items"]
    ours = {item["metadata"]["name"]: item["data"]["generation"] for item in live if "part-of" in str(item["metadata"])}
    assert ours == {name: "7" for name in _names("c")}
    assert "not-ours" in {item["metadata"]["name"] for item in live}
    assert tenant.status()["inventory"]["objects"] == OBJECTS


def _names(half: str) -> list[str]:
    return [f"stay-{n:04}" for n in range(OBJECTS // 2)] + [f"{half}-{n:04}" for n in range(OBJECTS // 2)]


def _artifact(half: str, generation: int) -> dict[str, object]:
    objects = [config_map(name, generation=str(generation)) for name in _names(half)]
    return {"all.yaml": objects}


def _json(item: object) -> str:
    return json.dumps(item)


def test_a_stop_in_the_middle_of_an_apply_is_clean_and_quick(
    installation: Installation, tenant: Tenant, tmp_path: Path
) -> None:
    agent = installation.agent(tmp_path / "agent")
    pushed = tenant.push(_artifact("a", 0))
    tenant.write_sync()
    with running(agent):
        eventually(lambda: agent.logs("applying"), what="the apply begins", interval_s=0.01)
        agent.stop()
        # By itself: a process that has not drained after 25 s kills itself.
        assert agent.server.exit_code == 0
        assert agent.logs("agent ended", exit_code="0")
        agent.start()
        tenant.wait_ready(pushed.descriptor.digest)
        assert tenant.status()["inventory"]["objects"] == OBJECTS
