"""`ocisync drift`: what was changed outside GitOps, by whom, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocisync.cli import output
from ocisync.cli.clock import SystemClock
from ocisync.cli.options import cluster_options, common_options, output_option
from ocisync.cli.syncs import Syncs, agent_namespace_option, namespace_option
from ocisync.model.errors import AccessDenied, ExitCode, InvalidInput, UsageError

if TYPE_CHECKING:
    from ocisync.cluster.client import Cluster
    from ocisync.flows.drifthistory import Drifted


@click.command("drift")
@click.argument("name", required=False)
@namespace_option("Namespace of the syncs (default: all; for one sync the context's).")
@click.option("-A", "--all-namespaces", is_flag=True, help="Syncs of all namespaces, the default without NAME.")
@click.option("--object", "about", default="", metavar="KIND[/NAME]", help="Only of these objects.")
@click.option(
    "--since", default="", metavar="DURATION", help="Only what was seen in the last 30m, 12h, 7d; or is so now."
)
@click.option("--open", "only_open", is_flag=True, help="Only what is not corrected.")
@click.option("--watch", is_flag=True, help="Go on and show what comes, until Ctrl-C.")
@agent_namespace_option
@cluster_options
@output_option("text", "json", "yaml")
@common_options
def command(
    name: str | None,
    namespace: str,
    all_namespaces: bool,
    about: str,
    since: str,
    only_open: bool,
    watch: bool,
    agent_namespace: str,
    kubeconfig: Path | None,
    context: str,
    form: str,
    quiet: bool,
) -> int:
    """Show what was changed outside GitOps: fields with old and new values, who did it, when, and what became of it.

    The agent keeps the last of it for each sync, in its own namespace. Whoever may not read there is shown what Events
    say. Values of Secrets are masked. Who someone was behind a manager's name stands in the API server's audit log.

    \b
    Examples:
      ocisync drift
      ocisync drift shop -n apps --since 1h
      ocisync drift --object deployment/web --open
      ocisync drift -n apps -o json
      ocisync drift --watch

    \b
    Exit codes:
      0 everything shown is corrected or over · 3 something is not corrected · 5 no such sync or agent · 6 access denied
    """
    from ocisync.flows.drifthistory import Wanted

    if all_namespaces and (namespace or name):
        raise UsageError("--all-namespaces excludes NAME and --namespace")
    if watch and form == "yaml":
        raise UsageError("--watch prints text or JSON lines, no YAML")
    kind, _, object_name = about.partition("/")
    wanted = Wanted(kind, object_name, _moment(since, SystemClock().now()), only_open)
    syncs = Syncs(kubeconfig, context)
    if name:
        namespace = namespace or syncs.default_namespace
        name = name.removeprefix("artifactsync/")
        syncs.one(namespace, name)  # a name with a typo shall not look like peace
    reader = Reader(syncs.cluster, agent_namespace, f"{namespace}/{name}" if name else "", namespace)
    if watch:
        from ocisync.cli.driftwatch import follow

        return follow(reader, wanted, form, with_sync=not name)
    found = [one for one in reader.read(quiet=quiet) if wanted.fits(one)]
    _show(found, form, with_sync=not name)
    if not found and form == "text" and not quiet:
        output.note("no drift is recorded" + (" that fits" if about or since or only_open else ""))
    return int(ExitCode.DIFFERENCES if any(one.open for one in found) else ExitCode.OK)


class Reader:
    """The record as whoever runs the command may see it."""

    def __init__(self, cluster: Cluster, agent_namespace: str, sync: str, namespace: str) -> None:
        from ocisync.cluster.driftrecord import DriftRecords

        self.cluster, self.agent_namespace = cluster, agent_namespace
        self.records = DriftRecords(cluster, agent_namespace)
        self._sync, self._namespace = sync, namespace

    def read(self, *, quiet: bool) -> list[Drifted]:
        """Everything that is known, oldest first."""
        from ocisync.flows.drifthistory import recorded, told

        try:
            return recorded(self.records, self._sync, self._namespace)
        except AccessDenied:
            found = told(self.cluster, self._sync, self._namespace)
        if not quiet:
            output.note(f"the record in {self.agent_namespace} may not be read: this is what Events say, of late")
        return found

    def asks_for(self, sync: str) -> bool:
        """Whether this sync's record is wanted."""
        namespace = sync.partition("/")[0]
        return sync == self._sync if self._sync else self._namespace in {"", namespace}


def _show(found: Iterable[Drifted], form: str, *, with_sync: bool) -> None:
    from ocisync.cli.drifttext import lines

    entries = list(found)
    if form == "text":
        for one in entries:
            for line in lines(one, with_sync=with_sync):
                output.write(line)
        return
    output.emit({"items": [one.as_json() for one in entries]}, form, text=lambda: "")


def _moment(since: str, now: datetime) -> datetime | None:
    if not since:
        return None
    from ocisync.model.spec import parse_duration

    hint = "for example 30m, 12h or 7d"
    if since.endswith("d") and since[:-1].isascii() and since[:-1].isdigit() and len(since) < 7:
        return now - timedelta(days=int(since[:-1]))
    try:
        return now - timedelta(seconds=parse_duration(since, "--since"))
    except InvalidInput as error:
        raise UsageError(error.message, hint=hint) from None
    except (OverflowError, ValueError):
        raise UsageError(f"--since {since}: that is too long ago", hint=hint) from None
