"""Creating, changing and refusing: status codes, reasons and causes, the sandbox as the real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.rawapi import JSON_PATCH, STRATEGIC, RawApi

NOBODY = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def maps(home: str) -> str:
    return f"/api/v1/namespaces/{home}/configmaps"


def config_map(name: str = "a", **data: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "app:1"}]}}
    made = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": made}


def causes(answer: Any) -> list[tuple[str, str]]:
    return [(cause["field"], cause["reason"]) for cause in answer.body["details"]["causes"]]


def test_a_missing_object_is_a_not_found_status(raw: RawApi, maps: str) -> None:
    answer = raw.get(f"{maps}/none")
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "none" not found',
        "reason": "NotFound",
        "details": {"name": "none", "kind": "configmaps"},
        "code": 404,
    }


def test_a_missing_kind_is_a_plain_404(raw: RawApi) -> None:
    answer = raw.get("/apis/none.example.com/v1/things")
    assert (answer.status, answer.body) == (404, "404 page not found\n")


def test_a_missing_kind_in_a_known_group_is_a_status(raw: RawApi) -> None:
    answer = raw.get("/apis/apps/v1/things")
    assert answer.body["message"] == "the server could not find the requested resource"


def test_a_taken_name_already_exists(raw: RawApi, maps: str) -> None:
    assert raw.request("POST", maps, config_map(x="1")).status == 201
    answer = raw.request("POST", maps, config_map(x="2"))
    assert (answer.status, answer.body["reason"]) == (409, "AlreadyExists")
    assert answer.body["message"] == 'configmaps "a" already exists'


def test_a_missing_namespace_is_named(raw: RawApi) -> None:
    answer = raw.apply("/api/v1/namespaces/no-such-place/configmaps/a", config_map(x="1"))
    assert answer.status == 404
    assert answer.body["details"] == {"name": "no-such-place", "kind": "namespaces"}


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "x" * 254])
def test_a_bad_name_is_invalid(raw: RawApi, maps: str, name: str) -> None:
    answer = raw.request("POST", maps, config_map(name))
    assert answer.status == 422
    assert ("metadata.name", "FieldValueInvalid") in causes(answer)


def test_a_bad_label_value_is_invalid(raw: RawApi, maps: str) -> None:
    body = config_map()
    body["metadata"]["labels"] = {"key": "not a value"}
    assert causes(raw.request("POST", maps, body)) == [("metadata.labels", "FieldValueInvalid")]


def test_body_and_url_must_agree(raw: RawApi, maps: str) -> None:
    assert raw.apply(f"{maps}/b", config_map("a")).status == 400
    elsewhere = config_map()
    elsewhere["metadata"]["namespace"] = "elsewhere"
    answer = raw.request("POST", maps, elsewhere)
    assert answer.status == 400
    assert "does not match the namespace sent on the request" in answer.body["message"]


def test_generate_name_makes_a_name(raw: RawApi, maps: str) -> None:
    body = config_map()
    body["metadata"] = {"generateName": "made-"}
    assert raw.request("POST", maps, body).ok()["metadata"]["name"].startswith("made-")


def test_system_metadata_is_set_and_cannot_be_changed(raw: RawApi, home: str) -> None:
    path = f"/apis/apps/v1/namespaces/{home}/deployments"
    created = raw.request("POST", path, deployment()).ok()["metadata"]
    assert created["generation"] == 1
    assert created["uid"]
    assert created["creationTimestamp"]
    changed = {"metadata": {"generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z"}, "spec": {"paused": True}}
    metadata = raw.patch(f"{path}/web", changed).ok()["metadata"]
    assert metadata["generation"] == 2
    assert metadata["creationTimestamp"] == created["creationTimestamp"]


def test_generation_counts_changes_of_spec_only(raw: RawApi, home: str) -> None:
    path = f"/apis/apps/v1/namespaces/{home}/deployments"
    raw.request("POST", path, deployment(paused=True)).ok()
    labelled = raw.patch(f"{path}/web", {"metadata": {"labels": {"a": "b"}}}).ok()
    assert labelled["metadata"]["generation"] == 1
    changed = raw.patch(f"{path}/web", {"spec": {"minReadySeconds": 1}}).ok()
    assert changed["metadata"]["generation"] == 2


def test_writes_that_change_nothing_keep_the_resource_version(raw: RawApi, maps: str) -> None:
    first = raw.request("POST", f"{maps}?fieldManager=a", config_map(x="1")).ok()
    merge = raw.patch(f"{maps}/a", {"data": {"x": "1"}}, manager="b").ok()
    put = raw.request("PUT", f"{maps}/a?fieldManager=c", config_map(x="1")).ok()
    assert first["metadata"] == merge["metadata"] == put["metadata"]


def test_a_stale_resource_version_is_a_conflict(raw: RawApi, maps: str) -> None:
    old = raw.request("POST", maps, config_map(x="1")).ok()
    raw.patch(f"{maps}/a", {"data": {"x": "2"}})
    answer = raw.request("PUT", f"{maps}/a", old)
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in answer.body["message"]
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"x": "3"}}
    assert raw.patch(f"{maps}/a", patch).status == 409


def test_a_failed_json_patch_test_is_refused(raw: RawApi, maps: str) -> None:
    raw.request("POST", maps, config_map(x="1"))
    body = [{"op": "test", "path": "/data/x", "value": "2"}]
    assert raw.patch(f"{maps}/a", body, content_type=JSON_PATCH).status == 422


def test_delete_preconditions_are_kept(raw: RawApi, maps: str) -> None:
    live = raw.request("POST", maps, config_map(x="1")).ok()["metadata"]
    wrong = raw.request("DELETE", f"{maps}/a", {"preconditions": {"uid": NOBODY}})
    assert (wrong.status, wrong.body["reason"]) == (409, "Conflict")
    assert raw.request("DELETE", f"{maps}/a", {"preconditions": {"resourceVersion": "1"}}).status == 409
    right = {"preconditions": {"uid": live["uid"], "resourceVersion": live["resourceVersion"]}}
    answer = raw.request("DELETE", f"{maps}/a", right)
    assert answer.ok()["details"] == {"name": "a", "kind": "configmaps", "uid": live["uid"]}
    assert raw.request("DELETE", f"{maps}/a").status == 404


def test_a_dry_run_delete_deletes_nothing(raw: RawApi, maps: str) -> None:
    raw.request("POST", maps, config_map(x="1"))
    assert raw.request("DELETE", f"{maps}/a?dryRun=All").status == 200
    assert raw.get(f"{maps}/a").status == 200


def test_finalizers_hold_a_deletion(raw: RawApi, maps: str) -> None:
    body = config_map(x="1")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    raw.request("POST", maps, body)
    marked = raw.request("DELETE", f"{maps}/a").ok()
    assert marked["metadata"]["deletionTimestamp"]
    assert raw.get(f"{maps}/a").status == 200
    assert raw.patch(f"{maps}/a", {"metadata": {"finalizers": None}}).status == 200
    assert raw.get(f"{maps}/a").status == 404


@pytest.mark.parametrize("level", ["Strict", "Warn", "Ignore"])
def test_unknown_fields_are_refused_warned_about_or_dropped(raw: RawApi, home: str, level: str) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"][0]["imag"] = "typo"
    path = f"/apis/apps/v1/namespaces/{home}/deployments?fieldValidation={level}&dryRun=All"
    answer = raw.request("POST", path, body)
    field = 'unknown field "spec.template.spec.containers[0].imag"'
    if level == "Strict":
        assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
        assert answer.body["message"].endswith(f"strict decoding error: {field}")
        return
    assert answer.status == 201
    assert "imag" not in answer.ok()["spec"]["template"]["spec"]["containers"][0]
    assert ("warning" in answer.headers) is (level == "Warn")
    if level == "Warn":
        assert answer.headers["warning"] == '299 - "unknown field \\"spec.template.spec.containers[0].imag\\""'


def test_an_applied_unknown_field_is_a_500_without_reason(raw: RawApi, home: str) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"][0]["imag"] = "typo"
    answer = raw.apply(f"/apis/apps/v1/namespaces/{home}/deployments/web", body)
    assert answer.status == 500
    assert "reason" not in answer.body
    assert answer.body["message"] == (
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers[name="main"].imag: field not declared in schema'
    )


def test_an_applied_wrong_type_is_a_500_without_reason(raw: RawApi, home: str) -> None:
    answer = raw.apply(f"/apis/apps/v1/namespaces/{home}/deployments/web", deployment(replicas="3"))
    assert answer.status == 500
    assert ".spec.replicas: expected numeric (int or float), got string" in answer.body["message"]


def test_an_applied_duplicate_key_is_a_500_without_reason(raw: RawApi, home: str) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["containers"] *= 2
    answer = raw.apply(f"/apis/apps/v1/namespaces/{home}/deployments/web", body)
    assert answer.status == 500
    assert 'duplicate entries for key [name="main"]' in answer.body["message"]


def test_a_posted_wrong_type_is_a_bad_request(raw: RawApi, home: str) -> None:
    answer = raw.request("POST", f"/apis/apps/v1/namespaces/{home}/deployments", deployment(replicas="3"))
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas" in answer.body["message"]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"selector": None}, ("spec.selector", "FieldValueRequired")),
        ({"selector": {"matchLabels": {"app": "other"}}}, ("spec.template.metadata.labels", "FieldValueInvalid")),
        ({"replicas": -1}, ("spec.replicas", "FieldValueInvalid")),
        (
            {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
            ("spec.template.spec.containers", "FieldValueRequired"),
        ),
        (
            {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "x"}]}}},
            ("spec.template.spec.containers[0].image", "FieldValueRequired"),
        ),
    ],
    ids=["no selector", "selector misses template", "negative replicas", "no containers", "no image"],
)
def test_bad_workloads_are_invalid(raw: RawApi, home: str, spec: dict[str, Any], wanted: tuple[str, str]) -> None:
    answer = raw.request("POST", f"/apis/apps/v1/namespaces/{home}/deployments", deployment(**spec))
    assert answer.status == 422
    assert wanted in causes(answer)


def test_immutable_fields_say_so(raw: RawApi, home: str) -> None:
    path = f"/apis/apps/v1/namespaces/{home}/deployments"
    raw.request("POST", path, deployment()).ok()
    other = {"matchLabels": {"app": "other"}}
    body = deployment(selector=other)
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    answer = raw.request("PUT", f"{path}/web", body)
    assert answer.status == 422
    assert ("spec.selector", "FieldValueInvalid") in causes(answer)
    assert "field is immutable" in answer.body["message"]


def test_an_immutable_config_map_stays(raw: RawApi, maps: str) -> None:
    raw.request("POST", maps, {**config_map(x="1"), "immutable": True}).ok()
    answer = raw.patch(f"{maps}/a", {"data": {"x": "2"}})
    assert causes(answer) == [("data", "FieldValueForbidden")]


def test_a_service_keeps_its_address(raw: RawApi, home: str) -> None:
    path = f"/api/v1/namespaces/{home}/services"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    first = raw.request("POST", path, service).ok()
    assert first["spec"]["clusterIP"]
    assert first["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    put = raw.request("PUT", f"{path}/web", {**service, "metadata": {"name": "web", "labels": {"a": "b"}}}).ok()
    assert put["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    assert raw.patch(f"{path}/web", {"spec": {"clusterIP": "10.0.0.250"}}).status == 422


def test_a_role_reference_cannot_change(raw: RawApi, home: str) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{home}/rolebindings"
    body: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }
    raw.request("POST", path, body).ok()
    answer = raw.patch(f"{path}/b", {"roleRef": {"name": "edit"}})
    assert answer.status == 422
    assert "field is immutable" in answer.body["message"]


def test_an_unknown_patch_type_is_unsupported(raw: RawApi, maps: str) -> None:
    raw.request("POST", maps, config_map(x="1"))
    assert raw.patch(f"{maps}/a", {}, content_type="text/plain").status == 415


def test_strategic_patch_deletes_items_by_key(raw: RawApi, home: str) -> None:
    path = f"/apis/apps/v1/namespaces/{home}/deployments"
    body = deployment()
    body["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "side:1"})
    raw.request("POST", path, body).ok()
    gone = {"spec": {"template": {"spec": {"containers": [{"$patch": "delete", "name": "side"}]}}}}
    left = raw.patch(f"{path}/web", gone, content_type=STRATEGIC).ok()
    assert [item["name"] for item in left["spec"]["template"]["spec"]["containers"]] == ["main"]


def test_bad_selectors_are_bad_requests(raw: RawApi, maps: str) -> None:
    assert raw.get(f"{maps}?labelSelector=a%20b%20c").status == 400
    assert raw.get(f"{maps}?fieldSelector=nope%3D1").status == 400
    assert raw.get(f"{maps}?resourceVersion=abc").status == 400


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier=web", ["a"]),
        ("tier==web", ["a"]),
        ("tier!=web", ["b", "c"]),
        ("tier in (web,db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("tier,tier!=db", ["a"]),
    ],
)
def test_label_selectors_select(raw: RawApi, maps: str, selector: str, names: list[str]) -> None:
    for name, tier in (("a", "web"), ("b", "db"), ("c", "")):
        body = config_map(name)
        body["metadata"]["labels"] = {"set": "yes", **({"tier": tier} if tier else {})}
        raw.request("POST", maps, body).ok()
    found = raw.get(maps, query={"labelSelector": f"set=yes,{selector}"}).ok()
    assert [item["metadata"]["name"] for item in found["items"]] == names


def test_field_selectors_select_by_name(raw: RawApi, maps: str) -> None:
    for name in ("a", "b"):
        raw.request("POST", maps, config_map(name)).ok()
    found = raw.get(maps, query={"fieldSelector": "metadata.name=b"}).ok()
    assert [item["metadata"]["name"] for item in found["items"]] == ["b"]


def test_pages_continue_where_they_ended(raw: RawApi, maps: str) -> None:
    for number in range(5):
        body = config_map(f"n{number}")
        body["metadata"]["labels"] = {"page": "yes"}
        raw.request("POST", maps, body).ok()
    names: list[str] = []
    query = {"labelSelector": "page=yes", "limit": "2"}
    for expected in (2, 2, 1):
        page = raw.get(maps, query=query).ok()
        assert len(page["items"]) == expected
        names += [item["metadata"]["name"] for item in page["items"]]
        query["continue"] = page["metadata"].get("continue", "")
    assert names == [f"n{number}" for number in range(5)]
    assert not query["continue"]


def test_items_of_builtin_lists_carry_no_kind(raw: RawApi, maps: str) -> None:
    raw.request("POST", maps, config_map()).ok()
    found = raw.get(maps).ok()
    assert found["kind"] == "ConfigMapList"
    assert all("kind" not in item and "apiVersion" not in item for item in found["items"])


def test_both_faces_of_an_event_show_the_same_event(raw: RawApi, home: str) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "reason": "Drift",
        "note": "modified outside GitOps",
        "action": "Correct",
        "type": "Warning",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "ocisync.dev/agent",
        "reportingInstance": "agent-0",
        "regarding": {"kind": "ConfigMap", "name": "a", "namespace": home, "apiVersion": "v1"},
    }
    assert raw.request("POST", f"/apis/events.k8s.io/v1/namespaces/{home}/events", event).status == 201
    core = raw.get(f"/api/v1/namespaces/{home}/events/e").ok()
    assert core["message"] == "modified outside GitOps"
    assert core["involvedObject"]["name"] == "a"
    found = raw.get(f"/api/v1/namespaces/{home}/events", query={"fieldSelector": "involvedObject.name=a"}).ok()
    assert [item["metadata"]["name"] for item in found["items"]] == ["e"]
