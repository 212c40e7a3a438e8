"""`ArtifactSync` as it is read: defaults, limits, and refusals that name the field."""

from __future__ import annotations

from typing import Any

import pytest

from ocisync.model.errors import InvalidInput
from ocisync.model.spec import (
    DEFAULT_PROTECTED,
    DeletionPolicy,
    DriftMode,
    IgnoreRule,
    SelectorKind,
    SyncSpec,
    UnownedMode,
    parse_sync,
)

DIGEST = "sha256:" + "a" * 64


def parsed(annotations: dict[str, str] | None = None, source: dict[str, Any] | None = None, **spec: Any) -> SyncSpec:
    metadata = {"name": "shop", "namespace": "apps", "generation": 3, "annotations": annotations or {}}
    chosen = source or {"repository": "registry.example/shop", "tag": "production"}
    return parse_sync({"metadata": metadata, "spec": {"source": chosen, **spec}})


def refused(**spec: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        parsed(**spec)
    return caught.value.message


def test_what_is_not_written_has_the_defaults_of_the_definition() -> None:
    spec = parsed()
    assert (spec.source.kind, spec.source.selector, spec.source.interval_s) == (SelectorKind.TAG, "production", 60.0)
    assert (spec.service_account, spec.target_namespace, spec.path) == ("default", "", "")
    assert (spec.prune, spec.force, spec.suspend, spec.waits, spec.roll_back) == (True, False, False, False, False)
    assert (spec.wait_timeout_s, spec.retry_interval_s) == (300.0, 60.0)
    assert (spec.drift, spec.unowned) == (DriftMode.CORRECT, UnownedMode.WARN)
    assert (spec.max_prune, spec.protect) == ("50%", DEFAULT_PROTECTED)
    assert spec.depends_on == ()


def test_one_of_tag_semver_and_digest_chooses_the_artifact() -> None:
    by_digest = parsed(source={"repository": "registry.example/shop", "digest": DIGEST}).source
    assert (by_digest.kind, by_digest.selector) == (SelectorKind.DIGEST, DIGEST)
    for chosen in ({}, {"tag": "a", "digest": DIGEST}):
        assert "exactly one of tag, semver, digest" in refused(source={"repository": "registry.example/shop", **chosen})
    assert "digest" in refused(source={"repository": "registry.example/shop", "digest": "sha256:short"})


def test_a_version_range_that_cannot_be_read_is_refused() -> None:
    assert "newest" in refused(source={"repository": "registry.example/shop", "semver": "newest"})


def test_a_repository_has_neither_tag_nor_digest_in_it() -> None:
    assert "fields of their own" in refused(source={"repository": "registry.example/shop:v1", "tag": "x"})


def test_the_registry_is_asked_once_a_second_at_most_and_by_http_only_if_told_so() -> None:
    source = parsed(source={"repository": "registry.example/shop", "tag": "x", "interval": "1ms"}).source
    assert (source.interval_s, source.insecure) == (1.0, False)
    assert parsed(source={"repository": "registry.example/shop", "tag": "x", "insecure": True}).source.insecure


def test_deletion_follows_prune_unless_it_is_named() -> None:
    assert parsed().deletion_policy is DeletionPolicy.DELETE
    assert parsed(prune=False).deletion_policy is DeletionPolicy.ORPHAN
    assert parsed(prune=False, deletionPolicy="Delete").deletion_policy is DeletionPolicy.DELETE


def test_waves_wait_for_health_where_wait_is_written_even_if_it_is_empty() -> None:
    assert parsed(wait={}).waits
    assert parsed(wait={"timeout": "1h30m"}).wait_timeout_s == 5400.0


def test_ignore_rules_are_read_and_their_paths_are_pointers() -> None:
    rule = {"target": {"group": "apps", "kind": "Deployment"}, "paths": ["/spec/replicas"]}
    assert parsed(ignore=[rule]).ignore == (IgnoreRule("apps", "Deployment", "", "", ("/spec/replicas",)),)
    assert "must begin with /" in refused(ignore=[{"paths": ["spec.replicas"]}])


@pytest.mark.parametrize("value", [True, "half", "101%", -1, "-5"])
def test_the_guard_takes_a_number_or_a_percentage(value: object) -> None:
    assert "spec.guard.maxPrune" in refused(guard={"maxPrune": value})
    assert parsed(guard={"maxPrune": 7, "protect": []}).max_prune == "7"
    assert parsed(guard={"protect": []}).protect == ()


def test_dependencies_are_of_the_syncs_own_namespace_unless_they_name_one() -> None:
    spec = parsed(dependsOn=[{"name": "infra"}, {"name": "base", "namespace": "system"}])
    assert spec.depends_on == (("apps", "infra"), ("system", "base"))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"prun": True}, "prun"),
        ({"wait": {"timout": "5m"}}, "timout"),
        ({"retryInterval": "soon"}, "spec.retryInterval"),
        ({"prune": "yes"}, "spec.prune"),
        ({"drift": {"mode": "Maybe"}}, "Maybe"),
        ({"dependsOn": {}}, "spec.dependsOn"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(spec: dict[str, Any], field: str) -> None:
    assert field in refused(**spec)


def test_a_request_and_an_approval_are_read_from_the_syncs_annotations() -> None:
    spec = parsed({"ocisync.dev/requestedAt": "now", "ocisync.dev/approved": "abc"})
    assert (spec.requested_at, spec.approved, spec.generation) == ("now", "abc", 3)


def test_own_health_rules_are_read_once_for_each_kind() -> None:
    check = {"apiVersion": "x.example.com/v1", "kind": "Widget", "current": "self.status.ok", "failed": ""}
    (found,) = parsed(wait={"checks": [check]}).checks
    assert (found.group, found.kind, found.current, found.failed) == ("x.example.com", "Widget", "self.status.ok", "")
    assert "has a check already" in refused(wait={"checks": [check, check]})
    assert "give current, failed or both" in refused(wait={"checks": [{**check, "current": " "}]})


def test_going_back_by_itself_has_to_be_asked_for() -> None:
    assert not parsed(onFailure={}).roll_back
    assert parsed(onFailure={"rollback": True}).roll_back
