"""`ocisync diff`: what would change, by object and field. Exit code 3 says that something would."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output, sourceflags
from ocisync.cli.clock import SystemClock
from ocisync.cli.fieldtext import SIGNS, field_lines, styled
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, open_place, place_of, require_version
from ocisync.cli.renderflags import render_options, render_taken_from
from ocisync.cli.sourceflags import source_options
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.errors import ExitCode, NotFound, UsageError
from ocisync.model.ref import LAYOUT_SCHEME

if TYPE_CHECKING:
    from ocisync.flows.compare import Comparison, FileChange, Side
    from ocisync.manifests.difference import ObjectChange


@click.command("diff")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--path", "below", default="", metavar="DIR", help="Compare what lies below this directory only.")
@trust_options
@source_options
@render_options
@layout_option
@output_option("text", "json", "yaml", "name")
@registry_options
@common_options
def command(
    old: str,
    new: str,
    below: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    stands_for: str,
    form: str,
    quiet: bool,
    **rest: Any,
) -> int:
    """Show what changes from A to B, by object and field: added, removed and changed objects, then other files.

    A and B are references to artifacts (also oci-layout:), or directories, which are read as `push` would pack them:
    the committed tree, another commit with --rev, the work tree with --allow-dirty or --no-git, overlays and charts
    with --render. `-` reads manifests from stdin. Comments and the layout of manifests are no differences; values of
    Secrets are not shown. With --key or --policy, artifacts are verified first.

    \b
    Examples:
      ocisync diff oci://registry.example/shop:1.4.0 oci://registry.example/shop:1.5.0
      ocisync diff oci://registry.example/shop:production deploy/production --key release.pub
      ocisync diff oci://registry.example/shop:production deploy --allow-dirty --path clusters/eu-1 -o json
      kubectl kustomize overlays/prod | ocisync diff oci://registry.example/shop:production -

    \b
    Exit codes: 0 equal · 3 differences · 1 manifests that cannot be read · 2 usage · 4 refused by key or policy
      5 not found · 6 login missing · 7 registry not reachable
    """
    if old == "-" and new == "-":
        raise UsageError("both sides are stdin", hint="ocisync diff REFERENCE -")
    from ocisync.flows.compare import compare_sides

    source_flags = sourceflags.taken_from(rest)
    source_flags["render"] = render_taken_from(rest)
    with output.progress(f"Comparing {old} with {new}", quiet=quiet) as step:
        sides = []
        for name in (old, new):
            step(f"reading {name}")
            sides.append(_read(name, key_files, policy_files, stands_for, source_flags, rest))
        found = compare_sides(sides[0], sides[1], path=below)
    _check_path(sides, below)
    if not quiet:
        _say_what_was_not_verified(sides, named=bool(key_files or policy_files))
    lines = [*map(_object_name, found.objects), *(f"file {change.path}" for change in found.files)]
    if form != "name":
        output.emit(found.as_json(), form, text=lambda: "\n".join(_text(found)))
    elif lines:
        output.write("\n".join(map(output.plain, lines)))
    return int(ExitCode.OK if found.equal else ExitCode.DIFFERENCES)


def _read(
    name: str,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    stands_for: str,
    source_flags: dict[str, Any],
    registry: dict[str, Any],
) -> Side:
    from ocisync.flows import compare

    if name == "-" or (not name.startswith(("oci://", LAYOUT_SCHEME)) and Path(name).exists()):
        return compare.read_directory(name, sourceflags.source_of(name, source_flags), SystemClock())
    if name.startswith((".", "/", "~")):
        raise NotFound(f"no directory {name}")
    is_layout = name.startswith(LAYOUT_SCHEME)
    place = place_of(name, stands_for if is_layout else "", signed=bool(key_files or policy_files))
    require_version(place, "list")
    with open_place(place, registry) as store:
        trusted = named_trust(key_files, policy_files, store.repository)
        return compare.read_artifact(store, place, trusted, datetime.now(UTC))


def _check_path(sides: list[Side], below: str) -> None:
    from ocisync.manifests.select import files_under

    if below and not any(files_under(side.files, below) for side in sides):
        raise NotFound(f"--path: neither side has files below {below}")


def _say_what_was_not_verified(sides: list[Side], *, named: bool) -> None:
    if not named and any(side.digest for side in sides):
        output.note("not verified: the artifacts were read as the registry gave them; name --key or --policy to verify")


# Text ---------------------------------------------------------------------------------------------------------------


def _object_name(change: ObjectChange) -> str:
    return str(change.object.id)


def _text(found: Comparison) -> Iterator[str]:
    yield styled(f"--- {_title(found.old)}", "red")
    yield styled(f"+++ {_title(found.new)}", "green")
    for change in found.objects:
        yield ""
        yield from _object_lines(change)
    if found.files:
        yield ""
        yield from map(_file_line, found.files)
    yield ""
    counts = found.counts()
    words = [f"{counts[word]} {word}" for word in ("added", "removed", "changed") if counts[word]]
    if counts["files"]:
        words.append(f"{counts['files']} other file{'s' if counts['files'] > 1 else ''}")
    yield ", ".join(words) if words else "equal"
    if found.rewritten:
        count = len(found.rewritten)
        yield f"({count} manifest{'s' if count > 1 else ''} with other text and equal objects)"


def _title(side: Side) -> str:
    parts = [side.name]
    if side.digest and side.digest not in side.name:
        parts.append(side.digest)
    if side.revision:
        parts.append(side.revision)
    return "  ".join(map(output.plain, parts))


def _file_line(change: FileChange) -> str:
    sign, colour = SIGNS[change.action.value.lower()]
    return styled(f"{sign} file {output.plain(change.path)}", colour)


def _object_lines(change: ObjectChange) -> Iterator[str]:
    from ocisync.flows.compare import shown
    from ocisync.manifests.difference import pointer

    sign, colour = SIGNS[change.action.value.lower()]
    yield styled(f"{sign} {output.plain(f'{change.object.id}  {change.object.place}')}", colour)
    for field in shown(change):
        told = field_lines(field.action.value.lower(), pointer(field.path), field.old, field.new)
        yield from (f"    {line}" for line in told)
