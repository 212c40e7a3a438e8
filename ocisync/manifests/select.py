"""Choose the part of an artifact that one sync applies."""

from __future__ import annotations

from collections.abc import Iterable

from ocisync.model.resource import ManifestObject
from ocisync.model.tree import TreeFile


def under(objects: Iterable[ManifestObject], path: str) -> tuple[ManifestObject, ...]:
    """Objects written in files below `path` (whole path parts), or in the file `path`; all if it is empty or `.`."""
    wanted = _normal(path)
    return tuple(item for item in objects if _is_below(item.file, wanted))


def files_under(files: Iterable[TreeFile], path: str) -> tuple[TreeFile, ...]:
    """The same choice before parsing: what lies elsewhere is neither read nor able to fail."""
    wanted = _normal(path)
    return tuple(file for file in files if _is_below(file.path, wanted))


def _normal(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _is_below(file: str, wanted: str) -> bool:
    return not wanted or file == wanted or file.startswith(wanted + "/")
