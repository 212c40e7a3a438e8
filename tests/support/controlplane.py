"""A real Kubernetes control plane of our own: etcd, API server, controller manager, scheduler.

Everything listens on loopback and lives in one folder. There is no kubelet; ``tests.support.kwok``
plays the nodes. The API server has RBAC on, signs ServiceAccount tokens, and writes an audit log.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import pki, requirements
from tests.support.audit import POLICY, AuditLog
from tests.support.cluster import Cluster, write_kubeconfig
from tests.support.process import Server, free_port

START_TIMEOUT_S = 150.0


@dataclass(frozen=True, slots=True)
class Programs:
    """How each part is started. Without controllers, workloads stay as they were applied."""

    etcd: tuple[str, ...]
    apiserver: tuple[str, ...]
    kubectl: tuple[str, ...]
    controller_manager: tuple[str, ...] | None
    scheduler: tuple[str, ...] | None

    @classmethod
    def find(cls) -> Programs:
        """From ``KUBEBUILDER_ASSETS`` when given, else our own build; skips the test without both."""
        assets = requirements.envtest_assets()
        if assets is not None:
            return cls(
                etcd=(str(assets / "etcd"),),
                apiserver=(str(assets / "kube-apiserver"),),
                kubectl=(str(assets / "kubectl"),),
                controller_manager=_optional(assets / "kube-controller-manager"),
                scheduler=_optional(assets / "kube-scheduler"),
            )
        binary = str(requirements.require("controlplane"))
        return cls(
            etcd=(binary, "etcd"),
            apiserver=(binary, "kube-apiserver"),
            kubectl=(binary, "kubectl"),
            controller_manager=(binary, "kube-controller-manager"),
            scheduler=(binary, "kube-scheduler"),
        )


class ControlPlane(Cluster):
    """The control plane's processes and their administrator's kubeconfig.

    ``start`` returns when the API server is ready. ``stop_apiserver`` and ``start_apiserver`` make an
    outage: the same data and the same address before and after it.
    """

    def __init__(self, programs: Programs, directory: Path) -> None:
        super().__init__(directory / "kubeconfig", directory, programs.kubectl)
        self.programs = programs
        self.audit = AuditLog(directory / "audit.log")
        self._authority = pki.Authority("ocisync-test-ca")
        self._etcd_port, self._port = free_port(), free_port()
        self._files = self._write_files()
        self.etcd = Server("etcd", self._etcd_command(), directory)
        self.apiserver = Server("kube-apiserver", self._apiserver_command(), directory)
        self.controllers = self._controllers()

    def start(self) -> None:
        """Starts everything and waits until the API server is ready."""
        try:
            self.etcd.start()
            self.apiserver.start()
            self._wait_ready()
            for server in self.controllers:
                server.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends everything; the data stays in the folder."""
        # Nothing is worth a graceful end here, and the API server takes seconds for one.
        for server in (*reversed(self.controllers), self.apiserver, self.etcd):
            server.kill()

    def stop_apiserver(self) -> None:
        """Begins an outage: connections break, then are refused."""
        self._controllers_sleep()
        self.apiserver.kill()

    def start_apiserver(self) -> None:
        """Ends an outage: same address, same data; returns when it is ready."""
        self.apiserver.start()
        self._wait_ready()
        self._controllers_wake()

    def take_along(self, controller: Server) -> None:
        """Treats one more running process as a controller of this control plane."""
        self.controllers = (*self.controllers, controller)

    def freeze_apiserver(self) -> None:
        """Begins an outage in which connections stay open and nothing is answered."""
        self._controllers_sleep()
        self.apiserver.freeze()

    def thaw_apiserver(self) -> None:
        """Ends that outage."""
        self.apiserver.thaw()
        self._controllers_wake()

    def _controllers_sleep(self) -> None:
        """Controllers know of no outage.

        They would come back by pauses that double: measured, a Deployment took 55 s to be available after 20 s of
        outage, in the tests that follow, too, and none of them is about that.
        """
        for server in self.controllers:
            if server.running:
                server.freeze()

    def _controllers_wake(self) -> None:
        for server in self.controllers:
            if server.running:
                server.thaw()

    def compact(self) -> int:
        """Make etcd forget its history up to now; the revision. Watches from before it must list again."""
        revision = int(self._ask_etcd("range", {"key": "AA=="})["header"]["revision"])
        self._ask_etcd("compaction", {"revision": str(revision), "physical": True})
        return revision

    def _ask_etcd(self, what: str, body: dict[str, object]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=10.0)
        try:
            connection.request("POST", f"/v3/kv/{what}", body=json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == 200 or "required revision has been compacted" in text, text
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    def kubeconfig_for_user(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a client certificate for any user and groups."""
        path = self.directory / f"kubeconfig-user-{user.replace(':', '-').replace('/', '-')}"
        return self._client_kubeconfig(path, user, groups)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def authority(self) -> bytes:
        """The CA certificate of the API server, PEM."""
        return self._authority.certificate

    def _wait_ready(self) -> None:
        context = ssl.create_default_context(cadata=self.authority.decode())

        def ready() -> bool:
            connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=2.0, context=context)
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
            finally:
                connection.close()

        self.apiserver.wait_until(ready, START_TIMEOUT_S, "the API server is ready")

    def _write_files(self) -> dict[str, Path]:
        folder = self.directory / "pki"
        folder.mkdir(parents=True)
        authority = folder / "ca.crt"
        authority.write_bytes(self._authority.certificate)
        serving, serving_key = self._authority.server(
            "127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"
        ).write(folder, "apiserver")
        private, public = pki.signing_key_pair()
        account_key, account_public = folder / "sa.key", folder / "sa.pub"
        account_key.touch(mode=0o600)
        account_key.write_bytes(private)
        account_public.write_bytes(public)
        policy = self.directory / "audit-policy.yaml"
        policy.write_text(POLICY)
        self._client_kubeconfig(self.kubeconfig, "test-admin", ["system:masters"])
        # The names that RBAC's built-in roles are bound to.
        managing = self._client_kubeconfig(
            self.directory / "kubeconfig-controller-manager", "system:kube-controller-manager"
        )
        scheduling = self._client_kubeconfig(self.directory / "kubeconfig-scheduler", "system:kube-scheduler")
        return {
            "authority": authority, "serving": serving, "serving_key": serving_key,
            "account_key": account_key, "account_public": account_public, "policy": policy,
            "controller_manager": managing, "scheduler": scheduling,
        }  # fmt: skip

    def _client_kubeconfig(self, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
        pair = self._authority.client(user, groups)
        entry = {
            "client-certificate-data": base64.b64encode(pair.certificate).decode(),
            "client-key-data": base64.b64encode(pair.key).decode(),
        }
        return write_kubeconfig(path, self.server, self.authority, entry)

    def _etcd_command(self) -> list[str]:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{free_port()}"
        return [
            *self.programs.etcd,
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # the data outlives a killed process, not a crashed machine
            "--log-level=warn",
        ]

    def _apiserver_command(self) -> list[str]:
        files = self._files
        return [
            *self.programs.apiserver,
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            # Endpoints may not be loopback addresses, and nothing here needs the kubernetes Service.
            "--advertise-address=10.0.1.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={files['authority']}",
            f"--tls-cert-file={files['serving']}",
            f"--tls-private-key-file={files['serving_key']}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={files['account_key']}",
            f"--service-account-key-file={files['account_public']}",
            f"--audit-policy-file={files['policy']}",
            f"--audit-log-path={self.audit.path}",
            "--audit-log-maxsize=100000",  # never begun anew at 100 MB: marks are places in this file
            "--audit-log-mode=blocking",
            "--allow-privileged=true",
            "--profiling=false",
        ]

    def _controllers(self) -> tuple[Server, ...]:
        servers = []
        if self.programs.controller_manager is not None:
            command = [
                *self.programs.controller_manager,
                f"--kubeconfig={self._files['controller_manager']}",
                f"--service-account-private-key-file={self._files['account_key']}",
                f"--root-ca-file={self._files['authority']}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
                # The defaults make the removal of a namespace take many seconds.
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
                "--concurrent-namespace-syncs=10",
                # kwok renews a node's lease every 50 to 52 s and the default patience is 50 s: nodes, and with them
                # every Deployment, would be lost for a moment at any time, and for good after an outage.
                "--node-monitor-grace-period=1h",
            ]
            servers.append(Server("kube-controller-manager", command, self.directory))
        if self.programs.scheduler is not None:
            command = [
                *self.programs.scheduler,
                f"--kubeconfig={self._files['scheduler']}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
            ]
            servers.append(Server("kube-scheduler", command, self.directory))
        return tuple(servers)


def _optional(path: Path) -> tuple[str, ...] | None:
    return (str(path),) if path.exists() else None
