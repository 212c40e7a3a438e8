"""Which schema an object gets: releases, removed and deprecated versions, custom kinds."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.manifests.rules import Rule
from ocisync.manifests.schema.catalog import Catalog, parse_release
from ocisync.model.errors import UsageError
from ocisync.model.resource import JsonObject
from tests.support import schemas
from tests.support.schemas import judge


def of_kind(api_version: str, kind: str, **fields: Any) -> JsonObject:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, **fields}


def told(body: JsonObject, minor: int = schemas.NEWEST) -> tuple[str, str]:
    found = judge(body, Catalog(minor))
    assert len(found) == 1, found
    return found[0].rule, found[0].message


@pytest.mark.parametrize(("text", "minor"), [("", 37), ("1.37", 37), ("v1.30", 30), ("1.34.2", 34), ("v1.36.0", 36)])
def test_releases_are_written_as_people_write_them(text: str, minor: int) -> None:
    assert parse_release(text) == minor


@pytest.mark.parametrize("text", ["1.29", "1.99", "37", "latest", "1", "2.30", "1.30-rc1"])
def test_other_releases_are_refused_with_those_that_are_there(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_release(text)
    assert "1.30, " in caught.value.hint


@pytest.mark.parametrize(
    ("api_version", "kind", "message"),
    [
        ("extensions/v1beta1", "Ingress", "gone since Kubernetes 1.22: use networking.k8s.io/v1"),
        ("extensions/v1beta1", "Deployment", "gone since Kubernetes 1.16: use apps/v1"),
        ("apps/v1beta2", "StatefulSet", "gone since Kubernetes 1.16: use apps/v1"),
        ("batch/v1beta1", "CronJob", "gone since Kubernetes 1.25: use batch/v1"),
        ("policy/v1beta1", "PodDisruptionBudget", "gone since Kubernetes 1.25: use policy/v1"),
        ("policy/v1beta1", "PodSecurityPolicy", "gone since Kubernetes 1.25, and nothing replaces it"),
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler", "gone since Kubernetes 1.26: use autoscaling/v2"),
        ("rbac.authorization.k8s.io/v1beta1", "Role", "gone since Kubernetes 1.22: use rbac.authorization.k8s.io/v1"),
        ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition", "1.22: use apiextensions.k8s.io/v1"),
        ("apiregistration.k8s.io/v1beta1", "APIService", "1.22: use apiregistration.k8s.io/v1"),
        ("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema", "1.32: use flowcontrol.apiserver.k8s.io/v1"),
        ("node.k8s.io/v1beta1", "RuntimeClass", "gone since Kubernetes 1.25: use node.k8s.io/v1"),
        ("admissionregistration.k8s.io/v1beta1", "ValidatingAdmissionPolicy", "use admissionregistration.k8s.io/v1"),
        ("networking.k8s.io/v1beta1", "IPAddress", "gone since Kubernetes 1.37: use networking.k8s.io/v1"),
    ],
)
def test_a_removed_version_is_an_error_that_names_its_successor(api_version: str, kind: str, message: str) -> None:
    rule, text = told(of_kind(api_version, kind))
    assert rule == Rule.REMOVED_API
    assert text.endswith(message)


def test_what_is_removed_depends_on_the_release() -> None:
    body = of_kind("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema")
    assert told(body, 31)[0] == Rule.DEPRECATED_API
    assert told(body, 32)[0] == Rule.REMOVED_API


def test_a_deprecated_version_is_a_warning_with_its_end() -> None:
    body = of_kind("networking.k8s.io/v1beta1", "IPAddress", spec={"parentRef": {"name": "a", "resource": "services"}})
    assert told(body, 36) == (
        Rule.DEPRECATED_API,
        "IPAddress of networking.k8s.io/v1beta1 is deprecated since Kubernetes 1.34 and will be gone in 1.37"
        ": use networking.k8s.io/v1",
    )


def test_a_version_that_the_release_does_not_have_yet_is_an_error() -> None:
    rule, text = told(of_kind("resource.k8s.io/v1", "DeviceClass"), 33)
    assert rule == Rule.UNKNOWN_KIND
    assert "new in Kubernetes 1.34; this is for 1.33: use resource.k8s.io/v1beta1" in text


@pytest.mark.parametrize(
    ("api_version", "kind", "message"),
    [
        ("apps/v1", "Deploymnet", "Kubernetes 1.37 has no Deploymnet in apps/v1; did you mean Deployment?"),
        ("apps/v2", "Deployment", "apps/v2 has no Deployment: use apps/v1"),
        ("v1", "Ingres", "Kubernetes 1.37 has no Ingres in v1"),
        ("a/b/c", "X", "apiVersion 'a/b/c' is none: it is written GROUP/VERSION"),
        ("batch/v1", "cronjob", "Kubernetes 1.37 has no cronjob in batch/v1; did you mean CronJob?"),
    ],
)
def test_a_kind_that_kubernetes_does_not_have_is_an_error(api_version: str, kind: str, message: str) -> None:
    assert told(of_kind(api_version, kind)) == (Rule.UNKNOWN_KIND, message)


def test_a_custom_kind_without_a_definition_is_a_warning_told_once() -> None:
    catalog = Catalog(schemas.NEWEST)
    certificate = of_kind("cert-manager.io/v1", "Certificate")
    assert [problem.rule for problem in judge(certificate, catalog)] == [Rule.MISSING_SCHEMA]
    assert judge(certificate, catalog) == []
    assert [problem.rule for problem in judge(of_kind("cert-manager.io/v1", "Issuer"), catalog)] == [
        Rule.MISSING_SCHEMA
    ]


def test_strict_kinds_make_it_an_error_each_time() -> None:
    catalog = Catalog(schemas.NEWEST, strict_kinds=True)
    for _ in range(2):
        assert [problem.rule for problem in judge(of_kind("x.example/v1", "Y"), catalog)] == [Rule.UNKNOWN_KIND]


def test_another_version_of_a_defined_kind_is_an_error_that_names_the_defined_ones() -> None:
    definition, _ = schemas.custom()
    found = judge(of_kind("schema.example.org/v2", "Gadget"), schemas.catalog_of(definition))
    assert [problem.message for problem in found] == ["no version v2 of Gadget is defined: use schema.example.org/v1"]


def test_definitions_known_anyway_are_asked_only_for_kinds_that_are_not_found() -> None:
    definition, gadget = schemas.custom()
    asked = []

    def more() -> list[JsonObject]:
        asked.append(1)
        return [definition]

    catalog = Catalog(schemas.NEWEST, more=more)
    assert judge(of_kind("v1", "ConfigMap"), catalog) == []
    assert asked == []
    assert judge(gadget, catalog) == []
    assert [problem.rule for problem in judge({**gadget, "spec": {}}, catalog)] == [Rule.REQUIRED_FIELD] * 2
    assert asked == [1]


def test_ocisyncs_own_kinds_are_checked() -> None:
    from ocisync.cli.schemaflags import own_definitions

    catalog = Catalog(schemas.NEWEST, more=own_definitions)
    found = judge(of_kind("ocisync.dev/v1alpha1", "ArtifactSync", spec={"sorce": {}}), catalog)
    assert "unknown field spec.sorce; did you mean source or force?" in [problem.message for problem in found]
