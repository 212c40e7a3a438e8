"""A store for the repository of a sync: its own login, short retries (a poll comes again anyway), stop at once."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from ocisync.cluster.client import Cluster, segment
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.errors import AccessDenied, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import SyncSpec
from ocisync.oci.client import open_store
from ocisync.oci.credentials import pull_secret_credentials
from ocisync.oci.endpoint import proxy_problem
from ocisync.oci.options import RegistryOptions
from ocisync.oci.retry import RetryPlan
from ocisync.oci.store import Store

_LOG = logger("registry")
_PLAN = RetryPlan(attempts=3, attempts_unreachable=2, cap_s=5.0, retry_after_cap_s=20.0, budget_s=30.0)
_TIMEOUT_S = 20.0
_WARNINGS = 1_000  # different texts told in the life of an agent
_CONFIG_KEY = ".dockerconfigjson"
_OLD_CONFIG_KEY = ".dockercfg"
_CA_KEY = "ca.crt"
_ACCOUNT_SECRETS = 16  # of one service account; each costs a request
_MAKE = {
    _CONFIG_KEY: "make it with: kubectl create secret docker-registry {0} -n {1}",
    _CA_KEY: "make it with: kubectl create secret generic {0} -n {1} --from-file=ca.crt",
    "address": "make it with: kubectl create secret generic {0} -n {1} --from-literal=address=http://HOST:PORT",
}


class Registries:
    """Opens stores. `environ` is the agent's own: proxies and login files of its operator."""

    def __init__(self, cluster: Cluster, stop: StopToken, environ: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._options = RegistryOptions(
            environ=environ,
            timeout_s=_TIMEOUT_S,
            plan=_PLAN,
            sleep=stop.wait,
            on_warning=self._warn,
        )
        self._told: set[str] = set()
        self._told_lock = threading.Lock()

    def _warn(self, text: str) -> None:
        """Log a login's problem or a registry's warning once: each poll would repeat it."""
        with self._told_lock:
            if text in self._told or len(self._told) >= _WARNINGS:
                return
            self._told.add(text)
        _LOG.warning("registry", problem=text)

    def open(self, spec: SyncSpec) -> Store:
        """A store for the sync's repository. The caller closes it.

        Raises:
            AccessDenied, Unavailable: the pull secret can't be read.
            InvalidInput: it can't be parsed.
        """
        source, options = spec.source, self._options
        if source.insecure:
            options = replace(options, plain_http=True)
        secrets = [("pullSecretRef", source.pull_secret)] if source.pull_secret else []
        if source.account:
            secrets += [("serviceAccountName", name) for name in self._account_secrets(spec.namespace, source.account)]
        if secrets:
            logins = [(f"{spec.namespace}/{name}", self._login(field, spec.namespace, name)) for field, name in secrets]
            options = replace(options, credentials=pull_secret_credentials(logins))
        if source.ca_secret:
            given = self._secret("caSecretRef", spec.namespace, source.ca_secret, (_CA_KEY,))
            options = replace(options, ca_data=given[_CA_KEY])
        if source.proxy_secret:
            options = replace(options, proxy=self._proxy(spec.namespace, source.proxy_secret))
        return open_store(source.reference, options)

    def _login(self, field: str, namespace: str, name: str) -> bytes:
        """The login file in a pull secret."""
        given = self._secret(field, namespace, name, (_CONFIG_KEY, _OLD_CONFIG_KEY), enough=1)
        return next(iter(given.values())).encode()

    def _proxy(self, namespace: str, name: str) -> str:
        """A proxy's URL with its login, from the keys that Flux reads: address, username, password."""
        given = self._secret("proxySecretRef", namespace, name, ("address", "username", "password"), enough=1)
        where = f"spec.source.proxySecretRef: Secret {namespace}/{name}"
        address = given.get("address", "").strip()
        problem = proxy_problem(address) if address else "it has no address"
        if problem:
            raise AccessDenied(f"{where}: {problem}", hint="its key address is a URL like http://proxy.example:3128")
        scheme, _, rest = address.partition("://")
        if not given.get("username"):
            return address
        login = ":".join(quote(given.get(key, "").rstrip("\n"), safe="") for key in ("username", "password"))
        return f"{scheme}://{login}@{rest.rpartition('@')[2]}"

    def _account_secrets(self, namespace: str, account: str) -> list[str]:
        """The names of a service account's imagePullSecrets."""
        what = f"serviceAccountName: ServiceAccount {namespace}/{account}"
        found = self._read(what, f"/api/v1/namespaces/{segment(namespace)}/serviceaccounts/{segment(account)}")
        return [str(item.get("name") or "") for item in found.get("imagePullSecrets") or ()][:_ACCOUNT_SECRETS]

    def _secret(
        self, field: str, namespace: str, name: str, keys: tuple[str, ...], *, enough: int = 0
    ) -> dict[str, str]:
        """The values of some keys of a Secret that are there, as text: all of them, or at least so many.

        Raises:
            AccessDenied, Unavailable: it can't be read, or has not what it should.
        """
        what = f"{field}: Secret {namespace}/{name}"
        found = self._read(what, f"/api/v1/namespaces/{segment(namespace)}/secrets/{segment(name)}")
        data = found.get("data") or {}
        present = [key for key in keys if data.get(key)]
        if len(present) < (enough or len(keys)):
            raise AccessDenied(f"spec.source.{what} has no {keys[0]}", hint=_MAKE[keys[0]].format(name, namespace))
        try:
            return {key: base64.b64decode(data[key], validate=True).decode() for key in present}
        except ValueError as error:
            raise AccessDenied(f"spec.source.{what}: {keys[0]} is no text") from error

    def _read(self, what: str, path: str) -> JsonObject:
        answer = self._cluster.request("GET", path)
        if answer.status in {401, 403, 404}:
            raise AccessDenied(f"spec.source.{what}: HTTP {answer.status}", hint="create it, and let the agent read it")
        if answer.status != 200:
            raise Unavailable(f"spec.source.{what}: HTTP {answer.status}")
        found: JsonObject = json.loads(answer.body)
        return found
