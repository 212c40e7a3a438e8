"""Real OCI registries on loopback: distribution and olareg.

They differ on purpose. distribution (Debian's docker-registry 2.8) is strict and has no referrers API, so
clients must keep the fallback tag; olareg has the API. Both keep their data in a folder, so a stop and a
start is an outage, not a new registry.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.support import bearer
from tests.support.process import Server, clean_environment, free_port

START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Login:
    """A user of a registry with basic authentication."""

    user: str
    password: str
    bcrypt: str  # of the password; a constant, since the standard library cannot make one

    @property
    def htpasswd(self) -> str:
        """The line of the password file."""
        return f"{self.user}:{self.bcrypt}\n"


BASIC_LOGIN = Login("tester", "correct horse", "$2b$05$ocisyncTestSaltForUseeK6Lv1mjguajcCo2mB/DPXyV7IjG0lxq")


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's certificate and key; with ``clients``, only callers with a certificate of that authority."""

    certificate: Path
    key: Path
    clients: Path | None = None


class Registry:
    """A registry process; subclasses know the command line."""

    server: ClassVar[str]
    referrers_api: ClassVar[bool]

    def __init__(self, binary: Path, directory: Path, *, tls: Tls | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.tls = tls
        self.port = free_port()
        self.process = Server(self.server, self._command(binary), directory, self._environment())

    @property
    def host(self) -> str:
        """HOST:PORT, the first part of references; plain HTTP unless it has TLS."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """http://HOST:PORT"""
        return f"http://{self.host}"

    def start(self) -> None:
        """Starts it, or starts it again on the same address and data; returns when it answers."""
        self.process.start()
        self.process.wait_until(self.answers, START_TIMEOUT_S)

    def stop(self) -> None:
        """Stops it; connections are refused until the next start."""
        self.process.stop()

    def freeze(self) -> None:
        """Accepts connections and answers nothing until ``thaw``."""
        self.process.freeze()

    def thaw(self) -> None:
        """Answers again."""
        self.process.thaw()

    def answers(self) -> bool:
        """Whether /v2/ answers as a registry (401 counts: a login is wanted). With TLS: whether it listens."""
        if self.tls is not None:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0):
                return True
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2.0)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in (200, 401)
        finally:
            connection.close()

    def _command(self, binary: Path) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return clean_environment(self.directory)


class Olareg(Registry):
    """olareg, with the referrers API; deletes are on."""

    server = "olareg"
    referrers_api = True

    def _command(self, binary: Path) -> list[str]:
        storage = self.directory / "storage"
        storage.mkdir(exist_ok=True)
        return [
            str(binary), "serve", "--addr", "127.0.0.1", "--port", str(self.port),
            "--store-type", "dir", "--dir", str(storage), "--api-delete", "--api-blob-delete",
            "--api-push",
            *(["--tls-cert", str(self.tls.certificate), "--tls-key", str(self.tls.key)] if self.tls else []),
        ]  # fmt: skip


class Distribution(Registry):
    """distribution, without the referrers API; deletes are on; optional logins."""

    server = "distribution"
    referrers_api = False

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        login: Login | None = None,
        tokens: bearer.TokenServer | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._login = login
        self._tokens = tokens
        super().__init__(binary, directory, tls=tls)

    def _command(self, binary: Path) -> list[str]:
        config = self.directory / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._config(), indent=1))
        return [str(binary), "serve", str(config)]

    def _config(self) -> Mapping[str, object]:
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "storage")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.host, "secret": "only-for-tests"},
        }
        if self.tls is not None:
            tls = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
            clients = {"clientcas": [str(self.tls.clients)]} if self.tls.clients else {}
            config["http"] = {"addr": self.host, "secret": "only-for-tests", "tls": {**tls, **clients}}
        if self._login is not None:
            path = self.directory / "htpasswd"
            path.write_text(self._login.htpasswd)
            config["auth"] = {"htpasswd": {"realm": "ocisync-test", "path": str(path)}}
        if self._tokens is not None:
            config["auth"] = {
                "token": {
                    "realm": self._tokens.realm,
                    "service": bearer.SERVICE,
                    "issuer": bearer.ISSUER,
                    "rootcertbundle": str(self._tokens.certificate_path),
                }
            }
        return config
