"""Custom resources from their CRD to its removal: the sandbox as the real server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.rawapi import MERGE, METADATA, STRATEGIC, RawApi, owned
from tests.support.waiting import eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "mode": {"type": "string", "enum": ["Fast", "Safe"], "default": "Fast"},
                "replicas": {"type": "integer"},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
                    },
                },
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "plain": {"type": "array", "items": {"type": "string"}},
                "whole": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


@dataclass(frozen=True)
class Widgets:
    """A served CRD of a test's own group, and a namespace."""

    group: str
    crd: str
    path: str

    def widget(self, name: str = "w", **spec: Any) -> dict[str, Any]:
        made = {"size": 1, **spec}
        return {"apiVersion": f"{self.group}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": made}


def definition(group: str) -> dict[str, Any]:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
    }
    names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def established(raw: RawApi, crd: str) -> bool:
    conditions = raw.get(crd).ok()["status"]["conditions"] or ()
    return {("Established", "True"), ("NamesAccepted", "True")} <= {(c["type"], c["status"]) for c in conditions}


@pytest.fixture
def widgets(raw: RawApi, home: str) -> Iterator[Widgets]:
    group = f"{secrets.token_hex(4)}.example.com"
    made = Widgets(group, f"{CRDS}/widgets.{group}", f"/apis/{group}/v1/namespaces/{home}/widgets")
    raw.apply(made.crd, definition(group)).ok()
    eventually(lambda: established(raw, made.crd), what="the CRD to be established")
    # The real server takes the new schema into use a moment after it says Established.
    eventually(lambda: raw.apply(f"{made.path}/probe", made.widget("probe"), dryRun="All").status == 201)
    yield made
    raw.request("DELETE", made.crd)


def test_a_definition_gets_its_names_and_is_established(raw: RawApi, widgets: Widgets) -> None:
    crd = raw.get(widgets.crd).ok()
    assert crd["status"]["acceptedNames"] == {
        "plural": "widgets",
        "singular": "widget",
        "kind": "Widget",
        "listKind": "WidgetList",
        "shortNames": ["wd"],
    }
    assert crd["status"]["storedVersions"] == ["v1"]
    assert "finalizers" not in crd["metadata"]


def test_the_new_kind_is_discovered(raw: RawApi, widgets: Widgets) -> None:
    listed = eventually(lambda: raw.get(f"/apis/{widgets.group}/v1").ok()["resources"])
    assert {item["name"] for item in listed} == {"widgets", "widgets/status", "widgets/scale"}
    widget = next(item for item in listed if item["name"] == "widgets")
    assert (widget["kind"], widget["namespaced"], widget["shortNames"]) == ("Widget", True, ["wd"])


def test_schema_defaults_are_filled_in(raw: RawApi, widgets: Widgets) -> None:
    created = raw.apply(f"{widgets.path}/w", widgets.widget()).ok()
    assert created["spec"] == {"size": 1, "mode": "Fast"}
    assert created["metadata"]["generation"] == 1


def test_list_and_map_types_of_the_schema_decide_ownership(raw: RawApi, widgets: Widgets) -> None:
    spec: dict[str, Any] = {
        "parts": [{"name": "a", "value": "1"}],
        "tags": ["x"],
        "plain": ["p"],
        "whole": {"a": "1"},
        "free": {"deep": {"leaf": 1}},
        "port": "http",
    }
    created = raw.apply(f"{widgets.path}/w", widgets.widget(**spec)).ok()
    assert owned(created)["ocisync/Apply"]["f:spec"] == {
        "f:size": {},
        "f:parts": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:value": {}}},
        "f:tags": {'v:"x"': {}},
        "f:plain": {},
        "f:whole": {},
        "f:free": {"f:deep": {".": {}, "f:leaf": {}}},
        "f:port": {},
    }


def test_keyed_items_of_two_appliers_live_side_by_side(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", widgets.widget(parts=[{"name": "a", "value": "1"}], tags=["x"])).ok()
    theirs = widgets.widget(parts=[{"name": "b"}], tags=["y"])
    both = raw.apply(f"{widgets.path}/w", theirs, manager="other").ok()
    assert [part["name"] for part in both["spec"]["parts"]] == ["a", "b"]
    assert both["spec"]["tags"] == ["x", "y"]
    back = raw.apply(f"{widgets.path}/w", widgets.widget()).ok()
    assert back["spec"]["parts"] == [{"name": "b"}]
    assert back["spec"]["tags"] == ["y"]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"size": 0}, ("spec.size", "FieldValueInvalid")),
        ({"mode": "Slow"}, ("spec.mode", "FieldValueNotSupported")),
    ],
    ids=["too small", "not in enum"],
)
def test_bad_values_are_invalid(raw: RawApi, widgets: Widgets, spec: dict[str, Any], wanted: tuple[str, str]) -> None:
    answer = raw.apply(f"{widgets.path}/w", widgets.widget(**spec))
    assert answer.status == 422
    assert [(cause["field"], cause["reason"]) for cause in answer.body["details"]["causes"]] == [wanted]


def test_a_missing_required_field_is_invalid(raw: RawApi, widgets: Widgets) -> None:
    body = widgets.widget()
    del body["spec"]["size"]
    answer = raw.apply(f"{widgets.path}/w", body)
    assert answer.body["details"]["causes"] == [
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.size"}
    ]


def test_a_posted_wrong_type_is_invalid(raw: RawApi, widgets: Widgets) -> None:
    answer = raw.request("POST", widgets.path, widgets.widget(size="1"))
    assert answer.status == 422
    assert answer.body["details"]["causes"][0]["reason"] == "FieldValueTypeInvalid"


def test_unknown_fields_of_an_apply_are_not_declared(raw: RawApi, widgets: Widgets) -> None:
    answer = raw.apply(f"{widgets.path}/w", widgets.widget(sise=1))
    assert answer.status == 500
    assert answer.body["message"].endswith(".spec.sise: field not declared in schema")


def test_unknown_fields_of_a_post_are_pruned_with_a_warning_or_refused(raw: RawApi, widgets: Widgets) -> None:
    warned = raw.request("POST", widgets.path, widgets.widget(sise=1))
    assert "sise" not in warned.ok()["spec"]
    assert warned.headers["warning"] == '299 - "unknown field \\"spec.sise\\""'
    refused = raw.request("POST", f"{widgets.path}?fieldValidation=Strict", widgets.widget("other", sise=1))
    assert refused.status == 400


def test_preserved_fields_are_kept(raw: RawApi, widgets: Widgets) -> None:
    free = {"any": {"thing": [1, {"two": None}]}}
    assert raw.request("POST", widgets.path, widgets.widget(free=free)).ok()["spec"]["free"] == free


def test_status_has_its_own_endpoint(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", {**widgets.widget(), "status": {"ignored": True}}).ok()
    query = {"fieldManager": "controller"}
    body = {"status": {"ready": True}, "spec": {"size": 9}}
    written = raw.request("PATCH", f"{widgets.path}/w/status", body, content_type=MERGE, query=query).ok()
    assert written["status"] == {"ready": True}
    assert written["spec"]["size"] == 1
    assert written["metadata"]["generation"] == 1
    assert owned(written)["controller/Update/status"] == {"f:status": {".": {}, "f:ready": {}}}


def test_status_can_be_applied(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", widgets.widget()).ok()
    status = {"apiVersion": f"{widgets.group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "status": {"n": 1}}
    written = raw.apply(f"{widgets.path}/w/status", status, manager="controller").ok()
    assert owned(written)["controller/Apply/status"] == {"f:status": {"f:n": {}}}


def test_scale_follows_its_paths(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", widgets.widget(replicas=2)).ok()
    query = {"fieldManager": "kubectl"}
    scale = {"spec": {"replicas": 5}}
    raw.request("PATCH", f"{widgets.path}/w/scale", scale, content_type=MERGE, query=query).ok()
    live = raw.get(f"{widgets.path}/w").ok()
    assert live["spec"]["replicas"] == 5
    assert owned(live)["kubectl/Update/scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owned(live)["ocisync/Apply"]["f:spec"]


def test_strategic_merge_patch_is_not_for_custom_resources(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", widgets.widget()).ok()
    assert raw.patch(f"{widgets.path}/w", {}, content_type=STRATEGIC).status == 415


def test_metadata_only_answers_work_for_custom_resources(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", widgets.widget()).ok()
    partial = raw.get(f"{widgets.path}/w", headers={"Accept": METADATA}).ok()
    assert set(partial) == {"kind", "apiVersion", "metadata"}
    assert partial["kind"] == "PartialObjectMetadata"


def test_no_change_keeps_the_resource_version(raw: RawApi, widgets: Widgets) -> None:
    body = widgets.widget(parts=[{"name": "a"}], free={"x": {"y": 1}})
    first = raw.apply(f"{widgets.path}/w", body).ok()
    assert raw.apply(f"{widgets.path}/w", body).ok()["metadata"] == first["metadata"]


def test_a_new_schema_is_taken_into_use(raw: RawApi, widgets: Widgets) -> None:
    changed = definition(widgets.group)
    schema: Any = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    properties = {**schema["properties"]["spec"]["properties"], "colour": {"type": "string"}}
    spec = {**schema["properties"]["spec"], "properties": properties}
    schema = {**schema, "properties": {**schema["properties"], "spec": spec}}
    changed["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": schema}
    assert raw.apply(widgets.crd, changed).ok()["metadata"]["generation"] == 2
    eventually(lambda: raw.apply(f"{widgets.path}/w", widgets.widget(colour="red")).status in (200, 201))


def test_a_removed_definition_takes_its_objects_along(raw: RawApi, widgets: Widgets) -> None:
    raw.apply(f"{widgets.path}/w", widgets.widget()).ok()
    marked = raw.request("DELETE", widgets.crd).ok()
    assert marked["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    eventually(lambda: raw.get(widgets.crd).status == 404, what="the CRD to go")
    eventually(lambda: raw.get(widgets.path).status == 404, what="the kind to go")


def test_a_definition_under_a_wrong_name_is_invalid(raw: RawApi) -> None:
    body = definition("example.com")
    body["metadata"]["name"] = "gadgets.example.com"
    answer = raw.apply(f"{CRDS}/gadgets.example.com", body)
    assert answer.status == 422
    assert answer.body["details"]["causes"][0]["field"] == "metadata.name"
