"""`ocisync reconcile`: ask the agent to look at a sync now, and wait for the result if wanted."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.following import Following
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, came_to_an_end, conditions, namespace_option
from ocisync.model.errors import ExitCode, NotFound, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import REQUESTED_AT, RETRY


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
@click.option("--retry", is_flag=True, help="Run what was gone back from once more: lift its quarantine.")
@cluster_options
@common_options
def command(
    name: str, namespace: str, wait_for: bool, wait_timeout: float, retry: bool,
    kubeconfig: Path | None, context: str, quiet: bool,
) -> int:  # fmt: skip
    """Ask the agent to reconcile a sync now instead of at its next poll.

    \b
    Examples:
      ocisync reconcile shop -n apps
      ocisync reconcile shop -n apps --wait
      ocisync reconcile shop -n apps --retry

    \b
    Exit codes:
      0 asked, or Ready · 1 failed or held · 4 refused by policy · 7 not Ready in time
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    wanted = SystemClock().now().isoformat(timespec="microseconds").replace("+00:00", "Z")
    annotations = {REQUESTED_AT: wanted}
    if retry:
        annotations[RETRY] = _quarantine(syncs.one(namespace, name))
    syncs.annotate(namespace, name, annotations)
    if not wait_for:
        if not quiet:
            output.note(f"asked; watch it with: ocisync status {name} --namespace {namespace}")
        return int(ExitCode.OK)
    with output.progress(f"reconciling {namespace}/{name}", quiet=quiet) as step:
        for sync in Following(syncs, time.monotonic, time.sleep).states(namespace, name, wait_timeout):
            if sync is not None and (sync.get("status") or {}).get("lastHandledReconcileAt") == wanted:
                code = came_to_an_end(sync)
                if code is not None:
                    return _say(sync, code, quiet=quiet)
                step(str((conditions(sync).get("Ready") or {}).get("message") or ""))
    raise Unavailable(
        f"{namespace}/{name} is not Ready after {wait_timeout:.0f} s",
        hint=f"ocisync status {name} --namespace {namespace}; is an agent running?",
    )


def _quarantine(sync: JsonObject) -> str:
    found = (sync.get("status") or {}).get("quarantine") or {}
    if not found.get("digest"):
        where = f"{sync['metadata']['namespace']}/{sync['metadata']['name']}"
        raise NotFound(f"{where}: nothing is in quarantine", hint="leave --retry out")
    return f"{found['digest']}@{found.get('time', '')}"


def _say(sync: JsonObject, code: ExitCode, *, quiet: bool) -> int:
    ready = conditions(sync).get("Ready") or {}
    text = f"{sync['metadata']['namespace']}/{sync['metadata']['name']}: {ready.get('reason')}: {ready.get('message')}"
    if code is not ExitCode.OK:
        output.error_text(text)
    elif not quiet:
        output.note(text)
    return int(code)
