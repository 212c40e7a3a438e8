"""What the schemas refuse, the real API server refuses; what its strict decoding refuses, the schemas refuse.

Each good object of the assets is spoilt in every place in every way (a field added, taken away, of another type, twice)
and applied with strict field validation in a dry run. Expected differences, each the server's own carelessness:

- numbers too large for the field are cut down by the server without a word (2^40 replicas are none): refused here;
- the server knows more than schemas tell (names, ranges, what goes with what): its 422 may come where these are silent.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from importlib import resources

import pytest

from ocisync.manifests.rules import Rule
from ocisync.manifests.schema.catalog import Catalog
from ocisync.manifests.schema.problem import Problem
from ocisync.manifests.validate import annotation_problem, label_problem, name_problem
from ocisync.model.resource import JsonObject
from tests.contract.rawapi import Answer, RawApi
from tests.support import schemas
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

SAMPLE = 1.0 if os.environ.get("OCISYNC_HEAVY") else 0.02
SEED = 20
SERVER_ERROR = 500


class DryRun:
    """Applies objects in dry runs."""

    def __init__(self, raw: RawApi) -> None:
        self._raw = raw
        self._served: dict[str, dict[str, tuple[str, bool]]] = {}

    def apply(self, body: JsonObject) -> Answer:
        """The answer to a strict apply that changes nothing."""
        plural, namespaced = self._resource(body["apiVersion"], body["kind"])
        place = "/namespaces/default" if namespaced else ""
        path = f"{_root(body['apiVersion'])}{place}/{plural}/{body['metadata']['name']}"
        return self._raw.apply(path, body, force=True, dryRun="All")

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        if api_version not in self._served:
            listed = self._raw.get(_root(api_version)).ok()["resources"]
            self._served[api_version] = {
                entry["kind"]: (entry["name"], entry["namespaced"]) for entry in listed if "/" not in entry["name"]
            }
        return self._served[api_version][kind]


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


@pytest.fixture
def server(cluster: Cluster) -> Iterator[DryRun]:
    raw = RawApi(cluster.kubeconfig)
    # Pods need it, and a new cluster's controllers make it when they come to it.
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    eventually(lambda: raw.get(account).status == 200, what="the default namespace is furnished")
    yield DryRun(raw)
    raw.close()


@pytest.fixture
def gadgets(cluster: Cluster, server: DryRun) -> Iterator[JsonObject]:
    """The custom kind of the assets, served; its good object."""
    definition, gadget = schemas.custom()
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
    raw = RawApi(cluster.kubeconfig)
    raw.apply(path, definition, force=True).ok()

    def served() -> bool:
        answer = raw.get("/apis/schema.example.org/v1")
        return answer.status == 200 and server.apply(gadget).status < 300

    try:
        eventually(served, what="the custom kind is served")
        yield gadget
    finally:
        raw.request("DELETE", path)
        raw.close()


def is_structural(answer: Answer) -> bool:
    """Tell a failure to read the object from a judgement of what it says."""
    return answer.status in (400, SERVER_ERROR)


def is_cut_down(problems: list[Problem]) -> bool:
    return all(problem.rule == Rule.BAD_VALUE and "does not fit into" in problem.message for problem in problems)


def differences(server: DryRun, body: JsonObject, catalog: Catalog, rate: float, *, in_full: bool = False) -> list[str]:
    """Spoilt objects that one side takes and the other refuses for its form; `in_full`: or for any other reason."""
    chosen = random.Random(f"{SEED} {body['kind']}")
    found = []
    for change in schemas.spoilt(body):
        if chosen.random() > rate:
            continue
        answer = server.apply(change.body)
        problems = schemas.judge(change.body, catalog)
        where = f"{body['kind']} {change.how} {change.place} {change.value!r}"
        if problems and answer.status < 300 and not is_cut_down(problems):
            found.append(f"{where}: the server takes what is refused with {problems[0].message!r}")
        if not problems and (answer.status >= 300 if in_full else is_structural(answer)):
            found.append(f"{where}: the server refuses what is taken: {answer.body['message'][:300]}")
    return found


def test_good_objects_are_good_for_the_server(server: DryRun) -> None:
    told = [(body["kind"], answer.body) for body in schemas.kinds() if (answer := server.apply(body)).status >= 300]
    assert told == []


def test_spoilt_objects_are_refused_by_both_or_taken_by_both(server: DryRun) -> None:
    catalog = Catalog(schemas.NEWEST)
    told = [line for body in schemas.kinds() for line in differences(server, body, catalog, SAMPLE)]
    assert told == []


def test_spoilt_custom_resources_are_refused_by_both_or_taken_by_both(server: DryRun, gadgets: JsonObject) -> None:
    catalog = schemas.catalog_of(schemas.custom()[0])
    assert differences(server, gadgets, catalog, min(1.0, SAMPLE * 20), in_full=True) == []


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ({"spec": {"replicas": 3.0}}, True),
        ({"spec": {"replicas": 1.5}}, False),
        ({"spec": {"replicsa": 1}}, False),
        ({"spec": {"replicas": None}}, True),
        ({"metadata": {"name": "a", "lables": {}}}, False),
        ({"metadata": {"name": "a", "creationTimestamp": "2024-01-02T3:04:05,5Z"}}, True),
        ({"metadata": {"name": "a", "creationTimestamp": "2024-02-30T03:04:05Z"}}, False),
        ({"status": {"nope": 1}}, False),
        ({"status": {"replicas": 1}}, True),
        ({"extra": 1}, False),
    ],
)
def test_small_print_is_read_alike(server: DryRun, body: JsonObject, taken: bool) -> None:
    good = next(item for item in schemas.kinds() if item["kind"] == "Deployment")
    made = {**good, **body}
    if "spec" in body:
        made["spec"] = {**good["spec"], **body["spec"]}
    assert (server.apply(made).status < 300) is taken
    assert (schemas.judge(made) == []) is taken


QUANTITIES = {
    "1": True, "+1": True, ".5": True, "5.": True, "1.5Gi": True, "1e3": True, "1E": True, "1Ei": True, "1e-3": True,
    "1n": True, "1u": True, "1k": True, " 1": True, "1 ": True, "": False, "1K": False, "1ki": False, "1e": False,
    "0x1": False, "1Mi ": True, "--1": False, "1.2.3": False, "١": False, "1 Mi": False, "1mi": False,
}  # fmt: skip


def test_quantities_are_read_alike(server: DryRun) -> None:
    good = next(item for item in schemas.kinds() if item["kind"] == "LimitRange")
    for text, taken in QUANTITIES.items():
        body = {**good, "spec": {"limits": [{"type": "Container", "max": {"example.org/x": text}}]}}
        answer = server.apply(body)
        assert is_structural(answer) is not taken, (text, answer.body)
        assert (schemas.judge(body) == []) is taken, text


def test_the_shipped_shapes_have_every_field_that_the_server_publishes(cluster: Cluster) -> None:
    """And no others, for all kinds that this server serves; enumerations, too."""
    raw = RawApi(cluster.kubeconfig)
    shipped = json.loads(resources.files("ocisync.manifests.schema").joinpath("kubernetes.json").read_text())
    checked = 0
    try:
        for path in raw.get("/openapi/v3").ok()["paths"]:
            if not path.startswith(("api/", "apis/")):
                continue
            answer = raw.get(f"/openapi/v3/{path}")
            if answer.status == 404 or not answer.body:
                continue  # a custom group that is gone meanwhile; one whose server is not there yet
            for name, schema in answer.ok()["components"]["schemas"].items():
                known = shipped["definitions"].get(".".join(name.split(".")[-3:]))
                if known is None or "properties" not in schema:
                    continue
                lines = {field: _newest(line) for field, line in known["p"].items()}
                assert {field for field, line in lines.items() if line} == set(schema["properties"]), name
                checked += 1
                for field, text in lines.items():
                    if "enum" in schema["properties"].get(field, {}):
                        values = text.partition(" e=")[2].split(" ")[0].split(",")
                        assert set(values) == set(schema["properties"][field]["enum"]), (name, field)
    finally:
        raw.close()
    assert checked > 300


def _newest(line: str | list[str]) -> str:
    texts = [line] if isinstance(line, str) else line
    return next((text for text in texts if " v=" not in text or text.endswith(f"-{schemas.NEWEST}")), "")


LABELS = [
    ("a", "b"), ("A/b", "c"), ("a.b/C", "d"), ("a/b/c", ""), ("/a", ""), ("a/", ""), ("-a", ""), ("a_", ""),
    ("a" * 64, ""), ("a", "b" * 64), ("a", "b c"), ("a", ""), ("a" * 254 + "/x", ""), ("x.y-z/q_w.e", "Z.z"),
    ("ä", ""), ("a", "ä"), ("a_b/c", ""), ("a", "-b"),
]  # fmt: skip


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_labels_and_annotations_are_judged_alike(server: DryRun, field: str) -> None:
    for key, value in LABELS:
        metadata = {"name": "a", "namespace": "default", field: {key: value}}
        answer = server.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        problem = label_problem(key, value) if field == "labels" else annotation_problem(key)
        assert (answer.status < 300) is (problem == ""), (field, key, value, answer.body)


@pytest.mark.parametrize("name", ["a", "1a", "a.b", "a" * 53, "a" * 64, "A", "a_b", "a-"])
def test_names_are_judged_alike(server: DryRun, name: str) -> None:
    known = {body["kind"]: body for body in schemas.kinds()}
    for kind in ("ConfigMap", "Deployment", "StatefulSet", "CronJob", "PodDisruptionBudget", "Role", "Service"):
        body = {**known[kind], "metadata": {**known[kind]["metadata"], "name": name}}
        answer = server.apply(body)
        assert (answer.status < 300) is (name_problem(schemas.item(body).id) == ""), (kind, name, answer.body)
