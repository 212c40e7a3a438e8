"""What `ocisync plan` says of a running sync is what its agent then does; what `ocisync apply` may not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Ran, cli
from tests.support.agent import AgentProcess, Tenant, config_map
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

__all__ = ["cli"]


class Planner:
    """The command line of an administrator of the cluster."""

    def __init__(self, cli: Cli, tenant: Tenant) -> None:
        self.cli = cli
        self.tenant = tenant

    def run(self, command: str, target: str, *arguments: str) -> Ran:
        where = ("-n", self.tenant.namespace, "--kubeconfig", str(self.tenant.cluster.kubeconfig))
        return self.cli(command, target, *where, *arguments)

    def plan(self, target: str = "", *arguments: str) -> tuple[int, dict[str, Any]]:
        agent_namespace = ("--agent-namespace", self.tenant.installation.namespace)
        ran = self.run("plan", target or self.tenant.name, *agent_namespace, "-o", "json", *arguments)
        assert ran.exit_code in (0, 3), ran.err
        return ran.exit_code, json.loads(ran.out)


@pytest.fixture
def planner(cli: Cli, tenant: Tenant) -> Planner:
    return Planner(cli, tenant)


def verbs(plan: dict[str, Any]) -> dict[str, str]:
    return {change["name"]: change["action"] for change in plan["changes"]}


def test_the_plan_of_a_running_sync_is_what_the_agent_does_and_only_dry_runs_are_sent(
    shared_agent: AgentProcess, tenant: Tenant, planner: Planner, control_plane: ControlPlane
) -> None:
    tenant.push({"all.yaml": [config_map("stays", a="1"), config_map("moves", a="1"), config_map("goes", a="1")]})
    tenant.write_sync()
    tenant.wait_ready()
    assert planner.plan() == (0, planner.plan()[1])
    tenant.write_sync(suspend=True)
    tenant.wait_condition("Ready", "False", "Suspended")
    after = tenant.push(
        {"all.yaml": [config_map("stays", a="1"), config_map("moves", a="2"), config_map("new", a="1")]}
    )
    mark = control_plane.audit.mark()
    code, plan = planner.plan(tenant.name, "--as-service-account")
    assert code == 3
    assert verbs(plan) == {"stays": "unchanged", "moves": "configure", "new": "create", "goes": "prune"}
    assert plan["source"]["digest"] == after.descriptor.digest and plan["source"]["signers"] == ["release-key"]
    assert plan["serviceAccount"] == f"system:serviceaccount:{tenant.namespace}:deployer"
    sent = [event for event in control_plane.audit.events(since=mark) if event.user_agent.startswith("ocisync/")]
    assert {event.verb for event in sent} >= {"get", "patch", "delete"}
    written = [
        event.uri for event in sent if event.verb not in ("get", "list", "watch") and "dryRun=All" not in event.uri
    ]
    assert written == []
    tenant.write_sync(suspend=False)
    tenant.wait_ready(after.descriptor.digest)
    code, plan = planner.plan()
    assert code == 0 and set(verbs(plan).values()) == {"unchanged"}


def test_a_held_plan_has_the_hash_that_approve_wants(
    shared_agent: AgentProcess, tenant: Tenant, planner: Planner
) -> None:
    tenant.push({"all.yaml": [config_map(f"c{n:02}", a="1") for n in range(12)]})
    tenant.write_sync()
    tenant.wait_ready()
    tenant.push({"all.yaml": [config_map("c00", a="1")]})
    tenant.wait_condition("Ready", "False", "ApprovalRequired")
    code, plan = planner.plan()
    assert code == 3 and plan["held"] and plan["hash"] == tenant.status()["planHash"]
    ran = planner.run("approve", tenant.name, "--hash", plan["hash"], "--yes")
    assert ran.exit_code == 0, ran.err
    tenant.wait_ready()
    assert planner.plan()[0] == 0


def test_what_the_service_account_may_not_do_is_refused_in_its_plan_only(
    shared_agent: AgentProcess, tenant: Tenant, planner: Planner
) -> None:
    tenant.prepare(rules=[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}])
    eventually(lambda: not tenant.may("create", "secrets"), what="the API server knows of the lesser rights")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {}}
    tenant.push({"all.yaml": [config_map("a", a="1"), secret]})
    tenant.write_sync(suspend=True)
    _, mine = planner.plan()
    assert verbs(mine) == {"a": "create", "s": "create"}
    _, theirs = planner.plan(tenant.name, "--as-service-account")
    assert verbs(theirs) == {"a": "create", "s": "refused"}
    refused = next(change for change in theirs["changes"] if change["name"] == "s")
    assert refused["reason"] == "Forbidden" and "deployer" in refused["message"]


def test_an_artifact_that_the_agent_would_refuse_is_refused_by_plan_too(
    shared_agent: AgentProcess, tenant: Tenant, planner: Planner
) -> None:
    tenant.push({"all.yaml": [config_map("a", a="1")]}, sign=False)
    tenant.write_sync(suspend=True)
    ran = planner.run("plan", tenant.name, "--agent-namespace", tenant.installation.namespace)
    assert ran.exit_code == 4 and ran.out == "" and len(ran.errors) == 1


def test_apply_takes_nothing_of_a_running_sync_and_names_it(
    shared_agent: AgentProcess, tenant: Tenant, planner: Planner, tmp_path: Path
) -> None:
    tenant.push({"all.yaml": [config_map("shared", a="sync")]})
    tenant.write_sync()
    tenant.wait_ready()
    directory = tmp_path / "deploy"
    directory.mkdir()
    (directory / "all.json").write_text(json.dumps(config_map("shared", a="apply")))
    (directory / "own.json").write_text(json.dumps(config_map("own", a="apply")))
    ran = planner.run("apply", str(directory), "--no-git", "--name", "extra", "-o", "json")
    assert ran.exit_code == 8, ran.err
    objects = {item["name"]: item for item in json.loads(ran.out)["objects"]}
    assert objects["own"]["action"] == "created" and objects["shared"]["action"] == "failed"
    assert f"that is ArtifactSync {tenant.namespace}/{tenant.name}" in objects["shared"]["message"]
    tenant.wait_value("shared", "a", "sync")
    # The other way round, too: the directory as the sync's next content.
    _, plan = planner.plan(str(directory), "--no-git", "--sync", tenant.name)
    assert verbs(plan) == {"shared": "configure", "own": "conflict"}


def test_apply_needs_no_rights_beyond_its_namespace(tenant: Tenant, cli: Cli, tmp_path: Path) -> None:
    kubeconfig = tenant.cluster.kubeconfig_for(tenant.namespace, tenant.account)
    directory = tmp_path / "deploy"
    directory.mkdir()
    for name in ("web", "old"):
        (directory / f"{name}.json").write_text(json.dumps(_deployment(name)))
    where = (str(directory), "--no-git", "--name", "shop", "-n", tenant.namespace, "--kubeconfig", str(kubeconfig))
    assert cli("plan", *where).exit_code == 3
    applied = cli("apply", *where, "--wait", "-o", "json")
    assert applied.exit_code == 0, applied.err
    assert json.loads(applied.out)["health"]["message"] == "2 of 2 objects healthy"
    assert cli("plan", *where).exit_code == 0
    (directory / "old.json").unlink()
    (directory / "web.json").write_text(json.dumps(_deployment("web", replicas=1)))
    planned = json.loads(cli("plan", *where, "--prune", "-o", "json").out)
    assert verbs(planned) == {"web": "configure", "old": "prune"}
    fields = next(change["fields"] for change in planned["changes"] if change["name"] == "web")
    assert fields == [{"path": "/spec/replicas", "action": "changed", "from": 2, "to": 1}]
    assert cli("apply", *where, "--prune").exit_code == 0
    live = tenant.cluster.get("deployments", namespace=tenant.namespace)["items"]
    assert [(item["metadata"]["name"], item["spec"]["replicas"]) for item in live] == [("web", 1)]
    asked = cli("why", "deploy/web", "spec.replicas", "-o", "json", *where[4:])
    assert asked.exit_code == 0, asked.err
    answer = json.loads(asked.out)
    assert (answer["set"], answer["value"]) == (f"{tenant.namespace}/shop", 1)
    assert answer["directory"] == str(directory)


def _deployment(name: str, replicas: int = 2) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "registry.example/c:1"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


SHOP = Path(__file__).parents[2] / "examples" / "shop" / "environments" / "development"


@pytest.mark.heavy
def test_the_whole_shop_is_applied_as_planned_and_deleted_as_approved(tenant: Tenant, cli: Cli, tmp_path: Path) -> None:
    where = ("-n", tenant.namespace, "--kubeconfig", str(tenant.cluster.kubeconfig), "--no-git", "--name", "whole")
    code, plan = _json(cli("plan", str(SHOP), *where, "-o", "json"))
    assert code == 3 and set(plan["summary"]) == {"create"}
    assert {change["kind"] for change in plan["changes"] if "after" in change} >= {"CouponCampaign", "Deployment"}
    code, done = _json(cli("apply", str(SHOP), *where, "--wait", "-o", "json"))
    assert code == 0 and done["summary"] == {"created": plan["summary"]["create"]}, done
    mark = tenant.installation.cluster
    assert isinstance(mark, ControlPlane)
    since = mark.audit.mark()
    code, again = _json(cli("plan", str(SHOP), *where, "-o", "json"))
    assert code == 0 and set(again["summary"]) == {"unchanged"}
    dry = [event for event in mark.audit.events(since=since) if "dryRun=All" in event.uri]
    assert len(dry) <= 10, [event.uri for event in dry]
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (nothing / "README.md").write_text("nothing")
    held = cli("apply", str(nothing), *where, "--prune")
    assert held.exit_code == 4
    approved = next(word for word in held.err.split() if word.startswith("sha256:"))
    code, gone = _json(cli("apply", str(nothing), *where, "--prune", "--approve", approved, "-o", "json"))
    assert gone["summary"].get("deleted", 0) >= plan["summary"]["create"] - len(gone["kept"])


def _json(ran: Ran) -> tuple[int, dict[str, Any]]:
    assert ran.out, ran.err
    return ran.exit_code, json.loads(ran.out)
