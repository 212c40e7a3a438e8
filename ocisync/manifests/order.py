"""What objects ask for by our annotations, judged before an upload: can it be read, and can the order be kept?

Seen here: values that the engine would refuse, keys of ours that it does not know, dependencies on what is not there,
circles. An object without a namespace may end in any: a dependency that names one is taken to mean it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from ocisync.manifests.rules import Rule
from ocisync.model.options import OBJECT_ANNOTATIONS, parse_options
from ocisync.model.resource import ManifestObject, ObjectId
from ocisync.model.spec import API_GROUP, DEPENDS_ON
from ocisync.model.values import dataclass

_PREFIX = f"{API_GROUP}/"
_ANNOTATIONS = ("metadata", "annotations")


@dataclass(frozen=True, slots=True)
class Asked:
    """One problem, at the annotation that has it."""

    item: ManifestObject
    path: tuple[str, ...]
    message: str
    rule: Rule


def problems(objects: Sequence[ManifestObject]) -> Iterator[Asked]:
    """Judge the annotations of a whole set."""
    ids = {item.id for item in objects}
    needs: dict[ObjectId, tuple[ObjectId, ...]] = {}
    by_id: dict[ObjectId, ManifestObject] = {}
    for item in objects:
        annotations = _ours(item)
        if not annotations:
            continue
        yield from _unknown(item, annotations)
        try:
            options = parse_options(annotations)
        except ValueError as error:
            key = next((key for key in annotations if str(error).startswith(f"annotation {key}:")), "")
            yield Asked(item, (*_ANNOTATIONS, key), str(error), Rule.ANNOTATION)
            continue
        found = []
        for wanted in options.depends_on:
            known = _known(wanted, item.id, ids)
            if known is None:
                message = f"depends on {wanted}, which is not here: unless the artifact has it, this is never applied"
                yield Asked(item, (*_ANNOTATIONS, DEPENDS_ON), message, Rule.MISSING_DEPENDENCY)
            else:
                found.append(known)
        needs[item.id], by_id[item.id] = tuple(found), item
    for circle in circles(needs):
        text = " → ".join(str(id_) for id_ in (*circle, circle[0]))
        first = by_id[circle[0]]
        yield Asked(first, (*_ANNOTATIONS, DEPENDS_ON), f"dependency circle: {text}", Rule.DEPENDENCY_CIRCLE)


def circles(needs: Mapping[ObjectId, tuple[ObjectId, ...]]) -> tuple[tuple[ObjectId, ...], ...]:
    """Circles of a graph, each once and from its first object on; at least one of every knot."""
    found: dict[tuple[ObjectId, ...], None] = {}
    finished: set[ObjectId] = set()
    for root in sorted(needs):
        path: list[ObjectId] = []
        pending = [] if root in finished else [(root, iter(sorted(needs[root])))]
        if pending:
            path.append(root)
        while pending:
            id_, rest = pending[-1]
            other = next(rest, None)
            if other is None:
                pending.pop()
                path.pop()
                finished.add(id_)
            elif other in path:
                circle = path[path.index(other) :]
                start = circle.index(min(circle))
                found[(*circle[start:], *circle[:start])] = None
            elif other not in finished:
                path.append(other)
                pending.append((other, iter(sorted(needs.get(other, ())))))
    return tuple(found)


def _ours(item: ManifestObject) -> dict[str, str]:
    """Our annotations; those that are no strings are judged elsewhere."""
    annotations = (item.body.get("metadata") or {}).get("annotations")
    if not isinstance(annotations, dict) or item.id.group == API_GROUP:
        return {}
    return {
        key: value
        for key, value in annotations.items()
        if isinstance(key, str) and key.startswith(_PREFIX) and isinstance(value, str)
    }


def _unknown(item: ManifestObject, annotations: Mapping[str, str]) -> Iterator[Asked]:
    for key in sorted(set(annotations) - OBJECT_ANNOTATIONS):
        close = difflib.get_close_matches(key, sorted(OBJECT_ANNOTATIONS), 1)
        meant = f"; meant is {close[0]}?" if close else ""
        yield Asked(item, (*_ANNOTATIONS, key), f"annotation {key} means nothing{meant}", Rule.UNKNOWN_ANNOTATION)


def _known(wanted: ObjectId, asking: ObjectId, ids: set[ObjectId]) -> ObjectId | None:
    inside = ObjectId(wanted.group, wanted.kind, asking.namespace, wanted.name)
    anywhere = ObjectId(wanted.group, wanted.kind, "", wanted.name)
    candidates = (wanted, anywhere) if wanted.namespace else (wanted, inside)
    return next((id_ for id_ in candidates if id_ in ids), None)
