"""Custom kinds: structural schemas, defaults, junctors, lists with keys, CEL rules."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest

from ocisync.manifests.rules import Rule
from ocisync.manifests.schema.catalog import Catalog
from ocisync.manifests.schema.definition import definitions
from ocisync.manifests.schema.structural import DefinitionError
from ocisync.model.resource import JsonObject
from tests.support import schemas
from tests.support.schemas import judge, messages

DEFINITION, GADGET = schemas.custom()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return schemas.catalog_of(DEFINITION)


def gadget(**spec: Any) -> JsonObject:
    made = copy.deepcopy(GADGET)
    for name, value in spec.items():
        if value is ...:
            del made["spec"][name]
        else:
            made["spec"][name] = value
    return made


def definition_of(schema: JsonObject, **version: Any) -> JsonObject:
    body = copy.deepcopy(DEFINITION)
    served = body["spec"]["versions"][0]
    served["schema"]["openAPIV3Schema"] = {"type": "object", "properties": {"spec": schema}}
    served.update(version)
    return body


def test_a_good_object_passes(catalog: Catalog) -> None:
    assert judge(GADGET, catalog) == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"sise": 1}, "unknown field spec.sise; did you mean size?"),
        ({"parts": [{"name": "a", "cuont": 1}]}, "unknown field spec.parts[0].cuont; did you mean count?"),
        ({"size": "3"}, "spec.size must be an integer, not a string: take the quotes away"),
        ({"size": 1.5}, "spec.size must be an integer, not a number"),
        ({"size": 0}, "spec.size is 0, below the minimum of 1"),
        ({"size": 101, "limit": 200}, "spec.size is 101, above the maximum of 100"),
        ({"ratio": 0}, "spec.ratio is 0, below the minimum of 0"),
        ({"step": 7}, "spec.step is 7, not a multiple of 5"),
        ({"size": None}, "spec.size must be an integer, not null"),
        ({"labels": {"a": None}}, "spec.labels.a must be a string, not null"),
        ({"mode": "fsat"}, "spec.mode is 'fsat', not one of 'fast', 'slow'; did you mean fast?"),
        ({"mode": ...}, "spec.mode is required"),
        ({"code": "AB-1"}, r"spec.code does not match '^[a-z]+-\\d+$'"),
        ({"code": "ab-1\n"}, r"spec.code does not match '^[a-z]+-\\d+$'"),
        ({"code": "abcdefghi-12"}, "spec.code has 12 characters, more than 10"),
        ({"port": True}, "spec.port must be an integer or a string, not a boolean"),
        ({"when": "yesterday"}, "spec.when is no date-time"),
        ({"window": "5 fortnights"}, "spec.window is no duration"),
        ({"address": "1.2.3"}, "spec.address is no ipv4"),
        ({"mail": "nobody"}, "spec.mail is no email"),
        ({"blob": "?"}, "spec.blob is no byte"),
        ({"tags": ["a", "b", "c", "d"]}, "spec.tags has 4 items, more than 3"),
        ({"tags": ["a", "a"]}, "spec.tags[1] is already there as spec.tags[0]"),
        ({"parts": [{"count": 1}]}, "spec.parts[0].name is required"),
        (
            {"parts": [{"name": "x"}, {"name": "x"}]},
            "spec.parts[1] with name 'x' is already there as spec.parts[0]",
        ),
        ({"labels": {"a": "1", "b": "2", "c": "3", "d": "4"}}, "spec.labels has 4 fields, more than 3"),
        ({"labels": {"a": 1}}, "spec.labels.a must be a string, not an integer: put it in quotes"),
        (
            {"open": {"known": "x", "other": 1}},
            "spec.open.known must be an integer, not a string: take the quotes away",
        ),
        ({"template": {"kind": "X", "metadata": {}}}, "spec.template.apiVersion is required"),
        ({"template": {"apiVersion": "v1", "kind": "1X"}}, "spec.template.kind is '1X', which is none"),
        (
            {"template": {"apiVersion": "v1", "kind": "X", "metadata": {"lables": {}}}},
            "unknown field spec.template.metadata.lables; did you mean labels?",
        ),
        ({"choice": {"a": "x", "b": "x"}}, "spec.choice fits 2 alternatives (oneOf), and must fit exactly one"),
        (
            {"choice": {}},
            "spec.choice fits none of 2 alternatives (oneOf): spec.choice.a is required "
            "— or: spec.choice.b is required",
        ),
        (
            {"some": {"w": 1}},
            "spec.some fits none of 2 alternatives (anyOf): spec.some.v is required — or: spec.some.w is 1, "
            "below the minimum of 5",
        ),
        ({"some": {"v": 1, "w": 6}}, "spec.some has a form that is ruled out (not)"),
    ],
)
def test_what_the_schema_forbids_is_told(catalog: Catalog, spec: JsonObject, told: str) -> None:
    assert messages(gadget(**spec), catalog) == [told]


@pytest.mark.parametrize(
    "spec",
    [
        {"note": None},
        {"size": 3.0},
        {"level": None},
        {"port": 80},
        {"parts": []},
        {"open": {"anything": [1, {"x": None}]}},
        {"free": {"x": [1]}},
        {"template": {"apiVersion": "v1", "kind": "X", "metadata": {}, "any": 1}},
    ],
)
def test_what_the_schema_allows_passes(catalog: Catalog, spec: JsonObject) -> None:
    assert messages(gadget(**spec), catalog) == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"size": 60}, "spec: size must not exceed limit"),  # the limit of 50 is a default
        ({"window": "30s"}, "spec: window is too short"),
        ({"tags": ["Loud"]}, "spec: tags in lower case, not Loud"),
    ],
)
def test_cel_rules_are_applied_after_defaults_with_their_messages(
    catalog: Catalog, spec: JsonObject, told: str
) -> None:
    found = judge(gadget(**spec), catalog)
    assert [(problem.rule, problem.message) for problem in found] == [(Rule.VALIDATION_RULE, told)]


def test_rules_at_the_root_see_the_name(catalog: Catalog) -> None:
    body = copy.deepcopy(GADGET)
    body["metadata"]["name"] = "other"
    assert messages(body, catalog) == ["the object: the name begins with g"]


def test_unknown_fields_of_metadata_are_found(catalog: Catalog) -> None:
    body = copy.deepcopy(GADGET)
    body["metadata"]["lables"] = {}
    body["extra"] = 1
    assert sorted(messages(body, catalog)) == [
        "unknown field extra",
        "unknown field metadata.lables; did you mean labels?",
    ]


def test_a_status_that_is_dropped_may_hold_wrong_values_but_no_unknown_fields(catalog: Catalog) -> None:
    assert messages({**GADGET, "status": {"ready": "x"}}, catalog) == []
    assert messages({**GADGET, "status": {"raedy": True}}, catalog) == [
        "unknown field status.raedy; did you mean ready?"
    ]


def test_a_rule_that_cannot_be_checked_is_a_warning_told_once() -> None:
    rules = [{"rule": "quantity(self.a).isGreaterThan(quantity('1'))"}, {"rule": "self.a.frobnicate("}]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": rules}
    catalog = schemas.catalog_of(definition_of(schema))
    first = judge({**GADGET, "spec": {"a": "2"}}, catalog)
    assert [problem.rule for problem in first] == [Rule.UNCHECKED_RULE] * 2
    assert all("is not checked" in problem.message for problem in first)
    assert judge({**GADGET, "spec": {"a": "2"}}, catalog) == []


def test_a_pattern_that_would_keep_python_busy_for_ever_is_done_at_once() -> None:
    for pattern in ("^(a+)+$", "^(a|a)*$", "^(.*)(.*)(.*)(.*)(.*)b$"):
        catalog = schemas.catalog_of(definition_of({"type": "string", "pattern": pattern}))
        assert messages({**GADGET, "spec": "a" * 640 + "!"}, catalog) == [f"spec does not match '{pattern}'"]
    catalog = schemas.catalog_of(definition_of({"type": "string", "pattern": "^(a+)+$"}))
    assert messages({**GADGET, "spec": "a" * 64}, catalog) == []


@pytest.mark.parametrize("value", [1e308, 10**400, 3])
def test_a_step_beyond_what_numbers_hold_says_nothing(value: float) -> None:
    catalog = schemas.catalog_of(definition_of({"type": "number", "multipleOf": 1e-320}))
    assert messages({**GADGET, "spec": value}, catalog) == []


def test_patterns_of_re2_that_python_does_not_have_are_checked() -> None:
    catalog = schemas.catalog_of(definition_of({"type": "string", "pattern": r"^\p{Lu}+$"}))
    assert messages({**GADGET, "spec": "ÄÖ"}, catalog) == []
    assert messages({**GADGET, "spec": "äö"}, catalog) == [r"spec does not match '^\\p{Lu}+$'"]


def test_a_pattern_of_another_dialect_is_a_warning() -> None:
    catalog = schemas.catalog_of(definition_of({"type": "string", "pattern": r"^(?P<a"}))
    assert [problem.rule for problem in judge({**GADGET, "spec": "x"}, catalog)] == [Rule.UNCHECKED_RULE]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "thing"},
        {"properties": []},
        {"properties": {"a": "string"}},
        {"items": 5},
        {"required": "a"},
        {"allOf": {}},
        {"minimum": "1"},
        {"x-kubernetes-validations": [{"message": "x"}]},
    ],
)
def test_a_schema_that_is_none_is_an_error_at_its_first_object(schema: JsonObject) -> None:
    catalog = schemas.catalog_of(definition_of(schema))
    found = judge({**GADGET, "spec": {}}, catalog)
    assert [problem.rule for problem in found] == [Rule.BAD_DEFINITION]
    assert judge({**GADGET, "spec": {}}, catalog) == []


def test_a_schema_nested_beyond_reason_is_an_error() -> None:
    schema: JsonObject = {"type": "object"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    found = judge(GADGET, schemas.catalog_of(definition_of(schema)))
    assert [problem.rule for problem in found] == [Rule.BAD_DEFINITION]


def test_a_definition_without_a_schema_is_an_error() -> None:
    body = definition_of({})
    del body["spec"]["versions"][0]["schema"]
    with pytest.raises(DefinitionError, match="openAPIV3Schema is required"):
        definitions(body)
    assert [problem.rule for problem in Catalog(schemas.NEWEST).define(body)] == [Rule.BAD_DEFINITION]


def test_versions_that_are_not_served_or_deprecated_are_told() -> None:
    gone = schemas.catalog_of(definition_of({"x-kubernetes-preserve-unknown-fields": True}, served=False))
    assert [problem.rule for problem in judge(GADGET, gone)] == [Rule.REMOVED_API]
    old = schemas.catalog_of(
        definition_of(
            {"x-kubernetes-preserve-unknown-fields": True}, deprecated=True, deprecationWarning="use v2 instead"
        )
    )
    assert [(problem.rule, problem.message) for problem in judge(GADGET, old)] == [
        (Rule.DEPRECATED_API, "use v2 instead")
    ]


WITHOUT_LIBRARY = """
import sys
sys.modules["cel"] = None
from tests.support import schemas
definition, gadget = schemas.custom()
for problem in schemas.judge(gadget | {"spec": gadget["spec"] | {"size": 60}}, schemas.catalog_of(definition)):
    print(problem.rule, problem.message)
"""


def test_without_the_library_one_warning_speaks_for_all_rules() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARY], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "unchecked-rule Gadget schema.example.org/v1: CEL rules are not checked: no CEL library is installed "
        "(pip install 'ocisync[cel]')"
    ]


RISKY = """
import sys
sys.modules["cel"] = None
from tests.support import schemas
definition, gadget = schemas.custom()
pattern = {"type": "string", "pattern": "^(a|a)*$"}
definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {"type": "object", "properties": {"spec": pattern}}
for spec in ("a" * 640 + "!", "b"):
    for problem in schemas.judge(gadget | {"spec": spec}, schemas.catalog_of(definition)):
        print(problem.rule, problem.message)
"""


def test_without_the_library_a_risky_pattern_is_held_against_short_values_only() -> None:
    done = subprocess.run([sys.executable, "-c", RISKY], capture_output=True, text=True, check=True, timeout=300)
    told = done.stdout.splitlines()
    assert [line.split()[0] for line in told] == ["unchecked-rule", "bad-value", "unchecked-rule"]
    assert "up to 16 characters only" in told[0]
