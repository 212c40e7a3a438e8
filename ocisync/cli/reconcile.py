"""`ocisync reconcile`: ask the agent to look at a sync now, and wait for the result if wanted."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, came_to_an_end, conditions, namespace_option
from ocisync.model.errors import ExitCode, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import REQUESTED_AT

_LOOK_S = 0.5


@click.command("reconcile")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@click.option("--wait", "wait_for", is_flag=True, help="Wait until the sync is Ready, or can't become so.")
@click.option(
    "--wait-timeout",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest wait.",
)
@cluster_options
@common_options
def command(
    name: str, namespace: str, wait_for: bool, wait_timeout: float, kubeconfig: Path | None, context: str, quiet: bool
) -> int:
    """Ask the agent to reconcile a sync now instead of at its next poll.

    \b
    Examples:
      ocisync reconcile shop -n apps
      ocisync reconcile shop -n apps --wait

    \b
    Exit codes:
      0 asked, or Ready · 1 failed or held · 4 refused by policy · 7 not Ready in time
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    wanted = SystemClock().now().isoformat(timespec="microseconds").replace("+00:00", "Z")
    syncs.annotate(namespace, name, {REQUESTED_AT: wanted})
    if not wait_for:
        if not quiet:
            output.note(f"asked; watch it with: ocisync status {name} --namespace {namespace}")
        return int(ExitCode.OK)
    with output.progress(f"reconciling {namespace}/{name}", quiet=quiet) as step:
        deadline = time.monotonic() + wait_timeout
        while time.monotonic() < deadline:
            sync = syncs.one(namespace, name)
            if (sync.get("status") or {}).get("lastHandledReconcileAt") == wanted:
                code = came_to_an_end(sync)
                if code is not None:
                    return _say(sync, code, quiet=quiet)
                step(str((conditions(sync).get("Ready") or {}).get("message") or ""))
            time.sleep(_LOOK_S)
    raise Unavailable(
        f"{namespace}/{name} is not Ready after {wait_timeout:.0f} s",
        hint=f"ocisync status {name} --namespace {namespace}; is an agent running?",
    )


def _say(sync: JsonObject, code: ExitCode, *, quiet: bool) -> int:
    ready = conditions(sync).get("Ready") or {}
    text = f"{sync['metadata']['namespace']}/{sync['metadata']['name']}: {ready.get('reason')}: {ready.get('message')}"
    if code is not ExitCode.OK:
        output.error_text(text)
    elif not quiet:
        output.note(text)
    return int(code)
