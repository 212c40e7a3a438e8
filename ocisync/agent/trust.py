"""Policies and keys in force: watched, loaded together, swapped as one immutable value.

Secrets of the agent's namespace are watched as metadata only; the values of those that policies name are read when a
policy or a Secret moved. Every change wakes all syncs, because any of them may be judged differently now.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from ocisync.agent.conditions import read_conditions
from ocisync.agent.metrics import Metrics
from ocisync.agent.status import merge_patch
from ocisync.cluster.client import MERGE_PATCH, Cluster, segment
from ocisync.cluster.watch import GroupKind
from ocisync.flows.memory import Trust
from ocisync.flows.trust import TrustSet, load_policies
from ocisync.kit.log import logger
from ocisync.model.clock import Clock, format_rfc3339
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, POLICY_KIND
from ocisync.model.status import Condition

_LOG = logger("trust")

POLICIES = GroupKind(API_GROUP, POLICY_KIND)
POLICIES_PATH = f"/apis/{API_GROUP}/v1alpha1/trustpolicies"
SECRETS = GroupKind("", "Secret")


class TrustBoard:
    """The handler of both watches. `changed` is called after every change, outside of the lock."""

    def __init__(
        self, cluster: Cluster, namespace: str, changed: Callable[[], None], clock: Clock, metrics: Metrics
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._changed = changed
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._policies: dict[str, JsonObject] = {}
        self._secrets: dict[str, str] = {}
        self._rounds: dict[GroupKind, set[str]] = {POLICIES: set(), SECRETS: set()}
        self._synced: dict[GroupKind, threading.Event] = {POLICIES: threading.Event(), SECRETS: threading.Event()}
        self._problems: dict[GroupKind, str] = {}
        self._moved = 1
        self._trust = Trust(TrustSet((), ()), 0)

    @property
    def secrets_path(self) -> str:
        """Where the keys are watched."""
        return f"/api/v1/namespaces/{segment(self._namespace)}/secrets"

    @property
    def listed(self) -> bool:
        """Whether policies and Secrets were seen completely once."""
        return all(event.is_set() for event in self._synced.values())

    @property
    def trouble(self) -> str:
        """Why a watch does not run; empty if both do."""
        with self._lock:
            return "; ".join(message for message in self._problems.values() if message)

    def current(self) -> Trust:
        """The policies in force, loaded anew if something moved.

        Raises:
            Unavailable, ClusterRefused: a Secret could not be read; then nothing can be judged.
        """
        with self._loading:
            with self._lock:
                moved, documents = self._moved, list(self._policies.values())
            if moved != self._trust.version:
                loaded = load_policies(documents, self._read_secret)
                self._trust = Trust(loaded, moved)
                _LOG.info("trust policies loaded", policies=len(loaded.policies), unusable=len(loaded.unusable))
            return self._trust

    def write_statuses(self) -> None:
        """Tell each policy whether it can be used.

        Raises:
            Unavailable: the API server did not answer.
        """
        unusable = self.current().set.unusable
        with self._lock:
            policies = list(self._policies.values())
        self._metrics.gauge("ocisync_trust_policies", len(policies) - len(unusable), usable="true")
        self._metrics.gauge("ocisync_trust_policies", len(unusable), usable="false")
        for policy in policies:
            self._write_status(policy, unusable.get(policy["metadata"]["name"], ""))

    def _write_status(self, policy: JsonObject, problem: str) -> None:
        metadata, before = policy["metadata"], policy.get("status") or {}
        condition = Condition(
            type="Accepted",
            status="False" if problem else "True",
            reason="Invalid" if problem else "Accepted",
            message=problem or "the policy is in force",
            observed_generation=int(metadata.get("generation") or 0),
            last_transition_time=format_rfc3339(self._clock.now()),
        )
        for known in read_conditions(before):
            if known.type == "Accepted" and known.status == condition.status:
                condition = replace(condition, last_transition_time=known.last_transition_time)
        after = {"observedGeneration": condition.observed_generation, "conditions": [condition.as_dict()]}
        patch = merge_patch(before, after)
        if not patch:
            return
        answer = self._cluster.request(
            "PATCH",
            f"{POLICIES_PATH}/{segment(metadata['name'])}/status",
            body=json.dumps({"metadata": {"uid": metadata.get("uid")}, "status": patch}).encode(),
            content_type=MERGE_PATCH,
        )
        if answer.status >= 300 and answer.status not in {404, 409}:
            _LOG.warning("policy status not written", policy=metadata["name"], status=answer.status)
        if problem:
            _LOG.warning("trust policy cannot be used", policy=metadata["name"], problem=problem)

    def _read_secret(self, name: str) -> Mapping[str, bytes] | None:
        answer = self._cluster.request("GET", f"{self.secrets_path}/{segment(name)}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            message = f"Secret {self._namespace}/{name}: HTTP {answer.status}"
            if answer.status == 429 or answer.status >= 500:
                raise Unavailable(message)
            raise ClusterRefused(message, hint="does the agent's Role allow get of secrets in its namespace?")
        data = json.loads(answer.body).get("data") or {}
        try:
            return {key: base64.b64decode(value, validate=True) for key, value in data.items()}
        except (binascii.Error, ValueError) as error:
            raise ClusterRefused(f"Secret {self._namespace}/{name}: {error}") from error

    # --- The watches' handler ---------------------------------------------------------------------------------------

    def started(self, kind: GroupKind) -> None:
        """A list begins."""
        with self._lock:
            self._rounds[kind] = set()

    def event(self, kind: GroupKind, event_type: str, obj: JsonObject) -> None:
        """One policy or Secret as it is now."""
        metadata = obj.get("metadata") or {}
        name = str(metadata.get("name"))
        with self._lock:
            moved = self._note(kind, event_type, name, obj)
            self._rounds[kind].add(name)
            self._moved += moved
        if moved and self.listed:
            self._changed()

    def _note(self, kind: GroupKind, event_type: str, name: str, obj: JsonObject) -> bool:
        """Remember it; whether it moved anything that judging rests on."""
        if kind == SECRETS:
            version = str((obj.get("metadata") or {}).get("resourceVersion"))
            if event_type == "DELETED":
                return self._secrets.pop(name, None) is not None
            before = self._secrets.get(name)
            self._secrets[name] = version
            return before != version
        if event_type == "DELETED":
            return self._policies.pop(name, None) is not None
        known = self._policies.get(name)
        self._policies[name] = obj
        return known is None or known.get("spec") != obj.get("spec")

    def synced(self, kind: GroupKind) -> None:
        """A list is complete."""
        with self._lock:
            table: dict[str, object] = self._secrets if kind == SECRETS else self._policies  # type: ignore[assignment]
            gone = [name for name in table if name not in self._rounds[kind]]
            for name in gone:
                del table[name]
            self._moved += bool(gone)
            self._problems.pop(kind, None)
        first = not self._synced[kind].is_set()
        self._synced[kind].set()
        if (gone or first) and self.listed:
            self._changed()

    def problem(self, kind: GroupKind, message: str) -> None:
        """A watch does not run, or runs again; told once for each change."""
        with self._lock:
            known = self._problems.get(kind, "")
            self._problems[kind] = message
        if message and not known:
            _LOG.warning("watch does not run", kind=str(kind), problem=message)
        elif not message:
            _LOG.info("watch runs again", kind=str(kind))
