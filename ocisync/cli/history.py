"""`ocisync history`: what a sync has run, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ocisync.cli import output
from ocisync.cli.options import cluster_options, common_options, output_option
from ocisync.cli.syncs import Syncs, namespace_option
from ocisync.model.resource import JsonObject


@click.command("history")
@click.argument("name")
@namespace_option("Namespace (default: the context's).")
@cluster_options
@output_option("text", "json", "yaml")
@common_options
def command(name: str, namespace: str, kubeconfig: Path | None, context: str, form: str, quiet: bool) -> None:
    """Show the last ten artifacts that a sync has run: when each was applied, who signed it, and how it ended.

    Outcomes: Applied (not healthy yet), Succeeded, Failed (gone back from), Left (a person went back from it).
    The numbers are those that `ocisync rollback --to` takes.

    \b
    Examples:
      ocisync history shop -n apps
      ocisync history shop -n apps -o json
    """
    syncs = Syncs(kubeconfig, context)
    namespace = namespace or syncs.default_namespace
    name = name.removeprefix("artifactsync/")
    answer = history_of(syncs.one(namespace, name))
    if not answer["history"] and form == "text":
        if not quiet:
            output.note(f"{namespace}/{name} has applied nothing yet")
        return
    output.emit(answer, form, text=lambda: "\n".join(_text(answer)))


def history_of(sync: JsonObject) -> JsonObject:
    """A sync's history as programs read it."""
    status, metadata = sync.get("status") or {}, sync["metadata"]
    lines: list[JsonObject] = []
    for number, item in enumerate(status.get("history") or (), 1):
        line = {key: item[key] for key in ("digest", "tag", "revision", "signers", "outcome") if item.get(key)}
        lines.append({"number": number, **line, "appliedAt": item.get("time", "")})
    out: JsonObject = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "offered": (status.get("source") or {}).get("digest", ""),
        "applied": (status.get("applied") or {}).get("digest", ""),
        "history": lines,
    }
    if status.get("quarantine"):
        out["quarantine"] = status["quarantine"]
    return out


def _text(answer: JsonObject) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    for line in answer["history"]:
        cells = (
            line["number"], line["appliedAt"], line.get("outcome", ""), line.get("revision") or "-", line["digest"],
            ", ".join(line.get("signers") or ()) or "-",
        )  # fmt: skip
        rows.append(tuple(output.plain(str(cell)) for cell in cells))
    yield output.table(rows, ("#", "APPLIED AT", "OUTCOME", "REVISION", "DIGEST", "SIGNED BY"))
    left: dict[str, Any] = answer.get("quarantine") or {}
    if left:
        yield ""
        yield output.plain(f"not run: {left.get('digest')}: {left.get('reason')}: {left.get('message')}")
        yield f"try it again: ocisync reconcile {answer['name']} --namespace {answer['namespace']} --retry"
