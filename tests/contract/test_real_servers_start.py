"""The real servers for tests are what they claim to be; everything else that is "real" rests on this."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import StartDistribution
from tests.support.bearer import TokenServer
from tests.support.cluster import ApiError, Cluster, KubectlError
from tests.support.controlplane import ControlPlane
from tests.support.cosign import Cosign, CosignError
from tests.support.kwok import Kwok
from tests.support.registries import BASIC_LOGIN, Registry
from tests.support.waiting import eventually

EMPTY_CONFIG = b"{}"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def deployment(name: str, fate: str = "") -> str:
    annotations = {"tests.ocisync.dev/fate": fate} if fate else {}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": annotations},
                    "spec": {"containers": [{"name": "main", "image": "registry.example/app:1"}]},
                },
            },
        }
    )


def put(registry: Registry, path: str, body: bytes, content_type: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60.0)
    try:
        connection.request("PUT", path, body=body, headers={"Content-Type": content_type})
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
    finally:
        connection.close()


def push_empty_artifact(registry: Registry, name: str) -> str:
    """Pushes a manifest of one empty config and returns HOST:PORT/NAME@DIGEST."""
    digest = "sha256:" + hashlib.sha256(EMPTY_CONFIG).hexdigest()
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60.0)
    try:
        connection.request("POST", f"/v2/{name}/blobs/uploads/", body=b"")
        answer = connection.getresponse()
        answer.read()
        location = answer.headers["Location"]
    finally:
        connection.close()
    path = location.removeprefix(registry.url)
    put(registry, f"{path}{'&' if '?' in path else '?'}digest={digest}", EMPTY_CONFIG, "application/octet-stream")
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": digest}
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [config]}
    ).encode()
    put(registry, f"/v2/{name}/manifests/latest", manifest, MANIFEST_TYPE)
    return f"{registry.host}/{name}@sha256:{hashlib.sha256(manifest).hexdigest()}"


def test_the_api_server_is_the_version_we_pin(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.37.2"
    assert version["clientVersion"]["gitVersion"] == "v1.37.2"


def test_a_deployment_becomes_available_on_nodes_played_by_kwok(cluster: Cluster, namespace: str) -> None:
    cluster.apply(deployment("web"), "-n", namespace)
    wait = ("wait", "--for=condition=Available", "deployment/web", "--timeout=120s")
    cluster.kubectl(*wait, "-n", namespace)
    cluster.kubectl("scale", "deployment/web", "--replicas=4", "-n", namespace)

    def four_are_ready() -> bool:
        found = cluster.get("deployment", "web", namespace=namespace)
        return bool(found["status"].get("readyReplicas") == 4)

    eventually(four_are_ready, what="four replicas are ready")


def test_the_administrator_reaches_both_api_servers(apiserver: Cluster, api_namespace: str) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}
    collection = f"/api/v1/namespaces/{api_namespace}/configmaps"
    apiserver.api("POST", collection, settings)
    assert apiserver.api("GET", f"{collection}/settings")["data"] == {"a": "b"}
    with pytest.raises(ApiError) as refused:
        apiserver.api("GET", f"{collection}/other")
    assert refused.value.status == 404


def test_a_pod_template_can_ask_for_a_bad_fate(control_plane: ControlPlane, kwok: Kwok) -> None:
    assert kwok.ready_nodes() >= 3
    with control_plane.namespace("fate") as namespace:
        control_plane.apply(deployment("web", fate="ImagePullBackOff"), "-n", namespace)

        def reasons() -> set[str]:
            pods = control_plane.get("pods", namespace=namespace)["items"]
            return {pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] for pod in pods}

        assert eventually(reasons, what="pods report why they wait") == {"ImagePullBackOff"}
        assert control_plane.get("deployment", "web", namespace=namespace)["status"].get("readyReplicas", 0) == 0


def test_kubectl_edits_with_an_editor(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "settings", "--from-literal=color=red", "-n", namespace)
    cluster.kubectl("edit", "configmap/settings", "-n", namespace, environment={"KUBE_EDITOR": "sed -i s/red/blue/"})
    assert cluster.get("configmap", "settings", namespace=namespace)["data"] == {"color": "blue"}


def test_a_service_account_has_only_its_own_rights(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    cluster.kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps", "-n", namespace)
    cluster.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    kubeconfig = cluster.kubeconfig_for(namespace, "reader")
    eventually(lambda: cluster.kubectl("get", "configmaps", kubeconfig=kubeconfig), what="the role is in force")
    with pytest.raises(KubectlError, match="Forbidden"):
        cluster.kubectl("get", "secrets", kubeconfig=kubeconfig)


def test_the_audit_log_counts_requests(control_plane: ControlPlane) -> None:
    mark = control_plane.audit.mark()
    control_plane.kubectl("get", "configmaps", "-n", "default")
    assert control_plane.audit.count(since=mark, user_agent="kubectl", verb="list", resource="configmaps") == 1
    assert control_plane.audit.count(since=mark, user_agent="kubectl", verb="create") == 0


def test_mutating_admission_policies_are_served(control_plane: ControlPlane) -> None:
    assert "mutatingadmissionpolicies" in control_plane.kubectl("api-resources", "-o", "name")


def test_objects_survive_an_outage_of_the_api_server(control_plane: ControlPlane) -> None:
    with control_plane.namespace("outage") as namespace:
        control_plane.stop_apiserver()
        with pytest.raises(KubectlError):
            control_plane.kubectl("get", "namespace", namespace, "--request-timeout=2s")
        control_plane.start_apiserver()
        assert control_plane.get("namespace", namespace)["metadata"]["name"] == namespace


def test_a_registry_answers_and_keeps_its_content_over_an_outage(registry: Registry) -> None:
    reference = push_empty_artifact(registry, "outage/app")
    registry.stop()
    registry.start()
    name, _, digest = reference.removeprefix(f"{registry.host}/").partition("@")
    request = urllib.request.Request(f"{registry.url}/v2/{name}/manifests/{digest}", headers={"Accept": MANIFEST_TYPE})
    with urllib.request.urlopen(request, timeout=60.0) as answer:
        assert "sha256:" + hashlib.sha256(answer.read()).hexdigest() == digest


def test_only_olareg_has_the_referrers_api(distribution: Registry, olareg: Registry) -> None:
    for registry in (distribution, olareg):
        digest = push_empty_artifact(registry, "referrers/app").partition("@")[2]
        connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60.0)
        connection.request("GET", f"/v2/referrers/app/referrers/{digest}")
        answered = connection.getresponse().status == 200
        connection.close()
        assert answered == registry.referrers_api


def status_and_challenge(registry: Registry, path: str, authorization: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=60.0)
    try:
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("WWW-Authenticate", "")
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_registry_can_ask_for_a_password(start_distribution: StartDistribution) -> None:
    registry = start_distribution(login=BASIC_LOGIN)
    assert status_and_challenge(registry, "/v2/") == (401, 'Basic realm="ocisync-test"')
    right = basic(BASIC_LOGIN.user, BASIC_LOGIN.password)
    assert status_and_challenge(registry, "/v2/", right)[0] == 200
    assert status_and_challenge(registry, "/v2/", basic(BASIC_LOGIN.user, "wrong"))[0] == 401


def test_a_registry_can_ask_for_a_token(start_distribution: StartDistribution, tmp_path: Path) -> None:
    with TokenServer(tmp_path / "tokens", users={"writer": "secret"}) as tokens:
        registry = start_distribution(tokens=tokens)
        status, challenge = status_and_challenge(registry, "/v2/some/app/tags/list")
        assert status == 401
        assert f'Bearer realm="{tokens.realm}"' in challenge
        scope = "repository:some/app:pull"
        request = urllib.request.Request(
            f"{tokens.realm}?service=x&scope={scope}", headers={"Authorization": basic("writer", "secret")}
        )
        with urllib.request.urlopen(request, timeout=60.0) as answer:
            token = json.loads(answer.read())["token"]
        # The token is good, the repository is not there.
        assert status_and_challenge(registry, "/v2/some/app/tags/list", f"Bearer {token}")[0] == 404
        assert status_and_challenge(registry, "/v2/other/app/tags/list", f"Bearer {token}")[0] == 401
        assert [(asked.user, asked.scopes) for asked in tokens.requests] == [("writer", (scope,))]


def test_cosign_signs_and_verifies_offline(cosign: Cosign, registry: Registry, repository: str) -> None:
    reference = push_empty_artifact(registry, repository.removeprefix(f"{registry.host}/"))
    key, stranger = cosign.generate_key_pair(password="secret"), cosign.generate_key_pair()
    cosign.sign(reference, key, annotations={"env": "prod"})
    assert reference.partition("@")[2] in cosign.verify(reference, key.public, annotations={"env": "prod"})
    with pytest.raises(CosignError):
        cosign.verify(reference, stranger.public)
    with pytest.raises(CosignError):
        cosign.verify(reference, key.public, annotations={"env": "dev"})


def test_cosign_signs_and_verifies_the_older_format(cosign: Cosign, registry: Registry, repository: str) -> None:
    reference = push_empty_artifact(registry, repository.removeprefix(f"{registry.host}/"))
    key = cosign.generate_key_pair()
    cosign.sign_legacy(reference, key)
    assert reference.partition("@")[2] in cosign.verify(reference, key.public)
