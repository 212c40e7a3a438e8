"""Signatures that come late, age, and are renewed: found without a new digest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.signing.keys import dump_private
from tests.support.agent import AgentProcess, Tenant, config_map


def test_a_late_signature_is_found_without_a_new_digest_and_without_an_alarm(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    built = tenant.push({"settings.yaml": config_map("settings", version="1")}, sign=False)
    tenant.write_sync()
    tenant.wait_condition("Verified", "False", "Unsigned")
    tenant.registry.sign(built.descriptor, tenant.key, tenant.claims())
    tenant.wait_ready(built.descriptor.digest)  # looked for again after ten seconds, then less often
    assert tenant.events(reason="Unsigned") == []


def test_a_signature_that_ages_is_noticed_at_that_moment_and_a_refreshed_one_is_found(
    shared_agent: AgentProcess, tenant: Tenant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.key").write_bytes(dump_private(tenant.key, password=None))
    tenant.write_policy(rollback={"maxAge": "1h"})
    built = tenant.build({"settings.yaml": config_map("settings", version="1")})
    tenant.registry.push(built)
    signed = int((datetime.now(UTC) - timedelta(minutes=30)).timestamp())
    tenant.registry.sign(built.descriptor, tenant.key, tenant.claims(signed=str(signed)))
    tenant.registry.push(built, tenant.tag)
    tenant.write_sync(source={"repository": tenant.registry.repository, "tag": tenant.tag, "interval": "1h"})
    tenant.wait_ready(built.descriptor.digest)
    tenant.wait_condition("Fresh", "True")
    age_s = int(datetime.now(UTC).timestamp()) - signed
    tenant.write_policy(rollback={"maxAge": f"{age_s + 12}s"})
    tenant.wait_condition("Fresh", "False", "TooOld")  # in seconds, not at the next poll, nor after ten minutes
    tenant.edit("settings", version="by-hand")
    tenant.wait_value("settings", "version", "1")
    reference = f"oci://{tenant.registry.repository}@{built.descriptor.digest}"
    assert run(["sign", reference, "--refresh", "--sign-key", str(tmp_path / "k.key")]) == 0, capfd.readouterr().err
    tenant.wait_condition("Fresh", "True")
    tenant.wait_ready(built.descriptor.digest)
