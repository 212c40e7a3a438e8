"""`ocisync push` as CI runs it, to registries that want something: tokens, passwords, certificates, patience.

distribution checks signed tokens, passwords and client certificates itself. olareg has no logins of its own, so a gate
in front of it asks for them (`tests/support/gate.py`). Each case ends with `ocisync verify`, and one for each registry
with the real cosign.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ocisync.sandbox.registryauth import Account, Auth
from ocisync.signing import keys
from tests.support.bearer import TokenServer
from tests.support.cosign import Cosign
from tests.support.gate import Cut, Gate
from tests.support.gitrepo import GitRepo
from tests.support.pki import Authority
from tests.support.process import clean_environment
from tests.support.proxy import Proxy
from tests.support.registries import BASIC_LOGIN, Distribution, Olareg, Registry, Tls
from tests.support.requirements import require
from tests.support.waiting import eventually

SECRET = "correct-horse-battery"
REPOSITORY = "shop/config"
BODY_LIMIT = 9 * 1024 * 1024  # of the gate: so that large layers go in chunks of 8 MiB


@dataclass
class Pusher:
    """A repository with something to push, a key, and a home with logins."""

    home: Path
    repo: GitRepo
    key: Path
    public: Path
    environ: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ocisync", *arguments]

    def environment(self) -> dict[str, str]:
        return clean_environment(self.home, OCISYNC_KEY_PASSWORD="", PYTHONPATH=str(Path.cwd()), **self.environ)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.repo.path,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert SECRET not in out + err
        return out

    def push(self, host: str, *flags: str) -> dict[str, object]:
        """Push, then verify with ocisync; what the push said."""
        reference = f"oci://{host}/{REPOSITORY}:1.0.0"
        said: dict[str, object] = json.loads(
            self.run("push", "deploy", reference, "--sign-key", str(self.key), "-o", "json", *flags)
        )
        assert json.loads(self.run("verify", reference, "--key", str(self.public), "-o", "json", *flags))["allowed"]
        return said

    def log_in(self, host: str, login: Mapping[str, str]) -> None:
        config = self.home / "config.json"
        config.write_text(json.dumps({"auths": {host: login}}))
        self.environ["DOCKER_CONFIG"] = str(self.home)


@pytest.fixture
def pusher(tmp_path: Path) -> Pusher:
    home = tmp_path / "home"
    home.mkdir()
    repo = GitRepo(tmp_path / "repo")
    repo.commit({"deploy/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\n"})
    signer = keys.generate("ecdsa-p256")
    key, public = home / "release.key", home / "release.pub"
    key.write_bytes(keys.dump_private(signer, password=None))
    public.write_text(signer.public.pem)
    return Pusher(home, repo, key, public)


@contextlib.contextmanager
def running(registry: Registry) -> Iterator[str]:
    registry.start()
    try:
        yield registry.host
    finally:
        registry.stop()


@pytest.fixture
def authority() -> Authority:
    return Authority("site authority")


# -- logins ---------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_distribution_with_signed_tokens(tmp_path: Path, pusher: Pusher, algorithm: str, cosign: Cosign) -> None:
    made = TokenServer(tmp_path / "tokens", {"ci": SECRET}, algorithm=algorithm)  # type: ignore[arg-type]
    with made as tokens, running(Distribution(require("distribution"), tmp_path / "r", tokens=tokens)) as host:
        said = pusher.push(host, "--creds", f"ci:{SECRET}")
        assert {request.user for request in tokens.requests} == {"ci"}
        assert all(len(request.scopes) == 1 for request in tokens.requests)
    # cosign follows no token realm on loopback, so it looks at the same data without logins.
    with running(Distribution(require("distribution"), tmp_path / "r")) as host:
        cosign.verify(f"{host}/{REPOSITORY}@{said['digest']}", pusher.public)


@pytest.mark.real
def test_distribution_with_an_identity_token(tmp_path: Path, pusher: Pusher) -> None:
    made = TokenServer(tmp_path / "tokens", {}, identities={"an-identity-token": "ci"})
    with made as tokens, running(Distribution(require("distribution"), tmp_path / "r", tokens=tokens)) as host:
        pusher.log_in(host, {"identitytoken": "an-identity-token"})
        pusher.push(host)
        assert {request.user for request in tokens.requests} == {"ci"}


@pytest.mark.real
def test_distribution_with_passwords(tmp_path: Path, pusher: Pusher) -> None:
    with running(Distribution(require("distribution"), tmp_path / "r", login=BASIC_LOGIN)) as host:
        pusher.push(host, "--creds", f"{BASIC_LOGIN.user}:{BASIC_LOGIN.password}")
        refused = pusher.start("push", "deploy", f"oci://{host}/{REPOSITORY}:1.0.0")
        assert refused.communicate(timeout=60)[1].count("ocisync login") == 1
        assert refused.returncode == 6


@pytest.mark.real
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_olareg_behind_logins(olareg: Registry, pusher: Pusher, scheme: str, cosign: Cosign) -> None:
    with Gate(olareg.host, auth=Auth({"ci": Account(SECRET)}, scheme=scheme)) as gate:
        said = pusher.push(gate.host, "--creds", f"ci:{SECRET}")
    reference = f"{olareg.host}/{REPOSITORY}@{said['digest']}"
    cosign.verify(reference, pusher.public)


@pytest.mark.real
@pytest.mark.parametrize("registry", ["distribution", "olareg"], indirect=True)
def test_tokens_that_serve_three_requests_are_replaced_all_the_way(registry: Registry, pusher: Pusher) -> None:
    with Gate(registry.host, auth=Auth({"ci": Account(SECRET)}, scheme="bearer"), token_uses=3) as gate:
        pusher.push(gate.host, "--creds", f"ci:{SECRET}")
        assert gate.count(path="/token", status=200) >= 4
        # One for each refusal; and each of the two commands asks for the right to write before it is refused.
        assert gate.count(path="/token", status=200) <= gate.count(status=401) + 2


@pytest.mark.real
def test_a_token_that_distribution_lets_expire_in_the_middle_is_replaced(tmp_path: Path, pusher: Pusher) -> None:
    """The registry itself looks at the clock: the upload is held until it refuses the token that began the push."""
    made = TokenServer(tmp_path / "tokens", {"ci": SECRET}, lifetime_s=-54, claimed_s=300)
    with made as tokens, running(Distribution(require("distribution"), tmp_path / "r", tokens=tokens)) as host:
        held: list[str] = []

        def hold(method: str, count: int) -> None:
            if method == "PUT" and not held:
                held.append(tokens.issued[-1])
                eventually(lambda: status_of(host, held[0]) == 401, 60.0, "distribution refuses the token")

        with Gate(host, on_bytes=hold) as gate:
            pusher.log_in(gate.host, {"username": "ci", "password": SECRET})
            said = pusher.push(gate.host)
            assert gate.count(status=401) >= 2  # the first request, and the first with the expired token
        assert held
        assert said["unchanged"] is False


def status_of(host: str, token: str) -> int:
    """What the registry says to this token."""
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("GET", f"/v2/{REPOSITORY}/manifests/1.0.0", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


# -- TLS ------------------------------------------------------------------------------------------


def certificates(tmp_path: Path, authority: Authority) -> tuple[Path, Path, Path]:
    """The server's certificate and key, and the authority's certificate."""
    certificate, key = authority.server("127.0.0.1").write(tmp_path, "server")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(authority.certificate)
    return certificate, key, ca_file


@pytest.mark.real
@pytest.mark.parametrize("kind", [Distribution, Olareg], ids=["distribution", "olareg"])
def test_tls_with_a_private_authority(
    tmp_path: Path, pusher: Pusher, authority: Authority, kind: type[Distribution | Olareg]
) -> None:
    certificate, key, ca_file = certificates(tmp_path, authority)
    registry = kind(require(kind.server), tmp_path / "r", tls=Tls(certificate, key))
    with running(registry) as host:
        pusher.push(host, "--ca-file", str(ca_file))


@pytest.mark.real
def test_client_certificates_with_tokens_over_tls(tmp_path: Path, pusher: Pusher, authority: Authority) -> None:
    certificate, key, ca_file = certificates(tmp_path, authority)
    client, client_key = authority.client("ci").write(tmp_path, "client")
    registry = Distribution(
        require("distribution"), tmp_path / "r", login=BASIC_LOGIN, tls=Tls(certificate, key, ca_file)
    )
    with running(registry) as host:
        creds = ("--creds", f"{BASIC_LOGIN.user}:{BASIC_LOGIN.password}")
        flags = ("--ca-file", str(ca_file), *creds)
        pusher.push(host, *flags, "--cert-file", str(client), "--key-file", str(client_key))
        refused = pusher.start("push", "deploy", f"oci://{host}/{REPOSITORY}:1.0.0", *flags)
        assert "--cert-file" in refused.communicate(timeout=60)[1]
        assert refused.returncode == 6


@pytest.mark.real
def test_a_push_through_a_proxy_with_a_login(tmp_path: Path, pusher: Pusher, authority: Authority) -> None:
    """The registry's name exists only behind the proxy."""
    certificate, key = authority.server("registry.example").write(tmp_path, "server")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(authority.certificate)
    registry = Distribution(require("distribution"), tmp_path / "r", login=BASIC_LOGIN, tls=Tls(certificate, key))
    with running(registry), Proxy({"registry.example:443": registry.port}, login=f"me:{SECRET}") as proxy:
        pusher.environ["HTTPS_PROXY"] = proxy.url(f"me:{SECRET}")
        pusher.log_in("registry.example", {"username": BASIC_LOGIN.user, "password": BASIC_LOGIN.password})
        pusher.push("registry.example", "--ca-file", str(ca_file))
        assert set(proxy.seen) == {"CONNECT registry.example:443"}


# -- kill -9 --------------------------------------------------------------------------------------


class Guillotine:
    """Holds the upload when so many bytes of request bodies have passed, until the client is dead."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.seen = 0
        self.reached = threading.Event()
        self.dead = threading.Event()

    def __call__(self, method: str, count: int) -> None:
        self.seen += count
        if self.seen >= self.place and not self.dead.is_set():
            self.reached.set()
            self.dead.wait(60)
            raise Cut


LARGE = 10 * 1024 * 1024


def places() -> list[int]:
    """Where pushes are killed: the first byte, in each chunk, between chunks, at the end; more with OCISYNC_HEAVY=1."""
    seeded = random.Random(11)
    chunk = 8 * 1024 * 1024
    fixed = [1, chunk // 2, chunk, chunk + 1, LARGE]
    more = 24 if os.environ.get("OCISYNC_HEAVY") == "1" else 1
    return sorted(fixed + [seeded.randrange(LARGE) for _ in range(more)])


@pytest.mark.real
@pytest.mark.parametrize("registry", ["distribution", "olareg"], indirect=True)
def test_a_push_killed_in_the_middle_of_an_upload_is_completed_by_the_next(
    registry: Registry, pusher: Pusher, cosign: Cosign
) -> None:
    """One repository is pushed to again and again, each time killed further on, and at last left alone."""
    pusher.repo.commit({"deploy/large.bin": random.Random(5).randbytes(LARGE)})
    name = f"shop/killed-{secrets.token_hex(4)}"
    killed = sum(_killed_at(place, registry, name, pusher) for place in places())
    assert killed >= 5
    reference = f"{registry.host}/{name}:1.0.0"
    said = json.loads(pusher.run("push", "deploy", f"oci://{reference}", "--sign-key", str(pusher.key), "-o", "json"))
    pusher.run("verify", f"oci://{reference}", "--key", str(pusher.public))
    cosign.verify(f"{registry.host}/{name}@{said['digest']}", pusher.public)


def _killed_at(place: int, registry: Registry, name: str, pusher: Pusher) -> bool:
    """Push, and kill the push when so many bytes have left it; whether it was not over before."""
    guillotine = Guillotine(place)
    with Gate(registry.host, max_body=BODY_LIMIT, on_bytes=guillotine) as gate:
        process = pusher.start("push", "deploy", f"oci://{gate.host}/{name}:1.0.0", "--sign-key", str(pusher.key))
        eventually(lambda: guillotine.reached.is_set() or process.poll() is not None, 60.0, "the place, or the end")
        process.kill()
        process.communicate(timeout=60)
        guillotine.dead.set()
    return process.returncode == -signal.SIGKILL
