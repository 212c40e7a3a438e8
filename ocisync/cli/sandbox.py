"""`ocisync sandbox`: a registry and a small Kubernetes API on loopback, for trying things and for tests."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ocisync.cli.options import common_options


@click.command("sandbox")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(".ocisync-sandbox"),
    show_default=True,
    help="Where it keeps its files.",
)
@click.option(
    "--registry-port", type=click.IntRange(0, 65535), default=0, help="Port of the registry (0: any free one)."
)
@click.option(
    "--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the Kubernetes API (0: any free one)."
)
@click.option("--no-referrers", is_flag=True, help="Be a registry without the referrers API.")
@common_options
def command(directory: Path, registry_port: int, api_port: int, no_referrers: bool, quiet: bool) -> None:
    """Run an OCI registry and a small Kubernetes API on 127.0.0.1 until interrupted.

    It prints one JSON line with both addresses and the path of a kubeconfig that kubectl and ocisync accept.
    It is made for learning, demos and tests: it keeps its cluster in memory and says what it lacks in its
    documentation. Never rest a claim about Kubernetes on it.

    \b
    Examples:
      ocisync sandbox
      ocisync sandbox --registry-port 5000 --api-port 6443
      KUBECONFIG=.ocisync-sandbox/kubeconfig kubectl get deployments -A
    """
    from ocisync.sandbox.__main__ import main

    arguments = ["--dir", str(directory), "--registry-port", str(registry_port), "--api-port", str(api_port)]
    if no_referrers:
        arguments.append("--no-referrers")
    if quiet:
        arguments.append("--quiet")
    sys.exit(main(arguments))
