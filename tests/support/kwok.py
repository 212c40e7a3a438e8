"""Nodes without machines: kwok reports nodes and pods as Ready, so Deployments really become healthy.

What becomes of a pod is in ``kwok_stages.yaml``; a pod template can ask for a bad fate there.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.controlplane import ControlPlane
from tests.support.process import Server
from tests.support.waiting import eventually

STAGES = Path(__file__).with_name("kwok_stages.yaml")


class Kwok:
    """kwok working on a control plane of ours; never on an existing cluster, whose nodes it would take."""

    def __init__(self, binary: Path, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._nodes = 0
        command = [
            str(binary),
            f"--kubeconfig={control_plane.kubeconfig}",
            f"--config={STAGES}",
            "--manage-all-nodes",
            # EndpointSlices refuse loopback addresses.
            "--node-ip=10.0.1.1",
            "--cidr=10.1.0.0/16",  # of pods; apart from the Services
            "--node-lease-duration-seconds=200",
        ]
        self.process = Server("kwok", command, control_plane.directory)

    def start(self, nodes: int = 3) -> None:
        """Starts it and waits until this many nodes are Ready."""
        self.add_nodes(nodes)
        self.process.start()
        self._control_plane.take_along(self.process)
        self.process.wait_until(lambda: self.ready_nodes() >= nodes, 120.0, f"{nodes} nodes are Ready")

    def stop(self) -> None:
        """Ends it; nodes and pods stay as they are."""
        self.process.kill()

    def add_nodes(self, count: int) -> None:
        """Creates nodes; they become Ready when kwok sees them."""
        first, self._nodes = self._nodes, self._nodes + count
        items = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": f"node-{number}",
                    "labels": {"kubernetes.io/hostname": f"node-{number}", "kubernetes.io/os": "linux"},
                },
            }
            for number in range(first, self._nodes)
        ]
        nodes = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        # The API server answers a moment before it accepts every kind of request.
        eventually(lambda: self._control_plane.apply(nodes), what="nodes are created")

    def ready_nodes(self) -> int:
        """How many nodes are Ready."""
        return sum(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in self._control_plane.get("nodes")["items"]
            for condition in node.get("status", {}).get("conditions", [])
        )
