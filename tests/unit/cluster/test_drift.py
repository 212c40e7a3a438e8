"""The drift rule and attribution, on values alone. The same changes on a real server: tests/contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ocisync.cluster.drift import (
    DriftKind,
    FieldChange,
    Judgement,
    TimeSource,
    Verdict,
    attribute,
    describe,
    field_changes,
    judge,
    judge_look,
    order_changes,
    unmanaged_fields,
)
from ocisync.cluster.fields import owned_paths
from ocisync.cluster.memory import applied_of, seen_of
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import PART_OF_LABEL
from tests.unit.cluster.objects import IMAGE, LABEL, OURS, REPLICAS, SPEC, SYNC, T0, T1, WEB, entry, live, ours

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
WEB_ID = ObjectId("apps", "Deployment", "shop", "web")
BEFORE = applied_of(live(ours(), version=10, generation=1))
WITHOUT_REPLICAS = ours(*(p for p in OURS if p != REPLICAS))


def judged(obj: JsonObject, event: str = "MODIFIED", **more: Any) -> Judgement:
    return judge(BEFORE, event, obj, sync_id=SYNC, **more)


@pytest.mark.parametrize(
    ("obj", "verdict"),
    [
        pytest.param(live(ours(), version=10), Verdict.IGNORE, id="our own write"),
        pytest.param(live(ours(), version=9, generation=7), Verdict.IGNORE, id="old news"),
        pytest.param(live(ours(), version=100, generation=1), Verdict.IGNORE, id="versions compare as integers"),
        pytest.param(live(ours(), version=11, uid="u2"), Verdict.REPLACED, id="another uid"),
        pytest.param(live(ours(), version=9, uid="u2"), Verdict.REPLACED, id="another uid, before the version"),
        pytest.param(live(ours(), version=11, metadata={"deletionTimestamp": T1}), Verdict.TERMINATING,
                     id="terminating"),
        pytest.param(live(WITHOUT_REPLICAS, version=11), Verdict.DRIFT, id="a path was lost"),
        pytest.param(live(ours(time=T1), version=11), Verdict.DRIFT, id="applied under our name"),
        pytest.param(live(ours(*OURS, ("f:spec", "f:x")), version=11), Verdict.DRIFT, id="paths gained"),
        pytest.param(live(entry("other", REPLICAS), version=11), Verdict.DRIFT, id="managedFields cleared"),
        pytest.param(live(ours(), version=11, generation=2), Verdict.SUSPECT, id="generation moved"),
        pytest.param(live(ours(), entry("x", ("f:metadata", "f:annotations", "f:a")), version=11), Verdict.IGNORE,
                     id="a generation that did not move clears other entries"),
        pytest.param(live(ours(), version=11, label="applyset-other-v1"), Verdict.CLAIMED, id="foreign label"),
    ],
)  # fmt: skip
def test_the_rule_decides_in_its_order(obj: JsonObject, verdict: Verdict) -> None:
    assert judged(obj).verdict is verdict


def test_a_deletion_event_asks_for_a_look() -> None:
    assert judged(live(), "DELETED").verdict is Verdict.LOOK


@pytest.mark.parametrize(
    ("obj", "verdict"),
    [
        (None, Verdict.DELETED),
        (live(uid="u2", version=12), Verdict.REPLACED),
        (live(ours(*(p for p in OURS if p != LABEL)), version=12, label=""), Verdict.LABEL_REMOVED),
        (live(entry("x", REPLICAS), version=12, label=""), Verdict.LABEL_REMOVED),
        (live(version=12, metadata={"deletionTimestamp": T1}), Verdict.TERMINATING),
        (live(version=12, label="applyset-other-v1"), Verdict.CLAIMED),
        (live(ours(), version=12), Verdict.IGNORE),
        (live(WITHOUT_REPLICAS, version=12), Verdict.DRIFT),
    ],
)
def test_a_look_tells_deletion_from_a_lost_label(obj: JsonObject | None, verdict: Verdict) -> None:
    assert judge_look(BEFORE, obj, sync_id=SYNC).verdict is verdict


def test_kinds_without_generation_are_suspected_when_other_entries_change_but_not_for_status() -> None:
    before = applied_of(live(ours(), generation=None))
    status = entry("kubelet", ("f:status", "f:phase"), subresource="status")
    annotation = entry("kubectl-annotate", ("f:metadata", "f:annotations", "f:a"))
    after_status = live(ours(), status, version=11, generation=None)
    after_annotation = live(ours(), annotation, version=11, generation=None)
    assert judge(before, "MODIFIED", after_status, sync_id=SYNC).verdict is Verdict.IGNORE
    assert judge(before, "MODIFIED", after_annotation, sync_id=SYNC).verdict is Verdict.SUSPECT


def test_an_autoscaler_may_hold_replicas_but_kubectl_may_not() -> None:
    autoscaler = entry("kube-controller-manager", REPLICAS, subresource="scale", time="")
    person = entry("kubectl", REPLICAS, subresource="scale", time="")
    left = judged(live(WITHOUT_REPLICAS, autoscaler, version=11, generation=2))
    assert (left.verdict, left.released) == (Verdict.IGNORE, (REPLICAS,))
    taken = judged(live(WITHOUT_REPLICAS, person, version=11, generation=2))
    assert (taken.verdict, taken.lost) == (Verdict.DRIFT, (REPLICAS,))


def test_an_autoscaler_does_not_hide_another_loss() -> None:
    autoscaler = entry("kube-controller-manager", REPLICAS, subresource="scale", time="")
    both = judged(live(ours(LABEL, WEB, (*WEB, "f:name")), autoscaler, entry("x", IMAGE), version=11))
    assert (both.verdict, both.lost, both.released) == (Verdict.DRIFT, (IMAGE,), (REPLICAS,))


def test_ignored_paths_are_left_to_others() -> None:
    obj = live(WITHOUT_REPLICAS, entry("tool", REPLICAS), version=11, generation=2)
    assert judged(obj, ignored=("/spec/replicas",)).verdict is Verdict.IGNORE
    assert judged(obj, ignored=("/spec/other",)).verdict is Verdict.DRIFT


def test_the_manager_is_the_holder_of_a_lost_path_and_the_time_is_its_entrys() -> None:
    by = attribute(judged(live(WITHOUT_REPLICAS, entry("kubectl-edit", REPLICAS), version=11)), NOW)
    assert (by.manager, by.time, by.time_source) == ("kubectl-edit", T1, TimeSource.ENTRY)


def test_a_holder_without_a_time_gets_the_time_it_was_seen_and_the_text_says_so() -> None:
    held = entry("kubectl", REPLICAS, subresource="scale", time="")
    by = attribute(judged(live(WITHOUT_REPLICAS, held, version=11)), NOW)
    assert (by.manager, by.subresource, by.time_source) == ("kubectl", "scale", TimeSource.SEEN)
    assert (by.who(), by.when()) == ("by kubectl (scale)", "seen at 2026-01-01T12:00:00Z")


def test_a_removed_field_has_no_actor_only_candidates() -> None:
    others = (entry("argocd", IMAGE, time=T0), entry("kubectl-patch", ("f:data",)), entry("kubelet", ("f:status",),
              subresource="status"))  # fmt: skip
    by = attribute(judged(live(WITHOUT_REPLICAS, *others, version=11)), NOW)
    assert by.manager == ""
    assert by.candidates == ("kubectl-patch", "argocd")
    assert by.who() == "by unknown; candidates: kubectl-patch, argocd"
    assert by.time_source is TimeSource.SEEN


def test_an_apply_under_our_name_is_named_with_its_time() -> None:
    by = attribute(judged(live(ours(time=T1), version=11)), NOW)
    assert (by.manager, by.operation, by.time) == ("ocisync", "Apply", T1)


def test_a_replacement_is_attributed_only_if_one_manager_made_it() -> None:
    one = judged(live(entry("someone", IMAGE), uid="u2", version=11))
    two = judged(live(entry("someone", IMAGE), entry("else", REPLICAS), uid="u2", version=11))
    assert attribute(one, NOW).manager == "someone"
    assert attribute(two, NOW).manager == ""


def test_a_deletion_has_no_actor_but_may_have_a_time() -> None:
    gone = judge_look(BEFORE, None, sync_id=SYNC)
    assert attribute(gone, NOW).time_source is TimeSource.SEEN
    assert attribute(gone, NOW, deletion=T1).time == T1
    assert attribute(gone, NOW, deletion=T1).manager == ""


def test_changes_show_both_values_and_who_holds_them() -> None:
    changed = live(WITHOUT_REPLICAS, entry("kubectl", REPLICAS), version=11, spec={**SPEC["spec"], "replicas": 10})
    changes = field_changes(judged(changed), WEB_ID, SPEC, changed, OURS)
    assert changes == (FieldChange("spec.replicas", "3", "10", "kubectl"),)


def test_lost_paths_of_equal_value_are_no_change() -> None:
    same = live(WITHOUT_REPLICAS, entry("tool", REPLICAS), version=11)
    assert field_changes(judged(same), WEB_ID, SPEC, same, OURS) == ()


def test_after_an_apply_under_our_name_all_owned_values_are_compared() -> None:
    changed = live(ours(time=T1), version=11, spec={"replicas": 3, "containers": [{"name": "web", "image": "evil"}]})
    wanted = {**SPEC, "metadata": {"labels": {PART_OF_LABEL: SYNC}}}
    changes = field_changes(judged(changed), WEB_ID, wanted, changed, OURS)
    assert [(c.path, c.old, c.new) for c in changes] == [('spec.containers[name="web"].image', "web:1", "evil")]


def test_values_of_secrets_are_masked_but_their_labels_are_not() -> None:
    secret = ObjectId("", "Secret", "shop", "login")
    lost = Judgement(
        Verdict.DRIFT, None, lost=(("f:data", "f:password"), LABEL, ("f:metadata", "f:annotations", "f:a"))
    )
    wanted = {
        "data": {"password": "b2xk"},
        "metadata": {"labels": {LABEL[-1][2:]: "x"}, "annotations": {"a": "s3cret"}},
    }
    changes = field_changes(lost, secret, wanted, {"data": {"password": "bmV3"}}, ())
    shown = {c.path: (c.old, c.new) for c in changes}
    assert shown["data.password"] == ("(masked)", "(masked)")
    assert shown["metadata.annotations.a"] == ("(masked)", "(absent)")
    assert "x" in shown['metadata.labels["applyset.kubernetes.io/part-of"]']


def test_reordered_items_are_found_although_ownership_does_not_show_them() -> None:
    fields: JsonObject = {"f:env": {'k:{"name":"A"}': {".": {}}, 'k:{"name":"B"}': {".": {}}}}
    wanted = {"env": [{"name": "A"}, {"name": "B"}]}
    changes = order_changes(wanted, {"env": [{"name": "X"}, {"name": "B"}, {"name": "A"}]}, owned_paths(fields))
    assert [(c.path, c.old, c.new) for c in changes] == [
        ("env (order)", '[name="A"] [name="B"]', '[name="B"] [name="A"]')
    ]
    inserted = {"env": [{"name": "A"}, {"name": "X"}, {"name": "B"}]}
    assert order_changes(wanted, inserted, owned_paths(fields)) == ()


def test_foreign_fields_under_spec_are_unmanaged_but_those_of_kubernetes_itself_are_not() -> None:
    sidecar = ("f:spec", "f:containers", 'k:{"name":"mesh"}')
    obj = live(
        ours(),
        entry("kubectl-patch", WEB, IMAGE, sidecar, (*sidecar, "f:image"), ("f:metadata", "f:labels", "f:x")),
        entry("kube-controller-manager", ("f:spec", "f:volumeName")),
        entry("kubectl", ("f:spec", "f:paused"), subresource="status"),
        entry("ocisync", ("f:spec", "f:injected")),
    )
    found, by = unmanaged_fields(seen_of(obj), frozenset(OURS))
    assert found == (sidecar,)
    assert [e.manager for e in by] == ["kubectl-patch"]


def test_fields_inside_an_atomic_value_of_ours_are_not_unmanaged() -> None:
    obj = live(ours(), entry("x", ("f:spec", "f:selector", "f:app")))
    assert unmanaged_fields(seen_of(obj), frozenset({*OURS, ("f:spec", "f:selector")}))[0] == ()


def test_messages_say_what_who_and_when() -> None:
    held = entry("kubectl", REPLICAS, subresource="scale", time="")
    by = attribute(judged(live(WITHOUT_REPLICAS, held, version=11)), NOW)
    text = describe(DriftKind.MODIFIED, WEB_ID, (FieldChange("spec.replicas", "3", "10"),), by)
    assert text == (
        "Deployment.apps shop/web modified outside GitOps: spec.replicas 3 → 10 by kubectl (scale), "
        "seen at 2026-01-01T12:00:00Z"
    )
    nobody = attribute(Judgement(Verdict.DRIFT, seen_of(live())), NOW)
    removed = describe(DriftKind.MODIFIED, WEB_ID, (FieldChange("data.a", "1", "(absent)"),), nobody)
    assert "data.a 1 → (absent) removed by unknown, seen at" in removed
    assert "claimed by sync x/y" in describe(DriftKind.CLAIMED, WEB_ID, (), by, detail="sync x/y")
    many = tuple(FieldChange(f"f{i}", "1", "2") for i in range(7))
    assert "and 2 more" in describe(DriftKind.MODIFIED, WEB_ID, many, by)
