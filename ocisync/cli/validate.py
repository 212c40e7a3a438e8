"""`ocisync validate`: every check of `push`, on files as they are, without a registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocisync.cli import output, schemaflags
from ocisync.cli.options import common_options, environment, output_option
from ocisync.cli.renderflags import render_options, render_taken_from
from ocisync.cli.schemaflags import schema_options
from ocisync.model.errors import ExitCode, InvalidInput, NotFound, UsageError
from ocisync.model.limits import YAML_BYTES
from ocisync.model.tree import TreeFile

if TYPE_CHECKING:
    from ocisync.flows.check import Checked, Unit
    from ocisync.flows.rendering import RenderedUnits
    from ocisync.render.layout import RenderOptions


@click.command("validate")
@click.argument("paths", nargs=-1, metavar="[PATH|-]…")
@schema_options
@render_options
@click.option(
    "--allow-plain-secret",
    "plain_secrets",
    multiple=True,
    metavar="NAMESPACE/NAME",
    help="A Secret that may be readable.",
)
@output_option("text", "json", "sarif", "github")
@common_options
def command(paths: tuple[str, ...], plain_secrets: tuple[str, ...], form: str, quiet: bool, **rest: Any) -> int:
    """Check manifests as `push` checks them, offline, and tell all findings at once.

    PATH is a directory or a file (default: the current directory), read as it is in the work tree; of a Git
    repository, files that Git ignores are left out. `-` reads manifests from stdin. Each directory and each file is
    judged for itself, as an artifact of its own; definitions of custom kinds found in any of them serve all.

    \b
    Examples:
      ocisync validate deploy/production
      ocisync validate deploy/*/ --kubernetes-version 1.34 --schema vendor/crds --strict-kinds
      ocisync validate deploy --render auto
      ocisync validate deploy -o sarif > ocisync.sarif
      kubectl kustomize overlays/prod | ocisync validate -

    \b
    Exit codes: 0 nothing to refuse (warnings are no refusal) · 1 findings · 2 usage · 5 no such file
    """
    from ocisync.flows.check import check_units

    render = render_taken_from(rest, rest["kubernetes_version"])
    schema = schemaflags.taken_from(rest)
    names = tuple(dict.fromkeys(paths)) or (".",)
    with output.progress("Checking manifests", quiet=quiet):
        made = [_rendered(name, render) for name in names] if render is not None else []
        units = [unit for name in names for unit in _units(name)] if render is None else _all_units(made)
        checked = check_units(units, allow_plain_secrets=plain_secrets, schema=schema)
        for one in made:
            checked = _explained(checked, one)
    _show(checked, form)
    if form == "text" and not quiet:
        output.note(_summary(checked))
    return int(ExitCode.FAILED if checked.errors else ExitCode.OK)


def _units(name: str) -> Iterator[Unit]:
    from ocisync.flows.check import Unit

    if name == "-":
        yield Unit((TreeFile("stdin.yaml", _stdin()),), name="<stdin>", needs_objects=True)
        return
    path = Path(name)
    if path.is_dir():
        from ocisync.source.worktree import read_worktree

        tree = read_worktree(path, environ=environment())
        prefix = "" if path == Path() else f"{path.as_posix().rstrip('/')}/"
        yield Unit(tree.files, prefix=prefix, findings=tree.findings, needs_objects=True)
    elif path.exists():
        yield schemaflags.file_unit(path)
    else:
        raise NotFound(f"no file or directory {output.plain(name)}", hint="ocisync validate DIRECTORY")


def _rendered(name: str, options: RenderOptions) -> RenderedUnits:
    from ocisync.flows.rendering import worktree_units

    path = Path(name)
    if not path.is_dir():
        raise UsageError(f"--render needs a directory, and {output.plain(name)} is none", hint="leave --render out")
    prefix = "" if path == Path() else f"{path.as_posix().rstrip('/')}/"
    return worktree_units(path, prefix, options, environment())


def _all_units(made: list[RenderedUnits]) -> list[Unit]:
    return [unit for one in made for unit in one.units]


def _explained(checked: Checked, made: RenderedUnits) -> Checked:
    """Say of findings in rendered files what these were made from, and what was told while rendering."""
    from ocisync.flows.rendering import explained

    warnings = (*made.rendering.warnings, *explained(checked.warnings, made.rendering))
    return replace(checked, errors=explained(checked.errors, made.rendering), warnings=warnings)


def _stdin() -> bytes:
    if sys.stdin is None:  # closed by the caller (`<&-`)
        raise UsageError("stdin is closed: there is nothing to read", hint="kubectl kustomize DIR | ocisync validate -")
    data = sys.stdin.buffer.read(YAML_BYTES + 1)
    if len(data) > YAML_BYTES:
        raise InvalidInput(f"stdin holds more than {YAML_BYTES >> 20} MiB")
    return data


def _show(checked: Checked, form: str) -> None:
    from ocisync.cli import findings

    if form in ("json", "sarif"):
        data = findings.as_json(checked) if form == "json" else findings.as_sarif(checked)
        output.emit(data, "json", text=str)
        return
    text = findings.as_github(checked) if form == "github" else findings.as_text(checked)
    if text:
        output.write(text)


def _summary(checked: Checked) -> str:
    counted = f"{checked.objects} objects in {checked.files} files"
    if not checked.errors and not checked.warnings:
        return f"{counted}: nothing found"
    return f"{counted}: {_count(len(checked.errors), 'error')}, {_count(len(checked.warnings), 'warning')}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
