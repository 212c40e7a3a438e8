"""`ocisync plan`: what applying something would change in the cluster. Exit code 3 says that something would."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output
from ocisync.cli.applyflags import set_options, set_taken_from
from ocisync.cli.plantargets import (
    TrustFlags,
    content_options,
    content_taken_from,
    is_directory,
    read_side,
    read_source,
    sync_named,
    warn_unverified,
)
from ocisync.cli.syncs import namespace_option
from ocisync.model.errors import ExitCode, OcisyncError, UsageError

if TYPE_CHECKING:
    from ocisync.cli.syncs import Syncs
    from ocisync.flows.compare import Side
    from ocisync.flows.oneshot import Options
    from ocisync.flows.plan import Planned, Scope
    from ocisync.model.resource import JsonObject
    from ocisync.model.spec import SyncSpec


@click.command("plan")
@click.argument("target", metavar="TARGET")
@namespace_option("Namespace of the sync, or of the set of objects (default: the context's).")
@click.option("--sync", "sync", default="", metavar="NAME", help="Plan TARGET as the content of this sync.")
@set_options
@click.option("--as-service-account", is_flag=True, help="With the rights of the sync's service account.")
@click.option(
    "--agent-namespace", default="ocisync-system", show_default=True, help="Where inventories and policies' keys are."
)
@click.option(
    "--diff",
    "detail",
    type=click.Choice(("fields", "none")),
    default="fields",
    show_default=True,
    help="Whether the text shows every changed field.",
)
@content_options
def command(
    target: str,
    namespace: str,
    sync: str,
    detail: str,
    form: str,
    quiet: bool,
    **rest: Any,
) -> int:
    """Show what would change in the cluster, by object and field. Nothing is written.

    TARGET is a running sync by its name (what would its source's present content change?), a directory, read as `push`
    would pack it, or a reference. With --sync, a directory or reference is planned as the content of that sync; with
    --name, as `ocisync apply --name` would apply it; with neither, as the first sync of it.

    What would run is asked: the server's dry run, as you, or with --as-service-account as the account that the agent
    impersonates. Named are also conflicts, what would be taken over and from whom, and for a held plan the hash that
    `ocisync approve` wants. Values of Secrets are not shown.

    \b
    Examples:
      ocisync plan shop -n apps
      ocisync plan deploy/ --sync shop -n apps --as-service-account
      ocisync plan oci://registry.example/shop:1.5.0 --sync shop -n apps --key release.pub
      ocisync plan deploy/ --name shop -n apps --prune --allow-dirty
      ocisync plan shop -n apps -o json | jq '.changes[] | select(.action == "prune")'

    \b
    Exit codes: 0 no changes · 3 changes · 1 manifests that cannot be read · 2 usage · 4 refused by key or policy
      5 no such sync, directory or artifact · 6 access denied · 7 registry or cluster not reachable · 8 cluster refused
    """
    trust, source = content_taken_from(rest)
    running = sync_named(target)
    if running and sync:
        raise UsageError(f"{target} is a sync already", hint=f"ocisync plan {target} -n NAMESPACE, or a directory")
    from ocisync.cli.syncs import Syncs

    with output.progress(f"Planning {target}", quiet=quiet) as step:
        syncs = Syncs(rest.pop("kubeconfig"), rest.pop("context"))
        where = namespace or syncs.default_namespace
        flags = {name: rest.pop(name) for name in ("as_service_account", "agent_namespace")}
        options = set_taken_from(rest, where)
        step("reading")
        side, scope = _wanted(syncs, target, running or sync, options, trust, source, flags, rest)
        step("asking the cluster")
        planned = _planned(syncs, side, scope, fields=detail == "fields" or form != "text")
    warn_unverified(side, trust)
    code = _answer(planned, form, fields=detail == "fields")
    if not quiet:
        flags_again = {
            "--no-git": not source["use_git"], "--allow-dirty": source["allow_dirty"], "--prune": options.prune,
        }  # fmt: skip
        again = [target, *(flag for flag, given in flags_again.items() if given)]
        again += ["--name", options.name or "NAME", "-n", where]
        _say_what_next(planned, again, running, sync)
    return code


def _wanted(
    syncs: Syncs,
    target: str,
    sync: str,
    options: Options,
    trust: TrustFlags,
    source: dict[str, Any],
    flags: dict[str, Any],
    registry: dict[str, Any],
) -> tuple[Side, Scope]:
    """What is to be planned, and how it would be applied."""
    if not sync:
        from ocisync.flows.oneshot import scope_of

        if flags["as_service_account"]:
            raise UsageError("--as-service-account is that of a sync", hint="name another one: --service-account NAME")
        side = read_side(target, trust, source, registry)
        return side, scope_of(syncs.cluster, options, side.digest or _fingerprint(side))
    if options.name or options.prune or options.force or options.service_account:
        raise UsageError(
            "--name, --prune, --force and --service-account are for what no sync owns",
            hint="a sync's own spec says all that; leave them out",
        )
    content = "" if sync_named(target) else target
    side, scope = _of_sync(syncs, options.namespace, sync, content, trust, source, flags, registry)
    return side, replace(scope, path=options.path) if options.path else scope


def answer_plan(syncs: Syncs, side: Side, scope: Scope, form: str, *, quiet: bool) -> int:
    """Make a plan and show it: for commands that could do it."""
    planned = _planned(syncs, side, scope, fields=True)
    code = _answer(planned, form, fields=True)
    if planned.preview.held and not quiet:
        output.hint_text(f"add --approve {planned.preview.hash}")
    return code


def _answer(planned: Planned, form: str, *, fields: bool) -> int:
    from ocisync.cli.plantext import plan_text

    for note in planned.notes:
        output.warning_text(note)
    output.emit(planned.as_json(), form, text=lambda: plan_text(planned, fields=fields))
    return int(ExitCode.DIFFERENCES if planned.differs else ExitCode.OK)


def _of_sync(
    syncs: Syncs,
    namespace: str,
    name: str,
    target: str,
    trust: TrustFlags,
    source: dict[str, Any],
    flags: dict[str, Any],
    registry: dict[str, Any],
) -> tuple[Side, Scope]:
    """The content to plan, and how the sync would apply it."""
    from ocisync.flows.plan import scope_of_sync
    from ocisync.model.spec import parse_sync

    sync = syncs.one(namespace, name)
    spec = parse_sync(sync)
    inventory = flags["agent_namespace"]
    side = (
        read_side(target, trust, source, registry) if target else read_source(spec, syncs, trust, inventory, registry)
    )
    digest = side.digest or _fingerprint(side)
    _say_what_keeps_it_from_happening(syncs, sync, spec, digest, inventory)
    return side, scope_of_sync(spec, digest, inventory=inventory, impersonate=flags["as_service_account"])


def _say_what_keeps_it_from_happening(
    syncs: Syncs, sync: JsonObject, spec: SyncSpec, digest: str, agent_namespace: str
) -> None:
    from ocisync.model.spec import PAUSE_NAME, DriftMode

    with suppress(OcisyncError):  # whoever may not look at it is told less
        if syncs.config_map(agent_namespace, PAUSE_NAME) is not None:
            output.warning_text("the agent is paused: nothing of this happens before: ocisync pause --resume")
    if spec.suspend:
        output.warning_text(f"{spec.key} is suspended: nothing of this happens before it is resumed")
    quarantine = (sync.get("status") or {}).get("quarantine") or {}
    if quarantine.get("digest") == digest:
        output.warning_text(f"{spec.key} has left {digest} behind: it is not run again before the tag moves")
    if spec.drift is not DriftMode.CORRECT:
        why = "drift of what is applied already is not corrected, only what a new artifact changes is written"
        output.warning_text(f"{spec.key} has spec.drift.mode {spec.drift.value}: {why}")


def _planned(syncs: Syncs, side: Side, scope: Scope, *, fields: bool) -> Planned:
    from ocisync.cluster.discovery import Discovery
    from ocisync.flows.plan import make_plan
    from ocisync.kit.stop import StopToken

    stop = StopToken()
    try:
        return make_plan(syncs.cluster, Discovery(syncs.cluster), side, scope, stop=stop, fields=fields)
    finally:
        stop.stop()


def _fingerprint(side: Side) -> str:
    from ocisync.flows.oneshot import fingerprint

    return fingerprint(side)


def _say_what_next(planned: Planned, again: list[str], running: str, sync: str) -> None:
    preview, target, namespace = planned.preview, again[0], again[-1]
    if preview.held:
        if running:
            output.hint_text(f"ocisync approve {running} -n {namespace} --hash {preview.hash}")
        elif sync:
            output.note("the hash is of this content; the sync's own plan gets one when it is published")
        else:
            output.hint_text(f"ocisync apply {target} … --approve {preview.hash}")
    elif planned.differs and not running and not sync and is_directory(target):
        output.hint_text(f"ocisync apply {shlex.join(again)}")
