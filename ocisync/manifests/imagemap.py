"""Images where a site has them: an artifact's objects with the names that a sync's image map gives.

The artifact stays what was signed. Its objects are rewritten after it was judged and parsed, before anything is made
of them: what is planned, applied, watched and healed is the rewritten object. Looked at are the image fields of pod
templates, whatever the kind, and the fields that the map's paths lead to. Everything else of an object stays; objects
that nothing changes in are passed on as they are.

An image that the map moves, and whose text stands in the artifact's own lock (see `manifests.lock`), gets the lock's
digest: a mirror has what was locked, and not what a tag led to at some time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ocisync.kit.yamlio import Path
from ocisync.manifests.images import path_values, pod_images
from ocisync.manifests.lock import digests, lock_of, locked_images
from ocisync.model.errors import Finding
from ocisync.model.image import ImageMap, ImagePath
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId
from ocisync.model.tree import TreeFile
from ocisync.model.values import dataclass

_NO_STRING = "leads to no text in"


@dataclass(frozen=True, slots=True)
class ImageChange:
    """One field that the map changed: in which object (and where that is written), its path, both values."""

    id: ObjectId
    place: str
    path: Path
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Objects as they are to be applied, what the map changed in them, and what is odd about its paths."""

    objects: tuple[ManifestObject, ...]
    changes: tuple[ImageChange, ...] = ()
    notes: tuple[str, ...] = ()


def rewrite(objects: Sequence[ManifestObject], images: ImageMap, files: Iterable[TreeFile] = ()) -> Rewritten:
    """Give images the names of the map. Neither the objects nor anything in them is changed in place.

    Args:
        objects: of the artifact.
        images: the map.
        files: of the artifact, for the lock among them.
    """
    if not images:
        return Rewritten(tuple(objects))
    out: list[ManifestObject] = []
    changes: list[ImageChange] = []
    problems: list[Finding] = []
    lock = lock_of(files)
    locked = digests(locked_images(lock, problems)) if lock is not None else {}
    notes = [str(problem) for problem in problems]
    used: set[ImagePath] = set()
    for obj in objects:
        wanted: dict[Path, str] = {}
        for path, value, rule in _fields(obj, images.paths):
            if rule is not None:
                used.add(rule)
            if isinstance(value, str):
                new = images.moved(value)
                if new != value and value in locked and "@" not in value:
                    new = f"{new}@{locked[value]}"
                if new != value and path not in wanted:
                    wanted[path] = new
                    changes.append(ImageChange(obj.id, obj.place, path, value, new))
            elif rule is not None and value is not None:
                notes.append(f"image path {rule} {_NO_STRING} {obj.id} ({obj.place})")
        out.append(replace(obj, body=_with(obj.body, wanted)) if wanted else obj)
    notes += [f"image path {rule} leads to nothing in these objects" for rule in images.paths if rule not in used]
    return Rewritten(tuple(out), tuple(changes), tuple(notes))


def _fields(obj: ManifestObject, paths: Sequence[ImagePath]) -> Iterator[tuple[Path, Any, ImagePath | None]]:
    for path, value in pod_images(obj.body):
        yield path, value, None
    for rule in paths:
        if (rule.kind, rule.group) == (obj.gvk.kind, obj.gvk.group):
            for path, value in path_values(obj.body, rule.parts):
                yield path, value, rule


def _with(body: JsonObject, values: dict[Path, str]) -> JsonObject:
    """A body with other values at some paths; shares with the given one whatever is not on the way to them."""
    own: dict[Path, Any] = {(): dict(body)}
    for path, value in values.items():
        for end in range(1, len(path)):
            here = path[:end]
            if here not in own:
                parent = own[here[:-1]]
                own[here] = parent[here[-1]] = parent[here[-1]].copy()
        own[path[:-1]][path[-1]] = value
    result: JsonObject = own[()]
    return result
