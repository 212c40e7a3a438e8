"""Render a tree: what is no plain manifest becomes one, everything else stays.

The files are written to a private directory that is removed in any case, and the tools run there, never in the work
tree. Charts are rendered twice, and refused if the results differ: random passwords and certificates would make a new
artifact of the same commit each time. All findings of all environments are reported together.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ocisync.kit.background import Background
from ocisync.model.errors import Finding, InvalidInput, OcisyncError
from ocisync.model.tree import Origin, Rendering, TreeFile
from ocisync.model.values import dataclass
from ocisync.render import helm, kustomize
from ocisync.render.layout import Layout, Mode, RenderOptions, Unit
from ocisync.render.programs import Ended, Program, find_helm, find_kustomize, run

_WORKERS = 4
_MESSAGE_CHARS = 600


@dataclass(frozen=True, slots=True)
class _Result:
    """What one environment became."""

    files: tuple[TreeFile, ...] = ()
    origins: tuple[Origin, ...] = ()
    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def render(
    files: Sequence[TreeFile], prefix: str, layout: Layout, options: RenderOptions, environ: Mapping[str, str]
) -> tuple[tuple[TreeFile, ...], Rendering]:
    """Carry out a layout without findings; the published files, below `prefix`, and what is to be told about them.

    Raises:
        OcisyncError: a tool is missing.
        Unavailable: a tool did not end in time.
        InvalidInput: the tools' complaints, each at its file.
    """
    with tempfile.TemporaryDirectory(prefix="ocisync-render-") as name:  # 0700
        top, home = Path(name) / "tree", Path(name) / "home"
        home.mkdir()
        _write(top, files)
        programs = _programs(layout, environ, home)
        runner = _Runner(top, home, options, programs, {file.path: file.data for file in files})
        results = _all(runner.render, layout.units)
    errors = _shown((item for result in results for item in result.errors), prefix)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InvalidInput(f"{errors[0]}{more}", findings=errors)
    made = [file for result in results for file in result.files]
    origins = [origin for result in results for origin in result.origins]
    rendering = Rendering(
        tools=tuple(str(program) for program in programs.values()),
        warnings=_shown((item for result in results for item in result.warnings), prefix),
        origins=tuple(
            replace(item, file=_relative(item.file, prefix), source=_relative(item.source, prefix)) for item in origins
        ),
    )
    published = (TreeFile(_relative(file.path, prefix), file.data) for file in (*layout.kept, *made))
    return tuple(sorted(published, key=lambda file: file.path)), rendering


def _all(make: Callable[[Unit], _Result], units: Sequence[Unit]) -> list[_Result]:
    """Some at a time, on threads that do not keep an interrupted process waiting for a tool."""
    results: list[_Result] = []
    errors: list[OcisyncError] = []
    for start in range(0, len(units), _WORKERS):
        running = [Background(partial(make, unit), name="render") for unit in units[start : start + _WORKERS]]
        for one in running:  # all of them: the directory that they work in ends with the first error
            try:
                results.append(one.result())
            except OcisyncError as error:
                errors.append(error)
        if errors:
            raise errors[0]
    return results


def _programs(layout: Layout, environ: Mapping[str, str], home: Path) -> dict[Mode, Program]:
    finders: tuple[tuple[Mode, Callable[[Mapping[str, str], Path], Program]], ...] = (
        (Mode.KUSTOMIZE, find_kustomize),
        (Mode.HELM, find_helm),
    )
    found = {}
    for mode, finder in finders:
        unit = next((unit for unit in layout.units if unit.tool is mode), None)
        if unit is None:
            continue
        try:
            found[mode] = finder(environ, home)
        except OcisyncError as error:
            raise OcisyncError(f"{unit.file}: {error.message}", reason=error.reason, hint=error.hint) from error
    return found


def _write(top: Path, files: Sequence[TreeFile]) -> None:
    top.mkdir()
    for file in files:
        target = top / file.path
        if ".." in file.path.split("/") or not target.is_relative_to(top):
            raise InvalidInput(f"{file.path[:200]!r} is no path inside a tree")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
        except OSError as error:  # a name too long, a full disk
            message = f"cannot be written to be rendered: {error.strerror}"
            finding = Finding(file.path.encode(errors="backslashreplace").decode(), 0, 0, message)
            raise InvalidInput(str(finding), findings=(finding,)) from error


class _Runner:
    def __init__(
        self,
        top: Path,
        home: Path,
        options: RenderOptions,
        programs: Mapping[Mode, Program],
        files: Mapping[str, bytes],
    ) -> None:
        self._top = top
        self._home = home
        self._options = options
        self._programs = programs
        self._files = files

    def render(self, unit: Unit) -> _Result:
        if unit.tool is Mode.KUSTOMIZE:
            ended = self._run(unit, (kustomize.argument(unit),))
            if ended.failure:
                return _Result(errors=(kustomize.complaint(unit, self._plain(ended.failure)),))
            return _result(unit, ended.output, (Origin(unit.output, 1, unit.file),), ())
        return self._chart(unit)

    def _chart(self, unit: Unit) -> _Result:
        arguments = helm.arguments(unit, self._options, self._files)
        ended, again = self._run(unit, arguments), self._run(unit, arguments)
        if ended.failure:
            return _Result(errors=(helm.complaint(unit, self._plain(ended.failure), self._files),))
        if again.output != ended.output:
            return _Result(errors=(helm.difference(unit, ended.output, again.output),))
        text, origins, warnings = helm.without_other_hooks(unit, ended.output)
        return _result(unit, text, origins, (*warnings, *helm.clock_uses(unit, self._files)))

    def _run(self, unit: Unit, arguments: Iterable[str]) -> Ended:
        program = self._programs[unit.tool]
        return run((*program.command, *arguments), self._top, self._home, timeout_s=self._options.timeout_s)

    def _plain(self, text: str) -> str:
        """A tool's complaint without our temporary directory, in one line."""
        text = text.replace(f"{self._top}/", "").replace(str(self._top), ".")
        for folder, shown in ((self._top.parent, ".."), (self._top.parent.parent, "../..")):
            text = text.replace(str(folder), shown) if folder.name else text
        text = re.sub(r"\s+", " ", text).strip().removeprefix("Error: ")
        return text if len(text) <= _MESSAGE_CHARS else text[:_MESSAGE_CHARS] + "…"


def _result(unit: Unit, output: bytes, origins: tuple[Origin, ...], warnings: Sequence[Finding]) -> _Result:
    if not output.strip():
        empty = Finding(unit.file, 0, 0, "renders to nothing")
        return _Result(warnings=(*warnings, empty))
    return _Result((TreeFile(unit.output, output),), origins, (), tuple(warnings))


def _relative(path: str, prefix: str) -> str:
    return posixpath.relpath(path, prefix) if prefix else path


def _shown(findings: Iterable[Finding], prefix: str) -> tuple[Finding, ...]:
    return tuple(replace(finding, file=_relative(finding.file, prefix)) for finding in findings)


def shown(layout: Layout, prefix: str) -> tuple[Finding, ...]:
    """The findings of a layout, with paths as the published directory has them."""
    return _shown(layout.findings, prefix)
