"""An object as it is and as it would be: whether they differ, and who loses what. Pure."""

from __future__ import annotations

import json

from ocisync.cluster import ownership
from ocisync.cluster.changes import Take
from ocisync.cluster.fields import our_entry, parse_managed_fields, render, topmost, without
from ocisync.cluster.normalise import Desired
from ocisync.model.resource import JsonObject


def shown(obj: JsonObject) -> JsonObject:
    """An object without what the server keeps for itself: the part in which people look for differences."""
    hidden = {"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"}
    metadata = {name: value for name, value in (obj.get("metadata") or {}).items() if name not in hidden}
    return {**{name: value for name, value in obj.items() if name != "status"}, "metadata": metadata}


def essence(obj: JsonObject) -> tuple[JsonObject, list[tuple[object, ...]]]:
    """What an apply changes of an object: its fields, and who owns them."""
    owners = sorted(
        (entry.manager, entry.operation, entry.api_version, entry.subresource, json.dumps(entry.fields, sort_keys=True))
        for entry in parse_managed_fields(obj)
        if entry.subresource != "status"
    )
    return shown(obj), list(owners)


def after_transfer(before: JsonObject, after: JsonObject, one: Desired) -> JsonObject:
    """The answer of a dry run, and what goes because it was written by `kubectl apply` and Git does not have it."""
    patch = ownership.take_over_patch(before, leave=one.left)
    if patch is None:
        return after
    merged = parse_managed_fields({"metadata": {"managedFields": patch[-1]["value"]}})
    ours = our_entry(merged)
    kept_ours = our_entry(parse_managed_fields(after))
    if ours is None or kept_ours is None:
        return after
    stays = kept_ours.paths().union(*(entry.paths() for entry in merged if not entry.ours))
    stays |= {path[:length] for path in stays for length in range(1, len(path))}
    gone = topmost(ours.paths() - stays)
    result = without(after, gone)
    names = {(entry.manager, entry.operation, entry.subresource) for entry in merged}
    metadata = result["metadata"]
    metadata["managedFields"] = [
        entry
        for entry in metadata.get("managedFields") or ()
        if (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") in names
    ]
    return result


def takes_of(before: JsonObject, after: JsonObject) -> tuple[Take, ...]:
    """Which managers lose which fields."""
    left: dict[tuple[str, str, str], frozenset[tuple[str, ...]]] = {
        (entry.manager, entry.operation, entry.subresource): entry.paths() for entry in parse_managed_fields(after)
    }
    found = []
    for entry in parse_managed_fields(before):
        if entry.ours or entry.subresource == "status":
            continue
        lost = entry.paths() - left.get((entry.manager, entry.operation, entry.subresource), frozenset())
        structures = {path[:length] for path in lost for length in range(1, len(path))}
        if lost:
            found.append(Take(entry.manager, tuple(sorted(render(path) for path in lost - structures))))
    return tuple(found)
