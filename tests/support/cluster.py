"""A Kubernetes cluster that tests reach through a kubeconfig, whoever runs it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.process import clean_environment


class KubectlError(AssertionError):
    """kubectl ended with an error; the message has what it wrote."""


class Cluster:
    """A kubeconfig, the real kubectl, and namespaces to work in."""

    def __init__(self, kubeconfig: Path, kubectl: Sequence[str], directory: Path) -> None:
        self.kubeconfig = kubeconfig
        self.directory = directory
        self._kubectl = tuple(kubectl)

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        """Runs kubectl as the administrator (or with another kubeconfig); returns its standard output.

        Raises:
            KubectlError: It ended with an error.
        """
        command = [*self._kubectl, "--kubeconfig", str(kubeconfig or self.kubeconfig), *arguments]
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
        self.kubectl("create", "-f", "-", stdin=json.dumps(namespace))
        return name

    def delete_namespace(self, name: str) -> None:
        """Asks for the end of a namespace and does not wait for it."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test", labels: Mapping[str, str] | None = None) -> Iterator[str]:
        """A namespace of its own for a block."""
        name = self.new_namespace(prefix, labels)
        try:
            yield name
        finally:
            self.delete_namespace(name)

    def token_for(self, namespace: str, service_account: str, duration: str = "1h") -> str:
        """A bound token of an existing ServiceAccount, as a TokenRequest gives it to a pod."""
        return self.kubectl("create", "token", service_account, "-n", namespace, "--duration", duration).strip()

    def kubeconfig_for(self, namespace: str, service_account: str, duration: str = "1h") -> Path:
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
        config = yaml.safe_load(self.kubeconfig.read_text())
        contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
        clusters = {entry["name"]: entry["cluster"] for entry in config["clusters"]}
        chosen: dict[str, Any] = clusters[contexts[config["current-context"]]["cluster"]]
        return chosen


class ExistingCluster(Cluster):
    """A cluster given by the person who runs the tests; nothing about it is started or stopped."""


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
