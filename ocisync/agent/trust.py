"""Policies, keys and trusted roots in force: watched, loaded together, swapped as one immutable value.

Secrets and ConfigMaps of the agent's namespace are watched as metadata only; the values of those that policies name are
read when a policy or one of them moved. Every change wakes all syncs, because any of them may be judged differently
now. ConfigMaps that no policy names do not count: the agent's own records are among them.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ocisync.agent.conditions import read_conditions
from ocisync.agent.metrics import Metrics
from ocisync.agent.status import merge_patch
from ocisync.agent.trustaudit import State, TrustRecord, key_item, policy_item, root_item
from ocisync.cluster.client import MERGE_PATCH, Cluster, segment
from ocisync.cluster.watch import GroupKind
from ocisync.flows.memory import Trust
from ocisync.flows.trust import TrustSet, load_policies
from ocisync.kit.log import logger
from ocisync.model.clock import Clock, format_rfc3339
from ocisync.model.errors import ClusterRefused, InvalidInput, Unavailable
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, POLICY_KIND
from ocisync.model.status import Condition

_LOG = logger("trust")

POLICIES = GroupKind(API_GROUP, POLICY_KIND)
POLICIES_PATH = f"/apis/{API_GROUP}/v1alpha1/trustpolicies"
SECRETS = GroupKind("", "Secret")
CONFIG_MAPS = GroupKind("", "ConfigMap")
_KINDS = (POLICIES, SECRETS, CONFIG_MAPS)


class TrustBoard:
    """The handler of the watches. `changed` is called after every change, outside of the lock."""

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
        self._versions: dict[GroupKind, dict[str, str]] = {SECRETS: {}, CONFIG_MAPS: {}}
        self._root_names: set[str] = set()
        self._rounds: dict[GroupKind, set[str]] = {kind: set() for kind in _KINDS}
        self._synced: dict[GroupKind, threading.Event] = {kind: threading.Event() for kind in _KINDS}
        self._problems: dict[GroupKind, str] = {}
        self._moved = 1
        self._trust = Trust(TrustSet((), ()), 0)
        self._record = TrustRecord(cluster, namespace)

    @property
    def secrets_path(self) -> str:
        """Where the keys are watched."""
        return f"/api/v1/namespaces/{segment(self._namespace)}/secrets"

    @property
    def config_maps_path(self) -> str:
        """Where trusted roots are watched, besides Secrets."""
        return f"/api/v1/namespaces/{segment(self._namespace)}/configmaps"

    @property
    def listed(self) -> bool:
        """Whether policies, Secrets and ConfigMaps were seen completely once."""
        return all(event.is_set() for event in self._synced.values())

    @property
    def trouble(self) -> str:
        """Why a watch does not run; empty if all do."""
        with self._lock:
            return "; ".join(message for message in self._problems.values() if message)

    def current(self) -> Trust:
        """The policies in force, loaded anew if something moved.

        Raises:
            Unavailable, ClusterRefused: a Secret or ConfigMap could not be read; then nothing can be judged.
        """
        with self._loading:
            with self._lock:
                moved, documents = self._moved, list(self._policies.values())
            if moved != self._trust.version:
                loaded, state = self._load(documents)
                told = self._record.update(state)
                if told:
                    self._metrics.count("ocisync_trust_changes_total", told)
                self._trust = Trust(loaded, moved)
                _LOG.info(
                    "trust policies loaded",
                    policies=len(loaded.policies),
                    unusable=len(loaded.unusable),
                    roots=[root.fingerprint for root in loaded.roots],
                )
            return self._trust

    def _load(self, documents: list[JsonObject]) -> tuple[TrustSet, State]:
        """Policies with what they name, and the same as hashes, for the audit trail."""
        state: State = {f"policy/{policy['metadata']['name']}": policy_item(policy) for policy in documents}

        def key(name: str) -> Mapping[str, bytes] | None:
            data = self._read_secret(name)
            if (item := key_item(data)) is not None:
                state[f"key/{name}"] = item
            return data

        def root(name: str) -> Mapping[str, bytes] | None:
            data = self._read_root(name)
            if (item := root_item(data)) is not None:
                state[f"root/{name}"] = item
            return data

        return load_policies(documents, key, root), state

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
        found = self._read("Secret", self.secrets_path, name)
        return None if found is None else _decoded(found.get("data"), f"Secret {self._namespace}/{name}")

    def _read_root(self, name: str) -> Mapping[str, bytes] | None:
        with self._lock:
            self._root_names.add(name)  # before it is read: what changes from now on is noticed
        secret = self._read_secret(name)
        found = self._read("ConfigMap", self.config_maps_path, name)
        if found is None:
            return secret
        if secret is not None:
            raise InvalidInput(f"trustedRootRef {name!r}: the namespace has a Secret and a ConfigMap of this name")
        texts = {key: str(text).encode() for key, text in (found.get("data") or {}).items()}
        return {**texts, **_decoded(found.get("binaryData"), f"ConfigMap {self._namespace}/{name}")}

    def _read(self, kind: str, path: str, name: str) -> JsonObject | None:
        answer = self._cluster.request("GET", f"{path}/{segment(name)}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            message = f"{kind} {self._namespace}/{name}: HTTP {answer.status}"
            if answer.status == 429 or answer.status >= 500:
                raise Unavailable(message)
            raise ClusterRefused(message, hint=f"does the agent's Role allow get of {kind.lower()}s in its namespace?")
        found: JsonObject = json.loads(answer.body)
        return found

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
        if kind in self._versions:
            versions = self._versions[kind]
            version = str((obj.get("metadata") or {}).get("resourceVersion"))
            before = versions.get(name)
            if event_type == "DELETED":
                versions.pop(name, None)
                return before is not None and self._matters(kind, name)
            versions[name] = version
            return before != version and self._matters(kind, name)
        if event_type == "DELETED":
            return self._policies.pop(name, None) is not None
        known = self._policies.get(name)
        self._policies[name] = obj
        return known is None or known.get("spec") != obj.get("spec")

    def _matters(self, kind: GroupKind, name: str) -> bool:
        return kind == SECRETS or name in self._root_names

    def synced(self, kind: GroupKind) -> None:
        """A list is complete."""
        with self._lock:
            table: dict[str, Any] = self._policies if kind == POLICIES else self._versions[kind]
            missing = [name for name in table if name not in self._rounds[kind]]
            for name in missing:
                del table[name]
            gone = [name for name in missing if kind == POLICIES or self._matters(kind, name)]
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


def _decoded(data: Mapping[str, str] | None, what: str) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in (data or {}).items()}
    except (binascii.Error, ValueError) as error:
        raise ClusterRefused(f"{what}: {error}") from error
