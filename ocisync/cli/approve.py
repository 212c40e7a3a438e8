"""`ocisync approve`: let a held plan happen, by its hash, after showing what it would delete."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ocisync.cli import output
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, conditions, namespace_option
from ocisync.model.errors import NotFound, Refused, UsageError
from ocisync.model.spec import APPROVED


@click.command("approve")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@click.option("--hash", "plan_hash", default="", help="Approve only if the held plan has this hash.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_options
@common_options
def command(
    name: str, namespace: str, plan_hash: str, yes: bool, kubeconfig: Path | None, context: str, quiet: bool
) -> None:
    """Approve the held plan of a sync: exactly the deletions shown, of exactly this artifact.

    A newer artifact makes a new plan, which needs its own approval.

    \b
    Examples:
      ocisync approve shop -n apps
      ocisync approve shop -n apps --hash sha256:… --yes

    \b
    Exit codes:
      0 approved · 4 the held plan has another hash · 5 nothing is held
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    sync = syncs.one(namespace, name)
    status = sync.get("status") or {}
    held = str(status.get("planHash") or "")
    if not held:
        raise NotFound(f"{namespace}/{name}: no plan is held", hint=f"ocisync status {name} --namespace {namespace}")
    if plan_hash and plan_hash != held:
        raise Refused(f"{namespace}/{name}: the held plan is {held}, not {plan_hash}", hint="look at it again")
    if not quiet:
        output.note(f"{namespace}/{name} holds {held}")
        output.note(str((conditions(sync).get("Ready") or {}).get("message") or ""))
        for item in status.get("failures") or ():
            output.note(f"  {item.get('object')}: {item.get('message')}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("not approved: there is no terminal to ask on", hint="add --yes, best with --hash")
        click.confirm("Let this happen?", abort=True, err=True)
    syncs.annotate(namespace, name, {APPROVED: held})
    if not quiet:
        output.note(f"approved; watch it with: ocisync status {name} --namespace {namespace}")
