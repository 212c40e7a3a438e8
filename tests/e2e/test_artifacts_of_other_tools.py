"""An agent is moved from artifacts of other tools: pushed by Flux or imgpkg, signed by cosign, judged by our policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ocisync.signing.keys import dump_private
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.cosign import Cosign, CosignKey
from tests.support.gitopstools import Flux
from tests.support.ocitools import Imgpkg

REVISION = "main@sha1:" + "b" * 40
LOCK = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: []\n"

Publish = Callable[[Path, str], str]


def flux_push(flux: Flux) -> Publish:
    return lambda directory, name: flux.push(directory, name, REVISION)


def imgpkg_push(imgpkg: Imgpkg) -> Publish:
    def push(directory: Path, name: str) -> str:
        (directory / ".imgpkg").mkdir(exist_ok=True)
        (directory / ".imgpkg" / "images.yml").write_text(LOCK)
        said = imgpkg.run("push", "-b", name, "-f", directory, "--json")
        return "sha256:" + said.partition("@sha256:")[2][:64]

    return push


@pytest.fixture(params=["flux", "imgpkg"])
def publish(request: pytest.FixtureRequest) -> Publish:
    """Push a directory with another tool; the digest."""
    tool = request.getfixturevalue(request.param)
    return flux_push(tool) if request.param == "flux" else imgpkg_push(tool)


@pytest.fixture
def key(cosign: Cosign, tenant: Tenant, tmp_path: Path) -> CosignKey:
    """The key that the tenant's policy trusts, in cosign's hands."""
    file = tmp_path / "release.key"
    file.write_bytes(dump_private(tenant.key, password=None))
    return cosign.import_key_pair(file)


def test_an_agent_applies_what_another_tool_pushed_and_cosign_signed(
    publish: Publish, agent: AgentProcess, tenant: Tenant, cosign: Cosign, key: CosignKey, tmp_path: Path
) -> None:
    directory = tmp_path / "deploy"
    (directory / "sub").mkdir(parents=True)
    for value in ("1", "2"):
        (directory / "a.yaml").write_text(yaml.safe_dump(config_map("a", k=value)))
        (directory / "sub" / "b.yaml").write_text(yaml.safe_dump(config_map("b", k=value)))
        name = f"{tenant.registry.repository}:{tenant.tag}"
        digest = publish(directory, name)
        if value == "1":
            tenant.write_sync()
            tenant.wait_condition("Verified", "False", "Unsigned")
        cosign.sign(f"{tenant.registry.repository}@{digest}", key, annotations=tenant.claims())
        status = tenant.wait_ready(digest)
        tenant.wait_value("a", "k", value)
        tenant.wait_value("b", "k", value)
        assert status["inventory"] == {"objects": 2, "ready": 2}


def test_a_signature_without_the_claims_that_the_policy_requires_is_refused(
    agent: AgentProcess, tenant: Tenant, cosign: Cosign, key: CosignKey, flux: Flux, tmp_path: Path
) -> None:
    directory = tmp_path / "deploy"
    directory.mkdir()
    (directory / "a.yaml").write_text(yaml.safe_dump(config_map("a", k="1")))
    digest = flux.push(directory, f"{tenant.registry.repository}:{tenant.tag}", REVISION)
    cosign.sign(f"{tenant.registry.repository}@{digest}", key)
    tenant.write_sync()
    refused = tenant.wait_condition("Verified", "False")
    assert refused["reason"] in {"WrongRepository", "WrongTag", "Unsigned"}
    tenant.wait_condition("Verified", "False", "WrongRepository")


def test_what_flux_would_render_in_the_cluster_is_refused_and_says_where_to_render_it(
    agent: AgentProcess, tenant: Tenant, cosign: Cosign, key: CosignKey, flux: Flux, tmp_path: Path
) -> None:
    directory = tmp_path / "deploy"
    directory.mkdir()
    (directory / "a.yaml").write_text(yaml.safe_dump(config_map("a", k="1")))
    (directory / "kustomization.yaml").write_text("resources: [a.yaml]\nnamePrefix: x-\n")
    digest = flux.push(directory, f"{tenant.registry.repository}:{tenant.tag}", REVISION)
    cosign.sign(f"{tenant.registry.repository}@{digest}", key, annotations=tenant.claims())
    tenant.write_sync()
    refused = tenant.wait_condition("Ready", "False", "BadArtifact")
    assert "must be rendered first" in refused["message"]
