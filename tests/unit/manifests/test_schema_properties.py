"""Whatever stands in an object, the checks answer; and a field that is not declared never passes."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocisync.kit.yamlio import Path
from ocisync.manifests.rules import Rule
from ocisync.manifests.schema import builtin
from ocisync.manifests.schema.catalog import Catalog
from ocisync.manifests.schema.custom import CustomKind
from ocisync.manifests.schema.problem import Problem
from ocisync.manifests.schema.structural import DefinitionError
from ocisync.model.resource import Gvk, JsonObject
from tests.support import schemas

RELEASES = builtin.releases()
GVKS = builtin.release(schemas.NEWEST).kinds()
FIELDS = sorted(
    {field for body in schemas.kinds() for place, _ in schemas.places(body) for field in map(str, place[-1:])}
)
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["1", "1Gi", "TCP", "ENC[x]", "${A}", "2024-01-02T03:04:05Z"]))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(FIELDS), TEXTS), inner, max_size=5)
    ),
    max_leaves=30,
)
METADATA = st.dictionaries(st.sampled_from(["labels", "annotations", "ownerReferences", "x"]), JSON, max_size=3)

DEFINITION, GADGET = schemas.custom()
CUSTOM = schemas.catalog_of(DEFINITION)


@given(
    st.one_of(st.sampled_from(GVKS), st.builds(Gvk, TEXTS, TEXTS, TEXTS)),
    st.sampled_from(RELEASES),
    METADATA,
    st.dictionaries(st.sampled_from(["spec", "status", "data", "rules", "webhooks", "template", "sops"]), JSON),
)
def test_arbitrary_json_of_arbitrary_kinds_gets_an_answer(
    gvk: Gvk, minor: int, metadata: JsonObject, body: JsonObject
) -> None:
    made = {"apiVersion": gvk.api_version, "kind": gvk.kind, "metadata": {"name": "a", **metadata}, **body}
    for problem in Catalog(minor).check(schemas.item(made)):
        assert problem.message
        assert "\n" not in problem.message


@given(METADATA, JSON, JSON)
def test_arbitrary_json_of_a_custom_kind_gets_an_answer(metadata: JsonObject, spec: Any, status: Any) -> None:
    body = {**GADGET, "metadata": {"name": "g", **metadata}, "spec": spec, "status": status}
    for problem in CUSTOM.check(schemas.item(body)):
        assert problem.message


@given(st.fixed_dictionaries({}, optional={
    name: JSON for name in (
        "type", "properties", "items", "additionalProperties", "required", "enum", "pattern", "allOf", "anyOf", "oneOf",
        "not", "minimum", "maxLength", "multipleOf", "format", "default", "nullable", "x-kubernetes-validations",
        "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string",
    )
}), JSON)  # fmt: skip
def test_arbitrary_schemas_are_taken_or_refused_and_then_give_answers(schema: JsonObject, value: Any) -> None:
    metadata = builtin.release(schemas.NEWEST).metadata()
    try:
        kind = CustomKind({"type": "object", "properties": {"spec": schema}}, metadata)
    except DefinitionError:
        return
    found: list[Problem] = []
    kind.check({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "a"}, "spec": value}, (), found)


FREE = {
    "data", "binaryData", "stringData", "labels", "annotations", "matchLabels", "nodeSelector", "selector", "capacity",
    "requests", "limits", "hard", "max", "min", "default", "defaultRequest", "maxLimitRequestRatio", "parameters",
    "podFixed", "properties", "volumeAttributes",
}  # fmt: skip
SELECTOR = {"matchLabels", "matchExpressions"}


def is_free(place: Path, value: JsonObject) -> bool:
    """Tell whether a mapping has keys of the user's own."""
    name = place[-1] if place else ""
    if (name == "selector" and value.keys() <= SELECTOR) or (place == ("spec", "parameters")):
        return False
    return name in FREE or place[-2:] == ("subresources", "status")


PLACES = [
    (body, place)
    for body in schemas.kinds()
    for place, value in schemas.places(body)
    if isinstance(value, dict) and body["kind"] != "ControllerRevision"
]
GADGET_PLACES = [
    place
    for place, value in schemas.places(GADGET)
    if isinstance(value, dict) and not {"labels", "open", "free"} & set(place) and place[:2] != ("spec", "template")
]
KEYS = st.from_regex(r"zz[a-zA-Z]{1,8}", fullmatch=True)


def with_field(body: JsonObject, place: Path, key: str, value: Any) -> JsonObject:
    made = copy.deepcopy(body)
    schemas.value_at(made, place)[key] = value
    return made


@given(st.sampled_from(PLACES), KEYS, JSON)
def test_a_field_that_is_not_declared_is_refused_at_its_place(
    where: tuple[JsonObject, Path], key: str, value: Any
) -> None:
    body, place = where
    found = schemas.judge(with_field(body, place, key, value))
    if is_free(place, schemas.value_at(body, place)):
        assert ((*place, key), Rule.UNKNOWN_FIELD) not in {(problem.path, problem.rule) for problem in found}
    else:
        assert [(problem.path, problem.rule) for problem in found] == [((*place, key), Rule.UNKNOWN_FIELD)]


@given(st.sampled_from(GADGET_PLACES), KEYS, JSON)
def test_a_field_that_a_definition_does_not_declare_is_refused_at_its_place(place: Path, key: str, value: Any) -> None:
    found = schemas.judge(with_field(GADGET, place, key, value), CUSTOM)
    assert [(problem.path, problem.rule) for problem in found] == [((*place, key), Rule.UNKNOWN_FIELD)]
