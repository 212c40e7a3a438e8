"""`ocisync resume`: end the suspension of one sync."""

from __future__ import annotations

from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, namespace_option
from ocisync.model.spec import SUSPEND_REASON, SUSPENDED_BY


@click.command("resume")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@cluster_options
@common_options
def command(name: str, namespace: str, kubeconfig: Path | None, context: str, quiet: bool) -> None:
    """Resume a suspended sync. What has drifted meanwhile is corrected, and what is new is applied.

    \b
    Examples:
      ocisync resume shop -n apps
      ocisync wait shop -n apps

    \b
    Exit codes: 0 resumed · 5 no such sync · 6 not allowed
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    name = name.removeprefix("artifactsync/")
    was = bool((syncs.one(namespace, name).get("spec") or {}).get("suspend"))
    patch = {"metadata": {"annotations": {SUSPENDED_BY: None, SUSPEND_REASON: None}}, "spec": {"suspend": False}}
    syncs.change(namespace, name, patch, f"resume sync {namespace}/{name}")
    if not quiet:
        output.note(f"{namespace}/{name} {'is resumed' if was else 'was not suspended'}")
        output.hint_text(f"ocisync wait {name} --namespace {namespace}")
