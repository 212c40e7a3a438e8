"""What end-to-end tests share: one installation per run, one agent and one tenant per test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent import AgentProcess, Installation, Tenant, running
from tests.support.cluster import Cluster
from tests.support.image import Builder, ImageContainer
from tests.support.registries import Registry


@pytest.fixture(scope="session")
def installation(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """CRDs, RBAC and the agent's namespace."""
    installed = Installation(cluster, tmp_path_factory.mktemp("installation"))
    yield installed
    installed.remove()


@pytest.fixture
def tenant(installation: Installation, namespace: str, distribution: Registry) -> Iterator[Tenant]:
    """A namespace with an account, a policy and an empty repository; the sync is not written yet."""
    repository = f"{distribution.host}/test/{secrets.token_hex(6)}"
    made = Tenant(installation, namespace, repository, store_directory=distribution.directory)
    made.prepare()
    yield made
    made.remove()


@pytest.fixture
def agent(installation: Installation, tmp_path: Path) -> Iterator[AgentProcess]:
    """A running agent."""
    with running(installation.agent(tmp_path / "agent")) as started:
        yield started


@pytest.fixture(scope="module")
def shared_agent(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """A running agent for all tests of a module; for those that neither stop it nor count what it does."""
    with running(installation.agent(tmp_path_factory.mktemp("shared-agent"))) as started:
        yield started


@pytest.fixture(scope="session")
def image() -> Iterator[ImageContainer]:
    """A container of the image that the Dockerfile makes; built when it is not in the cache."""
    builder = Builder(Path(__file__).parents[2])
    made = ImageContainer(builder, builder.build())
    yield made
    made.remove()
    builder.close()
