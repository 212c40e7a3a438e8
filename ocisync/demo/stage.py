"""What the story plays on: a sandbox, an agent, a Git repository, and the product's own command line, as processes.

Everything is what a user has: commands run as `python -m ocisync …`, the agent is `ocisync agent`, the API is spoken to
over its socket. Nothing reaches into the product's memory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ocisync.cluster.client import Cluster, connect
from ocisync.cluster.discovery import Discovery
from ocisync.model.errors import NotFound, OcisyncError, Unavailable
from ocisync.model.resource import JsonObject

AGENT_NAMESPACE = "ocisync-system"
SYNC_NAMESPACE = "apps"
SYNC_NAME = "shop"
_PAUSE_S = 0.02
_LONGEST_S = 120.0  # for anything that a step waits for, on a busy machine


class DemoFailed(OcisyncError):
    """A step did not show what it promised."""

    default_reason = "DemoFailed"


@dataclass(frozen=True, slots=True)
class Ran:
    """One finished command."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float


def shop_directory() -> Path:
    """The manifests of the demo's product.

    Raises:
        NotFound: this installation has no example files.
    """
    directory = Path(__file__).parent / "shop" / "environments" / "production"
    if not directory.is_dir():
        raise NotFound(
            "this installation of ocisync has no example files", hint="run ./examples/quickstart.sh in a checkout"
        )
    return directory


class Stage:
    """Owns a directory and every process in it. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository_directory = directory / "git"
        self.key = directory / "release.key"
        self.public_key = directory / "release.pub"
        self.kubeconfig = directory / "sandbox" / "kubeconfig"
        self.registry = ""
        self._ports = ("0", "0")
        self._sandbox: subprocess.Popen[bytes] | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        self._cluster: Cluster | None = None
        self._discovery: Discovery | None = None
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("GIT_", "OCISYNC_", "KUBE", "COSIGN_"))
            },
            "HOME": str(directory),  # neither the user's logins nor the user's Git settings take part
            "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_agent()
        self.stop_sandbox()

    # -- processes --------------------------------------------------------------------------------

    @property
    def oci_repository(self) -> str:
        """Where the product is published."""
        return f"{self.registry}/shop/config/production"

    @property
    def cluster(self) -> Cluster:
        """The sandbox's Kubernetes API."""
        if self._cluster is None:
            self._cluster = connect(str(self.kubeconfig), user_agent="ocisync-demo")
        return self._cluster

    @property
    def discovery(self) -> Discovery:
        """Kinds that the API serves."""
        if self._discovery is None:
            self._discovery = Discovery(self.cluster)
        return self._discovery

    def start_sandbox(self) -> None:
        """Start the sandbox, on the ports of its first start."""
        log = (self.directory / "sandbox.log").open("ab")
        arguments = [
            "sandbox",
            "--dir",
            str(self.directory / "sandbox"),
            "--registry-port",
            self._ports[0],
            "--api-port",
            self._ports[1],
        ]
        self._sandbox = self._spawn(arguments, stdout=subprocess.PIPE, stderr=log)
        line = self._sandbox.stdout.readline() if self._sandbox.stdout else b""
        if not line:
            raise Unavailable(f"the sandbox did not start; its log is {self.directory / 'sandbox.log'}")
        addresses = json.loads(line)
        self.registry = str(addresses["registry"])
        self.kubeconfig = Path(addresses["kubeconfig"])
        self._ports = (self.registry.rpartition(":")[2], str(addresses["apiserver"]).rpartition(":")[2].rstrip("/"))
        self._cluster = self._discovery = None

    def stop_sandbox(self) -> None:
        """Stop the sandbox; its cluster is gone then, its registry's files stay."""
        self._sandbox = self._stop(self._sandbox)

    def start_agent(self) -> None:
        """Start the agent as an operator would, with logs in `agent.log`."""
        log = (self.directory / "agent.log").open("ab")
        arguments = [
            "agent", "--kubeconfig", str(self.kubeconfig), "--namespace", AGENT_NAMESPACE,
            "--cache-dir", str(self.directory / "cache"), "--http-address", "off",
        ]  # fmt: skip
        self._agent = self._spawn(arguments, stdout=log, stderr=log)

    def stop_agent(self) -> None:
        """Ask the agent to end, and wait for it."""
        self._agent = self._stop(self._agent)

    def forget_cache(self) -> None:
        """Throw away the agent's local copies."""
        shutil.rmtree(self.directory / "cache", ignore_errors=True)

    def _spawn(self, arguments: list[str], stdout: BinaryIO | int, stderr: BinaryIO | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "ocisync", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches us; we stop our children in order
        )

    @staticmethod
    def _stop(process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def ocisync(self, *arguments: str, cwd: Path | None = None) -> Ran:
        """Run one command of ours to its end, whatever its exit code."""
        return self._run([sys.executable, "-m", "ocisync", *arguments], cwd or self.directory)

    def git(self, *arguments: str) -> str:
        """Run git in the product's repository.

        Raises:
            DemoFailed: git failed.
        """
        identity = ["-c", "user.name=Ada Example", "-c", "user.email=ada@shop.example", "-c", "commit.gpgsign=false"]
        ran = self._run(["git", *identity, *arguments], self.repository_directory)
        if ran.exit_code:
            raise DemoFailed(f"git {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout.strip()

    def _run(self, command: list[str], cwd: Path) -> Ran:
        started = time.monotonic()
        done = subprocess.run(  # noqa: S603 - our own program, and git
            command,
            cwd=cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    # -- the API ----------------------------------------------------------------------------------

    def path(self, group: str, kind: str, namespace: str = "", name: str = "") -> str:
        """The API path of a kind or an object."""
        return self.discovery.path(self.discovery.resource(group, kind), namespace, name)

    def get(self, group: str, kind: str, namespace: str, name: str) -> JsonObject | None:
        """One object; None if it does not exist."""
        answer = self.cluster.request("GET", self.path(group, kind, namespace, name))
        return _json(answer.body) if answer.status == 200 else None

    def items(
        self, group: str, kind: str, namespace: str = "", query: tuple[tuple[str, str], ...] = ()
    ) -> list[JsonObject]:
        """Objects of a kind."""
        answer = self.cluster.request("GET", self.path(group, kind, namespace), query=query)
        return list(_json(answer.body).get("items", [])) if answer.status == 200 else []

    def send(
        self, method: str, path: str, body: JsonObject | None, *, content_type: str, manager: str = "kubectl"
    ) -> JsonObject:
        """Send a write as kubectl does.

        Raises:
            DemoFailed: the API refused.
        """
        answer = self.cluster.request(
            method,
            path,
            query=(("fieldManager", manager),) if method != "DELETE" else (),
            body=json.dumps(body).encode() if body is not None else None,
            content_type=content_type,
        )
        if answer.status >= 300:
            raise DemoFailed(f"{method} {path}: {answer.status} {answer.body[:300].decode(errors='replace')}")
        return _json(answer.body)

    def agent_writes(self) -> int:
        """How many writes the agent has sent on behalf of the sync: those made as its service account."""
        answer = self.cluster.request("GET", "/_sandbox/requests")
        writes = {"create", "update", "patch", "apply", "delete"}
        return sum(
            int(row["count"])
            for row in _json(answer.body)["requests"]
            if row["userAgent"].startswith("ocisync-agent/") and row["user"] and row["verb"] in writes
        )

    # -- the sync ---------------------------------------------------------------------------------

    def sync(self) -> JsonObject:
        """The `ArtifactSync` of the story; empty if it does not exist."""
        return self.get("ocisync.dev", "ArtifactSync", SYNC_NAMESPACE, SYNC_NAME) or {}

    def condition(self, kind: str) -> Mapping[str, str]:
        """One condition of the sync; empty if it has none."""
        conditions = (self.sync().get("status") or {}).get("conditions") or []
        return next((item for item in conditions if item["type"] == kind), {})

    def applied_digest(self) -> str:
        """What the cluster is kept equal to."""
        return str(((self.sync().get("status") or {}).get("applied") or {}).get("digest") or "")

    def events(self, reason: str) -> list[JsonObject]:
        """Events of the agent with a reason, oldest first."""
        found = [item for item in self.items("", "Event") if item.get("reason") == reason]
        return sorted(found, key=lambda item: int(item["metadata"]["resourceVersion"]))

    def eventually(self, what: str, check: Callable[[], bool]) -> float:
        """Wait until `check` holds; return the seconds it took.

        Raises:
            DemoFailed: it never held.
        """
        started = time.monotonic()
        while time.monotonic() < started + _LONGEST_S:
            if check():
                return time.monotonic() - started
            if self._agent is not None and self._agent.poll() is not None:
                code = self._agent.returncode
                raise DemoFailed(f"the agent ended with exit code {code}; its log is {self.directory / 'agent.log'}")
            time.sleep(_PAUSE_S)
        ready = self.condition("Ready")
        state = f"Ready={ready.get('status')} {ready.get('reason')}: {ready.get('message')}"
        raise DemoFailed(
            f"waited {_LONGEST_S:.0f} s in vain for: {what} ({state})",
            hint=f"read {self.directory / 'agent.log'}",
        )

    def ready_at(self, digest: str) -> bool:
        """Whether exactly `digest` is applied and everything is healthy."""
        return self.applied_digest() == digest and self.condition("Ready").get("status") == "True"


def _json(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    return value if isinstance(value, dict) else {}
