"""`ocisync rollback`: run an artifact of a sync's own history again, until the tag moves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.following import Duration, Following
from ocisync.cli.options import cluster_options, common_options
from ocisync.cli.syncs import Syncs, came_to_an_end, conditions, namespace_option
from ocisync.flows.outcome import Reason
from ocisync.model.errors import ExitCode, NotFound, Refused, Unavailable, UsageError
from ocisync.model.resource import JsonObject
from ocisync.model.spec import ROLLBACK

_SHORTEST = 12  # digits of a digest


@click.command("rollback")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@click.option("--to", "target", default="", metavar="DIGEST|N", help="A digest, or a line of `ocisync history`.")
@click.option("--wait", "wait_for", is_flag=True, help="Wait until it runs, or can't.")
@click.option("--timeout", "timeout_s", type=Duration(), default="10m", show_default=True, help="The longest wait.")
@cluster_options
@common_options
def command(
    name: str, namespace: str, target: str, wait_for: bool, timeout_s: float,
    kubeconfig: Path | None, context: str, quiet: bool,
) -> int:  # fmt: skip
    """Go back to an artifact that this sync has run before (default: the last one that was healthy).

    What the registry offers stays in quarantine until the tag moves, or until `ocisync reconcile --retry`; meanwhile
    the sync is not Ready, because the tag says otherwise. The artifact is judged by the policies of now: only its age
    is forgiven, and only because this sync has run it. To make the registry agree, sign the tag for it again: the
    command is printed.

    \b
    Examples:
      ocisync rollback shop -n apps --wait
      ocisync rollback shop -n apps --to 3
      ocisync rollback shop -n apps --to sha256:…

    \b
    Exit codes:
      0 asked, or it runs · 1 failed or held · 2 usage · 4 refused by policy · 5 not in its history · 7 not in time
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    name = name.removeprefix("artifactsync/")
    sync = syncs.one(namespace, name)
    chosen = choose(sync, target)
    wanted = f"{chosen['digest']}@{SystemClock().now().isoformat(timespec='microseconds').replace('+00:00', 'Z')}"
    syncs.annotate(namespace, name, {ROLLBACK: wanted})
    if not quiet:
        shown = f"{chosen['digest']} ({chosen['revision']})" if chosen.get("revision") else chosen["digest"]
        output.note(f"{namespace}/{name} goes back to {shown}")
        output.hint_text(permanent(sync, str(chosen["digest"])))
    if not wait_for:
        return int(ExitCode.OK)
    return _wait(syncs, namespace, name, wanted, timeout_s, quiet=quiet)


def choose(sync: JsonObject, target: str) -> Mapping[str, Any]:
    """The line of its history that a sync shall go back to. Pure.

    Raises:
        UsageError, NotFound, Refused: there is none such, or not in this way.
    """
    metadata, spec, status = sync["metadata"], sync.get("spec") or {}, sync.get("status") or {}
    where = f"{metadata['namespace']}/{metadata['name']}"
    source, offered = spec.get("source") or {}, (status.get("source") or {}).get("digest")
    listed = f"ocisync history {metadata['name']} --namespace {metadata['namespace']}"
    if source.get("digest"):
        raise UsageError(
            f"{where} follows a digest: there is no tag to go back from",
            hint=f"kubectl -n {metadata['namespace']} patch artifactsync {metadata['name']} --type merge "
            '-p \'{"spec":{"source":{"digest":"sha256:…"}}}\'',
        )
    history: list[Mapping[str, Any]] = [item for item in status.get("history") or () if isinstance(item, dict)]
    if not offered:
        raise NotFound(f"{where}: the registry has not been reached yet", hint=listed)
    chosen = _named(history, target, where, listed) if target else _last_good(history, str(offered), where, listed)
    if chosen.get("digest") == offered:
        raise UsageError(
            f"{where}: {offered} is what the registry offers now",
            hint=f"ocisync reconcile {metadata['name']} --namespace {metadata['namespace']} --retry",
        )
    tag = source.get("tag")
    if tag and chosen.get("tag") and chosen["tag"] != tag:
        raise Refused(
            f"{where}: {chosen['digest']} came from the tag {chosen['tag']!r}, and was signed for that",
            hint=f"kubectl -n {metadata['namespace']} patch artifactsync {metadata['name']} --type merge "
            f'-p \'{{"spec":{{"source":{{"tag":"{chosen["tag"]}"}}}}}}\'',
        )
    return chosen


def _last_good(history: list[Mapping[str, Any]], offered: str, where: str, listed: str) -> Mapping[str, Any]:
    for item in history:
        if item.get("outcome") == "Succeeded" and item.get("digest") != offered:
            return item
    raise NotFound(f"{where}: its history has nothing else that was healthy", hint=listed)


def _named(history: list[Mapping[str, Any]], target: str, where: str, listed: str) -> Mapping[str, Any]:
    if target.isdecimal() and len(target) < _SHORTEST:
        if not 1 <= int(target) <= len(history):
            raise NotFound(f"{where}: its history has {len(history)} lines, not {target}", hint=listed)
        return history[int(target) - 1]
    wanted = target if target.startswith("sha256:") else f"sha256:{target}"
    if len(wanted) < len("sha256:") + _SHORTEST:
        raise UsageError(f"--to: {target!r} is neither a line number nor {_SHORTEST} digits of a digest", hint=listed)
    found = {str(item.get("digest")): item for item in reversed(history) if str(item.get("digest")).startswith(wanted)}
    if len(found) != 1:
        what = "does not have" if not found else "has several that begin with"
        raise NotFound(f"{where}: its history {what} {target}", hint=listed)
    return next(iter(found.values()))


def permanent(sync: JsonObject, digest: str) -> str:
    """The command that makes the registry say the same."""
    source = (sync.get("spec") or {}).get("source") or {}
    tag = source.get("tag") or source.get("semver") or "TAG"
    return (
        f"to make the registry agree: ocisync tag oci://{source.get('repository')}@{digest} {tag} --rollback "
        "--sign-key KEY"
    )


def _wait(syncs: Syncs, namespace: str, name: str, wanted: str, timeout_s: float, *, quiet: bool) -> int:
    said = ""
    with output.progress(f"going back: {namespace}/{name}", quiet=quiet) as step:
        for sync in Following(syncs, time.monotonic, time.sleep).states(namespace, name, timeout_s):
            status = (sync or {}).get("status") or {}
            ready = conditions(sync).get("Ready") or {} if sync is not None else {}
            said = f"{ready.get('reason')}: {ready.get('message')}"
            step(said)
            if sync is None or status.get("lastHandledRollback") != wanted:
                continue
            if ready.get("reason") == Reason.ROLLED_BACK:
                if not quiet:
                    output.note(f"{namespace}/{name}: {said}")
                return int(ExitCode.OK)
            if not status.get("quarantine"):
                raise Refused(f"{namespace}/{name}: the agent does not go back there: {said}")
            code = came_to_an_end(sync)
            if code is not None and code is not ExitCode.OK:
                output.error_text(f"{namespace}/{name}: {said}")
                return int(code)
    raise Unavailable(
        f"{namespace}/{name} has not gone back after {timeout_s:.0f} s: {said}",
        hint=f"ocisync status {name} --namespace {namespace}; is an agent running?",
    )
