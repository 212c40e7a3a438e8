"""Older artifacts behind the same tag: refused whatever is restarted or created anew, unless someone says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ocisync.cli.app import run
from ocisync.kit import yamlio
from ocisync.pack.artifact import BuiltArtifact
from ocisync.signing.keys import dump_private
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.gitrepo import GitRepo

FAR_AHEAD = datetime(2030, 1, 1, tzinfo=UTC)


def pushed(tenant: Tenant, version: str) -> BuiltArtifact:
    return tenant.push({"settings.yaml": config_map("settings", version=version)})


def test_an_older_signed_digest_is_refused_live_after_a_restart_and_by_a_sync_created_anew(
    agent: AgentProcess, tenant: Tenant
) -> None:
    old, new = pushed(tenant, "1"), pushed(tenant, "2")
    tenant.write_sync()
    tenant.wait_ready(new.descriptor.digest)
    tenant.registry.push(old, tenant.tag)
    refused = tenant.wait_condition("Verified", "False", "RolledBack")
    assert "was already accepted here" in refused["message"]
    assert tenant.status()["applied"]["digest"] == new.descriptor.digest

    agent.kill()
    tenant.edit("settings", version="by-hand")
    agent.start()
    tenant.wait_value("settings", "version", "2")  # what ran still runs, and its drift is corrected
    tenant.ask()
    assert tenant.condition("Verified")["reason"] == "RolledBack"

    tenant.cluster.kubectl("delete", "artifactsync", tenant.name, "-n", tenant.namespace, "--timeout=120s")
    agent.kill()
    tenant.write_sync()
    agent.start()
    tenant.wait_condition("Verified", "False", "RolledBack")
    assert not tenant.cluster.kubectl("get", "configmap", "settings", "-n", tenant.namespace, "--ignore-not-found")

    grant = {"digest": old.descriptor.digest, "until": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    tenant.write_policy(rollback={"allow": [{**grant, "until": grant["until"][:19] + "Z"}]})
    tenant.wait_ready(old.descriptor.digest)
    tenant.wait_value("settings", "version", "1")
    tenant.registry.push(new, tenant.tag)  # forward again needs nothing: the mark did not move
    tenant.wait_ready(new.descriptor.digest)


def test_a_local_copy_of_an_older_artifact_does_not_bring_it_back(agent: AgentProcess, tenant: Tenant) -> None:
    old = pushed(tenant, "1")
    tenant.write_sync()
    tenant.wait_ready(old.descriptor.digest)
    kept = {path: path.read_bytes() for path in agent.cache.rglob("*") if path.is_file()}
    new = pushed(tenant, "2")
    tenant.wait_ready(new.descriptor.digest)
    agent.kill()
    for path, data in kept.items():  # everything of it is signed, and consistent
        path.write_bytes(data)
    tenant.registry.push(old, tenant.tag)
    agent.start()
    tenant.wait_condition("Verified", "False", "RolledBack")
    tenant.edit("settings", version="by-hand")
    tenant.wait_value("settings", "version", "2")  # found by the digest in the sync's status
    agent.assert_sound()


def test_a_rollback_signature_brings_an_older_digest_back_and_shuts_the_newer_one_out(
    agent: AgentProcess, tenant: Tenant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.key").write_bytes(dump_private(tenant.key, password=None))
    old, new = pushed(tenant, "1"), pushed(tenant, "2")
    tenant.write_sync()
    tenant.wait_ready(new.descriptor.digest)
    reference = f"oci://{tenant.registry.repository}@{old.descriptor.digest}"
    key = ("--sign-key", str(tmp_path / "k.key"))
    assert run(["sign", reference, "--rollback", "--tag", tenant.tag, *key]) == 0, capfd.readouterr().err
    tenant.registry.push(old, tenant.tag)
    tenant.wait_ready(old.descriptor.digest)
    tenant.registry.push(new, tenant.tag)  # whoever moves the tag back undoes the rollback
    tenant.wait_condition("Verified", "False", "RolledBack")
    tenant.wait_value("settings", "version", "1")


def test_a_git_revert_passes_and_a_commit_of_2030_neither_enters_nor_stays(
    agent: AgentProcess, tenant: Tenant, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.key").write_bytes(dump_private(tenant.key, password=None))
    git, target = GitRepo(tmp_path / "repo"), f"oci://{tenant.registry.repository}:{tenant.tag}"
    start = datetime.now(UTC) - timedelta(hours=5)

    def push(version: str, at: datetime) -> tuple[int, str]:
        git.commit({"settings.yaml": yamlio.dump(config_map("settings", version=version))}, at=f"{at:%FT%TZ}")
        capfd.readouterr()
        code = run(["push", str(git.path), target, "--sign-key", str(tmp_path / "k.key"), "-o", "json"])
        out, err = capfd.readouterr()
        return code, str(json.loads(out)["digest"]) if code == 0 else err

    _, first = push("1", start)
    tenant.write_sync()
    tenant.wait_ready(first)
    _, second = push("2", start + timedelta(hours=1))
    tenant.wait_ready(second)
    code, reverted = push("1", start + timedelta(hours=2))  # what `git revert` makes: old content, new commit
    assert (code, reverted) != (0, first)
    tenant.wait_ready(reverted)
    tenant.wait_value("settings", "version", "1")

    code, said = push("2030", FAR_AHEAD)
    assert code == 4 and "2030" in said  # push refuses the clock of the future
    forced = tenant.build({"settings.yaml": config_map("settings", version="2030")})
    tenant.registry.push(forced)
    tenant.registry.sign(
        forced.descriptor, tenant.key, tenant.claims(sequence=str(int(FAR_AHEAD.timestamp())), signed="")
    )
    tenant.registry.push(forced, tenant.tag)  # somebody signs it all the same
    refused = tenant.wait_condition("Verified", "False", "RolledBack")
    assert "more than an hour ahead of the clock" in refused["message"]
    git.git("reset", "--hard", "HEAD~1")
    code, last = push("3", datetime.now(UTC))
    assert code == 0, last
    tenant.wait_ready(last)  # and production is not frozen
    tenant.wait_value("settings", "version", "3")
