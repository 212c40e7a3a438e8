"""`ocisync apply`: make a cluster equal to a directory or an artifact, once, by the engine of the agent."""

from __future__ import annotations

import getpass
import secrets
import socket
from typing import TYPE_CHECKING, Any

import click

from ocisync import __version__
from ocisync.cli import output
from ocisync.cli.applyflags import set_options, set_taken_from
from ocisync.cli.plantargets import (
    content_options,
    content_taken_from,
    read_side,
    require_trust,
    sync_named,
    warn_unverified,
)
from ocisync.cli.syncs import namespace_option
from ocisync.model.errors import ClusterRefused, ExitCode, Refused, Unavailable, UsageError

if TYPE_CHECKING:
    from ocisync.cli.syncs import Syncs
    from ocisync.cluster.health import Rollup
    from ocisync.flows.compare import Side
    from ocisync.flows.oneshot import Done
    from ocisync.flows.plan import Scope
    from ocisync.model.resource import ObjectId


@click.command("apply")
@click.argument("target", metavar="TARGET")
@namespace_option("Where objects without a namespace go, and where the inventory is kept (default: the context's).")
@set_options
@click.option("--approve", "approved", default="", metavar="HASH", help="Let a held plan happen, by its hash.")
@click.option("--dry-run", is_flag=True, help="Show the plan, as `ocisync plan` does, and write nothing.")
@click.option("--wait", "wait_for", is_flag=True, help="Wait until everything is healthy, or has failed.")
@click.option(
    "--wait-timeout",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest wait.",
)
@content_options
def command(
    target: str,
    namespace: str,
    approved: str,
    dry_run: bool,
    wait_for: bool,
    wait_timeout: float,
    form: str,
    quiet: bool,
    **rest: Any,
) -> int:
    """Apply TARGET once, without an agent: a directory, read as `push` would pack it, or a verified reference.

    The engine is the agent's: server-side apply in the order of dependencies, a failing object blocks only what needs
    it, what other programs manage is a conflict. --name says which set of objects it is. The set's inventory is kept in
    the namespace (beside a ConfigMap ocisync-apply-NAME, the parent of an ApplySet): with --prune, what the set no
    longer has is deleted, as far as the guard allows. Objects of an ArtifactSync are never taken. A run that was killed
    is completed by the next one.

    \b
    Examples:
      ocisync apply deploy/ --name shop -n apps --prune --wait
      ocisync apply oci://registry.example/shop:1.4.0 --key release.pub --name shop -n apps
      ocisync apply deploy/ --name shop -n apps --prune --dry-run
      ocisync apply deploy/ --name shop -n apps --prune --approve sha256:…

    \b
    Exit codes: 0 applied (with --wait: and healthy) · 1 not healthy, or manifests that cannot be read · 2 usage
      3 changes (--dry-run only) · 4 held, or refused by key or policy · 5 no such directory or artifact
      6 access denied · 7 not everything yet: run it again · 8 the cluster refused objects
    """
    trust, source = content_taken_from(rest)
    if sync_named(target):
        raise UsageError(
            f"{target} is neither a directory nor a reference",
            hint=f"a sync is applied by its agent: ocisync reconcile {target}",
        )
    require_trust(target, trust)
    if not rest["name"]:
        raise UsageError("an apply needs a name, by which the next one knows what it owns", hint="add --name NAME")
    from ocisync.cli.syncs import Syncs
    from ocisync.flows.oneshot import fingerprint, scope_of

    with output.progress(f"Applying {target}", quiet=quiet) as step:
        syncs = Syncs(rest.pop("kubeconfig"), rest.pop("context"))
        options = set_taken_from(rest, namespace or syncs.default_namespace, approved)
        step("reading")
        side = read_side(target, trust, source, rest)
        scope = scope_of(syncs.cluster, options, side.digest or fingerprint(side))
        if dry_run:
            from ocisync.cli.plan import answer_plan

            return answer_plan(syncs, side, scope, form, quiet=quiet)
        done = _apply(syncs, side, scope, step)
        warn_unverified(side, trust)
        health = _wait(syncs, done, wait_timeout, step) if wait_for and done.report.all_applied else None
    return _answer(done, health, form, quiet=quiet)


def _apply(syncs: Syncs, side: Side, scope: Scope, step: Any) -> Done:
    from ocisync.cluster.discovery import Discovery
    from ocisync.flows.oneshot import apply_once
    from ocisync.kit.stop import StopToken

    stop = StopToken()
    total = done = 0

    def planned(count: int) -> None:
        nonlocal total
        total = count

    def applied(object_id: ObjectId) -> None:
        nonlocal done
        done += 1
        step(f"{done} of {total}  {object_id}")

    try:
        return apply_once(
            syncs.cluster,
            Discovery(syncs.cluster),
            side,
            scope,
            holder=_holder(),
            version=__version__,
            stop=stop,
            planned=planned,
            applied=applied,
        )
    finally:
        stop.stop()  # after Ctrl-C, nothing more is begun


def _holder() -> str:
    """Who writes the inventory: this run, and no other."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "?"
    return f"apply {who}@{socket.gethostname()} {secrets.token_hex(4)}"


def _wait(syncs: Syncs, done: Done, timeout_s: float, step: Any) -> Rollup:
    from ocisync.cluster.discovery import Discovery
    from ocisync.flows.settle import Settling

    settling = Settling(done.wanted, lambda state: step(state.message()))
    return settling.wait(syncs.cluster, Discovery(syncs.cluster), done.scope.target.sync_id, timeout_s)


def _answer(done: Done, health: Rollup | None, form: str, *, quiet: bool) -> int:
    from ocisync.cli.plantext import done_text

    answer = done.as_json()
    if health is not None:
        answer["health"] = {"healthy": health.healthy, "status": health.status.value, "message": health.message()}
    for note in done.notes:
        output.warning_text(note)
    report = done.report
    if not report.held or form != "text":
        output.emit(answer, form, text=lambda: done_text(done))
    if report.held:
        raise Refused(
            f"held: {report.held}; nothing was applied",
            hint=f"look at it with --dry-run; let it happen: --approve {report.plan_hash}",
            reason="ApprovalRequired",
        )
    if report.failures:
        message = f"{len(report.failures)} objects are not applied"
        if done.passing:
            raise Unavailable(message, hint="run the same command again")
        raise ClusterRefused(message, hint="the reasons are above; everything else is applied")
    if health is None or health.healthy:
        if not quiet and health is not None:
            output.note(health.message())
        return int(ExitCode.OK)
    output.error_text(f"not healthy: {health.message()}")
    return int(ExitCode.FAILED)
