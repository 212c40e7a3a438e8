"""A revision that fails makes way for the last good one, whatever happens on the way; a person can do the same."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ocisync.cli.app import run
from tests.support.agent import AgentProcess, Installation, Tenant, config_map, deployment, place, running
from tests.support.cluster import ApiError
from tests.support.waiting import eventually

ROLLBACK = {"onFailure": {"rollback": True}, "wait": {"timeout": "1m"}}
SOON = {"onFailure": {"rollback": True}, "wait": {"timeout": "2s"}}


def failing(name: str = "web", fate: str = "CrashLoopBackOff") -> dict[str, Any]:
    """A Deployment whose new pods never become ready."""
    item = deployment(name, replicas=1)
    item["spec"]["template"]["metadata"]["annotations"] = {"tests.ocisync.dev/fate": fate}
    return item


@dataclass(frozen=True)
class Ran:
    """What came of one command."""

    returncode: int
    stderr: str


def typed(tenant: Tenant, *arguments: str) -> Ran:
    """The command line in this process, as an operator of the cluster: starting Python costs more than what it does."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = run([*arguments, "--kubeconfig", str(tenant.cluster.kubeconfig)])
    return Ran(code, errors.getvalue())


def ocisync(tenant: Tenant, *arguments: str) -> Ran:
    """The same for one sync."""
    return typed(tenant, *arguments, "--namespace", tenant.namespace)


def quarantine(tenant: Tenant) -> dict[str, Any]:
    """What is in quarantine; an AssertionError while nothing is."""
    found: dict[str, Any] = tenant.status().get("quarantine") or {}
    assert found
    return found


def outcomes(tenant: Tenant) -> list[tuple[str, str]]:
    """The history, newest first: the end of each digest and its outcome."""
    return [(item["digest"], item["outcome"]) for item in tenant.status().get("history") or ()]


# The tests with an agent of their own go first: the shared one, once it runs, would work on their syncs, too.


def test_an_agent_that_is_killed_while_it_goes_back_ends_at_the_good_revision(
    installation: Installation, tenant: Tenant, tmp_path: Path
) -> None:
    with running(installation.agent(tmp_path / "agent")) as agent:
        good = tenant.push({"all.yaml": [deployment("web", replicas=1), config_map("app", a="1")]}).descriptor.digest
        tenant.write_sync(**SOON)
        tenant.wait_ready(good)
        bad = tenant.push({"all.yaml": [failing(), config_map("app", a="2")]}).descriptor.digest
        decided = eventually(lambda: quarantine(tenant), interval_s=0.02)
        agent.kill()
        assert decided["digest"] == bad
        agent.start()
        tenant.wait_condition("Ready", "False", "RolledBack")
        tenant.wait_value("app", "a", "1")
        status = tenant.status()
        assert (status["quarantine"]["digest"], status["applied"]["digest"]) == (bad, good)
        assert status["quarantine"]["time"] == decided["time"]


def test_a_revision_that_fails_health_makes_way_for_the_last_good_one_until_the_tag_moves(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    good = tenant.push({"all.yaml": [deployment("web", replicas=1), config_map("app", a="1")]}).descriptor.digest
    tenant.write_sync(**ROLLBACK)
    tenant.wait_ready(good)
    bad = tenant.push({"all.yaml": [failing(), config_map("app", a="2"), config_map("extra", b="1")]}).descriptor.digest
    found = tenant.wait_condition("Ready", "False", "RolledBack")
    assert good in found["message"] and bad in found["message"]
    status = tenant.status()
    assert status["quarantine"]["digest"] == bad and status["quarantine"]["to"]["digest"] == good
    assert "container main: CrashLoopBackOff, exit code 3: no database at db:5432" in status["quarantine"]["message"]
    assert (status["applied"]["digest"], status["source"]["digest"]) == (good, bad)
    assert outcomes(tenant) == [(good, "Succeeded"), (bad, "Failed"), (good, "Succeeded")]
    tenant.wait_value("app", "a", "1")
    try:
        tenant.cluster.api("GET", place("ConfigMap", tenant.namespace, "extra"))
        raise AssertionError("what only the failed revision had is still there")
    except ApiError as error:
        assert error.status == 404
    told = eventually(lambda: tenant.events(reason="RolledBack", kind="ArtifactSync"), what="an Event")
    assert good in told[0]["message"] and bad in told[0]["message"] and told[0]["type"] == "Warning"
    # The tag still leads to it: it is not tried again by itself, and CI is told at once.
    tenant.ask()
    assert tenant.status()["quarantine"]["time"] == status["quarantine"]["time"]
    waited = ocisync(tenant, "wait", tenant.name, "--digest", bad)
    assert waited.returncode == 1 and "gone back from" in waited.stderr
    fixed = tenant.push({"all.yaml": [deployment("web", replicas=1), config_map("app", a="3")]}).descriptor.digest
    status = tenant.wait_ready(fixed)
    assert "quarantine" not in status
    assert outcomes(tenant)[0] == (fixed, "Succeeded")


def test_a_revision_that_cannot_be_applied_makes_way_and_is_tried_again_when_a_person_says_so(
    shared_agent: AgentProcess, tenant: Tenant
) -> None:
    good = tenant.push({"all.yaml": config_map("app", a="1")}).descriptor.digest
    tenant.write_sync(**ROLLBACK)
    tenant.wait_ready(good)
    broken = {**config_map("other"), "spec": {"unknown": "field"}}
    bad = tenant.push({"all.yaml": [config_map("app", a="2"), broken]}).descriptor.digest
    tenant.wait_condition("Ready", "False", "RolledBack")
    tenant.wait_value("app", "a", "1")
    first = tenant.status()["quarantine"]
    assert (first["digest"], first["reason"]) == (bad, "ApplyFailed") and "not declared" in first["message"]
    assert outcomes(tenant) == [(good, "Succeeded"), (bad, "Failed"), (good, "Succeeded")]
    # A quarantine is known by its time, in whole seconds.
    next_second = datetime.fromisoformat(first["time"]) + timedelta(seconds=1)
    eventually(lambda: datetime.now(UTC) >= next_second, what="the next second")
    retried = ocisync(tenant, "reconcile", tenant.name, "--retry")
    assert retried.returncode == 0, retried.stderr

    def again() -> bool:
        second = tenant.status().get("quarantine") or {}
        return bool(second.get("digest") == bad and second["time"] != first["time"])

    eventually(again, what="it failed once more")
    tenant.wait_condition("Ready", "False", "RolledBack")


def test_going_back_never_goes_below_a_deny_list(shared_agent: AgentProcess, tenant: Tenant) -> None:
    good = tenant.push({"all.yaml": [deployment("web", replicas=1), config_map("app", a="1")]}).descriptor.digest
    tenant.write_sync(**SOON)
    tenant.wait_ready(good)
    tenant.write_policy(deny={"digests": [good]})
    tenant.wait_condition("Verified", "False", "Denied")
    bad = tenant.push({"all.yaml": [failing(), config_map("app", a="2")]}).descriptor.digest
    tenant.wait_value("app", "a", "2")
    found = tenant.wait_condition("Ready", "False", "Denied")
    assert good in found["message"] and bad in found["message"]
    assert tenant.value("app", "a") == "2"


def test_a_person_goes_back_and_forth_in_the_history(shared_agent: AgentProcess, tenant: Tenant) -> None:
    digests = []
    tenant.write_sync()
    for number in "123":
        digests.append(tenant.push({"all.yaml": config_map("app", a=number)}).descriptor.digest)
        tenant.wait_ready(digests[-1])
    back = ocisync(tenant, "rollback", tenant.name, "--wait", "--timeout", "120s")
    assert back.returncode == 0, back.stderr
    assert f"ocisync tag oci://{tenant.registry.repository}@{digests[1]} production --rollback" in back.stderr
    tenant.wait_value("app", "a", "2")
    assert tenant.status()["quarantine"]["reason"] == "Requested"
    tenant.edit("app", a="by hand")
    tenant.wait_value("app", "a", "2")
    forward = ocisync(tenant, "reconcile", tenant.name, "--retry", "--wait")
    assert forward.returncode == 0, forward.stderr
    tenant.wait_value("app", "a", "3")
    assert "quarantine" not in tenant.wait_ready(digests[2])
