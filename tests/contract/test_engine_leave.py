"""What a full pass and a correction leave to others: the same on the sandbox and on a real API server."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from ocisync.kit.stop import StopToken
from ocisync.model.resource import JsonObject
from ocisync.model.spec import PART_OF_LABEL, IgnoreRule
from tests.contract.test_engine_apply import deployment
from tests.support.engine import EngineDriver, failure_of, manifest

REPLICAS = IgnoreRule("apps", "Deployment", "", "", ("/spec/replicas",))


def ignoring(engine: EngineDriver, *rules: IgnoreRule) -> None:
    engine.target = replace(engine.target, ignore=rules)


def scale(engine: EngineDriver, replicas: int, manager: str) -> None:
    response = engine.kube.request(
        "PATCH",
        engine.path("Deployment", "web", "apps") + "/scale",
        query=(("fieldManager", manager),),
        body=b'{"spec":{"replicas":%d}}' % replicas,
        content_type="application/merge-patch+json",
    )
    assert response.status == 200, response.body


def replicas_of(engine: EngineDriver) -> object:
    return engine.must("Deployment", "web", "apps")["spec"].get("replicas")


def correct(engine: EngineDriver, obj: JsonObject) -> None:
    """One correction, as the tracker asks for it."""
    (desired,) = engine.engine().prepare([manifest(obj)], engine.target).desired
    uid = engine.must(desired.id.kind, desired.id.name, desired.id.group)["metadata"]["uid"]
    result = engine.engine().apply_one(desired, engine.target, uid=uid)
    assert result.failure is None


def test_ignored_replicas_are_created_as_written_and_then_left_to_whoever_scales(engine: EngineDriver) -> None:
    ignoring(engine, REPLICAS)
    engine.sync(deployment("web", replicas=2))
    assert replicas_of(engine) == 2
    scale(engine, 7, "scaler")
    assert engine.sync(deployment("web", replicas=2, minReadySeconds=1)).failures == ()
    assert replicas_of(engine) == 7
    correct(engine, deployment("web", replicas=2))
    assert replicas_of(engine) == 7
    scale(engine, 8, "scaler")
    assert engine.sync(deployment("web", replicas=3)).failures == ()
    assert replicas_of(engine) == 8


def test_ignored_replicas_that_only_we_own_stay_even_when_git_changes_or_drops_them(engine: EngineDriver) -> None:
    engine.sync(deployment("web", replicas=4))
    ignoring(engine, REPLICAS)
    engine.sync(deployment("web", replicas=2))
    assert replicas_of(engine) == 4
    assert engine.sync(deployment("web")).failures == ()
    assert replicas_of(engine) == 4


def test_ignored_replicas_that_were_scaled_to_zero_stay_zero(engine: EngineDriver) -> None:
    ignoring(engine, REPLICAS)
    engine.sync(deployment("web", replicas=2))
    scale(engine, 0, "kubectl")  # leaves no owner
    engine.sync(deployment("web", replicas=2, minReadySeconds=1))
    assert replicas_of(engine) == 0


def test_replicas_survive_the_commit_that_hands_them_to_an_autoscaler(engine: EngineDriver) -> None:
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }
    engine.sync(deployment("web", replicas=4))
    assert engine.sync(deployment("web"), hpa).failures == ()
    assert replicas_of(engine) == 4
    scale(engine, 6, "kube-controller-manager")
    correct(engine, deployment("web"))
    assert engine.sync(deployment("web"), hpa).failures == ()
    assert replicas_of(engine) == 6


def test_an_ignored_image_of_one_container_is_left_and_the_rest_of_it_is_kept(engine: EngineDriver) -> None:
    ignoring(engine, IgnoreRule("apps", "Deployment", "", "", ("/spec/template/spec/containers/*/image",)))
    engine.sync(deployment("web"))
    container = {"name": "c", "image": "x:2", "env": [{"name": "A", "value": "b"}]}
    theirs = deployment("web")
    theirs["spec"]["template"]["spec"]["containers"] = [{"name": "c", "image": "x:9"}]
    engine.apply_as("updater", theirs)
    ours = deployment("web")
    ours["spec"]["template"]["spec"]["containers"] = [container, {"name": "side", "image": "side:1"}]
    assert engine.sync(ours).failures == ()
    found = engine.must("Deployment", "web", "apps")["spec"]["template"]["spec"]["containers"]
    assert [(one["name"], one["image"]) for one in found] == [("c", "x:9"), ("side", "side:1")]
    assert found[0]["env"] == [{"name": "A", "value": "b"}]


def test_what_others_write_again_and_again_is_looked_at_anew_until_our_apply_fits(real_engine: EngineDriver) -> None:
    """As a Deployment's controller does while it rolls."""
    engine = real_engine
    ignoring(engine, IgnoreRule("", "ConfigMap", "", "", ("/data/theirs",)))
    engine.sync(engine.config_map("a", ours="1", theirs="0"))
    engine.write_as("them", "ConfigMap", "a", {"data": {"theirs": "1"}})
    moves = iter("234567")

    def just_before() -> str:
        for move in islice(moves, 1):
            engine.write_as("them", "ConfigMap", "a", {"data": {"theirs": move}})
        return ""

    engine.own.hold = just_before
    assert engine.sync(engine.config_map("a", ours="2", theirs="0")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"ours": "2", "theirs": "7"}


class Breaths(StopToken):
    """Remembers what was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.taken.append(seconds)
        return self.stopped


def test_a_correction_takes_a_breath_before_it_looks_anew(real_engine: EngineDriver) -> None:
    engine, breaths = real_engine, Breaths()
    ignoring(engine, IgnoreRule("", "ConfigMap", "", "", ("/data/theirs",)))
    engine.sync(engine.config_map("a", ours="1", theirs="0"))
    engine.write_as("them", "ConfigMap", "a", {"data": {"ours": "theirs", "theirs": "1"}})
    moves = iter("23")

    def just_before() -> str:
        for move in islice(moves, 1):
            engine.write_as("them", "ConfigMap", "a", {"data": {"theirs": move}})
        return ""

    engine.own.hold, engine.stop = just_before, breaths
    correct(engine, engine.config_map("a", ours="1", theirs="0"))
    assert engine.must("ConfigMap", "a")["data"] == {"ours": "1", "theirs": "3"}
    assert len(breaths.taken) == 2 and 0 < breaths.taken[0] < breaths.taken[1]


def test_adopting_from_kubectl_keeps_what_is_ignored(engine: EngineDriver) -> None:
    ignoring(engine, IgnoreRule("", "ConfigMap", "", "", ("/data/theirs",)))
    engine.create_as("kubectl-client-side-apply", engine.config_map("a", ours="1", theirs="1", old="1"))
    assert engine.sync(engine.config_map("a", ours="2")).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"ours": "2", "theirs": "1"}


def test_a_stolen_label_is_a_conflict_that_names_the_owner_and_nothing_is_forced(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1"), engine.config_map("b"))
    stolen = {"metadata": {"labels": {PART_OF_LABEL: "applyset-theirs-v1"}}, "data": {"x": "theirs"}}
    engine.write_as("kubectl-label", "ConfigMap", "a", stolen)
    report = engine.sync(engine.config_map("a", x="2"), engine.config_map("b", y="2"), force=True)
    assert failure_of(report, "a").startswith("Conflict OwnedByOther: belongs to another sync (applyset-theirs-v1)")
    live = engine.must("ConfigMap", "a")
    assert (live["data"], live["metadata"]["labels"]) == ({"x": "theirs"}, {PART_OF_LABEL: "applyset-theirs-v1"})
    assert engine.must("ConfigMap", "b")["data"] == {"y": "2"}
    adopting = engine.config_map("a", x="2")
    adopting["metadata"]["annotations"] = {"ocisync.dev/adopt": "applyset-theirs-v1"}
    assert engine.sync(adopting, engine.config_map("b", y="2")).failures == ()
    assert engine.must("ConfigMap", "a")["metadata"]["labels"] == {PART_OF_LABEL: engine.target.sync_id}
