"""`ocisync list`: the tags of a repository, newest version first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import open_place, place_of, typed
from ocisync.model.errors import UsageError
from ocisync.model.ref import Place
from ocisync.model.semver import parse_range

if TYPE_CHECKING:
    from ocisync.flows.tags import Listing


@click.command("list")
@click.argument("reference")
@click.option("--semver", "within", default="", metavar="RANGE", help="Only versions in a range, as Flux reads it.")
@click.option("--filter", "pattern", default="", metavar="GLOB", help="Only names that match a pattern like 'prod-*'.")
@click.option("--limit", type=click.IntRange(min=0), default=0, metavar="N", help="At most N tags (default: all).")
@click.option("-l", "--long", "details", is_flag=True, help="Also digest, time and revision.")
@click.option("--all", "everything", is_flag=True, help="Also the tags of signatures and referrers.")
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    reference: str,
    within: str,
    pattern: str,
    limit: int,
    details: bool,
    everything: bool,
    form: str,
    quiet: bool,
    **registry: Any,
) -> None:
    """List the tags of a repository: versions first and newest first, then other names, then commits.

    A range is what Flux and Argo CD read: `^1.2`, `~1.4.0`, `1.x`, `>=1.0.0 <2.0.0`, `1.2 - 1.4`, `1.x || 3.x`.
    Pre-releases are in it only if it names one: `>=1.0.0-0`. Time and revision are what the artifacts say about
    themselves; nothing is verified.

    \b
    Examples:
      ocisync list oci://registry.example/shop
      ocisync list oci://registry.example/shop --semver '^1' --limit 1 -o name
      ocisync list oci://registry.example/shop --filter 'prod*' --long
      ocisync list oci-layout:shop.tar -o json

    \b
    Exit codes: 0 listed (also nothing) · 2 usage · 5 no such repository · 6 login missing · 7 registry not reachable
    """
    target = place_of(reference)
    if target.tag or target.digest:
        raise UsageError(f"list takes a repository, not {target}", hint=f"ocisync list {typed_repository(target)}")
    from ocisync.flows.tags import Query, list_tags

    query = Query(parse_range(within) if within else None, pattern, everything, limit)
    with output.progress(f"Listing {target.location}", quiet=quiet), open_place(target, registry) as store:
        listing = list_tags(store, query, details=details)
    names = "\n".join(f"{target.location}:{tag.name}" for tag in listing.tags)
    if form == "text" and not listing.tags:
        output.note(f"no tag of {target.location} matches" if within or pattern else f"{target.location} has no tags")
        return
    if form != "name" or names:
        output.emit(_answer(target, listing), form, name=names, text=lambda: _text(listing, details=details))
    if not quiet and form == "text":
        if len(listing.tags) < listing.matched:
            output.note(f"{listing.matched - len(listing.tags)} more")
        output.hint_text(f"ocisync inspect {typed_repository(target)}:{listing.tags[0].name}")


def typed_repository(target: Place) -> str:
    """The repository as a person types it."""
    return typed(target).removesuffix(f"@{target.digest}").removesuffix(f":{target.tag}")


def _answer(target: Place, listing: Listing) -> dict[str, Any]:
    tags = [
        {key: value for key, value in (
            ("name", tag.name), ("digest", tag.digest), ("created", tag.created), ("revision", tag.revision),
            ("problem", tag.problem),
        ) if value}
        for tag in listing.tags
    ]  # fmt: skip
    return {"repository": target.location, "tags": tags, "matched": listing.matched, "hidden": listing.hidden}


def _text(listing: Listing, *, details: bool) -> str:
    if not details:
        return "\n".join(tag.name for tag in listing.tags)
    rows = [
        (
            tag.name,
            tag.digest.removeprefix("sha256:")[:12] or "-",
            tag.created or "-",
            tag.revision or tag.problem or "-",
        )
        for tag in listing.tags
    ]
    shown = [tuple(output.plain(cell) for cell in row) for row in rows]
    return output.table(shown, ("TAG", "DIGEST", "CREATED", "REVISION"))
