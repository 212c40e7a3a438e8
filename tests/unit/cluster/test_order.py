"""What comes before what."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocisync.cluster.normalise import Desired, ObjectOptions, Rejected
from ocisync.cluster.order import Schedule, Staying, deletion_batches, graph_of, rank
from ocisync.cluster.outcome import ErrorClass, failed
from ocisync.model.resource import Gvk, ObjectId


def one(
    name: str,
    kind: str = "ConfigMap",
    group: str = "",
    namespace: str = "n",
    *,
    depends_on: tuple[ObjectId, ...] = (),
    wave: int = 0,
    defines: tuple[str, str] | None = None,
) -> Desired:
    options = ObjectOptions(depends_on=depends_on, wave=wave)
    id_ = ObjectId(group, kind, namespace, name)
    return Desired(id_, Gvk(group, "v1", kind), b"", "f:1", options, defines)


def run(desired: list[Desired], failing: frozenset[str] = frozenset()) -> tuple[list[str], dict[ObjectId, ObjectId]]:
    """Names in the order in which one worker tries them, and what was blocked by what."""
    schedule = Schedule(graph_of(desired))
    tried = []
    while not schedule.finished:
        id_ = schedule.take(0.0)
        assert id_ is not None, "the schedule is stuck"
        tried.append(id_.name)
        schedule.done(id_, succeeded=id_.name not in failing)
    return tried, schedule.blocked


def test_definitions_and_namespaces_go_first_and_webhooks_last() -> None:
    webhook = one("hook", "ValidatingWebhookConfiguration", "admissionregistration.k8s.io", "")
    objects = [webhook, one("web", "Deployment", "apps"), one("cfg"), one("n", "Namespace", namespace="")]
    assert run(objects)[0] == ["n", "cfg", "web", "hook"]


def test_kind_order_waits_for_attempts_not_for_success() -> None:
    tried, blocked = run([one("web", "Deployment", "apps"), one("cfg")], frozenset({"cfg"}))
    assert (tried, blocked) == (["cfg", "web"], {})


def test_a_failed_definition_blocks_its_resources_and_nothing_else() -> None:
    definition = one("d", "CustomResourceDefinition", "apiextensions.k8s.io", "", defines=("x.io", "Foo"))
    tried, blocked = run([one("foo", "Foo", "x.io"), definition, one("cfg")], frozenset({"d"}))
    assert tried == ["d", "cfg"]
    assert [id_.name for id_ in blocked] == ["foo"]


def test_blocking_reaches_through_several_edges() -> None:
    first, second = one("a"), one("b", depends_on=(one("a").id,))
    third = one("c", depends_on=(second.id,))
    tried, blocked = run([third, second, first], frozenset({"a"}))
    assert tried == ["a"]
    assert sorted(id_.name for id_ in blocked) == ["b", "c"]


def test_a_failure_in_a_wave_blocks_all_later_waves() -> None:
    tried, blocked = run([one("late", wave=1), one("bad"), one("good")], frozenset({"bad"}))
    assert sorted(tried) == ["bad", "good"]
    assert [id_.name for id_ in blocked] == ["late"]


def test_waves_are_in_order_whatever_the_kinds() -> None:
    objects = [
        one("n", "Namespace", namespace="", wave=2),
        one("web", "Deployment", "apps", "other", wave=-1),
        one("c"),
    ]
    graph = graph_of(objects)
    assert {id_.name: failure.reason for id_, failure in graph.failures.items()} == {"c": "DependencyCycle"}
    tried, _ = run([objects[0], objects[1], one("c", namespace="other")])
    assert tried == ["web", "c", "n"]


def test_an_early_kind_may_depend_on_a_late_one() -> None:
    job = one("job", "Job", "batch")
    assert run([one("cfg", depends_on=(job.id,)), job, one("web", "Deployment", "apps")])[0][-1] == "cfg"


def test_circles_and_missing_dependencies_are_named_and_the_rest_runs() -> None:
    a, b = one("a"), one("b")
    circle = [one("a", depends_on=(b.id,)), one("b", depends_on=(a.id,)), one("behind", depends_on=(a.id,))]
    lost = one("lost", depends_on=(ObjectId("", "ConfigMap", "n", "none"),))
    objects = [*circle, lost, one("fine")]
    failures = {id_.name: failure for id_, failure in graph_of(objects).failures.items()}
    assert sorted(failures) == ["a", "b", "lost"]
    circle_text = "ConfigMap n/a → b → a; take one ocisync.dev/depends-on out"
    assert failures["a"].message == failures["b"].message == f"dependency circle: {circle_text}"
    assert failures["lost"].message == "depends on ConfigMap n/none, which is not in this artifact"
    tried, blocked = run(objects)
    assert tried == ["fine"]
    assert "behind" in {id_.name for id_ in blocked}


def rejected(name: str, kind: str = "ConfigMap", namespace: str = "n") -> Rejected:
    failure = failed(ErrorClass.PERMANENT, "Invalid", "as it is")
    return Rejected(ObjectId("", kind, namespace, name), "f:1", failure)


def test_what_cannot_be_prepared_blocks_what_needs_it_and_later_waves() -> None:
    bad, space = rejected("bad"), rejected("space", "Namespace", "")
    objects = [
        one("needs", depends_on=(bad.id,)), one("inside", namespace="space"), one("late", wave=1), one("fine"),
    ]  # fmt: skip
    graph = graph_of(objects, [bad, space])
    schedule = Schedule(graph)
    assert [taken.name for taken in iter(lambda: schedule.take(0.0), None)] == ["fine"]
    assert {id_.name: cause.name for id_, cause in schedule.blocked.items()} == {
        "needs": "bad", "inside": "space", "late": "bad",
    }  # fmt: skip
    assert "needs" not in {id_.name for id_ in graph.failures}


def test_a_dependency_without_a_namespace_is_looked_for_beside_the_object() -> None:
    wanted = ObjectId("apps", "Deployment", "", "web")
    graph = graph_of([one("cfg", depends_on=(wanted,)), one("web", "Deployment", "apps")])
    assert graph.failures == {}
    assert graph.needs[one("cfg").id] == {one("web", "Deployment", "apps").id}


def test_a_missing_dependency_names_what_was_probably_meant() -> None:
    wanted = ObjectId("", "Deployment", "n", "web")
    (failure,) = graph_of([one("cfg", depends_on=(wanted,)), one("web", "Deployment", "apps")]).failures.values()
    assert failure.message == (
        "depends on Deployment n/web, which is not in this artifact; meant is apps/Deployment/n/web?"
    )


def test_what_is_held_back_blocks_like_a_failure_and_is_not_handed_out() -> None:
    first, second = one("a"), one("b", depends_on=(one("a").id,))
    schedule = Schedule(graph_of([first, second, one("c")]), [first.id])
    taken = schedule.take(0.0)
    assert taken is not None and taken.name == "c"
    schedule.done(taken, succeeded=True)
    assert schedule.finished
    assert schedule.blocked == {second.id: first.id}


def test_waves_that_are_not_allowed_yet_are_not_handed_out() -> None:
    schedule = Schedule(graph_of([one("a"), one("b", wave=1)]))
    schedule.allow(0)
    first = schedule.take(0.0)
    assert first is not None and first.name == "a"
    schedule.done(first, succeeded=True)
    assert (schedule.idle, schedule.finished, schedule.take(0.0)) == (True, False, None)
    schedule.allow(1)
    assert not schedule.idle
    assert schedule.take(0.0) == one("b").id


def test_deletion_reverses_waves_and_dependencies_too() -> None:
    ids = [one(name).id for name in ("a", "b", "c", "late")]
    options = {
        ids[0]: ObjectOptions(depends_on=(ids[1],)),
        ids[1]: ObjectOptions(depends_on=(ids[2],)),
        ids[3]: ObjectOptions(wave=1),
    }
    batches = deletion_batches(ids, options)
    assert [[id_.name for id_ in batch] for batch in batches] == [["late"], ["a"], ["b"], ["c"]]
    assert Staying(options, [ids[0]]).needing(ids[1]) == ids[0]
    assert Staying(options, [ids[2]]).needing(ids[1]) is None
    assert Staying(options, [ids[3]]).needing(ids[2]) == ids[3], "an object of a later wave has not gone yet"
    assert Staying(options).needing(ids[2]) is None


def test_circles_do_not_keep_deletion_from_ending() -> None:
    a, b = one("a").id, one("b").id
    options = {a: ObjectOptions(depends_on=(b,)), b: ObjectOptions(depends_on=(a,))}
    assert sorted(id_.name for batch in deletion_batches([a, b], options) for id_ in batch) == ["a", "b"]


def test_an_object_given_back_is_handed_out_when_it_is_due() -> None:
    schedule = Schedule(graph_of([one("a"), one("web", "Deployment", "apps")]))
    first = schedule.take(0.0)
    assert first is not None
    schedule.later(first, 5.0)
    assert schedule.take(1.0) is None, "a later kind must wait for the attempt"
    assert schedule.next_delayed() == 5.0
    assert schedule.take(5.0) == first


def test_deletion_goes_the_other_way_round() -> None:
    ids = [one("n", "Namespace", namespace="").id, one("cfg").id, one("web", "Deployment", "apps").id]
    assert [[id_.name for id_ in batch] for batch in deletion_batches(ids)] == [["web"], ["cfg"], ["n"]]


KINDS = [("", "Namespace"), ("", "ConfigMap"), ("apps", "Deployment"), ("x.io", "Foo"), ("", "Service")]


@st.composite
def artifacts(draw: st.DrawFn) -> list[Desired]:
    count = draw(st.integers(1, 14))
    bases = [one(f"o{n}", *reversed(draw(st.sampled_from(KINDS)))) for n in range(count)]
    objects = []
    for n, base in enumerate(bases):
        earlier = draw(st.lists(st.sampled_from(bases[:n]), max_size=3, unique=True)) if n else []
        options = ObjectOptions(depends_on=tuple(other.id for other in earlier))
        objects.append(Desired(base.id, base.gvk, b"", "f:1", options))
    return draw(st.permutations(objects))


PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PATIENT
@given(artifacts(), st.data())
def test_no_object_starts_before_what_it_needs_succeeded_and_every_object_ends(
    objects: list[Desired], data: st.DataObject
) -> None:
    graph = graph_of(objects)
    schedule = Schedule(graph)
    running: list[ObjectId] = []
    succeeded: set[ObjectId] = set()
    tried: set[ObjectId] = set()
    while not schedule.finished:
        id_ = schedule.take(0.0) if len(running) < 3 else None
        if id_ is not None:
            assert graph.needs[id_] <= succeeded
            assert id_ not in tried
            tried.add(id_)
            running.append(id_)
            continue
        assert running, "the schedule is stuck"
        done = running.pop(data.draw(st.integers(0, len(running) - 1)))
        ok = data.draw(st.booleans())
        if ok:
            succeeded.add(done)
        schedule.done(done, succeeded=ok)
    assert tried | set(schedule.blocked) == {o.id for o in objects}
    assert not tried & set(schedule.blocked)
    for blocked, cause in schedule.blocked.items():
        assert cause not in succeeded
        assert blocked not in succeeded


@PATIENT
@given(artifacts())
def test_soft_order_holds_where_no_edge_says_otherwise(objects: list[Desired]) -> None:
    tried, _ = run(objects)
    place = {name: index for index, name in enumerate(tried)}
    free = [o for o in objects if not o.options.depends_on]
    for left in free:
        for right in free:
            if rank(left.id) < rank(right.id):
                assert place[left.id.name] < place[right.id.name]


def test_stages_are_data_that_can_be_shown() -> None:
    assert json.dumps(sorted(graph_of([one("a")]).stage.values())) == "[[0, 2]]"
