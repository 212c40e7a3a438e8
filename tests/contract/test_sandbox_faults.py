"""What only the sandbox does: misbehave on command, count, forget, stop and start; over its own sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ocisync.sandbox import (
    Account,
    ApiServer,
    Auth,
    Corrupt,
    Delay,
    Endless,
    LoseAnswer,
    Registry,
    Reset,
    Sandbox,
    Status,
    Truncate,
)
from tests.contract.rawapi import RawApi
from tests.support.process import free_port
from tests.support.sandboxes import sandbox_command, sandbox_environment
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())
    finally:
        connection.close()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def push(registry: Registry, content: bytes = b"0123456789", repository: str = "app") -> str:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    path = f"/v2/{repository}/blobs/uploads/?{urlencode({'digest': digest})}"
    assert ask(registry.address, "POST", path, content).status == 201
    return digest


@pytest.fixture
def shelf() -> Iterator[Registry]:
    # Stopped, a port that the machine gives to anyone could be taken before the next start.
    with Registry(port=free_port()) as registry:
        yield registry


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(port=free_port()) as made:
        made.write_kubeconfig(tmp_path / "kubeconfig")
        yield made


@pytest.fixture
def wire(server: ApiServer, tmp_path: Path) -> Iterator[RawApi]:
    made = RawApi(tmp_path / "kubeconfig")
    yield made
    made.close()


# -- faults -----------------------------------------------------------------------------------------


def test_a_status_fault_strikes_as_often_as_told(shelf: Registry) -> None:
    fault = shelf.faults.add(r"^/v2/", method="GET", count=2, action=Status(503, {"Retry-After": "1"}, b"busy"))
    replies = [ask(shelf.address, "GET", "/v2/") for _ in range(3)]
    assert [reply.status for reply in replies] == [503, 503, 200]
    assert (replies[0].headers["retry-after"], replies[0].body) == ("1", b"busy")
    assert fault.hits == 2


def test_a_fault_strikes_only_what_it_names(shelf: Registry) -> None:
    shelf.faults.add(r"/manifests/", method="PUT", count=None, action=Status(500))
    assert ask(shelf.address, "GET", "/v2/").status == 200
    assert ask(shelf.address, "GET", "/v2/app/manifests/v1").status == 404


def test_a_truncated_body_ends_early(shelf: Registry) -> None:
    digest = push(shelf)
    shelf.faults.add(r"/blobs/", action=Truncate(after=4))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(shelf.address, "GET", f"/v2/app/blobs/{digest}")
    assert caught.value.partial == b"0123"


def test_a_corrupted_body_differs_in_one_byte(shelf: Registry) -> None:
    digest = push(shelf)
    shelf.faults.add(r"/blobs/", action=Corrupt(offset=3))
    reply = ask(shelf.address, "GET", f"/v2/app/blobs/{digest}")
    assert reply.body == b"012" + bytes([ord("3") ^ 0xFF]) + b"456789"
    assert ask(shelf.address, "GET", f"/v2/app/blobs/{digest}").body == b"0123456789"


def test_a_reset_connection_is_reset(shelf: Registry) -> None:
    shelf.faults.add(r"^/v2/$", action=Reset())
    with pytest.raises(ConnectionResetError):
        ask(shelf.address, "GET", "/v2/")


def test_a_lost_answer_did_its_work(shelf: Registry) -> None:
    shelf.faults.add(r"/uploads/", method="POST", action=LoseAnswer())
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        push(shelf, b"kept")
    digest = "sha256:" + hashlib.sha256(b"kept").hexdigest()
    assert ask(shelf.address, "HEAD", f"/v2/app/blobs/{digest}").status == 200


def test_a_delayed_request_waits_for_its_release(shelf: Registry) -> None:
    held = shelf.faults.add(r"^/v2/$", action=Delay())
    replies: list[int] = []
    asking = threading.Thread(target=lambda: replies.append(ask(shelf.address, "GET", "/v2/").status))
    asking.start()
    eventually(lambda: held.hits == 1)
    assert replies == []
    held.release()
    asking.join(timeout=60)
    assert replies == [200]


def test_an_endless_body_has_no_end(shelf: Registry) -> None:
    digest = push(shelf)
    shelf.faults.add(r"/blobs/", action=Endless(b"x" * 1000))
    connection = http.client.HTTPConnection(shelf.address, timeout=20)
    connection.request("GET", f"/v2/app/blobs/{digest}")
    assert len(connection.getresponse().read(500_000)) == 500_000
    connection.close()


def test_replaced_bytes_are_served_under_the_old_digest(shelf: Registry) -> None:
    digest = push(shelf)
    shelf.replace_blob(digest, b"something else")
    assert ask(shelf.address, "GET", f"/v2/app/blobs/{digest}").body == b"something else"


def test_faults_strike_the_api_server_too(server: ApiServer, wire: RawApi) -> None:
    server.faults.add(r"/configmaps", action=Status(429, {"Retry-After": "2"}))
    assert wire.get("/api/v1/configmaps").status == 429
    assert wire.get("/api/v1/configmaps").status == 200


# -- logins -----------------------------------------------------------------------------------------


def test_basic_login_is_asked_for_and_checked() -> None:
    with Registry(auth=Auth({"ci": Account("secret")})) as registry:
        refused = ask(registry.address, "GET", "/v2/")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="ocisync-sandbox"')
        assert ask(registry.address, "GET", "/v2/", headers=basic("ci", "wrong")).status == 401
        assert ask(registry.address, "GET", "/v2/", headers=basic("ci", "secret")).status == 200


def test_an_account_may_only_do_what_it_may() -> None:
    accounts = {"reader": Account("r", actions=("pull",), repositories=("shop/*",))}
    with Registry(auth=Auth(accounts)) as registry:
        login = basic("reader", "r")
        assert ask(registry.address, "GET", "/v2/shop/app/tags/list", headers=login).status == 404
        assert ask(registry.address, "POST", "/v2/shop/app/blobs/uploads/", b"", login).status == 403
        assert ask(registry.address, "GET", "/v2/other/tags/list", headers=login).status == 403


def token_for(registry: Registry, scope: str, headers: Mapping[str, str]) -> str:
    query = urlencode({"service": "ocisync-sandbox", "scope": scope})
    reply = ask(registry.address, "GET", f"/token?{query}", headers=headers)
    return str(json.loads(reply.body)["token"])


def test_bearer_tokens_are_bound_to_their_scope_and_expire() -> None:
    now = [0.0]
    auth = Auth({"ci": Account("secret")}, scheme="bearer", token_ttl_s=60, clock=lambda: now[0])
    with Registry(auth=auth) as registry:
        refused = ask(registry.address, "GET", "/v2/app/tags/list")
        challenge = refused.headers["www-authenticate"]
        assert challenge.startswith(f'Bearer realm="http://{registry.address}/token"')
        assert 'scope="repository:app:pull"' in challenge
        token = token_for(registry, "repository:app:pull", basic("ci", "secret"))
        carried = {"Authorization": f"Bearer {token}"}
        assert ask(registry.address, "GET", "/v2/app/tags/list", headers=carried).status == 404
        other = ask(registry.address, "GET", "/v2/other/tags/list", headers=carried)
        assert (other.status, 'error="insufficient_scope"' in other.headers["www-authenticate"]) == (401, True)
        now[0] = 61.0
        late = ask(registry.address, "GET", "/v2/app/tags/list", headers=carried)
        assert (late.status, 'error="invalid_token"' in late.headers["www-authenticate"]) == (401, True)


def test_a_wrong_password_gets_no_token_and_anonymous_gets_pull_only() -> None:
    auth = Auth({"ci": Account("secret")}, scheme="bearer", anonymous_pull=True)
    with Registry(auth=auth) as registry:
        assert ask(registry.address, "GET", "/token?scope=repository:app:pull", headers=basic("ci", "no")).status == 401
        token = token_for(registry, "repository:app:pull,push", {})
        carried = {"Authorization": f"Bearer {token}"}
        assert ask(registry.address, "GET", "/v2/app/tags/list", headers=carried).status == 404
        assert ask(registry.address, "POST", "/v2/app/blobs/uploads/", b"", carried).status == 401


def test_an_identity_token_is_exchanged_for_a_token() -> None:
    with Registry(auth=Auth({"ci": Account("secret")}, scheme="bearer")) as registry:
        form = {"grant_type": "password", "username": "ci", "password": "secret", "access_type": "offline"}
        first = json.loads(ask(registry.address, "POST", "/token", urlencode(form).encode()).body)
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "scope": "repository:app:pull"}
        second = json.loads(ask(registry.address, "POST", "/token", urlencode(form).encode()).body)
        carried = {"Authorization": f"Bearer {second['access_token']}"}
        assert ask(registry.address, "GET", "/v2/app/tags/list", headers=carried).status == 404


# -- outages and restarts ---------------------------------------------------------------------------


def test_the_registry_comes_back_on_its_port_with_its_content(shelf: Registry) -> None:
    digest = push(shelf)
    address = shelf.address
    shelf.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(address, "GET", "/v2/")
    shelf.start()
    assert shelf.address == address
    assert ask(address, "HEAD", f"/v2/app/blobs/{digest}").status == 200


def test_a_directory_survives_the_server(tmp_path: Path) -> None:
    with Registry(directory=tmp_path) as first:
        digest = push(first)
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 10}
        manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
        kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        assert ask(first.address, "PUT", "/v2/app/manifests/v1", manifest, kind).status == 201
    with Registry(directory=tmp_path) as second:
        assert ask(second.address, "GET", "/v2/app/manifests/v1").body == manifest
        assert ask(second.address, "GET", f"/v2/app/blobs/{digest}").body == b"0123456789"
        second.reset()
    assert Registry(directory=tmp_path).tags("app") == {}


def test_a_registry_without_referrers_has_no_such_path() -> None:
    with Registry(referrers=False) as registry:
        digest = push(registry)
        assert ask(registry.address, "GET", f"/v2/app/referrers/{digest}").status == 404


def test_an_outage_cuts_watches_and_keeps_objects(server: ApiServer, wire: RawApi) -> None:
    wire.request("POST", "/api/v1/namespaces", {"metadata": {"name": "kept"}}).ok()
    events = wire.lines("/api/v1/namespaces?watch=1")
    assert next(events)["type"] == "ADDED"
    server.stop()
    with contextlib.suppress(ConnectionError, http.client.HTTPException):
        assert len(list(events)) < 100  # the stream ends, cleanly or not
    server.start()
    wire.close()
    assert wire.get("/api/v1/namespaces/kept").status == 200


def test_forgotten_history_ends_a_watch_with_410(server: ApiServer, wire: RawApi) -> None:
    start = wire.get("/api/v1/namespaces").ok()["metadata"]["resourceVersion"]
    wire.request("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}}).ok()
    server.forget_history()
    event = next(wire.lines(f"/api/v1/namespaces?watch=1&resourceVersion={start}"))
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_reset_is_a_new_cluster(server: ApiServer, wire: RawApi) -> None:
    wire.request("POST", "/api/v1/namespaces", {"metadata": {"name": "old"}}).ok()
    server.reset()
    assert wire.get("/api/v1/namespaces/old").status == 404
    assert wire.get("/api/v1/namespaces/default").status == 200


# -- counting ---------------------------------------------------------------------------------------


def test_requests_are_counted_by_who_asked_for_what(server: ApiServer, wire: RawApi) -> None:
    server.requests.clear()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    path = "/api/v1/namespaces/default/configmaps/a?fieldManager=ocisync"
    kind = "application/apply-patch+yaml"
    wire.request("PATCH", path, body, content_type=kind, headers={"Impersonate-User": "someone"}).ok()
    wire.get("/api/v1/namespaces/default/configmaps").ok()
    requests = server.requests
    assert requests.count(verb="apply", resource="configmaps", user="someone", user_agent="contract-test") == 1
    assert requests.count(verb="list", resource="configmaps") == 1
    assert requests.count(method="GET", user_agent="somebody else") == 0
    last = requests.entries()[0]
    assert (last.namespace, last.name, last.status) == ("default", "a", 201)


def test_the_counters_can_be_had_over_http(shelf: Registry) -> None:
    ask(shelf.address, "GET", "/v2/", headers={"User-Agent": "someone/1"})
    shown = json.loads(ask(shelf.address, "GET", "/_sandbox/requests").body)
    row: dict[str, Any] = {"method": "GET", "verb": "", "resource": "base", "userAgent": "someone/1", "user": ""}
    assert shown["requests"] == [row | {"status": 200, "count": 1}]


def test_reset_requests_are_counted(shelf: Registry) -> None:
    shelf.faults.add(r"^/v2/$", action=Reset())
    with pytest.raises(ConnectionResetError):
        ask(shelf.address, "GET", "/v2/")
    assert shelf.requests.count(method="GET", status=0) == 1


# -- both together ----------------------------------------------------------------------------------


def test_both_servers_run_in_one_process(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as sandbox:
        assert ask(sandbox.registry.address, "GET", "/v2/").status == 200
        api = RawApi(sandbox.kubeconfig)
        assert api.get("/version").status == 200
        api.close()
        assert sandbox.apiserver.settle(60)


def test_the_program_says_where_it_listens_and_stops_when_asked(tmp_path: Path) -> None:
    command = sandbox_command(tmp_path, "--no-referrers")
    environment = sandbox_environment(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["pid"] == process.pid
        assert said["kubeconfig"] == str(tmp_path / "kubeconfig")
        assert ask(said["registry"], "GET", "/v2/").status == 200
        assert ask(said["apiserver"].removeprefix("http://"), "GET", "/readyz").body == b"ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_the_program_has_help() -> None:
    command = [sys.executable, "-m", "ocisync.sandbox", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--no-referrers" in shown
    assert "example:" in shown


def test_a_thousand_objects_are_listed_and_watched(server: ApiServer, wire: RawApi) -> None:
    maps = "/api/v1/namespaces/default/configmaps"
    for number in range(1000):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"n{number}", "labels": {"many": "yes"}}}
        assert wire.apply(f"{maps}/n{number}", body).status == 201
    assert len(wire.get(f"{maps}?labelSelector=many").ok()["items"]) == 1000
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = list(islice(wire.lines(f"{maps}?{query}&labelSelector=many"), 1001))
    assert events[-1]["type"] == "BOOKMARK"
    assert server.requests.count(verb="apply", resource="configmaps") == 1000
