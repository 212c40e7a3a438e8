"""Whose object is it."""

from __future__ import annotations

from ocisync.cluster.outcome import Cause
from ocisync.cluster.ownership import (
    Claim,
    FieldConflict,
    claim,
    conflicts_of,
    describe,
    may_take,
    residue_patch,
    take_over_patch,
)
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PART_OF_LABEL


def entry(manager: str, operation: str = "Update", fields: JsonObject | None = None) -> JsonObject:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields or {},
    }


def obj(*entries: JsonObject, label: str = "", **metadata: object) -> JsonObject:
    labels = {PART_OF_LABEL: label} if label else {}
    return {"metadata": {"labels": labels, "managedFields": list(entries), "resourceVersion": "5", **metadata}}


def test_claims() -> None:
    ours = entry("ocisync", "Apply")
    assert claim(obj(ours, label="me"), "me") is Claim.OURS
    assert claim(obj(entry("endpoint-controller"), label="me"), "me") is Claim.FREE
    assert claim(obj(), "me") is Claim.FREE
    assert claim(obj(ours, label="other"), "me") is Claim.FOREIGN
    assert claim(obj(ours, label="other"), "me", adopt="other") is Claim.FREE
    assert claim(obj(ours, label="me", deletionTimestamp="x"), "me") is Claim.TERMINATING


def test_conflicts_name_manager_subresource_and_field() -> None:
    by_hpa = 'conflict with "kube-controller-manager" with subresource "scale" using apps/v1'
    causes = (
        Cause("FieldManagerConflict", ".spec.replicas", by_hpa),
        Cause("FieldManagerConflict", ".data.x", 'conflict with "helm" using v1'),
        Cause("FieldValueInvalid", ".data.y", "other"),
    )  # fmt: skip
    found = conflicts_of(causes)
    assert found == (
        FieldConflict(".spec.replicas", "kube-controller-manager", "scale"),
        FieldConflict(".data.x", "helm", ""),
    )
    assert [conflict.autoscaled for conflict in found] == [True, False]
    assert describe(found) == "data.x managed by 'helm'; spec.replicas managed by 'kube-controller-manager'"


def test_what_hands_wrote_may_be_taken_and_what_programs_wrote_may_not() -> None:
    by_hand = tuple(FieldConflict(".x", name, "") for name in ("kubectl", "kubectl-edit", "before-first-apply"))
    assert may_take(by_hand)
    assert not may_take((*by_hand, FieldConflict(".x", "helm", "")))
    assert not may_take((FieldConflict(".x", "kubectlike", ""),))


def test_what_kubectl_apply_wrote_becomes_ours() -> None:
    live = obj(
        entry("kubectl-client-side-apply", fields={"f:data": {"f:a": {}}}),
        entry("kubectl", "Apply", fields={"f:data": {"f:b": {}}}),
        entry("controller", fields={"f:status": {}}),
    )
    patch = take_over_patch(live)
    assert patch is not None
    assert patch[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "5"}
    merged, kept = patch[1]["value"]
    assert (merged["manager"], merged["operation"]) == ("ocisync", "Apply")
    assert merged["fieldsV1"] == {"f:data": {"f:a": {}, "f:b": {}}}
    assert kept["manager"] == "controller"
    assert take_over_patch(obj(entry("controller"))) is None


def test_replicas_are_not_taken_over_where_an_autoscaler_will_hold_them() -> None:
    live = obj(entry("kubectl-client-side-apply", fields={"f:spec": {"f:replicas": {}, "f:paused": {}}}))
    patch = take_over_patch(live, leave=("/spec/replicas",))
    assert patch is not None
    assert patch[1]["value"][0]["fieldsV1"] == {"f:spec": {"f:paused": {}}}


def test_the_entry_from_before_the_first_apply_is_dropped_whole() -> None:
    patch = residue_patch(obj(entry("before-first-apply"), entry("ocisync", "Apply"), entry("before-first-apply")))
    assert patch is not None
    assert [kept["manager"] for kept in patch[1]["value"]] == ["ocisync"]
    assert residue_patch(obj(entry("ocisync", "Apply"))) is None


def test_hands_let_go_of_what_is_ours_once_it_is_adopted_and_keep_the_rest() -> None:
    ours = entry("ocisync", "Apply", fields={"f:data": {"f:a": {}, "f:b": {}}})
    hand = entry("kubectl-edit", fields={"f:data": {"f:a": {}, "f:own": {}}})
    gone = entry("kubectl-create", fields={"f:data": {"f:b": {}}})
    program = entry("helm", fields={"f:data": {"f:a": {}}})
    scale = {**entry("kubectl", fields={"f:data": {"f:a": {}}}), "subresource": "scale"}
    patch = residue_patch(obj(ours, hand, gone, program, scale), adopted=True)
    assert patch is not None
    kept = patch[1]["value"]
    assert [item["manager"] for item in kept] == ["ocisync", "kubectl-edit", "helm", "kubectl"]
    assert kept[1]["fieldsV1"] == {"f:data": {"f:own": {}}}
    assert residue_patch(obj(ours, hand, gone, program, scale)) is None, "only when it is adopted"
    assert residue_patch(obj(ours, program), adopted=True) is None
