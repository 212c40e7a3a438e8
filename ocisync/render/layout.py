"""Which directories of a tree are rendered, by which tool, and what becomes of the other files. Pure.

A directory with `kustomization.yaml` is an environment unless another kustomization below the published directory
refers to it (then it is a building block) or it is a component. A directory with `Chart.yaml` is a chart, unless it
lies in another chart's `charts/`. Each environment becomes one file, `manifests.yaml`, in its own directory; a chart
with `envs/NAME/values.yaml` becomes one for each name, `NAME/manifests.yaml`.

A file belongs to the nearest directory above it that is rendered or is a building block; such files are input and are
not published. All other files stay as they are, except files that only hold values.

Refused, all findings at once: what would need a network or another program (remote resources, inflated charts), what
refers to files that are not in the commit, two tools for one directory, and a directory whose tool was not asked for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import field
from enum import StrEnum

from ocisync.kit.yamlio import Path, Places, parse_documents
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
CHART = "Chart.yaml"
OUTPUT = "manifests.yaml"
_ENVIRONMENTS = "envs"
_VALUES = "values.yaml"
# Fields of a kustomization whose entries may be directories; the others name files below it.
_DIRECTORY_FIELDS = ("resources", "bases", "components", "generators", "transformers", "validators")
_CHART_FIELDS = ("helmCharts", "helmChartInflationGenerator")


class Mode(StrEnum):
    """What `--render` asks for."""

    NONE = "none"
    KUSTOMIZE = "kustomize"
    HELM = "helm"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How to render.

    Attributes:
        values: files with values for every chart, after the chart's own; paths inside the published directory.
        release: of every chart; the chart's name if empty.
        namespace: of every release.
        kubernetes_version: what charts are told; a constant if empty, never what the helm binary would say.
        api_versions: what charts are told that the cluster serves besides.
        timeout_s: for each run of a tool.
    """

    mode: str = Mode.AUTO
    values: tuple[str, ...] = ()
    release: str = ""
    namespace: str = "default"
    kubernetes_version: str = ""
    api_versions: tuple[str, ...] = ()
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Unit:
    """One environment.

    Attributes:
        directory: to be rendered; paths are inside the whole tree, "" is its top.
        output: path of the result.
        values: files with values, in order; charts only.
    """

    tool: Mode
    directory: str
    output: str
    values: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """What messages about it name."""
        return _join(self.directory, CHART if self.tool is Mode.HELM else KUSTOMIZATIONS[0])


@dataclass(frozen=True, slots=True)
class Layout:
    """What to do with a tree. `levels_up`: so many directories above the tree are needed to read it whole."""

    units: tuple[Unit, ...]
    kept: tuple[TreeFile, ...]
    findings: tuple[Finding, ...]
    levels_up: int = 0


@dataclass(slots=True)
class _Kustomization:
    file: TreeFile
    directory: str
    is_component: bool = False
    references: list[str] = field(default_factory=list)  # directories, normalised; may begin with `../`


def plan(files: Sequence[TreeFile], prefix: str, options: RenderOptions) -> Layout:
    """Decide what to render.

    Args:
        files: everything that kustomizations may refer to.
        prefix: the published directory in it; "" if it is all of it.
        options: as asked for.
    """
    return _Planner(files, prefix, options).plan()


class _Planner:
    def __init__(self, files: Sequence[TreeFile], prefix: str, options: RenderOptions) -> None:
        self._files = files
        self._prefix = prefix
        self._options = options
        self._mode = Mode(options.mode)
        self._paths = {file.path for file in files}
        self._directories = {parent for file in files for parent in _parents(file.path)} | {""}
        self._findings: list[Finding] = []
        self._up = 0
        self._kustomizations = {
            _folder(file.path): _Kustomization(file, _folder(file.path))
            for file in files
            if _name(file.path) in KUSTOMIZATIONS and not _is_hidden(file.path)
        }
        charts = {_folder(file.path) for file in files if _name(file.path) == CHART and not _is_hidden(file.path)}
        self._charts = {chart for chart in charts if not _is_dependency(chart, charts)}
        self._dependencies = charts - self._charts

    def plan(self) -> Layout:
        kustomizations = [item for item in self._kustomizations.values() if self._is_published(item.directory)]
        charts = sorted(chart for chart in self._charts if self._is_published(chart))
        self._check_mode(kustomizations, charts)
        units: list[Unit] = []
        if self._mode is not Mode.HELM:
            units += self._environments(kustomizations)
        if self._mode is not Mode.KUSTOMIZE:
            units += [unit for chart in charts for unit in self._releases(chart)]
        units.sort(key=lambda unit: unit.output)
        self._check_outputs(units)
        if not units and not self._findings and self._mode is not Mode.AUTO:
            name = CHART if self._mode is Mode.HELM else KUSTOMIZATIONS[0]
            self._note(self._prefix or ".", f"nothing to render: no {name} here or below")
        outputs = {unit.output for unit in units}
        owners = {item.directory for item in kustomizations} | set(charts) | self._dependencies
        values = {_join(self._prefix, name) for name in self._options.values}
        kept = []
        for file in self._files:
            if not self._is_published(_folder(file.path)) or file.path in values or self._owner(file.path, owners):
                continue
            if file.path in outputs:
                self._note(file.path, "this is where a rendered environment goes: rename the file")
            kept.append(file)
        return Layout(tuple(units), tuple(kept), tuple(self._findings), self._up)

    def _check_mode(self, kustomizations: Sequence[_Kustomization], charts: Sequence[str]) -> None:
        for item in kustomizations:
            if self._mode is Mode.HELM:
                self._note(item.file.path, "a kustomization: use --render auto (or kustomize)")
            elif self._mode is Mode.AUTO and item.directory in self._charts:
                self._note(item.file.path, f"beside {CHART}: name the tool with --render kustomize or --render helm")
        for chart in charts:
            if self._mode is Mode.KUSTOMIZE and chart not in self._kustomizations:
                self._note(_join(chart, CHART), "a chart: use --render auto (or helm)")
        for name in self._options.values:
            if _join(self._prefix, name) not in self._paths:
                self._note(name, "no such file with values in this commit, below the published directory")

    def _check_outputs(self, units: Sequence[Unit]) -> None:
        seen: dict[str, Unit] = {}
        for unit in units:
            other = seen.setdefault(unit.output, unit)
            if other is not unit:
                self._note(unit.file, f"renders to {unit.output}, as {other.file} does")

    # Kustomize ------------------------------------------------------------------------------------------------

    def _environments(self, published: Sequence[_Kustomization]) -> Iterator[Unit]:
        pending, seen, used = list(published), {item.directory for item in published}, set[str]()
        inside = set(seen)
        while pending:
            item = pending.pop()
            self._read(item)
            for reference in item.references:
                if item.directory in inside and reference != item.directory:
                    used.add(reference)
                below = self._kustomizations.get(reference)
                if below is not None and reference not in seen:
                    seen.add(reference)
                    pending.append(below)
        roots = [item for item in published if item.directory not in used and not item.is_component]
        for item in roots:
            yield Unit(Mode.KUSTOMIZE, item.directory, _join(item.directory, OUTPUT))
        if published and not roots and not self._findings and not self._up:
            self._note(published[0].file.path, "every kustomization here is a component or part of another one")

    def _read(self, item: _Kustomization) -> None:
        try:
            documents = parse_documents(item.file.data, item.file.path)
        except InvalidInput as error:
            self._findings.extend(error.findings)
            return
        value = documents[0].value if documents else None
        if not isinstance(value, dict):
            return  # kustomize says it better
        item.is_component = value.get("kind") == "Component"
        for name in _CHART_FIELDS:
            if value.get(name):
                message = f"{name}: kustomize would fetch and run helm; commit the chart and use --render auto"
                self._note_at(item.file, (name,), message)
        for name in _DIRECTORY_FIELDS:
            entries = value.get(name)
            for index, entry in enumerate(entries if isinstance(entries, list) else ()):
                if isinstance(entry, str) and "\n" not in entry:
                    self._reference(item, (name, index), entry)

    def _reference(self, item: _Kustomization, path: Path, entry: str) -> None:
        target = posixpath.normpath(posixpath.join(item.directory, entry))
        target = "" if target == "." else target
        if "://" in entry or posixpath.isabs(entry):
            self._note_at(item.file, path, f"{entry[:200]!r} is not in this commit: rendering uses no network")
        elif target.startswith("../") or target == "..":
            self._up = max(self._up, target.split("/").count(".."))
        elif target in self._directories:
            item.references.append(target)
        elif target not in self._paths:
            message = f"{entry[:200]!r} is no file or directory of this commit: commit it (rendering uses no network)"
            self._note_at(item.file, path, message)

    # Helm -----------------------------------------------------------------------------------------------------

    def _releases(self, chart: str) -> Iterator[Unit]:
        extra = tuple(_join(self._prefix, name) for name in self._options.values)
        start = _join(chart, _ENVIRONMENTS) + "/"
        names = sorted(
            _folder(path).removeprefix(start)
            for path in self._paths
            if path.startswith(start) and _name(path) == _VALUES and _folder(path).count("/") == start.count("/")
        )
        for name in names:
            own = _join(start.rstrip("/"), f"{name}/{_VALUES}")
            yield Unit(Mode.HELM, chart, _join(chart, f"{name}/{OUTPUT}"), (own, *extra))
        if not names:
            yield Unit(Mode.HELM, chart, _join(chart, OUTPUT), extra)

    # ----------------------------------------------------------------------------------------------------------

    def _is_published(self, directory: str) -> bool:
        return not self._prefix or directory == self._prefix or directory.startswith(self._prefix + "/")

    def _owner(self, path: str, owners: set[str]) -> bool:
        return "" in owners or any(parent in owners for parent in _parents(path))

    def _note(self, path: str, message: str) -> None:
        self._findings.append(Finding(path, 0, 0, message))

    def _note_at(self, file: TreeFile, path: Path, message: str) -> None:
        line, column = Places(file.data).find(0, path)
        self._findings.append(Finding(file.path, line, column, message))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _parents(path: str) -> Iterator[str]:
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _is_dependency(chart: str, charts: set[str]) -> bool:
    return any(chart.startswith(_join(other, "charts") + "/") for other in charts)
