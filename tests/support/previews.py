"""A preview and the pass that it is about, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ocisync.cluster.apply import Action
from ocisync.cluster.changes import Change, Preview, Verb
from ocisync.cluster.client import Cluster, Response
from ocisync.cluster.engine import ApplyReport, Engine, Settings
from ocisync.cluster.preview import Previewer
from ocisync.cluster.rehearsal import Rehearsal
from ocisync.flows.preview import differences
from ocisync.model.resource import JsonObject, ObjectId
from tests.support.engine import GENEROUS, EngineDriver, manifest

# What a report calls that which a preview has announced; the rest is in no report.
REPORTED = {
    Verb.CREATE: Action.CREATED,
    Verb.CONFIGURE: Action.CONFIGURED,
    Verb.ADOPT: Action.CONFIGURED,
    Verb.RECREATE: Action.RECREATED,
    Verb.UNCHANGED: Action.UNCHANGED,
    Verb.PRUNE: Action.DELETED,
    Verb.SKIP: Action.SKIPPED,
    Verb.CONFLICT: Action.FAILED,
    Verb.REFUSED: Action.FAILED,
    Verb.WAIT: Action.FAILED,
    Verb.BLOCKED: Action.SKIPPED,
}


class Witness(Rehearsal):
    """The cluster's own door, which writes down what is sent through it."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.sent: list[tuple[str, str, bool]] = []

    def request(self, method: str, path: str, **more: Any) -> Response:
        dry = ("dryRun", "All") in more.get("query", ()) or b'"dryRun": ["All"]' in (more.get("body") or b"")
        self.sent.append((method, path, dry))
        return self._real.request(method, path, **more)

    @property
    def writes(self) -> list[tuple[str, str, bool]]:
        """Everything that was neither a read nor a dry run."""
        return [item for item in self.sent if item[0] != "GET" and not item[2]]


@dataclass
class Looked:
    """A preview, and how it was come by."""

    preview: Preview
    sent: list[tuple[str, str, bool]]

    @property
    def verbs(self) -> dict[str, str]:
        """Name → verb."""
        return {change.id.name: change.verb.value for change in self.preview.changes}

    def of(self, name: str) -> Change:
        """The change of one object."""
        return next(change for change in self.preview.changes if change.id.name == name)

    @property
    def announced(self) -> dict[ObjectId, Action]:
        """What the report has to say of each object."""
        found = {c.id: REPORTED[c.verb] for c in self.preview.changes if c.verb in REPORTED}
        if self.preview.deferred:
            return {id_: action for id_, action in found.items() if action is not Action.DELETED}
        return found


class NoDryRuns(Witness):
    """A server with an admission webhook that has side effects: it refuses every dry run."""

    def request(self, method: str, path: str, **more: Any) -> Response:
        if method == "PATCH":
            message = 'admission webhook "old.example" does not support dry run'
            body = json.dumps({"kind": "Status", "reason": "BadRequest", "message": message}).encode()
            return Response(400, {}, body)
        return super().request(method, path, **more)


def look(
    engine: EngineDriver,
    *objects: JsonObject,
    digest: str = "sha256:one",
    through: type[Witness] = Witness,
    **settings: Any,
) -> Looked:
    """Preview a pass over these objects; nothing is written."""
    door = through(engine.own)
    made = Engine(
        door, engine.discovery, agent_namespace=engine.agent_namespace, holder="test", version="0.0.1", stop=engine.stop
    )
    chosen = replace(Settings(digest=digest, guard=GENEROUS), **settings)
    prepared = made.prepare([manifest(obj) for obj in objects], engine.target)
    owned = made.recorded(engine.target)
    plan = made.plan(prepared, engine.target, owned, chosen)
    previewer = Previewer(
        door, engine.discovery, engine.target, force=chosen.force, differ=differences, stop=engine.stop
    )
    found = previewer.preview(plan, prepared, owned.entries)
    assert door.writes == [], "a preview must not write"
    return Looked(found, door.sent)


def previewed_sync(engine: EngineDriver, *objects: JsonObject, **settings: Any) -> tuple[Looked, ApplyReport]:
    """Preview, then do it."""
    looked = look(engine, *objects, **settings)
    seen = {change.id: change.live for change in looked.preview.changes if change.live is not None}
    return looked, engine.sync(*objects, previous=seen.get, **settings)


def reported(report: ApplyReport) -> dict[ObjectId, Action]:
    """Object → action."""
    return {result.id: result.action for result in report.results}


def fields_of(change: Change) -> dict[str, tuple[Any, Any]]:
    """Path → old and new value."""
    return {item.path: (item.old, item.new) for item in change.differences}


def verbs(changes: Iterable[Change]) -> set[str]:
    """Which verbs occur."""
    return {change.verb.value for change in changes}
