"""What rows share: options, a folder, real servers that start when they are first asked for, an installed command."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ocisync.install.rbac import AGENT_NAME
from tests.bench.installed import Installed, install
from tests.servers import build
from tests.support.agent import Installation, Tenant, may
from tests.support.controlplane import ControlPlane, Programs
from tests.support.cosign import DEAD_PROXY, Cosign, CosignKey
from tests.support.process import clean_environment
from tests.support.registries import Olareg
from tests.support.signedrepository import SignedRepository
from tests.support.waiting import eventually

KEY_PASSWORD = "bench"


class MissingServerError(Exception):
    """A real server is not built; the message has the command that builds it."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure.

    Attributes:
        rounds: how often each line is measured; the lines of a row alternate.
        quick: tiny input, once: shows that a row works and says nothing about speed.
        heavy: also 10,000 objects.
        slow: also anchors that take minutes.
    """

    rounds: int = 5
    quick: bool = False
    heavy: bool = False
    slow: bool = False

    def sizes(self, *normal: int) -> tuple[int, ...]:
        """Numbers of objects or files."""
        return (20,) if self.quick else normal

    def times(self, wanted: int) -> int:
        """How often to repeat something, beside the rounds."""
        return min(wanted, 2) if self.quick else wanted


class Bench:
    """The environment of one run. Close it to stop the servers."""

    def __init__(self, options: Options, directory: Path) -> None:
        self.options = options
        self.directory = directory
        self.stack = contextlib.ExitStack()
        self.home = self.folder("home")

    def close(self) -> None:
        """Stop what was started."""
        self.stack.close()

    def say(self, text: str) -> None:
        """Progress, for the person who waits."""
        print(text, file=sys.stderr, flush=True)

    def folder(self, name: str) -> Path:
        """A folder of this run."""
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def fresh(self, name: str) -> Path:
        """A folder that nobody had."""
        return self.folder(f"{name}-{secrets.token_hex(4)}")

    def repeat(self, once: Callable[[int], None]) -> None:
        """Call once for each round."""
        for number in range(1 if self.options.quick else self.options.rounds):
            once(number)

    @cached_property
    def installed(self) -> Installed:
        """The command under test."""
        return install(self.folder("installed"))

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands: no configuration of the person who measures, no proxies that lead out."""
        return clean_environment(
            self.home,
            COSIGN_PASSWORD=KEY_PASSWORD,
            OCISYNC_KEY_PASSWORD=KEY_PASSWORD,
            COSIGN_YES="true",
            HTTP_PROXY=DEAD_PROXY,
            HTTPS_PROXY=DEAD_PROXY,
            NO_PROXY="127.0.0.1,localhost",
        )

    @cached_property
    def olareg(self) -> Olareg:
        """A registry with the referrers API."""
        registry = Olareg(binary("olareg"), self.folder("olareg"))
        registry.start()
        self.stack.callback(registry.stop)
        return registry

    def repository(self) -> str:
        """HOST:PORT/NAME of an empty repository."""
        return f"{self.olareg.host}/bench/{secrets.token_hex(6)}"

    @cached_property
    def cosign(self) -> Cosign:
        """The real cosign."""
        return Cosign(binary("cosign"), self.folder("cosign"))

    @cached_property
    def key(self) -> CosignKey:
        """A key pair that cosign made, encrypted: both tools sign with it."""
        return self.cosign.generate_key_pair(KEY_PASSWORD)

    @cached_property
    def control_plane(self) -> ControlPlane:
        """A real Kubernetes API server with controllers."""
        binary("controlplane")
        started = ControlPlane(Programs.find(), self.folder("kubernetes") / "control-plane")
        started.start()
        self.stack.callback(started.stop)
        return started

    @cached_property
    def installation(self) -> Installation:
        """CRDs, RBAC and the agent's account in the control plane."""
        return Installation(self.control_plane, self.folder("installation"))

    def tenant(self) -> Tenant:
        """A namespace with an account the agent may act as, a policy and an empty repository."""
        namespace = self.control_plane.new_namespace("bench")
        made = Tenant(self.installation, namespace, self.repository())
        self.stack.callback(made.registry.store.close)
        made.prepare()
        # The ceiling asks once, and its first answer counts.
        agent = f"system:serviceaccount:{self.installation.namespace}:{AGENT_NAME}"
        account = {"namespace": made.namespace, "name": made.account}
        eventually(
            lambda: may(self.control_plane, agent, "impersonate", "serviceaccounts", **account),
            what="the API server knows whom the agent may act as",
        )
        return made

    def signed_repository(self) -> SignedRepository:
        """An empty repository to put artifacts and signatures into."""
        made = SignedRepository(self.repository())
        self.stack.callback(made.store.close)
        return made


def binary(name: str) -> Path:
    """The executable of a real server.

    Raises:
        MissingServerError: It is not built.
    """
    found = build.find(name)
    if found is None:
        raise MissingServerError(f"{name} is missing: {build.how_to_get(name)}")
    return found
