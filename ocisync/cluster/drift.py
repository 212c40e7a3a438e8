"""Drift, decided purely: is this object still as our last apply left it, and if not, who changed what, and when?

The rule, in this order, for an event that comes after an apply:

 1. DELETED                                → look once (GET): gone or another uid: deleted; same uid: label removed
 2. another uid                            → replaced
 3. resourceVersion ≤ ours                 → ignore (old news, or our own write)
 4. deletionTimestamp                      → wait for the end
    our `part-of` label names someone else → claimed: never forced
 5. our owned paths differ                 → drift
 6. our entry's time differs               → drift (someone applied under our name)
 7. a generation exists and moved          → suspect
 8. no generation, and entries other than ours and those of the status subresource changed → suspect
 9. otherwise                              → ignore

A suspect is settled by one no-op apply: an unchanged resourceVersion means clean. Events that arrive while a PATCH of
ours is in flight are judged after its answer; the caller holds them back.

Attribution never invents: the manager is the current holder of a lost path; if nobody holds it, the field was removed
by someone who left no trace, and the report lists candidates. The time is that of the holder's entry, else the time at
which the change was seen, and the report says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ocisync.cluster.fields import (
    PART_OF_PATH,
    ManagerEntry,
    Path,
    holders,
    is_under,
    lookup,
    lookup_index,
    lost_paths,
    our_entry,
    render,
    topmost,
)
from ocisync.cluster.leave import left_to_others
from ocisync.cluster.memory import NO_GENERATION, Applied, Seen, glimpse_of, seen_of, version_of
from ocisync.cluster.values import ABSENT, same_value, shown
from ocisync.model.clock import format_rfc3339
from ocisync.model.resource import JsonObject, ObjectId, labels_of
from ocisync.model.spec import FIELD_MANAGER, PART_OF_LABEL, DriftMode

# Parts of Kubernetes itself: what they fill in under /spec (a volume name, a node name) is how it works.
_SYSTEM_MANAGERS: Final = frozenset(
    {"kube-controller-manager", "kube-scheduler", "kube-apiserver", "kubelet", "cloud-controller-manager"}
)
_MAX_CANDIDATES: Final = 3
_MAX_FIELDS: Final = 20
_FIELDS_SHOWN: Final = 5


class Verdict(StrEnum):
    """What one event means for an object that we own."""

    IGNORE = "Ignore"
    DRIFT = "Drift"
    SUSPECT = "Suspect"
    LOOK = "Look"
    DELETED = "Deleted"
    LABEL_REMOVED = "LabelRemoved"
    REPLACED = "Replaced"
    TERMINATING = "Terminating"
    CLAIMED = "Claimed"


class DriftKind(StrEnum):
    """What a report is about."""

    MODIFIED = "Modified"
    DELETED = "Deleted"
    REPLACED = "Replaced"
    LABEL_REMOVED = "LabelRemoved"
    CLAIMED = "Claimed"
    UNMANAGED = "UnmanagedChange"
    FIGHT = "DriftFight"


class TimeSource(StrEnum):
    """Where the time of a report comes from."""

    ENTRY = "Entry"  # the manager's own entry in managedFields
    DELETION = "Deletion"  # metadata.deletionTimestamp
    SEEN = "Seen"  # nothing recorded it: when we saw it


class Action(StrEnum):
    """What was done about it."""

    CORRECTED = "Corrected"
    REPORTED = "Reported"
    FAILED = "Failed"
    DELAYED = "Delayed"
    ENDED = "Ended"  # what was reported and not corrected is over


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One changed field with its values as they may be shown (Secret data masked); `new` is `(absent)` if removed."""

    path: str
    old: str
    new: str
    manager: str = ""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who and when, as far as the object tells.

    Attributes:
        manager: empty if no one can be named.
        candidates: other managers of the object that could have removed a field, latest first.
    """

    manager: str
    operation: str
    subresource: str
    time: str
    time_source: TimeSource
    candidates: tuple[str, ...] = ()

    def who(self) -> str:
        """A phrase for messages: `by kubectl-edit`, `by kubectl (scale)`, `by unknown; candidates: a, b`."""
        if not self.manager:
            tail = f"; candidates: {', '.join(self.candidates)}" if self.candidates else ""
            return f"by unknown{tail}"
        return f"by {self.manager}" + (f" ({self.subresource})" if self.subresource else "")

    def when(self) -> str:
        """A phrase for messages, which says where the time comes from."""
        return f"seen at {self.time}" if self.time_source is TimeSource.SEEN else f"at {self.time}"


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One thing that someone did to an object of ours, ready to be logged, counted, kept and sent as an Event.

    Attributes:
        mode: the sync's `drift.mode` at that time.
        place: `file:line` of the object in the artifact.
        seen_at: when we saw it; `attribution.time` is when it happened, if anything recorded that.
        done_at: when it was corrected, after `latency_s` seconds by a clock that never goes back; None if it was not.
    """

    kind: DriftKind
    sync_id: str
    object: ObjectId
    fields: tuple[FieldChange, ...]
    attribution: Attribution
    action: Action
    message: str
    mode: DriftMode = DriftMode.CORRECT
    place: str = ""
    seen_at: datetime | None = None
    done_at: datetime | None = None
    latency_s: float | None = None

    @property
    def paths(self) -> str:
        """The changed fields in one line."""
        return ", ".join(change.path for change in self.fields)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its evidence.

    Attributes:
        lost: topmost owned paths that we own no longer (ignored ones left out).
        released: lost paths that are left to others: an autoscaler's replicas and `spec.ignore`.
        ours_reapplied: our entry was rewritten by someone who applies under our name.
        claimant: the foreign value of the `part-of` label.
    """

    verdict: Verdict
    seen: Seen | None = None
    lost: tuple[Path, ...] = ()
    released: tuple[Path, ...] = ()
    ours_reapplied: bool = False
    cleared: bool = False
    claimant: str = ""


def judge(
    applied: Applied,
    event_type: str,
    obj: Mapping[str, Any],
    *,
    sync_id: str,
    ignored: Sequence[str] = (),
    desired: JsonObject | None = None,
) -> Judgement:
    """Judge one watch event by the rule above.

    Args:
        applied: what our last apply left behind.
        event_type: ADDED, MODIFIED or DELETED.
        obj: the object, whole or as metadata.
        sync_id: the ApplySet id that our label carries.
        ignored: JSON pointers left to others.
        desired: only needed for pointers that name list items by index.
    """
    if event_type == "DELETED":
        return Judgement(Verdict.LOOK)
    if version_of(obj) <= applied.resource_version:
        seen = glimpse_of(obj)
        return Judgement(Verdict.REPLACED if seen.uid != applied.uid else Verdict.IGNORE, seen)
    seen = seen_of(obj)
    if seen.uid != applied.uid:
        return Judgement(Verdict.REPLACED, seen)
    return _judge_newer(applied, seen, obj, sync_id, ignored, desired)


def judge_look(
    applied: Applied,
    obj: Mapping[str, Any] | None,
    *,
    sync_id: str,
    ignored: Sequence[str] = (),
    desired: JsonObject | None = None,
) -> Judgement:
    """Judge the answer of a GET, made because an event could not be judged alone; None for 404."""
    if obj is None:
        return Judgement(Verdict.DELETED)
    seen = seen_of(obj)
    label = labels_of(obj).get(PART_OF_LABEL, "")
    if label or seen.uid != applied.uid or _terminating(obj):
        return judge(applied, "MODIFIED", obj, sync_id=sync_id, ignored=ignored, desired=desired)
    ours = our_entry(seen.entries)
    lost = lost_paths(applied.owned_paths(), ours.paths() if ours else frozenset())
    return Judgement(Verdict.LABEL_REMOVED, seen, lost=lost or (PART_OF_PATH,), cleared=ours is None)


def _judge_newer(
    applied: Applied,
    seen: Seen,
    obj: Mapping[str, Any],
    sync_id: str,
    ignored: Sequence[str],
    desired: JsonObject | None,
) -> Judgement:
    if _terminating(obj):
        return Judgement(Verdict.TERMINATING, seen)
    reapplied = bool(seen.entry_time) and seen.entry_time != applied.entry_time
    label = labels_of(obj).get(PART_OF_LABEL, "")
    if label and label != sync_id:
        return Judgement(Verdict.CLAIMED, seen, (PART_OF_PATH,), ours_reapplied=reapplied, claimant=label)
    released: tuple[Path, ...] = ()
    if seen.owned_digest != applied.owned_digest:
        ours = our_entry(seen.entries)
        all_lost = lost_paths(applied.owned_paths(), ours.paths() if ours else frozenset())
        released = tuple(p for p in all_lost if left_to_others(p, seen.entries, ignored, desired))
        lost = tuple(p for p in all_lost if p not in released)
        if lost or reapplied or not all_lost or ours is None:
            return Judgement(
                Verdict.DRIFT, seen, lost, released, ours_reapplied=reapplied or not all_lost, cleared=ours is None
            )
    elif reapplied:
        return Judgement(Verdict.DRIFT, seen, ours_reapplied=True)
    if seen.generation != NO_GENERATION:
        moved = seen.generation != applied.generation
    else:
        moved = seen.others_digest != applied.others_digest
    # Paths that were just released explain the change: nothing is left to suspect.
    verdict = Verdict.SUSPECT if moved and not released else Verdict.IGNORE
    return Judgement(verdict, seen, released=released)


def _terminating(obj: Mapping[str, Any]) -> bool:
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def attribute(judgement: Judgement, now: datetime, *, deletion: str = "") -> Attribution:
    """Name who and when for a drift, truthfully.

    Args:
        judgement: with the lost paths and the entries as seen.
        now: when it was seen.
        deletion: a deletionTimestamp that the last event of a deleted object carried.
    """
    seen_at = format_rfc3339(now)
    entries = judgement.seen.entries if judgement.seen else ()
    for path in judgement.lost:
        held = [entry for entry in holders(entries, path) if entry.subresource != "status"]
        if held:
            entry = max(held, key=lambda e: (not e.time, e.time))
            return _of_entry(entry, seen_at)
    if judgement.ours_reapplied:
        entry_of_ours = our_entry(entries)
        if entry_of_ours:
            return _of_entry(entry_of_ours, seen_at)
    if judgement.verdict is Verdict.REPLACED:
        makers = [entry for entry in entries if entry.subresource != "status"]
        if len({entry.manager for entry in makers}) == 1:
            return _of_entry(min(makers, key=lambda e: (not e.time, e.time)), seen_at)
    candidates = _candidates(entries)
    if deletion:
        return Attribution("", "", "", deletion, TimeSource.DELETION, candidates)
    return Attribution("", "", "", seen_at, TimeSource.SEEN, candidates)


def _of_entry(entry: ManagerEntry, seen_at: str) -> Attribution:
    source = TimeSource.ENTRY if entry.time else TimeSource.SEEN
    return Attribution(entry.manager, entry.operation, entry.subresource, entry.time or seen_at, source)


def _candidates(entries: Iterable[ManagerEntry]) -> tuple[str, ...]:
    others = [e for e in entries if e.manager != FIELD_MANAGER and e.subresource != "status"]
    others.sort(key=lambda e: e.time, reverse=True)
    return tuple(dict.fromkeys(e.manager for e in others))[:_MAX_CANDIDATES]


def field_changes(
    judgement: Judgement, object_id: ObjectId, desired: JsonObject, live: Mapping[str, Any], owned: Iterable[Path]
) -> tuple[FieldChange, ...]:
    """The fields whose value differs from the desired one, with both values; empty if only ownership moved.

    Only lost paths are compared; after an apply under our own name (or none lost) all owned ones are.
    """
    entries = judgement.seen.entries if judgement.seen else ()
    paths = judgement.lost if judgement.lost and not judgement.cleared else topmost_leaves(owned)
    changes: list[FieldChange] = []
    for path in paths:
        if judgement.released and any(is_under(path, released) for released in judgement.released):
            continue
        old, new = lookup(desired, path), lookup(live, path)
        if same_value(old, new):
            continue
        held = holders(entries, path) if path in judgement.lost else ()
        changes.append(
            FieldChange(
                path=render(path),
                old=shown(old, object_id, path),
                new=shown(new, object_id, path),
                manager=held[0].manager if held else "",
            )
        )
        if len(changes) >= _MAX_FIELDS:
            break
    return tuple(changes)


def order_changes(desired: JsonObject, live: Mapping[str, Any], owned: Iterable[Path]) -> tuple[FieldChange, ...]:
    """Lists whose items were put in another order: nothing in managedFields shows that."""
    lists = sorted({path[:-1] for path in owned if path[-1].startswith("k:")})
    changes: list[FieldChange] = []
    for path in lists:
        wanted = lookup(desired, path)
        found = lookup(live, path)
        if not isinstance(wanted, list) or not isinstance(found, list):
            continue
        owned_items = sorted({p[len(path)] for p in owned if len(p) > len(path) and is_under(p, path)})
        old, new = _order(wanted, owned_items), _order(found, owned_items)
        if old != new and sorted(old) == sorted(new):
            names = [render((item,)) for item in old], [render((item,)) for item in new]
            changes.append(FieldChange(f"{render(path)} (order)", " ".join(names[0]), " ".join(names[1])))
    return tuple(changes)


def _order(items: Sequence[Any], segments: Sequence[str]) -> list[str]:
    placed = [(lookup_index(items, segment), segment) for segment in segments]
    return [segment for index, segment in sorted(placed) if index >= 0]


def topmost_leaves(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The paths that hold values themselves: those with nothing owned below them. Sorted."""
    known = set(paths)
    inner = {path[:n] for path in known for n in range(1, len(path))}
    return tuple(sorted(known - inner))


def unmanaged_fields(seen: Seen, owned: frozenset[Path]) -> tuple[tuple[Path, ...], tuple[ManagerEntry, ...]]:
    """Foreign fields under `/spec` (a sidecar, hostNetwork) and who holds them.

    Left out: what we own too, memberships of lists in which we own items, the status subresource, the parts of
    Kubernetes itself, and our own Update entries (a mutating webhook's additions to our request carry our name).
    """
    found: set[Path] = set()
    by: list[ManagerEntry] = []
    for entry in seen.entries:
        if entry.manager == FIELD_MANAGER or entry.manager in _SYSTEM_MANAGERS or entry.subresource == "status":
            continue
        if "f:spec" not in entry.fields:
            continue
        foreign = {p for p in entry.paths() if p[0] == "f:spec" and len(p) > 1 and not _touches(p, owned)}
        if foreign:
            found |= foreign
            by.append(entry)
    return topmost(found), tuple(by)


def _touches(path: Path, owned: frozenset[Path]) -> bool:
    """Whether we own the path itself, something below it, or an atomic value around it."""
    return (
        path in owned
        or any(path[:n] in owned and not _granular(path[:n], owned) for n in range(2, len(path)))
        or any(is_under(p, path) for p in owned)
    )


def _granular(path: Path, owned: frozenset[Path]) -> bool:
    """Whether an owned path is a list item or map of which fields are owned one by one."""
    return path[-1].startswith("k:") or any(len(p) > len(path) and is_under(p, path) for p in owned)


def describe(
    kind: DriftKind, object_id: ObjectId, fields: Sequence[FieldChange], by: Attribution, *, detail: str = ""
) -> str:
    """The sentence of a report, without what was done about it."""
    shown_fields = ", ".join(f"{c.path} {c.old} → {c.new}" for c in fields[:_FIELDS_SHOWN])
    if len(fields) > _FIELDS_SHOWN:
        shown_fields += f" and {len(fields) - _FIELDS_SHOWN} more"
    match kind:
        case DriftKind.DELETED:
            text = f"{object_id} was deleted outside GitOps {by.who()}"
        case DriftKind.REPLACED:
            text = f"{object_id} was deleted and created anew outside GitOps {by.who()}"
        case DriftKind.LABEL_REMOVED:
            text = f"{object_id} lost its label {PART_OF_LABEL} {by.who()}"
        case DriftKind.CLAIMED:
            text = f"{object_id} is claimed by {detail}: its label {PART_OF_LABEL} was changed {by.who()}"
        case DriftKind.UNMANAGED:
            text = f"{object_id} has fields under spec that Git does not name: {detail}, added {by.who()}"
        case DriftKind.FIGHT:
            text = f"{object_id} is changed again and again {by.who()}: {detail}"
        case _:
            gone = "removed " if fields and not by.manager and all(c.new == ABSENT for c in fields) else ""
            text = f"{object_id} modified outside GitOps: {shown_fields or 'owned fields'} {gone}{by.who()}"
    return f"{text}, {by.when()}"
