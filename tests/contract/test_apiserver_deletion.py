"""What follows a deletion: owners and dependents, namespaces; the sandbox as the real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.rawapi import RawApi
from tests.support.cluster import Cluster
from tests.support.waiting import eventually


@pytest.fixture
def maps(home: str) -> str:
    return f"/api/v1/namespaces/{home}/configmaps"


def make(raw: RawApi, maps: str, name: str, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    if owner is not None:
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"]}
        reference |= {"uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}
        body["metadata"]["ownerReferences"] = [reference]
    return raw.request("POST", maps, body).ok()


def gone(raw: RawApi, path: str) -> bool:
    return eventually(lambda: raw.get(path).status == 404, what=f"{path} to go")


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_dependents_go_with_their_owner(raw: RawApi, maps: str, policy: str) -> None:
    owner = make(raw, maps, "owner")
    child = make(raw, maps, "child", owner)
    make(raw, maps, "grandchild", child)
    answer = raw.request("DELETE", f"{maps}/owner", {"propagationPolicy": policy}).ok()
    if policy == "Foreground":
        assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    for name in ("grandchild", "child", "owner"):
        assert gone(raw, f"{maps}/{name}")


def test_orphans_stay_without_their_owner(raw: RawApi, maps: str) -> None:
    owner = make(raw, maps, "owner")
    make(raw, maps, "child", owner)
    # The real collector orphans what it has seen; it needs a moment to see.
    raw.request("DELETE", f"{maps}/owner", {"propagationPolicy": "Orphan"}).ok()
    assert gone(raw, f"{maps}/owner")
    child = raw.get(f"{maps}/child").ok()
    assert "ownerReferences" not in child["metadata"]


def test_a_dependent_with_another_living_owner_stays(raw: RawApi, maps: str) -> None:
    first, second = make(raw, maps, "first"), make(raw, maps, "second")
    child = make(raw, maps, "child", first)
    reference = {**child["metadata"]["ownerReferences"][0], "name": "second", "uid": second["metadata"]["uid"]}
    references = [*child["metadata"]["ownerReferences"], reference]
    raw.patch(f"{maps}/child", {"metadata": {"ownerReferences": references}}).ok()
    make(raw, maps, "witness", first)
    raw.request("DELETE", f"{maps}/first").ok()
    assert gone(raw, f"{maps}/witness")
    assert raw.get(f"{maps}/child").status == 200


def test_an_object_of_an_owner_that_never_was_goes(raw: RawApi, maps: str) -> None:
    nobody = {"metadata": {"name": "nobody", "uid": "11111111-1111-1111-1111-111111111111"}}
    make(raw, maps, "child", nobody)
    assert gone(raw, f"{maps}/child")


def test_a_collection_is_deleted_by_selector(raw: RawApi, maps: str) -> None:
    for name, label in (("a", "yes"), ("b", "yes"), ("c", "no")):
        make(raw, maps, name)
        raw.patch(f"{maps}/{name}", {"metadata": {"labels": {"doomed": label}}}).ok()
    raw.request("DELETE", f"{maps}?labelSelector=doomed%3Dyes").ok()
    assert [raw.get(f"{maps}/{name}").status for name in ("a", "b", "c")] == [404, 404, 200]


def test_a_namespace_goes_with_what_is_in_it_and_waits_for_finalizers(raw: RawApi, apiserver: Cluster) -> None:
    name = apiserver.new_namespace("doomed")
    maps = f"/api/v1/namespaces/{name}/configmaps"
    make(raw, maps, "plain")
    make(raw, maps, "held")
    raw.patch(f"{maps}/held", {"metadata": {"finalizers": ["example.com/hold"]}}).ok()
    marked = raw.request("DELETE", f"/api/v1/namespaces/{name}").ok()
    assert marked["status"]["phase"] == "Terminating"
    assert gone(raw, f"{maps}/plain")
    refused = raw.request("POST", maps, {"metadata": {"name": "late"}})
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert [cause["reason"] for cause in refused.body["details"]["causes"]] == ["NamespaceTerminating"]
    assert raw.patch(f"{maps}/held", {"data": {"still": "writable"}}).status == 200
    eventually(lambda: "deletionTimestamp" in raw.get(f"{maps}/held").ok()["metadata"])
    raw.patch(f"{maps}/held", {"metadata": {"finalizers": None}})
    assert gone(raw, f"/api/v1/namespaces/{name}")


def test_a_new_namespace_is_furnished(raw: RawApi, home: str) -> None:
    eventually(lambda: raw.get(f"/api/v1/namespaces/{home}/serviceaccounts/default").ok())
    eventually(lambda: raw.get(f"/api/v1/namespaces/{home}/configmaps/kube-root-ca.crt").ok())
    namespace = raw.get(f"/api/v1/namespaces/{home}").ok()
    assert namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] == home
    assert namespace["status"]["phase"] == "Active"
