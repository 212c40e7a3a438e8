"""`ocisync mirror`: whole artifacts to other registries and layouts: plan, copy, sync, map."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import mirrorfile, mirrorfileflags, mirrorflags, mirrormap, mirrortext, mirrortrust, output
from ocisync.cli.options import common_options, output_option, registry_options
from ocisync.cli.places import layout_option, place_of
from ocisync.cli.trustflags import named_trust, trust_options
from ocisync.model.errors import NotFound, OcisyncError, UsageError
from ocisync.model.limits import MIRROR_FILE_BYTES
from ocisync.model.ref import LayoutReference, Place, parse_place

if TYPE_CHECKING:
    from ocisync.flows.trust import TrustSet
    from ocisync.mirror.copy import Report
    from ocisync.mirror.job import Gathered, Wanted
    from ocisync.mirror.plan import Plan
    from ocisync.mirror.stores import Stores
    from ocisync.mirror.walk import WalkOptions

_SHOWN_FAILURES = 20


@click.group("mirror")
def command() -> None:
    """Move whole artifacts: signatures, attestations and, if wanted, images come along.

    Bytes and digests never change, so that everything is verified on the far side as it was here. Only lists that
    everyone adds to (signature tags, fallback indexes) are brought together with what the far side has.

    \b
    Examples:
      ocisync mirror plan oci://registry.example/shop:1.4.0 oci://mirror.site.local/shop --images
      ocisync mirror copy oci://registry.example/shop:1.4.0 oci://mirror.site.local/shop --images
      ocisync mirror copy oci://registry.example/shop oci://mirror.site.local/shop --semver '>=1.2 <2' --newest 5
      ocisync mirror sync mirror-set.yaml --policy policy.yaml
    """


for part in (
    mirrorfile.save_command,
    mirrorfile.load_command,
    mirrortrust.verify_command,
    mirrortrust.trust_command,
):
    command.add_command(part)


def _source_options(function: Any) -> Any:
    """What plan, copy and map share."""
    for decorate in (mirrorflags.run_options, layout_option, mirrorflags.image_options, mirrorflags.selection_options):
        function = decorate(function)
    return function


@command.command("plan")
@click.argument("sources", nargs=-1, required=True, metavar="SRC…")
@click.argument("destination", metavar="DST")
@_source_options
@click.option("--force-tag", is_flag=True, help="Plan to replace versions that have other content.")
@output_option("text", "json", "yaml")
@registry_options
@common_options
def plan_command(
    sources: tuple[str, ...], destination: str, force_tag: bool, form: str, quiet: bool, **rest: Any
) -> None:
    """Show what a copy would move, with sizes, and what DST has. Nothing is written.

    Exit code 4 means that a copy would be refused, because a version has other content at DST.

    \b
    Examples:
      ocisync mirror plan oci://registry.example/shop:1.4.0 oci://mirror.site.local/shop
      ocisync mirror plan oci://registry.example/shop oci://mirror.site.local/shop --newest 3 --images -o json
    """
    with _gathered(sources, destination, rest, quiet=quiet) as run, output.progress("Planning", quiet=quiet):
        plan = run.examine(force_tag)
    _show_plan(plan, form, quiet=quiet)


@command.command("copy")
@click.argument("sources", nargs=-1, required=True, metavar="SRC…")
@click.argument("destination", metavar="DST")
@_source_options
@trust_options
@click.option("--force-tag", is_flag=True, help="Replace versions that have other content at DST.")
@output_option("text", "json", "yaml")
@registry_options
@common_options
def copy_command(
    sources: tuple[str, ...],
    destination: str,
    force_tag: bool,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    form: str,
    quiet: bool,
    **rest: Any,
) -> None:
    """Copy artifacts with everything that belongs to them to a registry or a layout.

    One source repository becomes DST; several go below it, each under its own path. With --key or --policy, every
    artifact is judged at its source before anything is written. What is at DST already is not moved again, so a copy
    that was interrupted is finished by the next one.

    \b
    Examples:
      ocisync mirror copy oci://registry.example/shop:1.4.0 oci://mirror.site.local/shop
      ocisync mirror copy oci://registry.example/shop:1.4.0 oci://mirror.site.local/shop --images --policy policy.yaml
      ocisync mirror copy oci://registry.example/shop oci-layout:shop.tar --tag 'v1.*' --key release.pub
    """
    with _gathered(sources, destination, rest, quiet=quiet) as run:
        run.judge(key_files, policy_files, quiet=quiet)
        report = run.copy(force_tag, quiet=quiet)
    _show_report(run, report, form, quiet=quiet)


@command.command("sync")
@click.argument("file", type=click.Path(path_type=Path))
@trust_options
@mirrorflags.run_options
@click.option("--prune-tags", is_flag=True, help="Remove tags at the destinations that the file does not select.")
@click.option("--dry-run", is_flag=True, help="Show the plan; write nothing.")
@click.option("--force-tag", is_flag=True, help="Replace versions that have other content at the destination.")
@output_option("text", "json", "yaml")
@registry_options
@common_options
def sync_command(
    file: Path,
    key_files: tuple[str, ...],
    policy_files: tuple[Path, ...],
    prune_tags: bool,
    dry_run: bool,
    force_tag: bool,
    form: str,
    quiet: bool,
    **rest: Any,
) -> None:
    """Make the destinations of a MirrorSet file hold what it selects. Run it as often as you like.

    \b
    Examples:
      ocisync mirror sync mirror-set.yaml --dry-run
      ocisync mirror sync mirror-set.yaml --policy policy.yaml
      ocisync mirror sync mirror-set.yaml --prune-tags
    """
    from ocisync.mirror import job

    with _gathered_set(file, rest, quiet=quiet) as run:
        run.judge(key_files, policy_files, quiet=quiet)
        if dry_run:
            _show_plan(run.examine(force_tag), form, quiet=quiet)
            return
        report = run.copy(force_tag, quiet=quiet)
        pruned: list[tuple[Place, str]] = []
        if prune_tags and not report.failures:
            pruned = job.superfluous_tags(run.examine(force_tag), run.wanted, run.stores)
            job.remove_tags(pruned, run.stores, workers=run.options.workers)
    _show_report(run, report, form, quiet=quiet, pruned=tuple(f"{place.location}:{tag}" for place, tag in pruned))


@command.command("map")
@click.argument("sources", nargs=-1, required=True, metavar="SRC…|FILE")
@click.argument("destination", metavar="DST")
@_source_options
@click.option(
    "--map", "maps", multiple=True, callback=mirrorfileflags.maps_of, metavar="NAME=PLACE", help="As for mirror load."
)
@output_option("text", "json", "yaml")
@registry_options
@common_options
def map_command(
    sources: tuple[str, ...], destination: str, maps: dict[str, str], form: str, quiet: bool, **rest: Any
) -> None:
    """Print how names change on the way: `images` for a sync, `remap` for a policy.

    SRC is what a copy would take; FILE is a mirror file, and DST where it is loaded to.

    \b
    Examples:
      ocisync mirror map oci://registry.example/shop:1.4.0 oci://mirror.site.local/shop
      ocisync mirror map shop.tar oci://mirror.site.local/shop
      ocisync mirror map shop.tar oci://mirror.site.local/shop -o json
    """
    from ocisync.mirror import routing

    paths: tuple[str, ...] = rest["image_paths"]
    if mirrormap.is_file(sources):
        names = mirrormap.names_in_file(sources[0], destination, rest["images_to"], maps)
    elif maps:
        raise UsageError("--map belongs to a mirror file", hint="leave it out")
    else:
        rest["images"] = True
        with _gathered(sources, destination, rest, quiet=quiet) as run:
            closure, routes = run.gathered.closure, run.gathered.routes
        names = mirrormap.Names(routing.relocations(closure, routes), routing.remaps(closure, routes))
        _warn(closure.notes, quiet=quiet)
    mirrormap.show(names, paths, form, quiet=quiet)


# -- running --------------------------------------------------------------------------------------


class _Run:
    """One command between its flags and its answer."""

    def __init__(self, wanted: Sequence[Wanted], stores: Stores, options: WalkOptions, gathered: Gathered) -> None:
        self.wanted = wanted
        self.stores = stores
        self.options = options
        self.gathered = gathered

    def examine(self, force_tag: bool) -> Plan:
        from ocisync.mirror import plan

        workers = self.options.workers
        found = self.gathered
        return plan.examine(found.closure, found.routes, self.stores, force_tag=force_tag, workers=workers)

    def judge(self, key_files: tuple[str, ...], policy_files: tuple[Path, ...], *, quiet: bool) -> None:
        """Refuse to go on unless everything satisfies the named trust; without any, nothing is judged."""
        if not key_files and not policy_files:
            return
        from ocisync.mirror import judging

        trusted: dict[str, TrustSet | None] = {}

        def trust_for(repository: str) -> TrustSet:
            # A policy file is one set for every repository; keys are a set for each.
            name = repository if key_files else ""
            if name not in trusted:
                trusted[name] = named_trust(key_files, policy_files, repository)
            found = trusted[name]
            if found is None:
                raise UsageError("nothing to verify against")
            return found

        now = datetime.now(UTC)
        with output.progress("Verifying", quiet=quiet):
            judging.require(judging.judge(self.gathered.closure, self.stores, trust_for, now=now))

    def copy(self, force_tag: bool, *, quiet: bool) -> Report:
        from ocisync.mirror import copy

        with output.progress("Looking at the destination", quiet=quiet):
            plan = self.examine(force_tag)
        _warn(plan.closure.notes, quiet=quiet)
        with output.transfer("Copying", quiet=quiet) as bar:
            callbacks = copy.Callbacks(bar.step, bar.total, bar.moved)
            workers = self.options.workers
            return copy.copy(plan, self.stores, callbacks, workers=workers, force_tag=force_tag)


@contextmanager
def _gathered(sources: tuple[str, ...], destination: str, flags: dict[str, Any], *, quiet: bool) -> Iterator[_Run]:
    """Read the flags and everything that they select."""
    from ocisync.mirror import job, routing

    stands_for: str = flags.pop("stands_for")
    places = [_source(text, stands_for) for text in sources]
    routes, as_tag = routing.artifact_routes(places, destination)
    chosen = [flags.pop(name) for name in ("within", "patterns", "newest")]
    wanted = [
        job.Wanted(place, mirrorflags.selection_of(place, *chosen), routes[place.location], as_tag) for place in places
    ]
    typed: str = flags.pop("images_to")
    images_to = routing.images_prefix(destination, typed) if flags["images"] else ""
    with _run(wanted, images_to, flags, quiet=quiet) as run:
        yield run


def _source(text: str, stands_for: str) -> Place:
    place = parse_place(text)
    return place_of(text, stands_for) if isinstance(place, LayoutReference) else place


@contextmanager
def _gathered_set(file: Path, flags: dict[str, Any], *, quiet: bool) -> Iterator[_Run]:
    from ocisync.mirror import job, mirrorset

    try:
        with file.open("rb") as stream:
            data = stream.read(MIRROR_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"no file {file}") from error
    found = mirrorset.parse_mirror_set(data, str(file))
    wanted = [job.Wanted(one.source, one.selection, one.destination) for one in found.repositories]
    flags |= {
        "images": found.images,
        "image_paths": [str(path) for path in found.image_paths],
        "images_from": [f"{old}={new}" for old, new in found.images_from],
    }
    with _run(wanted, found.images_to, flags, quiet=quiet) as run:
        yield run


@contextmanager
def _run(wanted: Sequence[Wanted], images_to: str, flags: dict[str, Any], *, quiet: bool) -> Iterator[_Run]:
    from ocisync.mirror import job

    workers, src_creds = flags.pop("workers"), flags.pop("src_creds")
    sources, destinations = [one.source for one in wanted], [one.destination for one in wanted]
    images = mirrorflags.walk_options_of(flags, workers)
    with mirrorflags.stores_for(sources, destinations, images_to, src_creds, flags) as stores:
        with output.progress("Reading", quiet=quiet) as step:
            options = replace(images, step=step)
            gathered = job.gather(wanted, stores, options, images_to)
        yield _Run(wanted, stores, options, gathered)


# -- answers --------------------------------------------------------------------------------------


def _warn(notes: Sequence[str], *, quiet: bool) -> None:
    for note in () if quiet else notes:
        output.warning_text(note)


def _show_plan(plan: Plan, form: str, *, quiet: bool) -> None:
    _warn(plan.closure.notes, quiet=quiet)
    output.emit(plan.as_json(), form, text=lambda: mirrortext.plan(plan))
    plan.require_allowed()


def _show_report(run: _Run, report: Report, form: str, *, quiet: bool, pruned: tuple[str, ...] = ()) -> None:
    closure, routes = run.gathered.closure, run.gathered.routes
    artifacts = [
        {
            "source": str(root.selected),
            "destination": routes[root.selected.place.location].location,
            "digest": root.selected.digest,
            "tag": root.selected.as_tag or root.selected.tag,
            "role": root.role.value,
        }
        for root in closure.roots
    ]
    answer = {"artifacts": artifacts, **report.as_json(), "prunedTags": list(pruned), "notes": list(closure.notes)}
    output.emit(answer, form, text=lambda: mirrortext.report(answer))
    for tag in () if quiet else sorted(report.kept_tags):
        output.warning_text(f"tag {tag} has other content and is left alone; the image is there by its digest")
    if report.failures:
        raise_failures(report)
    elif not quiet:
        first = artifacts[0]
        reference = (
            f"{first['destination']}:{first['tag']}" if first["tag"] else f"{first['destination']}@{first['digest']}"
        )
        output.hint_text(f"ocisync verify {shlex.quote(reference)} --policy FILE")


def raise_failures(report: Report) -> None:
    """One line for each failure, up to a screenful; the first one's class gives the exit code."""
    for failure in report.failures[:_SHOWN_FAILURES]:
        output.error_text(f"{failure.subject}: {failure.error.message}")
    if len(report.failures) > _SHOWN_FAILURES:
        output.note(f"… and {len(report.failures) - _SHOWN_FAILURES} more; -o json lists all of them")
    first = report.failures[0].error
    message = f"{len(report.failures)} of the copy's parts failed; no tag of what they belong to was set"
    raise _again(type(first), message, first)


def _again(kind: Callable[..., OcisyncError], message: str, first: OcisyncError) -> OcisyncError:
    try:
        return kind(message, hint=first.hint or "run it again: what is there is not moved again", reason=first.reason)
    except TypeError:  # an error that carries more than a sentence
        return first
