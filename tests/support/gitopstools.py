"""Other GitOps tools: the code with which they push and extract, run as their servers and commands run it."""

from __future__ import annotations

from pathlib import Path

from tests.support.ocitools import Tool


class Flux(Tool):
    """`flux push artifact` and `flux pull artifact`; source-controller extracts with the same code."""

    def push(self, directory: Path, reference: str, revision: str) -> str:
        """Push a directory; the digest."""
        return self.run(f"oci://{reference}", directory, revision).strip().rpartition("@")[2]

    def pull(self, reference: str, output: Path) -> tuple[str, str]:
        """Extract an artifact; its digest, and the revision that Flux shows."""
        output.mkdir(parents=True, exist_ok=True)
        name, _, revision = self.run("pull", f"oci://{reference}", output).strip().partition(" ")
        return name.rpartition("@")[2], revision


class ArgoCd(Tool):
    """What Argo CD's repo-server does with an `oci://` source, with default settings."""

    def __init__(self, binary: Path, directory: Path) -> None:
        super().__init__(binary, directory)
        self._environment["TMPDIR"] = str(directory)  # it keeps a cache there

    def pull(self, repository: str, revision: str, output: Path) -> str:
        """Resolve and extract; the digest."""
        output.mkdir(parents=True, exist_ok=True)
        return self.run(f"oci://{repository}", revision, output).strip()
