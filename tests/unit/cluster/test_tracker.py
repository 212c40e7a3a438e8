"""The table of owned objects: what it does about events, how often, and what it says. Time and server are played."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ocisync.cluster.correction import (
    Corrected,
    Correction,
    CorrectionReason,
    CorrectionStatus,
    Effects,
    Limits,
    SyncRules,
)
from ocisync.cluster.drift import Action, DriftKind, DriftReport
from ocisync.cluster.health import NOT_FOUND, HealthStatus
from ocisync.cluster.memory import applied_of
from ocisync.cluster.normalise import ApplyMode, Desired
from ocisync.cluster.tracker import Tracker
from ocisync.cluster.watch import GroupKind
from ocisync.model.errors import Interrupted, Unavailable
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import DriftMode, UnownedMode
from tests.unit.cluster.objects import IMAGE, OURS, REPLICAS, SPEC, SYNC, T1, desired, entry, live, ours

KIND = GroupKind("apps", "Deployment")
WEB = ObjectId("apps", "Deployment", "shop", "web")
WITHOUT_REPLICAS = ours(*(p for p in OURS if p != REPLICAS))
RULES = SyncRules(SYNC, "shop/shop", "2026-01-01T00:00:00Z")


class PlayedClock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def scaled(version: int, replicas: int = 10, manager: str = "kubectl") -> JsonObject:
    held = entry(manager, REPLICAS, subresource="scale", time="")
    return live(
        WITHOUT_REPLICAS, held, version=version, generation=version, spec={**SPEC["spec"], "replicas": replicas}
    )


@dataclass
class World:
    """A server that accepts every correction, and notes of everything."""

    clock: PlayedClock = field(default_factory=PlayedClock)
    corrections: list[Correction] = field(default_factory=list)
    reports: list[DriftReport] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    reads: list[ObjectId] = field(default_factory=list)
    objects: dict[ObjectId, JsonObject] = field(default_factory=dict)
    answers: list[Corrected] = field(default_factory=list)
    version: int = 100
    offline: bool = False
    wrote: bool = True

    def __post_init__(self) -> None:
        self.tracker = Tracker(self.clock, Effects(self.read, self.correct, self.reports.append, self.changed.append))
        self.tracker.set_sync(RULES)

    def read(self, object_id: ObjectId) -> JsonObject | None:
        self.reads.append(object_id)
        if self.offline:
            raise Unavailable("no answer")
        return self.objects.get(object_id)

    def correct(self, correction: Correction) -> Corrected:
        self.corrections.append(correction)
        if self.answers:
            return self.answers.pop(0)
        if self.offline:
            raise Unavailable("no answer")
        if not self.wrote:
            return Corrected(CorrectionStatus.DONE, correction.previous)
        self.version += 1
        uid = correction.uid or f"u{self.version}"
        answer = live(
            ours(time=T1), version=self.version, generation=self.version, uid=uid, name=correction.desired.id.name
        )
        return Corrected(CorrectionStatus.DONE, applied_of(answer))

    def owns(self, one: Desired | None = None, version: int = 10) -> ObjectId:
        one = one or desired()
        self.tracker.applied(SYNC, one, applied_of(live(ours(), version=version, name=one.id.name)))
        return one.id

    def event(self, obj: JsonObject, event_type: str = "MODIFIED", kind: GroupKind = KIND) -> None:
        self.tracker.event(kind, event_type, obj)
        self.tracker.run_due()

    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.tracker.run_due()

    def reasons(self) -> list[CorrectionReason]:
        return [c.reason for c in self.corrections]

    def kinds(self) -> list[DriftKind]:
        return [r.kind for r in self.reports]


@pytest.fixture
def world() -> World:
    return World()


def test_a_scale_is_corrected_at_once_with_the_uid_and_reported_with_both_values(world: World) -> None:
    world.owns()
    world.event(scaled(11))
    assert [(c.reason, c.uid) for c in world.corrections] == [(CorrectionReason.DRIFT, "u1")]
    (report,) = world.reports
    assert (report.kind, report.action, report.attribution.manager) == (DriftKind.MODIFIED, Action.CORRECTED, "kubectl")
    assert [(c.path, c.old, c.new) for c in report.fields] == [("spec.replicas", "3", "10")]
    assert world.reads == []


def test_the_events_of_our_own_writes_are_ignored(world: World) -> None:
    world.owns(version=10)
    world.event(live(ours(), version=10), "ADDED")
    world.event(scaled(11))
    world.event(live(ours(time=T1), version=101, generation=101))
    assert len(world.corrections) == 1


def test_events_of_objects_that_nobody_owns_are_ignored(world: World) -> None:
    world.event(scaled(11))
    assert (world.corrections, world.reports) == ([], [])


def test_a_status_update_costs_nothing(world: World) -> None:
    world.owns()
    world.event(live(ours(), entry("kube-controller-manager", ("f:status",), subresource="status"), version=11))
    assert world.corrections == []
    assert world.reads == []


def test_values_of_kinds_watched_as_metadata_are_read_before_the_correction(world: World) -> None:
    object_id = world.owns(desired("login", "Secret", "", data={"password": "b2xk"}))
    paths = (*OURS, ("f:data", "f:password"))
    before = live(ours(*paths), generation=None, name="login")
    world.tracker.applied(SYNC, desired("login", "Secret", "", data={"password": "b2xk"}), applied_of(before))
    now = live(
        ours(), entry("kubectl-edit", ("f:data", "f:password")), version=11, generation=None, name="login",
        kind="Secret", data={"password": "bmV3"},
    )  # fmt: skip
    world.objects[object_id] = now
    world.event({**now, "kind": "PartialObjectMetadata"}, kind=GroupKind("", "Secret"))
    assert world.reads == [object_id]
    assert [(c.path, c.old, c.new) for c in world.reports[0].fields] == [("data.password", "(masked)", "(masked)")]
    assert "bmV3" not in world.reports[0].message


def test_a_lost_field_of_equal_value_is_owned_again_silently_and_counted(world: World) -> None:
    world.owns()
    world.event(live(WITHOUT_REPLICAS, entry("tool", REPLICAS), version=11))
    assert world.reasons() == [CorrectionReason.DRIFT]
    assert world.reports == []
    assert world.tracker.counters.reowned == 1


def test_a_suspect_costs_one_apply_and_says_nothing_when_it_was_clean(world: World) -> None:
    world.owns()
    world.wrote = False
    world.event(live(ours(), version=11, generation=2))
    assert world.reasons() == [CorrectionReason.SUSPECT]
    assert world.reports == []


def test_a_suspect_that_the_apply_changed_was_drift(world: World) -> None:
    world.owns()
    world.event(live(ours(), version=11, generation=2))
    assert world.kinds() == [DriftKind.MODIFIED]
    assert world.tracker.counters.drifts == 1


def test_a_deleted_object_is_created_again(world: World) -> None:
    object_id = world.owns()
    world.event(live(version=11), "DELETED")
    assert world.reads == [object_id]
    assert [(c.reason, c.uid) for c in world.corrections] == [(CorrectionReason.RECREATE, "")]
    assert world.kinds() == [DriftKind.DELETED]
    assert world.tracker.remembered(SYNC, object_id) is not None


def test_a_terminating_object_is_waited_for(world: World) -> None:
    world.owns()
    world.event(live(version=11, generation=2, metadata={"deletionTimestamp": T1}))
    assert world.corrections == []
    world.event(live(version=12, metadata={"deletionTimestamp": T1}), "DELETED")
    assert world.reasons() == [CorrectionReason.RECREATE]
    assert world.reports[0].attribution.time == T1


def test_a_removed_label_is_put_back(world: World) -> None:
    object_id = world.owns()
    world.objects[object_id] = live(ours(*OURS[1:]), version=12, label="")
    world.event(live(version=12), "DELETED")
    assert [(c.reason, c.uid) for c in world.corrections] == [(CorrectionReason.DRIFT, "u1")]
    assert world.kinds() == [DriftKind.LABEL_REMOVED]


def test_a_foreign_claim_is_reported_once_and_left_alone(world: World) -> None:
    world.owns()
    world.event(live(version=11, label="applyset-other-v1"))
    world.event(live(version=12, label="applyset-other-v1"))
    assert world.kinds() == [DriftKind.CLAIMED]
    assert world.corrections == []


def test_a_pass_learns_who_claimed_an_object_until_the_label_is_ours_again(world: World) -> None:
    object_id = world.owns()
    assert world.tracker.claim(SYNC, [object_id]) == {}
    world.event(live(ours(time=T1), version=11, label="applyset-other-v1"))
    assert world.tracker.claim(SYNC, [object_id]) == {object_id: "applyset-other-v1"}
    world.event(live(ours(), version=9))  # old news
    assert world.tracker.claim(SYNC, [object_id]) == {object_id: "applyset-other-v1"}
    world.event(live(ours(time=T1), version=12))
    assert world.tracker.claim(SYNC, [object_id]) == {}


def test_of_two_syncs_in_one_process_the_older_one_wins(world: World) -> None:
    object_id = world.owns()
    younger = SyncRules("applyset-young-v1", "shop/young", "2026-06-01T00:00:00Z")
    older = SyncRules("applyset-old-v1", "shop/old", "2025-01-01T00:00:00Z")
    world.tracker.set_sync(younger)
    world.tracker.set_sync(older)
    assert world.tracker.claim(younger.sync_id, [object_id]) == {object_id: "shop/shop"}
    world.objects[object_id] = live(ours(time=T1), version=11, label=younger.sync_id)
    world.event(live(ours(time=T1), version=11, label=younger.sync_id))
    assert world.reasons() == [CorrectionReason.DRIFT]
    assert world.corrections[0].desired.options.adopt == younger.sync_id, "else the apply leaves it to that label"
    assert world.tracker.claim(older.sync_id, [object_id]) == {}
    assert world.tracker.owned(SYNC) == {object_id}, "kept until the older one has really applied it"
    world.tracker.applied(older.sync_id, desired(), applied_of(live(ours(), version=20)))
    assert world.tracker.owned(older.sync_id) == {object_id}
    assert world.tracker.owned(SYNC) == frozenset()


def test_an_object_that_a_running_pass_adopts_is_not_taken_back(world: World) -> None:
    object_id = world.owns()
    younger = SyncRules("applyset-young-v1", "shop/young", "2026-06-01T00:00:00Z")
    world.tracker.set_sync(younger)
    world.tracker.begin_pass(younger.sync_id)
    adopted = live(ours(time=T1), version=11, label=younger.sync_id)
    world.objects[object_id] = adopted
    world.event(adopted)
    world.wait(3)
    assert world.corrections == []
    world.tracker.applied(younger.sync_id, desired(), applied_of(adopted))
    world.tracker.end_pass(younger.sync_id)
    world.wait(60)
    assert world.corrections == []
    assert world.tracker.owned(younger.sync_id) == {object_id}


def test_a_deletion_of_what_a_running_pass_has_applied_is_undone_after_that_pass(world: World) -> None:
    object_id = world.owns()
    world.tracker.begin_pass(SYNC)
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(), version=20)))
    world.event(live(ours(), version=21), "DELETED")
    world.wait(10)
    assert world.corrections == [], "it would write the inventory that the pass is writing"
    world.tracker.end_pass(SYNC)
    world.wait(10)
    assert world.reasons() == [CorrectionReason.RECREATE]
    assert world.tracker.owned(SYNC) == {object_id}


def test_a_list_older_than_our_last_apply_means_that_time_went_back(world: World) -> None:
    world.owns(version=500)
    world.tracker.started(KIND)
    world.event(live(ours(), version=400))  # etcd was restored from a backup
    world.tracker.synced(KIND)
    assert world.reasons() == [CorrectionReason.SUSPECT]
    world.event(live(ours(), version=90))  # a late event of the stream proves nothing
    assert len(world.corrections) == 1


def test_a_list_that_was_begun_before_an_answer_shows_no_restore_and_one_of_an_earlier_time_does(world: World) -> None:
    world.owns(version=90)
    world.tracker.started(KIND)
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(), version=100)))
    world.event(live(ours(), version=90))
    world.tracker.synced(KIND)
    assert not world.tracker.begins_anew(SYNC)
    world.tracker.started(KIND)
    world.event(live(ours(), version=40))
    assert world.tracker.begins_anew(SYNC)


def test_when_a_whole_list_went_back_whoever_owns_objects_of_the_kind_begins_anew(world: World) -> None:
    world.owns()
    world.changed.clear()
    world.tracker.went_back(GroupKind("", "ConfigMap"))
    assert (world.changed, world.tracker.begins_anew(SYNC)) == ([], False)
    world.tracker.went_back(KIND)
    assert world.changed == [SYNC]
    assert world.tracker.begins_anew(SYNC)
    assert not world.tracker.begins_anew(SYNC)


def test_a_sync_whose_inventory_lacks_what_it_owns_begins_anew_once(world: World) -> None:
    world.owns(version=90)
    assert not world.tracker.begins_anew(SYNC)
    world.changed.clear()
    world.tracker.unlisted(SYNC)
    assert world.changed == [SYNC]
    assert world.tracker.begins_anew(SYNC)
    assert not world.tracker.begins_anew(SYNC)


def test_what_is_only_created_if_missing_is_nobodys_business_afterwards(world: World) -> None:
    once = desired()
    once = replace(once, options=replace(once.options, apply=ApplyMode.IF_NOT_PRESENT))
    world.owns(once)
    world.event(scaled(11))
    world.event(scaled(11), "DELETED")
    world.wait(60)
    assert world.corrections == []


def test_a_kind_that_may_not_be_watched_is_named_once_and_in_the_health(world: World) -> None:
    told: list[tuple[GroupKind, str]] = []

    def blind(kind: GroupKind, message: str) -> None:
        told.append((kind, message))

    effects = Effects(world.read, world.correct, world.reports.append, world.changed.append, blind)
    world.tracker = Tracker(world.clock, effects)
    world.tracker.set_sync(RULES)
    world.owns()
    for _ in range(3):
        world.tracker.problem(KIND, "watch of Deployment.apps answered 403: forbidden")
    assert told == [(KIND, "watch of Deployment.apps answered 403: forbidden")]
    assert "its status is not known: watch of Deployment.apps answered 403" in world.tracker.health(SYNC).message()
    assert world.changed == [SYNC]
    world.tracker.problem(KIND, "")
    assert told[-1] == (KIND, "")


def test_a_sidecar_is_reported_once_as_unmanaged(world: World) -> None:
    world.owns()
    sidecar = ("f:spec", "f:containers", 'k:{"name":"mesh"}')
    world.wrote = False
    for version in (11, 12):
        world.event(live(ours(), entry("kubectl-patch", sidecar), version=version, generation=2))
    assert world.kinds() == [DriftKind.UNMANAGED]
    assert world.reports[0].attribution.manager == "kubectl-patch"
    world.tracker.set_sync(replace(RULES, unowned=UnownedMode.IGNORE))
    world.event(live(ours(), entry("kubectl-patch", sidecar, IMAGE), version=13, generation=3))
    assert world.kinds() == [DriftKind.UNMANAGED]


def test_warn_reports_once_and_writes_nothing(world: World) -> None:
    world.tracker.set_sync(replace(RULES, mode=DriftMode.WARN))
    world.owns()
    world.event(scaled(11))
    world.event(scaled(12))
    world.event(scaled(13, replicas=20))
    assert world.corrections == []
    assert [r.action for r in world.reports] == [Action.REPORTED, Action.REPORTED]


def test_warn_does_not_heal_a_suspect_either(world: World) -> None:
    world.tracker.set_sync(replace(RULES, mode=DriftMode.WARN))
    world.owns()
    world.event(live(ours(), version=11, generation=2, spec={**SPEC["spec"], "replicas": 4}))
    assert world.corrections == []
    assert [r.fields[0].new for r in world.reports] == ["4"]


def test_ignore_does_nothing(world: World) -> None:
    world.tracker.set_sync(replace(RULES, mode=DriftMode.IGNORE))
    world.owns()
    world.event(scaled(11))
    world.event(live(version=12), "DELETED")
    assert (world.corrections, world.reports) == ([], [])


def test_a_paused_sync_is_left_alone_and_looked_at_afterwards(world: World) -> None:
    object_id = world.owns()
    world.tracker.set_sync(replace(RULES, paused="suspended"))
    world.event(scaled(11))
    assert (world.corrections, world.reads) == ([], [])
    world.objects[object_id] = scaled(11)
    world.tracker.set_sync(RULES)
    world.wait(0)
    assert world.reasons() == [CorrectionReason.DRIFT]
    assert world.reports[0].fields[0].new == "10"


def test_nothing_is_written_into_a_namespace_that_ends(world: World) -> None:
    world.owns()
    namespace = desired("shop", "Namespace", "", spec={})
    namespace = replace(namespace, id=ObjectId("", "Namespace", "", "shop"))
    world.tracker.applied(SYNC, namespace, applied_of(live(ours(), generation=None, name="shop")))
    ending = live(ours(), version=11, generation=None, name="shop", metadata={"deletionTimestamp": T1, "namespace": ""})
    world.event({**ending, "kind": "Namespace"}, kind=GroupKind("", "Namespace"))
    world.event(live(version=12), "DELETED")
    world.wait(5)
    assert world.corrections == []


def test_replicas_of_an_autoscaler_are_no_drift_and_not_named_in_later_reports(world: World) -> None:
    world.owns()
    autoscaler = entry("kube-controller-manager", REPLICAS, subresource="scale", time="")
    world.event(live(WITHOUT_REPLICAS, autoscaler, version=11, generation=2))
    assert world.corrections == []
    image = live(
        ours(*(p for p in OURS if p not in {REPLICAS, IMAGE})), autoscaler, entry("x", IMAGE), version=12, generation=3,
        spec={"replicas": 7, "containers": [{"name": "web", "image": "evil"}]},
    )  # fmt: skip
    world.event(image)
    assert world.reasons() == [CorrectionReason.DRIFT]
    assert [change.path for change in world.reports[0].fields] == ['spec.containers[name="web"].image']


def test_ignored_paths_are_never_corrected(world: World) -> None:
    world.owns(replace(desired(), left=("/spec/replicas",)))
    world.event(scaled(11))
    assert world.corrections == []
    world.wrote = False
    world.event(scaled(12, replicas=11))
    assert world.reasons() == [CorrectionReason.SUSPECT], "the generation moved: something else may have changed"
    assert world.reports == []


def test_events_during_a_pass_are_judged_after_its_answer(world: World) -> None:
    object_id = world.owns()
    world.tracker.begin_pass(SYNC)
    world.event(live(ours(time=T1), version=50, generation=2))  # the pass's own write, seen before its answer
    assert world.corrections == []
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(time=T1), version=50, generation=2)))
    world.tracker.end_pass(SYNC)
    world.wait(10)
    assert (world.corrections, world.reads) == ([], [])
    assert world.tracker.seen(object_id) == 50


def test_drift_during_a_pass_that_the_pass_did_not_touch_is_looked_at_after_it(world: World) -> None:
    object_id = world.owns()
    world.tracker.begin_pass(SYNC)
    world.event(scaled(11))
    world.objects[object_id] = scaled(11)
    world.wait(3)
    assert world.corrections == []
    world.tracker.end_pass(SYNC)
    world.wait(0)
    assert world.reasons() == [CorrectionReason.DRIFT]


def test_an_object_that_the_watch_shows_before_the_answer_to_its_creation_counts_as_seen(world: World) -> None:
    world.tracker.begin_pass(SYNC)
    world.event(live(ours(), version=20), "ADDED")
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(), version=20)))
    world.tracker.end_pass(SYNC)
    assert world.tracker.seen(WEB) == 20
    assert "first status" not in world.tracker.health(SYNC).message()


def test_an_object_that_another_syncs_watch_showed_long_before_its_own_pass_counts_as_seen(world: World) -> None:
    """After a restart: its own pass finds it as it should be, so that nothing of it is ever shown again."""
    world.tracker.started(KIND)
    world.event(live(ours(), version=20), "ADDED")
    world.tracker.synced(KIND)
    world.tracker.begin_pass(SYNC)
    world.tracker.end_pass(SYNC)  # this one broke off
    world.tracker.begin_pass(SYNC)
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(), version=20)))
    world.tracker.end_pass(SYNC)
    assert world.tracker.seen(WEB) == 20
    assert "first status" not in world.tracker.health(SYNC).message()
    assert (world.corrections, world.reads) == ([], [])


def test_what_was_shown_early_is_listed_again_when_its_sync_judges_health_by_other_rules(world: World) -> None:
    world.event(live(ours(), version=20), "ADDED")
    checks = replace(RULES, health=lambda _: NOT_FOUND)
    assert world.tracker.set_sync(checks) == {KIND}
    world.event(live(ours(), version=20), "ADDED")
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(), version=20)))
    assert NOT_FOUND.message in world.tracker.health(SYNC).message()


def test_only_what_we_have_applied_is_remembered_before_it_is_known(world: World) -> None:
    world.event(live(entry("endpoint-controller", REPLICAS), version=20), "ADDED")  # a copied label
    world.owns(version=20)
    assert world.tracker.seen(WEB) == 0


def test_drift_that_a_pass_healed_first_is_still_reported(world: World) -> None:
    world.owns()
    world.answers.append(Corrected(CorrectionStatus.FAILED, message="refused"))
    world.event(scaled(11))
    world.tracker.begin_pass(SYNC)
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(time=T1), version=50, generation=2)))
    world.tracker.end_pass(SYNC)
    assert [r.action for r in world.reports] == [Action.FAILED, Action.CORRECTED]
    world.wait(60)
    assert len(world.corrections) == 1


def test_a_pass_waits_for_corrections_under_way_and_starts_none() -> None:
    inside, go_on = threading.Event(), threading.Event()
    world = World()

    def slow(correction: Correction) -> Corrected:
        inside.set()
        assert go_on.wait(60)
        return Corrected(CorrectionStatus.DONE, applied_of(live(ours(time=T1), version=20, generation=2)))

    tracker = Tracker(world.clock, Effects(world.read, slow, world.reports.append, world.changed.append))
    tracker.set_sync(RULES)
    tracker.applied(SYNC, desired(), applied_of(live(ours(), version=10)))
    tracker.event(KIND, "MODIFIED", scaled(11))
    order: list[str] = []

    def correct() -> None:
        tracker.run_due()

    def begin() -> None:
        tracker.begin_pass(SYNC, 10.0)
        order.append("free" if go_on.is_set() else "too early")

    correcting, passing = threading.Thread(target=correct), threading.Thread(target=begin)
    correcting.start()
    assert inside.wait(60)
    passing.start()
    go_on.set()
    correcting.join(60)
    passing.join(60)
    assert order == ["free"]
    applied = tracker.remembered(SYNC, WEB)
    assert applied is not None
    assert applied.resource_version == 20


def test_a_list_after_a_gap_reveals_deletions(world: World) -> None:
    gone, _ = world.owns(desired("gone")), world.owns(desired("there"))
    world.tracker.started(KIND)
    for name in ("gone", "there"):
        world.event(live(ours(), version=10, name=name), "ADDED")
    world.tracker.synced(KIND)
    world.tracker.run_due()
    assert world.reads == []
    world.tracker.started(KIND)
    world.event(live(ours(), version=10, name="there"), "ADDED")
    world.tracker.synced(KIND)
    world.tracker.run_due()
    assert world.reads == [gone]
    assert [c.desired.id for c in world.corrections] == [gone]


def test_kinds_are_unsynced_until_their_list_is_complete(world: World) -> None:
    world.owns()
    assert world.tracker.unsynced() == {KIND}
    world.tracker.started(KIND)
    world.tracker.synced(KIND)
    assert world.tracker.unsynced() == frozenset()
    assert world.tracker.kinds() == {KIND}


def test_pruned_objects_are_not_created_again(world: World) -> None:
    object_id = world.owns()
    world.tracker.forget(SYNC, [object_id])
    world.event(live(version=11), "DELETED")
    assert (world.corrections, world.reads) == ([], [])


def test_a_forgotten_sync_owns_nothing(world: World) -> None:
    world.owns()
    world.tracker.forget_sync(SYNC)
    world.event(scaled(11))
    assert world.corrections == []
    assert world.tracker.kinds() == frozenset()


def fight(world: World, rounds: int, start: int = 1000) -> None:
    for step in range(rounds):
        applied = world.tracker.remembered(SYNC, WEB)
        assert applied is not None
        obj = scaled(max(start + step, applied.resource_version + 1), manager="controller")
        obj["metadata"]["managedFields"][0]["time"] = applied.entry_time
        world.event(obj)


def test_a_fight_is_named_once_and_backs_off(world: World) -> None:
    world.owns()
    burst = Limits().object_burst
    fight(world, burst)
    assert len(world.corrections) == burst
    fight(world, 5, start=2000)
    assert len(world.corrections) == burst
    fights = [r for r in world.reports if r.kind is DriftKind.FIGHT]
    assert [(r.attribution.manager, r.action) for r in fights] == [("controller", Action.DELAYED)]
    assert "spec.replicas" in fights[0].message
    world.wait(25)
    assert len(world.corrections) == burst + 1
    fight(world, 1, start=3000)
    world.wait(25)
    assert len(world.corrections) == burst + 1, "the pause has doubled"
    world.wait(60)
    assert len(world.corrections) == burst + 2
    assert len([r for r in world.reports if r.kind is DriftKind.FIGHT]) == 1


def test_after_a_quiet_time_a_fight_is_forgotten(world: World) -> None:
    world.owns()
    fight(world, 10)
    world.wait(30)
    world.wait(600)
    world.wait(600)
    before = len(world.corrections)
    fight(world, 1, start=9000)
    assert len(world.corrections) == before + 1


def test_suspects_have_tokens_too(world: World) -> None:
    world.owns()
    world.wrote = False
    for version in range(20, 60):
        world.event(live(ours(), version=version, generation=version))
    assert len(world.corrections) == Limits().object_burst
    world.wait(11)
    assert len(world.corrections) == Limits().object_burst + 1


def test_all_corrections_together_are_limited(world: World) -> None:
    limits = Limits(global_burst=5, global_per_s=1.0)
    tracker = Tracker(
        world.clock, Effects(world.read, world.correct, world.reports.append, world.changed.append), limits
    )
    tracker.set_sync(RULES)
    for number in range(20):
        one = desired(f"web{number}")
        tracker.applied(SYNC, one, applied_of(live(ours(), version=10, name=one.id.name)))
        obj = scaled(11)
        obj["metadata"]["name"] = one.id.name
        tracker.event(KIND, "MODIFIED", obj)
    tracker.run_due()
    assert len(world.corrections) == 5
    for _ in range(40):
        world.clock.seconds += 1
        tracker.run_due()
    assert len(world.corrections) == 20


def test_a_failed_correction_is_reported_once_and_retried_with_growing_pauses(world: World) -> None:
    world.owns()
    world.answers = [Corrected(CorrectionStatus.FAILED, message="webhook is down")] * 3
    world.event(scaled(11))
    assert "webhook is down" in world.reports[0].message
    for pause in (2.1, 4.1, 8.1):
        world.wait(pause)
    assert len(world.corrections) == 4
    assert [r.action for r in world.reports] == [Action.FAILED, Action.CORRECTED]


def test_an_unreachable_server_is_asked_again(world: World) -> None:
    object_id = world.owns()
    world.offline = True
    world.event(live(version=11), "DELETED")
    assert world.reads == [object_id]
    world.offline = False
    world.wait(2.1)
    assert world.reasons() == [CorrectionReason.RECREATE]


def test_an_object_that_another_owner_claimed_meanwhile_is_not_retried(world: World) -> None:
    world.owns()
    world.answers = [Corrected(CorrectionStatus.CLAIMED, message="owned by another")]
    world.event(scaled(11))
    world.wait(600)
    assert len(world.corrections) == 1


def test_every_object_gets_one_audit_a_day_spread_evenly(world: World) -> None:
    for number in range(240):
        world.owns(desired(f"web{number}"))
    world.wrote = False
    per_hour: list[int] = []
    for _ in range(24):
        before = len(world.corrections)
        for _ in range(60):
            world.wait(60)
        per_hour.append(len(world.corrections) - before)
    assert sorted(c.desired.id for c in world.corrections) == sorted(world.tracker.owned(SYNC))
    assert max(per_hour) <= 40
    assert {c.reason for c in world.corrections} == {CorrectionReason.AUDIT}
    assert world.reports == []


def statuses(replicas: int) -> dict[str, Any]:
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {"status": {"observedGeneration": 1, **dict.fromkeys(counts, replicas)}}


def test_health_counts_only_what_was_seen_since_our_last_apply(world: World) -> None:
    world.owns(version=10)
    world.event(live(ours(), version=10, **statuses(3)), "ADDED")
    assert world.tracker.health(SYNC).healthy
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(time=T1), version=20, generation=2)))
    assert world.tracker.health(SYNC).status is HealthStatus.IN_PROGRESS
    world.event(live(ours(time=T1), version=20, **statuses(3)))
    assert world.tracker.health(SYNC).healthy
    assert world.changed == [SYNC, SYNC]


def test_kinds_without_health_are_current_when_they_exist_and_missing_when_gone(world: World) -> None:
    object_id = world.owns(desired("settings", "ConfigMap", "", data={}))
    assert world.tracker.health(SYNC).healthy
    world.tracker.set_sync(replace(RULES, mode=DriftMode.IGNORE))
    world.event(
        live(ours(), version=11, generation=None, name="settings", kind="PartialObjectMetadata"), "DELETED",
        kind=GroupKind("", "ConfigMap"),
    )  # fmt: skip
    rollup = world.tracker.health(SYNC)
    assert rollup.status is HealthStatus.NOT_FOUND
    assert [i for i, _ in rollup.waiting] == [object_id]


def test_problems_of_watches_are_known_until_they_end(world: World) -> None:
    world.tracker.problem(KIND, "forbidden")
    assert world.tracker.problems() == {KIND: "forbidden"}
    world.tracker.problem(KIND, "")
    assert world.tracker.problems() == {}


def test_several_threads_do_every_task_once() -> None:
    world = World()
    names = [f"web{number}" for number in range(60)]
    for name in names:
        world.owns(desired(name))
        obj = scaled(11)
        obj["metadata"]["name"] = name
        world.tracker.event(KIND, "MODIFIED", obj)
    threads: Sequence[threading.Thread] = [threading.Thread(target=world.tracker.run_due) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(c.desired.id.name for c in world.corrections) == sorted(names)
    assert world.tracker.idle()


def test_in_warn_mode_the_end_of_what_was_reported_is_told_whoever_ended_it(world: World) -> None:
    world.owns()
    world.tracker.set_sync(replace(RULES, mode=DriftMode.WARN))
    world.event(scaled(11))
    world.event(scaled(12, replicas=3))
    assert [r.action for r in world.reports] == [Action.REPORTED, Action.ENDED]
    world.event(scaled(13))
    world.tracker.applied(SYNC, desired(), applied_of(live(ours(), version=14)))
    assert [r.action for r in world.reports][2:] == [Action.REPORTED, Action.ENDED]
    assert world.corrections == []


def test_a_failed_look_does_not_make_the_same_drift_news_again(world: World) -> None:
    world.owns()
    world.tracker.set_sync(replace(RULES, mode=DriftMode.WARN))
    world.event(scaled(11))
    world.offline = True
    world.event({**scaled(12), "kind": "PartialObjectMetadata"})
    assert world.reads == [WEB]
    world.offline = False
    world.objects[WEB] = scaled(12)
    world.wait(10)
    assert [r.action for r in world.reports] == [Action.REPORTED]


def test_an_interrupted_correction_says_nothing_of_the_object_and_is_tried_again(world: World) -> None:
    world.owns()

    def interrupted(correction: Correction) -> Corrected:
        raise Interrupted("the lease is lost")

    tracker = Tracker(world.clock, Effects(world.read, interrupted, world.reports.append, world.changed.append))
    tracker.set_sync(RULES)
    tracker.applied(SYNC, desired(), applied_of(live(ours(), version=10)))
    tracker.event(KIND, "MODIFIED", scaled(11))
    tracker.run_due()
    assert world.reports == [] and not tracker.idle()
    assert tracker.counters.failures == 0


def test_corrections_are_told_with_the_time_they_took(world: World) -> None:
    world.owns()
    world.tracker.event(KIND, "MODIFIED", scaled(11))
    world.clock.seconds += 1.5
    world.tracker.run_due()
    (report,) = world.reports
    assert report.latency_s == 1.5
    assert report.seen_at is not None and report.done_at == report.seen_at + timedelta(seconds=1.5)


def test_what_the_first_pass_of_an_agent_had_to_write_was_drift_too(world: World) -> None:
    world.owns()
    world.tracker.found_changed(SYNC, {WEB: False, ObjectId("", "ConfigMap", "shop", "unknown"): True})
    (report,) = world.reports
    assert (report.kind, report.action, report.attribution.manager) == (DriftKind.MODIFIED, Action.CORRECTED, "")
    assert "when the agent started" in report.message
