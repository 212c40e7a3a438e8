"""The shop, from the committed example to Ready, as its README says; then `kubectl wait` returns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.agent import AgentProcess, Installation
from tests.support.registries import Registry
from tests.support.waiting import eventually

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def test_the_shop_becomes_ready_from_nothing(
    agent: AgentProcess, installation: Installation, distribution: Registry, tmp_path: Path
) -> None:
    cluster = installation.cluster
    repository = f"{distribution.host}/shop/config/production"
    _ocisync("keys", "generate", "release", cwd=tmp_path)
    _ocisync(
        "push", str(SHOP / "environments" / "production"), f"oci://{repository}:current", "--allow-dirty",
        "--sign-key", str(tmp_path / "release.key"), cwd=SHOP,
    )  # fmt: skip
    cluster.kubectl(
        "create", "secret", "generic", "release-pub", "-n", installation.namespace,
        f"--from-file=cosign.pub={tmp_path / 'release.pub'}",
    )  # fmt: skip
    cluster.apply(_read("policy.yaml", distribution.host, installation.namespace))
    cluster.apply(_read("sync.yaml", distribution.host, installation.namespace))
    cluster.kubectl("wait", "-n", "apps", "--for=condition=Ready", "artifactsync/shop", "--timeout=180s", timeout_s=200)
    status = cluster.get("artifactsync", "shop", namespace="apps")["status"]
    assert status["inventory"]["objects"] >= 40
    assert status["inventory"]["objects"] == status["inventory"]["ready"]
    namespaces = {item["metadata"]["name"] for item in _documents() if item["kind"] == "Namespace"}
    for namespace in namespaces:
        for deployment in cluster.get("deployments", namespace=namespace)["items"]:
            wanted = deployment["spec"]["replicas"]
            assert deployment["status"].get("availableReplicas", 0) == wanted, deployment["metadata"]["name"]
    assert not agent.logs("modified outside GitOps"), agent.logs("modified outside GitOps")[:3]
    cluster.kubectl("delete", "artifactsync", "shop", "-n", "apps", "--timeout=120s", timeout_s=130)
    eventually(
        lambda: (
            not set(cluster.kubectl("get", "crd", "-o", "name").split())
            & {"customresourcedefinition.apiextensions.k8s.io/couponcampaigns.shop.example.com"}
        ),
        what="its definitions are gone too",
    )


def _documents() -> list[dict[str, Any]]:
    found = []
    for path in sorted((SHOP / "environments" / "production").rglob("*.yaml")):
        found += [item for item in yaml.safe_load_all(path.read_text()) if item]
    return found


def _read(name: str, host: str, agent_namespace: str) -> str:
    text = (SHOP / name).read_text()
    return text.replace("registry.example/", f"{host}/").replace("ocisync-system", agent_namespace)


def _ocisync(*arguments: str, cwd: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "ocisync", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
