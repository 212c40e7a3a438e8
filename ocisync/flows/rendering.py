"""Render what was read: the published directory first, more of the repository if its kustomizations refer to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ocisync.flows.check import Unit
from ocisync.model.errors import Finding, InvalidInput, NotFound
from ocisync.model.limits import PATH_DEPTH
from ocisync.model.tree import Provenance, Rendering, SourceTree, TreeFile
from ocisync.model.values import dataclass
from ocisync.source.worktree import read_worktree

if TYPE_CHECKING:
    from ocisync.render.layout import Layout, RenderOptions

_NO_COMMIT = Provenance("", "", datetime(1970, 1, 1, tzinfo=UTC))


def rendered(
    tree: SourceTree,
    path: Path,
    options: RenderOptions,
    environ: Mapping[str, str],
    read: Callable[[Path], SourceTree],
) -> SourceTree:
    """Render a tree.

    Args:
        tree: of the directory `path`.
        path: to be published.
        options: as asked for.
        environ: PATH is used, nothing else.
        read: reads a directory above `path` in the same way, for kustomizations that refer to it.

    Raises:
        InvalidInput: all findings.
        OcisyncError: a tool is missing or fails.
    """
    from ocisync.render.tree import render, shown

    wide, prefix, layout = _widened(tree, path, options, read)
    findings = shown(layout, prefix)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InvalidInput(f"{findings[0]}{more}", findings=findings)
    if not layout.units:
        return tree
    files, rendering = render(wide.files, prefix, layout, options, environ)
    # What was read decides whether it is as committed: directories above may have changes of their own.
    provenance = replace(wide.provenance, tools=rendering.tools, path=tree.provenance.path)
    return SourceTree(files, provenance, rendering)


def _widened(
    tree: SourceTree, path: Path, options: RenderOptions, read: Callable[[Path], SourceTree]
) -> tuple[SourceTree, str, Layout]:
    from ocisync.render.layout import plan

    directory = path.resolve()
    top, wide, prefix = directory, tree, ""
    layout = plan(tree.files, prefix, options)
    while layout.levels_up and len(prefix.split("/")) < PATH_DEPTH:
        # Building blocks lie `levels_up` above the top of what was read.
        for _ in range(layout.levels_up):
            top = top.parent
        prefix = directory.relative_to(top).as_posix()
        try:
            wide = read(top)
        except NotFound as error:
            message = f"a kustomization refers to {top}, which is in no Git repository"
            raise InvalidInput(message, hint="keep what is published together in one repository") from error
        # Below the published directory its own ignore rules hold, not those of a directory above.
        own = tuple(TreeFile(f"{prefix}/{file.path}", file.data) for file in tree.files)
        around = tuple(file for file in wide.files if not file.path.startswith(f"{prefix}/"))
        wide = replace(wide, files=(*around, *own))
        layout = plan(wide.files, prefix, options)
    return wide, prefix, layout


def units(tree: SourceTree) -> list[Unit]:
    """What is checked by itself: each rendered environment, for they are alternatives; and all other files."""
    rendered_files = {origin.file for origin in tree.rendering.origins} if tree.rendering is not None else set()
    made = [Unit((file,)) for file in tree.files if file.path in rendered_files]
    return [*made, Unit(tuple(file for file in tree.files if file.path not in rendered_files))]


@dataclass(frozen=True, slots=True)
class RenderedUnits:
    """What is to be checked of a directory in a work tree. Paths in `rendering` begin with the prefix."""

    units: tuple[Unit, ...]
    rendering: Rendering


def worktree_units(path: Path, prefix: str, options: RenderOptions, environ: Mapping[str, str]) -> RenderedUnits:
    """Render a directory as it is in the work tree; what stands against it becomes findings of the unit.

    Raises:
        NotFound: no such directory.
        OcisyncError: a tool is missing or does not end.
    """

    def read(directory: Path) -> SourceTree:
        return SourceTree(read_worktree(directory, environ=environ).files, _NO_COMMIT)

    found = read_worktree(path, environ=environ)
    try:
        tree = rendered(SourceTree(found.files, _NO_COMMIT), path, options, environ, read)
    except InvalidInput as error:
        told = error.findings or (Finding(path.as_posix(), 0, 0, error.message),)
        return RenderedUnits((Unit((), prefix=prefix, findings=(*found.findings, *told)),), Rendering(()))
    made = [replace(unit, prefix=prefix) for unit in units(tree)]
    made[-1] = replace(made[-1], findings=found.findings)
    rendering = tree.rendering or Rendering(())
    origins = tuple(replace(item, file=prefix + item.file, source=prefix + item.source) for item in rendering.origins)
    warnings = tuple(replace(item, file=prefix + item.file) for item in rendering.warnings)
    return RenderedUnits(tuple(made), Rendering(rendering.tools, warnings, origins))


def explained(findings: Sequence[Finding], rendering: Rendering | None) -> tuple[Finding, ...]:
    """Say of findings in rendered files what these were made from."""
    if rendering is None:
        return tuple(findings)
    sources: dict[str, list[tuple[int, str]]] = {}
    for origin in rendering.origins:
        sources.setdefault(origin.file, []).append((origin.line, origin.source))
    out = []
    for finding in findings:
        made = [source for line, source in sources.get(finding.file, ()) if line <= max(finding.line, 1)]
        out.append(replace(finding, message=f"{finding.message} (rendered from {made[-1]})") if made else finding)
    return tuple(out)
