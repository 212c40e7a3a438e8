"""From manifests to the bytes that are applied."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocisync.cluster.normalise import (
    ApplyMode,
    Prepared,
    Target,
    applyset_id,
    body_of,
    canonical_json,
    normalise,
    parse_options,
    prepare,
)
from ocisync.model.resource import JsonObject, ManifestObject, ObjectId, gvk_of, id_of

TARGET = Target("applyset-x-v1", "shop", "apps", "uid", "deployer", "shop")


def manifest(obj: JsonObject, line: int = 1) -> ManifestObject:
    return ManifestObject(id_of(obj), gvk_of(obj), obj, "f.yaml", line)


def prepared(*objects: JsonObject) -> Prepared:
    scopes = {("", "ConfigMap"): True, ("", "Namespace"): False, ("apps", "Deployment"): True}
    return prepare([manifest(obj) for obj in objects], TARGET, lambda group, kind: scopes.get((group, kind)))


def config_map(name: str = "a", **metadata: object) -> JsonObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"x": "1"}}


def test_the_applyset_id_is_the_one_that_kubectl_makes() -> None:
    # sha256 of "my-set.default.ConfigMap." in unpadded base64url
    expected = (
        base64.urlsafe_b64encode(__import__("hashlib").sha256(b"my-set.default.ConfigMap.").digest())
        .decode()
        .rstrip("=")
    )
    assert applyset_id("my-set", "default", "ConfigMap", "") == f"applyset-{expected}-v1"


def test_string_data_becomes_data_and_wins() -> None:
    secret: JsonObject = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "data": {"a": "b2xk", "b": "aw=="}, "stringData": {"a": "new"},
    }  # fmt: skip
    result = normalise(secret, sync_id="id", namespace="n")
    assert "stringData" not in result
    assert result["data"] == {"a": base64.b64encode(b"new").decode(), "b": "aw=="}


def test_what_only_the_server_writes_is_dropped() -> None:
    noisy = config_map(
        creationTimestamp=None, uid="u", resourceVersion="1", generation=2, managedFields=[], selfLink="/"
    )
    result = normalise({**noisy, "status": {"x": 1}}, sync_id="id", namespace="n")
    assert result["metadata"] == {"name": "a", "namespace": "n", "labels": {"applyset.kubernetes.io/part-of": "id"}}
    assert "status" not in result


def test_a_missing_namespace_is_filled_and_a_written_one_kept() -> None:
    result = prepared(
        config_map(),
        config_map(namespace="other"),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
    )
    assert [one.id.namespace for one in result.desired] == ["shop", "other", ""]


def test_the_scope_of_a_kind_defined_in_the_artifact_is_known_from_there() -> None:
    definition: JsonObject = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.x.io"},
        "spec": {"group": "x.io", "scope": "Cluster", "names": {"kind": "Foo"}},
    }  # fmt: skip
    foo: JsonObject = {"apiVersion": "x.io/v1", "kind": "Foo", "metadata": {"name": "f"}}
    result = prepare([manifest(foo), manifest(definition)], TARGET, lambda _, kind: None if kind == "Foo" else False)
    assert [one.id.namespace for one in result.desired] == ["", ""]
    assert result.complete


def test_unknown_kinds_duplicates_and_nameless_objects_are_rejected_one_by_one() -> None:
    unknown: JsonObject = {"apiVersion": "x.io/v1", "kind": "Bar", "metadata": {"name": "b"}}
    nameless: JsonObject = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}
    result = prepared(unknown, config_map(), config_map(namespace="shop"), nameless)
    assert [item.failure.reason for item in result.rejected] == ["NoKind", "Duplicate", "NoName"]
    assert result.unknown_kinds == frozenset({("x.io", "Bar")})
    assert len(result.desired) == 1


def test_targets_of_an_autoscaler_are_marked() -> None:
    hpa: JsonObject = {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }  # fmt: skip
    web: JsonObject = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    result = prepare([manifest(hpa), manifest(web)], TARGET, lambda *_: True)
    assert {one.id.name: one.left for one in result.desired} == {"h": (), "web": ("/spec/replicas",)}


def test_annotations_are_read() -> None:
    options = parse_options(
        {
            "ocisync.dev/prune": "disabled", "ocisync.dev/force": "enabled", "ocisync.dev/apply": "IfNotPresent",
            "ocisync.dev/depends-on": "[apps/Deployment/n/web, core/ConfigMap/n/c]", "ocisync.dev/wave": "-3",
            "ocisync.dev/protect": "confirm", "ocisync.dev/adopt": "applyset-y-v1",
        }
    )  # fmt: skip
    assert not options.prune
    assert options.force
    assert options.apply is ApplyMode.IF_NOT_PRESENT
    assert options.depends_on == (ObjectId("apps", "Deployment", "n", "web"), ObjectId("", "ConfigMap", "n", "c"))
    assert (options.wave, options.protect, options.adopt) == (-3, True, "applyset-y-v1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prune", "no"),
        ("force", "true"),
        ("apply", "Never"),
        ("depends-on", "web"),
        ("wave", "1.5"),
        ("protect", "yes"),
    ],
)
def test_a_wrong_annotation_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"annotation ocisync.dev/{key}: '{value}'"):
        parse_options({f"ocisync.dev/{key}": value})


def test_a_payload_can_name_the_object_that_is_meant() -> None:
    one = prepared(config_map()).desired[0]
    assert json.loads(one.payload())["metadata"]["name"] == "a"
    assert json.loads(one.payload(uid="u"))["metadata"] == {**json.loads(one.payload())["metadata"], "uid": "u"}
    assert json.loads(one.payload(resource_version="1"))["metadata"]["resourceVersion"] == "1"


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_json_means_the_same_to_json_and_to_yaml(value: object) -> None:
    data = canonical_json({"v": value})
    assert json.loads(data) == {"v": value}
    assert yaml.safe_load(data) == {"v": value}


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_a_uid_goes_into_any_body_without_touching_the_rest(content: dict[str, object]) -> None:
    obj = {**content, "metadata": {"name": "a", "labels": {}}, "kind": "K"}
    one = prepared(config_map()).desired[0]
    stored = type(one)(one.id, one.gvk, body_of(obj), one.place)
    assert json.loads(stored.payload()) == obj
    named = json.loads(stored.payload(uid="the-uid"))
    assert named["metadata"].pop("uid") == "the-uid"
    assert named == obj


@pytest.mark.parametrize("length", [0, 3_900, 4_200, 40_000, 1_000_000])
def test_a_body_of_any_size_comes_back_as_it_was(length: int) -> None:
    obj = {"metadata": {"name": "a"}, "data": {"text": "".join(chr(97 + n * n % 26) for n in range(length))}}
    one = prepared(config_map()).desired[0]
    assert json.loads(replace(one, body=body_of(obj)).payload()) == obj


def test_of_a_small_object_little_is_kept() -> None:
    one = prepared(config_map()).desired[0]
    assert len(one.body) < len(one.payload()) / 2


def test_a_desired_object_that_says_the_same_is_the_known_one() -> None:
    known, again = prepared(config_map()).desired[0], prepared(config_map()).desired[0]
    assert again is not known
    assert again.or_known(known) is known


def test_one_that_only_moved_shares_its_content_with_the_known_one() -> None:
    known, again = (prepared(config_map()).desired[0] for _ in range(2))
    moved = replace(again, place="elsewhere.yaml:7").or_known(known)
    assert moved == replace(again, place="elsewhere.yaml:7")
    assert (moved.id, moved.body) == (known.id, known.body)
    assert moved.body is known.body


def test_one_that_says_something_else_stays_as_it_is() -> None:
    known, other = (prepared(config_map()).desired[0] for _ in range(2))
    changed = replace(other, body=body_of({"metadata": {"name": "b"}}))
    assert changed.or_known(known) == changed
    assert not changed.says_the_same(known)


def test_equal_kinds_of_different_objects_are_kept_once() -> None:
    first, second = (prepared(config_map()).desired[0] for _ in range(2))
    assert first.gvk is second.gvk
    assert first.id.kind is second.id.kind
    assert first.id.namespace is second.id.namespace
