"""Push, verify and reconcile in a network namespace that has nothing but loopback; what happened, as JSON on stdout.

    unshare --net python -m tests.support.offlineinside DIRECTORY DISTRIBUTION

The kernel counts for the namespace alone: connections opened, datagrams sent, packets without a route. So a look-up
of a name, a refresh of a trusted root or a call home would show, whatever made it.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from ocisync.cli.app import run
from ocisync.install import bundle
from ocisync.install.rbac import Access
from ocisync.install.workload import Workload
from ocisync.signing.keys import dump_private
from tests.support.agent import AgentProcess, Installation, Tenant, apply, config_map
from tests.support.gitrepo import GitRepo
from tests.support.minisigstore import GITHUB, WORKFLOW, MiniSigstore, Wish
from tests.support.registries import Distribution
from tests.support.sandboxes import SandboxCluster
from tests.support.signedrepository import SignedRepository
from tests.support.sigstoreinside import loopback_up
from tests.support.trust import signer

_IMAGE = "registry.example/ocisync@sha256:" + "0" * 64


class Counters:
    """What the kernel has counted in this namespace."""

    def __init__(self) -> None:
        rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
        self._values = {
            (names[0], name): int(value)
            for names, values in zip(rows[::2], rows[1::2], strict=True)
            for name, value in zip(names[1:], values[1:], strict=True)
        }
        devices = [line.partition(":") for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
        self.interfaces = {name.strip(): int(rest.split()[9]) for name, _, rest in devices}

    @property
    def connections(self) -> int:
        """Opened by anyone here."""
        return self._values["Tcp:", "ActiveOpens"]

    @property
    def datagrams(self) -> int:
        """Sent, also to a name server that is not there."""
        return self._values["Udp:", "OutDatagrams"]

    @property
    def without_route(self) -> int:
        """Packets that somebody wanted to send out of here."""
        return self._values["Ip:", "OutNoRoutes"]

    @property
    def packets(self) -> int:
        """Sent on any interface."""
        return sum(self.interfaces.values())


class SandboxInstallation(Installation):
    """The custom resources in a sandbox, whose kubeconfig may do anything."""

    def __init__(self, cluster: SandboxCluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.namespace = cluster.new_namespace("ocisync-system")
        self.kubeconfig = cluster.kubeconfig
        objects = bundle.installation(Workload(image=_IMAGE, namespace=self.namespace), Access())
        apply(cluster, [item for item in objects if item["kind"] == "CustomResourceDefinition"])


class Listener:
    """Counts who calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.calls += 1
            connection.close()


def measured(*arguments: str) -> dict[str, Any]:
    """Run a command in this process; its exit code and what went over the network meanwhile."""
    before, out, err = Counters(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    after = Counters()
    return {
        "code": code,
        "text": out.getvalue() + err.getvalue(),
        "connections": after.connections - before.connections,
        "packets": after.packets - before.packets,
    }


@contextlib.contextmanager
def serving(directory: Path, binary: Path) -> Iterator[Distribution]:
    """distribution, in the namespace."""
    registry = Distribution(binary, directory / "registry")
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


def policy_for(repository: str, public_pem: str, **rules: object) -> dict[str, Any]:
    """A policy about one repository, with one key."""
    return {
        "apiVersion": "ocisync.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": "shop"},
        "spec": {
            "match": [{"repository": repository}],
            "authorities": [{"name": "ci", "key": {"pem": public_pem}}],
            "threshold": 1,
            **rules,
        },
    }


def without_policy(directory: Path, listener: Listener) -> dict[str, Any]:
    """Verify what no policy is about, while nothing else here has ever had a connection: a closed one still sends."""
    policy = directory / "elsewhere.yaml"
    policy.write_text(yaml.safe_dump(policy_for("registry.example/shop/config", signer("ci").public.pem)))
    return measured("verify", f"oci://{listener.address}/shop/config:production", "--policy", str(policy))


def commands(directory: Path, registry: Distribution) -> dict[str, Any]:
    """Push once, verify in every way."""
    key, sigstore = signer("ci"), MiniSigstore()
    for name, data in (
        ("k.key", dump_private(key, password=None)),
        ("k.pub", key.public.pem.encode()),
        ("root.json", sigstore.root_bytes()),
    ):
        (directory / name).write_bytes(data)
    git = GitRepo(directory / "repo")
    git.commit({"settings.yaml": yaml.safe_dump(config_map("settings", version="1"))})
    place = f"{registry.host}/shop/config"
    reference = f"oci://{place}:production"
    push = ("push", str(git.path), reference, "--sign-key", str(directory / "k.key"), "--legacy-signature")
    for name, rules in (("policy.yaml", {}), ("legacy.yaml", {"formats": ["Legacy"]})):
        (directory / name).write_text(yaml.safe_dump(policy_for(place, key.public.pem, **rules)))
    found = {"push": measured(*push)}
    for name, flags in (
        ("key", ("--key", str(directory / "k.pub"))),
        ("policy", ("--policy", str(directory / "policy.yaml"))),
        ("legacy", ("--policy", str(directory / "legacy.yaml"))),
    ):
        found[name] = measured("verify", reference, *flags)
    repository = SignedRepository(place)
    subject = repository.store.resolve("production")
    assert subject is not None
    now = datetime.now(UTC)
    wish = Wish(signed_at=now - timedelta(minutes=1))
    claims = repository.claims(sequence=str(int(now.timestamp())), signed=str(int(now.timestamp())))
    repository.attach_bundle(subject, sigstore.sign(subject.digest, claims, wish).payload)
    identity = ("--certificate-identity", WORKFLOW, "--certificate-oidc-issuer", GITHUB)
    found["keyless"] = measured("verify", reference, *identity, "--trusted-root", str(directory / "root.json"))
    return found


def agent(directory: Path, registry: Distribution, listener: Listener) -> dict[str, Any]:
    """An agent with a sync that is trusted and one that no policy is about."""
    (directory / "cluster").mkdir()
    cluster = SandboxCluster(directory / "cluster")
    cluster.start()
    process: AgentProcess | None = None
    try:
        installation = SandboxInstallation(cluster, directory)
        namespace = cluster.new_namespace("apps")
        tenant = Tenant(installation, namespace, f"{registry.host}/shop/agent")
        tenant.prepare()
        built = tenant.push({"settings.yaml": config_map("settings", version="1")})
        home = directory / "agent-home"
        home.mkdir()
        process = installation.agent(directory / "agent", home=home)
        tenant.write_sync()
        stranger = Tenant(installation, namespace, f"{listener.address}/shop/config", name="stranger")
        stranger.write_sync()
        process.start()
        status = tenant.wait_ready(built.descriptor.digest)
        refused = stranger.wait_condition("Verified", "False", "NoPolicy")
        stranger.ask()
        tenant.ask()
        process.assert_sound()
        return {
            "signers": status["applied"]["signers"],
            "refused": refused["message"],
            "home": [path.name for path in home.iterdir()],
        }
    finally:
        if process is not None:
            process.stop()
        cluster.stop()


def main() -> None:
    """Everything, in order."""
    directory, binary = Path(sys.argv[1]), Path(sys.argv[2])
    loopback_up()
    listener = Listener()
    found: dict[str, Any] = {"routes": Path("/proc/net/route").read_text().splitlines()[1:]}
    found["no policy"] = without_policy(directory, listener)
    with serving(directory, binary) as registry:
        found["commands"] = commands(directory, registry)
        found["agent"] = agent(directory, registry, listener)
    after = Counters()
    found |= {
        "interfaces": list(after.interfaces),
        "without route": after.without_route,
        "datagrams": after.datagrams,
        "calls to the stranger": listener.calls,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
