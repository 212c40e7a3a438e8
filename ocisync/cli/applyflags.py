"""The flags of an apply without an agent, and of its plan."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from ocisync.model.errors import UsageError

if TYPE_CHECKING:
    from ocisync.flows.oneshot import Options

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_SHARE = re.compile(r"(?:\d{1,6}|(?:100|\d{1,2})%)\Z")


def _name(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if value and not _NAME.match(value):
        raise click.BadParameter(f"{value!r} is not a name of lower-case letters, digits and dashes")
    return value


def _share(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not _SHARE.match(value):
        raise click.BadParameter(f"{value!r} is neither a number nor a percentage like 50%")
    return value


def set_options(function: Any) -> Any:
    """Add --name, --path, --prune, --force, --max-prune and --service-account."""
    options = (
        click.option(
            "--name", default="", callback=_name, help="Name of the set of objects: what it held before is pruned."
        ),
        click.option("--path", "below", default="", metavar="DIR", help="Only manifests below this directory."),
        click.option("--prune", is_flag=True, help="Delete what the set held before and holds no longer."),
        click.option(
            "--force", is_flag=True, help="Take fields from other programs; replace what cannot be changed in place."
        ),
        click.option(
            "--max-prune",
            default="50%",
            show_default=True,
            callback=_share,
            metavar="NUMBER|SHARE",
            help="How much may be deleted without --approve.",
        ),
        click.option(
            "--service-account",
            default="",
            metavar="NAME",
            help="Act as this service account of the namespace, by impersonation.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def set_taken_from(flags: dict[str, Any], namespace: str, approved: str = "") -> Options:
    """Take the values of these flags out of a command's arguments.

    Raises:
        UsageError: a namespace that is none.
    """
    from ocisync.cluster.guard import Guard
    from ocisync.flows.oneshot import Options

    if not _NAME.match(namespace):
        raise UsageError(f"{namespace!r} is not the name of a namespace", hint="-n NAMESPACE")
    return Options(
        name=flags.pop("name"),
        namespace=namespace,
        service_account=flags.pop("service_account"),
        path=flags.pop("below"),
        prune=flags.pop("prune"),
        force=flags.pop("force"),
        guard=Guard(max_prune=flags.pop("max_prune")),
        approved=approved,
    )
