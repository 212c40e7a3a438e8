"""`ocisync status`: the syncs of a cluster, or one of them in detail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from ocisync.agent.lease import LEASE_NAME, Record
from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, common_options, output_option
from ocisync.cli.syncs import Syncs, age, agent_namespace_option, conditions, namespace_option, ready_word
from ocisync.cluster.client import segment
from ocisync.model.clock import parse_rfc3339
from ocisync.model.resource import JsonObject

_STATUS_CHARS = 70


@click.command("status")
@click.argument("name", required=False)
@namespace_option("Namespace (default: all; for one sync the context's).")
@agent_namespace_option
@cluster_options
@output_option()
@common_options
def command(
    name: str | None,
    namespace: str,
    agent_namespace: str,
    kubeconfig: Path | None,
    context: str,
    form: str,
    quiet: bool,
) -> None:
    """Show the syncs of a cluster and how they are doing; with NAME, one of them in detail.

    If agents use a lease and you may read it, the last line says which of them works.

    \b
    Examples:
      ocisync status
      ocisync status -n apps
      ocisync status shop -n apps
      ocisync status shop -n apps -o json
    """
    syncs = Syncs(kubeconfig, context)
    now = SystemClock().now()
    if name:
        sync = syncs.one(namespace or syncs.default_namespace, name.removeprefix("artifactsync/"))
        output.emit(sync, form, text=lambda: "\n".join(_detail(sync, now)), name=_name(sync))
        return
    found = syncs.all(namespace)
    listing = {"apiVersion": "v1", "kind": "List", "items": found}
    if not found and not quiet:
        output.note("no syncs; write an ArtifactSync and apply it with kubectl")
    names = "\n".join(_name(sync) for sync in found)
    if found or form in {"json", "yaml"}:
        output.emit(listing, form, text=lambda: _table(found, now) + _agent(syncs, agent_namespace, now), name=names)


def _agent(syncs: Syncs, namespace: str, now: datetime) -> str:
    """Who holds the agents' lease; nothing where there is none, or it can't be read."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{segment(namespace)}/leases/{LEASE_NAME}"
    answer = syncs.cluster.request("GET", path)
    if answer.status != 200:
        return ""
    lease = Record.of(json.loads(answer.body))
    if not lease.holder:
        return "\n\nno agent holds the lease"
    renewed = parse_rfc3339(lease.renewed)
    ago = f", renewed {max(0, round((now - renewed).total_seconds()))} s ago" if renewed else ""
    return "\n\n" + output.plain(f"agent {lease.holder} holds the lease since {lease.acquired}{ago}")


def _table(found: list[JsonObject], now: datetime) -> str:
    rows: list[tuple[str, ...]] = []
    for sync in found:
        ready = conditions(sync).get("Ready") or {}
        message = str(ready.get("message") or "not seen by an agent yet")
        if len(message) > _STATUS_CHARS:
            message = message[: _STATUS_CHARS - 1] + "…"
        applied = (sync.get("status") or {}).get("applied") or {}
        revision = str(applied.get("revision") or applied.get("digest") or "-")
        metadata = sync["metadata"]
        rows.append(
            (
                metadata["namespace"],
                metadata["name"],
                ready_word(sync),
                message,
                _short_revision(revision),
                age(sync, now),
            )
        )
    return _plain_table(rows, ("NAMESPACE", "NAME", "READY", "STATUS", "REVISION", "AGE"))


def _detail(sync: JsonObject, now: datetime) -> Iterator[str]:
    metadata, spec, status = sync["metadata"], sync.get("spec") or {}, sync.get("status") or {}
    source = spec.get("source") or {}
    selector = source.get("tag") or source.get("semver") or source.get("digest") or ""
    separator = "@" if source.get("digest") else ":"
    yield f"{metadata['namespace']}/{metadata['name']}   age {age(sync, now)}"
    yield f"source     {source.get('repository')}{separator}{selector}"
    for label, key in (("offered", "source"), ("applied", "applied"), ("attempted", "lastAttempted")):
        artifact = status.get(key)
        if artifact and not (
            key == "lastAttempted" and artifact.get("digest") == (status.get("applied") or {}).get("digest")
        ):
            signers = f"   signed by {', '.join(artifact['signers'])}" if artifact.get("signers") else ""
            shown = f"{artifact.get('revision') or '(revision unknown)'}  {artifact.get('digest')}{signers}"
            yield output.plain(f"{label:<10} {shown}")
    inventory = status.get("inventory") or {}
    yield f"objects    {inventory.get('objects', 0)}, {inventory.get('ready', 0)} healthy"
    if spec.get("suspend"):
        yield "suspended  nothing is written"
    yield ""
    rows: list[tuple[str, ...]] = [
        tuple(str(item.get(key, "")) for key in ("type", "status", "reason", "message"))
        for item in status.get("conditions") or ()
    ]
    yield _plain_table(rows, ("CONDITION", "STATUS", "REASON", "MESSAGE")) if rows else "not seen by an agent yet"
    failures = status.get("failures") or []
    if failures:
        yield ""
        yield "held or failed objects:"
        for item in failures:
            place = f" ({item['place']})" if item.get("place") else ""
            yield output.plain(f"  {item.get('object')}{place}: {item.get('class')}: {item.get('message')}")
    history = status.get("history") or []
    if history:
        yield ""
        past: list[tuple[str, ...]] = [
            tuple(str(item.get(key, "")) for key in ("time", "outcome", "revision", "digest")) for item in history
        ]
        yield _plain_table(past, ("APPLIED AT", "OUTCOME", "REVISION", "DIGEST"))
    if status.get("planHash"):
        yield ""
        yield f"next: ocisync approve {metadata['name']} --namespace {metadata['namespace']}"


def _plain_table(rows: list[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    """Messages repeat what registries and API servers said, and revisions what artifacts claim."""
    return output.table([tuple(map(output.plain, row)) for row in rows], headers)


def _short_revision(revision: str) -> str:
    ref, at, commit = revision.rpartition("@sha1:")
    return f"{ref}@{commit[:12]}" if at else revision[:19] if revision.startswith("sha256:") else revision


def _name(sync: JsonObject) -> str:
    return f"artifactsync.ocisync.dev/{sync['metadata']['name']}"
