"""The rules of drift that one change by one program does not show: timing, limits, modes, when nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ocisync.cluster.correction import Correction, CorrectionReason
from ocisync.cluster.drift import Action, DriftKind, DriftReport
from ocisync.model.resource import JsonObject, ObjectId
from ocisync.model.spec import DriftMode, UnownedMode
from tests.support.cluster import Cluster
from tests.support.keeper import Keeper, field, keeping_installed
from tests.support.waiting import eventually

MERGE = "application/merge-patch+json"
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{colour: blue}}\n"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: web, image: "registry.example/web:1"}}]}}
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: none
  resources: {{requests: {{storage: 1Gi}}}}
"""


class Scene:
    """A keeper of one sync on one server, and others who change what it owns."""

    def __init__(self, cluster: Cluster, keeper: Keeper) -> None:
        self.cluster, self.keeper = cluster, keeper

    def owns(self, manifest: str, name: str) -> ObjectId:
        """Apply one more object and wait until the watch has shown it as it is."""
        (desired,) = self.keeper.apply(manifest.format(name=name))
        eventually(lambda: not self.keeper.tracker.unsynced(), what="the watches have shown everything")
        self.rest(desired.id)
        return desired.id

    def rest(self, object_id: ObjectId) -> JsonObject:
        """Wait until the watch has shown the live state and nothing is left to do; that state."""

        def settled() -> JsonObject:
            live = self.keeper.live(object_id)
            assert live is not None
            assert self.keeper.tracker.seen(object_id) >= int(live["metadata"]["resourceVersion"])
            assert self.keeper.tracker.idle(object_id)
            return live

        return eventually(settled, what=f"{object_id} is at rest")

    def path(self, object_id: ObjectId) -> str:
        resource = self.keeper.discovery.resource(object_id.group, object_id.kind)
        return resource.path(object_id.namespace, object_id.name)

    def patch(
        self, object_id: ObjectId, change: JsonObject, manager: str = "by-hand", subresource: str = ""
    ) -> JsonObject:
        path = f"{self.path(object_id)}{subresource}?fieldManager={manager}"
        return self.cluster.api("PATCH", path, change, content_type=MERGE)

    def paint(self, object_id: ObjectId, colour: str, manager: str = "by-hand") -> JsonObject:
        return self.patch(object_id, {"data": {"colour": colour}}, manager)

    def reported(self, object_id: ObjectId, number: int = 1) -> list[DriftReport]:
        """Wait for so many reports about an object."""

        def enough() -> list[DriftReport]:
            found = [report for report in self.keeper.reports if report.object == object_id]
            assert len(found) >= number, found
            return found

        return eventually(enough, what=f"{number} reports about {object_id}")

    def asked(self, object_id: ObjectId) -> list[CorrectionReason]:
        return [one.reason for one in self.keeper.corrections if one.desired.id == object_id]

    def rules(self, **changes: Any) -> None:
        self.keeper.tracker.set_sync(replace(self.keeper.rules, **changes))


@pytest.fixture(scope="module", params=["sandbox", "real"])
def keeper(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, Keeper]]:
    """One keeper for each server."""
    cluster: Cluster = request.getfixturevalue("sandbox_cluster" if request.param == "sandbox" else "cluster")
    installed = tmp_path_factory.mktemp("rules") if request.param == "real" else None
    with keeping_installed(cluster.kubeconfig, "rules", installed) as started:
        yield cluster, started


@pytest.fixture
def scene(keeper: tuple[Cluster, Keeper]) -> Iterator[Scene]:
    """The same keeper for each test, with the sync's usual rules and nobody in between."""
    made = Scene(*keeper)
    made.rules()
    yield made
    made.rules()
    made.keeper.before = made.keeper.after = lambda correction: None


def test_our_own_applies_are_no_news(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "own")
    for colour in ("green", "red", "blue"):
        scene.keeper.apply(CONFIG_MAP.format(name="own").replace("blue", colour))
    scene.rest(object_id)
    assert scene.asked(object_id) == [] and scene.keeper.reported("own") == []


def test_a_status_of_a_kind_without_generation_is_no_suspicion(scene: Scene) -> None:
    object_id = scene.owns(CLAIM, "claim")
    before, asked = scene.rest(object_id), scene.asked(object_id)  # controllers may have bound it meanwhile
    scene.patch(object_id, {"status": {"phase": "Lost"}}, "some-controller", "/status")
    after = scene.rest(object_id)
    assert "generation" not in after["metadata"]
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert scene.asked(object_id) == asked


def test_a_clean_suspect_costs_one_apply_that_writes_nothing(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "suspect")
    noted = scene.patch(object_id, {"metadata": {"annotations": {"controller.example/seen": "yes"}}}, "some-controller")
    eventually(lambda: scene.asked(object_id) == [CorrectionReason.SUSPECT], what="it is checked")
    assert scene.rest(object_id)["metadata"]["resourceVersion"] == noted["metadata"]["resourceVersion"]
    assert scene.keeper.reported("suspect") == []


def test_what_happens_while_our_write_is_under_way_is_judged_after_its_answer(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "meanwhile")
    counts = iter([True])

    def again(correction: Correction) -> None:
        if next(counts, False):
            version = int(scene.paint(object_id, "green", "second")["metadata"]["resourceVersion"])
            eventually(lambda: scene.keeper.tracker.seen(object_id) >= version, what="the watch has shown it")

    scene.keeper.after = again
    scene.paint(object_id, "red", "first")
    first, second = scene.reported(object_id, 2)
    assert scene.rest(object_id)["data"]["colour"] == "blue"
    assert [(r.attribution.manager, r.fields[0].new) for r in (first, second)] == [
        ("first", "red"),
        ("second", "green"),
    ]


def test_a_correction_names_the_object_that_it_means_and_an_object_that_went_meanwhile_is_made_anew(
    scene: Scene,
) -> None:
    object_id = scene.owns(CONFIG_MAP, "vanishing")
    before = scene.rest(object_id)["metadata"]["uid"]
    counts = iter([True])

    def delete(correction: Correction) -> None:
        if next(counts, False):
            assert correction.uid == before
            scene.cluster.api("DELETE", scene.path(object_id))

    scene.keeper.before = delete
    scene.paint(object_id, "red")
    scene.reported(object_id)
    after = scene.rest(object_id)
    assert after["metadata"]["uid"] != before and after["data"]["colour"] == "blue"


def test_a_lost_field_of_equal_value_is_owned_again_silently_and_counted(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "cleared")
    before = scene.keeper.tracker.counters.reowned
    scene.patch(object_id, {"metadata": {"managedFields": [{}]}})
    eventually(lambda: scene.keeper.tracker.counters.reowned == before + 1, what="it is owned again")
    live = scene.rest(object_id)
    assert [e["manager"] for e in live["metadata"]["managedFields"] if e["operation"] == "Apply"] == ["ocisync"]
    assert scene.keeper.reported("cleared") == []


def test_warn_reports_once_writes_nothing_and_says_when_it_is_over(scene: Scene) -> None:
    object_id = scene.owns(DEPLOYMENT, "warned")
    scene.rules(mode=DriftMode.WARN)
    scene.patch(object_id, {"spec": {"replicas": 9}})
    (report,) = scene.reported(object_id)
    assert (report.action, report.fields[0].old, report.fields[0].new) == (Action.REPORTED, "3", "9")
    scene.patch(object_id, {"metadata": {"annotations": {"example.com/note": "1"}}})
    assert scene.rest(object_id)["spec"]["replicas"] == 9
    assert scene.asked(object_id) == [] and len(scene.keeper.reported("warned")) == 1
    scene.patch(object_id, {"spec": {"replicas": 3}})
    assert scene.reported(object_id, 2)[1].action is Action.ENDED
    assert scene.asked(object_id) == []


def test_warn_does_not_recreate_what_was_deleted(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "warned-gone")
    scene.rules(mode=DriftMode.WARN)
    scene.cluster.api("DELETE", scene.path(object_id))
    assert scene.reported(object_id)[0].kind is DriftKind.DELETED
    assert scene.keeper.live(object_id) is None and scene.asked(object_id) == []


def test_ignore_neither_reports_nor_writes(scene: Scene) -> None:
    ignored, witness = scene.owns(CONFIG_MAP, "ignored"), scene.owns(CONFIG_MAP, "witness")
    scene.rules(mode=DriftMode.IGNORE)
    scene.paint(ignored, "red")
    scene.rest(ignored)
    scene.rules()
    scene.paint(witness, "red")
    scene.reported(witness)  # whatever came before it was looked at by now
    assert scene.rest(ignored)["data"]["colour"] == "red"
    assert scene.asked(ignored) == [] and scene.keeper.reported("ignored") == []


def test_nothing_is_written_while_the_sync_is_suspended_or_being_deleted(scene: Scene) -> None:
    for why in ("suspended", "deleting"):
        object_id = scene.owns(CONFIG_MAP, why)
        scene.rules(paused=why)
        scene.paint(object_id, "red")
        assert scene.rest(object_id)["data"]["colour"] == "red"
        assert scene.asked(object_id) == []
        scene.rules()
        assert scene.reported(object_id)[0].fields[0].new == "red"
        assert scene.rest(object_id)["data"]["colour"] == "blue"


@pytest.mark.parametrize("known", [True, False], ids=["of-ours", "of-others"])
def test_nothing_is_written_into_a_namespace_that_ends(scene: Scene, known: bool) -> None:
    name = f"ending-{'ours' if known else 'theirs'}-{scene.keeper.namespace}"[:60]
    inside = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: inside, namespace: {name}}}\ndata: {{colour: blue}}\n"
    held = inside.replace("name: inside", "name: held, finalizers: [test.example/hold]")
    space = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"
    if not known:
        scene.cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    *_, one, other = scene.keeper.apply("---\n".join([*([space] if known else []), inside, held]))
    eventually(lambda: not scene.keeper.tracker.unsynced(), what="the watches have shown everything")
    scene.cluster.api("DELETE", f"/api/v1/namespaces/{name}")
    eventually(lambda: scene.keeper.live(one.id) is None, what="what nobody holds is gone")
    eventually(lambda: field(scene.keeper.live(other.id), "metadata", "deletionTimestamp"), what="the other is held")
    scene.patch(other.id, {"data": {"colour": "red"}})
    witness = scene.owns(CONFIG_MAP, f"beside-{'ours' if known else 'theirs'}")
    scene.paint(witness, "red")
    scene.reported(witness)
    assert scene.keeper.live(one.id) is None
    ending = scene.keeper.live(other.id)
    assert ending is not None and ending["data"]["colour"] == "red"
    scene.keeper.tracker.forget(scene.keeper.sync_id, (one.id, other.id, ObjectId("", "Namespace", "", name)))
    scene.cluster.api("PATCH", scene.path(other.id), {"metadata": {"finalizers": None}}, content_type=MERGE)


def test_foreign_fields_under_spec_are_reported_until_they_go_and_not_at_all_if_so_asked(scene: Scene) -> None:
    object_id = scene.owns(DEPLOYMENT, "hosted")
    pod: Any = {"spec": {"template": {"spec": {"hostNetwork": True}}}}
    scene.rules(unowned=UnownedMode.IGNORE)
    scene.patch(object_id, pod)
    scene.rest(object_id)
    assert scene.keeper.reported("hosted") == []
    scene.rules()
    pod["spec"]["template"]["spec"]["hostNetwork"] = None
    scene.patch(object_id, pod)
    scene.rest(object_id)
    # The status that a controller wrote in between may have shown the field under the new rules already.
    before = len(scene.keeper.reported("hosted"))
    pod["spec"]["template"]["spec"]["hostNetwork"] = True
    scene.patch(object_id, pod)
    *_, report = scene.reported(object_id, before + 1)
    assert (report.kind, report.paths) == (DriftKind.UNMANAGED, "spec.template.spec.hostNetwork")
    scene.rest(object_id)
    assert len(scene.keeper.reported("hosted")) == before + 1, "it is told once, however often the object changes"
    pod["spec"]["template"]["spec"]["hostNetwork"] = None
    scene.patch(object_id, pod)
    assert scene.reported(object_id, before + 2)[-1].action is Action.ENDED


def test_a_foreign_claim_that_is_taken_back_is_over(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "claimed")
    label = "applyset.kubernetes.io/part-of"
    scene.patch(object_id, {"metadata": {"labels": {label: "applyset-other-v1"}}})
    assert scene.reported(object_id)[0].kind is DriftKind.CLAIMED
    assert scene.asked(object_id) == []
    scene.patch(object_id, {"metadata": {"labels": {label: scene.keeper.sync_id}}})
    assert scene.reported(object_id, 2)[1].action is Action.ENDED


def test_a_correction_is_told_with_both_times(scene: Scene) -> None:
    object_id = scene.owns(CONFIG_MAP, "timed")
    scene.paint(object_id, "red")
    (report,) = scene.reported(object_id)
    assert report.seen_at is not None and report.done_at is not None and report.latency_s is not None
    assert report.seen_at <= report.done_at and report.latency_s >= 0
    assert report.place == "test.yaml:1" and report.mode is DriftMode.CORRECT
