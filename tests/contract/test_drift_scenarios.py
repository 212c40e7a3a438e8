"""What people and programs do to objects of ours: how each is classified, attributed and answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ocisync.cluster.correction import CorrectionReason
from ocisync.cluster.drift import Action, DriftKind, DriftReport, TimeSource
from ocisync.model.resource import JsonObject, ObjectId
from tests.support.cluster import Cluster
from tests.support.keeper import Keeper, keeping_installed
from tests.support.waiting import eventually

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  annotations: {{team: shop}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      initContainers:
        - {{name: first, image: "registry.example/init:1"}}
        - {{name: second, image: "registry.example/init:1"}}
      containers:
        - name: web
          image: registry.example/web:1
          env: [{{name: A, value: "1"}}, {{name: B, value: "2"}}]
          ports: [{{containerPort: 8080}}, {{containerPort: 9090}}]
"""
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data: {{greeting: hello, colour: blue}}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
stringData: {{password: correct-horse}}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80}}]
"""

OTHER_UNDER_OUR_NAME = ("--server-side", "--force-conflicts", "--field-manager=ocisync")
Act = Callable[[Cluster, str, str, str], object]


def kubectl(*arguments: str, stdin: str | None = None) -> Act:
    """An act: kubectl with `{name}` and `{sync}` filled in."""

    def act(cluster: Cluster, namespace: str, name: str, sync_id: str) -> object:
        filled = [part.replace("{name}", name).replace("{sync}", sync_id) for part in arguments]
        text = stdin.replace("{name}", name).replace("{sync}", sync_id) if stdin else None
        return cluster.kubectl("-n", namespace, *filled, stdin=text)

    return act


def replaced(change: Callable[[JsonObject], None]) -> Act:
    """An act: `kubectl get`, change, `kubectl replace`; again, if a controller wrote the status in between."""

    def act(cluster: Cluster, namespace: str, name: str, sync_id: str) -> object:
        def once() -> str:
            obj = cluster.get("deployment", name, namespace=namespace)
            change(obj)
            return cluster.kubectl("-n", namespace, "replace", "-f", "-", stdin=json.dumps(obj))

        return eventually(once, what=f"{name} is replaced in the version that was read")

    return act


def reorder(cluster: Cluster, namespace: str, name: str, sync_id: str) -> object:
    patch = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/env", "value": [
            {"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
    ]  # fmt: skip
    return cluster.kubectl("-n", namespace, "patch", "deployment", name, "--type=json", "-p", json.dumps(patch))


def reorder_init(cluster: Cluster, namespace: str, name: str, sync_id: str) -> object:
    items = cluster.get("deployment", name, namespace=namespace)["spec"]["template"]["spec"]["initContainers"]
    patch = [{"op": "replace", "path": "/spec/template/spec/initContainers", "value": items[::-1]}]
    return cluster.kubectl("-n", namespace, "patch", "deployment", name, "--type=json", "-p", json.dumps(patch))


def image(tag: str) -> str:
    return json.dumps(
        {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": f"registry.example/web:{tag}"}]}}}}
    )


def applied_by(manager_fields: JsonObject) -> str:
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "{name}"}, **manager_fields})


SAME_IMAGE = applied_by(
    {
        "spec": {
            "selector": {"matchLabels": {"app": "{name}"}},
            "template": {"spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]}},
        }
    }
)
OTHER_IMAGE = SAME_IMAGE.replace("web:1", "web:2")
SIDECAR = json.dumps(
    {"spec": {"template": {"spec": {"containers": [{"name": "mesh", "image": "registry.example/mesh:1"}]}}}}
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, and what must come of it. `kind` None: nothing is reported."""

    name: str
    act: Act
    kind: DriftKind | None
    manifest: str = DEPLOYMENT
    manager: str = ""
    candidates: tuple[str, ...] = ()
    subresource: str = ""
    time: TimeSource = TimeSource.ENTRY
    fields: tuple[str, ...] = ()
    change: tuple[str, str] = ("", "")
    action: Action = Action.CORRECTED
    asked: tuple[CorrectionReason, ...] = (CorrectionReason.DRIFT,)
    restored: Callable[[JsonObject], bool] = field(default=lambda live: True)


def replicas(live: JsonObject) -> object:
    return live["spec"]["replicas"]


def web(live: JsonObject) -> JsonObject:
    found: JsonObject = next(c for c in live["spec"]["template"]["spec"]["containers"] if c["name"] == "web")
    return found


IMAGE_PATH = 'spec.template.spec.containers[name="web"].image'
NOTHING: tuple[CorrectionReason, ...] = ()
CHECKED = (CorrectionReason.SUSPECT,)

SCENARIOS = [
    Scenario(
        "kubectl-scale", kubectl("scale", "deployment/{name}", "--replicas=10"), DriftKind.MODIFIED,
        manager="kubectl", subresource="scale", time=TimeSource.SEEN, fields=("spec.replicas",), change=("3", "10"),
        restored=lambda live: replicas(live) == 3,
    ),
    Scenario(
        "autoscaler", kubectl(
            "patch", "deployment/{name}", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":7}}',
            "--field-manager=kube-controller-manager",
        ), None, asked=NOTHING, restored=lambda live: replicas(live) == 7,
    ),
    Scenario(
        "edit-value", kubectl("patch", "deployment/{name}", "-p", image("2"), "--field-manager=kubectl-edit"),
        DriftKind.MODIFIED, manager="kubectl-edit", fields=(IMAGE_PATH,),
        change=("registry.example/web:1", "registry.example/web:2"),
        restored=lambda live: web(live)["image"] == "registry.example/web:1",
    ),
    Scenario(
        "set-image", kubectl("set", "image", "deployment/{name}", "web=registry.example/web:3"), DriftKind.MODIFIED,
        manager="kubectl-set", fields=(IMAGE_PATH,), change=("registry.example/web:1", "registry.example/web:3"),
    ),
    Scenario(
        "merge-patch-removes", kubectl("patch", "configmap/{name}", "--type=merge", "-p", '{"data":{"greeting":null}}'),
        DriftKind.MODIFIED, CONFIG_MAP, time=TimeSource.SEEN, fields=("data.greeting",), change=("hello", "(absent)"),
        restored=lambda live: live["data"]["greeting"] == "hello",
    ),
    Scenario(
        "json-patch-removes", kubectl(
            "patch", "deployment/{name}", "--type=json", "-p",
            '[{"op":"remove","path":"/spec/template/spec/containers/0/env/1"}]',
        ), DriftKind.MODIFIED, time=TimeSource.SEEN,
        fields=('spec.template.spec.containers[name="web"].env[name="B"]',),
        restored=lambda live: len(web(live)["env"]) == 2,
    ),
    Scenario(
        "apply-same-value", kubectl(
            "apply", "--server-side", "--field-manager=other-tool", "-f", "-", stdin=SAME_IMAGE,
        ), None, asked=NOTHING,
    ),
    Scenario(
        "apply-forced-value", kubectl(
            "apply", "--server-side", "--force-conflicts", "--field-manager=other-tool", "-f", "-", stdin=OTHER_IMAGE,
        ), DriftKind.MODIFIED, manager="other-tool", fields=(IMAGE_PATH,),
        change=("registry.example/web:1", "registry.example/web:2"),
        restored=lambda live: web(live)["image"] == "registry.example/web:1",
    ),
    Scenario(
        "status-update", kubectl(
            "patch", "deployment/{name}", "--subresource=status", "--type=merge", "-p",
            '{"status":{"conditions":[{"type":"Odd","status":"True","reason":"Test","message":"m"}]}}',
        ), None, asked=NOTHING,
    ),
    Scenario("defaulting", kubectl("get", "service/{name}"), None, SERVICE, asked=NOTHING),
    Scenario(
        "controller-annotates", kubectl(
            "annotate", "configmap/{name}", "controller.example/seen=yes", "--field-manager=some-controller",
        ), None, CONFIG_MAP, asked=CHECKED,
        restored=lambda live: live["metadata"]["annotations"]["controller.example/seen"] == "yes",
    ),
    Scenario(
        "sidecar", kubectl("patch", "deployment/{name}", "-p", SIDECAR), DriftKind.UNMANAGED,
        manager="kubectl-patch", fields=('spec.template.spec.containers[name="mesh"]',), action=Action.REPORTED,
        asked=CHECKED, restored=lambda live: len(live["spec"]["template"]["spec"]["containers"]) == 2,
    ),
    Scenario(
        "host-network", kubectl(
            "patch", "deployment/{name}", "-p", '{"spec":{"template":{"spec":{"hostNetwork":true}}}}',
        ), DriftKind.UNMANAGED, manager="kubectl-patch", action=Action.REPORTED, asked=CHECKED,
        fields=("spec.template.spec.hostNetwork",),
    ),
    Scenario(
        "managed-fields-cleared", kubectl(
            "patch", "configmap/{name}", "--type=merge", "-p", '{"metadata":{"managedFields":[{}]}}',
        ), None, CONFIG_MAP,
        restored=lambda live: any(e["manager"] == "ocisync" for e in live["metadata"]["managedFields"]),
    ),
    Scenario(
        "cleared-and-changed", kubectl(
            "patch", "configmap/{name}", "--type=merge", "-p",
            '{"metadata":{"managedFields":[{}]},"data":{"greeting":"bye"}}',
        ), DriftKind.MODIFIED, CONFIG_MAP, time=TimeSource.SEEN, fields=("data.greeting",), change=("hello", "bye"),
        restored=lambda live: live["data"]["greeting"] == "hello",
    ),
    Scenario(
        "apply-under-our-name", kubectl("apply", *OTHER_UNDER_OUR_NAME, "-f", "-", stdin=json.dumps({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "{name}", "labels": {"applyset.kubernetes.io/part-of": "{sync}"}},
            "data": {"greeting": "hello", "colour": "red"},
        })), DriftKind.MODIFIED, CONFIG_MAP, manager="ocisync", fields=("data.colour",), change=("blue", "red"),
        restored=lambda live: live["data"]["colour"] == "blue",
    ),
    Scenario(
        "replace", replaced(lambda obj: obj["spec"].update(replicas=5)), DriftKind.MODIFIED, manager="kubectl-replace",
        fields=("spec.replicas",), change=("3", "5"), restored=lambda live: replicas(live) == 3,
    ),
    Scenario(
        "label-removed", kubectl("label", "deployment/{name}", "applyset.kubernetes.io/part-of-"),
        DriftKind.LABEL_REMOVED, time=TimeSource.SEEN,
        restored=lambda live: "applyset.kubernetes.io/part-of" in live["metadata"]["labels"],
    ),
    Scenario(
        "label-foreign", kubectl(
            "label", "--overwrite", "configmap/{name}", "applyset.kubernetes.io/part-of=applyset-other-v1",
        ), DriftKind.CLAIMED, CONFIG_MAP, manager="kubectl-label", action=Action.REPORTED, asked=NOTHING,
        restored=lambda live: live["metadata"]["labels"]["applyset.kubernetes.io/part-of"] == "applyset-other-v1",
    ),
    Scenario(
        "deleted", kubectl("delete", "deployment/{name}", "--wait=false"), DriftKind.DELETED, time=TimeSource.SEEN,
        asked=(CorrectionReason.RECREATE,), restored=lambda live: replicas(live) == 3,
    ),
    Scenario(
        "env-reordered", reorder, DriftKind.MODIFIED, time=TimeSource.SEEN, asked=CHECKED,
        fields=('spec.template.spec.containers[name="web"].env (order)',),
        restored=lambda live: [e["name"] for e in web(live)["env"]] == ["A", "B"],
    ),
    Scenario(
        "init-containers-reordered", reorder_init, DriftKind.MODIFIED, time=TimeSource.SEEN, asked=CHECKED,
        fields=("spec.template.spec.initContainers (order)",),
        restored=lambda live: live["spec"]["template"]["spec"]["initContainers"][0]["name"] == "first",
    ),
    Scenario(
        "config-map-edit", kubectl("patch", "configmap/{name}", "--type=merge", "-p", '{"data":{"colour":"red"}}'),
        DriftKind.MODIFIED, CONFIG_MAP, manager="kubectl-patch", fields=("data.colour",), change=("blue", "red"),
        restored=lambda live: live["data"]["colour"] == "blue",
    ),
    Scenario(
        "secret-edit", kubectl("patch", "secret/{name}", "--type=merge", "-p", '{"data":{"password":"aGFja2Vk"}}'),
        DriftKind.MODIFIED, SECRET, manager="kubectl-patch", fields=("data.password",),
        change=("(masked)", "(masked)"), restored=lambda live: live["data"]["password"] != "aGFja2Vk",
    ),
    Scenario(
        "annotation-removed", kubectl("annotate", "deployment/{name}", "team-"), DriftKind.MODIFIED,
        time=TimeSource.SEEN, fields=("metadata.annotations.team",), change=("shop", "(absent)"),
        restored=lambda live: live["metadata"]["annotations"]["team"] == "shop",
    ),
]  # fmt: skip


@pytest.fixture(scope="module", params=["sandbox", "real"])
def server(request: pytest.FixtureRequest) -> str:
    """The sandbox's API and the real one in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def cluster_of_module(request: pytest.FixtureRequest, server: str) -> Cluster:
    """The server of this module's tests."""
    chosen: Cluster = request.getfixturevalue("sandbox_cluster" if server == "sandbox" else "cluster")
    return chosen


@pytest.fixture(scope="module")
def keeper(cluster_of_module: Cluster, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """A keeper that owns one object for each scenario, all applied more than a second ago."""
    installed = tmp_path_factory.mktemp("drift") if server == "real" else None
    with keeping_installed(cluster_of_module.kubeconfig, "drift", installed) as started:
        started.apply("\n---\n".join(s.manifest.format(name=s.name) for s in SCENARIOS))
        eventually(lambda: not started.tracker.unsynced(), what="the watches have shown everything")
        # Times in managedFields have whole seconds: an apply under our name shows by a later one.
        applied = datetime.now(UTC).replace(microsecond=0)
        eventually(lambda: datetime.now(UTC) - applied >= timedelta(seconds=1), what="the next second")
        yield started


def settled(keeper: Keeper, object_id: ObjectId) -> bool:
    """Whether the watch has shown the live state and nothing is left to do."""
    live = keeper.live(object_id)
    if live is None:
        return False
    return keeper.tracker.seen(object_id) >= int(live["metadata"]["resourceVersion"]) and keeper.tracker.idle()


def reports_of(keeper: Keeper, scenario: Scenario) -> list[DriftReport]:
    return keeper.reported(scenario.name)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_each_change_is_classified_attributed_and_answered(
    keeper: Keeper, cluster_of_module: Cluster, scenario: Scenario
) -> None:
    cluster = cluster_of_module
    object_id = next(i for i in keeper.tracker.owned(keeper.sync_id) if i.name == scenario.name)
    eventually(lambda: settled(keeper, object_id), what=f"{object_id} is at rest")
    assert reports_of(keeper, scenario) == []

    scenario.act(cluster, keeper.namespace, scenario.name, keeper.sync_id)

    if scenario.kind is not None:
        eventually(lambda: reports_of(keeper, scenario) != [], what=f"{object_id} is reported")
    eventually(lambda: settled(keeper, object_id), what=f"{object_id} is at rest again")
    live = keeper.live(object_id)
    assert live is not None
    assert scenario.restored(live)
    asked = tuple(c.reason for c in keeper.corrections if c.desired.id == object_id)
    reports = reports_of(keeper, scenario)
    if scenario.kind is None:
        assert reports == []
        assert asked == scenario.asked
        return
    assert [r.kind for r in reports] == [scenario.kind]
    report = reports[0]
    assert asked == scenario.asked
    assert report.action is scenario.action
    assert report.attribution.manager == scenario.manager
    assert report.attribution.subresource == scenario.subresource
    assert report.attribution.time_source is scenario.time
    if scenario.fields:
        assert tuple(change.path for change in report.fields) == scenario.fields
    if scenario.change != ("", ""):
        assert (report.fields[0].old, report.fields[0].new) == scenario.change
    assert "correct-horse" not in report.message


def test_a_pending_finalizer_is_waited_for_and_then_the_object_returns(
    keeper: Keeper, cluster_of_module: Cluster
) -> None:
    cluster = cluster_of_module
    keeper.apply(
        CONFIG_MAP.format(name="pending").replace("{name: pending}", "{name: pending, finalizers: [test.example/hold]}")
    )
    object_id = ObjectId("", "ConfigMap", keeper.namespace, "pending")
    eventually(lambda: settled(keeper, object_id), what="the object is at rest")
    before = keeper.live(object_id)
    assert before is not None

    cluster.kubectl("-n", keeper.namespace, "delete", "configmap/pending", "--wait=false")
    eventually(lambda: settled(keeper, object_id), what="the deletion was seen")
    assert [c for c in keeper.corrections if c.desired.id == object_id] == []

    cluster.kubectl(
        "-n", keeper.namespace, "patch", "configmap/pending", "--type=json",
        "-p", '[{"op":"remove","path":"/metadata/finalizers"}]',
    )  # fmt: skip
    eventually(lambda: keeper.reported("pending") != [], what="the deletion was reported")
    after = keeper.live(object_id)
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert keeper.reported("pending")[0].kind is DriftKind.DELETED


def test_what_happens_during_a_pause_is_judged_after_it(keeper: Keeper, cluster_of_module: Cluster) -> None:
    cluster = cluster_of_module
    for name in ("recreated", "scaled-meanwhile"):
        keeper.apply((CONFIG_MAP if name == "recreated" else DEPLOYMENT).format(name=name))
    ids = [i for i in keeper.tracker.owned(keeper.sync_id) if i.name in {"recreated", "scaled-meanwhile"}]
    eventually(lambda: all(settled(keeper, i) for i in ids), what="the objects are at rest")
    with keeper.paused():
        cluster.kubectl("-n", keeper.namespace, "delete", "configmap/recreated")
        made = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "recreated"},
            "data": {"greeting": "mine"},
        }
        arguments = ("-n", keeper.namespace, "create", "--field-manager=kubectl-create", "-f", "-")
        cluster.kubectl(*arguments, stdin=json.dumps(made))
        cluster.kubectl("-n", keeper.namespace, "scale", "deployment/scaled-meanwhile", "--replicas=9")
        version = cluster.get("deployment", "scaled-meanwhile", namespace=keeper.namespace)["metadata"]
        scaled = next(i for i in ids if i.kind == "Deployment")
        eventually(lambda: keeper.tracker.seen(scaled) >= int(version["resourceVersion"]))
        assert [c for c in keeper.corrections if c.desired.id in ids] == []

    eventually(lambda: keeper.reported("recreated") != [], what="the replacement is reported")
    eventually(lambda: keeper.reported("scaled-meanwhile") != [], what="the scale is reported")
    report = keeper.reported("recreated")[0]
    assert (report.kind, report.attribution.manager) == (DriftKind.REPLACED, "kubectl-create")
    live = keeper.live(report.object)
    assert live is not None
    assert live["data"]["greeting"] == "hello"
    assert keeper.reported("scaled-meanwhile")[0].fields[0].new == "9"


def test_a_deleted_pod_is_none_of_our_business(keeper: Keeper, cluster_of_module: Cluster) -> None:
    cluster = cluster_of_module
    keeper.apply(DEPLOYMENT.format(name="podded"))
    object_id = ObjectId("apps", "Deployment", keeper.namespace, "podded")

    def pods() -> list[str]:
        found = cluster.get("pods", "-l", "app=podded", namespace=keeper.namespace)
        return [item["metadata"]["name"] for item in found["items"]]

    eventually(lambda: len(pods()) == 3, what="three pods exist")
    victim = pods()[0]
    before = len(keeper.corrections)
    cluster.kubectl("-n", keeper.namespace, "delete", f"pod/{victim}", "--wait=false")
    eventually(lambda: len([p for p in pods() if p != victim]) == 3, what="a new pod exists")
    eventually(lambda: settled(keeper, object_id), what="the Deployment is at rest")
    assert len(keeper.corrections) == before
    assert keeper.reported("podded") == []
