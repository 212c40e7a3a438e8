"""The record of drift that operators read afterwards, and the reasons of a value: the whole agent, a real cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocisync.cli.app import run
from ocisync.model.errors import ExitCode
from tests.support.agent import AgentProcess, Installation, Tenant, apply, config_map, running
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually

Ask = Callable[..., tuple[int, Any]]

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: registry.example/web:1
"""
TOKEN = {
    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"password": "correct-horse"},
}  # fmt: skip


@pytest.fixture
def ask(tenant: Tenant, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run `drift` or `why` for the tenant's sync; exit code and what `-o json` says."""

    def call(command: str, *arguments: str, kubeconfig: Path | None = None, text: bool = False) -> tuple[int, Any]:
        capfd.readouterr()
        shared = [
            "-n", tenant.namespace, "--kubeconfig", str(kubeconfig or tenant.cluster.kubeconfig),
            "--agent-namespace", tenant.installation.namespace,
        ]  # fmt: skip
        code = run([command, *arguments, *shared, *([] if text else ["-o", "json"])])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out if text else json.loads(captured.out or "null") or captured.err

    return call


def recorded(ask: Ask, number: int) -> list[dict[str, Any]]:
    """Wait until the record has so many entries."""

    def found() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = ask("drift", "shop")[1]["items"]
        assert len(items) == number, items
        return items

    return eventually(found, what=f"{number} entries are recorded", interval_s=0.2)


def test_drift_is_recorded_with_values_manager_and_times_and_the_record_survives_a_kill(
    installation: Installation, tenant: Tenant, ask: Ask, tmp_path: Path, control_plane: ControlPlane
) -> None:
    process = installation.agent(tmp_path / "agent")
    with running(process) as agent:
        tenant.push({"web.yaml": WEB, "settings.yaml": config_map("settings", colour="blue"), "token.yaml": TOKEN})
        tenant.write_sync()
        tenant.wait_ready()
        tenant.cluster.kubectl("scale", "deployment/web", "--replicas=7", "-n", tenant.namespace)
        (scaled,) = recorded(ask, 1)
        agent.kill()
        before = len(agent.logs("ready"))
        tenant.edit("settings", colour="green")
        agent.start()
        eventually(lambda: len(agent.logs("ready")) > before, what="the next agent has settled")
        tenant.cluster.kubectl(
            "patch", "secret/token", "-n", tenant.namespace, "--type=merge", "-p", '{"data":{"password":"aGFja2Vk"}}'
        )
        away = eventually(lambda: _with(ask, "ConfigMap"), what="what happened while no agent ran is recorded")
        tenant.edit("settings", colour="red")
        eventually(lambda: tenant.value("settings", "colour") == "blue", what="it is blue again")
        eventually(lambda: _with(ask, "Secret") and len(_with(ask, "ConfigMap")) == 2, what="both are recorded")
    assert scaled["object"] == {"group": "apps", "kind": "Deployment", "namespace": tenant.namespace, "name": "web"}
    assert scaled["fields"] == [{"path": "spec.replicas", "old": "2", "new": "7", "manager": "kubectl"}]
    assert (scaled["kind"], scaled["action"], scaled["mode"]) == ("Modified", "Corrected", "Correct")
    assert (scaled["manager"], scaled["subresource"], scaled["timeSource"]) == ("kubectl", "scale", "Seen")
    assert scaled["seenAt"] <= scaled["correctedAt"] and scaled["latencySeconds"] >= 0
    assert scaled["place"] == "web.yaml:1" and scaled["open"] is False
    code, answer = ask("drift", "shop")
    assert code == ExitCode.OK
    assert answer["items"][0] == scaled  # the record of the agent that was killed
    assert (away[0]["action"], away[0]["fields"], away[0]["manager"]) == ("Corrected", [], "")
    assert "aGFja2Vk" not in json.dumps(answer) and "correct-horse" not in json.dumps(answer)
    at_rest = control_plane.audit.mark()
    for words in ("deploy/web", "deployments.apps/web", "Deployment"):
        items = ask("drift", "--object", words)[1]["items"]
        assert [e["object"]["name"] for e in items] == ["web"], items
    asked = {event.verb for event in control_plane.audit.events(since=at_rest, user_agent="ocisync/")}
    assert asked == {"list"}, "looking at the record writes nothing"


def _with(ask: Ask, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in ask("drift", "shop")[1]["items"] if entry["object"]["kind"] == kind]


def test_in_warn_mode_drift_is_open_until_someone_puts_it_back(
    agent: AgentProcess, tenant: Tenant, ask: Ask, installation: Installation
) -> None:
    tenant.push({"web.yaml": WEB, "settings.yaml": config_map("settings", colour="blue")})
    tenant.write_sync(drift={"mode": "Warn"})
    tenant.wait_ready()
    tenant.cluster.kubectl("scale", "deployment/web", "--replicas=7", "-n", tenant.namespace)
    (entry,) = recorded(ask, 1)
    assert (entry["action"], entry["mode"], entry["open"]) == ("Reported", "Warn", True)
    code, text = ask("drift", "shop", "--open", text=True)
    assert code == ExitCode.DIFFERENCES
    assert "spec.replicas  2 → 7" in text and "NOT corrected: drift.mode is Warn" in text
    code, why = ask("why", "deployment/web", ".spec.replicas")
    assert (code, why["origin"], why["value"]) == (ExitCode.OK, "DiffersFromGit", 7)
    assert why["written"] == {"file": "web.yaml", "line": 6, "column": 3, "value": 2, "rewrittenByImages": False}
    assert "Git says 2 at web.yaml:6:3, but the object has 7, set by kubectl (scale)" in why["answer"][0]
    assert [one["fields"][0]["new"] for one in why["drift"]] == ["7"]
    # A tenant may read its Events, not the agent's namespace.
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "reader", "namespace": tenant.namespace},
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": tenant.namespace},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": tenant.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
    }  # fmt: skip
    apply(tenant.cluster, [account, binding])
    theirs = tenant.cluster.kubeconfig_for(tenant.namespace, "reader")

    def told_by_events() -> list[dict[str, Any]]:
        # The Event comes on its own, and the API server learns of the new rights a moment after they were written.
        code, told = ask("drift", "shop", kubeconfig=theirs)
        assert code == ExitCode.DIFFERENCES, told
        items: list[dict[str, Any]] = told["items"]
        return items

    (item,) = eventually(told_by_events, what="the tenant sees it in the Events")
    assert item["action"] == "Reported" and "spec.replicas 2 → 7 by kubectl (scale)" in item["message"]
    # The next agent only reports, too, and does not say the same again.
    agent.kill()
    before = len(agent.logs("ready"))
    tenant.edit("settings", colour="red")
    agent.start()
    eventually(lambda: len(agent.logs("ready")) > before, what="the next agent has settled")
    eventually(lambda: _with(ask, "ConfigMap"), what="what happened meanwhile is reported")
    assert [one["open"] for one in recorded(ask, 2)] == [True, True]
    assert tenant.cluster.get("deployment", "web", namespace=tenant.namespace)["spec"]["replicas"] == 7
    assert tenant.value("settings", "colour") == "red"
    tenant.edit("settings", colour="blue")
    tenant.cluster.kubectl("scale", "deployment/web", "--replicas=2", "-n", tenant.namespace)
    eventually(lambda: ask("drift", "shop")[0] == ExitCode.OK, what="it is over", interval_s=0.2)
    for entry in recorded(ask, 2):
        assert entry["endedAt"] and not entry["open"]
    assert agent.logs("drift is over", name="web")


def test_why_names_file_line_commit_artifact_signer_and_apply_and_whoever_else_set_a_value(
    agent: AgentProcess, tenant: Tenant, ask: Ask
) -> None:
    built = tenant.push({"deploy/web.yaml": WEB, "deploy/token.yaml": TOKEN})
    tenant.write_sync(images=[{"from": "registry.example", "to": "mirror.site.local"}])
    status = tenant.wait_ready()
    code, why = ask("why", "deploy/web", "containers[name=main].image")
    assert code == ExitCode.OK
    assert (why["origin"], why["value"]) == ("GitRewritten", "mirror.site.local/web:1")
    assert why["written"]["value"] == "registry.example/web:1"
    assert (why["written"]["file"], why["written"]["line"]) == ("deploy/web.yaml", 13)
    assert why["sync"] == f"{tenant.namespace}/shop" and why["appliedAt"]
    assert why["artifact"] == {
        "repository": tenant.registry.repository,
        "digest": built.descriptor.digest,
        "revision": status["applied"]["revision"],
        "source": why["artifact"]["source"],
        "signers": ["release-key"],
        "judgedHere": False,
    }
    assert ask("why", "deployment/web", ".spec.replicas")[1]["origin"] == "Git"
    assert ask("why", "deployment/web", ".spec.revisionHistoryLimit")[1]["origin"] == "DefaultOrAdmission"
    assert ask("why", "deployment/web", ".metadata.uid")[1]["origin"] == "Server"
    assert ask("why", "deployment/web", "/metadata/labels/applyset.kubernetes.io~1part-of")[1]["origin"] == "Membership"
    masked = ask("why", "secret/token", "data.password")[1]
    assert (masked["origin"], masked["value"], masked["written"]["value"]) == ("Git", "(masked)", "(masked)")
    assert "correct-horse" not in json.dumps(masked)
    tenant.cluster.kubectl("annotate", "deployment/web", "example.com/team=a", "-n", tenant.namespace)
    noted = ask("why", "deployment/web", "metadata.annotations[example.com/team]")[1]
    assert noted["origin"] == "OtherManager" and "set by kubectl-annotate at 2" in noted["answer"][0]
    whole = ask("why", "deployment.apps/web")[1]
    assert whole["answer"][0].endswith("from deploy/web.yaml:1") and whole.get("differing") is None
    replica_sets = tenant.cluster.get("replicasets", namespace=tenant.namespace)["items"]
    made = ask("why", f"rs/{replica_sets[0]['metadata']['name']}")[1]
    assert made["answer"][0].startswith("no sync owns it; managers: kube-controller-manager")
    assert made["controllers"] == [f"Deployment.apps {tenant.namespace}/web"]
    assert ask("why", "deployment/web", "spec.nonsense")[0] == ExitCode.USAGE
    assert ask("why", "deployment/none")[0] == ExitCode.NOT_FOUND
