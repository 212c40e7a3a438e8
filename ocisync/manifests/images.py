"""Image fields of manifests: found in pod templates and wherever a person says, and exchanged in the text.

Pod templates are known by shape, whatever the kind: `spec`, `template.spec`, `spec.template.spec` and
`spec.jobTemplate.spec.template.spec` with a list of containers, so that rollouts and the like of other groups count
too. In them: containers, init containers, ephemeral containers, and volumes that are images. Other fields are named as
`KIND.GROUP=/JSON/POINTER`, where `*` stands for every item or key.

Text is changed at the scalars alone; then the file is read again, and must differ in these values and in nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ocisync.kit.yamlio import Document, Path, Places, parse_documents
from ocisync.manifests.parse import is_manifest
from ocisync.model.errors import Finding, InvalidInput
from ocisync.model.image import ImagePath
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass

_POD_SPECS: tuple[Path, ...] = (
    ("spec",),
    ("template", "spec"),
    ("spec", "template", "spec"),
    ("spec", "jobTemplate", "spec", "template", "spec"),
)
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_MAX_LIST_DEPTH = 3


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One image field: the document of the file and the path in it."""

    file: str
    index: int
    path: Path
    image: str
    line: int
    column: int

    def finding(self, message: str) -> Finding:
        """A finding at this field."""
        return Finding(self.file, self.line, self.column, message)


@dataclass(frozen=True, slots=True)
class FoundImages:
    """All image fields of a tree. `unused` are paths that no object has."""

    uses: tuple[ImageUse, ...]
    findings: tuple[Finding, ...]
    unused: tuple[ImagePath, ...] = ()


def find_images(files: Sequence[TreeFile], paths: Sequence[ImagePath] = ()) -> FoundImages:
    """All image fields of all manifests.

    Raises:
        InvalidInput: a file cannot be read.
    """
    uses: list[ImageUse] = []
    findings: list[Finding] = []
    used: set[ImagePath] = set()
    for file in files:
        if not is_manifest(file.path):
            continue
        places: Places | None = None
        for document in parse_documents(file.data, file.path):
            for path, value, rule in _fields(document, paths):
                if rule is not None:
                    used.add(rule)
                if value in (None, ""):
                    continue
                places = places or Places(file.data)
                line, column = places.find(document.index, path)
                if isinstance(value, str):
                    uses.append(ImageUse(file.path, document.index, path, value, line, column))
                elif rule is not None:
                    findings.append(Finding(file.path, line, column, f"{rule} leads to no string"))
    unused = tuple(rule for rule in paths if rule not in used)
    unique = {(use.file, use.index, use.path): use for use in uses}
    return FoundImages(tuple(unique.values()), tuple(findings), unused)


def pod_images(body: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The image fields of one object's pod template, and what is in them."""
    if "spec" not in body and "template" not in body:
        return  # most objects, and every push looks at all
    for start in _POD_SPECS:
        spec = _at(body, start)
        if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list):
            continue
        for name in _CONTAINERS:
            items = spec.get(name)
            for index, item in enumerate(items if isinstance(items, list) else ()):
                if isinstance(item, dict) and "image" in item:
                    yield (*start, name, index, "image"), item["image"]
        volumes = spec.get("volumes")
        for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
            reference = _at(volume, ("image", "reference"))
            if reference is not None:
                yield (*start, "volumes", index, "image", "reference"), reference


def _fields(document: Document, paths: Sequence[ImagePath]) -> Iterator[tuple[Path, Any, ImagePath | None]]:
    for start, body in _objects(document.value, ()):
        for path, value in pod_images(body):
            yield (*start, *path), value, None
        group = str(body.get("apiVersion", "")).rpartition("/")[0]
        for rule in paths:
            if (rule.kind, rule.group) == (body.get("kind"), group):
                for path, value in path_values(body, rule.parts, ()):
                    yield (*start, *path), value, rule


def _objects(value: Any, start: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if not isinstance(value, dict):
        return
    items = value.get("items")
    if str(value.get("kind", "")).endswith("List") and isinstance(items, list) and len(start) < 2 * _MAX_LIST_DEPTH:
        for index, item in enumerate(items):
            yield from _objects(item, (*start, "items", index))
        return
    yield start, value


def path_values(value: Any, parts: Sequence[str], done: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What is at a pointer whose `*` stands for every item or key, and where; nothing if there is nothing."""
    if not parts:
        yield done, value
        return
    part, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        for key in value if part == "*" else (part,):
            if key in value:
                yield from path_values(value[key], rest, (*done, key))
    elif isinstance(value, list):
        wanted = range(len(value)) if part == "*" else [int(part)] if part.isascii() and part.isdigit() else []
        for index in wanted:
            if index < len(value):
                yield from path_values(value[index], rest, (*done, index))


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


# Writing ----------------------------------------------------------------------------------------------------------


def with_images(files: Sequence[TreeFile], uses: Sequence[ImageUse], images: Mapping[str, str]) -> tuple[TreeFile, ...]:
    """Exchange images in the text of manifests; every other byte stays.

    Args:
        files: of the tree.
        uses: the fields, as found in these files.
        images: new values by old value; fields whose value is not in it stay.

    Raises:
        InvalidInput: a field cannot be changed alone, for example because an anchor shares it with other fields.
    """
    wanted: dict[str, list[ImageUse]] = {}
    for use in uses:
        if images.get(use.image, use.image) != use.image:
            wanted.setdefault(use.file, []).append(use)
    findings: list[Finding] = []
    out = []
    for file in files:
        here = wanted.get(file.path)
        out.append(TreeFile(file.path, _changed(file, here, images, findings)) if here else file)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InvalidInput(f"{findings[0]}{more}", findings=tuple(findings))
    return tuple(out)


def _changed(file: TreeFile, uses: Sequence[ImageUse], images: Mapping[str, str], findings: list[Finding]) -> bytes:
    from ocisync.kit.yamlspans import Span, Spans, exchanged  # each push reads this module, few change a file

    spans = Spans(file.data)
    edits: list[tuple[Span, str]] = []
    expected = [copy.deepcopy(document.value) for document in parse_documents(file.data, file.path)]
    for use in uses:
        span = spans.find(use.index, use.path)
        if span is None:
            findings.append(use.finding("this image is not written on one line: it cannot be pinned in place"))
            continue
        edits.append((span, images[use.image]))
        _set(expected[use.index], use.path, images[use.image])
    if len(edits) < len(uses):
        return file.data
    data = exchanged(spans, edits)
    try:
        found = [document.value for document in parse_documents(data, file.path)]
    except InvalidInput:
        found = []
    if repr(found) != repr(expected):  # repr also tells 1 from true
        message = "this image shares its text with other fields (an anchor?): write it out, then it can be pinned"
        findings.extend(use.finding(message) for use in uses)
    return data


def _set(value: Any, path: Path, new: str) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = new
