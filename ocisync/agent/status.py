"""The one place that writes the status of a sync, and only when it says something new.

`next_status` is pure: the status after an outcome. `StatusWriter` sends the difference as a merge patch that names
the uid, so a sync that was deleted and created again is never given its predecessor's status.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ocisync.agent.conditions import conditions_of, read_conditions
from ocisync.cluster.client import MERGE_PATCH, Cluster, segment
from ocisync.cluster.memory import version_of
from ocisync.flows.outcome import ArtifactFacts, Done, Facts, Outcome, Past, Quarantine, Reason, Recorded
from ocisync.model.clock import format_rfc3339
from ocisync.model.digest import is_digest
from ocisync.model.errors import ClusterRefused, Unavailable
from ocisync.model.limits import FAILURES_COUNT
from ocisync.model.resource import JsonObject
from ocisync.model.spec import API_GROUP, SyncSpec

_HISTORY = 10
_SUCCEEDED = "Succeeded"
_SYNCS = f"/apis/{API_GROUP}/v1alpha1/namespaces"


def sync_path(namespace: str, name: str) -> str:
    """The URL path of a sync."""
    return f"{_SYNCS}/{segment(namespace)}/artifactsyncs/{segment(name)}"


def next_status(previous: JsonObject, outcome: Outcome, spec: SyncSpec, now: datetime) -> JsonObject:
    """The whole status after a pass; equal to `previous` when nothing moved."""
    facts = outcome.facts
    conditions = conditions_of(outcome, read_conditions(previous), generation=spec.generation, now=now)
    status: JsonObject = {
        "observedGeneration": spec.generation,
        "conditions": [condition.as_dict() for condition in conditions],
        "inventory": {"objects": facts.objects, "ready": facts.health.ready},
    }
    for name, artifact in (
        ("source", facts.source),
        ("applied", facts.applied),
        ("lastAttempted", facts.attempted),
    ):
        before = previous.get(name)
        if artifact is not None:
            status[name] = _artifact(artifact, before, now)
        elif before is not None:
            status[name] = before
    if facts.failures:
        status["failures"] = [
            {"object": item.object, "place": item.place, "class": item.error_class, "message": item.message}
            for item in facts.failures[:FAILURES_COUNT]
        ]
    if facts.quarantine is not None:
        status["quarantine"] = _quarantine(facts.quarantine)
    history = _history(previous, outcome, facts, now)
    if history:
        status["history"] = history
    if facts.plan_hash:
        status["planHash"] = facts.plan_hash
    if facts.rollback or previous.get("lastHandledRollback"):
        status["lastHandledRollback"] = facts.rollback or previous["lastHandledRollback"]
    if spec.requested_at:
        status["lastHandledReconcileAt"] = spec.requested_at
    return status


def _artifact(artifact: ArtifactFacts, before: Any, now: datetime) -> JsonObject:
    out: JsonObject = {"digest": artifact.digest}
    if artifact.tag:
        out["tag"] = artifact.tag
    if artifact.revision:
        out["revision"] = artifact.revision
    if artifact.signers:
        out["signers"] = list(artifact.signers)
    same = isinstance(before, dict) and {key: before.get(key) for key in before if key != "time"} == out
    out["time"] = before["time"] if same and before.get("time") else format_rfc3339(now)
    return out


def _history(previous: JsonObject, outcome: Outcome, facts: Facts, now: datetime) -> list[JsonObject]:
    """Newest first. An artifact enters when all of it was applied; its outcome follows until the next enters.

    `Applied`, then `Succeeded` when it is healthy, `Failed` when it was gone back from, `Left` when a person did so
    before it was healthy.
    """
    history: list[JsonObject] = [dict(item) for item in previous.get("history") or () if isinstance(item, dict)]
    applied, quarantine = facts.applied, facts.quarantine
    if applied is None:
        return history
    newest = history[0] if history else {}
    if quarantine is not None and _fails_now(previous, quarantine) and quarantine.digest not in (
        newest.get("digest"), applied.digest,
    ):  # fmt: skip
        # It never was applied as a whole, and stands in the history all the same.
        tag = facts.source.tag if facts.source is not None else ""
        failed = ArtifactFacts(tag, quarantine.digest, quarantine.revision)
        return [{**_artifact(failed, None, now), "outcome": "Failed"}, *history][:_HISTORY]
    if quarantine is not None and quarantine.digest == applied.digest:
        word = "Left" if quarantine.reason == "Requested" else "Failed"
        if newest.get("digest") == applied.digest and newest.get("outcome") == _SUCCEEDED:
            return history  # it was good once; that a person left it does not change that
    else:
        healthy = outcome.reason == Reason.ROLLED_BACK and facts.health.healthy is True
        word = _SUCCEEDED if isinstance(outcome, Done) or healthy else "Applied"
    if newest.get("digest") != applied.digest:
        entry = {**_artifact(applied, None, now), "outcome": word}
        return [entry, *history][:_HISTORY]
    if newest.get("outcome") != _SUCCEEDED and (word != "Applied" or newest.get("outcome") == "Failed"):
        history[0] = {**newest, "outcome": word}
    return history


def _fails_now(previous: JsonObject, quarantine: Quarantine) -> bool:
    return quarantine.reason != "Requested" and _section(previous, "quarantine").get("time") != quarantine.since


def _quarantine(found: Quarantine) -> JsonObject:
    out: JsonObject = {
        "digest": found.digest,
        "reason": found.reason,
        "message": found.message,
        "time": found.since,
        "to": {key: value for key, value in _named(found.to).items() if value},
    }
    if found.revision:
        out["revision"] = found.revision
    return out


def _named(artifact: ArtifactFacts) -> JsonObject:
    return {
        "tag": artifact.tag,
        "digest": artifact.digest,
        "revision": artifact.revision,
        "signers": list(artifact.signers),
    }


def recorded(status: JsonObject) -> Recorded:
    """What a status says of the time before; whatever is not as the agent writes it is left out."""
    found, past = _section(status, "quarantine"), status.get("history")
    quarantine = None
    if is_digest(str(found.get("digest"))) and is_digest(str(_section(found, "to").get("digest"))):
        quarantine = Quarantine(
            digest=found["digest"],
            revision=str(found.get("revision") or ""),
            to=_read_artifact(_section(found, "to")),
            reason=str(found.get("reason") or ""),
            message=str(found.get("message") or ""),
            since=str(found.get("time") or ""),
        )
    lines = [item for item in (past if isinstance(past, list) else []) if isinstance(item, dict)]
    return Recorded(
        applied=str(_section(status, "applied").get("digest") or ""),
        generation=generation if isinstance(generation := status.get("observedGeneration"), int) else 0,
        history=tuple(Past(_read_artifact(item), str(item.get("outcome") or "")) for item in lines[:_HISTORY]),
        quarantine=quarantine,
        rollback=str(status.get("lastHandledRollback") or ""),
    )


def _section(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _read_artifact(item: JsonObject) -> ArtifactFacts:
    signers = item.get("signers")
    return ArtifactFacts(
        tag=str(item.get("tag") or ""),
        digest=str(item.get("digest") or ""),
        revision=str(item.get("revision") or ""),
        signers=tuple(map(str, signers)) if isinstance(signers, list) else (),
    )


def merge_patch(before: JsonObject, after: JsonObject) -> JsonObject:
    """The RFC 7386 patch that turns `before` into `after`; empty if they are equal."""
    patch: JsonObject = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif old != value or key not in before:
            patch[key] = value
    return patch


@dataclass(frozen=True, slots=True)
class Written:
    """The status as the server holds it now, and whether it was written."""

    status: JsonObject
    changed: bool
    version: int = 0


class StatusWriter:
    """Writes statuses through one cluster connection."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def write(self, spec: SyncSpec, before: JsonObject, after: JsonObject) -> Written:
        """Send what changed.

        Raises:
            Unavailable, ClusterRefused: it was not written; the caller tries again.
        """
        patch = merge_patch(before, after)
        if not patch:
            return Written(before, changed=False)
        answer = self._cluster.request(
            "PATCH",
            f"{sync_path(spec.namespace, spec.name)}/status",
            body=json.dumps({"metadata": {"uid": spec.uid}, "status": patch}).encode(),
            content_type=MERGE_PATCH,
        )
        if answer.status in {404, 409}:
            # Deleted, or another one of the same name: its own pass writes its status.
            return Written(before, changed=False)
        if answer.status >= 300:
            message = f"status of {spec.key}: HTTP {answer.status} {answer.body[:200].decode(errors='replace')}"
            if answer.status == 429 or answer.status >= 500:
                raise Unavailable(message)
            raise ClusterRefused(message, hint="does the agent's ClusterRole allow patch of artifactsyncs/status?")
        return Written(after, changed=True, version=version_of(json.loads(answer.body)))
