"""Registry logins: where they are found and which one fits. Parsing and choosing are pure; files and helpers are not.

Order for the CLI (`default_credentials`): `--creds`; `OCISYNC_REGISTRY_USERNAME` with `OCISYNC_REGISTRY_PASSWORD` (for
`OCISYNC_REGISTRY_HOST` only, where that is set); then the file of `--registry-config` alone or, without it,
`REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`,
`$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/UID/auth.json` without that variable),
`~/.config/containers/auth.json`. The first that has a login for the
repository wins. In one file: the host's `credHelpers` entry, then the longest matching `auths` key, then `credsStore`.

Secrets never appear in a repr, an error or a log.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from ocisync.model.errors import InvalidInput, UsageError
from ocisync.model.values import dataclass
from ocisync.oci.endpoint import DOCKER_HUB_NAMES
from ocisync.oci.helpers import HELPER_TIMEOUT_S, HelperFailed, ask_helper

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
TOKEN_USER = "<token>"  # noqa: S105 - docker's marker: the secret of this user is an identity token


@dataclass(frozen=True, slots=True)
class Credential:
    """A login: user and password, or an identity token (exchanged at the token server), or a ready bearer token."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a basic `Authorization` header; empty without a password."""
        if not self.username and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class CredentialSource(Protocol):
    """Something that may know a login. Called again when a login was refused, so rotation needs no restart."""

    def find(self, host: str, path: str) -> Credential | None:
        """The login for `host/path`; None if this source has none."""
        ...


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """One login for one host."""

    host: str
    credential: Credential

    def find(self, host: str, path: str) -> Credential | None:
        """The login, if the host is ours."""
        return self.credential if _same_host(self.host, host) else None


@dataclass(frozen=True, slots=True)
class Sources:
    """Several sources; the first login found wins."""

    sources: tuple[CredentialSource, ...]

    def find(self, host: str, path: str) -> Credential | None:
        """Ask each in order."""
        for source in self.sources:
            found = source.find(host, path)
            if found is not None:
                return found
        return None


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """A parsed docker or podman login file."""

    auths: tuple[tuple[str, Credential], ...] = ()
    helpers: tuple[tuple[str, str], ...] = ()
    store: str = ""
    problems: tuple[str, ...] = ()

    def helper_for(self, host: str) -> str:
        """The helper that the file names for exactly this host; empty if none."""
        return next((name for key, name in self.helpers if _same_host(_split_key(key)[0], host)), "")

    def find(self, host: str, path: str) -> Credential | None:
        """The login under the longest matching `auths` key; exact hosts win over `*.host` patterns."""
        best: tuple[tuple[bool, int], Credential] | None = None
        for key, credential in self.auths:
            key_host, key_path = _split_key(key)
            exact = _same_host(key_host, host)
            if not exact and not _host_pattern(key_host, host):
                continue
            if key_path and path != key_path and not path.startswith(key_path + "/"):
                continue
            rank = (exact, len(key_path))
            if best is None or rank > best[0]:
                best = (rank, credential)
        return best[1] if best else None


def server_key(host: str) -> str:
    """The name under which login files and helpers keep a host's login."""
    return DOCKER_HUB_KEY if host.lower() in DOCKER_HUB_NAMES else host


def keys_of(host: str, keys: Iterable[str]) -> tuple[str, ...]:
    """Those of some `auths` or `credHelpers` keys that mean exactly this whole host, however they are spelt."""
    split = ((key, *_split_key(key)) for key in keys)
    return tuple(key for key, key_host, path in split if not path and _same_host(key_host, host))


def _split_key(key: str) -> tuple[str, str]:
    """Split an `auths` key into host and path. Docker's URL keys (`https://host/v1/`) mean the whole host."""
    if "://" in key:
        return key.partition("://")[2].partition("/")[0], ""
    host, _, path = key.strip("/").partition("/")
    return host, "" if path in {"v1", "v2"} else path


def _same_host(left: str, right: str) -> bool:
    left, right = left.lower(), right.lower()
    return left == right or (left in DOCKER_HUB_NAMES and right in DOCKER_HUB_NAMES)


def _host_pattern(pattern: str, host: str) -> bool:
    """Match `*.example.com` label by label, as kubelet does for pull secrets."""
    wanted, have = pattern.lower().split("."), host.lower().split(".")
    if "*" not in pattern or len(wanted) != len(have):
        return False
    return all(fnmatchcase(label, glob) for glob, label in zip(wanted, have, strict=True))


def parse_docker_config(data: bytes, where: str) -> DockerConfig:
    """Parse `config.json`, `auth.json`, a `.dockerconfigjson` pull secret, or the legacy flat `.dockercfg`.

    Unusable entries are skipped and named in `problems`, never with their content.

    Raises:
        InvalidInput: not a JSON object, or too large.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise InvalidInput(f"{where}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        # Not chained: the decoder's message would quote the file, which holds secrets.
        raise InvalidInput(f"{where}: not a JSON object, expected a docker config") from None
    auths = document.get("auths")
    if auths is None and not {"credHelpers", "credsStore"} & document.keys():
        auths = {key: value for key, value in document.items() if isinstance(value, dict) and "auth" in value}
    problems: list[str] = []
    found: list[tuple[str, Credential]] = []
    for key, entry in _items(auths):
        try:
            credential = _entry(entry)
        except (binascii.Error, UnicodeError, ValueError, TypeError):
            problems.append(f"{where}: the login for {key[:200]} cannot be read")
            continue
        if credential is not None:
            found.append((key, credential))
    helpers = tuple((key, name) for key, name in _items(document.get("credHelpers")) if isinstance(name, str) and name)
    store = document.get("credsStore")
    return DockerConfig(tuple(found), helpers, store if isinstance(store, str) else "", tuple(problems))


def _items(value: object) -> list[tuple[str, Any]]:
    return [(key, item) for key, item in value.items() if isinstance(key, str)] if isinstance(value, dict) else []


def _entry(entry: object) -> Credential | None:
    """Read one `auths` entry; None for the empty ones that docker leaves when a credential store is used."""
    if not isinstance(entry, dict):
        raise TypeError("not an object")
    username, password = _text(entry, "username"), _text(entry, "password")
    encoded = _text(entry, "auth")
    if encoded:
        decoded = base64.b64decode(encoded, validate=True).decode().rstrip("\0")
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError("no colon")
    identity, registry = _text(entry, "identitytoken"), _text(entry, "registrytoken")
    if username == TOKEN_USER:
        username, password, identity = "", "", identity or password
    if not (password or identity or registry):
        return None
    return Credential(username, password, identity, registry)


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def parse_creds(text: str) -> Credential:
    """Parse `--creds USER:PASSWORD`.

    Raises:
        UsageError: there is no colon (the value is not repeated: it is a secret).
    """
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise UsageError("--creds must be USER:PASSWORD")
    return Credential(username, password)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A parsed login file together with the credential helpers that it names."""

    config: DockerConfig
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    warn: Callable[[str], None] = lambda _: None
    timeout_s: float = HELPER_TIMEOUT_S

    def find(self, host: str, path: str) -> Credential | None:
        """The login for a repository: its host's helper, `auths`, then the credential store."""
        helper = self.config.helper_for(host)
        if helper:
            found = self._ask(helper, host)
            if found is not None:
                return found
        found = self.config.find(host, path)
        if found is None and self.config.store:
            found = self._ask(self.config.store, host)
        return found

    def _ask(self, helper: str, host: str) -> Credential | None:
        try:
            answer = ask_helper(helper, "get", server_key(host).encode(), self.environ, self.timeout_s)
        except HelperFailed as error:
            self.warn(f"{error.message}; going on without it")
            return None
        if answer.status != 0:
            if not answer.not_found:
                self.warn(f"docker-credential-{helper} failed with status {answer.status}; going on without it")
            return None
        return parse_helper_answer(answer.output)


def parse_helper_answer(data: bytes) -> Credential | None:
    """Read a credential helper's answer; None if it holds no login."""
    try:
        document = json.loads(data[:MAX_CONFIG_BYTES])
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    username, secret = _text(document, "Username"), _text(document, "Secret")
    if not secret:
        return None
    if username == TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(username, secret)


def pull_secret_credentials(secrets: Sequence[tuple[str, bytes]]) -> Sources:
    """Logins from the bytes of Kubernetes pull secrets, given as (name, data). Helpers in them are not run.

    Raises:
        InvalidInput: naming the secret that cannot be parsed.
    """
    return Sources(tuple(parse_docker_config(data, f"pull secret {name}") for name, data in secrets))


def default_credentials(
    host: str,
    environ: Mapping[str, str],
    *,
    creds: str = "",
    config_file: Path | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Sources:
    """The sources of this module's docstring, for the registry `host`.

    Raises:
        UsageError: `--creds` has no colon, or `config_file` cannot be read.
        InvalidInput: a login file is not a docker config.
    """
    sources: list[CredentialSource] = []
    if creds:
        sources.append(StaticCredentials(host, parse_creds(creds)))
    username, password = environ.get("OCISYNC_REGISTRY_USERNAME", ""), environ.get("OCISYNC_REGISTRY_PASSWORD", "")
    if password:
        only = environ.get("OCISYNC_REGISTRY_HOST", "") or host
        sources.append(StaticCredentials(only, Credential(username, password)))
    uid = os.getuid() if environ else None
    for path in config_paths(environ, uid) if config_file is None else (config_file,):
        try:
            data = path.read_bytes()
        except OSError as error:
            if config_file is None:
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    warn(f"cannot read registry config {path}: {error.strerror}; going on without it")
                continue
            raise UsageError(f"cannot read registry config {path}: {error.strerror}") from error
        config = parse_docker_config(data, str(path))
        for problem in config.problems:
            warn(problem)
        sources.append(ConfigSource(config, environ, warn))
    return Sources(tuple(sources))


def config_paths(environ: Mapping[str, str], uid: int | None = None) -> tuple[Path, ...]:
    """The login files to look at, in order; they need not exist. `uid` is whose podman's are, None for nobody's."""
    home = environ.get("HOME", "")
    docker = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    podman = f"{runtime}/containers/auth.json" if runtime else ""
    if not runtime and uid is not None:  # as in CI, where nobody has logged in to the machine itself
        podman = f"/run/containers/{uid}/auth.json"
    paths = [
        environ.get("REGISTRY_AUTH_FILE", ""),
        docker and f"{docker}/config.json",
        podman,
        config and f"{config}/containers/auth.json",
    ]
    return tuple(dict.fromkeys(Path(path) for path in paths if path))
