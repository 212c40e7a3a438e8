"""`ocisync pause`: the brake for incidents; nothing is written in the whole cluster until it is released."""

from __future__ import annotations

from pathlib import Path

import click

from ocisync.agent.pause import pause_path, pause_text
from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, agent_namespace_option
from ocisync.model.clock import format_rfc3339
from ocisync.model.spec import PAUSE_NAME

_REASON_CHARS = 300


@click.command("pause")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown by every sync until it is over.")
@click.option("--resume", is_flag=True, help="End the pause.")
@agent_namespace_option
@cluster_options
@common_options
def command(
    reason: str, resume: bool, agent_namespace: str, kubeconfig: Path | None, context: str, quiet: bool
) -> None:
    """Stop every write of the agent: applies, corrections, pruning and deletions, of all syncs. Reads go on.

    A pass that is under way stops with the request that is running. Every sync says who paused, since when and why.
    The brake is the ConfigMap ocisync-pause in the agent's namespace, so `kubectl create configmap` works as well.

    \b
    Examples:
      ocisync pause --reason "incident 4711"
      ocisync pause --resume

    \b
    Exit codes: 0 paused, or released · 6 not allowed
    """
    syncs = Syncs(kubeconfig, context)
    path = pause_path(agent_namespace)
    if resume:
        answer = syncs.cluster.request("DELETE", path)
        if answer.status != 404:
            syncs.checked(answer, "end the pause")
        if not quiet:
            output.note("writes go on" if answer.status != 404 else f"nothing was paused by {agent_namespace}")
        return
    data = {"since": format_rfc3339(SystemClock().now())}
    if who := syncs.whoami():
        data["by"] = who
    if words := " ".join(reason.split())[:_REASON_CHARS]:
        data["reason"] = words
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PAUSE_NAME, "namespace": agent_namespace, "labels": {"app.kubernetes.io/name": "ocisync"}},
        "data": data,
    }
    answer = syncs.post(path.rpartition("/")[0], body)
    if answer.status == 409:
        found = syncs.checked(syncs.cluster.request("GET", path), "read the pause")
        if not quiet:
            output.note(f"already {pause_text(found)}")
    else:
        syncs.checked(answer, "pause")
        if not quiet:
            output.note("nothing is written any more")
    if not quiet:
        output.hint_text("ocisync pause --resume")
