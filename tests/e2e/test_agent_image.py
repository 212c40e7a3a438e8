"""The image of the Dockerfile: what is in it, and the agent in it as the rendered Deployment runs it."""

from __future__ import annotations

import http.client
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ocisync.install import workload
from ocisync.install.rbac import AGENT_NAME
from tests.support.agent import Installation, Tenant, config_map, deployment, running, service
from tests.support.image import ImageAgent, ImageContainer, Mount, empty_directory
from tests.support.process import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)  # the first build makes a Debian base

MIB = 1 << 20
# Ours on top of the base: the environment of Python packages. To be raised only on purpose.
LARGEST_MIB = 130
# Where a kubelet puts the service account; Debian's /var/run is a link to /run.
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    """The pod of the Deployment that `ocisync install` writes."""
    written = workload.deployment(workload.Workload(image="registry.example/ocisync:1", namespace="ocisync-system"))
    spec: dict[str, Any] = written["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def image_agent(
    image: ImageContainer, installation: Installation, pod: dict[str, Any], tmp_path: Path
) -> Iterator[ImageAgent]:
    """The agent in the image, set up as the Deployment says; only its HTTP address is moved to loopback."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text(installation.cluster.token_for(installation.namespace, AGENT_NAME))
    (account / "ca.crt").write_bytes(installation.cluster.authority)
    (account / "namespace").write_text(installation.namespace)
    server = urlsplit(installation.cluster.server)
    environment = {
        "OCISYNC_NAMESPACE": installation.namespace,
        "KUBERNETES_SERVICE_HOST": server.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(server.port or 443),
    }
    mounts = [*_volumes(pod, tmp_path), Mount(account, ACCOUNT)]
    address = f"127.0.0.1:{free_port()}"
    arguments = [*pod["containers"][0]["args"], "--http-address", address, "--log-level", "debug"]
    agent = ImageAgent(image, arguments, tmp_path / "agent", mounts=mounts, environment=environment, address=address)
    with running(agent):
        yield agent


def test_the_image_is_configured_to_be_an_agent_without_rights(image: ImageContainer, pod: dict[str, Any]) -> None:
    assert image.user == "65532:65532"
    assert image.entrypoint == ("/opt/ocisync/bin/ocisync",)
    assert image.configuration["Cmd"][0] == "agent"
    assert image.configuration["Labels"]["org.opencontainers.image.title"] == "ocisync"
    security = pod["securityContext"]
    assert image.user == f"{security['runAsUser']}:{security['runAsGroup']}"
    container = pod["containers"][0]
    assert set(image.configuration["ExposedPorts"]) == {f"{port['containerPort']}/tcp" for port in container["ports"]}
    assert set(image.configuration["Volumes"]) <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_every_flag_of_the_deployment_is_known_to_the_image(image: ImageContainer, pod: dict[str, Any]) -> None:
    shown = image.run(*image.entrypoint, "agent", "--help")
    assert shown.returncode == 0, shown.stderr
    for arguments in (pod["containers"][0]["args"], image.configuration["Cmd"]):
        assert arguments[0] == "agent"
        for flag in (item for item in arguments if item.startswith("--")):
            assert re.search(rf"^ +(-\w, )?{flag}\b", shown.stdout, re.MULTILINE), flag
        # Parsed as a whole before --help is answered.
        assert image.run(*image.entrypoint, *arguments, "--help").returncode == 0
    assert image.run(*image.entrypoint, "agent", "--no-such-flag", "--help").returncode == 2


def test_nothing_that_builds_or_installs_is_left(image: ImageContainer) -> None:
    found = image.python(
        "import importlib.util, json, os, shutil\n"
        "tools = 'pip pip3 gcc cc g++ make ld git uv'.split()\n"
        "modules = 'pip setuptools wheel ensurepip aiohttp'.split()\n"
        "wheels = [f for _, _, files in os.walk('/') for f in files if f.endswith('.whl')]\n"
        "print(json.dumps([t for t in tools if shutil.which(t)]"
        " + [m for m in modules if importlib.util.find_spec(m)] + wheels))",
        user="0:0",
    )
    assert json.loads(found) == []
    assert sorted(path.name for path in (image.root / "opt/ocisync/bin").iterdir() if not path.is_symlink()) == [
        "ocisync"
    ]
    assert not (image.root / "build").exists()


def test_no_module_is_compiled_at_the_start_of_the_agent(image: ImageContainer) -> None:
    imports = "import ocisync.agent.run, ocisync.cli.agent, ocisync.cluster.client, ocisync.flows.reconcile\n"
    libraries = "import kubernetes.client, kubernetes.config, kubernetes.client.rest, oras.provider, cryptography"
    result = image.run("/opt/ocisync/bin/python", "-v", "-c", imports + libraries)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "/opt/ocisync/lib/" in result.stderr
    loaded_sources = re.findall(r"^# code object from '(/opt/ocisync/.*\.py)'$", result.stderr, re.MULTILINE)
    # The packages' generated classes are kept as sources, since none is needed to start.
    assert loaded_sources == []


def test_the_image_can_verify_keyless_signatures(image: ImageContainer) -> None:
    program = (
        "import sigstore.verify, sigstore.models, rfc3161_client, ocisync.signing.keyless as k; k.require_library()"
    )
    result = image.run("/opt/ocisync/bin/python", "-c", program)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_image_can_evaluate_health_checks(image: ImageContainer) -> None:
    program = (
        "from ocisync.cluster.health_checks import compiled; from ocisync.model.spec import HealthCheck;"
        "rule = compiled((HealthCheck('c', 'example.com', 'Widget', \"status.phase == 'Up'\", ''),));"
        "print(rule({'apiVersion': 'example.com/v1', 'kind': 'Widget', 'metadata': {}, 'status': {'phase': 'Up'}}))"
    )
    result = image.run("/opt/ocisync/bin/python", "-c", program)
    assert "CURRENT" in result.stdout, result.stderr[-2000:]


def test_the_image_stays_small(image: ImageContainer) -> None:
    def size(path: Path) -> float:
        files = (item for item in path.rglob("*") if item.is_file() and not item.is_symlink())
        return sum(item.stat().st_size for item in files) / MIB

    ours = size(image.root / "opt/ocisync")
    sys.stderr.write(f"\nimage: /opt/ocisync {ours:.0f} MiB, with the test's Debian base {size(image.root):.0f} MiB\n")
    assert ours < LARGEST_MIB


def test_only_the_mounts_of_the_deployment_can_be_written(
    image: ImageContainer, pod: dict[str, Any], tmp_path: Path
) -> None:
    mounts = _volumes(pod, tmp_path)
    # /dev and /proc are the runtime's and no part of the image.
    script = "id -u; id -g; /usr/bin/find / -xdev -writable -not -type l | sort; touch /tmp/a /var/cache/ocisync/a"
    seen = image.run("/bin/sh", "-c", script, mounts=mounts)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.splitlines() == ["65532", "65532", "/tmp", "/var/cache/ocisync"]
    for path in ("/new", "/opt/ocisync/new", "/var/cache/new", "/etc/passwd"):
        # Not even root: it is the file system, not only its permissions.
        refused = image.run("/usr/bin/touch", path, mounts=mounts, user="0:0")
        assert refused.returncode != 0 and "Read-only file system" in refused.stderr, (path, refused.stderr)
    status = image.run("/bin/sh", "-c", "cat /proc/self/status", mounts=mounts).stdout
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE) and re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


def test_the_agent_in_the_image_syncs_heals_and_ends(image_agent: ImageAgent, tenant: Tenant) -> None:
    eventually(lambda: _status(image_agent.address, "/readyz") == 200, what="/readyz is 200")
    assert _status(image_agent.address, "/healthz") == 200
    pushed = tenant.push(
        {"web.yaml": [deployment("web", replicas=2), service("web")], "settings.yaml": config_map("settings", a="1")}
    )
    tenant.write_sync()
    status = tenant.wait_ready(pushed.descriptor.digest)
    assert status["inventory"] == {"objects": 3, "ready": 3}
    assert tenant.condition("Verified")["status"] == "True"

    tenant.cluster.kubectl("scale", "deployment/web", "--replicas=10", "-n", tenant.namespace)
    line = eventually(lambda: image_agent.logs("modified outside GitOps"), what="the drift is logged")[0]
    assert (line["kind"], line["name"], line["field"]) == ("Deployment.apps", "web", "spec.replicas")

    def replicas() -> int:
        found: int = tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["spec"]["replicas"]
        return found

    eventually(lambda: replicas() == 2, what="replicas are 2 again")
    kept = [path for path in image_agent.cache.rglob("*") if path.is_file()]
    assert kept and {path.stat().st_uid for path in kept} == {65532}, kept

    image_agent.stop()  # SIGTERM; fails unless it ends by itself with 0
    image_agent.assert_sound()


def _volumes(pod: dict[str, Any], directory: Path) -> list[Mount]:
    """The Deployment's mounts, each an empty folder as its emptyDir."""
    group = pod["securityContext"]["fsGroup"]
    mounts = pod["containers"][0]["volumeMounts"]
    assert {mount["mountPath"] for mount in mounts} == {"/var/cache/ocisync", "/tmp"}
    return [
        Mount(empty_directory(directory / mount["name"], group), mount["mountPath"], writable=True) for mount in mounts
    ]


def _status(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=60.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
