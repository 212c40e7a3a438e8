"""A version never changes: refused by push, by the registry or, where both can be got round, by the agent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ocisync.flows.trust import trust_keys
from ocisync.flows.verify import Request, VerificationRefused, collect_within_limits, verify
from ocisync.model.artifact import VerdictReason
from ocisync.model.spec import SelectorKind
from ocisync.oci.client import open_store
from ocisync.sandbox.faults import Status
from ocisync.sandbox.registry import Registry
from ocisync.signing.keys import load_public
from tests.cli.conftest import Cli, Ran
from tests.support.gitrepo import GitRepo
from tests.support.verifying import tagged, verified

Push = Callable[..., Ran]
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\n"
REFUSALS = {
    "Harbor": (412, "PRECONDITION", "Failed to process request due to 'shop:1.2.3' configured as immutable."),
    "ECR": (
        400,
        "TAG_INVALID",
        "The image tag '1.2.3' already exists in the 'shop' repository and cannot be overwritten because the repository"
        " is immutable.",
    ),
    "ACR": (405, "DENIED", "The operation is disallowed on this registry, repository or image."),
    "GitLab": (403, "DENIED", "cannot push to protected tag"),
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry().start()
    yield made
    made.stop()


@pytest.fixture
def push(cli: Cli, repo: GitRepo, registry: Registry) -> Push:
    assert cli("keys", "generate", "k").exit_code == 0

    def run(tag: str, *flags: str) -> Ran:
        target = f"oci://{registry.address}/shop:{tag}"
        return cli("push", str(repo.path / "deploy"), target, "--sign-key", "k.key", "-o", "json", *flags)

    return run


def change(repo: GitRepo, name: str = "other") -> None:
    repo.commit({"deploy/app.yaml": MANIFEST % name})


def writes(registry: Registry) -> int:
    return sum(registry.requests.count(method=method) for method in ("PUT", "POST", "PATCH"))


def test_a_changed_version_is_exit_code_4_and_nothing_is_written(push: Push, repo: GitRepo, registry: Registry) -> None:
    first = json.loads(push("1.2.3").out)["digest"]
    before = writes(registry)
    change(repo)
    ran = push("1.2.3")
    assert ran.exit_code == 4
    assert "tag 1.2.3 is a version and already has other content" in ran.errors[0]
    assert "--force-tag" in ran.err
    assert writes(registry) == before
    assert tagged(f"{registry.address}/shop", "1.2.3") == first
    assert push("1.2.3", "--force-tag").exit_code == 0
    assert tagged(f"{registry.address}/shop", "1.2.3") != first


@pytest.mark.parametrize("name", REFUSALS)
def test_a_registry_s_own_refusal_is_exit_code_4_in_its_own_words(
    name: str, push: Push, repo: GitRepo, registry: Registry
) -> None:
    first = json.loads(push("1.2.3").out)["digest"]
    change(repo)
    status, code, message = REFUSALS[name]
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    registry.faults.add(r"/manifests/1\.2\.3$", method="PUT", action=Status(status, {}, body))
    ran = push("1.2.3", "--force-tag")
    assert ran.exit_code == 4, ran.err
    assert "does not let tag 1.2.3 move" in ran.errors[0]
    assert message[:60] in ran.errors[0]
    assert tagged(f"{registry.address}/shop", "1.2.3") == first


def test_a_registry_that_refuses_a_moving_tag_is_exit_code_4_too(push: Push, repo: GitRepo, registry: Registry) -> None:
    assert push("production").exit_code == 0
    change(repo)
    body = json.dumps({"errors": [{"code": "TAG_INVALID", "message": "the tag is immutable"}]}).encode()
    registry.faults.add(r"/manifests/production$", method="PUT", action=Status(400, {}, body))
    assert push("production").exit_code == 4


def test_a_registry_that_says_yes_and_moves_nothing_is_noticed(push: Push, repo: GitRepo, registry: Registry) -> None:
    assert push("production").exit_code == 0
    change(repo)
    registry.faults.add(r"/manifests/production$", method="PUT", action=Status(201))
    ran = push("production")
    assert ran.exit_code == 4
    assert "right after it was set" in ran.errors[0]


def test_where_nobody_enforces_it_the_second_digest_is_refused_as_mutated(
    push: Push, repo: GitRepo, registry: Registry, cli: Cli
) -> None:
    repository = f"{registry.address}/shop"
    first = json.loads(push("1.2.3").out)["digest"]
    key = load_public(Path("k.pub").read_bytes(), name="k.pub")
    assert verified(repository, "1.2.3", key).digest == first
    change(repo)
    second = json.loads(push("1.2.3", "--force-tag").out)["digest"]
    # As the agent asks: it remembers which digest this sync accepted for the tag.
    wanted = Request(repository=repository, kind=SelectorKind.TAG, tag="1.2.3", accepted_digest=first)
    with open_store(repository) as store, pytest.raises(VerificationRefused) as caught:
        verify(store, trust_keys([key], repository), wanted, now=datetime.now(UTC), collect=collect_within_limits)
    assert caught.value.verdict.reason is VerdictReason.TAG_MUTATED
    assert first in caught.value.verdict.message
    assert second != first
