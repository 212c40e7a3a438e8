"""What is served, and how a client learns it: the sandbox as the real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.rawapi import METADATA, METADATA_LIST, RawApi
from tests.support.cluster import Cluster

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def aggregated(raw: RawApi, path: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    answer = raw.get(path, headers={"Accept": f"{AGGREGATED},application/json"})
    assert answer.headers["content-type"] == AGGREGATED
    assert answer.ok()["kind"] == "APIGroupDiscoveryList"
    return {
        (group["metadata"].get("name", ""), version["version"], resource["resource"]): resource
        for group in answer.ok()["items"]
        for version in group["versions"]
        for resource in version["resources"]
    }


def test_the_core_group_is_discovered_in_one_request(raw: RawApi) -> None:
    found = aggregated(raw, "/api")
    assert found["", "v1", "configmaps"]["scope"] == "Namespaced"
    assert found["", "v1", "namespaces"]["scope"] == "Cluster"
    assert found["", "v1", "pods"]["shortNames"] == ["po"]
    assert found["", "v1", "secrets"]["responseKind"]["kind"] == "Secret"


def test_all_other_groups_are_discovered_in_one_request(raw: RawApi) -> None:
    found = aggregated(raw, "/apis")
    deployments = found["apps", "v1", "deployments"]
    assert deployments["verbs"] == ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    subresources = {item["subresource"]: item["responseKind"] for item in deployments["subresources"]}
    assert subresources["scale"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    # An empty group and version mean those of the resource.
    assert subresources["status"] == {"group": "", "version": "", "kind": "Deployment"}
    assert deployments["responseKind"] == {"group": "", "version": "", "kind": "Deployment"}


def test_legacy_discovery_lists_groups_and_resources(raw: RawApi) -> None:
    assert raw.get("/api").ok()["versions"] == ["v1"]
    groups = {group["name"]: group["preferredVersion"]["version"] for group in raw.get("/apis").ok()["groups"]}
    assert groups["apps"] == "v1"
    listed = {item["name"]: item for item in raw.get("/apis/apps/v1").ok()["resources"]}
    assert listed["deployments"]["kind"] == "Deployment"
    assert listed["deployments/scale"]["kind"] == "Scale"


def test_version_and_health_are_told(raw: RawApi) -> None:
    assert raw.get("/version").ok()["gitVersion"].startswith("v1.")
    assert raw.get("/readyz").body == "ok"


def test_one_object_and_a_list_can_be_had_as_metadata(raw: RawApi, home: str) -> None:
    maps = f"/api/v1/namespaces/{home}/configmaps"
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"l": "m"}},
        "data": {"x": "1"},
    }
    applied = raw.request(
        "PATCH",
        f"{maps}/a?fieldManager=ocisync",
        body,
        content_type="application/apply-patch+yaml",
        headers={"Accept": METADATA},
    )
    assert applied.ok()["kind"] == "PartialObjectMetadata"
    assert "data" not in applied.ok()
    assert applied.ok()["metadata"]["managedFields"]
    listed = raw.get(f"{maps}?labelSelector=l", headers={"Accept": METADATA_LIST}).ok()
    assert listed["kind"] == "PartialObjectMetadataList"
    assert [item["kind"] for item in listed["items"]] == ["PartialObjectMetadata"]


def test_an_administrator_may_do_everything(raw: RawApi) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "delete", "resource": "secrets"}},
    }
    answer = raw.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert answer.status == 201
    assert answer.ok()["status"]["allowed"] is True


def test_a_service_account_gets_a_token(raw: RawApi, home: str) -> None:
    accounts = f"/api/v1/namespaces/{home}/serviceaccounts"
    raw.request("POST", accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}).ok()
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = raw.request("POST", f"{accounts}/robot/token", request)
    assert answer.status == 201
    assert answer.ok()["status"]["token"]


@pytest.mark.parametrize("way", ["server-side", "client-side"])
def test_kubectl_applies_and_scales(apiserver: Cluster, raw: RawApi, home: str, way: str) -> None:
    manifest = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "app:1"}]}
"""
    flags = ("--server-side",) if way == "server-side" else ()
    apiserver.kubectl("apply", *flags, "-n", home, "-f", "-", stdin=manifest)
    apiserver.kubectl("apply", *flags, "-n", home, "-f", "-", stdin=manifest.replace("app:1", "app:2"))
    apiserver.kubectl("scale", "-n", home, "deployment/web", "--replicas=2")
    live = raw.get(f"/apis/apps/v1/namespaces/{home}/deployments/web").ok()
    assert live["spec"]["replicas"] == 2
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "app:2"
    assert apiserver.get("deployment", "web", namespace=home)["metadata"]["uid"] == live["metadata"]["uid"]
