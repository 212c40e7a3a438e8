"""drift and why, as an operator types them; the agent's part is played by hand, on the sandbox."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ocisync.cluster.drift import Action, Attribution, DriftKind, DriftReport, FieldChange, TimeSource
from ocisync.cluster.driftrecord import DriftRecords, Entry, entry_of, fold
from ocisync.model.resource import ObjectId
from ocisync.model.spec import DriftMode
from tests.cli.conftest import Cli
from tests.support.cluster import Cluster
from tests.support.gitrepo import GitRepo
from tests.support.keeper import Keeper
from tests.support.process import clean_environment
from tests.support.waiting import eventually

GROUP = "/apis/ocisync.dev/v1alpha1"
MERGE = "application/merge-patch+json"
NAME = "registry.example/acme/shop"
WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: "registry.example/web:1"}
      - name: mesh
        image: registry.example/mesh:1
"""
TOKEN = "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {password: correct-horse}\n"


@dataclass
class Shop:
    """A sync with a namespace of its own, and the namespace of an agent that is not there."""

    cluster: Cluster
    keeper: Keeper
    agent: str

    @property
    def namespace(self) -> str:
        return self.keeper.namespace

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig), "--agent-namespace", self.agent)

    def record(self, *reports: DriftReport) -> None:
        """Write reports as the agent does."""
        records, sync = DriftRecords(self.keeper.cluster, self.agent), f"{self.namespace}/shop"
        kept = records.read(sync)
        entries: list[Entry] = list(kept.entries)
        for report in reports:
            entries = fold(entries, entry_of(report))
        assert records.write(sync, entries, kept.version)

    def report(
        self,
        name: str = "web",
        action: Action = Action.CORRECTED,
        *,
        kind: DriftKind = DriftKind.MODIFIED,
        by: Attribution | None = None,
        fields: tuple[FieldChange, ...] = (FieldChange("spec.replicas", "3", "10", "kubectl"),),
        at: datetime = datetime(2026, 11, 23, 12, 0, 3, tzinfo=UTC),
    ) -> DriftReport:
        by = by or Attribution("kubectl", "Update", "scale", "2026-11-23T12:00:03Z", TimeSource.SEEN)
        done = action is Action.CORRECTED
        return DriftReport(
            kind, self.keeper.sync_id, ObjectId("apps", "Deployment", self.namespace, name), fields, by, action,
            f"{name}: forbidden" if action is Action.FAILED else "", DriftMode.CORRECT if done else DriftMode.WARN,
            "web.yaml:1", at, at + timedelta(seconds=0.08) if done else None, 0.08 if done else None,
        )  # fmt: skip

    def sync(self, **status: Any) -> None:
        sync = {
            "apiVersion": "ocisync.dev/v1alpha1", "kind": "ArtifactSync",
            "metadata": {"name": "shop", "namespace": self.namespace},
            "spec": {
                "source": {"repository": NAME, "tag": "production"}, "drift": {"mode": "Warn"},
                "ignore": [{"target": {"kind": "Deployment", "group": "apps"}, "paths": ["/spec/paused"]}],
            },
        }  # fmt: skip
        path = f"{GROUP}/namespaces/{self.namespace}/artifactsyncs"
        made = self.cluster.api("POST", path, sync)
        self.cluster.api("PUT", f"{path}/shop/status", {**made, "status": status})

    def plain(self, text: str) -> str:
        """Without what differs from run to run."""
        text = text.replace(self.namespace, "shop").replace(self.agent, "ocisync-system")
        text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:…", re.sub(r"sha1:[0-9a-f]{40}", "sha1:…", text))
        text = re.sub(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID", re.sub(r"applyset-\S+-v1", "applyset-…-v1", text)
        )
        text = re.sub(r".*\(Update, status\).*\n", "", text)  # controllers take their time
        return re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "TIME", text)


@pytest.fixture
def shop(sandbox_cluster: Cluster, cli: Cli) -> Iterator[Shop]:
    """Fresh namespaces in a cluster that has the definitions."""
    applied = cli("install", "--crds-only", "--apply", "--kubeconfig", str(sandbox_cluster.kubeconfig), "-q")
    assert applied.exit_code == 0, applied.err
    agent = f"agent-{secrets.token_hex(4)}"
    sandbox_cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": agent}})
    with sandbox_cluster.namespace("why") as namespace:
        keeper = Keeper(sandbox_cluster.kubeconfig, namespace, "test")
        keeper.tracker.set_sync(keeper.rules)
        yield Shop(sandbox_cluster, keeper, agent)
        keeper.cluster.close()


def test_the_record_is_shown_with_values_managers_and_outcomes(
    cli: Cli, shop: Shop, golden: Callable[[str, str], None]
) -> None:
    unknown = Attribution("", "", "", "2026-11-23T12:00:03Z", TimeSource.SEEN, ("helm", "kubectl-edit"))
    edited = Attribution("kubectl-edit", "Update", "", "2026-11-23T11:59:58Z", TimeSource.ENTRY)
    shop.sync()
    shop.record(
        shop.report(),
        shop.report("api", Action.REPORTED, by=edited, fields=(FieldChange("spec.paused", "false", "true"),)),
        shop.report("db", Action.FAILED, by=unknown, fields=(FieldChange("data.a", "1", "(absent)"),)),
        shop.report("mesh", Action.REPORTED, kind=DriftKind.UNMANAGED, by=edited,
                    fields=(FieldChange("spec.template.spec.hostNetwork", "(absent)", "(set)"),)),
        shop.report("gone", kind=DriftKind.DELETED, by=unknown, fields=()),
        *(shop.report("fought") for _ in range(5)),
    )  # fmt: skip
    ran = cli("drift", "shop", *shop.flags)
    assert ran.exit_code == 3, ran.err
    golden("drift.txt", shop.plain(ran.out))
    assert shop.plain(cli("drift", *shop.flags).out).count("(shop/shop)") == 8


def test_entries_are_chosen_by_object_age_and_whether_they_are_open(cli: Cli, shop: Shop) -> None:
    shop.sync()
    now = datetime.now(UTC)
    shop.record(
        shop.report("old", at=now - timedelta(days=3)),
        shop.report("open", Action.REPORTED, at=now - timedelta(days=2)),
        shop.report("new", at=now),
    )

    def names(*flags: str) -> tuple[int, list[str]]:
        ran = cli("drift", "shop", *flags, "-o", "json", *shop.flags)
        return ran.exit_code, [item["object"]["name"] for item in json.loads(ran.out)["items"]]

    assert names() == (3, ["old", "open", "new"])
    assert names("--since", "1h") == (3, ["open", "new"])
    assert names("--since", "7d", "--object", "deploy/old") == (0, ["old"])
    assert names("--open") == (3, ["open"])
    assert names("--object", "configmap") == (0, [])
    for bad in ("yesterday", "1", "-1h", "999999999d"):
        assert cli("drift", "--since", bad, *shop.flags).exit_code == 2


def test_no_drift_is_said_and_a_sync_that_does_not_exist_is_not_taken_for_peace(cli: Cli, shop: Shop) -> None:
    shop.sync()
    ran = cli("drift", "shop", *shop.flags)
    assert (ran.exit_code, ran.out) == (0, "") and "no drift is recorded" in ran.err
    assert cli("drift", "shopp", *shop.flags).exit_code == 5
    for name in (["shop"], []):
        ran = cli("drift", *name, *shop.flags[:-1], "no-agent-here")
        assert ran.exit_code == 5 and "--agent-namespace" in ran.err
    assert cli("drift", "shop", "-A", *shop.flags).exit_code == 2


def test_text_of_others_cannot_play_tricks_on_the_terminal(cli: Cli, shop: Shop) -> None:
    shop.sync()
    evil = Attribution("\x1b[2Jevil\nroot", "Update", "", "2026-11-23T12:00:03Z", TimeSource.ENTRY)
    shop.record(shop.report(by=evil, fields=(FieldChange("data.a", "1", "\x1b]0;title\x07"),)))
    ran = cli("drift", "shop", *shop.flags)
    assert ran.exit_code == 0 and "\x1b" not in ran.out and "\x07" not in ran.out
    assert "\nroot" not in ran.out


def test_a_watch_shows_what_is_there_and_what_comes(shop: Shop, tmp_path: Path) -> None:
    shop.sync()
    shop.record(shop.report("first"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ocisync", "drift", "--watch", "-o", "json", *shop.flags]
    environment = clean_environment(tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    with out.open("wb") as stream, subprocess.Popen(command, stdout=stream, env=environment) as process:
        try:
            eventually(lambda: len(out.read_text().splitlines()) == 1, what="the first entry is shown", timeout_s=120)
            shop.record(shop.report("second", Action.REPORTED))
            eventually(lambda: len(out.read_text().splitlines()) == 2, what="the second entry is shown")
            shop.record(shop.report("second", Action.ENDED))
            eventually(lambda: len(out.read_text().splitlines()) == 3, what="its end is shown")
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
    shown = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["object"]["name"], one["open"]) for one in shown] == [
        ("first", False), ("second", True), ("second", False)
    ]  # fmt: skip


def test_a_watch_ends_when_its_reader_has_gone(shop: Shop, tmp_path: Path) -> None:
    shop.sync()
    shop.record(shop.report("first"))
    command = [sys.executable, "-m", "ocisync", "drift", "--watch", "-o", "json", *shop.flags]
    environment = clean_environment(tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["object"]["name"] == "first"
        process.stdout.close()
        shop.record(shop.report("second"))
        assert process.wait(120) == 0
        assert process.stderr.read() == ""


@pytest.fixture
def applied(cli: Cli, repo: GitRepo, shop: Shop) -> Shop:
    """What a sync has applied, from a commit that is in a layout; signed."""
    repo.commit({"deploy/app.yaml": WEB, "deploy/token.yaml": TOKEN})
    assert cli("keys", "generate", "k").exit_code == 0
    pushed = cli(
        "push", str(repo.path / "deploy"), "oci-layout:out:1.0.0", "--sign-key", "k.key", "--as", NAME, "-o", "json",
        "--allow-plain-secret", "token", "--source", "https://git.example/shop",
    )  # fmt: skip
    assert pushed.exit_code == 0, pushed.err
    answer = json.loads(pushed.out)
    shop.keeper.apply(f"{WEB}---\n{TOKEN}", watch=False)
    shop.sync(applied={"digest": answer["digest"], "revision": answer["revision"], "signers": ["release-key"]})
    return shop


def test_why_answers_for_every_kind_of_origin(cli: Cli, applied: Shop, golden: Callable[[str, str], None]) -> None:
    shop, path = applied, f"/apis/apps/v1/namespaces/{applied.namespace}/deployments/web"
    images = {"spec": {"template": {"spec": {"containers": [{"name": "mesh", "image": "registry.example/mesh:2"}]}}}}
    shop.cluster.api(
        "PATCH", f"{path}?fieldManager=kubectl-edit", images, content_type="application/strategic-merge-patch+json"
    )
    shop.cluster.api("PATCH", f"{path}?fieldManager=pauser", {"spec": {"paused": True}}, content_type=MERGE)
    shop.record(shop.report())
    told = []
    for field in (
        ".spec.replicas", "containers[name=mesh].image", "containers[name=app].image", "spec.paused",
        "spec.progressDeadlineSeconds", "metadata.uid", "metadata.labels[applyset.kubernetes.io/part-of]",
        "metadata.namespace", "spec.selector",
    ):  # fmt: skip
        ran = cli("why", "deploy/web", field, "--artifact", "oci-layout:out", *shop.flags)
        assert ran.exit_code == 0, ran.err
        told.append(shop.plain(ran.out))
    golden("why-fields.txt", "\n".join(told))
    whole = cli("why", "deployments.apps/web", "--artifact", "oci-layout:out", *shop.flags)
    golden("why-object.txt", re.sub(r"\d+ fields", "N fields", shop.plain(whole.out)))


def test_secrets_are_masked_in_every_form(cli: Cli, applied: Shop) -> None:
    for form in ("text", "json", "yaml"):
        for field in ("data.password", "data", ""):
            ran = cli(
                "why",
                "secret/token",
                *([field] if field else []),
                "-o",
                form,
                "--artifact",
                "oci-layout:out",
                *applied.flags,
            )
            assert ran.exit_code == 0, ran.err
            assert "correct-horse" not in ran.out and "Y29ycmVjdC1ob3JzZQ" not in ran.out


def test_an_object_that_is_not_there_is_named_with_the_namespace_that_was_searched(cli: Cli, shop: Shop) -> None:
    for what, where in (("deploy/nowhere", f" in namespace {shop.namespace}"), ("node/nowhere", "")):
        ran = cli("why", what, *shop.flags)
        assert ran.exit_code == 5
        assert ran.errors[0].endswith(f" nowhere{where}")
        assert "kubectl get" in ran.err


def test_with_a_key_the_artifact_is_judged_here(cli: Cli, applied: Shop) -> None:
    asked = ("why", "deploy/web", ".spec.replicas", "--artifact", "oci-layout:out", *applied.flags)
    judged = cli(*asked, "--key", "k.pub", "-o", "json")
    assert judged.exit_code == 0, judged.err
    assert json.loads(judged.out)["artifact"]["judgedHere"] is True
    assert cli("keys", "generate", "other").exit_code == 0
    assert cli(*asked, "--key", "other.pub").exit_code == 4


def test_without_the_artifact_the_rest_is_answered(cli: Cli, applied: Shop) -> None:
    ran = cli("why", "deploy/web", ".spec.replicas", "--artifact", "oci-layout:nowhere", "-o", "json", *applied.flags)
    answer = json.loads(ran.out)
    assert ran.exit_code == 5 and answer["origin"] == "Unknown" and answer["value"] == 3
    assert answer["sync"] == f"{applied.namespace}/shop" and answer["artifact"]["signers"] == ["release-key"]
    assert answer["problems"]


@pytest.mark.parametrize(
    ("what", "field", "code"),
    [
        ("deploy/web", "image", 2), ("deploy/web", "spec.nothing", 2), ("deploy/web", "a[", 2), ("deploy", "", 2),
        ("deploy/none", "", 5), ("nonsense/web", "", 5),
    ],
)  # fmt: skip
def test_a_question_without_an_answer_is_a_clear_error(
    cli: Cli, applied: Shop, what: str, field: str, code: int
) -> None:
    ran = cli("why", what, *([field] if field else []), "--artifact", "oci-layout:out", *applied.flags)
    assert ran.exit_code == code and len(ran.errors) == 1 and ran.out == ""


def test_an_object_of_no_sync_is_told_with_its_managers(cli: Cli, shop: Shop) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "free"}, "data": {"a": "1"}}
    shop.cluster.api("POST", f"/api/v1/namespaces/{shop.namespace}/configmaps?fieldManager=helm", body)
    ran = cli("why", "cm/free", *shop.flags)
    assert ran.exit_code == 0 and "no sync owns it; managers: helm" in ran.out
    copied = {"metadata": {"labels": {"applyset.kubernetes.io/part-of": shop.keeper.sync_id}}}
    shop.cluster.api("PATCH", f"/api/v1/namespaces/{shop.namespace}/configmaps/free", copied, content_type=MERGE)
    assert "no sync owns it" in cli("why", "cm/free", *shop.flags).out  # a label alone proves nothing
