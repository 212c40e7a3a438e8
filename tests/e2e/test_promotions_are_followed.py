"""`ocisync tag` and an agent: it follows promotions, goes back for planned rollbacks only, and forward again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.kit import yamlio
from ocisync.signing.keys import dump_private
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.gitrepo import GitRepo


def test_an_agent_follows_promotions_and_planned_rollbacks(
    shared_agent: AgentProcess, tenant: Tenant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.key").write_bytes(dump_private(tenant.key, password=None))
    git, shop = GitRepo(tmp_path / "repo"), f"oci://{tenant.registry.repository}"
    key = ("--sign-key", str(tmp_path / "k.key"))

    def answered(*arguments: str) -> str:
        capfd.readouterr()
        assert run([*arguments, *key, "-o", "json"]) == 0, capfd.readouterr().err
        digest: str = json.loads(capfd.readouterr().out)["digest"]
        return digest

    def released(version: str, hour: int) -> str:
        settings = config_map("settings", version=version)
        git.commit({"settings.yaml": yamlio.dump(settings)}, at=f"2026-03-01T{hour}:00:00Z")
        return answered("push", str(git.path), f"{shop}:{version}")

    older = released("1.0.0", 10)
    assert answered("promote", f"{shop}:1.0.0", "production") == older
    tenant.write_sync()
    tenant.wait_ready(older)
    newer = released("1.1.0", 11)
    answered("promote", f"{shop}:1.1.0", "production")
    tenant.wait_ready(newer)
    assert run(["tag", f"{shop}:1.0.0", "production", *key]) == 4
    answered("tag", f"{shop}:1.0.0", "production", "--rollback")
    tenant.wait_ready(older)
    tenant.wait_value("settings", "version", "1.0.0")
    assert run(["tag", f"{shop}:1.1.0", "production", *key]) == 4
    answered("tag", f"{shop}:1.1.0", "production", "--rollback")
    tenant.wait_ready(newer)
    tenant.wait_value("settings", "version", "1.1.0")
