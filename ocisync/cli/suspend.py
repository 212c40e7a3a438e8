"""`ocisync suspend`: let nothing be written for one sync."""

from __future__ import annotations

from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, namespace_option
from ocisync.model.spec import SUSPEND_REASON, SUSPENDED_BY

_REASON_CHARS = 300


@click.command("suspend")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@click.option("--reason", default="", metavar="TEXT", help="Why; shown in its status until it is resumed.")
@cluster_options
@common_options
def command(name: str, namespace: str, reason: str, kubeconfig: Path | None, context: str, quiet: bool) -> None:
    """Suspend a sync: nothing new is applied, drift is left as it is, nothing is pruned.

    Its status says who did this and why. Deleting a suspended sync leaves its objects running.

    \b
    Examples:
      ocisync suspend shop -n apps --reason "database migration by hand"
      ocisync resume shop -n apps

    \b
    Exit codes: 0 suspended · 5 no such sync · 6 not allowed
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    name = name.removeprefix("artifactsync/")
    words = {SUSPENDED_BY: syncs.whoami() or None, SUSPEND_REASON: " ".join(reason.split())[:_REASON_CHARS] or None}
    patch = {"metadata": {"annotations": words}, "spec": {"suspend": True}}
    syncs.change(namespace, name, patch, f"suspend sync {namespace}/{name}")
    if not quiet:
        output.note(f"{namespace}/{name} is suspended")
        output.hint_text(f"ocisync resume {name} --namespace {namespace}")
