"""A sync of a version range runs the newest version in it, and no other when that one can't be trusted."""

from __future__ import annotations

from tests.support.agent import AgentProcess, Tenant, config_map


def release(tenant: Tenant, version: str, value: str = "", *, sign: bool = True) -> str:
    """Publish a version whose only object says which one it is."""
    built = tenant.push({"a.yaml": config_map("settings", version=value or version)}, tag=version, sign=sign)
    return built.descriptor.digest


def follow(tenant: Tenant, within: str) -> None:
    source = {"repository": tenant.registry.repository, "semver": within, "interval": "1s"}
    tenant.write_sync(source=source)


# A test with an agent of its own goes first: the shared one, once it runs, would do the work, too.


def test_a_restart_goes_on_with_the_version_that_ran(agent: AgentProcess, tenant: Tenant) -> None:
    first = release(tenant, "1.0.0")
    follow(tenant, "1.x")
    tenant.wait_ready(first)
    release(tenant, "1.1.0", sign=False)
    tenant.wait_condition("Verified", "False", "Unsigned")
    agent.kill()
    tenant.edit("settings", version="by hand")
    agent.start()
    tenant.wait_value("settings", "version", "1.0.0")


def test_the_newest_version_of_a_range_runs_and_the_next_one_follows(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    release(tenant, "1.9.0")
    newest = release(tenant, "1.10.0")
    for outside in ("2.0.0", "1.11.0-rc.1", "latest"):
        release(tenant, outside)
    follow(tenant, "^1.2")
    status = tenant.wait_ready(newest)
    assert status["source"]["tag"] == "1.10.0"
    following = release(tenant, "1.11.0")
    tenant.wait_ready(following)
    tenant.wait_value("settings", "version", "1.11.0")
    release(tenant, "1.10.1")  # a fix of an older line is not the newest
    tenant.ask()
    assert tenant.value("settings", "version") == "1.11.0"


def test_a_newest_version_that_is_not_trusted_gives_way_to_no_older_one(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    release(tenant, "1.0.0")
    release(tenant, "1.1.0", sign=False)
    follow(tenant, "1.x")
    tenant.wait_condition("Verified", "False", "Unsigned")
    assert tenant.status()["source"]["tag"] == "1.1.0"
    assert "applied" not in tenant.status()
    release(tenant, "1.2.0")
    tenant.wait_value("settings", "version", "1.2.0")


def test_a_version_of_a_range_that_leads_elsewhere_is_refused(shared_agent: AgentProcess, tenant: Tenant) -> None:
    first = release(tenant, "1.0.0")
    follow(tenant, "1.x")
    tenant.wait_ready(first)
    release(tenant, "1.0.0", "other content")
    tenant.wait_condition("Verified", "False", "TagMutated")
    assert tenant.value("settings", "version") == "1.0.0"
    following = release(tenant, "1.0.1")
    tenant.wait_ready(following)


def test_a_version_that_was_signed_for_another_is_refused(shared_agent: AgentProcess, tenant: Tenant) -> None:
    first = release(tenant, "1.0.0")
    follow(tenant, "1.x")
    tenant.wait_ready(first)
    built = tenant.build({"a.yaml": config_map("settings", version="stolen")})
    tenant.push(built, tag="0.9.0")
    tenant.registry.push(built, "1.5.0")  # whoever may write tags may do this
    tenant.wait_condition("Verified", "False", "WrongTag")
    assert tenant.value("settings", "version") == "1.0.0"


def test_a_range_without_a_version_says_which_there_are(shared_agent: AgentProcess, tenant: Tenant) -> None:
    release(tenant, "1.0.0")
    follow(tenant, ">=2")
    condition = tenant.wait_condition("Ready", "False", "NotFound")
    assert "no version in the range '>=2'; the newest version is 1.0.0" in condition["message"]
