"""plan and apply, as a person types them, on the sandbox."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocisync.cluster.client import connect
from ocisync.cluster.discovery import Discovery
from ocisync.flows import oneshot
from ocisync.flows.compare import Side
from ocisync.kit import yamlio
from ocisync.kit.stop import StopToken
from ocisync.model.errors import Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.tree import TreeFile
from ocisync.sandbox import Corrupt, Delay, Reset, Sandbox, Status, Truncate
from tests.cli.conftest import Cli, Ran
from tests.support.cluster import Cluster
from tests.support.process import free_port
from tests.support.pushes import PushServer
from tests.support.registries import Registry
from tests.support.signedrepository import SignedRepository
from tests.support.trust import signer
from tests.support.waiting import eventually


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
    planned = site.run("plan", "--prune")
    assert planned.exit_code == 3, planned.err
    assert f"ocisync apply {site.directory} --no-git --prune --name shop -n {site.namespace}\n" in planned.err
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


def test_a_plan_speaks_json_and_yaml_alike(site: Site) -> None:
    site.write(web={"colour": "red"})
    data = json.loads(site.run("plan", "-o", "json").out)
    assert data == yamlio.parse_documents(site.run("plan", "-o", "yaml").out.encode(), "plan")[0].value
    assert data["changes"] == [
        {
            "action": "create", "group": "", "kind": "ConfigMap", "namespace": site.namespace, "name": "web",
            "place": "web.yaml:1",
        }
    ]  # fmt: skip


def test_a_directory_without_a_name_is_planned_as_a_first_sync(site: Site) -> None:
    site.write(web={"colour": "red"})
    assert site.run("apply").exit_code == 0
    ran = site.run("plan", name="")
    assert ran.exit_code == 3 and "in conflict" in ran.out and "first sync" in ran.out


def test_a_dry_run_of_apply_is_its_plan(site: Site) -> None:
    site.write(web={"colour": "red"})
    ran = site.run("apply", "--dry-run")
    assert ran.exit_code == 3 and ran.out == site.run("plan").out
    assert site.names() == set()


def test_a_held_apply_writes_nothing_until_its_hash_is_approved(site: Site) -> None:
    site.write(**{f"c{number}": {"a": "1"} for number in range(8)})
    assert site.run("apply").exit_code == 0
    site.write(**{f"c{number}": None for number in range(1, 8)}, new={"a": "1"})
    ran = site.run("apply", "--prune")
    assert ran.exit_code == 4 and "deletes 7 of 8" in ran.err
    assert len(site.names()) == 8
    found = re.search(r"--approve (sha256:[0-9a-f]{64})", ran.err)
    assert found is not None
    planned = json.loads(site.run("plan", "--prune", "-o", "json").out)
    assert planned["hash"] == found[1] and planned["held"]
    site.write(newer={"a": "1"})  # another content is another plan
    assert site.run("apply", "--prune", "--approve", found[1]).exit_code == 4
    site.write(newer=None)
    assert site.run("apply", "--prune", "--approve", found[1]).exit_code == 0
    assert site.names() == {"c0", "new"}


def test_without_prune_what_the_directory_drops_stays_owned_and_is_pruned_later(site: Site) -> None:
    site.write(web={"a": "1"}, old={"a": "1"})
    assert site.run("apply").exit_code == 0
    site.write(old=None)
    ran = site.run("apply")
    assert ran.exit_code == 0 and site.names() == {"web", "old"}
    assert site.run("apply", "--prune").exit_code == 0
    assert site.names() == {"web"}


def test_two_sets_do_not_take_each_others_objects(site: Site) -> None:
    site.write(web={"a": "1"})
    assert site.run("apply").exit_code == 0
    ran = site.run("apply", name="other")
    assert ran.exit_code == 8 and "belongs to another sync" in ran.out
    assert site.live("web")["data"] == {"a": "1"}


def test_a_failing_object_does_not_keep_the_others_from_being_applied(site: Site) -> None:
    site.write(good={"a": "1"})
    broken = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "broken"}, "data": {"a": {"b": "c"}}}
    (site.directory / "broken.yaml").write_text(json.dumps(broken))
    ran = site.run("apply")
    assert ran.exit_code == 8 and "broken.yaml:1" in ran.out and len(ran.errors) == 1
    assert site.names() == {"good"}


def test_a_set_is_not_built_upon_somebody_elses_configmap(site: Site) -> None:
    site.write(web={"a": "1"})
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ocisync-apply-shop"}, "data": {"x": "y"}}
    site.cluster.api("POST", f"/api/v1/namespaces/{site.namespace}/configmaps", theirs)
    for command in ("plan", "apply"):
        ran = site.run(command)
        assert ran.exit_code == 4 and "somebody else made it" in ran.err, command
    assert site.live("ocisync-apply-shop")["data"] == {"x": "y"}


def test_the_parent_is_an_applyset_as_kubectl_makes_one(site: Site) -> None:
    site.write(web={"a": "1"})
    assert site.run("apply").exit_code == 0
    parent = site.live("ocisync-apply-shop")["metadata"]
    digest = hashlib.sha256(f"ocisync-apply-shop.{site.namespace}.ConfigMap.".encode()).digest()
    expected = f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"
    assert parent["labels"]["applyset.kubernetes.io/id"] == expected
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert parent["annotations"]["applyset.kubernetes.io/tooling"].startswith("ocisync/v")
    assert site.live("web")["metadata"]["labels"]["applyset.kubernetes.io/part-of"] == expected


def test_an_inventory_that_was_lost_is_found_again_by_plan_and_apply(site: Site) -> None:
    site.write(web={"a": "1"}, old={"a": "1"})
    assert site.run("apply").exit_code == 0
    path = f"/api/v1/namespaces/{site.namespace}/configmaps"
    for item in site.cluster.api("GET", path)["items"]:
        if item["metadata"]["name"].startswith("ocisync-inventory"):
            site.cluster.api("DELETE", f"{path}/{item['metadata']['name']}")
    site.write(old=None)
    assert verbs(site.run("plan", "--prune", "-o", "json")) == {"web": "unchanged", "old": "orphan"}
    assert site.run("apply", "--prune").exit_code == 0
    assert site.names() == {"web", "old"}  # no artifact has named it since: it may be somebody else's by now


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("plan", "nobody"), 5, "nobody"),
        (("plan", "./nowhere"), 5, "no directory"),
        (("apply", "nobody", "--name", "x"), 2, "ocisync reconcile nobody"),
        (("apply", ".", "--no-git"), 2, "--name"),
        (("apply", ".", "--no-git", "--name", "Not A Name"), 2, "not a name"),
        (("apply", "oci://registry.example/shop:1", "--name", "x"), 2, "--key FILE"),
        (("plan", ".", "--no-git", "--name", "x", "--max-prune", "lots"), 2, "percentage"),
        (("plan", "nobody", "--sync", "other"), 2, "sync already"),
        (("plan", ".", "--no-git", "--as-service-account"), 2, "--service-account NAME"),
        (("plan", ".", "--no-git", "--name", "x", "--sync", "y"), 2, "own spec"),
        (("plan", ".", "--no-git", "--path", "none"), 5, "no manifests below"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_makes_no_sense_is_said_in_one_line(
    arguments: tuple[str, ...], code: int, text: str, site: Site, syncs_defined: None
) -> None:
    ran = site.cli(*arguments, "-n", site.namespace, "--kubeconfig", str(site.cluster.kubeconfig))
    assert ran.exit_code == code and len(ran.errors) == 1 and text in ran.err, ran.err


@pytest.fixture
def syncs_defined(sandbox_cluster: Cluster, cli: Cli) -> None:
    """The definitions that installations have."""
    applied = cli("install", "--crds-only", "--apply", "--kubeconfig", str(sandbox_cluster.kubeconfig), "-q")
    assert applied.exit_code == 0, applied.err


def test_an_unreachable_cluster_is_exit_code_7(site: Site) -> None:
    site.write(web={"a": "1"})
    text = site.cluster.kubeconfig.read_text().replace(site.cluster.server, f"http://127.0.0.1:{free_port()}")
    broken = site.directory.parent / "kubeconfig-of-nobody"
    broken.write_text(text)
    ran = site.cli("apply", str(site.directory), "--no-git", "--name", "x", "-n", "y", "--kubeconfig", str(broken))
    assert ran.exit_code == 7 and len(ran.errors) == 1


def test_a_namespace_that_does_not_exist_is_said_with_the_command_that_makes_it(site: Site) -> None:
    site.write(web={"a": "1"})
    where = ("--no-git", "--name", "x", "-n", "nowhere", "--kubeconfig", str(site.cluster.kubeconfig))
    ran = site.cli("apply", str(site.directory), *where)
    assert ran.exit_code == 5 and "kubectl create namespace nowhere" in ran.err
    assert site.cli("plan", str(site.directory), *where).exit_code == 3


def test_two_applies_of_one_set_at_the_same_time_do_not_mix(site: Site) -> None:
    site.write(web={"a": "1"}, old={"a": "1"})
    assert site.run("apply").exit_code == 0
    kube = connect(str(site.cluster.kubeconfig), user_agent="ocisync/test")
    discovery = Discovery(kube)
    options = oneshot.Options("shop", site.namespace, prune=True)

    def apply(value: str, planned: Callable[[int], None]) -> oneshot.Done:
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": value}}
        side = Side("here", (TreeFile("web.json", json.dumps(obj).encode()),))
        scope = oneshot.scope_of(kube, options, oneshot.fingerprint(side))
        return oneshot.apply_once(
            kube, discovery, side, scope, holder=value, version="0", stop=StopToken(), planned=planned,
            applied=lambda _: None,
        )  # fmt: skip

    def meanwhile(_: int) -> None:
        assert not apply("second", lambda _: None).failures

    with pytest.raises(Unavailable, match="at the same time"):
        apply("first", meanwhile)
    assert site.live("web")["data"] == {"a": "second"} and site.names() == {"web"}
    kube.close()


# Artifacts ----------------------------------------------------------------------------------------------------------


def test_only_what_the_named_key_signed_is_applied(site: Site, sandbox_registry: Registry, tmp_path: Path) -> None:
    repository = SignedRepository(f"{sandbox_registry.host}/test/{secrets.token_hex(4)}")
    ours, theirs = signer("ci"), signer("other")
    for key, name in ((ours, "ours.pub"), (theirs, "theirs.pub")):
        (tmp_path / name).write_text(key.public.pem)
    built = repository.push({"app/web.yaml": _config_map("web")}, "production")
    repository.sign(built.descriptor, ours)
    reference = f"oci://{repository.repository}:production"
    refused = site.run("apply", "--key", str(tmp_path / "theirs.pub"), target=reference)
    assert refused.exit_code == 4 and site.names() == set()
    refused = site.run("plan", "--key", str(tmp_path / "theirs.pub"), target=reference)
    assert refused.exit_code == 4 and refused.out == ""
    unverified = site.run("plan", target=reference)
    assert unverified.exit_code == 3 and "NOT verified" in unverified.err
    planned = site.run("plan", "--key", str(tmp_path / "ours.pub"), "--path", "app", target=reference)
    assert planned.exit_code == 3 and "signed by" in planned.out and "app/web.yaml:1" in planned.out
    applied = site.run("apply", "--key", str(tmp_path / "ours.pub"), "-o", "json", target=reference)
    assert applied.exit_code == 0, applied.err
    answer = json.loads(applied.out)
    assert answer["source"]["digest"] == built.descriptor.digest and answer["complete"] is True
    assert site.names() == {"web"}


def _config_map(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})


# Waiting ------------------------------------------------------------------------------------------------------------


def _deployment(name: str) -> JsonObject:
    labels = {"app": name}
    container = {"name": "web", "image": "registry.example/web:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_apply_waits_until_what_it_applied_is_healthy(site: Site) -> None:
    (site.directory / "web.json").write_text(json.dumps(_deployment("web")))
    site.write(settings={"a": "1"})
    ran = site.run("apply", "--wait", "-o", "json")
    assert ran.exit_code == 0, ran.err
    assert json.loads(ran.out)["health"]["message"] == "2 of 2 objects healthy"
    assert (
        site.cluster.api("GET", f"/apis/apps/v1/namespaces/{site.namespace}/deployments/web")["status"]["replicas"] == 2
    )


def test_apply_ends_with_1_when_something_does_not_become_healthy_in_time(site: Site) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "x"}, "ports": [{"port": 80}]},
    }  # fmt: skip
    (site.directory / "front.json").write_text(json.dumps(service))
    ran = site.run("apply", "--wait", "--wait-timeout", "1")
    assert ran.exit_code == 1 and f"Service {site.namespace}/front" in ran.errors[0]


# Hostile servers ----------------------------------------------------------------------------------------------------


FAULTS: dict[str, Corrupt | Reset | Truncate | Status] = {
    "nonsense": Corrupt(), "resets": Reset(), "half": Truncate(20), "down": Status(500), "forbidden": Status(403),
    "missing": Status(404), "elsewhere": Status(302), "a page": Status(200, {}, b"<html>log in</html>"),
}  # fmt: skip


def test_an_api_server_that_answers_nonsense_is_one_error_and_no_defect(cli: Cli, tmp_path: Path) -> None:
    _write(tmp_path / "deploy", {f"c{number}": "1" for number in range(8)})
    with Sandbox(tmp_path / "sandbox", controllers=False, persistent=False) as sandbox:
        where = ("-n", "default", "--kubeconfig", str(sandbox.kubeconfig), "--no-git", "--name", "shop")
        assert cli("apply", str(tmp_path / "deploy"), *where).exit_code == 0
        for name, action in FAULTS.items():
            for place in ("configmaps", "labelSelector"):
                for command in ("plan", "apply"):
                    sandbox.apiserver.faults.add(place, action=action)
                    ran = cli(command, str(tmp_path / "deploy"), *where)
                    sandbox.apiserver.faults.clear()
                    assert "defect" not in ran.err and len(ran.errors) <= 1, (name, place, command, ran.err)
                    assert ran.exit_code in (0, 3, 4, 5, 6, 7, 8), (name, place, command, ran.err)
        assert cli("plan", str(tmp_path / "deploy"), *where).exit_code == 0


# Kills --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requests", range(3, 22, 2) if os.environ.get("OCISYNC_HEAVY") == "1" else [7, 15])
def test_an_apply_that_was_killed_is_completed_by_the_next_one(requests: int, cli: Cli, tmp_path: Path) -> None:
    with Sandbox(tmp_path / "sandbox", controllers=False, persistent=False) as sandbox, PushServer() as processes:
        where = ("-n", "default", "--kubeconfig", str(sandbox.kubeconfig), "--no-git", "--name", "shop", "--prune")
        _write(tmp_path / "first", {f"c{number:02}": "1" for number in range(8)})
        assert cli("apply", str(tmp_path / "first"), *where).exit_code == 0
        _write(tmp_path / "second", {f"c{number:02}": "2" for number in range(3, 12)})
        sandbox.apiserver.faults.add(".", count=requests, action=Delay(0))
        held = sandbox.apiserver.faults.add(".", count=None, action=Delay(240))
        sandbox.apiserver.requests.clear()
        running = processes.start(["apply", str(tmp_path / "second"), *where], tmp_path / "run")
        eventually(lambda: held.hits, what="it is at work", timeout_s=60)
        running.kill()
        assert running.wait().exit_code == -9
        sandbox.apiserver.faults.clear()
        server = sandbox.apiserver._server
        eventually(lambda: not server._connections, what="what it had asked for is done, although nobody listens")
        # Before it is completed, something else is wanted: what the killed run made must not be left behind.
        _write(tmp_path / "third", {f"c{number:02}": "3" for number in range(3, 10)})
        ran = cli("apply", str(tmp_path / "third"), *where, "--max-prune", "100%", "-o", "json")
        assert ran.exit_code == 0, ran.err
        assert cli("plan", str(tmp_path / "third"), *where).exit_code == 0
        response = sandbox.apiserver.url + "/api/v1/namespaces/default/configmaps"
        with urllib.request.urlopen(response) as answer:
            found = {item["metadata"]["name"]: item.get("data") for item in json.loads(answer.read())["items"]}
        assert {name: data for name, data in found.items() if name.startswith("c")} == {
            f"c{number:02}": {"a": "3"} for number in range(3, 10)
        }


def _write(directory: Path, maps: dict[str, str]) -> None:
    directory.mkdir()
    for name, value in maps.items():
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}}
        (directory / f"{name}.json").write_text(json.dumps(obj))
