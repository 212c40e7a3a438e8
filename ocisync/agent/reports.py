"""Drift, told: one log line, one Event on the object and one on its sync, and a count."""

from __future__ import annotations

from collections.abc import Callable

from ocisync.agent.events import Note, Subject
from ocisync.agent.metrics import Metrics
from ocisync.cluster.drift import Action, DriftKind, DriftReport
from ocisync.kit.log import logger
from ocisync.model.resource import ObjectId

_LOG = logger("drift")

_WORDS = {
    DriftKind.MODIFIED: "modified outside GitOps",
    DriftKind.DELETED: "deleted outside GitOps",
    DriftKind.REPLACED: "replaced outside GitOps",
    DriftKind.LABEL_REMOVED: "membership label removed outside GitOps",
    DriftKind.CLAIMED: "claimed by another owner",
    DriftKind.UNMANAGED: "fields added outside GitOps",
    DriftKind.FIGHT: "changed again and again outside GitOps",
}
_REASONS = {
    Action.CORRECTED: "DriftCorrected",
    Action.REPORTED: "DriftDetected",
    Action.FAILED: "DriftNotCorrected",
    Action.DELAYED: "DriftFight",
}
_UNMANAGED, _CLAIMED = "UnmanagedChange", "OwnershipClaimed"

REASONS = (*_REASONS.values(), _UNMANAGED, _CLAIMED)


class Reporter:
    """Turns drift reports into lines, notes and counts.

    Args:
        record: takes Events.
        sync_subject: the Event subject and key of a sync by its ApplySet id; None if it is gone.
        object_subject: the Event subject of an owned object.
    """

    def __init__(
        self,
        record: Callable[[Note], None],
        metrics: Metrics,
        sync_subject: Callable[[str], tuple[str, Subject] | None],
        object_subject: Callable[[str, ObjectId], Subject],
    ) -> None:
        self._record = record
        self._metrics = metrics
        self._sync_subject = sync_subject
        self._object_subject = object_subject

    def report(self, report: DriftReport) -> None:
        """Tell one drift."""
        found = self._sync_subject(report.sync_id)
        key = found[0] if found else ""
        by = report.attribution
        fields = [
            {"field": change.path, "old": change.old, "new": change.new, "manager": change.manager}
            for change in report.fields
        ]
        _LOG.warning(
            _WORDS[report.kind],
            sync=key,
            kind=report.object.group_kind,
            namespace=report.object.namespace,
            name=report.object.name,
            field=report.paths,
            fields=fields,
            manager=by.manager or "unknown",
            operation=by.operation,
            subresource=by.subresource,
            candidates=list(by.candidates),
            time=by.time,
            time_source=by.time_source.value,
            action=report.action.value,
            text=report.message,
        )
        self._metrics.count("ocisync_drift_total", sync=key, kind=report.kind.value, action=report.action.value)
        reason = _UNMANAGED if report.kind is DriftKind.UNMANAGED else _REASONS[report.action]
        if report.kind is DriftKind.CLAIMED:
            reason = _CLAIMED
        subject = self._object_subject(report.sync_id, report.object)
        self._record(Note(key, subject, reason, report.message, warning=True))
        if found is not None:
            self._record(Note(key, found[1], reason, report.message, warning=True))
