"""What contract tests share: the same cases on the sandbox and on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.rawapi import RawApi
from tests.support import requirements
from tests.support.cluster import Cluster
from tests.support.engine import EngineDriver, driver


@pytest.fixture(params=["sandbox", "real"])
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """The sandbox's API and a real API server in turn; controllers run on both, nodes on neither."""
    if request.param == "sandbox":
        sandbox: Path = request.getfixturevalue("sandbox_cluster").kubeconfig
        return sandbox
    return real_kubeconfig(request)


@pytest.fixture
def engine(kubeconfig: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineDriver]:
    """The write engine with a sync and namespaces of its own; on a real server as the installed ServiceAccount."""
    real = request.node.callspec.params["kubeconfig"] == "real"
    with driver(kubeconfig, installed=tmp_path if real else None) as made:
        yield made


@pytest.fixture
def raw(apiserver: Cluster) -> Iterator[RawApi]:
    """Requests on the wire to the sandbox's API and to the real one in turn."""
    made = RawApi(apiserver.kubeconfig)
    yield made
    made.close()


@pytest.fixture
def home(apiserver: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test alone, on the server that ``raw`` talks to."""
    with apiserver.namespace(prefix=request.node.name.removeprefix("test_")) as name:
        yield name


@pytest.fixture
def real_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineDriver]:
    """The same on a real API server only: for access control and speed, which the sandbox does not have."""
    with driver(real_kubeconfig(request), installed=tmp_path) as made:
        yield made


def real_kubeconfig(request: pytest.FixtureRequest) -> Path:
    """The real API server: the person's, or ours."""
    given = requirements.existing_kubeconfig()
    if given is not None:
        return given
    path: Path = request.getfixturevalue("control_plane").kubeconfig
    return path
