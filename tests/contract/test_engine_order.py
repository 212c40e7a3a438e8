"""In which order objects come and go: on the sandbox and on a real API server."""

from __future__ import annotations

from ocisync.cluster.apply import Action
from ocisync.cluster.engine import ApplyReport, Settings
from ocisync.cluster.execute import Conduct
from ocisync.model.resource import JsonObject, ObjectId
from tests.contract.test_engine_apply import deployment
from tests.support.engine import GENEROUS, EngineDriver, actions, failure_of, manifest


def after(item: JsonObject, *needed: str, wave: int = 0) -> JsonObject:
    annotations = item["metadata"].setdefault("annotations", {})
    if needed:
        annotations["ocisync.dev/depends-on"] = ",".join(needed)
    if wave:
        annotations["ocisync.dev/wave"] = str(wave)
    return item


def finalized(item: JsonObject) -> JsonObject:
    item["metadata"]["finalizers"] = ["example.com/operator"]
    return item


def let_go(engine: EngineDriver, name: str) -> None:
    engine.write_as("operator", "ConfigMap", name, {"metadata": {"finalizers": None}})


def applied_order(engine: EngineDriver, *objects: JsonObject) -> list[str]:
    order: list[str] = []
    report = engine.sync(*objects, on_applied=lambda id_, _: order.append(id_.name))
    assert report.failures == ()
    return order


def test_hard_edges_come_before_the_order_of_kinds(engine: EngineDriver) -> None:
    order = applied_order(
        engine,
        after(engine.config_map("late"), f"apps/Deployment/{engine.namespace}/web"),
        after(engine.config_map("first"), wave=-1),
        deployment("web"),
        engine.config_map("early"),
        after(engine.config_map("last"), wave=2),
    )
    assert order == ["first", "early", "web", "late", "last"]


def test_a_failing_wave_keeps_later_waves_from_being_tried_and_nothing_else(engine: EngineDriver) -> None:
    bad = {**engine.config_map("bad"), "unknown": True}
    report = engine.sync(bad, engine.config_map("beside"), after(engine.config_map("later"), wave=1))
    assert actions(report) == {"bad": Action.FAILED, "beside": Action.CREATED, "later": Action.SKIPPED}
    assert failure_of(report, "later").endswith("bad, which failed")
    assert engine.live("ConfigMap", "later") is None


def test_a_kind_that_is_missing_blocks_what_depends_on_it(engine: EngineDriver) -> None:
    lacking = {"apiVersion": "nobody.example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    needing = after(engine.config_map("needing"), f"nobody.example.com/Widget/{engine.namespace}/w")
    report = engine.sync(lacking, needing, engine.config_map("fine"))
    assert actions(report) == {"w": Action.FAILED, "needing": Action.SKIPPED, "fine": Action.CREATED}
    assert failure_of(report, "needing").endswith("it needs Widget.nobody.example.com w, which failed")


def test_a_circle_is_refused_before_anything_of_it_is_written(engine: EngineDriver) -> None:
    space = engine.namespace
    report = engine.sync(
        after(engine.config_map("a"), f"/ConfigMap/{space}/b"),
        after(engine.config_map("b"), f"/ConfigMap/{space}/c"),
        after(engine.config_map("c"), f"core/ConfigMap/{space}/a"),
        after(engine.config_map("behind"), f"/ConfigMap/{space}/a"),
        engine.config_map("fine"),
    )
    circle = f"dependency circle: ConfigMap {space}/a → b → c → a; take one ocisync.dev/depends-on out"
    assert {failure_of(report, name) for name in "abc"} == {f"Permanent DependencyCycle: {circle}"}
    assert actions(report)["behind"] is Action.SKIPPED
    assert actions(report)["fine"] is Action.CREATED
    assert [engine.live("ConfigMap", name) for name in ("a", "b", "c", "behind")] == [None] * 4


def test_deletion_goes_from_the_last_wave_to_the_first_and_waits_for_what_has_not_gone(engine: EngineDriver) -> None:
    operator = engine.config_map("operator")
    resource = after(finalized(engine.config_map("resource")), f"/ConfigMap/{engine.namespace}/operator")
    extra = after(engine.config_map("extra"), wave=1)
    stays = engine.config_map("stays")
    engine.sync(operator, resource, extra, stays)
    first = engine.sync(stays)
    assert actions(first)["extra"] is Action.DELETED
    assert actions(first)["operator"] is Action.SKIPPED, "its resource has not gone, and needs it to go"
    assert first.failures == ()
    assert [id_.name for id_ in first.ending] == ["resource"]
    second = engine.sync(stays)
    assert actions(second)["operator"] is Action.SKIPPED
    let_go(engine, "resource")
    assert actions(engine.sync(stays))["operator"] is Action.DELETED
    assert engine.owned() == ["stays"]


def test_the_end_of_a_sync_deletes_in_the_same_order(engine: EngineDriver) -> None:
    resource = after(finalized(engine.config_map("resource")), f"/ConfigMap/{engine.namespace}/operator")
    engine.sync(engine.config_map("operator"), resource)
    store = engine.engine().inventory(engine.target)
    ended = engine.engine().delete_all(engine.target, store)
    assert [id_.name for id_ in ended.ending] == ["resource"]
    assert engine.live("ConfigMap", "operator") is not None
    let_go(engine, "resource")
    assert engine.engine().delete_all(engine.target, engine.engine().inventory(engine.target)).ending == ()
    assert engine.live("ConfigMap", "operator") is None


def test_a_wave_that_is_not_healthy_ends_the_pass_and_the_next_pass_goes_on_from_there(engine: EngineDriver) -> None:
    objects = [engine.config_map("a"), after(engine.config_map("b"), wave=1)]
    asked: list[frozenset[ObjectId]] = []

    def unhealthy(ids: frozenset[ObjectId]) -> str:
        asked.append(ids)
        return "a is not ready"

    report = with_conduct(engine, Conduct(gate=unhealthy), *objects)
    assert report.gated == "wave 0 is applied and not healthy yet: a is not ready"
    assert failure_of(report, "b") == f"Waiting WaveNotHealthy: not tried: {report.gated}"
    assert [sorted(id_.name for id_ in ids) for ids in asked] == [["a"]]
    assert not report.all_applied
    assert with_conduct(engine, Conduct(gate=lambda _: ""), *objects).all_applied
    assert engine.live("ConfigMap", "b") is not None


def test_what_is_postponed_or_known_to_be_untouched_costs_no_request(engine: EngineDriver) -> None:
    first = engine.sync(engine.config_map("a"), engine.config_map("b"))
    (applied,) = [result.applied for result in first.results if result.id.name == "a"]
    assert applied is not None
    bad = {**engine.config_map("c"), "unknown": True}
    failure = engine.sync(engine.config_map("a"), bad).failures[0].failure
    assert failure is not None
    conduct = Conduct(
        postponed={ObjectId("", "ConfigMap", engine.namespace, "c"): failure},
        settled=lambda id_: applied if id_.name == "a" else None,
    )
    engine.delete("ConfigMap", "a")  # behind the back of whoever said that it was watched
    report = with_conduct(engine, conduct, engine.config_map("a"), engine.config_map("c"))
    assert actions(report) == {"a": Action.UNCHANGED, "c": Action.FAILED}
    assert engine.live("ConfigMap", "a") is None
    assert engine.live("ConfigMap", "c") is None, "not even its corrected form is tried"


def with_conduct(engine: EngineDriver, conduct: Conduct, *objects: JsonObject) -> ApplyReport:
    made = engine.engine()
    prepared = made.prepare([manifest(item) for item in objects], engine.target)
    store = made.inventory(engine.target)
    settings = Settings(digest="sha256:one", guard=GENEROUS, prune=False)
    plan = made.plan(prepared, engine.target, store, settings)
    return made.execute(plan, prepared, engine.target, store, settings, conduct=conduct)
