"""A store for the repository of a sync: its own login, short retries (a poll comes again anyway), stop at once."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Mapping
from dataclasses import replace

from ocisync.cluster.client import Cluster, segment
from ocisync.kit.log import logger
from ocisync.kit.stop import StopToken
from ocisync.model.errors import AccessDenied, Unavailable
from ocisync.model.spec import SyncSpec
from ocisync.oci.client import open_store
from ocisync.oci.credentials import CredentialSource, pull_secret_credentials
from ocisync.oci.options import RegistryOptions
from ocisync.oci.retry import RetryPlan
from ocisync.oci.store import Store

_LOG = logger("registry")
_PLAN = RetryPlan(attempts=3, attempts_unreachable=2, cap_s=5.0, retry_after_cap_s=20.0, budget_s=30.0)
_TIMEOUT_S = 20.0
_WARNINGS = 1_000  # different texts told in the life of an agent
_CONFIG_KEY = ".dockerconfigjson"
_OLD_CONFIG_KEY = ".dockercfg"


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
        options = self._options
        if spec.source.insecure:
            options = replace(options, plain_http=True)
        if spec.source.pull_secret:
            options = replace(options, credentials=self._pull_secret(spec.namespace, spec.source.pull_secret))
        return open_store(spec.source.reference, options)

    def _pull_secret(self, namespace: str, name: str) -> CredentialSource:
        answer = self._cluster.request("GET", f"/api/v1/namespaces/{segment(namespace)}/secrets/{segment(name)}")
        where = f"spec.source.pullSecretRef: Secret {namespace}/{name}"
        if answer.status in {401, 403, 404}:
            raise AccessDenied(f"{where}: HTTP {answer.status}", hint="create it, and let the agent read it")
        if answer.status != 200:
            raise Unavailable(f"{where}: HTTP {answer.status}")
        data = json.loads(answer.body).get("data") or {}
        encoded = data.get(_CONFIG_KEY) or data.get(_OLD_CONFIG_KEY)
        if not encoded:
            raise AccessDenied(
                f"{where} has no {_CONFIG_KEY}", hint="make it with: kubectl create secret docker-registry"
            )
        try:
            return pull_secret_credentials([(f"{namespace}/{name}", base64.b64decode(encoded, validate=True))])
        except (binascii.Error, ValueError) as error:
            raise AccessDenied(f"{where}: {error}") from error
