"""What every test has: an environment of its own, and real servers on demand.

Fixtures (all servers listen on loopback; a missing one is a skip that says how to get it, and a failure
with ``OCISYNC_REQUIRE_REAL=1``):

* ``cluster``: a Kubernetes cluster in which Deployments become healthy. Take this one, with ``namespace``.
* ``control_plane``: the same as processes of ours, to stop, freeze and audit. Never an existing cluster.
* ``kwok``: the nodes of ``control_plane``.
* ``distribution``, ``olareg``, ``sandbox_registry``: registries. ``registry``: each in turn; with ``repository``.
* ``apiserver``: the sandbox's Kubernetes API (``sandbox_cluster``) and ``cluster`` in turn; with ``api_namespace``.
* ``start_distribution``: a registry of the test alone, with basic or token logins.
* ``flux``, ``argocd``: their own clients, on loopback.
* ``cosign``: the real cosign, offline. ``oras``, ``skopeo``, ``imgpkg``: the real ones, on loopback.
* ``kustomize``, ``helm``: the real renderers.
* ``private_sigstore``: Fulcio, Rekor and a timestamp authority in a network namespace, with identities to sign as.

Servers live for the whole run; tests keep apart by ``namespace`` and ``repository``. A test that stops one
must start it again before it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tests.servers import build
from tests.support import requirements
from tests.support.bearer import TokenServer
from tests.support.cluster import Cluster, ExistingCluster
from tests.support.controlplane import ControlPlane, Programs
from tests.support.cosign import Cosign
from tests.support.gitopstools import ArgoCd, Flux
from tests.support.kwok import Kwok
from tests.support.ocitools import Helm, Imgpkg, Kustomize, Oras, Skopeo
from tests.support.privatesigstore import PrivateSigstore
from tests.support.registries import Distribution, Login, Olareg, Registry
from tests.support.sandboxes import SandboxCluster, SandboxRegistry

REAL_FIXTURES = frozenset(
    {
        "cluster",
        "control_plane",
        "kwok",
        "real_engine",
        "distribution",
        "olareg",
        "start_distribution",
        "cosign",
        "private_sigstore",
        "oras",
        "skopeo",
        "imgpkg",
        "flux",
        "argocd",
        "kustomize",
        "helm",
        "image",
    }
)
REAL_VARIANTS = frozenset({"distribution", "olareg", "real"})

# What a person's shell may hold and what must not decide a test.
FOREIGN_VARIABLES = re.compile(
    r"(KUBE(?!BUILDER_ASSETS)|DOCKER_|REGISTRY_|XDG_|COSIGN_|SIGSTORE_|TUF_|GIT_|GITHUB_"
    r"|OCISYNC_(?!TEST_|REQUIRE_REAL|HEAVY))"
    r"|(https?|all|no)_proxy$",
    re.IGNORECASE,
)

_home = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


# Seconds say how busy the machine is, not whether a property holds. CI takes a fixed sample of each property;
# OCISYNC_HEAVY=1 looks a hundred times further.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("sample", _PATIENT, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.register_profile("heavy", _PATIENT, max_examples=5_000)
settings.load_profile("heavy" if os.environ.get("OCISYNC_HEAVY") == "1" else "sample")
if os.environ.get("CI"):
    # Hypothesis also draws constants of the modules that are loaded, which depend on the tests that ran before.
    providers._get_local_constants = lambda: providers._local_constants


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds our options."""
    parser.addoption(
        "--update-golden", action="store_true", help="write what golden-file tests got instead of comparing"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Gives the whole run an environment without the person's configuration, credentials and proxies."""
    cache = build.cache_directory()  # depends on HOME
    home = tempfile.TemporaryDirectory(prefix="ocisync-test-home-")
    config.stash[_home] = home
    for name in [name for name in os.environ if FOREIGN_VARIABLES.match(name)]:
        del os.environ[name]
    os.environ["OCISYNC_TEST_CACHE"] = str(cache)
    os.environ["HOME"] = home.name
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in the background of a shell: what it starts would be deaf to the Ctrl-C that tests send.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the home of the run."""
    home = config.stash.get(_home, None)
    if home is not None:
        home.cleanup()


@pytest.hookimpl(tryfirst=True)  # before `-m` is judged
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs a real server as ``real``, so that ``-m 'not real'`` is the fast run; leaves heavy tests out."""
    if os.environ.get("OCISYNC_HEAVY") != "1":
        items[:] = [item for item in items if item.get_closest_marker("heavy") is None]
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        needs = REAL_FIXTURES & set(item.fixturenames)
        # Parametrised fixtures ask for their variant at run time, so only the parameter tells.
        if needs or any(isinstance(value, str) and value in REAL_VARIANTS for value in params):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of ours; for tests that stop, freeze or audit it. Others take ``cluster``."""
    started = ControlPlane(Programs.find(), tmp_path_factory.mktemp("kubernetes") / "control-plane")
    started.start()
    yield started
    started.stop()
    # Hundreds of megabytes that pytest would keep for three runs.
    shutil.rmtree(started.directory / "etcd", ignore_errors=True)


@pytest.fixture(scope="session")
def kwok(control_plane: ControlPlane) -> Iterator[Kwok]:
    """Three Ready nodes on which pods run in no time."""
    if not control_plane.controllers:
        how = "put them into the folder KUBEBUILDER_ASSETS, or unset it to use our own build"
        requirements.missing("kube-controller-manager and kube-scheduler", how)
    started = Kwok(requirements.require("kwok"), control_plane)
    started.start(nodes=3)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A cluster whose Deployments become healthy: the person's, or ours with kwok."""
    given = requirements.existing_kubeconfig()
    if given is not None:
        directory = tmp_path_factory.mktemp("existing-cluster")
        return ExistingCluster(given, directory)
    own: ControlPlane = request.getfixturevalue("control_plane")
    request.getfixturevalue("kwok")
    return own


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of ``cluster`` for this test alone."""
    with cluster.namespace(prefix=request.node.name.removeprefix("test_")) as name:
        yield name


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """distribution: strict, without the referrers API."""
    yield from _running(Distribution(requirements.require("distribution"), tmp_path_factory.mktemp("distribution")))


@pytest.fixture(scope="session")
def olareg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """olareg: with the referrers API."""
    yield from _running(Olareg(requirements.require("olareg"), tmp_path_factory.mktemp("olareg")))


class StartDistribution(Protocol):
    """Starts a distribution of this test alone, with logins."""

    def __call__(self, *, login: Login | None = None, tokens: TokenServer | None = None) -> Registry:
        """With basic authentication, or with token authentication, or open."""
        ...


@pytest.fixture
def start_distribution(tmp_path: Path) -> Iterator[StartDistribution]:
    """distribution with the logins that the test asks for."""
    binary = requirements.require("distribution")
    with contextlib.ExitStack() as stack:

        def start(*, login: Login | None = None, tokens: TokenServer | None = None) -> Registry:
            directory = tmp_path / f"distribution-{secrets.token_hex(2)}"
            started = Distribution(binary, directory, login=login, tokens=tokens)
            stack.callback(started.stop)
            started.start()
            return started

        yield start


@pytest.fixture(scope="session")
def sandbox_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry of the built-in sandbox."""
    yield from _running(SandboxRegistry(Path(sys.executable), tmp_path_factory.mktemp("sandbox-registry")))


@pytest.fixture(scope="session")
def sandbox_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxCluster]:
    """The Kubernetes API of the built-in sandbox."""
    started = SandboxCluster(tmp_path_factory.mktemp("sandbox-cluster"))
    started.start()
    yield started
    started.stop()


@pytest.fixture(params=["sandbox", "distribution", "olareg"])
def registry(request: pytest.FixtureRequest) -> Registry:
    """Each registry in turn."""
    name = "sandbox_registry" if request.param == "sandbox" else request.param
    chosen: Registry = request.getfixturevalue(name)
    return chosen


@pytest.fixture(params=["sandbox", "real"])
def apiserver(request: pytest.FixtureRequest) -> Cluster:
    """The sandbox's Kubernetes API and the real one in turn; for cases that both must pass."""
    name = "sandbox_cluster" if request.param == "sandbox" else "cluster"
    chosen: Cluster = request.getfixturevalue(name)
    return chosen


@pytest.fixture
def repository(registry: Registry) -> str:
    """HOST:PORT/NAME of an empty repository of ``registry``, for this test alone."""
    return f"{registry.host}/test/{secrets.token_hex(6)}"


@pytest.fixture
def api_namespace(apiserver: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of ``apiserver`` for this test alone."""
    with apiserver.namespace(prefix=request.node.name.removeprefix("test_")) as name:
        yield name


@pytest.fixture(scope="session")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    """The real cosign, offline."""
    return Cosign(requirements.require("cosign"), tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="session")
def private_sigstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSigstore]:
    """A private Sigstore that keeps its log for the whole run."""
    running = PrivateSigstore(tmp_path_factory.mktemp("sigstore"), requirements.require("sigstore"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def oras(tmp_path_factory: pytest.TempPathFactory) -> Oras:
    """The real oras command line."""
    return Oras(requirements.require("oras"), tmp_path_factory.mktemp("oras"))


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Skopeo:
    """Debian's skopeo."""
    return Skopeo(requirements.require("skopeo"), tmp_path_factory.mktemp("skopeo"))


@pytest.fixture(scope="session")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Flux:
    """Flux's own client for artifacts."""
    return Flux(requirements.require("fluxpush"), tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def argocd(tmp_path_factory: pytest.TempPathFactory) -> ArgoCd:
    """Argo CD's own client for `oci://` sources."""
    return ArgoCd(requirements.require("argocdpull"), tmp_path_factory.mktemp("argocd"))


@pytest.fixture(scope="session")
def imgpkg(tmp_path_factory: pytest.TempPathFactory) -> Imgpkg:
    """The real imgpkg."""
    return Imgpkg(requirements.require("imgpkg"), tmp_path_factory.mktemp("imgpkg"))


@pytest.fixture(scope="session")
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Kustomize:
    """The real kustomize."""
    return Kustomize(requirements.require("kustomize"), tmp_path_factory.mktemp("kustomize"))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real helm."""
    return Helm(requirements.require("helm"), tmp_path_factory.mktemp("helm"))


def _running(registry: Registry) -> Iterator[Registry]:
    registry.start()
    yield registry
    registry.stop()
