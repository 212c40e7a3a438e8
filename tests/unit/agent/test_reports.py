from __future__ import annotations

import pytest

from ocisync.agent.events import Note, Subject
from ocisync.agent.metrics import Metrics
from ocisync.agent.reports import Reporter, manager_class
from ocisync.cluster.drift import Action, Attribution, DriftKind, DriftReport, FieldChange, TimeSource
from ocisync.model.resource import ObjectId

WEB = ObjectId("apps", "Deployment", "shop", "web")
SYNC = Subject("ocisync.dev/v1alpha1", "ArtifactSync", "apps", "shop", "u-1")
BY = Attribution("kubectl", "Update", "scale", "2026-11-23T12:00:00Z", TimeSource.SEEN)


def report(kind: DriftKind = DriftKind.MODIFIED, action: Action = Action.CORRECTED) -> DriftReport:
    change = FieldChange("spec.replicas", "3", "10", "kubectl")
    return DriftReport(kind, "id", WEB, (change,), BY, action, "web was scaled")


def told(item: DriftReport, *, known: bool = True) -> tuple[list[Note], Metrics]:
    notes: list[Note] = []
    metrics = Metrics()
    kept: list[tuple[str, DriftReport]] = []
    sync = ("apps/shop", SYNC) if known else None
    subject = Subject("apps/v1", "Deployment", "shop", "web", "u-2")
    Reporter(notes.append, metrics, lambda _: sync, lambda *_: subject, lambda *told: kept.append(told)).report(item)
    assert kept == ([("apps/shop", item)] if known else [])
    return notes, metrics


def test_a_drift_is_told_once_on_the_object_and_once_on_the_sync() -> None:
    notes, metrics = told(report())
    assert [note.subject.kind for note in notes] == ["Deployment", "ArtifactSync"]
    assert {note.reason for note in notes} == {"DriftCorrected"} and {note.sync for note in notes} == {"apps/shop"}
    labels = 'action="Corrected",kind="Modified",manager_class="kubectl",sync="apps/shop"'
    assert f"ocisync_drift_total{{{labels}}} 1" in metrics.render()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (report(action=Action.REPORTED), "DriftDetected"),
        (report(action=Action.FAILED), "DriftNotCorrected"),
        (report(DriftKind.FIGHT, Action.DELAYED), "DriftFight"),
        (report(DriftKind.UNMANAGED, Action.REPORTED), "UnmanagedChange"),
        (report(DriftKind.CLAIMED, Action.REPORTED), "OwnershipClaimed"),
        (report(action=Action.ENDED), "DriftEnded"),
        (report(DriftKind.UNMANAGED, Action.ENDED), "DriftEnded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_says_what_was_done(item: DriftReport, reason: str) -> None:
    assert told(item)[0][0].reason == reason


def test_only_what_is_over_is_no_warning() -> None:
    assert [note.warning for note in told(report())[0]] == [True, True]
    assert [note.warning for note in told(report(action=Action.ENDED))[0]] == [False, False]


@pytest.mark.parametrize(
    ("manager", "word"),
    [
        ("kubectl", "kubectl"), ("kubectl-edit", "kubectl"), ("kube-controller-manager", "kubernetes"),
        ("argocd-controller", "gitops"), ("kustomize-controller", "gitops"), ("Helm", "helm"), ("ocisync", "ocisync"),
        ("HashiCorp", "terraform"), ("a-manager-chosen-at-random-17", "other"), ("", "unknown"),
    ],
)  # fmt: skip
def test_managers_are_counted_by_class_so_that_series_stay_few(manager: str, word: str) -> None:
    assert manager_class(manager) == word


def test_a_drift_of_a_sync_that_is_gone_is_still_told_on_the_object() -> None:
    notes, _ = told(report(), known=False)
    assert [note.subject.kind for note in notes] == ["Deployment"]
