"""Built-in kinds: what the API server's strict decoding refuses is refused, with words that help."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.manifests.rules import Rule
from ocisync.manifests.schema import builtin
from ocisync.manifests.schema.catalog import Catalog
from ocisync.model.resource import Gvk, JsonObject
from tests.support import schemas
from tests.support.schemas import judge, messages

CONTAINER = "spec.template.spec.containers[0]"


def deployment(container: JsonObject | None = None, **spec: Any) -> JsonObject:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "web", **(container or {})}]}},
            **spec,
        },
    }


def of_kind(kind: str, api_version: str = "v1", **fields: Any) -> JsonObject:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, **fields}


@pytest.mark.parametrize("body", schemas.kinds(), ids=lambda body: f"{body['apiVersion']}-{body['kind']}")
def test_good_objects_pass(body: JsonObject) -> None:
    assert judge(body) == []


def test_an_unknown_field_is_named_with_its_path_and_a_suggestion() -> None:
    assert messages(deployment(replicsa=3)) == ["unknown field spec.replicsa; did you mean replicas?"]
    assert messages(deployment({"imagepullpolicy": "Always"})) == [
        f"unknown field {CONTAINER}.imagepullpolicy; did you mean imagePullPolicy?"
    ]
    assert messages(deployment({"xyzzy": 1})) == [f"unknown field {CONTAINER}.xyzzy"]


def test_unknown_fields_of_metadata_and_status_are_found() -> None:
    body = deployment()
    body["metadata"]["lables"] = {}
    body["status"] = {"replicsa": 1}
    assert messages(body) == [
        "unknown field metadata.lables; did you mean labels?",
        "unknown field status.replicsa; did you mean replicas?",
    ]


def test_nothing_is_required_of_a_status_and_its_enumerations_are_open() -> None:
    assert messages({**deployment(), "status": {"conditions": [{"type": "x"}]}}) == []
    assert messages(of_kind("Pod", spec={"containers": [{"name": "a"}]}, status={"phase": "Strange"})) == []


@pytest.mark.parametrize(
    ("container", "told"),
    [
        ({"image": 1.2}, "image must be a string, not a number: put it in quotes"),
        ({"image": True}, "image must be a string, not a boolean: put it in quotes"),
        ({"tty": "yes"}, "tty must be a boolean, not a string: take the quotes away"),
        ({"args": "--x"}, "args must be a list, not a string"),
        ({"args": [8080]}, "args[0] must be a string, not an integer: put it in quotes"),
        ({"resources": ["cpu"]}, "resources must be a mapping, not a list"),
        (
            {"ports": [{"containerPort": "80"}]},
            "ports[0].containerPort must be an integer, not a string: take the quotes away",
        ),
        (
            {"ports": [{"containerPort": 2**31}]},
            "ports[0].containerPort is 2147483648, which does not fit into 32 bits",
        ),
        (
            {"resources": {"limits": {"cpu": "1x"}}},
            "resources.limits.cpu is '1x', which is no quantity such as 500m or 1.5Gi",
        ),
        (
            {"resources": {"limits": {"cpu": True}}},
            "resources.limits.cpu must be a quantity such as 500m or 1.5Gi, not a boolean",
        ),
        (
            {"readinessProbe": {"httpGet": {"port": 1.5}}},
            "readinessProbe.httpGet.port must be an integer or a string, not a number",
        ),
        (
            {"imagePullPolicy": "always"},
            "imagePullPolicy is 'always', not one of 'Always', 'IfNotPresent', 'Never'; did you mean Always?",
        ),
        ({"ports": [{"name": "http"}]}, "ports[0].containerPort is required"),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_plain_words(container: JsonObject, told: str) -> None:
    assert messages(deployment(container)) == [f"{CONTAINER}.{told}"]


@pytest.mark.parametrize(
    "container",
    [
        {"ports": [{"containerPort": 80.0}]},
        {"resources": {"limits": {"cpu": 1, "memory": 1.5, "a": "1e3", "b": " 5 ", "c": "+.5", "d": "1Ei"}}},
        {"readinessProbe": {"httpGet": {"port": "http"}}, "livenessProbe": {"httpGet": {"port": 80}}},
        {"imagePullPolicy": "", "args": None, "env": [], "securityContext": None},
        {"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]},
    ],
)
def test_what_go_takes_passes(container: JsonObject) -> None:
    assert messages(deployment(container)) == []


def test_lists_with_keys_hold_each_key_once_and_defaults_of_keys_count() -> None:
    assert messages(deployment({"env": [{"name": "A"}, {"name": "B"}, {"name": "A"}]})) == [
        f"{CONTAINER}.env[2] with name 'A' is already there as {CONTAINER}.env[0]"
    ]
    twice = [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]
    assert [problem.rule for problem in judge(deployment({"ports": twice}))] == [Rule.DUPLICATE_ITEM]
    assert messages(deployment({"env": [None]})) == [f"{CONTAINER}.env[0] must be a mapping, not null"]


def test_times_and_bytes_have_their_formats() -> None:
    lease = of_kind("Lease", "coordination.k8s.io/v1", spec={"acquireTime": "2024-01-02T03:04:05Z"})
    assert messages(lease) == ["spec.acquireTime must be a time such as 2006-01-02T15:04:05.000000Z"]
    lease["spec"]["acquireTime"] = "2024-01-02T03:04:05.000000Z"
    assert messages(lease) == []
    lease["metadata"]["creationTimestamp"] = "2024-02-30T03:04:05Z"
    assert messages(lease) == ["metadata.creationTimestamp must be a time such as 2006-01-02T15:04:05Z"]
    assert messages(of_kind("Secret", data={"k": "no base64!"})) == ["data.k must be base64"]
    assert messages(of_kind("Secret", data={"k": "aGVs\nbG8=", "l": "${TOKEN}", "m": ""})) == []


def test_a_value_is_never_told_where_it_may_be_secret() -> None:
    told = str(judge(of_kind("Secret", data={"k": "hunter2 hunter2"}, stringData={"k": ["hunter2"]})))
    assert "hunter2" not in told


def test_all_problems_of_an_object_are_found_at_once() -> None:
    found = judge(deployment({"imag": "x", "ports": [{}]}, replicas="3", paused=1))
    assert sorted(problem.rule for problem in found) == [
        Rule.REQUIRED_FIELD, Rule.UNKNOWN_FIELD, Rule.WRONG_TYPE, Rule.WRONG_TYPE,
    ]  # fmt: skip


def test_objects_encrypted_by_sops_pass_with_what_sops_adds() -> None:
    sealed = "ENC[AES256_GCM,data:x,iv:y,tag:z,type:int]"
    body = {**deployment(replicas=sealed), "sops": {"mac": "ENC[x]", "version": "3"}}
    assert messages(body) == []
    del body["sops"]
    assert messages(body) == ["spec.replicas must be an integer, not a string: take the quotes away"]


def test_a_field_counts_only_in_the_releases_that_have_it() -> None:
    body = of_kind("Pod", spec={"containers": [{"name": "a"}], "resources": {"limits": {"cpu": "1"}}})
    assert messages(body, Catalog(32)) == []
    assert [problem.rule for problem in judge(body, Catalog(31))] == [Rule.UNKNOWN_FIELD]


def test_every_definition_of_every_release_can_be_compiled() -> None:
    for minor in builtin.releases():
        release = builtin.Release(minor)
        assert len(release.kinds()) > 80
        for gvk in release.kinds():
            node = release.find(gvk)
            assert node is not None, gvk
            found: list[Any] = []
            node.check({"apiVersion": gvk.api_version, "kind": gvk.kind, "metadata": {}}, (), found)


def test_eight_releases_fit_into_a_few_hundred_kilobytes() -> None:
    assert len(builtin.releases()) >= 8
    assert builtin._FILE.stat().st_size < 300_000


def test_an_unknown_kind_is_not_found() -> None:
    assert builtin.release(schemas.NEWEST).find(Gvk("apps", "v1", "Nothing")) is None
