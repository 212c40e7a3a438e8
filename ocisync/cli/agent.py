"""`ocisync agent`: the process that keeps a cluster equal to its artifacts."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync import __version__
from ocisync.kit import log
from ocisync.model.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ocisync.cluster.client import Cluster

_IDENTITY = re.compile(r"[A-Za-z0-9._:/-]{1,253}")


@click.command("agent")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    envvar="KUBECONFIG",
    help="Cluster access file; inside a pod, without it, the pod's service account.",
)
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option(
    "-n",
    "--namespace",
    envvar="OCISYNC_NAMESPACE",
    default="ocisync-system",
    show_default=True,
    help="The agent's own namespace: inventories, watermarks, keys.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep verified artifacts here, so that drift is corrected while the registry is down.",
)
@click.option(
    "--http-address",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT|off",
    help="Where /healthz, /readyz and /metrics are served.",
)
@click.option(
    "--leader-elect",
    is_flag=True,
    help="Work only while holding the Lease ocisync-agent of the namespace: for several replicas.",
)
@click.option(
    "--identity",
    envvar="OCISYNC_IDENTITY",
    default="",
    help="With --leader-elect: this process's name in the Lease; never the same for two at a time.  [default: random]",
)
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Syncs worked on at once.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least level that is logged.",
)
@click.option(
    "--log-format", type=click.Choice(["json", "text"]), default="json", show_default=True, help="Form of log lines."
)
def command(
    kubeconfig: Path | None,
    context: str,
    namespace: str,
    cache_dir: Path | None,
    http_address: str,
    leader_elect: bool,
    identity: str,
    workers: int,
    log_level: str,
    log_format: str,
) -> int:
    """Run the agent until SIGTERM: poll, verify, apply, keep equal.

    It needs read access to registries and the rights that `ocisync install` prints; every write to a user's object
    is made as the service account of its sync. Logs go to stderr, one line for each change of state.

    \b
    Examples:
      ocisync agent --kubeconfig ~/.kube/config --cache-dir /var/cache/ocisync
      ocisync agent --http-address :8080 --log-level debug
      ocisync agent --leader-elect --http-address :8080
      OCISYNC_NAMESPACE=gitops ocisync agent --http-address off --log-format text

    \b
    Exit codes:
      0 stopped by a signal · 1 a part of it died, or its lease was lost (restart it) · 2 usage
    """
    log.configure(sys.stderr, level=getattr(logging, log_level.upper()), json_lines=log_format == "json")
    from ocisync.agent.process import run
    from ocisync.agent.run import Options
    from ocisync.cluster.client import connect, in_cluster
    from ocisync.cluster.fence import Fence

    if cache_dir is not None:
        _check_cache(cache_dir)
    user_agent = f"ocisync-agent/{__version__}"
    if leader_elect:
        identity = identity or f"{socket.gethostname()}_{secrets.token_hex(8)}"
        if not _IDENTITY.fullmatch(identity):
            raise UsageError(f"--identity {identity!r}: use letters, digits and ._:/- only, at most 253")
        user_agent += f" ({identity})"  # who wrote what is in the API server's audit log

    def cluster(**how: Any) -> Cluster:
        if kubeconfig is None and not context and "KUBERNETES_SERVICE_HOST" in os.environ:
            return in_cluster(user_agent=user_agent, namespace=namespace, **how)
        return connect(str(kubeconfig) if kubeconfig else None, context or None, user_agent=user_agent, **how)

    options = Options(
        namespace=namespace,
        cache_dir=cache_dir,
        http_address="" if http_address == "off" else http_address,
        workers=workers,
        environ=dict(os.environ),
        identity=identity if leader_elect else "",
    )

    def connections() -> tuple[Cluster, Cluster | None]:
        fence = Fence() if leader_elect else None
        lease = cluster(connections=2, sleep=_at_once) if leader_elect else None
        return cluster(connections=128, fence=fence), lease

    code = run(connections, options)
    return code if code == 0 else int(ExitCode.FAILED)


def _at_once(_: float) -> bool:
    """The lease has a rhythm of its own: its requests are not tried again by the connection."""
    return True


def _check_cache(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"--cache-dir {directory}: {error.strerror or error}") from error
