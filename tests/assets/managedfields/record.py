"""Records the objects around each drift scenario from a real API server, for tests that have none.

    python -m tests.assets.managedfields.record KUBECONFIG

Writes `recorded.json` beside this file: for each scenario the object's metadata after our apply, and the object
after what was done to it, without status, with names and times as the server chose them. Run it again for a new
Kubernetes version and read the difference.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from ocisync.model.resource import JsonObject
from tests.contract.test_drift_scenarios import SCENARIOS
from tests.support.cluster import ExistingCluster
from tests.support.keeper import Keeper

TARGET = Path(__file__).parent / "recorded.json"


def record(kubeconfig: Path) -> dict[str, JsonObject]:
    """Run every scenario without anyone who corrects."""
    found: dict[str, JsonObject] = {}
    with tempfile.TemporaryDirectory() as directory:
        cluster = ExistingCluster(kubeconfig, Path(directory))
        with cluster.namespace("record") as namespace:
            keeper = Keeper(kubeconfig, namespace, "ocisync-record")
            keeper.tracker.set_sync(keeper.rules)
            desired = keeper.apply("\n---\n".join(s.manifest.format(name=s.name) for s in SCENARIOS), watch=False)
            time.sleep(2.0)  # managedFields count in whole seconds
            for scenario in SCENARIOS:
                one = next(d for d in desired if d.id.name == scenario.name)
                before = keeper.live(one.id)
                scenario.act(cluster, namespace, scenario.name, keeper.sync_id)
                after = keeper.live(one.id)
                found[scenario.name] = {
                    "sync": keeper.sync_id,
                    "desired": json.loads(one.payload()),
                    "before": {"metadata": before["metadata"]} if before else None,
                    "after": _plain(after),
                }
            keeper.cluster.close()
    return found


def _plain(obj: JsonObject | None) -> JsonObject | None:
    if obj is None:
        return None
    return {key: value for key, value in obj.items() if key != "status"}


if __name__ == "__main__":
    recorded = record(Path(sys.argv[1]))
    lines = [f"{json.dumps(name)}: {json.dumps(recorded[name], sort_keys=True)}" for name in sorted(recorded)]
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")
