"""Who owns which field after apply, update, scale, removal and clearing: the sandbox as the real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.rawapi import APPLY, JSON_PATCH, MERGE, STRATEGIC, RawApi, owned, timed
from tests.support.waiting import eventually

NOBODY = "11111111-1111-1111-1111-111111111111"


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "app:1", "ports": [{"containerPort": 80}]}]},
    }
    made = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": made}


@pytest.fixture
def maps(home: str) -> str:
    return f"/api/v1/namespaces/{home}/configmaps"


@pytest.fixture
def deployments(home: str) -> str:
    return f"/apis/apps/v1/namespaces/{home}/deployments"


def test_apply_creates_and_owns_exactly_what_it_says(raw: RawApi, maps: str) -> None:
    answer = raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    assert answer.status == 201
    assert owned(answer.ok()) == {"ocisync/Apply": {"f:data": {"f:x": {}, "f:y": {}}}}


def test_the_same_apply_again_keeps_the_resource_version_and_the_time(raw: RawApi, maps: str) -> None:
    first = raw.apply(f"{maps}/a", config_map(x="1")).ok()
    again = raw.apply(f"{maps}/a", config_map(x="1"))
    assert again.status == 200
    assert again.ok()["metadata"] == first["metadata"]


def test_another_value_is_a_conflict_that_names_manager_and_field(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    answer = raw.apply(f"{maps}/a", config_map(x="9"), manager="other")
    assert answer.status == 409
    assert answer.body["reason"] == "Conflict"
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "ocisync"', "field": ".data.x"}
    assert answer.body["details"] == {"causes": [cause]}
    assert answer.body["message"] == 'Apply failed with 1 conflict: conflict with "ocisync": .data.x'


def test_several_conflicts_are_listed_by_manager(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    raw.patch(f"{maps}/a", {"data": {"z": "3"}})
    answer = raw.apply(f"{maps}/a", config_map(x="9", y="9", z="9"), manager="other")
    lines = answer.body["message"].splitlines()
    assert lines[0].startswith('Apply failed with 3 conflicts: conflicts with "editor" using v1')
    assert lines[1:] == ["- .data.z", 'conflicts with "ocisync":', "- .data.x", "- .data.y"]


def test_force_takes_the_field_and_the_loser_keeps_the_rest(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    taken = raw.apply(f"{maps}/a", config_map(x="9"), manager="other", force=True).ok()
    assert owned(taken) == {"ocisync/Apply": {"f:data": {"f:y": {}}}, "other/Apply": {"f:data": {"f:x": {}}}}
    assert taken["data"] == {"x": "9", "y": "2"}


def test_the_same_value_is_owned_together_and_the_second_owner_has_no_time(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1"))
    shared = raw.apply(f"{maps}/a", config_map(x="1"), manager="other").ok()
    assert owned(shared) == {"ocisync/Apply": {"f:data": {"f:x": {}}}, "other/Apply": {"f:data": {"f:x": {}}}}
    assert timed(shared) == {"ocisync/Apply": True, "other/Apply": False}


def test_a_dropped_field_goes_unless_somebody_else_owns_it(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2", z="3"))
    raw.apply(f"{maps}/a", config_map(y="2"), manager="other")
    left = raw.apply(f"{maps}/a", config_map(x="1")).ok()
    assert left["data"] == {"x": "1", "y": "2"}
    assert owned(left) == {"ocisync/Apply": {"f:data": {"f:x": {}}}, "other/Apply": {"f:data": {"f:y": {}}}}


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (MERGE, {"data": {"x": "9", "n": "1"}}),
        (STRATEGIC, {"data": {"x": "9", "n": "1"}}),
        (
            JSON_PATCH,
            [
                {"op": "replace", "path": "/data/x", "value": "9"},
                {"op": "add", "path": "/data/n", "value": "1"},
            ],
        ),
    ],
    ids=["merge", "strategic", "json"],
)
def test_an_edit_takes_what_it_changes(raw: RawApi, maps: str, media_type: str, body: Any) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    edited = raw.patch(f"{maps}/a", body, content_type=media_type).ok()
    assert owned(edited) == {
        "ocisync/Apply": {"f:data": {"f:y": {}}},
        "editor/Update": {"f:data": {"f:n": {}, "f:x": {}}},
    }
    assert timed(edited)["editor/Update"]


def test_a_replace_takes_what_it_changes_and_removal_leaves_no_actor(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    put = raw.request("PUT", f"{maps}/a?fieldManager=putter", config_map(x="9")).ok()
    assert owned(put) == {"putter/Update": {"f:data": {"f:x": {}}}}
    raw.apply(f"{maps}/b", config_map("b", x="1", y="2"))
    removed = raw.patch(f"{maps}/b", {"data": {"y": None}}).ok()
    assert owned(removed) == {"ocisync/Apply": {"f:data": {"f:x": {}}}}


def test_a_created_object_belongs_to_its_creator_with_its_defaults(raw: RawApi, deployments: str) -> None:
    created = raw.request("POST", f"{deployments}?fieldManager=maker", deployment(replicas=0)).ok()
    fields = owned(created)["maker/Update"]
    assert fields["f:spec"]["f:strategy"] == {
        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
        "f:type": {},
    }
    container = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"main"}']
    port: dict[str, Any] = {
        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}}
    }
    assert container["f:ports"] == {".": {}, **port}
    assert "." not in fields["f:spec"]


def test_defaults_belong_to_nobody_after_an_apply(raw: RawApi, deployments: str) -> None:
    applied = raw.apply(f"{deployments}/web", deployment(replicas=0)).ok()
    assert applied["spec"]["strategy"]["type"] == "RollingUpdate"
    assert set(owned(applied)["ocisync/Apply"]["f:spec"]) == {"f:replicas", "f:selector", "f:template"}


def test_scaling_takes_replicas_without_a_time(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment())
    scale = {"spec": {"replicas": 10}}
    answer = raw.request("PATCH", f"{deployments}/web/scale?fieldManager=kubectl", scale, content_type=MERGE)
    assert answer.ok()["spec"] == {"replicas": 10}
    live = raw.get(f"{deployments}/web").ok()
    assert owned(live)["kubectl/Update/scale"] == {"f:spec": {"f:replicas": {}}}
    assert not timed(live)["kubectl/Update/scale"]
    assert "f:replicas" not in owned(live)["ocisync/Apply"]["f:spec"]
    assert live["metadata"]["generation"] == 2
    conflict = raw.apply(f"{deployments}/web", deployment())
    assert conflict.body["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl" with subresource "scale" using apps/v1',
            "field": ".spec.replicas",
        }
    ]


def test_scaling_to_zero_leaves_no_owner(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment())
    put = {"metadata": {"name": "web"}, "spec": {"replicas": 0}}
    raw.request("PUT", f"{deployments}/web/scale?fieldManager=kubectl", put).ok()
    live = raw.get(f"{deployments}/web").ok()
    assert live["spec"]["replicas"] == 0
    assert "kubectl/Update/scale" not in owned(live)
    assert "f:replicas" not in owned(live)["ocisync/Apply"]["f:spec"]


def test_scaling_to_the_same_number_changes_nothing(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment())
    raw.request("PATCH", f"{deployments}/web/scale", {"spec": {"replicas": 3}}, content_type=MERGE).ok()
    live = raw.get(f"{deployments}/web").ok()
    assert live["metadata"]["generation"] == 1
    assert "f:replicas" in owned(live)["ocisync/Apply"]["f:spec"]


def test_dropping_replicas_as_sole_owner_resets_them_to_one(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment())
    bare = deployment()
    del bare["spec"]["replicas"]
    assert raw.apply(f"{deployments}/web", bare).ok()["spec"]["replicas"] == 1


def test_status_writes_are_an_entry_of_their_own(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment(paused=True, replicas=0))
    status = {"status": {"collisionCount": 7}}
    query = {"fieldManager": "controller"}
    path = f"{deployments}/web/status"
    written = raw.request("PATCH", path, status, content_type=MERGE, query=query).ok()
    assert owned(written)["controller/Update/status"] == {"f:status": {"f:collisionCount": {}}}
    assert "f:status" not in owned(written)["ocisync/Apply"]


def test_status_in_an_apply_of_the_object_is_not_applied(raw: RawApi, deployments: str) -> None:
    applied = raw.apply(f"{deployments}/web", {**deployment(replicas=0), "status": {"collisionCount": 7}}).ok()
    assert "collisionCount" not in applied["status"]
    assert "f:status" not in owned(applied)["ocisync/Apply"]


def test_cleared_managed_fields_stay_cleared_until_the_next_apply(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    clear = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    assert owned(raw.patch(f"{maps}/a", clear, content_type=JSON_PATCH).ok()) == {}
    assert owned(raw.patch(f"{maps}/a", {"data": {"x": "9"}}).ok()) == {}
    refused = raw.apply(f"{maps}/a", config_map(x="1", y="2"))
    assert refused.status == 409
    assert 'conflict with "before-first-apply" using v1: .data.x' in refused.body["message"]
    forced = raw.apply(f"{maps}/a", config_map(x="1", y="2"), force=True).ok()
    assert owned(forced) == {
        "before-first-apply/Update": {"f:data": {".": {}, "f:y": {}}},
        "ocisync/Apply": {"f:data": {"f:x": {}, "f:y": {}}},
    }


def test_one_entry_can_be_removed_by_json_patch(raw: RawApi, maps: str) -> None:
    raw.request("POST", f"{maps}?fieldManager=kubectl-client-side-apply", config_map(x="1")).ok()
    raw.apply(f"{maps}/a", config_map(x="1")).ok()
    live = raw.get(f"{maps}/a").ok()
    names = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    at = names.index("kubectl-client-side-apply")
    body = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "remove", "path": f"/metadata/managedFields/{at}"},
    ]
    assert owned(raw.patch(f"{maps}/a", body, content_type=JSON_PATCH).ok()) == {
        "ocisync/Apply": {"f:data": {"f:x": {}}}
    }


def test_lists_with_keys_merge_item_by_item(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment(replicas=0))
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}}
    both = raw.patch(f"{deployments}/web", sidecar, content_type=STRATEGIC).ok()
    containers = owned(both)["editor/Update"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert list(containers) == ['k:{"name":"side"}']
    kept = raw.apply(f"{deployments}/web", deployment(replicas=0)).ok()
    names = {item["name"] for item in kept["spec"]["template"]["spec"]["containers"]}
    assert names == {"main", "side"}


def test_finalizers_are_a_set_with_several_owners(raw: RawApi, maps: str) -> None:
    mine = config_map(x="1")
    mine["metadata"]["finalizers"] = ["example.com/a"]
    raw.apply(f"{maps}/a", mine)
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["example.com/b"]}}
    both = raw.apply(f"{maps}/a", theirs, manager="other").ok()
    assert set(both["metadata"]["finalizers"]) == {"example.com/a", "example.com/b"}
    assert owned(both)["other/Apply"] == {"f:metadata": {"f:finalizers": {'v:"example.com/b"': {}}}}
    raw.patch(f"{maps}/a", {"metadata": {"finalizers": None}})


def test_an_apply_without_a_manager_is_refused(raw: RawApi, maps: str) -> None:
    answer = raw.request("PATCH", f"{maps}/a", config_map(x="1"), content_type=APPLY)
    assert answer.status == 422
    assert "fieldManager: Required value: is required for apply patch" in answer.body["message"]


def test_an_apply_with_a_uid_never_creates(raw: RawApi, maps: str) -> None:
    body = config_map("missing", x="1")
    body["metadata"]["uid"] = NOBODY
    answer = raw.apply(f"{maps}/missing", body)
    assert answer.status == 409
    assert "uid mismatch" in answer.body["message"]


def test_an_apply_with_another_objects_uid_is_refused(raw: RawApi, maps: str) -> None:
    raw.apply(f"{maps}/a", config_map(x="1"))
    body = config_map(x="2")
    body["metadata"]["uid"] = NOBODY
    answer = raw.apply(f"{maps}/a", body)
    assert answer.status == 422
    assert answer.body["details"]["causes"][0]["field"] == "metadata.uid"


def test_a_resource_version_alone_creates_what_is_missing(raw: RawApi, maps: str) -> None:
    body = config_map("missing", x="1")
    body["metadata"]["resourceVersion"] = "1"
    assert raw.apply(f"{maps}/missing", body).status == 201


def test_dry_run_answers_as_if_and_stores_nothing(raw: RawApi, maps: str) -> None:
    planned = raw.apply(f"{maps}/a", config_map(x="1"), dryRun="All")
    assert planned.status == 201
    assert owned(planned.ok()) == {"ocisync/Apply": {"f:data": {"f:x": {}}}}
    assert raw.get(f"{maps}/a").status == 404
    stored = raw.apply(f"{maps}/a", config_map(x="1")).ok()
    changed = raw.apply(f"{maps}/a", config_map(x="2"), dryRun="All").ok()
    assert changed["data"] == {"x": "2"}
    assert raw.get(f"{maps}/a").ok() == stored


def test_string_data_of_a_secret_is_no_field_anyone_keeps(raw: RawApi, home: str) -> None:
    path = f"/api/v1/namespaces/{home}/secrets/s"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    first = raw.apply(path, secret).ok()
    assert first["data"] == {"a": "Yg=="}
    assert owned(first) == {"ocisync/Apply": {"f:stringData": {"f:a": {}}}}
    assert "stringData" not in first


def test_controllers_own_the_status_they_write(raw: RawApi, deployments: str) -> None:
    raw.apply(f"{deployments}/web", deployment(replicas=0))

    def observed() -> dict[str, Any]:
        live = raw.get(f"{deployments}/web").ok()
        assert live["status"]["observedGeneration"] == 1
        return owned(live)

    entries = eventually(observed)
    assert "f:observedGeneration" in entries["kube-controller-manager/Update/status"]["f:status"]
