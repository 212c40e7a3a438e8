"""Files become objects that know their `file:line`.

Manifests are `*.yaml`, `*.yml` and `*.json`; anything with a dot part in its path is not (`.github/`, `.sops.yaml`).
Every document of a manifest must be one Kubernetes object; empty documents are passed over, kinds ending in `List`
are replaced by their items. A directory with `kustomization.yaml` or `Chart.yaml` needs rendering first: that is a
finding, and nothing below it is read.

`read_tree` returns what it could read together with all findings; `parse_tree` raises if there are any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ocisync.kit.yamlio import Document, Path, Places, parse_documents
from ocisync.manifests.rules import Rule
from ocisync.model import limits
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.resource import ManifestObject, gvk_of, id_of
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass

_EXTENSIONS = (".yaml", ".yml", ".json")
_RENDERED = {
    "kustomization.yaml": "kustomize build",
    "kustomization.yml": "kustomize build",
    "Kustomization": "kustomize build",
    "Chart.yaml": "helm template",
    "Chart.yml": "helm template",
}
_MAX_LIST_DEPTH = 3


@dataclass(frozen=True, slots=True)
class ParsedTree:
    """Objects in file order, and every problem found on the way."""

    objects: tuple[ManifestObject, ...]
    findings: tuple[Finding, ...]


def is_manifest(path: str) -> bool:
    """Tell whether a file of a tree is read as Kubernetes objects."""
    return path.endswith(_EXTENSIONS) and not _hidden(path)


def needs_rendering(path: str) -> bool:
    """Tell whether a file of a tree tells kustomize or helm what to make of the files beside it."""
    return path.rpartition("/")[2] in _RENDERED and not _hidden(path)


def _hidden(path: str) -> bool:
    """Whether some part begins with a dot."""
    return path.startswith(".") or "/." in path


def parse_tree(files: Sequence[TreeFile], *, lenient: bool = False) -> tuple[ManifestObject, ...]:
    """The objects of a tree.

    Args:
        files: of an artifact or a source; paths decide what is a manifest.
        lenient: pass over a `kustomization.yaml` or `Chart.yaml`, as an artifact made by another tool may hold it,
            instead of refusing the directory.

    Raises:
        InvalidInput: with all findings.
    """
    parsed = read_tree(files, lenient=lenient)
    if parsed.findings:
        raise_findings(parsed.findings)
    return parsed.objects


def raise_findings(findings: Sequence[Finding], *, hint: str = "") -> None:
    """Raise all findings as one error.

    Raises:
        InvalidInput: always, if there is any finding.
    """
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InvalidInput(f"{findings[0]}{more}", findings=tuple(findings), hint=hint)


def read_tree(files: Sequence[TreeFile], *, lenient: bool = False) -> ParsedTree:
    """The objects of a tree and all findings. Arguments as for `parse_tree`."""
    findings: list[Finding] = []
    unrendered: list[str] = []
    for file in files if not lenient else ():
        folder, _, name = file.path.rpartition("/")
        tool = _RENDERED.get(name)
        if tool and not _hidden(file.path):
            unrendered.append(folder + "/" if folder else "")
            message = f"this directory must be rendered first: push it with --render auto, or push what `{tool}` prints"
            findings.append(Finding(file.path, 0, 0, message, Rule.UNRENDERED))
    objects: list[ManifestObject] = []
    for file in files:
        if not is_manifest(file.path) or any(file.path.startswith(folder) for folder in unrendered):
            continue
        if lenient and file.path.rpartition("/")[2] in _RENDERED:
            continue
        objects.extend(_read_file(file, findings))
        if len(objects) > limits.OBJECTS_COUNT:
            message = f"more than {limits.OBJECTS_COUNT} objects in one artifact"
            findings.append(Finding(file.path, 0, 0, message, Rule.OBJECT_COUNT))
            break
    return ParsedTree(tuple(objects), tuple(findings))


def _read_file(file: TreeFile, findings: list[Finding]) -> Iterator[ManifestObject]:
    try:
        documents = parse_documents(file.data, file.path)
    except InvalidInput as err:
        findings.extend(replace(finding, rule=finding.rule or Rule.YAML) for finding in err.findings)
        return
    places = FilePlaces(file)
    for document in documents:
        if document.value is not None:
            yield from _objects(document, document.value, (), places, findings)


class FilePlaces:
    """Places in one file, computed when first asked for."""

    def __init__(self, file: TreeFile) -> None:
        self.path = file.path
        self._data = file.data
        self._places: Places | None = None

    def find(self, index: int, path: Path) -> tuple[int, int]:
        """Line and column of a value in a document."""
        return self._known().find(index, path)

    def find_at(self, line: int, path: Path) -> tuple[int, int]:
        """Line and column of a value in the object that starts in `line`."""
        return self._known().find_at(line, path)

    def _known(self) -> Places:
        if self._places is None:
            self._places = Places(self._data)
        return self._places

    def finding(self, document: Document, path: Path, message: str) -> Finding:
        """A finding at a value of a document."""
        line, column = self.find(document.index, path)
        return Finding(self.path, line or document.line, column or document.column, message, Rule.OBJECT_SHAPE)


def _objects(
    document: Document, value: Any, path: Path, places: FilePlaces, findings: list[Finding]
) -> Iterator[ManifestObject]:
    if isinstance(value, dict) and _is_list(value):
        if len(path) >= 2 * _MAX_LIST_DEPTH:
            # Taken for an object, a list would hide what it holds (Secrets, too) from every check.
            findings.append(places.finding(document, path, f"lists in lists, deeper than {_MAX_LIST_DEPTH} levels"))
            return
        for index, item in enumerate(value["items"]):
            yield from _objects(document, item, (*path, "items", index), places, findings)
        return
    problem, where = shape_problem(value)
    if problem:
        findings.append(places.finding(document, (*path, *where), problem))
        return
    line = places.find(document.index, path)[0] if path else document.line
    yield ManifestObject(id_of(value), gvk_of(value), value, places.path, line or document.line)


def _is_list(value: dict[str, Any]) -> bool:
    return str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list)


def shape_problem(value: Any) -> tuple[str, Path]:
    """Say why a value is no Kubernetes object with a name, and where in it; two empty values if it is one."""
    if not isinstance(value, dict):
        return "not a Kubernetes object: expected a mapping with apiVersion, kind and metadata", ()
    if "apiVersion" not in value and "kind" not in value:
        return "no apiVersion and no kind: not a Kubernetes object; if it is none, list it in .ocisyncignore", ()
    for key in ("apiVersion", "kind"):
        if key not in value or value[key] in (None, ""):
            return f"no {key}", ()
        if not isinstance(value[key], str):
            return f"{key} must be a string", (key,)
    if value["kind"] == "Config" and "clusters" in value and "users" in value:
        return "a kubeconfig: it holds credentials and is no manifest; remove it", ()
    if "metadata" not in value:
        return "no metadata", ()
    metadata = value["metadata"]
    if not isinstance(metadata, dict):
        return "metadata must be a mapping", ("metadata",)
    if metadata.get("name") in (None, ""):
        if metadata.get("generateName"):
            return "generateName makes a new object at each apply: give it a name", ("metadata", "generateName")
        return "no metadata.name", ("metadata",)
    for key in ("name", "namespace"):
        if not isinstance(metadata.get(key, ""), str) and metadata.get(key) is not None:
            return f"metadata.{key} must be a string: put it in quotes", ("metadata", key)
    return "", ()
