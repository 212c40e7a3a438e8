"""Applying and owning: the same promises on the sandbox and on a real API server."""

from __future__ import annotations

from ocisync.cluster.apply import Action
from ocisync.model.resource import JsonObject
from tests.support.engine import EngineDriver, actions, failure_of
from tests.support.waiting import eventually


def crd(group: str) -> JsonObject:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def widget(group: str, name: str = "first", **spec: object) -> JsonObject:
    return {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec or {"size": 1}}


def deployment(name: str, **spec: object) -> JsonObject:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}},
            **spec,
        },
    }


def test_a_first_pass_creates_a_second_writes_nothing_and_a_change_configures(engine: EngineDriver) -> None:
    first = engine.sync(engine.config_map("a", x="1"), deployment("web", replicas=2))
    assert actions(first) == {"a": Action.CREATED, "web": Action.CREATED}
    assert first.all_applied
    versions = [engine.must("ConfigMap", "a"), engine.must("Deployment", "web", "apps")]
    assert versions[0]["metadata"]["labels"]["applyset.kubernetes.io/part-of"] == engine.target.sync_id
    engine.sync(engine.config_map("a", x="1"), deployment("web", replicas=2))
    assert engine.must("ConfigMap", "a")["metadata"]["resourceVersion"] == versions[0]["metadata"]["resourceVersion"]
    third = engine.sync(engine.config_map("a", x="2"), deployment("web", replicas=2))
    assert actions(third)["a"] is Action.CONFIGURED
    assert engine.must("ConfigMap", "a")["data"] == {"x": "2"}
    assert engine.owned() == ["a", "web"]


def test_a_field_that_git_drops_is_removed(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1", y="1"))
    engine.sync(engine.config_map("a", x="1"))
    assert engine.must("ConfigMap", "a")["data"] == {"x": "1"}


def test_one_bad_object_blocks_only_what_depends_on_it(engine: EngineDriver) -> None:
    bad = {**engine.config_map("bad"), "unknown": True}
    after = engine.config_map("after")
    after["metadata"]["annotations"] = {"ocisync.dev/depends-on": f"/ConfigMap/{engine.namespace}/bad"}
    report = engine.sync(bad, after, engine.config_map("good"))
    assert actions(report) == {"bad": Action.FAILED, "after": Action.SKIPPED, "good": Action.CREATED}
    assert failure_of(report, "bad").startswith("Permanent ")
    assert "unknown" in failure_of(report, "bad")
    assert f"it needs ConfigMap {engine.namespace}/bad" in failure_of(report, "after")
    assert not report.all_applied


def test_a_definition_and_its_resources_land_in_one_pass(engine: EngineDriver) -> None:
    group = f"{engine.target.sync_name}.example.com"
    try:
        report = engine.sync(widget(group), crd(group))
        assert actions(report) == {"first": Action.CREATED, f"widgets.{group}": Action.CREATED}
        assert engine.must("Widget", "first", group)["spec"] == {"size": 1}
    finally:
        engine.delete("CustomResourceDefinition", f"widgets.{group}", "apiextensions.k8s.io", "")


def test_a_new_field_of_a_definition_and_its_first_use_land_in_one_pass(engine: EngineDriver) -> None:
    group = f"{engine.target.sync_name}.example.com"
    newer = crd(group)
    schema = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["colour"] = {"type": "string"}
    try:
        engine.sync(crd(group), widget(group))
        report = engine.sync(newer, widget(group, size=1, colour="red"))
        assert report.failures == ()
        assert engine.must("Widget", "first", group)["spec"] == {"size": 1, "colour": "red"}
    finally:
        engine.delete("CustomResourceDefinition", f"widgets.{group}", "apiextensions.k8s.io", "")


def test_a_kind_that_nobody_defines_waits_and_the_rest_lands(engine: EngineDriver) -> None:
    report = engine.sync(widget("nowhere.example.com"), engine.config_map("good"))
    assert actions(report) == {"first": Action.FAILED, "good": Action.CREATED}
    assert failure_of(report, "first").startswith("Waiting NoKind: the server does not know Widget")


def test_a_namespace_and_its_members_land_in_one_pass(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-more"
    member = engine.config_map("inside")
    member["metadata"]["namespace"] = name
    try:
        report = engine.sync(member, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        assert report.failures == ()
        assert engine.live("ConfigMap", "inside", namespace=name) is not None
        assert engine.live("ConfigMap", "inside") is None
    finally:
        engine.delete("Namespace", name, namespace="")


def test_a_missing_namespace_is_waited_for_by_name(engine: EngineDriver) -> None:
    lost = engine.config_map("lost")
    lost["metadata"]["namespace"] = "there-is-no-such-namespace"
    report = engine.sync(lost, engine.config_map("good"))
    assert failure_of(report, "lost").startswith("Waiting NotFound: ")
    assert "there-is-no-such-namespace" in failure_of(report, "lost")
    assert actions(report)["good"] is Action.CREATED


def test_fields_of_another_program_are_left_to_it_and_it_is_named(engine: EngineDriver) -> None:
    engine.apply_as("helm", engine.config_map("a", x="theirs", y="2"))
    report = engine.sync(engine.config_map("a", x="ours"))
    assert failure_of(report, "a").startswith("Conflict ManagedByOther: data.x managed by 'helm'")
    assert engine.must("ConfigMap", "a")["data"]["x"] == "theirs"
    forced = engine.sync(engine.config_map("a", x="ours"), force=True)
    assert forced.failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"x": "ours", "y": "2"}


def test_an_object_of_another_sync_is_refused_and_its_owner_named(engine: EngineDriver) -> None:
    other = engine.other()
    other.sync(engine.config_map("a", x="theirs"))
    report = engine.sync(engine.config_map("a", x="ours"), force=True)
    assert failure_of(report, "a").startswith(
        f"Conflict OwnedByOther: belongs to another sync ({other.target.sync_id})"
    )
    assert engine.must("ConfigMap", "a")["data"] == {"x": "theirs"}
    adopting = engine.config_map("a", x="ours")
    adopting["metadata"]["annotations"] = {"ocisync.dev/adopt": other.target.sync_id}
    assert engine.sync(adopting).failures == ()
    assert engine.must("ConfigMap", "a")["data"] == {"x": "ours"}
    again = other.sync(engine.config_map("a", x="theirs"))  # its Git still has it
    assert failure_of(again, "a").startswith(
        f"Conflict OwnedByOther: belongs to another sync ({engine.target.sync_id})"
    )
    other.sync(engine.config_map("b"))  # its Git dropped it
    assert engine.must("ConfigMap", "a")["data"] == {"x": "ours"}


def test_adoption_removes_what_kubectl_apply_left(engine: EngineDriver) -> None:
    old = engine.config_map("a", kept="1", dropped="1")
    old["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    engine.create_as("kubectl-client-side-apply", old)
    assert engine.sync(engine.config_map("a", kept="2")).failures == ()
    live = engine.must("ConfigMap", "a")
    assert live["data"] == {"kept": "2"}
    assert "annotations" not in live["metadata"]
    assert engine.managers("ConfigMap", "a") == [("ocisync", "Apply")]


def test_adoption_leaves_no_entry_from_before_the_first_apply(engine: EngineDriver) -> None:
    engine.create_as("kubectl-create", engine.config_map("a", x="1"))
    engine.write_as("kubectl-edit", "ConfigMap", "a", {"metadata": {"managedFields": [{}]}})
    assert engine.sync(engine.config_map("a", x="2")).failures == ()
    assert engine.managers("ConfigMap", "a") == [("ocisync", "Apply")]
    engine.sync(engine.config_map("a", y="3"))
    assert engine.must("ConfigMap", "a")["data"] == {"y": "3"}


def test_an_autoscaler_keeps_its_replicas(engine: EngineDriver) -> None:
    scaled = deployment("web", replicas=2)
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }
    engine.sync(scaled, hpa)
    path = engine.path("Deployment", "web", "apps") + "/scale"
    body = b'{"spec":{"replicas":7}}'
    query = (("fieldManager", "kube-controller-manager"),)
    engine.kube.request("PATCH", path, query=query, body=body, content_type="application/merge-patch+json")
    assert engine.sync(scaled, hpa).failures == ()
    assert engine.must("Deployment", "web", "apps")["spec"]["replicas"] == 7
    changed = deployment("web", replicas=2, minReadySeconds=1)
    assert engine.sync(changed, hpa).failures == ()
    live = engine.must("Deployment", "web", "apps")["spec"]
    assert (live["replicas"], live["minReadySeconds"]) == (7, 1)


def test_replicas_changed_by_hand_are_taken_back(engine: EngineDriver) -> None:
    engine.sync(deployment("web", replicas=2))
    path = engine.path("Deployment", "web", "apps") + "/scale"
    engine.kube.request(
        "PATCH", path, query=(("fieldManager", "kubectl"),), body=b'{"spec":{"replicas":7}}',
        content_type="application/merge-patch+json",
    )  # fmt: skip
    engine.sync(deployment("web", replicas=2))
    assert engine.must("Deployment", "web", "apps")["spec"]["replicas"] == 2


def test_an_immutable_change_is_refused_and_recreated_only_with_force_and_within_the_guard(
    engine: EngineDriver,
) -> None:
    engine.sync(deployment("web"))
    uid = engine.must("Deployment", "web", "apps")["metadata"]["uid"]
    moved = deployment("web")
    moved["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    moved["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    assert failure_of(engine.sync(moved), "web").startswith("Immutable ")
    assert engine.must("Deployment", "web", "apps")["metadata"]["uid"] == uid
    moved["metadata"]["annotations"] = {"ocisync.dev/force": "enabled", "ocisync.dev/protect": "confirm"}
    held = engine.sync(moved)
    assert held.held.startswith("it deletes protected objects: Deployment.apps")
    assert engine.must("Deployment", "web", "apps")["metadata"]["uid"] == uid
    done = engine.sync(moved, approved=held.plan_hash)
    assert actions(done) == {"web": Action.RECREATED}
    assert engine.must("Deployment", "web", "apps")["metadata"]["uid"] != uid
    assert engine.owned() == ["web"]


def test_an_owned_object_that_was_deleted_or_replaced_is_made_again(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a", x="1"), engine.config_map("b", x="1"))
    engine.delete("ConfigMap", "a")
    engine.delete("ConfigMap", "b")
    engine.create_as("kubectl-create", engine.config_map("b", x="by hand"))
    report = engine.sync(engine.config_map("a", x="1"), engine.config_map("b", x="1"))
    assert actions(report)["a"] is Action.CREATED
    assert report.failures == ()
    assert engine.must("ConfigMap", "b")["data"] == {"x": "1"}


def test_an_object_that_is_being_deleted_is_waited_for_and_then_made_again(engine: EngineDriver) -> None:
    engine.sync(engine.config_map("a"))
    engine.write_as("kubectl-edit", "ConfigMap", "a", {"metadata": {"finalizers": ["example.com/wait"]}})
    engine.delete("ConfigMap", "a")
    report = engine.sync(engine.config_map("a"), engine.config_map("b"))
    assert failure_of(report, "a").startswith("Waiting Terminating: ")
    assert actions(report)["b"] is Action.CREATED
    engine.write_as("kubectl-edit", "ConfigMap", "a", {"metadata": {"finalizers": None}})
    assert actions(engine.sync(engine.config_map("a"), engine.config_map("b")))["a"] is Action.CREATED


def test_a_terminating_namespace_is_waited_for(engine: EngineDriver) -> None:
    name = f"{engine.namespace}-ending"
    space: JsonObject = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    holder = engine.config_map("holder")
    holder["metadata"] |= {"namespace": name, "finalizers": ["example.com/wait"]}
    late = engine.config_map("late")
    late["metadata"]["namespace"] = name
    engine.sync(space, holder)
    try:
        engine.delete("Namespace", name, namespace="")
        eventually(lambda: engine.must("Namespace", name, namespace="")["status"]["phase"] == "Terminating")
        report = engine.sync(late, engine.config_map("good"), digest="sha256:two")
        assert failure_of(report, "late").startswith("Waiting ")
        assert actions(report)["good"] is Action.CREATED
    finally:
        path = engine.path("ConfigMap", "holder", namespace=name)
        engine.kube.request(
            "PATCH", path, body=b'{"metadata":{"finalizers":null}}', content_type="application/merge-patch+json"
        )


def test_apply_modes_leave_objects_alone(engine: EngineDriver) -> None:
    once, never = engine.config_map("once", x="1"), engine.config_map("never")
    once["metadata"]["annotations"] = {"ocisync.dev/apply": "IfNotPresent"}
    never["metadata"]["annotations"] = {"ocisync.dev/apply": "Ignore"}
    assert actions(engine.sync(once, never)) == {"once": Action.CREATED, "never": Action.SKIPPED}
    assert engine.live("ConfigMap", "never") is None
    once["data"] = {"x": "2"}
    assert engine.sync(once, never).all_applied
    assert engine.must("ConfigMap", "once")["data"] == {"x": "1"}


def test_secrets_are_applied_as_data_and_never_quoted(engine: EngineDriver) -> None:
    secret: JsonObject = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"password": "hunter2"},
    }
    assert engine.sync(secret).failures == ()
    assert engine.must("Secret", "s")["data"] == {"password": "aHVudGVyMg=="}
    bad = {**secret, "metadata": {"name": "bad"}, "stringData": {"pass word": "hunter2"}, "type": "hunter2/x y"}
    report = engine.sync(secret, bad)
    assert failure_of(report, "bad").startswith("Permanent ")
    assert "hunter2" not in failure_of(report, "bad")
    engine.sync(secret)


def test_text_that_yaml_reads_differently_arrives_as_it_is(engine: EngineDriver) -> None:
    text = 'a\u0085b\u2028c\u2029d\ufeffe\x7ff\u0080g 😀 \t\\ "q" yes 0x10 1e3 ~ null'
    assert engine.sync(engine.config_map("a", x=text)).failures == ()
    assert engine.must("ConfigMap", "a")["data"]["x"] == text
