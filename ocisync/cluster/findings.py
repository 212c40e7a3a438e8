"""Reports that ask for no correction: foreign fields under `/spec`, and foreign claims. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from ocisync.cluster.correction import SyncRules
from ocisync.cluster.corrector import mark
from ocisync.cluster.drift import (
    Action,
    Attribution,
    DriftKind,
    DriftReport,
    FieldChange,
    Judgement,
    TimeSource,
    Verdict,
    attribute,
    describe,
    unmanaged_fields,
)
from ocisync.cluster.fields import render
from ocisync.cluster.leave import named
from ocisync.cluster.memory import Seen
from ocisync.cluster.records import Record, decoded
from ocisync.model.clock import format_rfc3339
from ocisync.model.resource import ObjectId
from ocisync.model.spec import DriftMode, UnownedMode

_OVER: Final = {
    DriftKind.MODIFIED: "is as Git says again",
    DriftKind.CLAIMED: "is claimed by nobody else any more",
    DriftKind.UNMANAGED: "has no foreign fields under spec any more",
}
_NAMED: Final = 5
_LISTED: Final = 20


def unmanaged(record: Record, rules: SyncRules, seen: Seen, now: datetime) -> DriftReport | None:
    """Foreign fields under /spec, each set of them once: the record remembers what was reported."""
    if rules.unowned is UnownedMode.IGNORE or rules.mode is DriftMode.IGNORE or rules.paused:
        return None
    if seen.uid != record.applied.uid or seen.resource_version < record.applied.resource_version:
        return None
    if not any("f:spec" in entry.fields and not entry.ours for entry in seen.entries):
        record.foreign = b""
        return None
    paths, entries = unmanaged_fields(seen, record.applied.owned_paths())
    if record.desired.left:
        desired = decoded(record.desired)
        paths = tuple(path for path in paths if not named(path, record.desired.left, desired))
    names = [render(path) for path in paths]
    found = mark("\n".join(names)) if names else b""
    if found == record.foreign:
        return None
    record.foreign = found
    if not names:
        return None
    by = attribute(Judgement(Verdict.DRIFT, replace(seen, entries=entries), lost=paths), now)
    text = describe(DriftKind.UNMANAGED, record.desired.id, (), by, detail=", ".join(names[:_NAMED]))
    changes = tuple(FieldChange(name, "(absent)", "(set)", by.manager) for name in names[:_LISTED])
    return _report(DriftKind.UNMANAGED, rules, record, by, text, now, changes)


def claimed(
    record: Record, rules: SyncRules, other: SyncRules | None, judgement: Judgement, now: datetime
) -> DriftReport:
    """An object of ours carries another owner's label; `other` is that owner if it is a sync of this process."""
    by = attribute(judgement, now)
    owner = f"sync {other.name}" if other else judgement.claimant
    text = describe(DriftKind.CLAIMED, record.desired.id, (), by, detail=owner)
    return _report(DriftKind.CLAIMED, rules, record, by, f"{text}; left alone", now)


def away(object_id: ObjectId, rules: SyncRules, place: str, now: datetime, *, created: bool) -> DriftReport:
    """The first pass of an agent changed an object of an artifact that was applied before, whole and successfully."""
    by = Attribution("", "", "", format_rfc3339(now), TimeSource.SEEN)
    kind, what = (DriftKind.DELETED, "missing") if created else (DriftKind.MODIFIED, "not as it was applied last")
    text = f"{object_id} was {what} when the agent started, {by.when()}; corrected"
    return DriftReport(
        kind, rules.sync_id, object_id, (), by, Action.CORRECTED, text, rules.mode, place, seen_at=now, done_at=now
    )


def ended(object_id: ObjectId, rules: SyncRules, kind: DriftKind, place: str, now: datetime) -> DriftReport:
    """What was reported of an object and not corrected is over: someone put it back, or a pass applied it."""
    by = Attribution("", "", "", format_rfc3339(now), TimeSource.SEEN)
    what = _OVER[kind]
    text = f"{object_id}: {what}, {by.when()}"
    return DriftReport(kind, rules.sync_id, object_id, (), by, Action.ENDED, text, rules.mode, place, now)


def _report(
    kind: DriftKind,
    rules: SyncRules,
    record: Record,
    by: Attribution,
    text: str,
    now: datetime,
    fields: tuple[FieldChange, ...] = (),
) -> DriftReport:
    desired = record.desired
    return DriftReport(
        kind, rules.sync_id, desired.id, fields, by, Action.REPORTED, text, rules.mode, desired.place, now
    )
