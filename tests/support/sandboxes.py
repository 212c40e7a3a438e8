"""The built-in sandbox as a process of its own, in the roles of a registry and of a cluster.

It runs the same contract cases as the real servers for what it has. Its cluster lives in memory: a stop is
the end of it, not an outage; freeze it instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tests
from tests.support.cluster import Cluster
from tests.support.process import Server, clean_environment, free_port
from tests.support.registries import START_TIMEOUT_S, Registry

CHECKOUT = Path(tests.__file__).resolve().parents[1]


def sandbox_command(directory: Path, *flags: str) -> list[str]:
    """The command that serves a registry and a cluster with files in this folder."""
    return [sys.executable, "-m", "ocisync.sandbox", "--dir", str(directory), *flags]


def sandbox_environment(directory: Path) -> dict[str, str]:
    """Lets the child find the package in this checkout, installed or not."""
    return clean_environment(directory, PYTHONPATH=str(CHECKOUT))


class SandboxRegistry(Registry):
    """The sandbox's registry; content survives a stop."""

    server = "sandbox"
    referrers_api = True

    def _command(self, _binary: Path) -> list[str]:
        return sandbox_command(self.directory, "--registry-port", str(self.port), "--no-controllers")

    def _environment(self) -> dict[str, str]:
        return sandbox_environment(self.directory)


class SandboxCluster(Cluster):
    """The sandbox's Kubernetes API."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "kubeconfig", directory)
        command = sandbox_command(directory, "--api-port", str(free_port()), "--memory")
        self.process = Server("sandbox", command, directory, sandbox_environment(directory))

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.process.start()
        self.process.wait_until(self._answers, START_TIMEOUT_S)

    def stop(self) -> None:
        """Ends it, and all objects in it."""
        self.process.stop()

    def _answers(self) -> bool:
        return self.kubeconfig.exists() and bool(self.api("GET", "/version"))
