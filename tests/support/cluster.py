"""A Kubernetes cluster that tests reach through a kubeconfig, whoever runs it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import secrets
import shutil
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.servers import build
from tests.support import requirements
from tests.support.process import clean_environment


class KubectlError(AssertionError):
    """kubectl ended with an error; the message has what it wrote."""


class ApiError(AssertionError):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """A kubeconfig, the real kubectl, and namespaces to work in."""

    def __init__(self, kubeconfig: Path, directory: Path, kubectl: Sequence[str] = ()) -> None:
        self.kubeconfig = kubeconfig
        self.directory = directory
        self._kubectl = tuple(kubectl)
        # Reading YAML and certificates costs ten times as much as a request.
        self._parsed: tuple[int, dict[str, Any]] = (0, {})
        self._contexts: dict[bytes, ssl.SSLContext] = {}

    def api(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = 60.0,
    ) -> dict[str, Any]:
        """One request as the administrator, without the product's client and without kubectl's start-up.

        Raises:
            ApiError: The answer is an error (status ≥ 400).
        """
        connection = self._connection(timeout_s)
        try:
            content = json.dumps(body).encode() if body is not None else None
            headers = {"Accept": "application/json", "User-Agent": "ocisync-test", **self._authorization()}
            if content is not None:
                headers["Content-Type"] = content_type
            connection.request(method, path, body=content, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path} → {answer.status}: {text}")
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 180.0,
    ) -> str:
        """Runs kubectl as the administrator (or with another kubeconfig); returns its standard output.

        Raises:
            KubectlError: It ended with an error.
        """
        command = [*(self._kubectl or find_kubectl()), "--kubeconfig", str(kubeconfig or self.kubeconfig), *arguments]
        result = subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**clean_environment(self.directory), **(environment or {})},
        )
        if result.returncode != 0:
            shown = " ".join(arguments)
            raise KubectlError(f"kubectl {shown} → {result.returncode}: {result.stderr}{result.stdout}")
        return result.stdout

    def get(self, *arguments: str, namespace: str | None = None) -> dict[str, Any]:
        """What ``kubectl get ARGUMENTS -o json`` shows, parsed."""
        scope = ("-n", namespace) if namespace else ()
        parsed: dict[str, Any] = json.loads(self.kubectl("get", *arguments, *scope, "-o", "json"))
        return parsed

    def apply(self, manifests: str, *arguments: str) -> str:
        """``kubectl apply --server-side`` of YAML text."""
        return self.kubectl("apply", "--server-side", *arguments, "-f", "-", stdin=manifests)

    def new_namespace(self, prefix: str = "test", labels: Mapping[str, str] | None = None) -> str:
        """Creates a namespace of a fresh name and returns it."""
        name = f"{_label(prefix)[:40].rstrip('-')}-{secrets.token_hex(4)}"
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": dict(labels or {})},
        }
        self.api("POST", "/api/v1/namespaces", namespace)
        return name

    def delete_namespace(self, name: str) -> None:
        """Asks for the end of a namespace and does not wait for it."""
        try:
            self.api("DELETE", f"/api/v1/namespaces/{name}")
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or going
                raise

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test", labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """A namespace of its own for a block."""
        name = self.new_namespace(prefix, labels)
        try:
            yield name
        finally:
            self.delete_namespace(name)

    def token_for(self, namespace: str, service_account: str, duration: str = "24h") -> str:
        """A bound token of an existing ServiceAccount, as a TokenRequest gives it to a pod; outlives any test run."""
        return self.kubectl("create", "token", service_account, "-n", namespace, "--duration", duration).strip()

    def kubeconfig_for(self, namespace: str, service_account: str, duration: str = "24h") -> Path:
        """A kubeconfig that acts as an existing ServiceAccount, in its namespace."""
        token = self.token_for(namespace, service_account, duration)
        user = {"token": token}
        path = self.directory / f"kubeconfig-{namespace}-{service_account}-{secrets.token_hex(2)}"
        return write_kubeconfig(path, self.server, self.authority, user, namespace)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self._cluster_entry()["server"])

    @property
    def authority(self) -> bytes:
        """The CA certificate of the API server, PEM."""
        entry = self._cluster_entry()
        if "certificate-authority" in entry:
            path: str = entry["certificate-authority"]  # relative to the kubeconfig
            return (self.kubeconfig.parent / path).read_bytes()
        return base64.b64decode(entry["certificate-authority-data"])

    def _cluster_entry(self) -> dict[str, Any]:
        return self._entry("cluster")

    def _entry(self, kind: str) -> dict[str, Any]:
        """The ``cluster`` or the ``user`` of the current context."""
        written = self.kubeconfig.stat().st_mtime_ns
        if self._parsed[0] != written:
            text = self.kubeconfig.read_text()
            self._parsed = (written, yaml.safe_load(text))
        config = self._parsed[1]
        contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
        entries = {entry["name"]: entry[kind] for entry in config[f"{kind}s"]}
        chosen: dict[str, Any] = entries[contexts[config["current-context"]][kind]]
        return chosen

    def _authorization(self) -> dict[str, str]:
        user = self._entry("user")
        if "exec" in user or "auth-provider" in user:
            how = "give a kubeconfig whose user has a client certificate or a token"
            requirements.missing("a kubeconfig without login programs", how)
        return {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        server = urllib.parse.urlsplit(self.server)
        assert server.hostname, f"no host in {self.server}"
        if server.scheme == "http":
            return http.client.HTTPConnection(server.hostname, server.port, timeout=timeout_s)
        authority = self.authority
        context = self._contexts.get(authority)
        if context is None:
            context = ssl.create_default_context(cadata=authority.decode())
            user = self._entry("user")
            if {"client-certificate", "client-certificate-data"} & user.keys():
                context.load_cert_chain(self._file(user, "client-certificate"), self._file(user, "client-key"))
            self._contexts[authority] = context
        return http.client.HTTPSConnection(server.hostname, server.port, timeout=timeout_s, context=context)

    def _file(self, user: Mapping[str, str], part: str) -> Path:
        """A file with what the kubeconfig has in itself or in a file."""
        if part in user:
            return self.kubeconfig.parent / user[part]
        path = self.directory / f"admin-{part}.pem"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(user[f"{part}-data"]))
        return path


class ExistingCluster(Cluster):
    """A cluster given by the person who runs the tests; nothing about it is started or stopped."""


def find_kubectl() -> tuple[str, ...]:
    """The command of a kubectl: ours, the one of envtest, or the one on PATH; without any, skips."""
    assets = requirements.envtest_assets()
    if assets is not None and (assets / "kubectl").exists():
        return (str(assets / "kubectl"),)
    binary = build.find("controlplane")
    if binary is not None:
        return (str(binary), "kubectl")
    on_path = shutil.which("kubectl")
    if on_path is None:
        requirements.missing("kubectl", f"install kubectl, or {build.how_to_get('controlplane')}")
    return (on_path,)


def write_kubeconfig(
    path: Path, server: str, authority: bytes, user: Mapping[str, str], namespace: str = "default"
) -> Path:
    """Writes a kubeconfig with one context; the file is for its owner only."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "test",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority).decode(),
                },
            }
        ],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return path


def _label(text: str) -> str:
    """Text as a part of an RFC 1123 label; never empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "test"
