"""plan and apply, as a person types them, on the sandbox."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Ran
from tests.support.cluster import Cluster


class Site:
    """A namespace, a directory of manifests, and the two commands."""

    def __init__(self, cluster: Cluster, cli: Cli, directory: Path) -> None:
        self.cluster = cluster
        self.cli = cli
        self.namespace = f"site-{secrets.token_hex(4)}"
        self.directory = directory
        directory.mkdir()
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        cluster.api("POST", "/api/v1/namespaces", namespace)

    def write(self, **maps: dict[str, str] | None) -> None:
        """One file for each ConfigMap; None takes it away."""
        for name, data in maps.items():
            file = self.directory / f"{name}.yaml"
            if data is None:
                file.unlink()
                continue
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
            file.write_text(json.dumps(obj))

    def run(self, command: str, *arguments: str, target: str = "", name: str = "shop") -> Ran:
        """With what every call needs."""
        which = ("--name", name) if name else ()
        where = ("-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig), "--no-git")
        return self.cli(command, target or str(self.directory), *which, *where, *arguments)

    def live(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.api("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        return found

    def names(self) -> set[str]:
        listed = self.cluster.api("GET", f"/api/v1/namespaces/{self.namespace}/configmaps")
        found = {item["metadata"]["name"] for item in listed["items"]}
        return {name for name in found if not name.startswith(("ocisync-", "kube-root-ca"))}


@pytest.fixture
def site(sandbox_cluster: Cluster, cli: Cli, tmp_path: Path) -> Site:
    return Site(sandbox_cluster, cli, tmp_path / "deploy")


def verbs(ran: Ran) -> dict[str, str]:
    return {change["name"]: change["action"] for change in json.loads(ran.out)["changes"]}


def test_plan_then_apply_then_no_changes(site: Site) -> None:
    site.write(web={"colour": "red"}, worker={"size": "1"})
    planned = site.run("plan")
    assert planned.exit_code == 3, planned.err
    assert site.names() == set()
    applied = site.run("apply")
    assert applied.exit_code == 0, applied.err
    assert site.names() == {"web", "worker"}
    assert site.run("plan").exit_code == 0
    again = site.run("apply", "-o", "json")
    assert json.loads(again.out)["summary"] == {"unchanged": 2}


def test_the_text_of_a_plan(site: Site, golden: Callable[[str, str], None]) -> None:
    site.write(web={"colour": "red", "text": "one\ntwo\n"}, old={"gone": "soon"}, same={"a": "b"})
    assert site.run("apply").exit_code == 0
    site.write(web={"colour": "blue", "text": "one\nthree\n"}, old=None, new={"c": "d"}, taken={"e": "f"})
    taken = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken"}, "data": {"e": "theirs"}}
    path = f"/api/v1/namespaces/{site.namespace}/configmaps"
    site.cluster.api("POST", f"{path}?fieldManager=operator", taken)
    free = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "free"}, "data": {"g": "by hand"}}
    site.cluster.api("POST", f"{path}?fieldManager=kubectl-create", free)
    site.write(free={"g": "by git"})
    ran = site.run("plan", "--prune")
    assert ran.exit_code == 3
    text = ran.out.replace(site.namespace, "NAMESPACE").replace(str(site.directory), "DIRECTORY")
    golden("plan.txt", re.sub(r"applyset-[\w-]+-v1", "APPLYSET-ID", text))
    assert "deletions wait" in ran.out
    short = site.run("plan", "--prune", "--diff", "none").out
    assert "colour" not in short and "new" in short
    data = json.loads(site.run("plan", "--prune", "-o", "json").out)
    assert data["summary"] == {"create": 1, "configure": 1, "adopt": 1, "unchanged": 1, "prune": 1, "conflict": 1}
    assert data["deferred"] is True and data["differs"] is True
