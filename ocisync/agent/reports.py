"""Drift, told: one log line, one Event on the object and one on its sync, counts, and an entry of the record."""

from __future__ import annotations

import re
from collections.abc import Callable

from ocisync.agent.events import Note, Subject
from ocisync.agent.metrics import Metrics
from ocisync.cluster.drift import Action, DriftKind, DriftReport
from ocisync.cluster.driftrecord import moment
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
    Action.ENDED: "DriftEnded",
}
_UNMANAGED, _CLAIMED = "UnmanagedChange", "OwnershipClaimed"

REASONS = (*_REASONS.values(), _UNMANAGED, _CLAIMED)

# Who drifts, in few words: manager names are chosen by clients, and each would be a series of its own.
_CLASSES = (
    ("kubectl", re.compile(r"kubectl|k9s\Z|before-first-apply\Z|OpenAPI-Generator\Z|curl\Z|Mozilla\Z|Lens")),
    ("kubernetes", re.compile(r"kube-|kubelet\Z|cloud-controller-manager\Z")),
    ("gitops", re.compile(r"argocd|(kustomize|source|helm)-controller\Z|flux|fleet|kapp")),
    ("helm", re.compile(r"[Hh]elm")),
    ("ocisync", re.compile(r"ocisync\Z")),
    ("terraform", re.compile(r"[Tt]erraform|HashiCorp")),
)


class Reporter:
    """Turns drift reports into lines, notes, counts and entries of the record.

    Args:
        record: takes Events.
        sync_subject: the Event subject and key of a sync by its ApplySet id; None if it is gone.
        object_subject: the Event subject of an owned object.
        keep: takes entries of the record by the sync's key; never waits.
    """

    def __init__(
        self,
        record: Callable[[Note], None],
        metrics: Metrics,
        sync_subject: Callable[[str], tuple[str, Subject] | None],
        object_subject: Callable[[str, ObjectId], Subject],
        keep: Callable[[str, DriftReport], None],
    ) -> None:
        self._keep = keep
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
        over = report.action is Action.ENDED
        (_LOG.info if over else _LOG.warning)(
            "drift is over" if over else _WORDS[report.kind],
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
            mode=report.mode.value,
            place=report.place,
            seen_at=moment(report.seen_at) if report.seen_at else "",
            corrected_at=moment(report.done_at) if report.done_at else "",
            text=report.message,
        )
        self._metrics.count(
            "ocisync_drift_total",
            sync=key,
            kind=report.kind.value,
            action=report.action.value,
            manager_class=manager_class(by.manager),
        )
        if report.latency_s is not None:
            self._metrics.observe("ocisync_drift_correction_seconds", report.latency_s, sync=key)
        if key:
            self._keep(key, report)
        self._events(report, key, found[1] if found else None)

    def _events(self, report: DriftReport, key: str, sync: Subject | None) -> None:
        reason = _UNMANAGED if report.kind is DriftKind.UNMANAGED else _REASONS[report.action]
        if report.kind is DriftKind.CLAIMED:
            reason = _CLAIMED
        over = report.action is Action.ENDED
        if over:
            reason = _REASONS[Action.ENDED]
        subject = self._object_subject(report.sync_id, report.object)
        self._record(Note(key, subject, reason, report.message, warning=not over))
        if sync is not None:
            self._record(Note(key, sync, reason, report.message, warning=not over))


def manager_class(manager: str) -> str:
    """The class of a field manager, for metrics: one of eight words."""
    if not manager:
        return "unknown"
    return next((word for word, names in _CLASSES if names.match(manager)), "other")
