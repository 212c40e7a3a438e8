"""Choose the part of an artifact that one sync applies."""

from __future__ import annotations

from collections.abc import Iterable

from ocisync.model.resource import ManifestObject


def under(objects: Iterable[ManifestObject], path: str) -> tuple[ManifestObject, ...]:
    """Objects written in files below `path` (whole path parts), or in the file `path`; all if it is empty or `.`."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts:
        return tuple(objects)
    wanted = "/".join(parts)
    return tuple(item for item in objects if item.file == wanted or item.file.startswith(wanted + "/"))
